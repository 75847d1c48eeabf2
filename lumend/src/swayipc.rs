//! Sway's IPC protocol, without a socket: requests as bytes, bytes as replies. The compositor is outside: whatever it
//! sends is bounded and parsed into the few things that are needed here, or the connection is given up.

use serde::Deserialize;

const MAGIC: &[u8; 6] = b"i3-ipc";
const HEADER: usize = 14;

/// Sway's answers to the requests made here are a few kilobytes per output.
const MAX_PAYLOAD: usize = 1 << 20;

const RUN_COMMAND: u32 = 0;
const SUBSCRIBE: u32 = 2;
const GET_OUTPUTS: u32 = 3;
const GET_SEATS: u32 = 101;
const EVENT_WORKSPACE: u32 = 0x8000_0000;
const EVENT_OUTPUT: u32 = 0x8000_0001;

/// What is asked of sway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// One command, as in its configuration file.
    Run(String),
    ListOutputs,
    ListSeats,
    /// Tell of every change to an output. Sway 1.7 cannot.
    WatchOutputs,
    /// Tell when the configuration is read again.
    WatchReloads,
}

/// What sway says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The outcome of [`Request::Run`]; the error is sway's text.
    Ran(Result<(), String>),
    Outputs(Vec<Output>),
    Seats(Vec<Seat>),
    Watching,
    /// An output changed. Not an answer: comes at any time.
    OutputsChanged,
    /// Sway has read its configuration again, and forgotten what it was told since the last time. Not an answer.
    Reloaded,
}

/// An output as `get_outputs` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Output {
    pub name: String,
    #[serde(default)]
    pub active: bool,
    #[serde(default)]
    pub current_mode: Option<CurrentMode>,
    #[serde(default)]
    pub rect: Rect,
    /// The first seat's keyboard is there.
    #[serde(default)]
    pub focused: bool,
}

/// Of an output in the layout of all.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(default)]
pub struct Rect {
    pub x: i64,
    pub y: i64,
    pub width: i64,
    pub height: i64,
}

/// A seat as `get_seats` shows it.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Seat {
    pub name: String,
    #[serde(default)]
    pub devices: Vec<Device>,
    /// The container or workspace that has its keyboard, 0 for none.
    #[serde(default)]
    pub focus: i64,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Device {
    pub identifier: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub struct CurrentMode {
    /// Pixels.
    pub width: i64,
    /// Pixels.
    pub height: i64,
    /// Thousandths of a hertz; 0 where sway knows none, as of a headless output since 1.10 until it is given a mode.
    pub refresh: i64,
}

/// Sway said something that is not its protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("sway's answer is not understood: {0}")]
pub struct Malformed(&'static str);

impl Request {
    /// Appends the request's bytes: magic, length, kind (native byte order), payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (kind, payload) = match self {
            Self::Run(command) => (RUN_COMMAND, command.as_str()),
            Self::ListOutputs => (GET_OUTPUTS, ""),
            Self::ListSeats => (GET_SEATS, ""),
            Self::WatchOutputs => (SUBSCRIBE, "[\"output\"]"),
            Self::WatchReloads => (SUBSCRIBE, "[\"workspace\"]"),
        };
        frame(kind, payload.as_bytes(), out);
    }
}

fn frame(kind: u32, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&(payload.len() as u32).to_ne_bytes());
    out.extend_from_slice(&kind.to_ne_bytes());
    out.extend_from_slice(payload);
}

/// Cuts a byte stream into replies.
#[derive(Default, Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
}

impl Decoder {
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole reply. Kinds that were not asked for are skipped.
    pub fn next(&mut self) -> Result<Option<Reply>, Malformed> {
        loop {
            let Some((kind, end)) = self.header()? else { return Ok(None) };
            if self.bytes.len() < end {
                return Ok(None);
            }
            let reply = parse(kind, &self.bytes[HEADER..end])?;
            self.bytes.drain(..end);
            if reply.is_some() {
                return Ok(reply);
            }
        }
    }

    /// The kind of the message at the front and where it ends.
    fn header(&self) -> Result<Option<(u32, usize)>, Malformed> {
        let seen = self.bytes.len().min(MAGIC.len());
        if self.bytes[..seen] != MAGIC[..seen] {
            return Err(Malformed("no magic"));
        }
        let Some(header) = self.bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let word = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = word(6) as usize;
        if length > MAX_PAYLOAD {
            return Err(Malformed("too long"));
        }
        Ok(Some((word(10), HEADER + length)))
    }
}

fn parse(kind: u32, payload: &[u8]) -> Result<Option<Reply>, Malformed> {
    match kind {
        RUN_COMMAND => ran(payload).map(|outcome| Some(Reply::Ran(outcome))),
        GET_OUTPUTS => serde_json::from_slice(payload)
            .map(|outputs| Some(Reply::Outputs(outputs)))
            .map_err(|_| Malformed("the list of outputs")),
        SUBSCRIBE => Ok(Some(Reply::Watching)),
        GET_SEATS => serde_json::from_slice(payload)
            .map(|seats| Some(Reply::Seats(seats)))
            .map_err(|_| Malformed("the list of seats")),
        EVENT_OUTPUT => Ok(Some(Reply::OutputsChanged)),
        EVENT_WORKSPACE => changed(payload),
        _ => Ok(None),
    }
}

/// Of all that can happen to workspaces, only that sway starts over.
fn changed(payload: &[u8]) -> Result<Option<Reply>, Malformed> {
    #[derive(Deserialize)]
    struct Event<'a> {
        change: &'a str,
    }
    let event: Event = serde_json::from_slice(payload).map_err(|_| Malformed("an event"))?;
    Ok((event.change == "reload").then_some(Reply::Reloaded))
}

/// One outcome per command of a request; the first failure stands for all.
fn ran(payload: &[u8]) -> Result<Result<(), String>, Malformed> {
    #[derive(Deserialize)]
    struct Outcome {
        success: bool,
        #[serde(default)]
        error: String,
    }
    let outcomes: Vec<Outcome> = serde_json::from_slice(payload).map_err(|_| Malformed("the outcome of a command"))?;
    match outcomes.into_iter().find(|outcome| !outcome.success) {
        None => Ok(Ok(())),
        Some(failed) => Ok(Err(failed.error.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(kind: u32, payload: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame(kind, payload.as_bytes(), &mut bytes);
        bytes
    }

    #[test]
    fn replies_are_read_however_they_are_cut() {
        let list = r#"[{"name":"HEADLESS-1","make":"headless","active":true,"focused":true,
            "current_mode":{"width":1280,"height":720,"refresh":59940},"modes":[],
            "rect":{"x":1920,"y":0,"width":1280,"height":720}},{"name":"DP-1"}]"#;
        let bytes = [
            framed(RUN_COMMAND, r#"[{"success":true}]"#),
            framed(7, "{}"),
            framed(EVENT_OUTPUT, r#"{"change":"unspecified"}"#),
            framed(EVENT_WORKSPACE, r#"{"change":"focus","old":null,"current":{"id":3}}"#),
            framed(EVENT_WORKSPACE, r#"{"change":"reload","old":null,"current":null}"#),
            framed(GET_SEATS, r#"[{"name":"seat0","capabilities":3,"focus":7,"devices":[{"identifier":"0:0:k"}]}]"#),
            framed(GET_OUTPUTS, list),
            framed(RUN_COMMAND, "[{\"success\":false,\"parse_error\":true,\"error\":\"Bad\\nthing\"}]"),
        ]
        .concat();
        let mode = CurrentMode { width: 1280, height: 720, refresh: 59940 };
        let rect = Rect { x: 1920, y: 0, width: 1280, height: 720 };
        let expected = [
            Reply::Ran(Ok(())),
            Reply::OutputsChanged,
            Reply::Reloaded,
            Reply::Seats(vec![Seat {
                name: "seat0".to_owned(),
                devices: vec![Device { identifier: "0:0:k".to_owned() }],
                focus: 7,
            }]),
            Reply::Outputs(vec![
                Output { name: "HEADLESS-1".to_owned(), active: true, current_mode: Some(mode), rect, focused: true },
                Output {
                    name: "DP-1".to_owned(),
                    active: false,
                    current_mode: None,
                    rect: Rect::default(),
                    focused: false,
                },
            ]),
            Reply::Ran(Err("Bad thing".to_owned())),
        ];
        for size in [1, 3, 14, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut replies = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(reply) = decoder.next().unwrap() {
                    replies.push(reply);
                }
            }
            assert_eq!(replies, expected, "pieces of {size}");
        }
    }

    #[test]
    fn nonsense_ends_the_connection() {
        for bytes in [
            b"HTTP".to_vec(),
            framed(GET_OUTPUTS, "{}"),
            framed(RUN_COMMAND, "true"),
            [&MAGIC[..], &u32::MAX.to_ne_bytes(), &[0; 4]].concat(),
        ] {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            assert!(decoder.next().is_err());
        }
    }

    #[test]
    fn requests_have_sways_form() {
        let mut bytes = Vec::new();
        Request::Run("create_output".to_owned()).encode(&mut bytes);
        assert_eq!(bytes, [&b"i3-ipc"[..], &13u32.to_ne_bytes(), &[0; 4], b"create_output"].concat());
    }
}
