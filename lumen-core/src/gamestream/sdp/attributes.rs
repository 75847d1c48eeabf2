//! The `a=` lines of a session description.

use std::str;

use super::{AnnounceError, MAX_ANNOUNCE};

/// Most lines; Moonlight clients send about sixty.
const MAX_LINES: usize = 512;

/// Names and values, the latter without the space that clients put after them.
pub(super) struct Attributes<'a> {
    list: Vec<(&'a str, &'a str)>,
}

impl<'a> Attributes<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, AnnounceError> {
        if body.len() > MAX_ANNOUNCE {
            return Err(AnnounceError::Malformed);
        }
        let text = str::from_utf8(body).map_err(|_| AnnounceError::Malformed)?;
        if text.lines().count() > MAX_LINES {
            return Err(AnnounceError::Malformed);
        }
        let attribute = |line: &'a str| {
            let (name, value) = line.strip_prefix("a=")?.split_once(':')?;
            Some((name.trim(), value.trim()))
        };
        Ok(Self { list: text.lines().filter_map(attribute).collect() })
    }

    /// A value that must be a decimal number of 32 bits; `None` if the attribute is not there. Of two, the last counts.
    pub(super) fn number(&self, name: &'static str) -> Result<Option<u32>, AnnounceError> {
        let value = self.list.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let Some(value) = value else { return Ok(None) };
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        if !digits {
            return Err(AnnounceError::Value(name));
        }
        value.parse().map(Some).map_err(|_| AnnounceError::Value(name))
    }
}
