//! How names of planes are written for people and read back.

use std::fmt;
use std::str::FromStr;

use super::{FrameFormat, Generation, PlaneKind, SessionId};

/// Why a word names no plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    #[error("a plane is one of capture, encode, net, input, audio")]
    Plane,
}

impl PlaneKind {
    pub const ALL: [Self; 5] = [Self::Capture, Self::Encode, Self::Net, Self::Input, Self::Audio];

    /// "capture", "encode", "net", "input", "audio".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Capture => "capture",
            Self::Encode => "encode",
            Self::Net => "net",
            Self::Input => "input",
            Self::Audio => "audio",
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
