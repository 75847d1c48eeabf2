//! The numbers of lumend's policy and the arithmetic on them: restarts, bitrates, the rate of asks.

use std::collections::VecDeque;

use lumen_core::Mode;

pub const SECOND: u64 = 1_000_000_000;

/// A plane that has not said `Hello` by then is killed. Loading an encoder's libraries on a busy machine is the
/// slowest thing a plane does before it, and takes some tens of milliseconds.
pub const HELLO_WITHIN: u64 = 3 * SECOND;
/// Two and a half seconds pass at most between a plane's last breath and its end: the first ping that it leaves
/// unanswered comes within half a second, and it has two seconds from there.
pub const PING_EVERY: u64 = SECOND / 2;
/// So many pings without an answer, and the plane is killed.
pub const PINGS_MISSED: u32 = 4;
/// Between a closed link and SIGKILL, for a plane that was told to stop.
pub const STOP_WITHIN: u64 = SECOND;
/// The same for an audio plane, which may have to wait for the session manager to put the default sink back: longer than
/// it waits itself.
pub const STOP_AUDIO_WITHIN: u64 = 3 * SECOND;
/// The same for a plane that closed its link itself: it is about to exit, and its status says why.
pub const EXIT_WITHIN: u64 = SECOND / 10;
/// How long a session may be without a whole wiring before it ends: longer than the restart ladder, shorter than
/// the ten seconds a client waits for its answer.
pub const PATIENCE: u64 = 8 * SECOND;
/// How long a session waits for a native client that has lost it.
pub const RETURN_WITHIN: u64 = 10 * SECOND;
/// What a client holds is lifted when it has been away for so long; keys are held across a network plane's restart.
pub const LET_GO_AFTER: u64 = SECOND;
/// Returns of native clients at once and in the long run: each costs a few wirings.
pub const RETURN_BURST: u32 = 32;
pub const RETURNS_PER_SECOND: u32 = 8;
/// A GameStream client that was accepted has said by then what else it wants, or is gone.
pub const TUNE_WITHIN: u64 = 30 * SECOND;
/// An app that was told to stop, and all that undoes it, is waited for so long before the next is started.
pub const STOP_APP_WITHIN: u64 = 60 * SECOND;
/// No client's protocol carries less in one access unit.
pub const MIN_FRAME_BYTES: u32 = 64 * 1024;

/// Between tries to connect to the desktop.
pub const OPEN_AGAIN: u64 = SECOND / 4;
/// Between tries to give a branch what it needs: a PipeWire that is not running, a compositor that refuses.
pub const WIRE_AGAIN: u64 = 2 * SECOND;
/// How long a janitor may take to put a default sink back: longer than it waits itself for a session manager.
pub const UNDO_WITHIN: u64 = 8 * SECOND;
/// The same while lumend stops: whoever stops it does not wait for ever.
pub const LAST_UNDO_WITHIN: u64 = 3 * SECOND;
/// Between tries to reach PipeWire for a janitor.
pub const UNDO_AGAIN: u64 = 10 * SECOND;

/// Waits before the first, second, third and fourth restart within [`CRASH_WINDOW`]; there is no fifth.
const LADDER: [u64; 4] = [0, SECOND / 4, SECOND, 4 * SECOND];
const CRASH_WINDOW: u64 = 60 * SECOND;
/// A process that lived for so long has done its work in between: what killed it is not what it met first, so that
/// waiting would help nobody. Its heir is started at once, wherever on the ladder it stands.
const PROVEN: u64 = 2 * SECOND;
/// A plane of the host's own that is failed is tried again after this time: nobody may be there to do it by hand.
pub const FAILED_FOR: u64 = 60 * SECOND;
/// Between a picture that flows and the start of its standby encoder: a picture has just come back, or begun, and
/// needs the processor itself.
pub const STANDBY_AFTER: u64 = SECOND;
/// How long a session's word against the network plane is remembered, should another one say the same.
pub const ACCUSED_FOR: u64 = 60 * SECOND;
/// Failures of sessions that are kept for whoever asks.
pub const FAILURES: usize = 8;

/// A plane's recent crashes.
#[derive(Clone, Default, Debug)]
pub struct Crashes(VecDeque<u64>);

impl Crashes {
    /// Counts the crash at `now` of a process that was started `lived` before. Answers when to start the next, or
    /// none: five in a minute is one too many.
    pub fn charge(&mut self, lived: u64, now: u64) -> Option<u64> {
        while self.0.front().is_some_and(|&at| now.saturating_sub(at) >= CRASH_WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        LADDER.get(self.0.len() - 1).map(|wait| if lived >= PROVEN { now } else { now + wait })
    }

    /// The same ladder for exits that are nobody's fault, without an end: the last wait but one repeats.
    pub fn pace(&mut self, lived: u64, now: u64) -> u64 {
        let at = self.charge(lived, now);
        self.0.truncate(2);
        at.unwrap_or(now + SECOND).min(now + SECOND)
    }

    pub fn forget(&mut self) {
        self.0.clear();
    }
}

/// Asks at once and in the long run: a network plane that asks without end costs a refusal each, not processes.
pub const ASK_BURST: u32 = 20;
pub const ASKS_PER_SECOND: u32 = 5;

const BITRATE_KBPS: std::ops::RangeInclusive<u32> = 1_000..=100_000;

/// The wish within 1 to 100 Mbit/s; a wish of 0 is 0.18 bit per pixel, which is 10 Mbit/s at 1280x720@60.
pub fn bitrate_kbps(wish: u32, mode: Mode) -> u32 {
    let rate = if wish > 0 {
        u64::from(wish)
    } else {
        let pixels_per_kilosecond = u64::from(mode.width()) * u64::from(mode.height()) * u64::from(mode.refresh_mhz());
        pixels_per_kilosecond * 18 / 100 / 1_000_000
    };
    (rate.min(u64::from(*BITRATE_KBPS.end())) as u32).max(*BITRATE_KBPS.start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_crashes_in_a_minute_are_too_many() {
        let mut crashes = Crashes::default();
        let waits: Vec<_> = (0..5).map(|i| crashes.charge(0, i * SECOND).map(|at| at - i * SECOND)).collect();
        assert_eq!(waits, [Some(0), Some(SECOND / 4), Some(SECOND), Some(4 * SECOND), None]);

        let mut crashes = Crashes::default();
        for i in 0..50 {
            let at = i * 16 * SECOND;
            assert!(crashes.charge(0, at).is_some(), "four a minute go on for ever");
        }
    }

    #[test]
    fn what_has_lived_is_replaced_at_once_but_not_for_ever() {
        let mut crashes = Crashes::default();
        let waits: Vec<_> = (1..=5).map(|i| crashes.charge(PROVEN, i * PROVEN).map(|at| at - i * PROVEN)).collect();
        assert_eq!(waits, [Some(0), Some(0), Some(0), Some(0), None]);
    }

    #[test]
    fn a_hang_is_over_within_three_seconds() {
        const { assert!(PING_EVERY * (PINGS_MISSED as u64 + 1) <= 5 * SECOND / 2) };
        const { assert!(HELLO_WITHIN <= 3 * SECOND) };
    }

    #[test]
    fn reopening_is_slowed_but_never_fails() {
        let mut reopens = Crashes::default();
        let waits: Vec<_> = (0..8).map(|_| reopens.pace(0, 7) - 7).collect();
        assert_eq!(waits, [0, SECOND / 4, SECOND, SECOND, SECOND, SECOND, SECOND, SECOND]);
        assert_eq!(reopens.pace(PROVEN, 8), 8, "what has lived is replaced at once");
    }

    #[test]
    fn bitrate_follows_the_mode_within_bounds() {
        let mode = |w, h, hz: u32| Mode::new(w, h, hz * 1000).unwrap();
        assert_eq!(bitrate_kbps(0, mode(1280, 720, 60)), 9_953);
        assert_eq!(bitrate_kbps(0, mode(128, 96, 10)), 1_000);
        assert_eq!(bitrate_kbps(0, mode(4096, 2304, 360)), 100_000);
        assert_eq!(bitrate_kbps(u32::MAX, mode(1280, 720, 60)), 100_000);
        assert_eq!(bitrate_kbps(4_000, mode(1280, 720, 60)), 4_000);
    }
}
