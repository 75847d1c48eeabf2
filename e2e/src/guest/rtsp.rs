//! RTSP as clients speak it: one request a connection, in the clear or sealed, and what they read out of the answers.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};

use super::http::PATIENCE;
use super::moonlight::Launched;
use super::seal::{Gcm, Party, Place};

/// Of all connections of the process: a client never begins anew.
static SEALED: AtomicU32 = AtomicU32::new(0);

const BEGINNING: &str = "Thu, 01 Jan 1970 00:00:00 GMT";

/// A stream's port and what its pings carry.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    pub number: u16,
    pub ping: [u8; 16],
}

/// What the host offers.
#[derive(Clone, Debug)]
pub struct Offer {
    pub text: String,
    /// 1 control by version 2, 2 video, 4 sound.
    pub encryption_supported: u32,
    pub encryption_requested: u32,
}

/// How Opus carries the channels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpusShape {
    pub streams: u8,
    pub coupled: u8,
    pub mapping: Vec<u8>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// By the rules of moonlight-common-c, RtspParser.c.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(bytes).context("not UTF-8")?;
        let (head, body) = text.split_once("\r\n\r\n").context("no end of the headers")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().context("empty")?.strip_prefix("RTSP/1.0 ").context("no RTSP/1.0")?;
        let (status, reason) = status.split_once(' ').context("no reason")?;
        ensure!(!reason.is_empty(), "an empty reason");
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").with_context(|| format!("no header: {line}"))?;
            ensure!(!value.starts_with(' '), "two spaces: {line}");
            Ok((name.to_owned(), value.to_owned()))
        };
        let headers = lines.map(header).collect::<Result<Vec<_>>>()?;
        ensure!(!headers.is_empty(), "no header");
        Ok(Self { status: status.parse()?, headers, body: body.to_owned() })
    }

    /// Names count by their letters' case.
    pub fn header(&self, name: &str) -> Result<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        Ok(&found.with_context(|| format!("no {name} in {:?}", self.headers))?.1)
    }

    fn server_port(&self) -> Result<u16> {
        let (_, port) = self.header("Transport")?.split_once("server_port=").context("no server_port")?;
        let digits = port.find(|letter: char| !letter.is_ascii_digit()).map_or(port, |end| &port[..end]);
        Ok(digits.parse()?)
    }

    fn port(&self) -> Result<Port> {
        let ping = self.header("X-SS-Ping-Payload")?.as_bytes();
        let ping = ping.try_into().with_context(|| format!("{} bytes of ping payload", ping.len()))?;
        Ok(Port { number: self.server_port()?, ping })
    }
}

/// One session's RTSP.
pub struct Rtsp {
    host: SocketAddr,
    target: String,
    cipher: Option<Gcm>,
    cseq: u32,
    session: Option<String>,
    answers: u64,
}

impl Rtsp {
    /// For what `sessionUrl0` names; the port is behind its last colon.
    pub fn new(host: IpAddr, launched: &Launched) -> Result<Self> {
        let (scheme, _) = launched.url.split_once("://").context("no scheme")?;
        let (_, port) = launched.url.rsplit_once(':').context("no port")?;
        let cipher = match scheme {
            "rtsp" => None,
            "rtspenc" => Some(Gcm::new(&launched.keys.rikey)?),
            other => bail!("scheme {other}"),
        };
        let host = SocketAddr::new(host, port.parse()?);
        Ok(Self { host, target: launched.url.clone(), cipher, cseq: 0, session: None, answers: 0 })
    }

    pub const fn is_sealed(&self) -> bool {
        self.cipher.is_some()
    }

    pub const fn host(&self) -> SocketAddr {
        self.host
    }

    fn ask(&mut self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
        self.cseq += 1;
        let host = self.host;
        let mut text = format!(
            "{method} {target} RTSP/1.0\r\nCSeq: {}\r\nX-GS-ClientVersion: 14\r\nHost: {}\r\n",
            self.cseq,
            host.ip()
        );
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        text.push_str(body);
        let sent = self.seal(text.as_bytes())?;
        let mut stream = TcpStream::connect_timeout(&host, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&sent)?;
        let mut answer = Vec::new();
        // The host closes; a reset behind the whole answer is an end too.
        match stream.read_to_end(&mut answer) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => return Err(error.into()),
            _ => {}
        }
        let answer = Answer::parse(&self.open(&answer)?).with_context(|| format!("{method} {target}"))?;
        ensure!(answer.status == 200, "{method} {target}: {answer:?}");
        ensure!(answer.header("CSeq")? == self.cseq.to_string(), "{method} {target}: {answer:?}");
        Ok(answer)
    }

    fn seal(&self, text: &[u8]) -> Result<Vec<u8>> {
        let Some(cipher) = &self.cipher else { return Ok(text.to_vec()) };
        let number = SEALED.fetch_add(1, Ordering::Relaxed) + 1;
        let (tag, sealed) = cipher.seal(Place::Rtsp.nonce(number, Party::Client), text)?;
        let mut frame = (0x8000_0000 | text.len() as u32).to_be_bytes().to_vec();
        frame.extend(number.to_be_bytes());
        frame.extend(tag);
        frame.extend(sealed);
        Ok(frame)
    }

    fn open(&mut self, frame: &[u8]) -> Result<Vec<u8>> {
        let Some(cipher) = &self.cipher else { return Ok(frame.to_vec()) };
        ensure!(frame.len() >= 24, "{} bytes are no sealed answer", frame.len());
        let length = u32::from_be_bytes(frame[..4].try_into()?);
        ensure!(length == 0x8000_0000 | (frame.len() - 24) as u32, "a sealed answer of another length");
        let number = u32::from_be_bytes(frame[4..8].try_into()?);
        self.answers += 1;
        cipher.open(Place::Rtsp.nonce(number, Party::Host), &frame[24..], frame[8..24].try_into()?)
    }

    /// OPTIONS and DESCRIBE.
    pub fn describe(&mut self) -> Result<Offer> {
        let target = self.target.clone();
        self.ask("OPTIONS", &target, &[], "")?;
        let headers = [("Accept", "application/sdp"), ("If-Modified-Since", BEGINNING)];
        let text = self.ask("DESCRIBE", &target, &headers, "")?.body;
        let number = |name: &str| {
            let (_, value) = text.split_once(&format!("a={name}:"))?;
            value.split(['\r', '\n', ' ']).next()?.parse().ok()
        };
        let supported = number("x-ss-general.encryptionSupported").unwrap_or(0);
        let requested = number("x-ss-general.encryptionRequested").unwrap_or(0);
        Ok(Offer { text, encryption_supported: supported, encryption_requested: requested })
    }

    fn set_up(&mut self, stream: &str) -> Result<Answer> {
        let session = self.session.clone();
        let mut headers: Vec<(&str, &str)> = session.iter().map(|session| ("Session", session.as_str())).collect();
        headers.extend([("Transport", "unicast;X-GS-ClientPort=50000-50001"), ("If-Modified-Since", BEGINNING)]);
        self.ask("SETUP", stream, &headers, "")
    }

    pub fn set_up_audio(&mut self) -> Result<Port> {
        let answer = self.set_up("streamid=audio/0/0")?;
        let session = answer.header("Session")?.split(';').next().unwrap_or_default().to_owned();
        ensure!(!session.is_empty(), "no session");
        self.session = Some(session);
        answer.port()
    }

    pub fn set_up_video(&mut self) -> Result<Port> {
        self.set_up("streamid=video/0/0")?.port()
    }

    /// The port, and what the connect has to carry.
    pub fn set_up_control(&mut self) -> Result<(u16, u32)> {
        let answer = self.set_up("streamid=control/13/0")?;
        Ok((answer.server_port()?, answer.header("X-SS-Connect-Data")?.parse()?))
    }

    pub fn announce(&mut self, description: &str) -> Result<()> {
        let session = self.session.clone().context("no session")?;
        let length = description.len().to_string();
        let headers = [("Session", session.as_str()), ("Content-type", "application/sdp"), ("Content-length", &length)];
        self.ask("ANNOUNCE", "streamid=control/13/0", &headers, description).map(drop)
    }

    pub fn play(&mut self) -> Result<()> {
        let session = self.session.clone().context("no session")?;
        self.ask("PLAY", "/", &[("Session", &session)], "").map(drop)
    }
}

impl Offer {
    /// What the offer says of sound of this many channels; two need not be said.
    pub fn opus(&self, channels: u32) -> Result<OpusShape> {
        if channels == 2 {
            return Ok(OpusShape { streams: 1, coupled: 1, mapping: vec![0, 1] });
        }
        let (_, told) = self.text.split_once(&format!("surround-params={channels}")).context("no surround-params")?;
        let digits: Vec<u8> = told.bytes().take(2 + channels as usize).map(|digit| digit.wrapping_sub(b'0')).collect();
        ensure!(digits.len() == 2 + channels as usize && digits.iter().all(|&digit| digit < 10), "{told}");
        let mut mapping = digits[2..].to_vec();
        // The last of the list belongs to the subwoofer, whose place is behind the centre.
        mapping[3..].rotate_right(1);
        Ok(OpusShape { streams: digits[0], coupled: digits[1], mapping })
    }
}
