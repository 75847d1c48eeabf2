//! What a real Moonlight client said, read back: the parsers against bytes that nobody here made.

use lumen_core::gamestream::Origin;
use lumen_core::gamestream::control::{ControlCipher, ControlVersion, FromGuest, MAX_MESSAGE};
use lumen_core::gamestream::input::Packet;
use lumen_core::gamestream::rtsp::{Frame, Method, Request, RtspCipher, Target};
use lumen_core::gamestream::sdp::{Announcement, VideoCodec};

const RECORDED: &str = include_str!("moonlight.txt");

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..][..2], 16).unwrap()).collect()
}

/// The lines that begin with this word, without it.
fn lines(word: &str) -> impl Iterator<Item = &'static str> {
    RECORDED.lines().filter_map(move |line| line.strip_prefix(word)?.strip_prefix(' '))
}

fn key() -> [u8; 16] {
    bytes(lines("key").next().unwrap()).try_into().unwrap()
}

fn requests() -> Vec<Request> {
    let cipher = RtspCipher::new(&key(), Origin::Host);
    let open = |line| {
        let sealed = bytes(line);
        let (frame, length) = Frame::parse(&sealed).unwrap().expect("a whole frame");
        assert_eq!(length, sealed.len(), "one frame a connection");
        let message = cipher.open(&frame).unwrap();
        let (request, length) = Request::parse(&message).unwrap().expect("a whole request");
        assert_eq!(length, message.len());
        request
    };
    lines("rtsp").map(open).collect()
}

#[test]
fn rtsp_comes_in_its_order() {
    let said: Vec<_> = requests().iter().map(|request| (request.method, request.target)).collect();
    assert_eq!(
        said,
        [
            (Method::Options, Target::Session),
            (Method::Describe, Target::Session),
            (Method::Setup, Target::Audio),
            (Method::Setup, Target::Video),
            (Method::Setup, Target::Control),
            (Method::Announce, Target::Control),
            (Method::Play, Target::Session),
        ]
    );
}

#[test]
fn the_announcement_is_what_the_client_was_started_with() {
    let requests = requests();
    let announced = requests.iter().find(|request| request.method == Method::Announce).unwrap();
    let announced = Announcement::parse(&announced.body).unwrap();
    assert_eq!((announced.width, announced.height, announced.fps_x100), (1280, 720, 6_000));
    assert_eq!((announced.bitrate_kbps, announced.codec), (8_000, VideoCodec::H264));
    assert!(announced.tells_session && announced.tells_fec && announced.audio_encrypted);
    assert!(announced.encryption.control_v2 && announced.encryption.video);
    assert_eq!(announced.packet_size, 1392 - 32, "lessened by what encryption costs");
}

#[test]
fn control_messages_open_once_and_make_sense() {
    let mut cipher = ControlCipher::new(&key(), ControlVersion::V2, Origin::Host);
    let mut said = Vec::new();
    let mut out = [0; MAX_MESSAGE];
    for line in lines("control") {
        let (_, sealed) = line.split_once(' ').unwrap();
        said.push(FromGuest::parse(cipher.open(&bytes(sealed), &mut out).unwrap()).unwrap());
        assert!(cipher.open(&bytes(sealed), &mut out).is_err(), "a message counts once");
    }
    assert_eq!(said[..2], [FromGuest::RequestIdr, FromGuest::StartB], "that is how a client starts");
    assert!(said.contains(&FromGuest::Ping));
    let input = |wanted: fn(&Packet) -> bool| {
        said.iter().filter(|message| matches!(message, FromGuest::Input(packet) if wanted(packet))).count()
    };
    assert_eq!(input(|packet| matches!(packet, Packet::Haptics(true))), 1);
    assert_eq!(input(|packet| matches!(packet, Packet::Motion { .. })), 2, "there and back by one pixel");
    assert!(!said.iter().any(|message| matches!(message, FromGuest::Unknown(_))), "{said:?}");
}
