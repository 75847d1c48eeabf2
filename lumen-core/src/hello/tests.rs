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
fn the_secret_is_not_printed() {
    assert!(!format!("{:?}", welcome()).contains("5, 5"));
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
