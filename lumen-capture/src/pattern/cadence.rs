//! When the frames of a source with a steady rate are due, without drift.

use lumen_core::Mode;

/// Deadlines at a mode's exact rate: frame `n` is due `n / rate` after the start, each rounded on its own, so that
/// rounding never adds up.
#[derive(Clone, Debug)]
pub struct Cadence {
    start_ns: u64,
    refresh_mhz: u32,
    next: u64,
}

impl Cadence {
    /// The first frame is due at `start_ns`.
    pub fn new(mode: Mode, start_ns: u64) -> Self {
        Self { start_ns, refresh_mhz: mode.refresh_mhz(), next: 0 }
    }

    /// When the next frame is due.
    pub fn deadline(&self) -> u64 {
        self.time_of(self.next)
    }

    /// Whether a frame is due at `now_ns`; if so, moves on to the next. Frames that were missed altogether are left
    /// out, not made up for: a source that was late goes on in its old rhythm.
    pub fn due(&mut self, now_ns: u64) -> bool {
        if now_ns < self.deadline() {
            return false;
        }
        let elapsed = u128::from(now_ns - self.start_ns);
        let current = (elapsed * u128::from(self.refresh_mhz) / 1_000_000_000_000) as u64;
        self.next = self.next.max(current) + 1;
        true
    }

    fn time_of(&self, tick: u64) -> u64 {
        // Rounded up, so that `due` at exactly this time finds this tick and not the one before.
        let offset = (u128::from(tick) * 1_000_000_000_000).div_ceil(u128::from(self.refresh_mhz));
        self.start_ns + offset as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_exactly_as_many_frames_as_the_rate_says() {
        for refresh_mhz in [10_000, 23_976, 59_940, 60_000, 120_000, 143_981, 360_000] {
            let mode = Mode::new(1280, 720, refresh_mhz).unwrap();
            let mut cadence = Cadence::new(mode, 5_000_000_007);
            let end = 5_000_000_007 + 3_600_000_000_000;
            let mut frames = 0u64;
            while cadence.deadline() < end {
                assert!(cadence.due(cadence.deadline()), "a deadline is due at its own time");
                frames += 1;
            }
            assert_eq!(frames, (u64::from(refresh_mhz) * 3600).div_ceil(1000), "{refresh_mhz} mHz");
        }
    }

    #[test]
    fn a_late_source_keeps_its_rhythm() {
        let mut cadence = Cadence::new(Mode::new(1280, 720, 100_000).unwrap(), 0);
        assert!(cadence.due(0));
        assert!(!cadence.due(9_999_999));
        assert!(cadence.due(13_000_000), "late, but still its frame");
        assert_eq!(cadence.deadline(), 20_000_000);
        assert!(cadence.due(57_000_000), "three were missed, one is drawn");
        assert!(!cadence.due(57_000_001));
        assert_eq!(cadence.deadline(), 60_000_000);
    }
}
