//! How the values of the configuration are read: what is impossible is an error that says what would be possible.

use std::path::PathBuf;

use ipc::{Backend, SinkChoice};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::{Address, DisplaySource};

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match text.as_str() {
            "auto" => Ok(Self::Auto),
            other => other
                .parse()
                .map(Self::Ip)
                .map_err(|_| Error::custom(format!("{other:?} is neither \"auto\" nor an IP address"))),
        }
    }
}

impl<'de> Deserialize<'de> for DisplaySource {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        match (text.as_str(), text.strip_prefix("output:")) {
            ("virtual", _) => Ok(Self::Virtual),
            (_, Some(name)) if !name.is_empty() => Ok(Self::Output(name.to_owned())),
            _ => Err(Error::custom(format!("{text:?} is neither \"virtual\" nor \"output:NAME\""))),
        }
    }
}

pub fn backend<'de, D: Deserializer<'de>>(from: D) -> Result<Backend, D::Error> {
    match String::deserialize(from)?.as_str() {
        "auto" => Ok(Backend::Auto),
        "openh264" => Ok(Backend::OpenH264),
        "x264" => Ok(Backend::X264),
        other => Err(Error::custom(format!("{other:?} is not \"auto\", \"openh264\" or \"x264\""))),
    }
}

pub fn bitrate<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        rate if rate == 0 || (1_000..=100_000).contains(&rate) => Ok(rate),
        rate => Err(Error::custom(format!("{rate} is neither 0 nor between 1000 and 100000"))),
    }
}

pub fn sessions<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        max if (1..=16).contains(&max) => Ok(max),
        max => Err(Error::custom(format!("{max} is not between 1 and 16"))),
    }
}

pub fn refresh_multiple<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        multiple if (1..=4).contains(&multiple) => Ok(multiple),
        multiple => Err(Error::custom(format!("{multiple} is not between 1 and 4"))),
    }
}

pub fn sink<'de, D: Deserializer<'de>>(from: D) -> Result<SinkChoice, D::Error> {
    match String::deserialize(from)?.as_str() {
        "auto" => Ok(SinkChoice::Auto),
        "monitor" => Ok(SinkChoice::Monitor),
        "own" => Ok(SinkChoice::Own),
        other => Err(Error::custom(format!("{other:?} is not \"auto\", \"monitor\" or \"own\""))),
    }
}

/// Tenths of a decibel from decibels.
pub fn gain<'de, D: Deserializer<'de>>(from: D) -> Result<i16, D::Error> {
    match f64::deserialize(from)? {
        decibels if (-40.0..=20.0).contains(&decibels) => Ok((decibels * 10.0).round() as i16),
        decibels => Err(Error::custom(format!("{decibels} is not between -40 and 20"))),
    }
}

pub fn path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let path = PathBuf::deserialize(from)?;
    match path.as_os_str().is_empty() {
        true => Ok(None),
        false if path.is_absolute() => Ok(Some(path)),
        false => Err(Error::custom(format!("{path:?} is not an absolute path"))),
    }
}

/// A list of xkb's names and nothing that could be more than that.
pub fn xkb_name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b",:_-()+".contains(&byte);
    if name.len() > 256 || !name.bytes().all(plain) {
        return Err(Error::custom(format!("{name:?} is not a name of xkb's, such as \"de\" or \"us,ru\"")));
    }
    Ok(name)
}

pub fn uid<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    match u32::deserialize(from)? {
        0 => Err(Error::custom("nothing of Lumen runs as root; name another user's number")),
        u32::MAX => Err(Error::custom("4294967295 is no user's number")),
        uid => Ok(uid),
    }
}

pub fn one_line<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.chars().any(char::is_control) {
        return Err(Error::custom("a command is one line without control characters"));
    }
    Ok(text)
}

/// Several of them; none is empty.
pub fn lines<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    /// As an entry of a list.
    #[derive(Deserialize)]
    struct Line(#[serde(deserialize_with = "one_line")] String);

    const MOST: usize = 16;
    let lines: Vec<_> = Vec::<Line>::deserialize(from)?.into_iter().map(|line| line.0).collect();
    if lines.len() > MOST || lines.iter().any(String::is_empty) {
        return Err(Error::custom(format!("at most {MOST} commands, and no empty one")));
    }
    Ok(lines)
}
