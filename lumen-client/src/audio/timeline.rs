//! What is missing between two packets, so that a second of sound stays a second, whatever was lost.

use lumen_core::audio::{FRAME_NS, FRAME_SAMPLES, SAMPLE_RATE};

/// Lost packets in a row that are worth guessing at: the guess has faded by then.
const GUESSED: u64 = 20;
/// Longest hole that is filled: after more than that a listener is not helped by silence, and a file is not either.
const FILLED_NS: u64 = 1_000_000_000;
/// Differences below this are the host's clock following that of the sound, not a hole.
const TOLERANCE_NS: u64 = FRAME_NS / 2;

/// What to put before a packet: first the guesses, then silence.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Missing {
    /// Packets to conceal.
    pub concealed: u64,
    /// Samples of each channel to leave silent.
    pub silent: u64,
}

/// Follows capture times from packet to packet. Only neighbours are compared, so that two clocks that drift apart never
/// add up to a hole.
#[derive(Default, Debug)]
pub struct Timeline {
    last_pts_ns: Option<u64>,
}

impl Timeline {
    /// The next packet that is played: captured at `pts_ns`, with `lost` packets missing before it by their numbers.
    pub fn packet(&mut self, pts_ns: u64, lost: u64) -> Missing {
        let Some(last_ns) = self.last_pts_ns.replace(pts_ns) else { return Missing::default() };
        let lost_ns = lost.saturating_mul(FRAME_NS);
        // A host's time that stands still or goes back says nothing: its numbers have to do.
        let hole_ns = match pts_ns.checked_sub(last_ns).map(|step| step.saturating_sub(FRAME_NS)) {
            Some(hole_ns) if hole_ns.abs_diff(lost_ns) > TOLERANCE_NS => hole_ns.max(lost_ns),
            _ => lost_ns,
        };
        let samples = hole_ns.min(FILLED_NS) * u64::from(SAMPLE_RATE) / 1_000_000_000;
        let concealed = lost.min(GUESSED).min(samples / FRAME_SAMPLES as u64);
        Missing { concealed, silent: samples - concealed * FRAME_SAMPLES as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn after(pts_ns: u64, lost: u64) -> Missing {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.packet(1000 * MS, 7), Missing::default(), "nothing is missing before the first");
        timeline.packet(1000 * MS + pts_ns, lost)
    }

    #[test]
    fn lost_packets_are_guessed_at() {
        assert_eq!(after(5 * MS, 0), Missing::default());
        assert_eq!(after(20 * MS, 3), Missing { concealed: 3, silent: 0 });
        // A clock that is being followed is not a hole: no odd sample anywhere.
        assert_eq!(after(20 * MS + 40_000, 3), Missing { concealed: 3, silent: 0 });
        assert_eq!(after(7 * MS, 0), Missing::default());
        assert_eq!(after(505 * MS, 100), Missing { concealed: 20, silent: 80 * 240 });
    }

    #[test]
    fn a_hole_in_time_is_silence_of_its_length() {
        assert_eq!(after(5 * MS + 201 * MS, 0), Missing { concealed: 0, silent: 201 * 48 });
        assert_eq!(after(5 * MS + 201 * MS, 2), Missing { concealed: 2, silent: 191 * 48 });
        assert_eq!(after(3_600_000 * MS, 0), Missing { concealed: 0, silent: 48_000 });
        assert_eq!(after(u64::MAX - 1000 * MS, u64::from(u32::MAX)), Missing { concealed: 20, silent: 48_000 - 4800 });
    }

    #[test]
    fn time_that_goes_back_leaves_the_numbers() {
        let mut timeline = Timeline::default();
        timeline.packet(1000 * MS, 0);
        assert_eq!(timeline.packet(10 * MS, 2), Missing { concealed: 2, silent: 0 });
        assert_eq!(timeline.packet(10 * MS, 1), Missing { concealed: 1, silent: 0 });
    }
}
