//! What a session's branches have done: written by the client's task, read by the control loop once a second.

use std::sync::atomic::{AtomicU64, Ordering};

use ipc::SessionStats;

/// Names a count; its meaning is documented at the field of [`SessionStats`] of the same name.
#[derive(Clone, Copy, Debug)]
pub enum Count {
    AudioPackets,
    AudioDropped,
    InputEvents,
    InputRejected,
    InputCoalesced,
    Rumbles,
}

/// All counts, from zero at the session's start.
#[derive(Default, Debug)]
pub struct Tally([AtomicU64; 6]);

impl Tally {
    pub fn add(&self, count: Count) {
        self.add_many(count, 1);
    }

    pub fn add_many(&self, count: Count, many: u64) {
        // Relaxed: these are statistics, nothing is ordered by them.
        self.0[count as usize].fetch_add(many, Ordering::Relaxed);
    }

    /// Writes the counts into a report of the media thread, which leaves them zero.
    pub fn fill(&self, stats: &mut SessionStats) {
        let read = |count: Count| self.0[count as usize].load(Ordering::Relaxed);
        stats.audio_packets = read(Count::AudioPackets);
        stats.audio_dropped = read(Count::AudioDropped);
        stats.input_events = read(Count::InputEvents);
        stats.input_rejected = read(Count::InputRejected);
        stats.input_coalesced = read(Count::InputCoalesced);
        stats.rumbles = read(Count::Rumbles);
    }
}
