//! What a backend must be able to do. One more (libei, say) is one more implementation.
//!
//! A backend is driven by the plane's loop and never blocks, but for [`Inject::finish`]: the loop waits for [`Inject::fds`] to become readable or
//! [`Inject::deadline`] to pass, calls [`Inject::dispatch`], injects a batch of events and ends it with
//! [`Inject::flush`]. Times are CLOCK_MONOTONIC in nanoseconds.

use std::os::fd::BorrowedFd;

use lumen_core::InputEvent;

/// What became of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Injected {
    Done,
    /// Nothing here can inject it: a key that the keymap has not, a pad without a device.
    Unsupported,
}

/// Why a backend ended.
#[derive(Debug, thiserror::Error)]
pub enum InjectError {
    /// What was handed over is gone; only a fresh one helps, and that is lumend's to make.
    #[error("{0}")]
    Gone(String),
    /// It cannot be injected here as things are. The text is for people.
    #[error("{0}")]
    Failed(String),
}

/// A place where events become real. All methods but [`Inject::finish`] return at once.
pub trait Inject {
    /// Injects one event, which the client may send and which changes something: presses and releases come in pairs.
    /// [`InputEvent::Held`] never comes here, the route turns it into releases.
    ///
    /// Errors of the connection behind it are kept for [`Inject::dispatch`].
    fn inject(&mut self, event: &InputEvent, now_ns: u64) -> Injected;

    /// Ends a batch: everything injected so far is on its way when this returns, or as soon as its receiver takes it.
    fn flush(&mut self, now_ns: u64);

    /// True if what this event releases is still pressed here by a plane before this one, and can go on being so: its
    /// release will come. To be asked once, when [`Inject::ready`], before anything is injected.
    fn adopt(&mut self, _release: &InputEvent) -> bool {
        false
    }

    /// Ends everything: waits, but not for long, until what was injected has arrived. False if that is not known. To
    /// be called last.
    fn finish(&mut self, now_ns: u64) -> bool {
        self.flush(now_ns);
        true
    }

    /// Adds the descriptors to wait on for reading.
    fn fds<'a>(&'a self, fds: &mut Vec<BorrowedFd<'a>>);

    /// When to call [`Inject::dispatch`] although nothing became readable.
    fn deadline(&self) -> Option<u64>;

    /// Reads what is readable and does what is due; without blocking if there is neither.
    ///
    /// # Errors
    /// The backend's end.
    fn dispatch(&mut self, now_ns: u64) -> Result<(), InjectError>;

    /// False while it is still finding out whether it can inject at all: nothing is injected before.
    fn ready(&self) -> bool;
}
