//! The ledger of one session: when each frame passed each stage, as quantiles over the last seconds.

use ipc::ring::{ChunkFlags, ChunkHeader};
use ipc::{Quantiles, SessionStats};
use lumen_core::histogram::WindowedHistogram;
use lumen_core::packet::{FrameHeader, PreviousFrame, ledger_delta};

/// The times of one frame on its way through net. CLOCK_MONOTONIC nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct FrameTimes {
    pub number: u32,
    /// A repeat of an older picture: its age says nothing about latency.
    pub still: bool,
    /// It was taken before the client could be sent anything, so its age says nothing about latency either.
    pub waited: bool,
    pub captured: u64,
    pub taken: u64,
    pub converted: u64,
    pub first_slice: u64,
    pub last_slice: u64,
    /// When its first packet was made. Zero until then, as the next two until a packet has left.
    pub first_sealed: u64,
    pub first_packet: u64,
    pub last_packet: u64,
}

impl FrameTimes {
    /// A frame whose first chunk has this header, of a session whose media has been flowing since `flowing_ns`.
    pub fn begin(first: &ChunkHeader, flowing_ns: u64) -> Self {
        Self {
            number: first.frame,
            still: first.flags.contains(ChunkFlags::STILL),
            waited: first.captured_ns < flowing_ns,
            captured: first.captured_ns,
            taken: first.taken_ns,
            converted: first.converted_ns,
            first_slice: first.sliced_ns,
            last_slice: first.sliced_ns,
            first_sealed: 0,
            first_packet: 0,
            last_packet: 0,
        }
    }

    /// A packet of this frame has left.
    pub fn sent(&mut self, now_ns: u64) {
        if self.first_packet == 0 {
            self.first_packet = now_ns;
        }
        self.last_packet = now_ns;
    }

    /// Whether the time since its capture is latency of this host.
    pub fn tells_latency(&self) -> bool {
        !self.still && !self.waited
    }

    /// The header that travels in front of this frame; what of `previous` was not known when that left goes along.
    pub fn header(&self, previous: Option<&FrameTimes>) -> FrameHeader {
        let since = |then| ledger_delta(self.captured, then);
        FrameHeader {
            still: self.still,
            captured_ns: self.captured,
            taken: since(self.taken),
            converted: since(self.converted),
            first_slice: since(self.first_slice),
            previous: previous.map(|previous| {
                let since = |then| ledger_delta(previous.captured, then);
                PreviousFrame {
                    number: previous.number,
                    last_slice: since(previous.last_slice),
                    first_packet: since(previous.first_packet),
                    last_packet: since(previous.last_packet),
                }
            }),
        }
    }
}

/// Rolling quantiles of the stages. Allocates only when it is made.
#[derive(Default)]
pub struct Ledger {
    capture_wait: WindowedHistogram,
    convert: WindowedHistogram,
    encode: WindowedHistogram,
    first: WindowedHistogram,
    send: WindowedHistogram,
    total: WindowedHistogram,
}

impl Ledger {
    /// Adds a frame whose last packet has left.
    pub fn record(&mut self, frame: &FrameTimes) {
        if !frame.tells_latency() {
            return;
        }
        let now = frame.last_packet;
        self.capture_wait.record(now, frame.taken.saturating_sub(frame.captured));
        self.convert.record(now, frame.converted.saturating_sub(frame.taken));
        self.encode.record(now, frame.last_slice.saturating_sub(frame.converted));
        self.first.record(now, frame.first_sealed.saturating_sub(frame.captured));
        self.send.record(now, frame.last_packet.saturating_sub(frame.last_slice));
        self.total.record(now, frame.last_packet.saturating_sub(frame.captured));
    }

    /// Fills in the quantiles of the last seconds.
    pub fn report(&mut self, now_ns: u64, stats: &mut SessionStats) {
        stats.capture_wait = quantiles(&mut self.capture_wait, now_ns);
        stats.convert = quantiles(&mut self.convert, now_ns);
        stats.encode = quantiles(&mut self.encode, now_ns);
        stats.first = quantiles(&mut self.first, now_ns);
        stats.send = quantiles(&mut self.send, now_ns);
        stats.total = quantiles(&mut self.total, now_ns);
    }
}

fn quantiles(histogram: &mut WindowedHistogram, now_ns: u64) -> Quantiles {
    let summary = histogram.summary(now_ns);
    Quantiles { p50: summary.p50, p95: summary.p95, p99: summary.p99, max: summary.max }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn frame(number: u32, captured: u64) -> FrameTimes {
        FrameTimes {
            number,
            still: false,
            waited: false,
            captured,
            taken: captured + MS,
            converted: captured + 2 * MS,
            first_slice: captured + 3 * MS,
            last_slice: captured + 5 * MS,
            first_sealed: captured + 4 * MS,
            first_packet: 0,
            last_packet: 0,
        }
    }

    #[test]
    fn a_frame_carries_the_end_of_the_one_before() {
        let mut first = frame(7, 1_000 * MS);
        assert_eq!(first.header(None).previous, None);
        first.sent(1_004 * MS);
        first.sent(1_006 * MS);
        let header = frame(8, 1_016 * MS).header(Some(&first));
        let previous = header.previous.unwrap();
        assert_eq!((header.taken, header.converted, header.first_slice), (1_000_000, 2_000_000, 3_000_000));
        assert_eq!((previous.number, previous.last_slice), (7, 5_000_000));
        assert_eq!((previous.first_packet, previous.last_packet), (4_000_000, 6_000_000));
    }

    #[test]
    fn stages_add_up_and_old_pictures_do_not_count() {
        let mut ledger = Ledger::default();
        let mut moving = frame(0, 1_000 * MS);
        moving.sent(1_006 * MS);
        ledger.record(&moving);
        for (still, waited) in [(true, false), (false, true)] {
            let mut old = FrameTimes { still, waited, ..frame(1, 100 * MS) };
            old.sent(1_007 * MS);
            ledger.record(&old);
        }
        let mut stats = SessionStats::default();
        ledger.report(1_008 * MS, &mut stats);
        let close = |value: u32, wanted: u32| value >= wanted && value <= wanted + wanted / 16;
        assert!(close(stats.capture_wait.p50, 1_000), "{stats:?}");
        assert!(close(stats.convert.p50, 1_000));
        assert!(close(stats.encode.p50, 3_000));
        assert!(close(stats.first.p50, 4_000));
        assert!(close(stats.send.p50, 1_000));
        assert!(close(stats.total.max, 6_000), "{stats:?}");
    }
}
