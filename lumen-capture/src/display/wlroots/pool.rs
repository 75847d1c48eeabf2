//! A generation's buffers on both sides, and what is left of them for the next generation.

use std::time::Duration;

use ipc::FrameFormat;
use ipc::shm::Mapping;
use wayland_client::protocol::wl_buffer::WlBuffer;

use super::picture::turn_over;
use crate::display::{Buffers, Frame};

/// How long the last picture of a pool may be shown in the next: while a plane is replaced, not while nobody watches.
const KEEP: Duration = Duration::from_millis(500);

/// A generation's buffers.
pub(super) struct Pool {
    pub(super) remote: Vec<WlBuffer>,
    /// The same memory on this side.
    pub(super) local: Buffers,
    pub(super) format: FrameFormat,
    /// The next copy is not to wait for damage.
    pub(super) fresh: bool,
    /// The newest picture: its buffer and its time.
    pub(super) newest: Option<(u32, u64)>,
}

/// The newest picture of a pool that has been given back. The compositor makes another only with its next refresh.
pub(super) struct Kept {
    pixels: Mapping,
    format: FrameFormat,
    captured_ns: u64,
    until_ns: u64,
}

impl Pool {
    /// Rights a picture whose first row is the lowest.
    pub(super) fn turn_over(&mut self, buffer: u32) {
        if let Some(pixels) = self.local.pixels(buffer) {
            turn_over(pixels, self.format.stride as usize);
        }
    }

    /// The compositor's side is destroyed; the newest picture is kept, unless the compositor may have begun to draw
    /// the next one over it.
    pub(super) fn give_back(self, drawn: Option<u32>, now_ns: u64) -> Option<Kept> {
        let Self { remote, local, format, newest, .. } = self;
        remote.iter().for_each(WlBuffer::destroy);
        let (buffer, captured_ns) = newest.filter(|(buffer, _)| drawn != Some(*buffer))?;
        let until_ns = now_ns + KEEP.as_nanos() as u64;
        Some(Kept { pixels: local.into_one(buffer)?, format, captured_ns, until_ns })
    }

    /// Shows in this buffer what was kept; none if that is of another shape, or too old.
    pub(super) fn show(&mut self, kept: &Kept, buffer: u32, now_ns: u64) -> Option<Frame> {
        if kept.format != self.format || now_ns > kept.until_ns {
            return None;
        }
        self.local.populate(buffer);
        self.local.pixels(buffer)?.copy_from_slice(kept.pixels.as_slice());
        self.newest = Some((buffer, kept.captured_ns));
        Some(Frame { buffer, captured_ns: kept.captured_ns })
    }
}
