//! The configuration file. Every key has a default, so that no file is needed; `docs/config.md` documents each.

mod gamestream;
mod values;

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipc::{Backend, SinkChoice};
use serde::Deserialize;

pub use self::gamestream::{App, DESKTOP, Discovery, GameStream};
use self::values::{backend, bitrate, gain, one_line, path, refresh_multiple, sessions, sink, uid, xkb_name};
use crate::keymap;

/// A configuration file that cannot be used: one line with file, line and key.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{}: {error}; make it readable or name another with --config", path.display())]
    Read { path: PathBuf, error: io::Error },
    #[error("{}:{line}: {key}: {reason}; see docs/config.md", path.display())]
    Key { path: PathBuf, line: usize, key: String, reason: String },
}

/// What a person may set.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub listen: Listen,
    pub gamestream: GameStream,
    pub discovery: Discovery,
    pub sessions: Sessions,
    pub desktop: Desktop,
    pub display: Display,
    pub encode: Encode,
    pub audio: Audio,
    pub input: Input,
    pub run: Run,
    /// In the order in which clients are shown them, each name once; "Desktop" need not be among them.
    #[serde(rename = "app", deserialize_with = "gamestream::apps")]
    pub apps: Vec<App>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    pub address: Address,
    /// UDP port of QUIC; 0 lets the kernel choose.
    pub port: u16,
    /// Of the media; none is the next above `port`. See [`Listen::media_port`].
    pub media_port: Option<u16>,
}

/// Where to listen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address {
    /// Native clients: loopback while none is allowed, every address afterwards. Moonlight clients: every address, since
    /// they come to pair.
    Auto,
    Ip(IpAddr),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sessions {
    /// Streams at a time, 1 to 16.
    #[serde(deserialize_with = "sessions")]
    pub max: u32,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Desktop {
    pub kind: DesktopKind,
    /// A shell command, one line.
    #[serde(deserialize_with = "one_line")]
    pub exec: String,
}

/// Where pictures come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DesktopKind {
    /// The sway session that lumend finds in its environment, or that its user starts later.
    Auto,
    /// A headless sway of lumend's own.
    Sway,
    /// The synthetic desktop.
    Pattern,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Display {
    pub source: DisplaySource,
    /// How often a virtual output refreshes while one picture of it is streamed, 1 to 4.
    #[serde(deserialize_with = "refresh_multiple")]
    pub refresh_multiple: u32,
}

/// Which output of the desktop a session shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum DisplaySource {
    /// One made for the session, in exactly its mode.
    #[default]
    Virtual,
    /// An existing output, as it is.
    Output(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Encode {
    #[serde(deserialize_with = "backend")]
    pub backend: Backend,
    /// 0: by mode.
    #[serde(deserialize_with = "bitrate")]
    pub bitrate_kbps: u32,
    pub full_range: bool,
    /// Whether each session has a second encoder waiting for the first one's end.
    pub standby: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Audio {
    pub enabled: bool,
    /// Where a client wishes for no sink of its own.
    #[serde(deserialize_with = "sink")]
    pub sink: SinkChoice,
    /// Applied before encoding, in tenths of a decibel.
    #[serde(rename = "gain_db", deserialize_with = "gain")]
    pub gain_decibels_tenths: i16,
    /// PipeWire's; none to look where it usually is.
    #[serde(deserialize_with = "path")]
    pub socket: Option<PathBuf>,
}

#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    pub enabled: bool,
    pub backend: HandsChoice,
    /// Names of xkb's, as in `setxkbmap`; an empty one is xkb's own default.
    #[serde(deserialize_with = "xkb_name")]
    pub layout: String,
    #[serde(deserialize_with = "xkb_name")]
    pub variant: String,
    #[serde(deserialize_with = "xkb_name")]
    pub model: String,
    #[serde(deserialize_with = "xkb_name")]
    pub options: String,
}

/// What pointer and keyboard become. Gamepads are the kernel's in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HandsChoice {
    /// The compositor's virtual devices where there is a compositor, else the kernel's.
    Auto,
    Wlroots,
    Uinput,
    /// Nothing.
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Run {
    /// The user that lumend becomes when it is started as root; never 0. The group has the same number.
    #[serde(deserialize_with = "uid")]
    pub uid: u32,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: Address::Auto, port: 47800, media_port: None }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self { max: 4 }
    }
}

impl Default for Desktop {
    fn default() -> Self {
        Self { kind: DesktopKind::Auto, exec: "foot".to_owned() }
    }
}

impl Default for Display {
    fn default() -> Self {
        Self { source: DisplaySource::Virtual, refresh_multiple: 1 }
    }
}

impl Default for Audio {
    fn default() -> Self {
        Self { enabled: true, sink: SinkChoice::Auto, gain_decibels_tenths: 0, socket: None }
    }
}

impl Default for Input {
    fn default() -> Self {
        let none = String::new;
        let layout = "us".to_owned();
        Self { enabled: true, backend: HandsChoice::Auto, layout, variant: none(), model: none(), options: none() }
    }
}

impl Default for Encode {
    fn default() -> Self {
        Self { backend: Backend::Auto, bitrate_kbps: 0, full_range: false, standby: false }
    }
}

impl Default for Run {
    fn default() -> Self {
        Self { uid: 64555 }
    }
}

impl Listen {
    /// UDP port of the media: the one configured, else the next above [`Self::port`]; 0 lets the kernel choose.
    pub fn media_port(&self) -> u16 {
        self.media_port.unwrap_or(if self.port == 0 { 0 } else { self.port.saturating_add(1) })
    }
}

impl Config {
    /// Reads a file that must exist.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// Reads a file that may be missing.
    pub fn load_or_default(path: &Path) -> Result<Self, ConfigError> {
        match Self::load(path) {
            Err(ConfigError::Read { error, .. }) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            other => other,
        }
    }

    /// Reads the text of a file; `path` is named in errors.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let (line, key) = place(text, at);
            // A message of the parser may have several lines; the first says what is wrong.
            let reason = error.message().lines().next().unwrap_or("not TOML").to_owned();
            ConfigError::Key { path: path.to_owned(), line, key, reason }
        })?;
        let listen = config.listen;
        if listen.port != 0 && (listen.port == listen.media_port()) {
            let (line, key) = text.find("port").map_or((1, "listen.port".to_owned()), |at| place(text, at));
            let reason = "QUIC and media need different ports".to_owned();
            return Err(ConfigError::Key { path: path.to_owned(), line, key, reason });
        }
        // Tried at once, so that a mistake has its line; a keymap that nobody chose is no mistake of this file.
        if config.input != Input::default()
            && let Err(error) = keymap::compile(&config.input)
        {
            let at = text.find("[input]").unwrap_or(0);
            let at = at + text[at..].find("layout").or_else(|| text[at..].find("variant")).unwrap_or(0);
            let (line, key) = place(text, at);
            return Err(ConfigError::Key { path: path.to_owned(), line, key, reason: error.to_string() });
        }
        Ok(config)
    }
}

/// The line of a byte offset, from 1, and the dotted key that stands there.
fn place(text: &str, at: usize) -> (usize, String) {
    let before = text.get(..at).unwrap_or(text);
    let number = before.matches('\n').count() + 1;
    let mut table = "";
    let mut key = "";
    for line in text.lines().take(number) {
        let line = line.trim();
        if line.starts_with('[') {
            table = line.trim_start_matches('[').split(']').next().unwrap_or_default().trim();
            key = "";
        } else if let Some((name, _)) = line.split_once('=') {
            key = name.trim();
        }
    }
    match (table, key) {
        ("", key) => (number, key.to_owned()),
        (table, "") => (number, table.to_owned()),
        (table, key) => (number, format!("{table}.{key}")),
    }
}

#[cfg(test)]
mod tests;
