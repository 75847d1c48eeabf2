use proptest::prelude::*;

use super::*;

fn hello() -> ClientHello {
    ClientHello {
        version: VERSION,
        boot_id: [7; 16],
        mode: RawMode { width: 1280, height: 720, refresh_mhz: 60_000 },
        bitrate_kbps: 20_000,
        codecs: CODEC_H264,
        fec_schemes: 6,
        audio: Some(AudioLayout::Surround51),
        own_sink: true,
        input: false,
        resume: None,
        name: "büro".into(),
    }
}

fn welcome() -> Welcome {
    Welcome {
        session: 3,
        generation: 9,
        mode: Mode::new(1280, 720, 60_000).unwrap(),
        codec: Codec::H264,
        fec: Scheme::Leopard,
        parity_floor_percent: 20,
        shard_size: 1200,
        secret: MediaSecret([5; 32]),
        media_port: 47_801,
        boot_id: [1; 16],
        audio: Some(AudioLayout::Surround71),
        permissions: Permissions::POINTER,
        resumed: true,
        resume: Some(ResumeToken([6; 32])),
        host_name: "host".into(),
    }
}

fn bytes<M: ControlMessage>(messages: &[M]) -> Vec<u8> {
    let mut out = Vec::new();
    messages.iter().for_each(|message| message.encode(&mut out));
    out
}

#[test]
fn messages_survive_any_cut_of_the_stream() {
    let from_client = [ClientMessage::Hello(hello()), ClientMessage::Start, ClientMessage::Bye];
    let from_host = [
        HostMessage::Welcome(welcome()),
        HostMessage::Reconfigure { generation: 10, mode: Mode::new(640, 480, 59_940).unwrap() },
        HostMessage::Refused { code: Code::Mode as u16, reason: "no".into() },
        HostMessage::End { code: Code::Stopped as u16, reason: String::new() },
    ];
    for step in [1, 2, 7, 64, 4096] {
        let (mut reader, mut got) = (FrameReader::default(), Vec::new());
        for piece in bytes(&from_client).chunks(step) {
            reader.push(piece);
            while let Some(message) = reader.poll::<ClientMessage>().unwrap() {
                got.push(message);
            }
        }
        assert_eq!(got, from_client);
        let (mut reader, mut got) = (FrameReader::default(), Vec::new());
        for piece in bytes(&from_host).chunks(step) {
            reader.push(piece);
            while let Some(message) = reader.poll::<HostMessage>().unwrap() {
                got.push(message);
            }
        }
        assert_eq!(got, from_host);
    }
}

#[test]
fn another_version_is_told_from_nonsense() {
    let mut other = bytes(&[ClientMessage::Hello(hello())]);
    other[5] = 2;
    other.truncate(20);
    other[0] = 16;
    let mut reader = FrameReader::default();
    reader.push(&other);
    assert_eq!(reader.poll::<ClientMessage>(), Err(HelloError::Version(2)));

    let mut nonsense = FrameReader::default();
    nonsense.push(&[1, 0, 0, 0, 77]);
    assert_eq!(nonsense.poll::<ClientMessage>(), Err(HelloError::Malformed));

    let mut long = FrameReader::default();
    long.push(&[0, 0, 1, 0]);
    assert_eq!(long.poll::<ClientMessage>(), Err(HelloError::TooLong));

    let mut empty = FrameReader::default();
    empty.push(&[0, 0, 0, 0]);
    assert_eq!(empty.poll::<HostMessage>(), Err(HelloError::Malformed));
}

#[test]
fn a_welcome_out_of_bounds_is_malformed() {
    for spoilt in [
        Welcome { shard_size: 1201, ..welcome() },
        Welcome { shard_size: 100, ..welcome() },
        Welcome { parity_floor_percent: 101, ..welcome() },
    ] {
        let mut reader = FrameReader::default();
        reader.push(&bytes(&[HostMessage::Welcome(spoilt)]));
        assert_eq!(reader.poll::<HostMessage>(), Err(HelloError::Malformed));
    }
}

#[test]
fn sound_and_hands_survive_the_wire() {
    for audio in AudioLayout::ALL.into_iter().map(Some).chain([None]) {
        for (own_sink, input) in [(false, false), (false, true), (true, false), (true, true)] {
            let message = ClientMessage::Hello(ClientHello { audio, own_sink, input, ..hello() });
            assert_eq!(ClientMessage::decode(&bytes(std::slice::from_ref(&message))[4..]), Ok(message));
        }
        for permissions in (0..8).filter_map(Permissions::from_bits) {
            let message = HostMessage::Welcome(Welcome { audio, permissions, ..welcome() });
            assert_eq!(HostMessage::decode(&bytes(std::slice::from_ref(&message))[4..]), Ok(message));
        }
    }
}

#[test]
fn tokens_survive_the_wire() {
    for token in [None, Some(ResumeToken([9; 32]))] {
        let resume = token.clone().map(|token| Resume { token, first_event: 0x1234_5678 });
        let message = ClientMessage::Hello(ClientHello { resume, ..hello() });
        assert_eq!(ClientMessage::decode(&bytes(std::slice::from_ref(&message))[4..]), Ok(message));
        for resumed in [false, true] {
            let message = HostMessage::Welcome(Welcome { resumed, resume: token.clone(), ..welcome() });
            assert_eq!(HostMessage::decode(&bytes(std::slice::from_ref(&message))[4..]), Ok(message));
        }
    }
    let without = HostMessage::Welcome(Welcome { resumed: false, resume: None, ..welcome() });
    let mut spoilt = bytes(&[without])[4..].to_vec();
    let flags = spoilt.len() - "host".len() - 3;
    for flag in [2, 4] {
        spoilt[flags] = flag;
        assert_eq!(HostMessage::decode(&spoilt), Err(HelloError::Malformed), "no token follows, or an unknown flag");
    }
}

#[test]
fn sound_and_hands_out_of_bounds_are_malformed() {
    // Kind, version, boot id, mode, bit rate, codecs, schemes; then channels and flags.
    const CHANNELS: usize = 1 + 2 + 16 + 8 + 4 + 2;
    let good = bytes(&[ClientMessage::Hello(hello())])[4..].to_vec();
    for (at, value) in [(CHANNELS, 1), (CHANNELS, 3), (CHANNELS, 255), (CHANNELS + 1, 8), (CHANNELS + 1, 0x83)] {
        let mut spoilt = good.clone();
        spoilt[at] = value;
        assert_eq!(ClientMessage::decode(&spoilt), Err(HelloError::Malformed), "{value} at {at}");
    }
    // Kind, numbers, mode, three bytes, payload size, secret, port, boot id; then channels, streams, coupled, mapping.
    const LAYOUT: usize = 1 + 8 + 8 + 3 + 2 + 32 + 2 + 16;
    let good = bytes(&[HostMessage::Welcome(welcome())])[4..].to_vec();
    assert_eq!(good[LAYOUT..LAYOUT + 11], [8, 5, 3, 0, 1, 6, 7, 2, 3, 4, 5]);
    for at in LAYOUT..=LAYOUT + 11 {
        let mut spoilt = good.clone();
        spoilt[at] += 9;
        assert_eq!(HostMessage::decode(&spoilt), Err(HelloError::Malformed), "at {at}");
    }
}

#[test]
fn the_secret_is_not_printed() {
    let printed = format!("{:?}", welcome());
    assert!(!printed.contains("5, 5") && !printed.contains("6, 6"));
}

#[test]
fn codes_keep_their_numbers() {
    assert_eq!(Code::from_wire(1), Some(Code::NotAllowed));
    assert_eq!(Code::from_wire(9), Some(Code::Timeout));
    assert_eq!(Code::from_wire(0), None);
    assert_eq!(Code::from_wire(10), None);
}

proptest! {
    #[test]
    fn no_bytes_panic_the_decoders(message in proptest::collection::vec(any::<u8>(), 0..200), kind in 0u8..140) {
        let mut message = message;
        if let Some(first) = message.first_mut() {
            *first = kind;
        }
        if let Ok(decoded) = ClientMessage::decode(&message) {
            prop_assert_eq!(&bytes(&[decoded])[4..], &message[..]);
        }
        if let Ok(decoded) = HostMessage::decode(&message) {
            prop_assert_eq!(&bytes(&[decoded])[4..], &message[..]);
        }
        let mut reader = FrameReader::default();
        reader.push(&message);
        let _ = reader.poll::<ClientMessage>();
    }
}
