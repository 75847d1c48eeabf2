//! What of a stream of sound has come, when, and what is missing: the client's side. PROTOCOL.md §15.4.

use super::FRAME_NS;
use crate::histogram::Histogram;

/// Packets behind the newest that a packet may be and still be told from a duplicate: 1.28 s.
const WINDOW: u32 = 256;
/// A leap of more than this, one minute, is a new beginning and not a loss.
const MAX_LEAP: u32 = 12_000;
/// Differences of times are believed up to a minute.
const MAX_NS: i64 = 60_000_000_000;
/// Capture times this much further apart than the numbers say are a gap: the host captured nothing there.
const GAP_NS: i64 = 2 * FRAME_NS as i64;
/// The usual transit follows the packets' by a part of this once it knows so many: half a second or so of them.
const SETTLED: i64 = 128;

/// What to do with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Play it, after so many that are missing before it: their sound is to be concealed. At most a minute of them.
    Play { lost_before: u32 },
    /// Its place has been played already.
    Late,
    /// It came before.
    Duplicate,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct SoundCounts {
    /// Packets, late ones included, duplicates not.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came after a later one was played.
    pub late: u64,
    pub duplicates: u64,
    /// Times that the host's capture paused for two packets or more, or its stream began anew.
    pub gaps: u64,
}

/// Follows one session's packets. Memory is fixed.
#[derive(Default)]
pub struct Tracker {
    last: Option<Last>,
    /// Bit `n`: the packet `n` before the newest has come.
    seen: [u64; WINDOW as usize / 64],
    counts: SoundCounts,
    /// How long packets usually are under way, in ns plus an unknown constant: relative to the first one's.
    usual_ns: i64,
    settling: i64,
    /// Interarrival jitter in ns, times 16.
    jitter_16: i64,
    deviations: Histogram,
}

/// The newest packet.
#[derive(Clone, Copy)]
struct Last {
    seq: u32,
    pts_ns: u64,
    received_ns: u64,
    /// Its way's length in ns, compared with that of the first packet.
    transit_ns: i64,
}

impl Tracker {
    pub fn new() -> Self {
        Self::default()
    }

    /// Judges a packet that arrived at `received_ns` of the client's monotonic clock.
    pub fn packet(&mut self, seq: u32, pts_ns: u64, received_ns: u64) -> Verdict {
        let Some(last) = self.last else {
            self.begin(Last { seq, pts_ns, received_ns, transit_ns: 0 });
            return Verdict::Play { lost_before: 0 };
        };
        match seq.wrapping_sub(last.seq) {
            0 => self.duplicate(),
            ahead if ahead <= MAX_LEAP => {
                self.ahead(last, ahead, pts_ns, received_ns);
                Verdict::Play { lost_before: ahead - 1 }
            }
            ahead if ahead.wrapping_neg() <= MAX_LEAP => self.behind(ahead.wrapping_neg()),
            _ => {
                self.counts.gaps += 1;
                self.begin(Last { seq, pts_ns, received_ns, transit_ns: 0 });
                Verdict::Play { lost_before: 0 }
            }
        }
    }

    pub fn counts(&self) -> SoundCounts {
        self.counts
    }

    /// How far from their usual transit packets arrived, either way, in ns.
    pub fn jitter(&self) -> &Histogram {
        &self.deviations
    }

    /// Interarrival jitter as RFC 3550 §6.4.1 has it, in ns.
    pub fn interarrival_jitter_ns(&self) -> u64 {
        (self.jitter_16 / 16).unsigned_abs()
    }

    fn begin(&mut self, first: Last) {
        self.last = Some(first);
        self.seen = [1, 0, 0, 0];
        self.counts.received += 1;
        (self.usual_ns, self.settling) = (0, 0);
        self.deviations.record(0);
    }

    fn ahead(&mut self, last: Last, ahead: u32, pts_ns: u64, received_ns: u64) {
        self.counts.received += 1;
        self.counts.lost += u64::from(ahead - 1);
        self.shift(ahead);
        self.seen[0] |= 1;
        let apart_ns = difference(pts_ns, last.pts_ns);
        if apart_ns - i64::from(ahead) * FRAME_NS as i64 >= GAP_NS {
            self.counts.gaps += 1;
        }
        let step_ns = (difference(received_ns, last.received_ns) - apart_ns).clamp(-MAX_NS, MAX_NS);
        let transit_ns = last.transit_ns.saturating_add(step_ns).clamp(-MAX_NS, MAX_NS);
        self.jitter_16 += step_ns.abs() - (self.jitter_16 + 8) / 16;
        self.deviations.record((transit_ns - self.usual_ns).unsigned_abs());
        self.settling = (self.settling + 1).min(SETTLED);
        self.usual_ns += (transit_ns - self.usual_ns) / (self.settling + 1);
        self.last = Some(Last { seq: last.seq.wrapping_add(ahead), pts_ns, received_ns, transit_ns });
    }

    fn behind(&mut self, behind: u32) -> Verdict {
        let place = self.seen.get_mut(behind as usize / 64);
        if let Some(word) = place {
            let bit = 1 << (behind % 64);
            if *word & bit != 0 {
                return self.duplicate();
            }
            *word |= bit;
            // Packets before the very first were never counted as lost.
            self.counts.lost = self.counts.lost.saturating_sub(1);
        }
        self.counts.received += 1;
        self.counts.late += 1;
        Verdict::Late
    }

    fn duplicate(&mut self) -> Verdict {
        self.counts.duplicates += 1;
        Verdict::Duplicate
    }

    /// Moves the window on.
    fn shift(&mut self, ahead: u32) {
        if ahead >= WINDOW {
            self.seen = [0; WINDOW as usize / 64];
            return;
        }
        let (words, bits) = (ahead as usize / 64, ahead % 64);
        for index in (0..self.seen.len()).rev() {
            let high = index.checked_sub(words).map_or(0, |from| self.seen[from] << bits);
            let low = match index.checked_sub(words + 1) {
                Some(from) if bits > 0 => self.seen[from] >> (64 - bits),
                _ => 0,
            };
            self.seen[index] = high | low;
        }
    }
}

fn difference(later_ns: u64, earlier_ns: u64) -> i64 {
    (later_ns.wrapping_sub(earlier_ns) as i64).clamp(-MAX_NS, MAX_NS)
}

#[cfg(test)]
#[path = "tracker/tests.rs"]
mod tests;
