//! Bursts of samples in, slots of one packet's time out, evenly. Pure: time is an argument.
//!
//! Every sample has a time: its cycle's beginning and its place in the cycle, by PipeWire's clock, smoothed. A slot
//! leaves a fixed delay after its first sample's time. Since no cycle brings a sample later than that sample's own
//! time, a slot's length and the lateness of cycles are delay enough, whatever the quantum; lateness is learned.

use std::collections::VecDeque;

use lumen_core::audio::{PacketTime, SAMPLE_RATE};

/// Beyond the lateness seen so far.
const GUARD_NS: i64 = 300_000;
/// The usual lateness grows by 49 of these for a cycle that exceeds it and shrinks by one for every other: in the end
/// one cycle of fifty is later. A rare hiccup costs a late packet, and no lasting latency.
const LEARN_NS: i64 = 4_000;
const LEARN_UP: i64 = 49;
/// So much more is learned from a slot whose samples came too late.
const STARVED_NS: i64 = 1_000_000;
/// So much does the lateness that no cycle falls below grow with each: a clock that always lags is found out in time.
const FLOOR_RISE_NS: i64 = 500_000;
/// A cycle that began longer ago than this began now: its clock is not ours.
const STALE_NS: i64 = 200_000_000;
/// How long a slot waits for its samples when it is due, before silence takes its place.
const PATIENCE_NS: i64 = 5_000_000;
/// When to look again for samples that are late.
const RETRY_NS: i64 = 500_000;
/// Slots later than this, because this process was kept from running, are not sent but skipped.
const MAX_BEHIND_NS: i64 = 60_000_000;
/// A cycle this far from where the one before ended is not drift: cycles are missing, or the clock was changed.
const JUMP_NS: i64 = 2_000_000;
/// A gap longer than this is not filled with silence but skipped.
const MAX_GAP_NS: i64 = 100_000_000;
/// Samples of each channel that are held at most: twice PipeWire's largest quantum, 0.34 s.
const CAPACITY: usize = 16_384;

/// What a slot was made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot {
    /// CLOCK_MONOTONIC nanoseconds of its first sample; strictly increasing.
    pub pts_ns: u64,
    /// Nanoseconds that its first sample has waited here; none if the slot is (partly) made up.
    pub waited_ns: Option<u64>,
}

/// The queue between PipeWire's bursts and the slots.
#[derive(Debug)]
pub struct Slots {
    channels: usize,
    /// Samples of each channel in a slot, and their time.
    slot_frames: usize,
    slot_ns: i64,
    samples: VecDeque<f32>,
    /// Time of the first queued sample, or of the next that will be, in CLOCK_MONOTONIC nanoseconds.
    head_ns: i64,
    /// Lateness of cycles: what few exceed, and what none falls below.
    usual_ns: i64,
    floor_ns: i64,
    departed_ns: i64,
    last_pts_ns: i64,
    /// A due slot had too few samples; look again then.
    retry_ns: Option<i64>,
    /// Bursts not yet used up: frames left of each, and when it came.
    bursts: VecDeque<(usize, u64)>,
    starving: bool,
    /// It has begun to starve, and nothing has been learned from that.
    unlearned: bool,
    quantum: u32,
    overruns: u64,
}

const fn ns_of(frames: usize) -> i64 {
    frames as i64 * 1_000_000_000 / SAMPLE_RATE as i64
}

const fn frames_in(ns: i64) -> usize {
    (ns * SAMPLE_RATE as i64 / 1_000_000_000) as usize
}

impl Slots {
    /// An empty queue for interleaved samples: silence begins at once.
    pub fn new(channels: usize, packet: PacketTime, now_ns: u64) -> Self {
        let (now_ns, slot_ns) = (now_ns as i64, packet.ns() as i64);
        Self {
            channels,
            slot_frames: packet.samples(),
            slot_ns,
            samples: VecDeque::with_capacity(CAPACITY * channels),
            head_ns: now_ns,
            usual_ns: 0,
            floor_ns: 0,
            departed_ns: now_ns - slot_ns,
            last_pts_ns: 0,
            retry_ns: None,
            bursts: VecDeque::with_capacity(CAPACITY / 16),
            starving: true,
            unlearned: false,
            quantum: 0,
            overruns: 0,
        }
    }

    /// Takes what one cycle brings: interleaved samples, when the cycle began by PipeWire's clock, and the time now.
    /// A cycle time that cannot be is replaced by the time now.
    pub fn push(&mut self, cycle_ns: u64, now_ns: u64, samples: &[f32]) {
        let frames = (samples.len() / self.channels).min(CAPACITY);
        if frames == 0 {
            return;
        }
        self.quantum = frames as u32;
        let now = now_ns as i64;
        let since = now_ns.checked_sub(cycle_ns).filter(|since| *since <= STALE_NS as u64).unwrap_or(0);
        let cycle = now - since as i64;
        self.learn(now - cycle);
        let skipped = self.align(cycle, frames);
        self.retry_ns = None;
        if skipped == frames {
            return;
        }
        (self.starving, self.unlearned) = (false, false);
        let free = CAPACITY - self.queued();
        if frames - skipped > free {
            self.overruns += 1;
            self.forget(frames - skipped - free);
        }
        self.samples.extend(&samples[skipped * self.channels..frames * self.channels]);
        self.bursts.push_back((frames - skipped, now_ns));
    }

    /// When to call [`take`](Self::take) next, in CLOCK_MONOTONIC nanoseconds.
    pub fn due(&self) -> u64 {
        // Slots that are late follow each other at twice their pace, and no faster.
        let due = (self.head_ns + self.delay()).max(self.departed_ns + self.slot_ns / 2);
        self.retry_ns.map_or(due, |retry| retry.max(due)).max(0) as u64
    }

    /// Fills `out` with the next slot's interleaved samples; none if it is not due or its samples may still come.
    pub fn take(&mut self, now_ns: u64, out: &mut [f32]) -> Option<Slot> {
        if now_ns < self.due() || out.len() != self.slot_frames * self.channels {
            return None;
        }
        let now = now_ns as i64;
        self.catch_up(now);
        let whole = self.queued() >= self.slot_frames;
        if !whole && !self.starving && now < self.head_ns + self.delay() + PATIENCE_NS {
            self.retry_ns = Some(now + RETRY_NS);
            return None;
        }
        self.retry_ns = None;
        let waited_ns = self.bursts.front().filter(|_| whole).map(|(_, came)| now_ns.saturating_sub(*came));
        let have = self.queued().min(self.slot_frames);
        let (sound, silence) = out.split_at_mut(have * self.channels);
        sound.iter_mut().zip(self.samples.drain(..have * self.channels)).for_each(|(to, from)| *to = from);
        silence.fill(0.0);
        self.use_up(have);
        self.unlearned |= !whole && !self.starving;
        self.starving = !whole;
        let pts = self.head_ns.max(self.last_pts_ns + 1);
        self.last_pts_ns = pts;
        self.head_ns += self.slot_ns;
        self.departed_ns = now;
        Some(Slot { pts_ns: pts.max(0) as u64, waited_ns })
    }

    /// Samples that the last cycle brought.
    pub const fn quantum(&self) -> u32 {
        self.quantum
    }

    /// Times samples were thrown away because they came faster than slots.
    pub const fn overruns(&self) -> u64 {
        self.overruns
    }

    fn queued(&self) -> usize {
        self.samples.len() / self.channels
    }

    /// From a slot's first sample to its departure.
    fn delay(&self) -> i64 {
        self.slot_ns + GUARD_NS + self.usual_ns.max(self.floor_ns)
    }

    fn learn(&mut self, lateness: i64) {
        let more = if lateness > self.usual_ns { LEARN_UP } else { -1 };
        self.usual_ns = (self.usual_ns + more * LEARN_NS).max(0);
        self.floor_ns = lateness.min(self.floor_ns + FLOOR_RISE_NS);
    }

    /// Brings the clock in line with a cycle of `frames` that begins at `cycle`; returns how many of them are to be
    /// left out, because silence has already been sent in their place.
    fn align(&mut self, cycle: i64, frames: usize) -> usize {
        let error = cycle - (self.head_ns + ns_of(self.queued()));
        let small = if self.starving { 0..=0 } else { -JUMP_NS..=JUMP_NS };
        if small.contains(&error) {
            self.head_ns += error / 16;
            return 0;
        }
        if !(-MAX_GAP_NS..=MAX_GAP_NS).contains(&error) {
            // Another clock altogether: what is queued belongs to the old one.
            if self.queued() > 0 {
                self.overruns += 1;
                self.forget(self.queued());
            }
            self.head_ns = cycle;
        } else if error > 0 {
            let gap = frames_in(error).min(CAPACITY - self.queued());
            self.samples.extend(std::iter::repeat_n(0.0, gap * self.channels));
            self.bursts.push_back((gap, cycle as u64));
        } else if self.starving {
            self.usual_ns += if std::mem::take(&mut self.unlearned) { STARVED_NS } else { 0 };
            return frames_in(-error).min(frames);
        } else {
            self.head_ns += error;
        }
        0
    }

    /// After a stall: whoever listens wants to hear what is played now.
    fn catch_up(&mut self, now: i64) {
        let behind = now - (self.head_ns + self.delay());
        if behind > MAX_BEHIND_NS {
            let slots = behind / self.slot_ns;
            let queued = self.queued().min(slots as usize * self.slot_frames);
            self.overruns += u64::from(queued > 0);
            let head = self.head_ns + slots * self.slot_ns;
            self.forget(queued);
            self.head_ns = head;
        }
    }

    /// Throws the oldest samples away.
    fn forget(&mut self, frames: usize) {
        self.samples.drain(..frames * self.channels);
        self.use_up(frames);
        self.head_ns += ns_of(frames);
    }

    fn use_up(&mut self, mut frames: usize) {
        while let Some((left, _)) = self.bursts.front_mut() {
            if *left > frames {
                *left -= frames;
                return;
            }
            frames -= *left;
            self.bursts.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "slots/tests.rs"]
mod tests;
