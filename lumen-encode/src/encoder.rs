//! What every encoder does, and the choice among those built in.

use ipc::{Backend, Colour, EncodeSettings, Matrix};
use lumen_core::Mode;

use crate::I420;

/// What a stream is to be. Its size and rate stay for an encoder's life, its bitrate may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    pub mode: Mode,
    /// Thousands of bits a second, of slices alone.
    pub bitrate_kbps: u32,
    /// What the pictures' samples mean; signalled in the stream.
    pub colour: Colour,
}

impl Settings {
    pub fn new(mode: Mode, settings: &EncodeSettings) -> Self {
        Self { mode, bitrate_kbps: settings.bitrate_kbps, colour: settings.colour }
    }
}

/// One or more whole NAL units of a picture, start codes included. A picture's slices, one after the other, are its
/// access unit; parameter sets travel with the first slice of an IDR, and nothing else comes before it: Moonlight looks
/// for it in the first packet alone.
#[derive(Clone, Copy, Debug)]
pub struct Slice<'a> {
    pub bytes: &'a [u8],
    /// Belongs to an IDR picture.
    pub idr: bool,
    pub first: bool,
    pub last: bool,
}

/// Where slices go, called as each one is finished and before the picture is, from whichever thread has finished it.
pub type Sink<'a> = dyn FnMut(Slice<'_>) + Send + 'a;

/// How to encode one picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    /// As the rate control likes. Never an IDR, except for the first picture.
    Delta,
    /// As an IDR.
    Idr,
    /// As an IDR so coarse that it fits where the same picture did not.
    CoarseIdr,
}

/// The quantiser of [`Coding::CoarseIdr`], of 0..=51. A picture of pure noise takes about a tenth of its I420 bytes.
pub(crate) const COARSE_QP: i32 = 48;

/// The most and least that rate controls are asked for: beyond, their 32-bit arithmetic overflows or they refuse.
const BITRATE_KBPS: std::ops::RangeInclusive<u32> = 100..=1_000_000;

/// Why an encoder could not be had, or stopped. The text is meant for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EncodeError {
    #[error(
        "this build has no x264 encoder: build lumen-encode with `--features x264`, or set [encode] backend = \"auto\""
    )]
    NotBuiltIn,
    #[error("openh264 encodes up to 3840x2160, not {0}: ask for a smaller mode")]
    TooLarge(Mode),
    #[error("{encoder} failed to {what} (code {code})")]
    Library { encoder: &'static str, what: &'static str, code: i32 },
    #[error("the picture is not of the encoder's mode")]
    WrongSize,
}

/// A running H.264 encoder: no frame is held back, no picture reordered, no IDR sent but the first and those asked for.
pub trait Encoder {
    /// As in `lumend status`.
    fn name(&self) -> &'static str;

    /// Encodes a picture and gives every slice to `sink`, in order, the last one marked.
    fn encode(&mut self, picture: &I420, coding: Coding, sink: &mut Sink<'_>) -> Result<(), EncodeError>;

    /// Takes effect with the next picture, without an IDR.
    fn set_bitrate(&mut self, kbps: u32) -> Result<(), EncodeError>;
}

/// Starts the encoder that a configuration names, on all cores; `Auto` is x264 where it is built in, else openh264.
pub fn open(backend: Backend, settings: Settings) -> Result<Box<dyn Encoder>, EncodeError> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| u16::try_from(cores.get()).unwrap_or(u16::MAX));
    open_on(cores, backend, settings)
}

/// [`open`] with a thread for each of so many cores, as far as the encoder has work for them.
pub fn open_on(cores: u16, backend: Backend, settings: Settings) -> Result<Box<dyn Encoder>, EncodeError> {
    match backend {
        Backend::OpenH264 => Ok(Box::new(crate::openh264::OpenH264::open(settings, cores)?)),
        #[cfg(feature = "x264")]
        Backend::X264 | Backend::Auto => Ok(Box::new(crate::x264::X264::open(settings, cores)?)),
        #[cfg(not(feature = "x264"))]
        Backend::Auto => Ok(Box::new(crate::openh264::OpenH264::open(settings, cores)?)),
        #[cfg(not(feature = "x264"))]
        Backend::X264 => Err(EncodeError::NotBuiltIn),
    }
}

/// Every backend of this build, the preferred one first.
pub const BUILT_IN: &[Backend] =
    if cfg!(feature = "x264") { &[Backend::X264, Backend::OpenH264] } else { &[Backend::OpenH264] };

/// Primaries, transfer and matrix as a stream signals them (ITU-T H.264 tables E-3 to E-5). BT.601's are SMPTE 170M's
/// throughout: a desktop's primaries are BT.709's still, but decoders know whole standards better than mixtures.
pub(crate) const fn description(matrix: Matrix) -> [u8; 3] {
    match matrix {
        Matrix::Bt601 => [6; 3],
        Matrix::Bt709 => [1; 3],
    }
}

/// Brings a wish for a bitrate to what an encoder can be asked for.
pub(crate) fn clamp_bitrate(kbps: u32) -> i32 {
    kbps.clamp(*BITRATE_KBPS.start(), *BITRATE_KBPS.end()) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(width: u16, height: u16) -> Settings {
        let colour = Colour { matrix: Matrix::Bt709, full_range: false };
        Settings { mode: Mode::new(width, height, 60_000).unwrap(), bitrate_kbps: 5_000, colour }
    }

    #[test]
    fn auto_prefers_x264_where_it_is_built_in() {
        let name = open(Backend::Auto, settings(320, 240)).unwrap().name();
        assert_eq!(name, if cfg!(feature = "x264") { "x264" } else { "openh264" });
    }

    #[cfg(not(feature = "x264"))]
    #[test]
    fn asking_for_what_is_not_built_in_says_how_to_get_it() {
        let error = open(Backend::X264, settings(320, 240)).err().unwrap();
        assert!(error.to_string().contains("--features x264"), "{error}");
    }

    #[test]
    fn openh264_refuses_a_picture_beyond_its_level() {
        let error = open(Backend::OpenH264, settings(4096, 2304)).err().unwrap();
        assert!(error.to_string().contains("3840x2160"), "{error}");
    }
}
