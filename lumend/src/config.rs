//! The configuration file. Every key has a default, so that no file is needed; `docs/config.md` documents each.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipc::{Backend, SinkChoice};
use serde::{Deserialize, Deserializer};

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
    pub sessions: Sessions,
    pub desktop: Desktop,
    pub display: Display,
    pub encode: Encode,
    pub audio: Audio,
    pub input: Input,
    pub run: Run,
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
    /// Loopback while no client is allowed, every address afterwards.
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
    /// The sway session that lumend finds in its environment.
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
    #[serde(deserialize_with = "socket")]
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
        Self { backend: Backend::Auto, bitrate_kbps: 0, full_range: false }
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
        if let Some(name) = line.strip_prefix('[') {
            table = name.split(']').next().unwrap_or_default().trim();
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

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            other => other
                .parse()
                .map(Self::Ip)
                .map_err(|_| serde::de::Error::custom(format!("{other:?} is neither \"auto\" nor an IP address"))),
        }
    }
}

impl<'de> Deserialize<'de> for DisplaySource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match (text.as_str(), text.strip_prefix("output:")) {
            ("virtual", _) => Ok(Self::Virtual),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Output(name.to_owned())),
            _ => Err(serde::de::Error::custom(format!("{text:?} is neither \"virtual\" nor \"output:NAME\""))),
        }
    }
}

fn backend<'de, D: Deserializer<'de>>(from: D) -> Result<Backend, D::Error> {
    match String::deserialize(from)?.as_str() {
        "auto" => Ok(Backend::Auto),
        "openh264" => Ok(Backend::OpenH264),
        "x264" => Ok(Backend::X264),
        other => Err(serde::de::Error::custom(format!("{other:?} is not \"auto\", \"openh264\" or \"x264\""))),
    }
}

fn bitrate<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        rate if rate == 0 || (1_000..=100_000).contains(&rate) => Ok(rate),
        rate => Err(serde::de::Error::custom(format!("{rate} is neither 0 nor between 1000 and 100000"))),
    }
}

fn sessions<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        max if (1..=16).contains(&max) => Ok(max),
        max => Err(serde::de::Error::custom(format!("{max} is not between 1 and 16"))),
    }
}

fn refresh_multiple<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        multiple if (1..=4).contains(&multiple) => Ok(multiple),
        multiple => Err(serde::de::Error::custom(format!("{multiple} is not between 1 and 4"))),
    }
}

fn sink<'de, D: Deserializer<'de>>(from: D) -> Result<SinkChoice, D::Error> {
    match String::deserialize(from)?.as_str() {
        "auto" => Ok(SinkChoice::Auto),
        "monitor" => Ok(SinkChoice::Monitor),
        "own" => Ok(SinkChoice::Own),
        other => Err(serde::de::Error::custom(format!("{other:?} is not \"auto\", \"monitor\" or \"own\""))),
    }
}

/// Tenths of a decibel from decibels.
fn gain<'de, D: Deserializer<'de>>(from: D) -> Result<i16, D::Error> {
    match f64::deserialize(from)? {
        decibels if (-40.0..=20.0).contains(&decibels) => Ok((decibels * 10.0).round() as i16),
        decibels => Err(serde::de::Error::custom(format!("{decibels} is not between -40 and 20"))),
    }
}

fn socket<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(from)?;
    match path.as_os_str().is_empty() {
        true => Ok(None),
        false if path.is_absolute() => Ok(Some(path)),
        false => Err(serde::de::Error::custom(format!("{path:?} is not an absolute path"))),
    }
}

/// A list of xkb's names and nothing that could be more than that.
fn xkb_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b",:_-()+".contains(&byte);
    if name.len() > 256 || !name.bytes().all(plain) {
        return Err(serde::de::Error::custom(format!("{name:?} is not a name of xkb's, such as \"de\" or \"us,ru\"")));
    }
    Ok(name)
}

fn uid<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        0 => Err(serde::de::Error::custom("nothing of Lumen runs as root; name another user's number")),
        u32::MAX => Err(serde::de::Error::custom("4294967295 is no user's number")),
        uid => Ok(uid),
    }
}

fn one_line<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.chars().any(char::is_control) {
        return Err(serde::de::Error::custom("a command is one line without control characters"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
