//! Sound: what comes as datagrams, and what becomes of it.

mod decode;
mod jitter;
mod outputs;
#[cfg(feature = "play")]
mod play;
mod report;
mod timeline;
mod tone;
mod wav;
mod worker;

pub use jitter::{JitterBuffer, PlayCounts};
pub use outputs::SoundOutputs;
#[cfg(feature = "play")]
pub use play::{PlayError, Speakers};
pub use report::SoundReport;
pub use worker::SoundWorker;

/// One packet of sound as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SoundPacket {
    /// Running number in the session; it wraps.
    pub seq: u32,
    /// When the first sample was captured, by the host's CLOCK_MONOTONIC, as a frame's `captured_ns` is.
    pub pts_ns: u64,
    /// Our CLOCK_MONOTONIC, nanoseconds.
    pub received_ns: u64,
    /// An Opus packet of 5 ms in the session's layout; not yet looked at.
    pub opus: Vec<u8>,
}

/// Takes the sound that a session delivers, in the order in which it came. Called on the control thread, behind which
/// input waits too: a sink hands on and returns.
pub trait SoundSink: Send {
    fn packet(&mut self, packet: SoundPacket);
}
