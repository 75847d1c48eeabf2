//! What the host answers. The client's parser is picky (moonlight-common-c, RtspParser.c): the reason must not be empty,
//! there must be a header, each with one space after its colon, names are case-sensitive, and the end of the connection
//! is the end of the body.

use std::fmt::Write;

/// How a request ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    Ok,
    /// The request, or its SDP, is malformed.
    BadRequest,
    /// Nobody who may stream from here.
    Forbidden,
    /// Not the order in which a session is set up.
    WrongState,
    /// It names a session that is not there.
    SessionNotFound,
    NotImplemented,
    /// The host has no session to give now.
    Unavailable,
}

impl Status {
    /// Code and reason (RFC 2326 §7.1.1).
    const fn line(self) -> (u16, &'static str) {
        match self {
            Self::Ok => (200, "OK"),
            Self::BadRequest => (400, "Bad Request"),
            Self::Forbidden => (403, "Forbidden"),
            Self::SessionNotFound => (454, "Session Not Found"),
            Self::WrongState => (455, "Method Not Valid in This State"),
            Self::NotImplemented => (501, "Not Implemented"),
            Self::Unavailable => (503, "Service Unavailable"),
        }
    }
}

/// Where a stream is, for the answer to SETUP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    /// UDP port of the stream.
    pub port: u16,
    /// The session's name. Clients remember it from the audio stream, the first.
    pub session: [u8; 16],
    /// `X-SS-Ping-Payload`, for audio and video.
    pub ping: Option<[u8; 16]>,
    /// `X-SS-Connect-Data`, for control: what the client says as it connects by ENet.
    pub connect: Option<u32>,
}

/// One response. There is exactly one on a connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    text: String,
}

impl Response {
    fn begin(status: Status, cseq: u32) -> Self {
        let (code, reason) = status.line();
        Self { text: format!("RTSP/1.0 {code} {reason}\r\nCSeq: {cseq}\r\n") }
    }

    fn header(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        // A String takes everything.
        let _ = write!(self.text, "{name}: {value}\r\n");
        self
    }

    fn end(mut self) -> Self {
        self.text.push_str("\r\n");
        self
    }

    /// To ANNOUNCE and PLAY, and of every refusal.
    pub fn plain(status: Status, cseq: u32) -> Self {
        Self::begin(status, cseq).end()
    }

    /// To OPTIONS.
    pub fn options(cseq: u32) -> Self {
        Self::begin(Status::Ok, cseq).header("Public", "OPTIONS, DESCRIBE, SETUP, ANNOUNCE, PLAY").end()
    }

    /// To DESCRIBE, with the body of [`Offer`](crate::gamestream::sdp::Offer).
    pub fn describe(cseq: u32, sdp: &str) -> Self {
        let mut response = Self::begin(Status::Ok, cseq).header("Content-Type", "application/sdp");
        response = response.header("Content-Length", sdp.len()).end();
        response.text.push_str(sdp);
        response
    }

    /// To SETUP.
    pub fn setup(cseq: u32, setup: &Setup) -> Self {
        let letters = |name: &[u8; 16]| name.map(char::from).iter().collect::<String>();
        let mut response = Self::begin(Status::Ok, cseq)
            .header("Session", format_args!("{};timeout = 90", letters(&setup.session)))
            .header("Transport", format_args!("server_port={}", setup.port));
        if let Some(ping) = &setup.ping {
            response = response.header("X-SS-Ping-Payload", letters(ping));
        }
        if let Some(connect) = setup.connect {
            response = response.header("X-SS-Connect-Data", connect);
        }
        response.end()
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }
}
