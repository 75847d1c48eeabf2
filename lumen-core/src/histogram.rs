//! Latency histograms of fixed size: nanoseconds in, quantiles in microseconds out, no allocation after construction.

/// Sub-buckets of each power of two: a quantile is at most 1/128 too high.
const SUB_BITS: u32 = 7;
const SUB: usize = 1 << SUB_BITS;
/// Values from 2^40 ns (18 minutes) share the last bucket.
const OCTAVES: usize = 40 - SUB_BITS as usize;
const BUCKETS: usize = (OCTAVES + 1) * SUB;

/// Quantiles of a latency in microseconds, rounded up.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Summary {
    pub count: u64,
    pub p50: u32,
    pub p95: u32,
    pub p99: u32,
    pub max: u32,
}

/// A log-linear histogram of everything ever recorded.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u32; BUCKETS]>,
    count: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), count: 0, max_ns: 0 }
    }
}

fn bucket(ns: u64) -> usize {
    if ns < SUB as u64 {
        return ns as usize;
    }
    let octave = ns.ilog2() - SUB_BITS;
    let sub = (ns >> octave) as usize - SUB;
    ((octave as usize + 1) * SUB + sub).min(BUCKETS - 1)
}

/// The highest value of a bucket.
fn upper_ns(bucket: usize) -> u64 {
    if bucket < SUB {
        return bucket as u64;
    }
    let octave = bucket / SUB - 1;
    (((bucket % SUB + SUB) as u64 + 1) << octave) - 1
}

fn to_us(ns: u64) -> u32 {
    u32::try_from(ns.div_ceil(1000)).unwrap_or(u32::MAX)
}

impl Histogram {
    pub fn record(&mut self, ns: u64) {
        let place = &mut self.counts[bucket(ns)];
        *place = place.saturating_add(1);
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn max_ns(&self) -> u64 {
        self.max_ns
    }

    /// The value below or at which `permille` thousandths of the records lie, at most 1/128 too high; 0 when empty.
    pub fn quantile_ns(&self, permille: u32) -> u64 {
        let rank = (self.count * u64::from(permille)).div_ceil(1000).max(1);
        let mut below = 0;
        for (index, &count) in self.counts.iter().enumerate() {
            below += u64::from(count);
            if below >= rank {
                return upper_ns(index).min(self.max_ns);
            }
        }
        self.max_ns
    }

    pub fn summary(&self) -> Summary {
        let [p50, p95, p99] = [500, 950, 990].map(|permille| to_us(self.quantile_ns(permille)));
        Summary { count: self.count, p50, p95, p99, max: to_us(self.max_ns) }
    }

    pub fn clear(&mut self) {
        self.counts.fill(0);
        self.count = 0;
        self.max_ns = 0;
    }

    fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts.iter()) {
            *mine = mine.saturating_add(*theirs);
        }
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
    }
}

/// A histogram of the last ten seconds or so: five slices of two seconds.
#[derive(Default)]
pub struct WindowedHistogram {
    slices: [Histogram; 5],
    /// Which two seconds, counted from the clock's zero, the newest slice holds.
    newest: u64,
    sum: Histogram,
}

impl WindowedHistogram {
    const SLICE_NS: u64 = 2_000_000_000;

    fn turn(&mut self, now_ns: u64) {
        let current = now_ns / Self::SLICE_NS;
        let count = self.slices.len() as u64;
        // A clock that stands still or goes back keeps filling the newest slice.
        for step in 0..current.saturating_sub(self.newest).min(count) {
            self.slices[((current - step) % count) as usize].clear();
        }
        self.newest = self.newest.max(current);
    }

    pub fn record(&mut self, now_ns: u64, value_ns: u64) {
        self.turn(now_ns);
        let place = (self.newest % self.slices.len() as u64) as usize;
        self.slices[place].record(value_ns);
    }

    /// Quantiles of what was recorded in the 8 to 10 seconds before `now_ns`.
    pub fn summary(&mut self, now_ns: u64) -> Summary {
        self.turn(now_ns);
        self.sum.clear();
        for slice in &self.slices {
            self.sum.add(slice);
        }
        self.sum.summary()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_empty_histogram_is_all_zero() {
        assert_eq!(Histogram::default().summary(), Summary::default());
    }

    #[test]
    fn the_window_forgets() {
        let mut window = WindowedHistogram::default();
        let second = 1_000_000_000;
        window.record(100 * second, 5_000_000);
        window.record(103 * second, 1_000_000);
        assert_eq!(window.summary(107 * second).max, 5_000);
        assert_eq!(window.summary(107 * second).count, 2);
        assert_eq!(window.summary(111 * second).max, 1_000);
        assert_eq!(window.summary(200 * second), Summary::default());
        window.record(200 * second, 7_000);
        assert_eq!(window.summary(150 * second).max, 7, "a clock that goes back is survived");
    }

    proptest! {
        #[test]
        fn every_value_lies_in_its_bucket(ns: u64) {
            let index = bucket(ns);
            prop_assert!(index < BUCKETS);
            if index < BUCKETS - 1 {
                prop_assert!(ns <= upper_ns(index));
                prop_assert!(index == 0 || ns > upper_ns(index - 1));
            }
        }

        /// Against a sorted list: never below the true quantile, at most 1/128 above.
        #[test]
        fn quantiles_are_close(mut values in proptest::collection::vec(0u64..1 << 38, 1..400), permille in 1u32..=1000) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|&value| histogram.record(value));
            values.sort_unstable();
            let rank = (values.len() as u64 * u64::from(permille)).div_ceil(1000) as usize;
            let truth = values[rank - 1];
            let got = histogram.quantile_ns(permille);
            prop_assert!(got >= truth && got <= truth + truth / 128 + 1, "{} for {}", got, truth);
            prop_assert_eq!(histogram.max_ns(), *values.last().unwrap());
        }
    }
}
