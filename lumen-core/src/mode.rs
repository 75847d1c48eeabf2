//! What a client asks a screen to be, and what it gets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A screen mode whose every value is one the host can make: even width and height in pixels, refresh in millihertz.
///
/// The bounds are those of the embedded encoder (H.264 level 5.2) and of a useful desktop; see [`Mode::new`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawMode", into = "RawMode")]
pub struct Mode {
    width: u16,
    height: u16,
    refresh_mhz: u32,
}

/// A mode as it crosses a border: not yet checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RawMode {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
    /// Thousandths of a hertz.
    pub refresh_mhz: u32,
}

/// Why a mode was refused. The text is meant for the person who asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ModeError {
    #[error("{width}x{height} is not a size this host can make (128x96 to 4096x2304, even numbers)")]
    Size { width: u16, height: u16 },
    #[error("{}.{:03} Hz is not a rate this host can make (10 to 360 Hz)", refresh_mhz / 1000, refresh_mhz % 1000)]
    Rate { refresh_mhz: u32 },
    #[error("a mode is WIDTHxHEIGHTxHZ, for example 1280x720x60")]
    Syntax,
}

impl Mode {
    /// Checks a mode: 128..=4096 by 96..=2304, both even, 10 to 360 Hz.
    pub fn new(width: u16, height: u16, refresh_mhz: u32) -> Result<Self, ModeError> {
        let even = width.is_multiple_of(2) && height.is_multiple_of(2);
        if !(128..=4096).contains(&width) || !(96..=2304).contains(&height) || !even {
            return Err(ModeError::Size { width, height });
        }
        if !(10_000..=360_000).contains(&refresh_mhz) {
            return Err(ModeError::Rate { refresh_mhz });
        }
        Ok(Self { width, height, refresh_mhz })
    }

    /// Pixels.
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Pixels.
    pub const fn height(self) -> u16 {
        self.height
    }

    /// Thousandths of a hertz.
    pub const fn refresh_mhz(self) -> u32 {
        self.refresh_mhz
    }

    /// Nanoseconds from one frame to the next.
    pub const fn frame_interval_ns(self) -> u64 {
        1_000_000_000_000 / self.refresh_mhz as u64
    }
}

impl TryFrom<RawMode> for Mode {
    type Error = ModeError;

    fn try_from(raw: RawMode) -> Result<Self, ModeError> {
        Self::new(raw.width, raw.height, raw.refresh_mhz)
    }
}

impl From<Mode> for RawMode {
    fn from(mode: Mode) -> Self {
        Self { width: mode.width, height: mode.height, refresh_mhz: mode.refresh_mhz }
    }
}

impl FromStr for RawMode {
    type Err = ModeError;

    /// Reads `1280x720x60`, `1280x720@60` or `1280x720@59.94`; bounds are checked by [`Mode::try_from`], so that a
    /// client can carry a wish it knows nothing about and the host can refuse it with its own reason.
    fn from_str(text: &str) -> Result<Self, ModeError> {
        let (width, rest) = text.split_once('x').ok_or(ModeError::Syntax)?;
        let (height, rate) = rest.split_once(['x', '@']).ok_or(ModeError::Syntax)?;
        let hertz: f64 = rate.parse().map_err(|_| ModeError::Syntax)?;
        if !(0.0..=4_000_000.0).contains(&hertz) {
            return Err(ModeError::Syntax);
        }
        Ok(Self {
            width: width.parse().map_err(|_| ModeError::Syntax)?,
            height: height.parse().map_err(|_| ModeError::Syntax)?,
            refresh_mhz: (hertz * 1000.0).round() as u32,
        })
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}@{}", self.width, self.height, self.refresh_mhz / 1000)?;
        match self.refresh_mhz % 1000 {
            0 => Ok(()),
            rest => write!(f, ".{rest:03}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Mode, ModeError> {
        text.parse::<RawMode>().and_then(Mode::try_from)
    }

    #[test]
    fn reads_and_prints_modes() {
        assert_eq!(parse("1280x720x60").unwrap().to_string(), "1280x720@60");
        assert_eq!(parse("1920x1080@59.94").unwrap().to_string(), "1920x1080@59.940");
        assert_eq!(parse("1280x720x60").unwrap().frame_interval_ns(), 16_666_666);
    }

    #[test]
    fn refuses_what_it_cannot_make() {
        for text in ["0x0x60", "20000x20000x60", "1281x720x60", "1280x720x1", "1280x720x1000"] {
            assert!(matches!(parse(text), Err(ModeError::Size { .. } | ModeError::Rate { .. })), "{text}");
        }
        for text in ["", "1280", "1280x720", "1280x720x", "axbxc", "1280x720xNaN", "-1x720x60", "99999x1x60"] {
            assert_eq!(parse(text), Err(ModeError::Syntax), "{text}");
        }
    }
}
