//! How far behind their place packets arrive on this path, so that a wish for a keyframe waits no longer than it must.

/// Counters that share a timestamp.
const BLOCK: u64 = 8;
/// Blocks remembered: 2048 packets, as many as the anti-replay window.
const BLOCKS: usize = 256;

pub(super) struct ReorderMeter {
    highest: u64,
    /// When each block of counters was first reached.
    reached: [u64; BLOCKS],
    /// The largest lateness of late, and when it was seen.
    worst_ns: u64,
    worst_at_ns: u64,
}

impl Default for ReorderMeter {
    fn default() -> Self {
        Self { highest: 0, reached: [0; BLOCKS], worst_ns: 0, worst_at_ns: 0 }
    }
}

impl ReorderMeter {
    /// An authentic packet with this counter came now.
    pub(super) fn packet(&mut self, now_ns: u64, counter: u64) {
        let (block, newest) = (counter / BLOCK, self.highest / BLOCK);
        if counter > self.highest {
            for passed in (newest + 1..=block).rev().take(BLOCKS) {
                self.reached[passed as usize % BLOCKS] = now_ns;
            }
            self.highest = counter;
        } else if newest > block && newest - block < BLOCKS as u64 {
            let late = now_ns.saturating_sub(self.reached[(block + 1) as usize % BLOCKS]);
            if late > self.worst(now_ns) {
                (self.worst_ns, self.worst_at_ns) = (late, now_ns);
            }
        }
    }

    /// The largest lateness, fading by a 512th of the time since: 5 ms are forgotten after 2.5 s.
    fn worst(&self, now_ns: u64) -> u64 {
        self.worst_ns.saturating_sub(now_ns.saturating_sub(self.worst_at_ns) / 512)
    }

    /// How long to wait for a packet that should have come: twice the largest lateness, nothing on a path that keeps
    /// its order.
    pub(super) fn wait_ns(&self, now_ns: u64) -> u64 {
        self.worst(now_ns).saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_learnt_and_forgotten() {
        let mut meter = ReorderMeter::default();
        let ms = 1_000_000;
        for counter in (1..=100).filter(|&counter| counter != 40) {
            meter.packet(counter * ms, counter);
        }
        assert_eq!(meter.wait_ns(100 * ms), 0);
        meter.packet(100 * ms, 40);
        assert_eq!(meter.wait_ns(100 * ms), 2 * (100 - 48) * ms, "since the block after its own was reached");
        assert!(meter.wait_ns(1_000 * ms) < 104 * ms);
        assert_eq!(meter.wait_ns(60_000 * ms), 0);
        meter.packet(60_000 * ms, 1 << 35);
        meter.packet(60_001 * ms, 101);
        assert_eq!(meter.wait_ns(60_001 * ms), 0, "too old to tell");
    }
}
