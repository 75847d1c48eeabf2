//! RTSP and the session descriptions in it.

use lumen_core::gamestream::Origin;
use lumen_core::gamestream::rtsp::{Frame, MAX_FRAME, MAX_REQUEST, Request, RtspCipher};
use lumen_core::gamestream::sdp::Announcement;

/// A request, and the session description in it if it has one.
pub fn rtsp(bytes: &[u8]) {
    let Ok(Some((request, consumed))) = Request::parse(bytes) else { return };
    assert!(consumed <= bytes.len() && consumed <= MAX_REQUEST && request.body.len() < consumed);
    // What follows a request is not part of it, and a request without its end is none.
    assert_eq!(Request::parse(&bytes[..consumed]), Ok(Some((request.clone(), consumed))));
    assert_eq!(Request::parse(&bytes[..consumed - 1]), Ok(None));
    sdp(&request.body);
}

/// A sealed frame; and these bytes as what is sealed in one.
pub fn rtsp_sealed(bytes: &[u8]) {
    let key = [7; 16];
    let (mut client, host) = (RtspCipher::new(&key, Origin::Client), RtspCipher::new(&key, Origin::Host));
    if let Ok(Some((frame, consumed))) = Frame::parse(bytes) {
        assert!(consumed <= bytes.len() && consumed <= MAX_FRAME);
        assert!(host.open(&frame).is_err(), "a forgery");
    }
    let Some(sealed) = client.seal(bytes) else { return };
    match Frame::parse(&sealed) {
        Ok(Some((frame, _))) => assert_eq!(host.open(&frame).as_deref(), Ok(bytes)),
        Ok(None) => panic!("sealed, but not whole"),
        Err(_) => assert!(bytes.len() > MAX_REQUEST),
    }
}

/// The body of an ANNOUNCE.
pub fn sdp(bytes: &[u8]) {
    let Ok(said) = Announcement::parse(bytes) else { return };
    assert!((1..=16384).contains(&said.width) && (1..=16384).contains(&said.height));
    assert!((100..=100_000).contains(&said.fps_x100) && said.refresh_x100 != Some(0));
    assert!((256..=1392).contains(&said.packet_size) && said.packet_size.is_multiple_of(16));
    assert!((500..=800_000).contains(&said.bitrate_kbps) && said.video_kbps() <= said.bitrate_kbps);
    assert!((1..=32).contains(&said.slices) && (2..=32).contains(&said.min_parity));
}
