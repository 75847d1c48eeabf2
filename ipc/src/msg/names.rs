//! How names of planes and fingerprints are written for people and read back.

use std::fmt;
use std::str::FromStr;

use super::{Fingerprint, FrameFormat, Generation, PlaneKind, SessionId};

/// Why a word names no plane, or a string no fingerprint.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    #[error("a plane is one of capture, encode, net")]
    Plane,
    #[error("a fingerprint is 64 hexadecimal digits, with or without colons between the bytes")]
    Fingerprint,
}

impl PlaneKind {
    pub const ALL: [Self; 3] = [Self::Capture, Self::Encode, Self::Net];

    /// "capture", "encode", "net".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Encode => "encode",
            Self::Net => "net",
        }
    }
}

impl fmt::Display for PlaneKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PlaneKind {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or(NameError::Plane)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = NameError;

    /// Reads 64 hex digits of either case, with or without a colon between bytes.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let separated = text.contains(':');
        let mut rest = text.as_bytes();
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            if separated && index > 0 {
                rest = rest.strip_prefix(b":").ok_or(NameError::Fingerprint)?;
            }
            let (digits, after) = rest.split_at_checked(2).ok_or(NameError::Fingerprint)?;
            for digit in digits {
                let value = char::from(*digit).to_digit(16).ok_or(NameError::Fingerprint)?;
                *byte = *byte << 4 | value as u8;
            }
            rest = after;
        }
        if rest.is_empty() { Ok(Self(bytes)) } else { Err(NameError::Fingerprint) }
    }
}

/// A format that no picture can have; the text is for the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a picture of {width}x{height} with rows of {stride} bytes is not one this host can take")]
pub struct FormatError {
    width: u16,
    height: u16,
    stride: u32,
}

impl FrameFormat {
    /// Checks what a plane reported: even 16..=8192 pixels each way, rows of whole pixels that hold the width and
    /// waste at most 4 KiB.
    pub fn check(&self) -> Result<(), FormatError> {
        let side = |pixels: u16| (16..=8192).contains(&pixels) && pixels.is_multiple_of(2);
        let row = u32::from(self.width) * 4;
        let good = side(self.width)
            && side(self.height)
            && (row..=row + 4096).contains(&self.stride)
            && self.stride.is_multiple_of(4);
        if good {
            return Ok(());
        }
        Err(FormatError { width: self.width, height: self.height, stride: self.stride })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::msg::PixelFormat;

    #[test]
    fn fingerprints_round_trip() {
        let mut bytes = [0xa5; 32];
        bytes[31] = 0x0f;
        let fingerprint = Fingerprint(bytes);
        let text = fingerprint.to_string();
        assert_eq!(text.parse(), Ok(fingerprint));
        assert_eq!(text.to_uppercase().parse(), Ok(fingerprint));
        let pairs: Vec<&str> = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        assert_eq!(pairs.join(":").parse(), Ok(fingerprint));
        let wrong = ["", "a5", &text[1..], &format!("{text}0"), &text.replace('a', "g"), &text.replace('a', "+")];
        for text in wrong.into_iter().chain(["é".repeat(32).as_str(), ":".repeat(95).as_str()]) {
            assert_eq!(text.parse::<Fingerprint>(), Err(NameError::Fingerprint), "{text}");
        }
    }

    #[test]
    fn planes_are_named_in_lower_case() {
        for kind in PlaneKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("Net".parse::<PlaneKind>(), Err(NameError::Plane));
    }

    #[test]
    fn formats_are_bounded() {
        let format = |width, height, stride| FrameFormat { pixels: PixelFormat::Bgrx, width, height, stride }.check();
        assert_eq!(format(1280, 720, 5120), Ok(()));
        assert_eq!(format(1280, 720, 5376), Ok(()));
        for (width, height, stride) in [
            (0, 720, 5120),
            (1280, 0, 5120),
            (1281, 720, 5124),
            (65_534, 720, 262_136),
            (1280, 720, 5116),
            (1280, 720, 5121),
            (1280, 720, u32::MAX),
        ] {
            assert!(format(width, height, stride).is_err(), "{width}x{height}/{stride}");
        }
    }
}
