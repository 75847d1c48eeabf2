//! The frame hand-over from capture to encode: the newest frame wins, and nobody waits for anybody.
//!
//! The pictures lie in the pool's own memfds; the mailbox only says whose each of them is (see [`core`]).
#![allow(unsafe_code)]

pub mod core;

use std::os::fd::BorrowedFd;

pub use self::core::{FrameMeta, MAX_BUFFERS};
use self::core::{Reader, Shared, Writer};
use crate::event::Event;
use crate::shm::{Mapping, SharedLayout, ShmError, Violation};

// SAFETY: every field is an atomic integer or padding.
unsafe impl SharedLayout for Shared {}

/// The mailbox as lumend sees it: a size.
pub struct Mailbox;

impl Mailbox {
    /// Bytes of the memory that both ends attach to.
    pub const fn memory_size() -> usize {
        size_of::<Shared>()
    }
}

fn attach(memory: BorrowedFd<'_>, buffers: u32) -> Result<Mapping, ShmError> {
    if !(2..=MAX_BUFFERS).contains(&buffers) {
        return Err(ShmError::Geometry("a mailbox has 2 to 32 buffers"));
    }
    let mapping = Mapping::read_write(memory, Mailbox::memory_size())?;
    mapping.prefault();
    Ok(mapping)
}

/// Capture's end.
#[derive(Debug)]
pub struct MailboxWriter {
    memory: Mapping,
    wake: Event,
    state: Writer,
    violation: Option<Violation>,
}

impl MailboxWriter {
    /// Attaches to fresh memory; all `buffers` buffers begin as the writer's.
    pub fn attach(memory: BorrowedFd<'_>, wake: Event, buffers: u32) -> Result<Self, ShmError> {
        Ok(Self { memory: attach(memory, buffers)?, wake, state: Writer::new(buffers), violation: None })
    }

    /// A buffer to draw into, owned by the caller until it is published or cancelled.
    ///
    /// `None` while the reader holds all that are not being drawn: with a reader that keeps at most one and a writer
    /// that draws one at a time, three buffers never run out. A violation seen by `publish` is reported here.
    pub fn acquire(&mut self) -> Result<Option<u32>, Violation> {
        match self.violation {
            Some(violation) => Err(violation),
            None => self.state.acquire(self.memory.shared()),
        }
    }

    /// Makes an acquired buffer the newest frame, and takes back the one it replaces. Wakes the reader only if the
    /// mailbox was empty.
    pub fn publish(&mut self, index: u32, meta: FrameMeta) {
        match self.state.publish(self.memory.shared(), index, meta) {
            Ok(true) => self.wake.signal(),
            Ok(false) => {}
            Err(violation) => self.violation = Some(violation),
        }
    }

    /// Gives an acquired buffer back undrawn.
    pub fn cancel(&mut self, index: u32) {
        self.state.cancel(index);
    }

    /// Frames published so far.
    pub fn published(&self) -> u64 {
        self.state.published()
    }

    /// Of those, frames overwritten before the reader took them.
    pub fn skipped(&self) -> u64 {
        self.state.skipped()
    }
}

/// Encode's end.
#[derive(Debug)]
pub struct MailboxReader {
    memory: Mapping,
    wake: Event,
    state: Reader,
}

impl MailboxReader {
    pub fn attach(memory: BorrowedFd<'_>, wake: Event, buffers: u32) -> Result<Self, ShmError> {
        Ok(Self { memory: attach(memory, buffers)?, wake, state: Reader::new(buffers) })
    }

    /// The newest frame not yet taken, now owned by the caller until released.
    pub fn take(&mut self) -> Result<Option<(u32, FrameMeta)>, Violation> {
        self.state.take(self.memory.shared())
    }

    /// Gives a taken buffer back to the writer.
    pub fn release(&mut self, index: u32) {
        self.state.release(self.memory.shared(), index);
    }

    /// Signalled when the mailbox goes from empty to full. Wait, drain, then [`take`](Self::take).
    pub fn wake(&self) -> &Event {
        &self.wake
    }
}
