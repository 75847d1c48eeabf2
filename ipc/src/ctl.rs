//! The control socket's protocol: one JSON line in, one JSON line out, then the connection closes.
//!
//! Requests look like `{"request":"restart","plane":"encode","session":1}`; replies are `{"ok":VALUE}` or
//! `{"error":"one line for people","exit":4}`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::msg::{Fingerprint, PairingId, Pin, PlaneKind, SessionId};

/// The socket's name in the runtime directory.
pub const SOCKET: &str = "ctl.sock";
/// Most bytes of a request line, its newline included.
pub const MAX_REQUEST: usize = 4096;
/// Most bytes of a reply line, its newline included.
pub const MAX_REPLY: usize = 1024 * 1024;

const PATIENCE: Duration = Duration::from_secs(5);
/// For a request that lumend may hold for up to [`HOLD`] before it answers.
const LONG_PATIENCE: Duration = Duration::from_secs(40);
/// How long lumend may keep an answer back, where it has to wait for something itself.
pub const HOLD: Duration = Duration::from_secs(36);

/// What may be asked of a running lumend.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "lowercase", deny_unknown_fields)]
pub enum CtlRequest {
    /// The whole state, as `lumend status --json` prints it.
    Status {},
    /// Kill a plane, so that it is started anew: that of one session, or of all.
    Restart { plane: PlaneKind, session: Option<SessionId> },
    /// End a session.
    Stop { session: SessionId },
    /// End what a client has running, with all that shows it.
    Quit {
        /// Its number, or whose it is, as for `Rename`.
        run: String,
    },
    /// Make a session's next frame an IDR.
    Idr { session: SessionId },
    /// The SHA-256 of the host's certificate, in hex.
    Fingerprint {},
    /// Allow the client with this certificate.
    Allow {
        #[serde(with = "hex")]
        sha256: Fingerprint,
    },
    /// Hand a PIN to a Moonlight client that waits to be paired. Answered when that has come to an end.
    Pair {
        #[serde(with = "pin")]
        pin: Pin,
        /// Which one; may be left out where only one waits.
        pairing: Option<PairingId>,
        /// What it is to be called.
        name: Option<String>,
    },
    /// List the known clients and what they may do.
    Clients {},
    /// Give a client another name.
    Rename {
        /// Its name, or the beginning of its fingerprint, in hex, that no other client's begins with.
        client: String,
        name: String,
    },
    /// Let a known client in, or turn it away and end its sessions.
    Enable {
        /// As for `Rename`.
        client: String,
        enabled: bool,
    },
    /// Forget a client and end its sessions.
    Remove {
        /// As for `Rename`.
        client: String,
    },
    /// Change what a client may do, from now on.
    Permit {
        /// As for `Rename`.
        client: String,
        /// Added.
        grant: Vec<Permission>,
        /// Taken away. Whatever is in neither stays as it is.
        deny: Vec<Permission>,
    },
    /// Forget the client with this certificate and end its sessions.
    Forget {
        #[serde(with = "hex")]
        sha256: Fingerprint,
    },
}

/// One thing that a client may do, by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// See and hear: have a session at all.
    View,
    /// Touch included.
    Pointer,
    /// Text included.
    Keyboard,
    Gamepad,
    /// Start apps that do not run yet.
    Launch,
}

impl Permission {
    pub const ALL: [Self; 5] = [Self::View, Self::Pointer, Self::Keyboard, Self::Gamepad, Self::Launch];
    /// For people.
    pub const LIST: &str = "view, pointer, keyboard, gamepad, launch";

    /// As on the command line and in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Pointer => "pointer",
            Self::Keyboard => "keyboard",
            Self::Gamepad => "gamepad",
            Self::Launch => "launch",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

impl CtlRequest {
    /// Reads a request line, with or without its newline; the error is the reply to send.
    pub fn parse(line: &[u8]) -> Result<Self, CtlReply> {
        if line.len() > MAX_REQUEST {
            return Err(CtlReply::error(2, "the request is longer than 4096 bytes"));
        }
        serde_json::from_slice(line).map_err(|error| CtlReply::error(2, format!("not a request: {error}")))
    }

    fn patience(&self) -> Duration {
        if matches!(self, Self::Pair { .. }) { LONG_PATIENCE } else { PATIENCE }
    }
}

/// What lumend answers.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CtlReply {
    Ok {
        ok: Value,
    },
    Error {
        /// One line that says what to do.
        error: String,
        /// The exit code of the command that asked.
        exit: u8,
    },
}

impl CtlReply {
    pub fn ok(value: impl Into<Value>) -> Self {
        Self::Ok { ok: value.into() }
    }

    pub fn error(exit: u8, error: impl Into<String>) -> Self {
        Self::Error { error: error.into(), exit }
    }

    /// The line to send, newline included.
    pub fn to_line(&self) -> String {
        // JSON values and strings always serialise.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

/// Why a call brought no value. The text is for the person at the terminal.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    #[error("no lumend answers on {}: start one with `lumend run --spawn`, or name its directory with --runtime", .0.display())]
    NotRunning(PathBuf),
    #[error("{} belongs to another user: run this as the user that lumend runs as", .0.display())]
    Forbidden(PathBuf),
    #[error("lumend did not answer within {} s: look at its log", .0.as_secs())]
    Silent(Duration),
    #[error("lumend gave no answer that this version understands: use the lumend binary that is running")]
    Garbled,
    #[error("{message}")]
    Refused { message: String, exit: u8 },
    #[error("cannot talk to lumend: {0}")]
    Io(#[from] io::Error),
}

impl CtlError {
    /// The exit code of a command that failed for this reason: lumend's own where it named one, else 3.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Refused { exit, .. } => *exit,
            _ => 3,
        }
    }
}

/// The side that asks.
pub struct CtlClient;

impl CtlClient {
    /// Asks the lumend of `runtime_dir` one thing and returns the value of its answer.
    pub fn call(runtime_dir: &Path, request: &CtlRequest) -> Result<Value, CtlError> {
        let path = runtime_dir.join(SOCKET);
        let stream = UnixStream::connect(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CtlError::NotRunning(path),
            io::ErrorKind::PermissionDenied => CtlError::Forbidden(path),
            _ => CtlError::Io(error),
        })?;
        let patience = request.patience();
        let silence = |error: io::Error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => CtlError::Silent(patience),
            _ => CtlError::Io(error),
        };
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        let line = serde_json::to_string(request).map_err(|_| CtlError::Garbled)? + "\n";
        (&stream).write_all(line.as_bytes()).map_err(silence)?;
        let mut reply = Vec::new();
        BufReader::new((&stream).take(MAX_REPLY as u64)).read_until(b'\n', &mut reply).map_err(silence)?;
        match serde_json::from_slice(&reply) {
            Ok(CtlReply::Ok { ok }) => Ok(ok),
            Ok(CtlReply::Error { error, exit }) => Err(CtlError::Refused { message: error, exit }),
            Err(_) => Err(CtlError::Garbled),
        }
    }
}

/// Fingerprints are hex in JSON, for people.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::msg::Fingerprint;

    pub(super) fn serialize<S: Serializer>(fingerprint: &Fingerprint, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(fingerprint)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Fingerprint, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// PINs are strings in JSON, since they may begin with a zero.
mod pin {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::msg::Pin;

    pub(super) fn serialize<S: Serializer>(pin: &Pin, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&pin.digits().escape_ascii())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Pin, D::Error> {
        let text = String::deserialize(from)?;
        Pin::new(&text).ok_or_else(|| serde::de::Error::custom("a PIN is four digits"))
    }
}
