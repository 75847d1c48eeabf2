//! When the last picture is encoded once more: a screen that stands still must not look like a stream that broke, and
//! an IDR must not wait for the next thing to move.

/// A desktop without a new picture for this long is still.
const STILL_AFTER_NS: u64 = 500_000_000;

/// From one repeat of a still picture to the next.
const STILL_INTERVAL_NS: u64 = 100_000_000;

/// The deadline of the next repeat. Times are nanoseconds of any one clock.
#[derive(Debug)]
pub(crate) struct Still {
    frame_interval_ns: u64,
    /// When the last picture was encoded; none before there is one to repeat.
    last_ns: Option<u64>,
    due_ns: u64,
}

impl Still {
    pub(crate) fn new(frame_interval_ns: u64) -> Self {
        Self { frame_interval_ns, last_ns: None, due_ns: u64::MAX }
    }

    /// A new picture was encoded.
    pub(crate) fn fresh(&mut self, now_ns: u64) {
        self.last_ns = Some(now_ns);
        self.due_ns = now_ns.saturating_add(STILL_AFTER_NS);
    }

    /// The last picture was encoded again.
    pub(crate) fn repeated(&mut self, now_ns: u64) {
        self.last_ns = Some(now_ns);
        self.due_ns = now_ns.saturating_add(STILL_INTERVAL_NS);
    }

    /// Something about the last picture has to be sent again, if no newer one comes within a frame's time of it: so
    /// that however often this is asked, a repeat costs no more than a moving desktop.
    pub(crate) fn hasten(&mut self) {
        if let Some(last_ns) = self.last_ns {
            self.due_ns = self.due_ns.min(last_ns.saturating_add(self.frame_interval_ns));
        }
    }

    /// The last picture could not be sent and is to be tried again at once.
    pub(crate) fn retry(&mut self) {
        self.last_ns = self.last_ns.or(Some(0));
        self.due_ns = 0;
    }

    /// When to repeat; none while there is nothing to repeat.
    pub(crate) fn due_ns(&self) -> Option<u64> {
        self.last_ns.map(|_| self.due_ns)
    }

    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        self.due_ns().is_some_and(|due_ns| due_ns <= now_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: u64 = 16_666_666;
    const SECOND: u64 = 1_000_000_000;

    /// The times of the repeats in `[from, until)`, each served at once.
    fn repeats(still: &mut Still, from: u64, until: u64) -> Vec<u64> {
        let mut at = Vec::new();
        while let Some(due) = still.due_ns().map(|due| due.max(from)).filter(|&due| due < until) {
            assert!(still.is_due(due));
            still.repeated(due);
            at.push(due);
        }
        at
    }

    #[test]
    fn a_still_desktop_is_repeated_ten_times_a_second_after_half_a_second() {
        let mut still = Still::new(FRAME);
        assert_eq!(still.due_ns(), None);
        still.hasten();
        assert_eq!(still.due_ns(), None, "nothing to repeat yet");
        still.fresh(SECOND);
        let at = repeats(&mut still, SECOND, 3 * SECOND);
        assert_eq!(at.len(), 15);
        assert_eq!(at[..2], [SECOND + SECOND / 2, SECOND + 6 * SECOND / 10]);
    }

    #[test]
    fn a_moving_desktop_is_never_repeated() {
        let mut still = Still::new(FRAME);
        for frame in 0..600 {
            let now = frame * FRAME;
            assert!(!still.is_due(now));
            still.fresh(now);
        }
    }

    #[test]
    fn a_retry_is_due_at_once_even_of_the_very_first_picture() {
        let mut still = Still::new(FRAME);
        still.retry();
        assert!(still.is_due(SECOND));
        still.fresh(SECOND);
        assert!(!still.is_due(SECOND));
    }

    #[test]
    fn wishes_hasten_a_repeat_but_never_beyond_the_frame_rate() {
        let mut still = Still::new(FRAME);
        still.fresh(SECOND);
        let mut served = 0;
        for step in 0..1_000 {
            let now = SECOND + step * 1_000_000;
            still.hasten();
            if still.is_due(now) {
                still.repeated(now);
                served += 1;
            }
        }
        assert!((55..=60).contains(&served), "{served} repeats in a second of wishes");
    }
}
