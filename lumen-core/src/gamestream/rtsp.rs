//! RTSP as Moonlight clients speak it (moonlight-common-c, RtspConnection.c and RtspParser.c): one request a TCP
//! connection, one response, and the host closes. `rtspenc` puts each of them into one sealed frame.

mod response;
mod sealed;

use std::str;

pub use response::{Response, Setup, Status};
pub use sealed::{Forged, Frame, FrameHead, MAX_FRAME, RtspCipher, SEALED_HEADER_BYTES, is_sealed};

/// Most bytes of a request, its body included. Clients' ANNOUNCE, the longest, has about 3 KiB.
pub const MAX_REQUEST: usize = 16 * 1024;
/// Most bytes before the body. A request is looked through again for each piece of it that comes, so this is small.
const MAX_HEAD: usize = 4096;
/// Most header lines; clients send six.
const MAX_HEADERS: usize = 32;
/// Most bytes of a target.
const MAX_TARGET: usize = 256;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    Options,
    Describe,
    Setup,
    Announce,
    Play,
    /// Anything else that could be a method's name. To be answered with [`Status::NotImplemented`].
    Other,
}

/// What it is asked of. Hosts and ports of URLs are not looked at: clients send `rtsp://0.0.0.0:PORT` when they want to
/// be taken for remote ones (RtspConnection.c, performRtspHandshake).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// `streamid=audio…`
    Audio,
    /// `streamid=video…`
    Video,
    /// `streamid=control…`
    Control,
    /// Everything else: the session as a whole.
    Session,
}

/// The session that a request names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Named {
    /// It has no Session header.
    None,
    /// Sixteen ASCII letters and digits, as [`Setup::session`] gave them out.
    Session([u8; 16]),
    /// A name that no host of this kind ever gave out.
    Stranger,
}

/// A whole request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    pub method: Method,
    pub target: Target,
    /// To be echoed.
    pub cseq: u32,
    pub session: Named,
    /// As many bytes as Content-Length says; at most [`MAX_REQUEST`].
    pub body: Vec<u8>,
}

/// The bytes are no request, and never become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Malformed {
    #[error("a request longer than any that clients send")]
    TooLong,
    #[error("the request line is none")]
    RequestLine,
    #[error("a header line is none, is there twice, or is one too many")]
    Header,
    #[error("CSeq is missing or no number")]
    Sequence,
    #[error("Content-Length is no number")]
    Length,
}

impl Request {
    /// The request at the front of `bytes` and how many bytes it has; `None` as long as there is more to come.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Malformed> {
        let searched = &bytes[..bytes.len().min(MAX_HEAD)];
        let Some(head) = searched.windows(END_OF_HEAD.len()).position(|window| window == END_OF_HEAD) else {
            return if bytes.len() >= MAX_HEAD { Err(Malformed::TooLong) } else { Ok(None) };
        };
        let text = str::from_utf8(&bytes[..head]).map_err(|_| Malformed::Header)?;
        let mut lines = text.split("\r\n");
        let (method, target) = request_line(lines.next().unwrap_or_default())?;
        let headers = Headers::parse(lines)?;
        let cseq = headers.cseq.and_then(decimal).ok_or(Malformed::Sequence)?;
        let length = headers.length.map_or(Some(0), decimal).ok_or(Malformed::Length)?;
        let start = head + END_OF_HEAD.len();
        let end = start.saturating_add(usize::try_from(length).map_err(|_| Malformed::TooLong)?);
        if end > MAX_REQUEST {
            return Err(Malformed::TooLong);
        }
        let Some(body) = bytes.get(start..end) else { return Ok(None) };
        let session = headers.session.map_or(Named::None, named);
        Ok(Some((Self { method, target, cseq, session, body: body.to_vec() }, end)))
    }
}

/// `METHOD target RTSP/1.0`.
fn request_line(line: &str) -> Result<(Method, Target), Malformed> {
    let mut words = line.split(' ');
    let (Some(method), Some(target), Some("RTSP/1.0"), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed::RequestLine);
    };
    let a_method = (1..=32).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !a_method || target.is_empty() || target.len() > MAX_TARGET {
        return Err(Malformed::RequestLine);
    }
    let method = match method {
        "OPTIONS" => Method::Options,
        "DESCRIBE" => Method::Describe,
        "SETUP" => Method::Setup,
        "ANNOUNCE" => Method::Announce,
        "PLAY" => Method::Play,
        _ => Method::Other,
    };
    // Older clients leave out the "/0/0" after the stream's name, or say "/1/0" (RtspConnection.c).
    let stream = target.strip_prefix("streamid=").map(|id| id.split('/').next().unwrap_or_default());
    let target = match stream {
        Some("audio") => Target::Audio,
        Some("video") => Target::Video,
        Some("control") => Target::Control,
        _ => Target::Session,
    };
    Ok((method, target))
}

/// The headers that mean something here.
#[derive(Default)]
struct Headers<'a> {
    cseq: Option<&'a str>,
    length: Option<&'a str>,
    session: Option<&'a str>,
}

impl<'a> Headers<'a> {
    fn parse(lines: impl Iterator<Item = &'a str>) -> Result<Self, Malformed> {
        let mut headers = Self::default();
        for (count, line) in lines.enumerate() {
            let (name, value) = line.split_once(':').ok_or(Malformed::Header)?;
            let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            if count >= MAX_HEADERS || name.is_empty() || !name.bytes().all(token) {
                return Err(Malformed::Header);
            }
            // Clients write "Content-length" (RtspConnection.c, sendVideoAnnounce).
            let slot = match name.to_ascii_lowercase().as_str() {
                "cseq" => &mut headers.cseq,
                "content-length" => &mut headers.length,
                "session" => &mut headers.session,
                _ => continue,
            };
            if slot.replace(value.trim()).is_some() {
                return Err(Malformed::Header);
            }
        }
        Ok(headers)
    }
}

/// Digits alone: no sign, no space.
fn decimal(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn named(session: &str) -> Named {
    // What follows a semicolon are parameters.
    let name = session.split(';').next().unwrap_or_default().trim();
    match <[u8; 16]>::try_from(name.as_bytes()) {
        Ok(name) if name.iter().all(u8::is_ascii_alphanumeric) => Named::Session(name),
        _ => Named::Stranger,
    }
}

#[cfg(test)]
#[path = "rtsp/tests.rs"]
mod tests;
