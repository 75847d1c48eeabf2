//! How often something may happen.

/// A bound on a rate, with a burst: the virtual scheduling form of the leaky bucket (ITU-T I.371, GCRA).
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    interval_ns: u64,
    burst_ns: u64,
    /// When the next one would come if all came at the rate.
    expected_ns: u64,
}

impl Rate {
    /// `per_second` of them a second, and as many as `burst` at once after a pause.
    pub const fn new(per_second: u64, burst: u64) -> Self {
        let interval_ns = 1_000_000_000 / per_second;
        Self { interval_ns, burst_ns: (burst - 1) * interval_ns, expected_ns: 0 }
    }

    /// True, and counted, if one may happen now.
    pub fn take(&mut self, now_ns: u64) -> bool {
        let expected_ns = self.expected_ns.max(now_ns);
        let allowed = expected_ns - now_ns <= self.burst_ns;
        if allowed {
            self.expected_ns = expected_ns + self.interval_ns;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_flood_gets_the_burst_and_then_the_rate() {
        let mut rate = Rate::new(1_000, 50);
        let now = 7 * SECOND;
        assert_eq!((0..100_000).filter(|_| rate.take(now)).count(), 50);
        let during = (0..100_000).filter(|at| rate.take(now + at * SECOND / 100_000)).count();
        assert!((999..=1_001).contains(&during), "{during}");
    }

    #[test]
    fn what_keeps_to_the_rate_is_never_refused() {
        let mut rate = Rate::new(1_000, 2);
        assert!((0..10_000).all(|at| rate.take(at * SECOND / 1_000)));
        // Nothing is saved up beyond the burst.
        let later = 100 * SECOND;
        assert_eq!((0..10).filter(|_| rate.take(later)).count(), 2);
    }
}
