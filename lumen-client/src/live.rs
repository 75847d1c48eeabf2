//! Counters of a running session, for a display; the report is made from exact ones when it has ended.

use std::sync::atomic::AtomicU64;

/// Written by the media thread, read by anybody; each value is right by itself, not with the others.
#[derive(Default, Debug)]
pub struct Live {
    /// Frames delivered.
    pub frames: AtomicU64,
    pub recovered: AtomicU64,
    pub lost: AtomicU64,
    /// UDP payload bytes received.
    pub bytes: AtomicU64,
    /// Capture to reassembled of the last frame that was no repeat, microseconds; 0 while the host's clock is not known.
    pub latency_us: AtomicU64,
}
