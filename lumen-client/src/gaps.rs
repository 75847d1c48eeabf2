//! The longest times without a good frame.

use serde::Serialize;

/// How many gaps are kept.
const KEPT: usize = 10;

/// A time without a good frame, named by the frame that ended it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Gap {
    /// Milliseconds from the good frame before to this one.
    pub ms: f64,
    /// Seconds from the session's first good frame to this gap's end.
    pub at_s: f64,
    pub generation: u32,
    pub frame: u32,
    /// Whether the frame before belonged to an earlier generation.
    pub rewired: bool,
}

/// Gaps between the first good frame and the last: what comes before and after is start-up and stop.
#[derive(Debug, Default)]
pub struct Gaps {
    first_ns: Option<u64>,
    last: Option<(u64, u32)>,
    /// Longest first.
    longest: Vec<Gap>,
}

impl Gaps {
    /// A good frame at `now_ns`; times must not go backwards (one that does makes no gap).
    pub fn good(&mut self, now_ns: u64, generation: u32, frame: u32) {
        let first_ns = *self.first_ns.get_or_insert(now_ns);
        if let Some((before_ns, before)) = self.last.replace((now_ns, generation)) {
            let gap = Gap {
                ms: now_ns.saturating_sub(before_ns) as f64 / 1e6,
                at_s: now_ns.saturating_sub(first_ns) as f64 / 1e9,
                generation,
                frame,
                rewired: before != generation,
            };
            let place = self.longest.partition_point(|other| other.ms >= gap.ms);
            if place < KEPT {
                self.longest.truncate(KEPT - 1);
                self.longest.insert(place, gap);
            }
        }
    }

    /// Milliseconds; none before the second good frame.
    pub fn max_ms(&self) -> Option<f64> {
        self.longest.first().map(|gap| gap.ms)
    }

    /// The ten longest, longest first.
    pub fn longest(&self) -> &[Gap] {
        &self.longest
    }

    /// Nanoseconds from the first good frame to the last.
    pub fn span_ns(&self) -> u64 {
        match (self.first_ns, self.last) {
            (Some(first), Some((last, _))) => last.saturating_sub(first),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_longest_in_order() {
        let mut gaps = Gaps::default();
        let mut now_ns = 5_000_000_000;
        gaps.good(now_ns, 1, 0);
        assert_eq!(gaps.max_ms(), None);
        for (frame, ms) in (1..).zip([16, 3, 250, 17, 8, 90, 16, 16, 16, 16, 40, 16, 1]) {
            now_ns += ms * 1_000_000;
            gaps.good(now_ns, if frame < 3 { 1 } else { 2 }, frame);
        }
        let ms: Vec<f64> = gaps.longest().iter().map(|gap| gap.ms).collect();
        assert_eq!(ms, [250.0, 90.0, 40.0, 17.0, 16.0, 16.0, 16.0, 16.0, 16.0, 16.0]);
        assert_eq!(gaps.max_ms(), Some(250.0));
        assert!(gaps.longest()[0].rewired && !gaps.longest()[1].rewired);
        assert_eq!(gaps.longest()[0].frame, 3);
        assert_eq!(gaps.span_ns(), now_ns - 5_000_000_000);
    }
}
