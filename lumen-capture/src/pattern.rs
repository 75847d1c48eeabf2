//! The synthetic desktop: a wallpaper, windows that drift across it, a line of text-like blocks that scrolls, and a
//! [`Stamp`] in the corner that says which frame this is and when it was drawn.
//!
//! Only what moves is drawn again, by copying rows out of pictures prepared once, so that a frame costs a fraction of
//! what converting and encoding it does. The picture depends on the frame number alone (the stamp on the time too).

mod cadence;
mod scenery;

use ipc::FrameFormat;
use lumen_core::stamp::{self, Stamp};

pub use cadence::Cadence;
use scenery::{Rect, Scenery};

/// Windows on the desktop.
const WINDOWS: usize = 5;

/// Draws the synthetic desktop.
pub struct Pattern {
    format: FrameFormat,
    scenery: Scenery,
    /// What each buffer holds: where its windows were drawn, or nothing yet.
    drawn: Vec<Option<[Rect; WINDOWS]>>,
}

impl Pattern {
    /// Prepares the pictures: about 5 ms and 1.3 frames of memory.
    pub fn new(format: FrameFormat) -> Self {
        Self { format, scenery: Scenery::new(format), drawn: Vec::new() }
    }

    /// Forgets what the buffers hold: they have been replaced.
    pub fn forget(&mut self) {
        self.drawn.clear();
    }

    /// Draws frame `number`, all but its stamp, into `pixels`: `format.size()` bytes or more, whose earlier content was
    /// drawn by this pattern under the same `buffer` index (or is anything at all, the first time).
    ///
    /// # Panics
    /// If `pixels` is shorter than the format says.
    pub fn draw(&mut self, buffer: usize, pixels: &mut [u8], number: u32) {
        let pixels = &mut pixels[..self.format.size()];
        if self.drawn.len() <= buffer {
            self.drawn.resize(buffer + 1, None);
        }
        match self.drawn[buffer] {
            Some(old) => old.iter().for_each(|rect| self.scenery.restore(pixels, *rect)),
            None => self.scenery.restore_all(pixels),
        }
        self.scenery.scroll(pixels, number);
        let places = std::array::from_fn(|window| self.scenery.place(window, number));
        for (window, rect) in places.iter().enumerate() {
            self.scenery.window(pixels, window, *rect);
        }
        self.drawn[buffer] = Some(places);
    }

    /// Writes the stamp, which makes the picture complete; `now_ns` is the time that later stages count from.
    ///
    /// # Panics
    /// If `pixels` is shorter than the format says.
    pub fn stamp(&self, pixels: &mut [u8], number: u32, now_ns: u64) {
        let pixels = &mut pixels[..self.format.size()];
        let (stride, width, height) =
            (self.format.stride as usize, self.format.width.into(), self.format.height.into());
        // Not drawn into a picture too small for it, which no mode is.
        stamp::draw(pixels, stride, width, height, Stamp { number, time_ns: now_ns });
    }
}

#[cfg(test)]
mod tests;
