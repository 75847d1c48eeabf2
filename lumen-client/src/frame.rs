//! A frame as it leaves the media thread, and who takes it.

use lumen_core::Mode;

/// Host clock minus ours, and how far off that may be; both in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ClockReading {
    pub offset_ns: i64,
    pub error_ns: u64,
}

/// Times of one frame on the host, as nanoseconds since its capture.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Ledger {
    /// Host's CLOCK_MONOTONIC, nanoseconds.
    pub captured_ns: u64,
    pub taken_ns: u32,
    pub converted_ns: u32,
}

/// The stages of the frame before that ended after its first packet had left; nanoseconds since *its* capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LateLedger {
    pub number: u32,
    pub last_slice_ns: u32,
    pub last_packet_ns: u32,
}

/// A complete frame, authenticated, in order, and with everything it builds on delivered before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReceivedFrame {
    pub generation: u32,
    pub number: u32,
    pub idr: bool,
    /// A repeat of the last picture while the desktop is still; its capture time is that of the picture.
    pub still: bool,
    /// At least one of its packets was lost and computed from parity.
    pub recovered: bool,
    pub ledger: Ledger,
    pub previous: Option<LateLedger>,
    /// Our CLOCK_MONOTONIC, nanoseconds.
    pub reassembled_ns: u64,
    /// None until the host has answered a probe, unless both read the same clock.
    pub clock: Option<ClockReading>,
    /// One Annex-B access unit.
    pub data: Vec<u8>,
}

impl ReceivedFrame {
    /// Nanoseconds from capture on the host to the frame being whole here; 0 where the clocks' error hides it.
    pub fn latency_ns(&self) -> Option<u64> {
        self.since_host_ns(self.ledger.captured_ns, self.reassembled_ns)
    }

    /// Nanoseconds from `host_ns` by the host's clock to `our_ns` by ours.
    pub fn since_host_ns(&self, host_ns: u64, our_ns: u64) -> Option<u64> {
        Some(our_ns.saturating_add_signed(self.clock?.offset_ns).saturating_sub(host_ns))
    }
}

/// Takes what a session delivers. Called on the media thread, which receives packets for as long as nobody holds it
/// up: a sink copies or hands on, and returns.
pub trait FrameSink: Send {
    /// The next frame.
    fn frame(&mut self, frame: ReceivedFrame);

    /// `count` frames from `first` on will never come; until the next IDR nothing is delivered.
    fn lost(&mut self, generation: u32, first: u32, count: u32) {
        let _ = (generation, first, count);
    }

    /// From `generation` on, frames have this mode.
    fn reconfigured(&mut self, generation: u32, mode: Mode) {
        let _ = (generation, mode);
    }
}
