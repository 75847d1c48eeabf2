use proptest::prelude::*;

use super::*;
use crate::gamestream::Origin;
use crate::gamestream::input::any_packet;
use crate::input::{PadIndex, Rumble};

const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn plain(message: &FromGuest) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

fn opened(cipher: &mut ControlCipher, sealed: &[u8]) -> Result<Vec<u8>, Rejected> {
    cipher.open(sealed, &mut [0; MAX_MESSAGE]).map(<[u8]>::to_vec)
}

/// Message 0x305 of a client, "request IDR", and the host's first, "it is over": by OpenSSL's EVP interface, which is
/// what clients use, with the nonces of ControlStream.c.
const VECTORS: [(ControlVersion, &str, &str); 2] = [
    (
        ControlVersion::V1,
        "01001a00050300004efac1fd7c54061860318aaec87c59b5fc2b7e8c62dd",
        "01001c0000000000a0aac3392f67a3ba15e9e3096999aa4209177ff66bbdf454",
    ),
    (
        ControlVersion::V2,
        "01001a0005030000fcc03535ac9efe36f1dea40c58fa009720d8526355ff",
        "01001c0000000000b835a2b8ace857ddcbad385dce166aa9f2dd4edacf3be801",
    ),
];

#[test]
fn sealed_as_openssl_seals() {
    for (version, from_client, from_host) in VECTORS {
        let mut host = ControlCipher::new(&KEY, version, Origin::Host);
        let message = opened(&mut host, &hex(from_client)).unwrap();
        assert_eq!(FromGuest::parse(&message), Ok(FromGuest::RequestIdr), "{version:?}");
        let (mut message, mut sealed) = (Vec::new(), Vec::new());
        ToGuest::Termination(Termination::Graceful).encode(&mut message);
        host.seal(&message, &mut sealed).unwrap();
        assert_eq!(sealed, hex(from_host), "{version:?}");
    }
}

#[test]
fn version_2_opens_a_message_once_and_in_any_order() {
    let (mut client, mut host) = pair(ControlVersion::V2);
    let sealed: Vec<_> = (0..40)
        .map(|_| {
            let mut out = Vec::new();
            client.seal(&plain(&FromGuest::Ping), &mut out).unwrap();
            out
        })
        .collect();
    for message in sealed.iter().rev() {
        assert!(opened(&mut host, message).is_ok());
    }
    for message in &sealed {
        assert_eq!(opened(&mut host, message), Err(Rejected::Replayed));
    }
    // A number that nobody has used says nothing until its message is authentic.
    let mut forged = sealed[0].clone();
    forged[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(opened(&mut host, &forged), Err(Rejected::Forged));
    let mut next = Vec::new();
    client.seal(&plain(&FromGuest::StartB), &mut next).unwrap();
    assert!(opened(&mut host, &next).is_ok());
}

#[test]
fn the_hosts_own_messages_are_not_taken() {
    let (_, mut host) = pair(ControlVersion::V2);
    let mut sealed = Vec::new();
    host.seal(&plain(&FromGuest::Ping), &mut sealed).unwrap();
    assert_eq!(opened(&mut host, &sealed), Err(Rejected::Forged));
}

#[test]
fn what_is_not_sealed_is_not_opened() {
    let (mut client, mut host) = pair(ControlVersion::V2);
    let mut sealed = Vec::new();
    client.seal(&plain(&FromGuest::Ping), &mut sealed).unwrap();
    for end in 0..sealed.len() {
        assert_eq!(opened(&mut host, &sealed[..end]), Err(Rejected::Malformed));
    }
    let longer = [&sealed[..], &[0]].concat();
    assert_eq!(opened(&mut host, &longer), Err(Rejected::Malformed));
    assert_eq!(opened(&mut host, &plain(&FromGuest::Ping)), Err(Rejected::Malformed));
    let mut huge = vec![0; MAX_SEALED + 1];
    huge[..2].copy_from_slice(&[1, 0]);
    let length = (huge.len() - 4) as u16;
    huge[2..4].copy_from_slice(&length.to_le_bytes());
    assert_eq!(opened(&mut host, &huge), Err(Rejected::Malformed));
    // Four bytes of header must be in it.
    let mut empty = Vec::new();
    client.seal(&[0; 3], &mut empty).unwrap();
    assert_eq!(opened(&mut host, &empty), Err(Rejected::Malformed));
    assert!(opened(&mut host, &sealed).is_ok());
}

fn pair(version: ControlVersion) -> (ControlCipher, ControlCipher) {
    (ControlCipher::new(&KEY, version, Origin::Client), ControlCipher::new(&KEY, version, Origin::Host))
}

#[test]
fn messages_of_clients_as_they_write_them() {
    let said = [
        ("020302000000", FromGuest::RequestIdr),
        ("0703010000", FromGuest::StartB),
        // sendMessageAndForget(0x0200, 8 bytes: u16 4, u32 0, then what was on the stack).
        ("0002080004000000000007aa", FromGuest::Ping),
        ("5003080007000000ffffffff", FromGuest::LtrAck { frame: 7 }),
        ("ab000000", FromGuest::Unknown(0xAB)),
    ];
    for (bytes, expected) in said {
        let mut bytes = hex(bytes);
        assert_eq!(FromGuest::parse(&bytes), Ok(expected));
        // A payload that is longer than it says is none.
        bytes.push(0);
        assert_eq!(FromGuest::parse(&bytes), Err(Malformed));
    }
    let rfi = hex("01031800050000000000000009000000000000000000000000000000");
    assert_eq!(FromGuest::parse(&rfi), Ok(FromGuest::Invalidate { first: 5, last: 9 }));
    assert_eq!(plain(&FromGuest::Invalidate { first: 5, last: 9 }), rfi);
    let backwards = hex("01031800090000000000000005000000000000000000000000000000");
    assert_eq!(FromGuest::parse(&backwards), Err(Malformed));
    // Big-endian throughout: frame 0x102, highest 500, next 498, missing 3, 60 + 12 packets, 57 + 12 came, 20 %, block 1
    // of 2.
    let fec = hex("025515000000010201f401f20003003c000c0039000c140102");
    let FromGuest::FecStatus(status) = FromGuest::parse(&fec).unwrap() else { panic!() };
    assert_eq!((status.frame, status.highest_received, status.next_contiguous), (0x102, 500, 498));
    assert_eq!((status.block, status.blocks, status.percentage), (1, 2, 20));
    assert_eq!((status.packets(), status.lost()), (72, 3));
    // Given up: it lacks what has not come at all, too.
    let lost = FecStatus { received_data: 40, received_parity: 2, ..status };
    assert_eq!(lost.lost(), 30);
}

#[test]
fn messages_to_clients_as_they_read_them() {
    let pad = PadIndex::new(3).unwrap();
    let said = [
        (ToGuest::Rumble(Rumble { pad, low: 0x1234, high: 0xABCD }), "0b010a0000000000 0300 3412 cdab"),
        (ToGuest::TriggerRumble { pad, left: 1, right: 0xFFFF }, "00550600 0300 0100 ffff"),
        (ToGuest::Motion { pad, rate_hz: 100, sensor: Sensor::Gyroscope }, "01550500 0300 6400 02"),
        (ToGuest::Led { pad, red: 1, green: 2, blue: 3 }, "02550500 0300 010203"),
        (ToGuest::Termination(Termination::Graceful), "09010400 80030023"),
        (ToGuest::Termination(Termination::ProtectedContent), "09010400 800e9302"),
        (ToGuest::Termination(Termination::Encoder), "09010400 800e9403"),
        (
            ToGuest::Hdr(Some(Hdr {
                primaries: [(1, 2), (3, 4), (5, 6)],
                white: (7, 8),
                max_luminance: 1000,
                min_luminance: 50,
                max_content: 900,
                max_frame_average: 400,
                max_full_frame: 0,
            })),
            "0e011b00 01 0100 0200 0300 0400 0500 0600 0700 0800 e803 3200 8403 9001 0000",
        ),
        (
            ToGuest::Triggers(Triggers { pad, which: 12, left_type: 1, right_type: 2, left: [3; 10], right: [4; 10] }),
            "03551900 0300 0c 01 02 03030303030303030303 04040404040404040404",
        ),
    ];
    for (message, bytes) in said {
        let mut out = Vec::new();
        message.encode(&mut out);
        assert_eq!(out, hex(&bytes.replace(' ', "")), "{message:?}");
        assert_eq!(ToGuest::parse(&out), Ok(message));
    }
    let mut off = Vec::new();
    ToGuest::Hdr(None).encode(&mut off);
    assert_eq!((off.len(), ToGuest::parse(&off)), (4 + 27, Ok(ToGuest::Hdr(None))));
}

fn any_from_guest() -> impl Strategy<Value = FromGuest> {
    let fec = (any::<u32>(), any::<[u16; 7]>(), any::<[u8; 3]>()).prop_map(|(frame, counts, last)| {
        FromGuest::FecStatus(FecStatus {
            frame,
            highest_received: counts[0],
            next_contiguous: counts[1],
            missing_before_highest: counts[2],
            data: counts[3],
            parity: counts[4],
            received_data: counts[5],
            received_parity: counts[6],
            percentage: last[0],
            block: last[1],
            blocks: last[2],
        })
    });
    prop_oneof![
        Just(FromGuest::RequestIdr),
        Just(FromGuest::StartB),
        Just(FromGuest::Ping),
        any_packet().prop_map(FromGuest::Input),
        any::<(u32, u32)>().prop_map(|(a, b)| FromGuest::Invalidate { first: a.min(b), last: a.max(b) }),
        any::<(u32, u64)>().prop_map(|(interval_ms, last_good_frame)| {
            FromGuest::LossStats(LossStats { interval_ms, last_good_frame })
        }),
        fec,
        any::<u32>().prop_map(|frame| FromGuest::LtrAck { frame }),
        (0x6000u16..).prop_map(FromGuest::Unknown),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_not(bytes in prop::collection::vec(any::<u8>(), 0..80), kind in any::<bool>()) {
        let _ = (FromGuest::parse(&bytes), ToGuest::parse(&bytes));
        let mut framed = Vec::new();
        let kinds = [0x0200u16, 0x0201, 0x0206, 0x0301, 0x0302, 0x0307, 0x0350, 0x5502, 0x010b, 0x010e, 0x0109, 0x5500];
        let kind = if kind { kinds[bytes.len() % kinds.len()] } else { 0x5501 };
        join(kind, &mut framed, |out| out.extend_from_slice(&bytes));
        if let Ok(FromGuest::FecStatus(status)) = FromGuest::parse(&framed) {
            prop_assert!(status.lost() <= status.packets());
        }
        let _ = ToGuest::parse(&framed);
    }

    #[test]
    fn what_a_client_says_is_heard(message in any_from_guest()) {
        let bytes = plain(&message);
        prop_assert!(bytes.len() <= MAX_MESSAGE);
        prop_assert_eq!(FromGuest::parse(&bytes), Ok(message));
    }

    #[test]
    fn sealed_messages_open_only_as_they_were(
        message in prop::collection::vec(any::<u8>(), HEADER_BYTES..=MAX_MESSAGE), before in 0usize..300,
        second in any::<bool>(), at in any::<prop::sample::Index>(), flip in 1u8..=255,
    ) {
        let version = if second { ControlVersion::V2 } else { ControlVersion::V1 };
        let (mut client, mut host) = pair(version);
        let mut sealed = Vec::new();
        for _ in 0..before {
            sealed.clear();
            client.seal(&plain(&FromGuest::Ping), &mut sealed).unwrap();
        }
        sealed.clear();
        client.seal(&message, &mut sealed).unwrap();
        prop_assert_eq!(sealed.len(), message.len() + SEALED_OVERHEAD);
        let mut damaged = sealed.clone();
        // In version 1 nothing but the lowest byte of the number counts.
        let at = at.index(sealed.len());
        let free = !second && (5..8).contains(&at);
        damaged[at] ^= if free { 0 } else { flip };
        prop_assert_eq!(opened(&mut host, &damaged).is_ok(), free);
        prop_assert_eq!(opened(&mut host, &sealed), Ok(message));
    }
}
