//! Fewer pictures than the output has: a 144 Hz screen that is streamed at 60 Hz is copied 60 times a second.

/// A mode's rate, as a pure machine: times of pictures in, the earliest time of the next request out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    refresh_mhz: u32,
    interval_ns: u64,
    /// When the next picture is due at the mode's rate.
    due_ns: u64,
}

impl Limit {
    /// Limits to `refresh_mhz` thousandths of a hertz, which must not be 0.
    pub(super) fn new(refresh_mhz: u32) -> Self {
        Self { refresh_mhz, interval_ns: 1_000_000_000_000 / u64::from(refresh_mhz), due_ns: 0 }
    }

    /// Whether an output of this rate (0 for unknown) has to be held back. One that is as fast as the mode, or a tenth
    /// faster, is not: the clocks of compositors are not that exact, and a picture missed costs a whole refresh.
    pub(super) fn holds_back(&self, output_refresh_mhz: u32) -> bool {
        u64::from(output_refresh_mhz) * 10 > u64::from(self.refresh_mhz) * 11
    }

    /// A picture was taken at this time.
    pub(super) fn picture(&mut self, captured_ns: u64) {
        // A picture comes with a refresh of the output and so seldom when it is due. Up to half an interval of lateness
        // is made good by the next one, so that the rate is the mode's on average; a pause is not made good.
        self.due_ns = self.due_ns.max(captured_ns.saturating_sub(self.interval_ns / 2)) + self.interval_ns;
    }

    /// The earliest time to ask for the next picture: half an interval before it is due, because the refresh nearest
    /// to then may be the one before.
    pub(super) fn next_ns(&self) -> u64 {
        self.due_ns.saturating_sub(self.interval_ns / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Pictures taken in ten seconds of an output that refreshes at `hz`, each up to 2 ms late.
    fn pictures(hz: u64, limit: &mut Limit) -> Vec<u64> {
        let refreshes = (0..10 * hz).map(|number| 7 * SECOND + number * SECOND / hz + number * 7_919 % 2_000_000);
        refreshes
            .filter(|&at| {
                let taken = at >= limit.next_ns();
                if taken {
                    limit.picture(at);
                }
                taken
            })
            .collect()
    }

    #[test]
    fn a_faster_output_is_taken_at_the_modes_rate() {
        for hz in [72, 75, 90, 120, 144, 240] {
            let taken = pictures(hz, &mut Limit::new(60_000));
            assert!((595..=601).contains(&taken.len()), "{} of {hz} Hz in ten seconds", taken.len());
            let longest = taken.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(longest < 2 * SECOND / 60, "a gap of {longest} ns at {hz} Hz");
        }
    }

    /// `[display] refresh_multiple`: a headless output refreshes with a timer of whole milliseconds, and so a bit faster
    /// than it says.
    #[test]
    fn an_output_at_a_multiple_of_the_rate_gives_the_rate_and_the_newest_pictures() {
        for (refresh_mhz, multiple) in [(30_000, 2), (59_940, 2), (60_000, 2), (60_000, 3), (60_000, 4), (120_000, 4)] {
            let output_mhz = refresh_mhz * multiple;
            let mut limit = Limit::new(refresh_mhz);
            assert!(limit.holds_back(output_mhz));
            let period = 1_000_000 / u64::from(output_mhz) * 1_000_000;
            let (mut asked, mut taken, mut oldest) = (7 * SECOND, 0, 0);
            for at in (0..10 * SECOND / period).map(|number| 7 * SECOND + number * period) {
                // The picture that is asked for comes with the next refresh: nothing drawn before waits any longer.
                if at >= asked.max(limit.next_ns()) {
                    oldest = oldest.max(at - asked.max(limit.next_ns()));
                    limit.picture(at);
                    (asked, taken) = (at, taken + 1);
                }
            }
            let expected = u64::from(refresh_mhz) / 100;
            assert!(
                (expected - 2..=expected + 2).contains(&taken),
                "{taken} of {expected} at {multiple} times the rate"
            );
            assert!(oldest <= period, "a picture waited {oldest} ns where {period} ns is a refresh");
        }
    }

    #[test]
    fn an_output_of_the_modes_own_rate_is_never_missed_nor_held_back() {
        assert_eq!(pictures(60, &mut Limit::new(60_000)).len(), 600);
        let limit = Limit::new(60_000);
        assert!(![0, 30_000, 59_940, 60_000, 62_500, 66_000].into_iter().any(|output| limit.holds_back(output)));
        assert!([72_000, 75_000, 144_000, u32::MAX].into_iter().all(|output| limit.holds_back(output)));
    }

    #[test]
    fn a_pause_is_not_made_good() {
        let mut limit = Limit::new(60_000);
        limit.picture(SECOND);
        limit.picture(60 * SECOND);
        assert_eq!(limit.next_ns(), 60 * SECOND, "the first after a pause waits for nothing");
        limit.picture(60 * SECOND + 1);
        assert!(limit.next_ns() > 60 * SECOND + SECOND / 61);
    }
}
