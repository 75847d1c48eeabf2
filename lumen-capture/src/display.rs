//! Where pictures come from: one trait, so that another protocol (ext-image-copy-capture, PipeWire) is one more file.
//!
//! A display is driven by the plane's loop and never blocks: the loop polls [`Display::fd`], calls
//! [`Display::dispatch`] when it is readable or when [`Display::deadline`] has passed, and reads what happened from the
//! event list. Times are arguments.

pub mod synthetic;
pub mod wlroots;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc::shm::Mapping;
use ipc::{FrameFormat, PixelFormat};

/// What a display tells the loop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// The source has been looked at; this is the shape of every buffer it will fill.
    Opened(FrameFormat),
    /// The buffer given to [`Display::begin`] holds a whole picture and belongs to the loop again.
    Ready(Frame),
}

/// One captured picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Index in the pool.
    pub buffer: u32,
    /// When the picture came to be, CLOCK_MONOTONIC in nanoseconds; each display says what it means by that.
    pub captured_ns: u64,
}

/// Why a display ended.
#[derive(Debug, thiserror::Error)]
pub enum DisplayError {
    /// The compositor went away; only a fresh connection helps, and that is lumend's to make.
    #[error("{0}")]
    Gone(String),
    /// The source cannot be captured as it is now. The text is for people.
    #[error("{0}")]
    Failed(String),
}

/// A source of pictures. All methods return at once.
pub trait Display {
    /// The descriptor to wait on for reading, if the source has one.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// When to call [`Display::dispatch`] although nothing became readable; CLOCK_MONOTONIC in nanoseconds.
    fn deadline(&self) -> Option<u64>;

    /// Takes a generation's pool, in place of the one before; pictures in flight are forgotten. The next picture is a
    /// full one, whatever the source thinks has changed since.
    ///
    /// # Errors
    /// `Failed` if `format` is not what [`Event::Opened`] said or a buffer is too small.
    fn attach(&mut self, format: FrameFormat, buffers: Vec<OwnedFd>, now_ns: u64) -> Result<(), DisplayError>;

    /// Gives the pool back: no buffer is written from here on.
    fn detach(&mut self, now_ns: u64);

    /// Whether [`Display::begin`] may be called: it has a pool and no buffer in flight.
    fn wants_buffer(&self) -> bool;

    /// Hands over a buffer for the next picture.
    fn begin(&mut self, buffer: u32, now_ns: u64);

    /// Draws the newest picture of the pool before into this buffer of the present one, to be shown until the source
    /// has made another; none if there is no such picture, or it is older than that, or the source is quick itself.
    fn again(&mut self, _buffer: u32, _now_ns: u64) -> Option<Frame> {
        None
    }

    /// Moves on: reads what is readable, does what is due, appends what happened.
    fn dispatch(&mut self, now_ns: u64, events: &mut Vec<Event>) -> Result<(), DisplayError>;
}

/// The largest width or height of a buffer that is believed.
const MAX_SIDE: u32 = 8192;

/// Checks a buffer shape that came from outside.
///
/// # Errors
/// `Failed`, naming the shape, if it is not one a sane compositor asks for: sides of 1..=8192 pixels, four bytes a
/// pixel, and at most a page of padding a row.
fn checked_format(pixels: PixelFormat, width: u32, height: u32, stride: u32) -> Result<FrameFormat, DisplayError> {
    let sides = 1..=MAX_SIDE;
    if !sides.contains(&width) || !sides.contains(&height) || !(width * 4..=width * 4 + 4096).contains(&stride) {
        return Err(DisplayError::Failed(format!(
            "the compositor asks for a buffer of {width}x{height} pixels with {stride} bytes a row, which cannot be"
        )));
    }
    // Both fit: at most 8192.
    Ok(FrameFormat { pixels, width: width as u16, height: height as u16, stride })
}

/// A pool's buffers on this side, where their pages are made, so that nobody's copy into one pays for them. That takes
/// a millisecond for each at 1280x720: the first picture waits for its own buffer's alone.
#[derive(Default)]
struct Buffers {
    mapped: Vec<Mapping>,
    /// Those that have no pages yet.
    bare: Vec<u32>,
}

impl Buffers {
    /// Maps them for writing.
    fn map(buffers: &[OwnedFd], format: FrameFormat) -> Result<Self, DisplayError> {
        let mapped: Result<Vec<_>, _> =
            buffers.iter().map(|fd| Mapping::read_write(fd.as_fd(), format.size())).collect();
        let mapped = mapped.map_err(|error| DisplayError::Failed(format!("the pool cannot be used: {error}")))?;
        Ok(Self { bare: (0..mapped.len() as u32).collect(), mapped })
    }

    fn is_empty(&self) -> bool {
        self.mapped.is_empty()
    }

    fn pixels(&mut self, index: u32) -> Option<&mut [u8]> {
        self.mapped.get_mut(index as usize).and_then(Mapping::as_mut_slice)
    }

    /// Takes one out, and lets go of the others.
    fn into_one(mut self, index: u32) -> Option<Mapping> {
        let index = index as usize;
        (index < self.mapped.len()).then(|| self.mapped.swap_remove(index))
    }

    /// This one is about to be drawn on.
    fn populate(&mut self, index: u32) {
        if let Some(at) = self.bare.iter().position(|&bare| bare == index)
            && let Some(mapping) = self.mapped.get(index as usize)
        {
            self.bare.swap_remove(at);
            mapping.prefault();
        }
    }

    /// Nobody waits at the moment: one more, if there is one.
    fn populate_another(&mut self) {
        if let Some(&index) = self.bare.first() {
            self.populate(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_from_outside_are_bounded() {
        let shape = |w, h, s| checked_format(PixelFormat::Bgrx, w, h, s).ok();
        assert_eq!(shape(1280, 720, 5120).map(|f| f.size()), Some(1280 * 720 * 4));
        assert!(shape(1280, 720, 5376).is_some(), "padding is fine");
        for (w, h, s) in [(0, 720, 5120), (1280, 0, 5120), (1280, 720, 5119), (1280, 720, 9217), (8193, 8, 32772)] {
            assert_eq!(shape(w, h, s), None, "{w}x{h} stride {s}");
        }
        assert_eq!(shape(u32::MAX, u32::MAX, u32::MAX), None);
    }
}
