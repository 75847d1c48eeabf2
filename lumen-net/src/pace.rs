//! When a packet may leave. Pure: every function takes the time, nothing here sleeps or reads a clock.
//!
//! A frame leaves as a burst that any switch can hold, and what is beyond the burst at a rate that is well above the
//! stream's, so that a large frame is on the wire in a fraction of a frame interval without overrunning a queue.

use crate::session::SHARD_SIZE;

/// Bytes that may leave at once: 64 full packets.
pub const BURST_BYTES: u64 = 64 * SHARD_SIZE as u64;

/// Slower than this, pacing would cost more latency than any queue on the way: an IDR of 1080p, a quarter of a megabyte
/// with its parity, leaves in nine milliseconds.
const FLOOR_BITS_PER_S: u64 = 150_000_000;

/// A token bucket in bytes, kept in nanoseconds of sending time so that no rounding is carried along.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    bytes_per_s: u64,
    /// When the bucket was empty, or will be full of debt; it never lies further back than a burst takes.
    empty_at_ns: u64,
}

impl Pacer {
    /// Paces at four times the stream's bit rate (kbit/s), and never below 150 Mbit/s.
    pub fn new(bitrate_kbps: u32) -> Self {
        Self { bytes_per_s: bytes_per_s(bitrate_kbps), empty_at_ns: 0 }
    }

    /// Paces for another bit rate from now on; what has been spent stays spent.
    pub fn set_bitrate(&mut self, bitrate_kbps: u32) {
        self.bytes_per_s = bytes_per_s(bitrate_kbps);
    }

    /// Bytes that may leave now.
    pub fn allowance(&self, now_ns: u64) -> u64 {
        let since = now_ns.saturating_sub(self.empty_at_ns).min(self.cost_ns(BURST_BYTES));
        (u128::from(since) * u128::from(self.bytes_per_s) / 1_000_000_000) as u64
    }

    /// Tells that `bytes` have left at `now_ns`.
    pub fn spend(&mut self, now_ns: u64, bytes: u64) {
        let oldest = now_ns.saturating_sub(self.cost_ns(BURST_BYTES));
        self.empty_at_ns = self.empty_at_ns.max(oldest) + self.cost_ns(bytes);
    }

    /// The time at which `bytes`, or a whole burst where that is less, may leave.
    pub fn ready_at(&self, bytes: u64) -> u64 {
        self.empty_at_ns + self.cost_ns(bytes.min(BURST_BYTES))
    }

    fn cost_ns(&self, bytes: u64) -> u64 {
        (u128::from(bytes) * 1_000_000_000).div_ceil(u128::from(self.bytes_per_s)) as u64
    }
}

fn bytes_per_s(bitrate_kbps: u32) -> u64 {
    (u64::from(bitrate_kbps) * 4_000).max(FLOOR_BITS_PER_S) / 8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_at_once_and_the_rest_at_the_rate() {
        let mut pacer = Pacer::new(50_000);
        let mut now = 5_000_000_000;
        assert!(pacer.allowance(now).abs_diff(BURST_BYTES) <= 1);
        pacer.spend(now, BURST_BYTES);
        assert_eq!(pacer.allowance(now), 0);
        // 200 Mbit/s are 25 bytes a microsecond.
        now += 1_000_000;
        assert_eq!(pacer.allowance(now), 25_000);
        assert_eq!(pacer.ready_at(25_000), now);
    }

    #[test]
    fn a_pause_saves_up_no_more_than_a_burst() {
        let mut pacer = Pacer::new(1_000);
        let now = 60_000_000_000;
        pacer.spend(now, 10 * BURST_BYTES);
        assert_eq!(pacer.allowance(now), 0);
        assert!(pacer.allowance(now + 3_600_000_000_000).abs_diff(BURST_BYTES) <= 1);
    }

    #[test]
    fn what_ready_at_promises_is_kept() {
        let mut pacer = Pacer::new(33_333);
        let now = 1_000_000_007;
        pacer.spend(now, 123_456);
        for bytes in [1, 1_200, 17_000, BURST_BYTES] {
            assert!(pacer.allowance(pacer.ready_at(bytes)) >= bytes, "{bytes}");
        }
        // More than a burst at once never becomes ready; a burst does.
        assert_eq!(pacer.ready_at(2 * BURST_BYTES), pacer.ready_at(BURST_BYTES));
    }

    #[test]
    fn the_rate_has_a_floor() {
        // 248 kB are what an IDR of 1920x1080 at 15 Mbit/s comes to, parity included.
        let (mut pacer, now) = (Pacer::new(15_000), 1_000_000_000);
        pacer.spend(now, 248_000 - 19_200);
        assert!(pacer.ready_at(19_200) - now < 10_000_000, "well within a frame at 60 Hz");
        assert_eq!(Pacer::new(100).bytes_per_s, FLOOR_BITS_PER_S / 8);
        assert_eq!(Pacer::new(100_000).bytes_per_s, 50_000_000);
    }
}
