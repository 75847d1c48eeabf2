//! The control stream: messages on the one bidirectional QUIC stream that the client opens.
//!
//! PROTOCOL.md §3 and §4. A message is `u32 length | u8 kind | body`, little-endian; the length counts kind and body.

use crate::audio::AudioLayout;
use crate::cursor::{Malformed, Reader, put_string};
use crate::fec::Scheme;
use crate::input::Permissions;
use crate::mode::{Mode, RawMode};
use crate::packet::payload_bytes_valid;
use crate::resume::{Resume, ResumeToken};
use crate::seal::MediaSecret;

/// The TLS application protocol.
pub const ALPN: &[u8] = b"lumen/1";
/// The version this crate speaks.
pub const VERSION: u16 = 1;
/// Most bytes of kind and body together.
pub const MAX_MESSAGE: usize = 16 * 1024;
/// UDP port of QUIC unless configured otherwise; media is at the next.
pub const DEFAULT_PORT: u16 = 47_800;
/// [`ClientHello::codecs`] bit.
pub const CODEC_H264: u8 = 1;
/// Flag of `Hello`: [`ClientHello::own_sink`].
const FLAG_OWN_SINK: u8 = 1;
/// Flag of `Hello`: [`ClientHello::input`].
const FLAG_INPUT: u8 = 2;
/// Flag of `Hello`: a token follows, [`ClientHello::resume`].
const FLAG_RESUME: u8 = 4;
/// Flag of `Welcome`: [`Welcome::resumed`].
const FLAG_RESUMED: u8 = 1;
/// Flag of `Welcome`: a token follows, [`Welcome::resume`].
const FLAG_TOKEN: u8 = 2;

/// Why a client is refused or a session ends: in `Refused` and `End`, and as QUIC application close codes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
#[repr(u16)]
pub enum Code {
    #[error("this client is not allowed")]
    NotAllowed = 1,
    #[error("the mode cannot be made")]
    Mode = 2,
    #[error("the host is full")]
    Full = 3,
    #[error("no desktop is available")]
    Unavailable = 4,
    #[error("ended by the host's user")]
    Stopped = 5,
    #[error("the host is shutting down")]
    Shutdown = 6,
    #[error("the host speaks another version")]
    Version = 7,
    #[error("a message was malformed")]
    Malformed = 8,
    #[error("the other side was silent for too long")]
    Timeout = 9,
}

impl Code {
    /// The code of a wire value, if this version knows it.
    pub fn from_wire(value: u64) -> Option<Self> {
        use Code::*;
        [NotAllowed, Mode, Full, Unavailable, Stopped, Shutdown, Version, Malformed, Timeout]
            .into_iter()
            .find(|&code| u64::from(code as u16) == value)
    }
}

/// How pictures are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Codec {
    H264 = 1,
}

/// The client's wish. Nothing in it has been checked but its syntax.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientHello {
    /// [`VERSION`]; first, so that a host can tell another version from nonsense.
    pub version: u16,
    /// `/proc/sys/kernel/random/boot_id`, or zeros: equal ids mean one clock.
    pub boot_id: [u8; 16],
    pub mode: RawMode,
    /// 0: the host's choice.
    pub bitrate_kbps: u32,
    /// Bitmask of [`CODEC_H264`].
    pub codecs: u8,
    /// Bitmask: bit `n` for scheme `n`.
    pub fec_schemes: u8,
    /// The sound that the client wants, if any.
    pub audio: Option<AudioLayout>,
    /// The host shall play into a sink made for this session and not into one of its own.
    pub own_sink: bool,
    /// The client has hands.
    pub input: bool,
    /// The client comes back to a session whose last `Welcome` had this token.
    pub resume: Option<Resume>,
    /// For people.
    pub name: String,
}

/// The complete configuration of the data plane.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Welcome {
    pub session: u32,
    pub generation: u32,
    pub mode: Mode,
    pub codec: Codec,
    /// The highest scheme the host will use.
    pub fec: Scheme,
    /// Least parity in percent of data, 0 to 100.
    pub parity_floor_percent: u8,
    /// Most bytes of a UDP payload: even, 512 to 1452.
    pub shard_size: u16,
    pub secret: MediaSecret,
    pub media_port: u16,
    pub boot_id: [u8; 16],
    /// The sound that the host will send, if any.
    pub audio: Option<AudioLayout>,
    /// What the client's hands may do now; nothing if it has none.
    pub permissions: Permissions,
    /// This is the session that the token of `Hello` stood for: what it was goes on.
    pub resumed: bool,
    /// What to come back with, if that is possible.
    pub resume: Option<ResumeToken>,
    /// For people.
    pub host_name: String,
}

/// From client to host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientMessage {
    Hello(ClientHello),
    /// Ready for media.
    Start,
    Bye,
}

/// From host to client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostMessage {
    Welcome(Welcome),
    /// Packets of this generation are coming, in this mode.
    Reconfigure {
        generation: u32,
        mode: Mode,
    },
    Refused {
        code: u16,
        reason: String,
    },
    End {
        code: u16,
        reason: String,
    },
}

/// Why the control stream cannot go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HelloError {
    #[error("the other side speaks version {0} of lumen, this one speaks {VERSION}")]
    Version(u16),
    #[error("a control message was malformed")]
    Malformed,
    #[error("a control message was longer than {MAX_MESSAGE} bytes")]
    TooLong,
}

impl From<Malformed> for HelloError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// A message of one side of the control stream.
pub trait ControlMessage: Sized {
    /// Appends the message with its length.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads kind and body, without the length.
    fn decode(message: &[u8]) -> Result<Self, HelloError>;
}

/// Appends one message: the length is filled in once the body is known.
fn framed(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind]);
    body(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

fn put_mode(out: &mut Vec<u8>, mode: RawMode) {
    out.extend_from_slice(&mode.width.to_le_bytes());
    out.extend_from_slice(&mode.height.to_le_bytes());
    out.extend_from_slice(&mode.refresh_mhz.to_le_bytes());
}

fn get_raw_mode(reader: &mut Reader<'_>) -> Result<RawMode, Malformed> {
    Ok(RawMode { width: reader.u16()?, height: reader.u16()?, refresh_mhz: reader.u32()? })
}

fn get_mode(reader: &mut Reader<'_>) -> Result<Mode, Malformed> {
    get_raw_mode(reader)?.try_into().map_err(|_| Malformed)
}

fn channels(audio: Option<AudioLayout>) -> u8 {
    audio.map_or(0, |layout| layout.channels() as u8)
}

/// A count of channels; 0 is no sound.
fn get_channels(reader: &mut Reader<'_>) -> Result<Option<AudioLayout>, Malformed> {
    match reader.u8()? {
        0 => Ok(None),
        channels => AudioLayout::from_channels(channels).map(Some).ok_or(Malformed),
    }
}

/// The channels and how Opus carries them, so that a decoder can be made from the message alone.
fn put_layout(out: &mut Vec<u8>, audio: Option<AudioLayout>) {
    out.push(channels(audio));
    if let Some(layout) = audio {
        out.extend_from_slice(&[layout.streams(), layout.coupled()]);
        out.extend_from_slice(layout.mapping());
    }
}

fn get_layout(reader: &mut Reader<'_>) -> Result<Option<AudioLayout>, Malformed> {
    let Some(layout) = get_channels(reader)? else { return Ok(None) };
    let mut same = reader.u8()? == layout.streams() && reader.u8()? == layout.coupled();
    for &place in layout.mapping() {
        same &= reader.u8()? == place;
    }
    if same { Ok(Some(layout)) } else { Err(Malformed) }
}

fn get_resume(reader: &mut Reader<'_>) -> Result<Resume, Malformed> {
    Ok(Resume { token: ResumeToken(reader.array()?), first_event: reader.u32()? })
}

fn get_hello(reader: &mut Reader<'_>, version: u16) -> Result<ClientHello, Malformed> {
    let (boot_id, mode, bitrate_kbps) = (reader.array()?, get_raw_mode(reader)?, reader.u32()?);
    let (codecs, fec_schemes, audio, flags) = (reader.u8()?, reader.u8()?, get_channels(reader)?, reader.u8()?);
    if flags & !(FLAG_OWN_SINK | FLAG_INPUT | FLAG_RESUME) != 0 {
        return Err(Malformed);
    }
    Ok(ClientHello {
        version,
        boot_id,
        mode,
        bitrate_kbps,
        codecs,
        fec_schemes,
        audio,
        own_sink: flags & FLAG_OWN_SINK != 0,
        input: flags & FLAG_INPUT != 0,
        resume: if flags & FLAG_RESUME != 0 { Some(get_resume(reader)?) } else { None },
        name: reader.string()?,
    })
}

impl ControlMessage for ClientMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => framed(out, 1, |out| {
                out.extend_from_slice(&hello.version.to_le_bytes());
                out.extend_from_slice(&hello.boot_id);
                put_mode(out, hello.mode);
                out.extend_from_slice(&hello.bitrate_kbps.to_le_bytes());
                let own_sink = if hello.own_sink { FLAG_OWN_SINK } else { 0 };
                let input = if hello.input { FLAG_INPUT } else { 0 };
                let resume = if hello.resume.is_some() { FLAG_RESUME } else { 0 };
                let flags = own_sink | input | resume;
                out.extend_from_slice(&[hello.codecs, hello.fec_schemes, channels(hello.audio), flags]);
                if let Some(Resume { token, first_event }) = &hello.resume {
                    out.extend_from_slice(&token.0);
                    out.extend_from_slice(&first_event.to_le_bytes());
                }
                put_string(out, &hello.name);
            }),
            Self::Start => framed(out, 2, |_| ()),
            Self::Bye => framed(out, 3, |_| ()),
        }
    }

    fn decode(message: &[u8]) -> Result<Self, HelloError> {
        let mut reader = Reader::new(message);
        let decoded = match reader.u8()? {
            1 => {
                let version = reader.u16()?;
                // What follows is another version's business.
                if version != VERSION {
                    return Err(HelloError::Version(version));
                }
                Self::Hello(get_hello(&mut reader, version)?)
            }
            2 => Self::Start,
            3 => Self::Bye,
            _ => return Err(HelloError::Malformed),
        };
        reader.end()?;
        Ok(decoded)
    }
}

impl ControlMessage for HostMessage {
    fn encode(&self, out: &mut Vec<u8>) {
        let reasoned = |out: &mut Vec<u8>, code: u16, reason: &str| {
            out.extend_from_slice(&code.to_le_bytes());
            put_string(out, reason);
        };
        match self {
            Self::Welcome(welcome) => framed(out, 129, |out| {
                out.extend_from_slice(&welcome.session.to_le_bytes());
                out.extend_from_slice(&welcome.generation.to_le_bytes());
                put_mode(out, welcome.mode.into());
                out.extend_from_slice(&[welcome.codec as u8, welcome.fec as u8, welcome.parity_floor_percent]);
                out.extend_from_slice(&welcome.shard_size.to_le_bytes());
                out.extend_from_slice(&welcome.secret.0);
                out.extend_from_slice(&welcome.media_port.to_le_bytes());
                out.extend_from_slice(&welcome.boot_id);
                put_layout(out, welcome.audio);
                out.push(welcome.permissions.bits());
                let resumed = if welcome.resumed { FLAG_RESUMED } else { 0 };
                out.push(resumed | if welcome.resume.is_some() { FLAG_TOKEN } else { 0 });
                out.extend_from_slice(welcome.resume.as_ref().map_or(&[], |token| &token.0[..]));
                put_string(out, &welcome.host_name);
            }),
            Self::Reconfigure { generation, mode } => framed(out, 130, |out| {
                out.extend_from_slice(&generation.to_le_bytes());
                put_mode(out, (*mode).into());
            }),
            Self::Refused { code, reason } => framed(out, 131, |out| reasoned(out, *code, reason)),
            Self::End { code, reason } => framed(out, 132, |out| reasoned(out, *code, reason)),
        }
    }

    fn decode(message: &[u8]) -> Result<Self, HelloError> {
        let mut reader = Reader::new(message);
        let decoded = match reader.u8()? {
            129 => Self::Welcome(get_welcome(&mut reader)?),
            130 => Self::Reconfigure { generation: reader.u32()?, mode: get_mode(&mut reader)? },
            131 => Self::Refused { code: reader.u16()?, reason: reader.string()? },
            132 => Self::End { code: reader.u16()?, reason: reader.string()? },
            _ => return Err(HelloError::Malformed),
        };
        reader.end()?;
        Ok(decoded)
    }
}

fn get_welcome(reader: &mut Reader<'_>) -> Result<Welcome, Malformed> {
    let mut welcome = Welcome {
        session: reader.u32()?,
        generation: reader.u32()?,
        mode: get_mode(reader)?,
        codec: if reader.u8()? == Codec::H264 as u8 { Codec::H264 } else { return Err(Malformed) },
        fec: Scheme::from_wire(reader.u8()?).ok_or(Malformed)?,
        parity_floor_percent: reader.u8()?,
        shard_size: reader.u16()?,
        secret: MediaSecret(reader.array()?),
        media_port: reader.u16()?,
        boot_id: reader.array()?,
        audio: get_layout(reader)?,
        permissions: Permissions::from_bits(reader.u8()?).ok_or(Malformed)?,
        resumed: false,
        resume: None,
        host_name: String::new(),
    };
    let flags = reader.u8()?;
    if flags & !(FLAG_RESUMED | FLAG_TOKEN) != 0 {
        return Err(Malformed);
    }
    welcome.resumed = flags & FLAG_RESUMED != 0;
    if flags & FLAG_TOKEN != 0 {
        welcome.resume = Some(ResumeToken(reader.array()?));
    }
    welcome.host_name = reader.string()?;
    if welcome.parity_floor_percent > 100 || !payload_bytes_valid(welcome.shard_size) {
        return Err(Malformed);
    }
    Ok(welcome)
}

/// Cuts a stream of bytes into messages.
///
/// Holds at most one message beyond what was pushed since the last [`poll`](Self::poll); a length above
/// [`MAX_MESSAGE`] is an error as soon as it is seen.
#[derive(Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    at: usize,
}

impl FrameReader {
    /// Adds bytes as they came off the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, or `None` until more bytes have come. After an error the stream is of no more use.
    pub fn poll<M: ControlMessage>(&mut self) -> Result<Option<M>, HelloError> {
        let Some((length, rest)) = self.buffer[self.at..].split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_MESSAGE {
            return Err(HelloError::TooLong);
        }
        let Some(message) = rest.get(..length) else { return Ok(None) };
        let message = M::decode(message)?;
        self.at += 4 + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
#[path = "hello/tests.rs"]
mod tests;
