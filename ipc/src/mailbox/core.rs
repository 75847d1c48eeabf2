//! The mailbox protocol over a struct of atomics: who owns which buffer, and nothing about memory or wake-ups.
//!
//! A buffer is free or drawn into (both known to the writer alone), *out* (in the mailbox or with the reader), and
//! comes back in one of two ways: the writer swaps it out of `latest`, or the reader sets its bit in `returned`.
//! Either side keeps its own account of what the other may hand over and checks every value against it.

use crate::shm::Violation;
use crate::sync::{AtomicU64, Line, Ordering};

/// Most buffers of a pool.
pub const MAX_BUFFERS: u32 = 32;

/// What travels with a picture.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameMeta {
    /// Grows strictly from frame to frame within a generation.
    pub sequence: u64,
    /// CLOCK_MONOTONIC.
    pub captured_ns: u64,
}

#[repr(C)]
#[derive(Default)]
struct SharedMeta {
    sequence: AtomicU64,
    captured_ns: AtomicU64,
}

/// What lies in shared memory. All zeroes is an empty mailbox with every buffer at the writer.
#[repr(C)]
#[derive(Default)]
pub struct Shared {
    /// 0, or 1 + the index of the newest frame.
    latest: Line<AtomicU64>,
    /// Bit i: the reader has given buffer i back.
    returned: Line<AtomicU64>,
    /// Written by whoever owns the buffer: the writer before it publishes.
    meta: [SharedMeta; MAX_BUFFERS as usize],
}

fn all(buffers: u32) -> u64 {
    (1 << buffers) - 1
}

/// The writer's account.
#[derive(Debug)]
pub struct Writer {
    free: u64,
    drawing: u64,
    out: u64,
    /// The buffer that was published last.
    newest: u64,
    published: u64,
    skipped: u64,
}

impl Writer {
    /// Owns all of `buffers` (at most [`MAX_BUFFERS`]) buffers.
    pub fn new(buffers: u32) -> Self {
        debug_assert!(buffers <= MAX_BUFFERS);
        Self { free: all(buffers), drawing: 0, out: 0, newest: 0, published: 0, skipped: 0 }
    }

    /// Takes a free buffer to draw into; `None` while the reader holds them all.
    pub fn acquire(&mut self, shared: &Shared) -> Result<Option<u32>, Violation> {
        if shared.returned.0.load(Ordering::Relaxed) != 0 {
            // Acquire pairs with the reader's Release: it has finished reading before we draw.
            let returned = shared.returned.0.swap(0, Ordering::Acquire);
            if returned & !self.out != 0 {
                return Err(Violation("a buffer was returned that the reader did not hold"));
            }
            self.out &= !returned;
            self.free |= returned;
        }
        if self.free == 0 {
            return Ok(None);
        }
        // Not the newest frame's, if that has come back already: it may be wanted once more.
        let others = self.free & !self.newest;
        let index = if others == 0 { self.free } else { others }.trailing_zeros();
        self.free &= !(1 << index);
        self.drawing |= 1 << index;
        Ok(Some(index))
    }

    /// Makes an acquired buffer the newest frame. True if the mailbox was empty: the reader must be woken.
    pub fn publish(&mut self, shared: &Shared, index: u32, meta: FrameMeta) -> Result<bool, Violation> {
        if !self.owns(index) {
            return Err(Violation("a buffer was published that was not acquired"));
        }
        let slot = &shared.meta[index as usize];
        slot.sequence.store(meta.sequence, Ordering::Relaxed);
        slot.captured_ns.store(meta.captured_ns, Ordering::Relaxed);
        // Release: picture and meta are complete before the index can be seen.
        let old = shared.latest.0.swap(u64::from(index) + 1, Ordering::AcqRel);
        self.drawing &= !(1 << index);
        self.newest = 1 << index;
        self.published += 1;
        if old != 0 {
            let bit = u32::try_from(old - 1).ok().and_then(|old| 1u64.checked_shl(old)).unwrap_or(0);
            if bit & self.out == 0 {
                return Err(Violation("the mailbox held a buffer that was never put there"));
            }
            self.out &= !bit;
            self.free |= bit;
            self.skipped += 1;
        }
        self.out |= 1 << index;
        Ok(old == 0)
    }

    /// Gives an acquired buffer back undrawn.
    pub fn cancel(&mut self, index: u32) {
        if self.owns(index) {
            self.drawing &= !(1 << index);
            self.free |= 1 << index;
        }
    }

    fn owns(&self, index: u32) -> bool {
        index < MAX_BUFFERS && self.drawing & (1 << index) != 0
    }

    /// Frames published so far.
    pub fn published(&self) -> u64 {
        self.published
    }

    /// Of those, frames overwritten before the reader took them.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// The reader's account.
#[derive(Debug)]
pub struct Reader {
    buffers: u32,
    held: u64,
    newest: Option<u64>,
}

impl Reader {
    pub fn new(buffers: u32) -> Self {
        debug_assert!(buffers <= MAX_BUFFERS);
        Self { buffers, held: 0, newest: None }
    }

    /// Takes the newest frame, if there is one that was not taken before.
    pub fn take(&mut self, shared: &Shared) -> Result<Option<(u32, FrameMeta)>, Violation> {
        if shared.latest.0.load(Ordering::Relaxed) == 0 {
            return Ok(None);
        }
        // Acquire pairs with the writer's Release: picture and meta are complete. Release: a writer that finds the
        // mailbox emptied by this also finds every buffer that was returned before it, and so never runs out.
        let latest = shared.latest.0.swap(0, Ordering::AcqRel);
        let Some(latest) = latest.checked_sub(1) else { return Ok(None) };
        let Some(index) = u32::try_from(latest).ok().filter(|index| *index < self.buffers) else {
            return Err(Violation("a buffer was published that does not exist"));
        };
        if self.held & (1 << index) != 0 {
            return Err(Violation("a buffer was published that the reader holds"));
        }
        let slot = &shared.meta[index as usize];
        let meta = FrameMeta {
            sequence: slot.sequence.load(Ordering::Relaxed),
            captured_ns: slot.captured_ns.load(Ordering::Relaxed),
        };
        if self.newest.is_some_and(|newest| meta.sequence <= newest) {
            return Err(Violation("a frame was published that is not newer than the one before"));
        }
        self.newest = Some(meta.sequence);
        self.held |= 1 << index;
        Ok(Some((index, meta)))
    }

    /// Gives a taken buffer back; anything else is ignored.
    pub fn release(&mut self, shared: &Shared, index: u32) {
        if index < self.buffers && self.held & (1 << index) != 0 {
            self.held &= !(1 << index);
            // Release: our reads of the picture are done before the writer may draw over it.
            shared.returned.0.fetch_or(1 << index, Ordering::Release);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_newest_frame_is_drawn_over_last() {
        let (shared, mut writer, mut reader) = (Shared::default(), Writer::new(3), Reader::new(3));
        for sequence in 0..10 {
            let index = writer.acquire(&shared).unwrap().unwrap();
            writer.publish(&shared, index, FrameMeta { sequence, captured_ns: 0 }).unwrap();
            assert_eq!(reader.take(&shared).unwrap().unwrap().0, index);
            reader.release(&shared, index);
            let others = [(); 2].map(|()| writer.acquire(&shared).unwrap().unwrap());
            assert!(!others.contains(&index), "{others:?} while {index} was the newest");
            assert_eq!(writer.acquire(&shared).unwrap(), Some(index), "and it can be had if nothing else is left");
            others.into_iter().chain([index]).for_each(|index| writer.cancel(index));
        }
    }
}
