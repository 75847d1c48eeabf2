use std::net::IpAddr;

use ipc::SessionId;
use lumen_core::gamestream::rtsp::Named;
use lumen_core::{AudioLayout, Mode};

use super::*;
use crate::gamestream::guest::Launch;

fn guest(sealed: bool) -> Guest {
    Guest::new(Launch {
        session: SessionId(1),
        peer: IpAddr::from([192, 0, 2, 1]),
        mode: Mode::new(1280, 720, 60_000).unwrap(),
        audio: AudioLayout::Stereo,
        key: [7; 16],
        key_id: -1,
        sealed,
    })
    .unwrap()
}

fn desk(encryption: Encryption) -> Desk {
    Desk { ports: HubPorts { video: 1001, control: 1002, audio: 1003 }, encryption }
}

fn request(method: Method, target: Target, body: &str) -> Request {
    Request { method, target, cseq: 9, session: Named::None, body: body.as_bytes().to_vec() }
}

/// Status and text of the answer, and whether an ANNOUNCE was taken.
fn answered(desk: Desk, guest: &Guest, phase: GuestPhase, request: &Request) -> (u16, String, bool) {
    let answer = desk.answer(request, guest, phase);
    let text = String::from_utf8(answer.response.as_bytes().to_vec()).unwrap();
    let status = text.split(' ').nth(1).unwrap().parse().unwrap();
    assert!(text.contains("\r\nCSeq: 9\r\n"));
    (status, text, answer.announced.is_some())
}

fn announce(attributes: &str) -> Request {
    request(Method::Announce, Target::Control, attributes)
}

#[test]
fn streams_are_where_lumend_has_bound_them_and_under_names_of_the_sessions_own() {
    let (desk, guest) = (desk(Encryption::Auto), guest(true));
    let setup = |target| answered(desk, &guest, GuestPhase::Launched, &request(Method::Setup, target, "")).1;
    let name = |letters: &[u8; 16]| String::from_utf8(letters.to_vec()).unwrap();
    let audio = setup(Target::Audio);
    assert!(audio.contains(&format!("Session: {};timeout = 90\r\n", name(&guest.rtsp_session))));
    assert!(audio.contains("server_port=1003\r\n"));
    assert!(audio.contains(&format!("X-SS-Ping-Payload: {}\r\n", name(&guest.audio_ping))));
    let video = setup(Target::Video);
    assert!(video.contains("server_port=1001") && video.contains(&name(&guest.video_ping)));
    let control = setup(Target::Control);
    assert!(control.contains("server_port=1002"));
    assert!(control.contains(&format!("X-SS-Connect-Data: {}\r\n", guest.connect_data)));
    assert_eq!(answered(desk, &guest, GuestPhase::Launched, &request(Method::Setup, Target::Session, "")).0, 400);
}

#[test]
fn the_order_is_kept() {
    let (desk, guest) = (desk(Encryption::Auto), guest(true));
    let play = request(Method::Play, Target::Session, "");
    let status = |phase, request: &Request| answered(desk, &guest, phase, request).0;
    assert_eq!(status(GuestPhase::Launched, &play), 455);
    let (first, _, taken) = answered(desk, &guest, GuestPhase::Launched, &announce(""));
    assert_eq!((first, taken, status(GuestPhase::Tuned, &play)), (200, true, 200));
    assert_eq!(status(GuestPhase::Tuned, &announce("")), 455, "a stream is announced once");
    assert_eq!(status(GuestPhase::Live, &play), 200);
    assert_eq!(status(GuestPhase::Ending, &play), 455);
    assert_eq!(status(GuestPhase::Launched, &request(Method::Other, Target::Session, "")), 501);
}

#[test]
fn nothing_is_taken_that_was_not_offered() {
    let (desk, guest) = (desk(Encryption::Auto), guest(false));
    let refused = [
        "a=x-nv-vqos[0].bitStreamFormat:1 \r\n",
        "a=x-nv-video[0].dynamicRangeMode:1 \r\n",
        "a=x-ss-video[0].chromaSamplingType:1 \r\n",
        "a=x-nv-video[0].packetSize:1000 \r\n",
        "a=x-nv-video[0].packetSize:many \r\n",
        // Of a client whose launch said that it cannot.
        "a=x-ss-general.encryptionEnabled:1 \r\n",
    ];
    for attributes in refused {
        let (status, _, taken) = answered(desk, &guest, GuestPhase::Launched, &announce(attributes));
        assert_eq!((status, taken), (400, false), "{attributes}");
    }
    let offer = answered(desk, &guest, GuestPhase::Launched, &request(Method::Describe, Target::Session, "")).1;
    assert!(!offer.contains("AAAAAU") && !offer.contains("AV1") && !offer.contains("refPicInvalidation"));
    assert!(offer.contains("encryptionSupported:6\r\n") && offer.contains("encryptionRequested:0\r\n"));
}

#[test]
fn where_encryption_is_required_nothing_less_will_do() {
    let (desk, guest) = (desk(Encryption::Required), guest(true));
    let offer = answered(desk, &guest, GuestPhase::Launched, &request(Method::Describe, Target::Session, "")).1;
    assert!(offer.contains("encryptionSupported:7\r\n") && offer.contains("encryptionRequested:7\r\n"));
    let with = |bits: u32, audio: u32| {
        let body = format!("a=x-ss-general.encryptionEnabled:{bits} \r\na=x-nv-general.featureFlags:{audio} \r\n");
        answered(desk, &guest, GuestPhase::Launched, &announce(&body)).0
    };
    assert_eq!((with(3, 0x20), with(7, 0x20)), (200, 200));
    assert_eq!((with(1, 0x20), with(2, 0x20), with(3, 0), with(0, 0)), (403, 403, 403, 403));
}
