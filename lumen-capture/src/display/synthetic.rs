//! The synthetic desktop as a display: [`Pattern`] at the mode's exact rate.
//!
//! A picture is drawn as soon as there is a buffer for it and completed with its stamp when it is due, so that the
//! drawing, which stands for an application's work, delays nothing. [`Frame::captured_ns`] is the time in the stamp.

use std::os::fd::{BorrowedFd, OwnedFd};

use ipc::{FrameFormat, PixelFormat};
use lumen_core::Mode;

use super::{Buffers, Display, DisplayError, Event, Frame};
use crate::pattern::{Cadence, Pattern};

/// The pattern source of one session.
pub struct Synthetic {
    format: FrameFormat,
    pattern: Pattern,
    cadence: Cadence,
    opened: bool,
    buffers: Buffers,
    /// The buffer that holds the next picture, complete but for its stamp.
    drawn: Option<u32>,
    /// Counts pictures, not refreshes: a gap at the receiving end is then a picture lost on the way.
    number: u32,
}

impl Synthetic {
    /// A desktop of exactly `mode`, whose first picture is due at `now_ns`.
    pub fn new(mode: Mode, now_ns: u64) -> Self {
        let (width, height) = (mode.width(), mode.height());
        let format = FrameFormat { pixels: PixelFormat::Bgrx, width, height, stride: u32::from(width) * 4 };
        Self {
            format,
            pattern: Pattern::new(format),
            cadence: Cadence::new(mode, now_ns),
            opened: false,
            buffers: Buffers::default(),
            drawn: None,
            number: 0,
        }
    }
}

impl Display for Synthetic {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn deadline(&self) -> Option<u64> {
        let waiting = !self.opened || self.drawn.is_some();
        waiting.then(|| self.cadence.deadline())
    }

    fn attach(&mut self, format: FrameFormat, buffers: Vec<OwnedFd>, now_ns: u64) -> Result<(), DisplayError> {
        self.detach(now_ns);
        if format != self.format {
            return Err(DisplayError::Failed(
                "the pool does not have the shape that the pattern was opened with".into(),
            ));
        }
        self.buffers = Buffers::map(&buffers, format)?;
        Ok(())
    }

    fn detach(&mut self, _now_ns: u64) {
        self.drawn = None;
        self.buffers = Buffers::default();
        self.pattern.forget();
    }

    fn wants_buffer(&self) -> bool {
        self.drawn.is_none() && !self.buffers.is_empty()
    }

    fn begin(&mut self, buffer: u32, _now_ns: u64) {
        self.buffers.populate(buffer);
        if let Some(pixels) = self.buffers.pixels(buffer) {
            self.pattern.draw(buffer as usize, pixels, self.number);
            self.drawn = Some(buffer);
        }
    }

    fn dispatch(&mut self, now_ns: u64, events: &mut Vec<Event>) -> Result<(), DisplayError> {
        if !self.opened {
            self.opened = true;
            events.push(Event::Opened(self.format));
        }
        let Some(buffer) = self.drawn else { return Ok(()) };
        if !self.cadence.due(now_ns) {
            return Ok(());
        }
        if let Some(pixels) = self.buffers.pixels(buffer) {
            self.pattern.stamp(pixels, self.number, now_ns);
            self.number = self.number.wrapping_add(1);
            self.drawn = None;
            events.push(Event::Ready(Frame { buffer, captured_ns: now_ns }));
        }
        Ok(())
    }
}
