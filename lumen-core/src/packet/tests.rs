use proptest::prelude::*;

use super::*;

#[test]
fn the_header_is_the_24_bytes_of_the_protocol() {
    let header = Header {
        kind: Kind::Parity,
        flags: Flags::IDR.with(Flags::LAST, true),
        index: 0x0201,
        session: 0x0605_0403,
        generation: 0x0a09_0807,
        frame: 0x0e0d_0c0b,
        counter: 0x1615_1413_1211_100f,
    };
    let bytes = header.encode();
    assert_eq!(bytes[..2], [2, 3]);
    assert!(bytes[2..].iter().copied().eq(1..=0x16));
    let mut datagram = bytes.to_vec();
    assert_eq!(Header::decode(&datagram), None, "no room for a tag");
    datagram.extend([0; TAG_BYTES]);
    assert_eq!(Header::decode(&datagram), Some(header));
    datagram[1] = 8;
    assert_eq!(Header::decode(&datagram), None, "unknown flag");
    datagram[..2].copy_from_slice(&[6, 0]);
    assert_eq!(Header::decode(&datagram), None, "unknown kind");
}

#[test]
fn bodies_survive_the_wire() {
    let previous = Some(PreviousFrame { number: 8, last_slice: 4, first_packet: 5, last_packet: 6 });
    for previous in [previous, None] {
        let header =
            FrameHeader { still: true, captured_ns: 1 << 60, taken: 1, converted: 2, first_slice: 3, previous };
        assert_eq!(FrameHeader::decode(&header.encode()), Some(header));
    }
    let pong = Pong { client_ns: 1, host_received_ns: 2, host_sent_ns: 3 };
    assert_eq!(Pong::decode(&pong.encode()), Some(pong));
    let parity = ParityHeader { k: 67, m: 14, scheme: 1, len: 4 };
    let mut body = parity.encode().to_vec();
    body.extend([1, 2, 3, 4]);
    assert_eq!(ParityHeader::decode(&body), Some((parity, &[1, 2, 3, 4][..])));
    assert_eq!(ParityHeader::decode(&body[..11]), None, "shorter than it says");
}

#[test]
fn a_wish_is_served_only_by_a_later_idr() {
    let probe = Probe { keyframe_wanted: Some(10), ..Probe::default() };
    assert!(probe.wants_idr(None) && probe.wants_idr(Some(3)) && probe.wants_idr(Some(10)));
    assert!(!probe.wants_idr(Some(11)));
    assert!(!Probe::default().wants_idr(Some(0)));
}

#[test]
fn ledger_deltas_saturate() {
    assert_eq!(ledger_delta(5, 3), 0);
    assert_eq!(ledger_delta(5, 8), 3);
    assert_eq!(ledger_delta(0, u64::MAX), u32::MAX);
}

proptest! {
    #[test]
    fn probes_round_trip(client_ns: u64, highest: u64, lost in 0u64..1000, frames: u32, wanted in 0u32..u32::MAX, has: bool) {
        let probe = Probe {
            client_ns, highest, received: highest.saturating_sub(lost), frames,
            keyframe_wanted: has.then_some(wanted), ..Probe::default()
        };
        prop_assert_eq!(Probe::decode(&probe.encode()), Some(probe));
    }

    #[test]
    fn no_bytes_panic_a_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        // A decoder that accepts must give back the same bytes: nothing on the wire has two spellings.
        if let Some(header) = Header::decode(&bytes) {
            prop_assert_eq!(&header.encode()[..], &bytes[..HEADER_BYTES]);
        }
        if let Some((header, shard)) = ParityHeader::decode(&bytes) {
            prop_assert_eq!(&header.encode()[..], &bytes[..PARITY_HEADER_BYTES]);
            prop_assert_eq!(shard, &bytes[PARITY_HEADER_BYTES..]);
        }
        if let Some(probe) = Probe::decode(&bytes) {
            prop_assert_eq!(&probe.encode()[..], &bytes[..]);
        }
        if let Some(pong) = Pong::decode(&bytes) {
            prop_assert_eq!(&pong.encode()[..], &bytes[..]);
        }
        FrameHeader::decode(&bytes);
    }
}
