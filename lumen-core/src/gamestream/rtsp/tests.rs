use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::gamestream::Origin;

/// As the client's serialiser writes them (RtspParser.c, serializeRtspMessage; RtspConnection.c for the headers).
const OPTIONS: &str =
    "OPTIONS rtsp://10.0.0.2:48010 RTSP/1.0\r\nCSeq: 1\r\nX-GS-ClientVersion: 14\r\nHost: 10.0.0.2\r\n\r\n";
const SETUP: &str = "SETUP streamid=video/0/0 RTSP/1.0\r\nCSeq: 4\r\nX-GS-ClientVersion: 14\r\nHost: 0.0.0.0\r\n\
    Session: ABCDEFGHJKLMNPQR\r\nTransport: unicast;X-GS-ClientPort=50000-50001\r\n\
    If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n";
const ANNOUNCE: &str = "ANNOUNCE streamid=control/13/0 RTSP/1.0\r\nCSeq: 6\r\nX-GS-ClientVersion: 14\r\nHost: 0.0.0.0\r\n\
    Session: ABCDEFGHJKLMNPQR\r\nContent-type: application/sdp\r\nContent-length: 5\r\n\r\nv=0\r\n";

const SESSION: [u8; 16] = *b"ABCDEFGHJKLMNPQR";
/// What the sealed vectors are sealed with.
const KEY: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// By OpenSSL's EVP interface, which is what clients use, with the nonces of RtspConnection.c.
const SEALED_PLAY: &str = "8000001c00000007f57069f30d69d6d6ca170c07b47271e5f782f33d14187db37b7ca754bfcd68a9efc0c864b5\
    11920998078fd6";
const SEALED_OK: &str = "8000001c00000001f78e2a04213baf5bf8e5a15556add4d0600872b43a271f6b4fc685cedf9a7cb84351077c0cc52\
    1436e1d06e9";

fn hex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn parsed(text: &str) -> Request {
    let (request, consumed) = Request::parse(text.as_bytes()).unwrap().unwrap();
    assert_eq!(consumed, text.len());
    request
}

#[test]
fn requests_of_clients_are_understood() {
    let options = parsed(OPTIONS);
    assert_eq!((options.method, options.target, options.cseq), (Method::Options, Target::Session, 1));
    assert_eq!((options.session, options.body.len()), (Named::None, 0));
    let setup = parsed(SETUP);
    assert_eq!((setup.method, setup.target, setup.session), (Method::Setup, Target::Video, Named::Session(SESSION)));
    let announce = parsed(ANNOUNCE);
    assert_eq!((announce.method, announce.target, announce.cseq), (Method::Announce, Target::Control, 6));
    assert_eq!(announce.body, b"v=0\r\n");
    assert_eq!(parsed("PLAY / RTSP/1.0\r\nCSeq: 7\r\nSession: x\r\n\r\n").session, Named::Stranger);
    assert_eq!(parsed("SETUP streamid=audio RTSP/1.0\r\nCSeq: 7\r\nTransport:  \r\n\r\n").target, Target::Audio);
    assert_eq!(parsed("TEARDOWN / RTSP/1.0\r\nCSeq: 7\r\n\r\n").method, Method::Other);
}

#[test]
fn a_piece_of_a_request_waits_for_the_rest() {
    for whole in [OPTIONS, SETUP, ANNOUNCE] {
        for end in 0..whole.len() {
            assert_eq!(Request::parse(&whole.as_bytes()[..end]), Ok(None), "{end} of {whole:?}");
        }
    }
    let frame = hex(SEALED_PLAY);
    for end in 0..frame.len() {
        assert_eq!(Frame::parse(&frame[..end]), Ok(None), "{end}");
    }
}

#[test]
fn nonsense_is_refused() {
    let wrong = [
        ("GET / HTTP/1.1\r\nCSeq: 1\r\n\r\n", Malformed::RequestLine),
        ("options / RTSP/1.0\r\nCSeq: 1\r\n\r\n", Malformed::RequestLine),
        ("OPTIONS  RTSP/1.0\r\nCSeq: 1\r\n\r\n", Malformed::RequestLine),
        ("OPTIONS / RTSP/1.0 \r\nCSeq: 1\r\n\r\n", Malformed::RequestLine),
        ("OPTIONS / RTSP/1.0\r\n\r\n", Malformed::Sequence),
        ("OPTIONS / RTSP/1.0\r\nCSeq: -1\r\n\r\n", Malformed::Sequence),
        ("OPTIONS / RTSP/1.0\r\nCSeq: 4294967296\r\n\r\n", Malformed::Sequence),
        ("OPTIONS / RTSP/1.0\r\nCSeq: 1\r\nCSeq: 2\r\n\r\n", Malformed::Header),
        ("OPTIONS / RTSP/1.0\r\nCSeq 1\r\n\r\n", Malformed::Header),
        ("OPTIONS / RTSP/1.0\r\nC Seq: 1\r\n\r\n", Malformed::Header),
        ("PLAY / RTSP/1.0\r\nCSeq: 1\r\nContent-Length: x\r\n\r\n", Malformed::Length),
        ("PLAY / RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 16384\r\n\r\n", Malformed::TooLong),
        ("PLAY / RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 4294967295\r\n\r\n", Malformed::TooLong),
    ];
    for (text, error) in wrong {
        assert_eq!(Request::parse(text.as_bytes()), Err(error), "{text:?}");
    }
    assert_eq!(Request::parse(&[b'A'; MAX_HEAD]), Err(Malformed::TooLong));
    let many = format!("PLAY / RTSP/1.0\r\n{}CSeq: 1\r\n\r\n", "a: b\r\n".repeat(MAX_HEADERS));
    assert_eq!(Request::parse(many.as_bytes()), Err(Malformed::Header));
    assert_eq!(Request::parse(b"PLAY /\xff RTSP/1.0\r\nCSeq: 1\r\n\r\n"), Err(Malformed::Header));
}

/// Reads a response by the rules of the client's parser (RtspParser.c): what `strtok` splits, and nothing else.
fn as_a_client(response: &[u8]) -> Option<(u16, BTreeMap<String, String>, String)> {
    let text = str::from_utf8(response).ok()?;
    let (head, payload) = text.split_once("\r\n\r\n")?;
    let mut lines = head.split("\r\n");
    let (code, reason) = lines.next()?.strip_prefix("RTSP/1.0 ")?.split_once(' ')?;
    let mut headers = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(':')?;
        // One byte is skipped, whatever it is.
        let value = value.strip_prefix(' ')?;
        (!name.is_empty() && !name.contains(' ') && !value.is_empty()).then_some(())?;
        headers.insert(name.to_owned(), value.to_owned());
    }
    (!reason.is_empty() && !headers.is_empty()).then_some((code.parse().ok()?, headers, payload.to_owned()))
}

#[test]
fn clients_can_read_every_answer() {
    let (code, headers, payload) = as_a_client(Response::describe(2, "a=b\r\nc").as_bytes()).unwrap();
    assert_eq!((code, headers["CSeq"].as_str(), payload.as_str()), (200, "2", "a=b\r\nc"));
    let setup = Setup { port: 47998, session: SESSION, ping: Some(*b"0123456789abcdef"), connect: None };
    let (code, headers, payload) = as_a_client(Response::setup(4, &setup).as_bytes()).unwrap();
    assert_eq!((code, payload.as_str()), (200, ""));
    assert_eq!(headers["Session"], "ABCDEFGHJKLMNPQR;timeout = 90");
    assert_eq!(headers["Transport"], "server_port=47998");
    assert_eq!(headers["X-SS-Ping-Payload"], "0123456789abcdef");
    assert!(!headers.contains_key("X-SS-Connect-Data"));
    let setup = Setup { ping: None, connect: Some(3_000_000_000), ..setup };
    let (_, headers, _) = as_a_client(Response::setup(5, &setup).as_bytes()).unwrap();
    assert_eq!(headers["X-SS-Connect-Data"], "3000000000");
    let refusals = [
        (Status::Ok, 200),
        (Status::BadRequest, 400),
        (Status::Forbidden, 403),
        (Status::SessionNotFound, 454),
        (Status::WrongState, 455),
        (Status::NotImplemented, 501),
        (Status::Unavailable, 503),
    ];
    for (status, expected) in refusals {
        let (code, headers, _) = as_a_client(Response::plain(status, 9).as_bytes()).unwrap();
        assert_eq!((code, headers["CSeq"].as_str()), (expected, "9"));
    }
    assert_eq!(as_a_client(Response::options(1).as_bytes()).unwrap().0, 200);
}

#[test]
fn sealed_as_openssl_seals() {
    let frame = hex(SEALED_PLAY);
    let (frame, consumed) = Frame::parse(&frame).unwrap().unwrap();
    assert_eq!((consumed, frame.head), (24 + 28, FrameHead { sequence: 7, length: 28 }));
    let mut host = RtspCipher::new(&KEY, Origin::Host);
    assert_eq!(host.open(&frame).unwrap(), b"PLAY / RTSP/1.0\r\nCSeq: 7\r\n\r\n");
    assert_eq!(host.seal(b"RTSP/1.0 200 OK\r\nCSeq: 7\r\n\r\n").unwrap(), hex(SEALED_OK));
    assert_ne!(host.seal(b"RTSP/1.0 200 OK\r\nCSeq: 7\r\n\r\n").unwrap(), hex(SEALED_OK));
    assert_eq!(RtspCipher::new(&[1; 16], Origin::Host).open(&frame), Err(Forged));
    assert_eq!(RtspCipher::new(&KEY, Origin::Client).open(&frame), Err(Forged), "the host's own frames are not taken");
    assert_eq!(host.seal(b""), None);
}

#[test]
fn frames_that_are_none() {
    assert_eq!(Frame::parse(b"OPTIONS"), Err(Malformed::RequestLine));
    assert_eq!(Frame::parse(&[0x80, 0, 0, 0]), Err(Malformed::TooLong));
    assert_eq!(Frame::parse(&[0x80, 0, 0x40, 1]), Err(Malformed::TooLong));
    assert_eq!(Frame::parse(&[0xFF; 4]), Err(Malformed::TooLong));
    assert_eq!(Frame::parse(&[0x80, 0, 0x40, 0]), Ok(None));
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_not(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(Some((_, consumed))) = Request::parse(&bytes) {
            prop_assert!(consumed <= bytes.len());
        }
        if let Ok(Some((frame, consumed))) = Frame::parse(&bytes) {
            prop_assert_eq!(consumed, SEALED_HEADER_BYTES + frame.head.length);
        }
    }

    /// Near misses: requests with some bytes changed, cut or doubled.
    #[test]
    fn a_damaged_request_is_one_or_none(
        which in 0usize..3, at in any::<prop::sample::Index>(), with in prop::collection::vec(any::<u8>(), 0..4),
        cut in 0usize..4,
    ) {
        let mut bytes = [OPTIONS, SETUP, ANNOUNCE][which].as_bytes().to_vec();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + cut);
        bytes.splice(at..end, with);
        if let Ok(Some((request, consumed))) = Request::parse(&bytes) {
            prop_assert!(consumed <= bytes.len() && request.body.len() < consumed);
        }
    }

    #[test]
    fn what_is_asked_is_understood(
        cseq in any::<u32>(), session in prop::option::of("[A-Z0-9]{16}"),
        body in prop::collection::vec(any::<u8>(), 0..300), after in prop::collection::vec(any::<u8>(), 0..9),
        named in any::<bool>(),
    ) {
        let mut bytes = format!("ANNOUNCE streamid=control/13/0 RTSP/1.0\r\ncseq:{cseq}\r\n").into_bytes();
        if let Some(session) = &session {
            bytes.extend_from_slice(format!("SESSION: {session};timeout = 90\r\n").as_bytes());
        }
        if named || !body.is_empty() {
            bytes.extend_from_slice(format!("CONTENT-LENGTH: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&body);
        let whole = bytes.len();
        bytes.extend_from_slice(&after);
        let session = session.map_or(Named::None, |name| Named::Session(name.as_bytes().try_into().unwrap()));
        let expected = Request { method: Method::Announce, target: Target::Control, cseq, session, body };
        prop_assert_eq!(Request::parse(&bytes), Ok(Some((expected, whole))));
    }

    #[test]
    fn sealed_messages_open_once_and_only_as_they_were(
        key in any::<[u8; 16]>(), message in prop::collection::vec(any::<u8>(), 1..400),
        at in any::<prop::sample::Index>(), flip in 1u8..=255,
    ) {
        let (mut client, host) = (RtspCipher::new(&key, Origin::Client), RtspCipher::new(&key, Origin::Host));
        let mut sealed = client.seal(&message).unwrap();
        let (frame, consumed) = Frame::parse(&sealed).unwrap().unwrap();
        prop_assert_eq!(consumed, sealed.len());
        prop_assert_eq!(host.open(&frame).unwrap(), message);
        // Beyond the length, whose change makes it another frame.
        let at = 4 + at.index(sealed.len() - 4);
        sealed[at] ^= flip;
        let (frame, _) = Frame::parse(&sealed).unwrap().unwrap();
        prop_assert_eq!(host.open(&frame), Err(Forged));
    }
}
