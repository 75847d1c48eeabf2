//! The client's end of its events: numbers them, sends them at once, and again until the host has them. Sans-IO.
//! PROTOCOL.md §16.3.

mod merge;

use std::collections::VecDeque;

use super::InputEvent;
use super::datagram::{Ack, DatagramWriter};

/// Most events that are not acknowledged.
pub const CAPACITY: usize = 1024;
/// Of those, most that were ever sent: the rest waits here, where it can still be merged.
const WINDOW: usize = 768;
/// Events that a datagram repeats before its new ones, so that a single loss costs no round trip.
const REPEATED: usize = 8;
/// Least time without an acknowledgement before the oldest events leave again.
const TIMEOUT_NS: u64 = 20_000_000;
/// Least time between two answers to a loss that the host's acknowledgements show.
const RESEND_NS: u64 = 5_000_000;
/// Waiting longer and longer for a host that takes nothing ends here, or at what the round trip asks for.
const PATIENCE_NS: u64 = 100_000_000;
/// Longest round trip that is believed.
const MAX_RTT_NS: u64 = 1_000_000_000;

/// [`CAPACITY`] events wait for the host, and this one cannot be merged into the last of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too many input events wait for the host's acknowledgement")]
pub struct Full;

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct OutboxCounts {
    /// Events that were given a number.
    pub sent: u64,
    pub acknowledged: u64,
    /// Events that were sent, and of which nobody can say any more whether they arrived.
    pub given_up: u64,
    /// Events that became part of one that waited.
    pub merged: u64,
    /// Events refused with [`Full`].
    pub refused: u64,
    pub datagrams: u64,
    /// Events that left again because the host did not have them in time. What each datagram repeats anyway is not
    /// counted.
    pub retransmitted: u64,
    /// Answers of the host that were none, or spoke of what was never sent.
    pub malformed: u64,
}

struct Entry {
    event: InputEvent,
    at_ns: u64,
    /// Stamp of the last datagram that carried it; 0 before the first.
    sent_ns: u64,
}

/// Events on their way to the host. Times are of one monotonic clock, in ns.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Entry>,
    /// Number of the queue's front.
    first: u32,
    /// Entries at the front that were sent at least once.
    sent: usize,
    /// Entries at the front that need not be sent now; behind `sent` while all is sent again.
    cursor: usize,
    /// Stamp of the last datagram. Every datagram's is its own, so that an acknowledgement names one.
    stamp_ns: u64,
    /// Newest stamp that came back.
    echoed_ns: u64,
    /// Smoothed round trip, the host's wait before it acknowledges included.
    rtt_ns: u64,
    /// When the oldest events leave again if nothing is acknowledged.
    timeout_ns: Option<u64>,
    /// When everything leaves again, because the host has shown that it lacks the oldest event.
    resend_ns: Option<u64>,
    /// When that was last done.
    resent_ns: u64,
    /// Times that something left again since the host last took something.
    vain: u32,
    counts: OutboxCounts,
}

impl Outbox {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an event that happens at `now_ns` and gives it a number. With [`CAPACITY`] events unacknowledged, motion,
    /// positions, scrolling and the sticks and triggers of a pad become part of an event that was not sent yet, where that
    /// changes neither order nor outcome, and take that event's number.
    pub fn push(&mut self, now_ns: u64, event: InputEvent) -> Result<u32, Full> {
        if self.queue.len() < CAPACITY {
            self.queue.push_back(Entry { event, at_ns: now_ns, sent_ns: 0 });
            self.counts.sent += 1;
            return Ok(self.seq(self.queue.len() - 1));
        }
        for index in (self.sent..self.queue.len()).rev() {
            let waiting = &mut self.queue[index].event;
            if let Some(merged) = merge::merged(waiting, &event) {
                *waiting = merged;
                self.counts.merged += 1;
                return Ok(self.seq(index));
            }
            if !merge::commute(waiting, &event) {
                break;
            }
        }
        self.counts.refused += 1;
        Err(Full)
    }

    /// Puts a datagram that is to be sent now into `out`, which is cleared; false if there is none. Call again until then.
    pub fn poll(&mut self, now_ns: u64, out: &mut Vec<u8>) -> bool {
        let due = |at_ns: Option<u64>| at_ns.is_some_and(|at_ns| now_ns >= at_ns);
        if due(self.resend_ns) {
            (self.cursor, self.resend_ns, self.resent_ns) = (0, None, now_ns);
            self.vain += 1;
        }
        // The oldest alone, as far as one datagram goes: its acknowledgement shows whether the rest is missing too.
        let probe = due(self.timeout_ns);
        let start = if probe {
            self.vain += 1;
            0
        } else if self.cursor < self.queue.len().min(WINDOW) {
            if self.cursor < self.sent { self.cursor } else { self.cursor.saturating_sub(REPEATED) }
        } else {
            out.clear();
            return false;
        };
        let end = self.write(now_ns, start, out);
        if probe || self.cursor < self.sent {
            self.counts.retransmitted += end.min(self.sent).saturating_sub(start) as u64;
        }
        self.cursor = self.cursor.max(end);
        self.sent = self.sent.max(end);
        if probe || self.timeout_ns.is_none() {
            self.timeout_ns = Some(now_ns + self.patience_ns(TIMEOUT_NS.max(2 * self.rtt_ns)));
        }
        true
    }

    /// When [`Self::poll`] may have something, at the latest; 0 for now, `None` for not before an event or an answer.
    pub fn deadline(&self) -> Option<u64> {
        if self.cursor < self.queue.len().min(WINDOW) {
            return Some(0);
        }
        self.timeout_ns.into_iter().chain(self.resend_ns).min()
    }

    /// Takes in an answer of the host. `None` if it is malformed or speaks of what was never sent: then nothing changed.
    pub fn acknowledge(&mut self, now_ns: u64, datagram: &[u8]) -> Option<()> {
        let ack = Ack::decode(datagram).filter(|ack| ack.client_ns <= self.stamp_ns);
        let taken = ack.map(|ack| ack.next.wrapping_sub(self.first));
        let (Some(ack), Some(taken)) = (ack, taken) else {
            self.counts.malformed += 1;
            return None;
        };
        if taken >= 1 << 31 {
            // Overtaken by a newer one.
            return Some(());
        }
        let taken = taken as usize;
        if taken > self.sent {
            self.counts.malformed += 1;
            return None;
        }
        if ack.client_ns > self.echoed_ns {
            self.echoed_ns = ack.client_ns;
            self.measure(now_ns.saturating_sub(ack.client_ns));
        }
        self.queue.drain(..taken);
        self.first = self.first.wrapping_add(taken as u32);
        (self.sent, self.cursor) = (self.sent - taken, self.cursor.saturating_sub(taken));
        self.counts.acknowledged += taken as u64;
        if taken > 0 {
            self.vain = 0;
            self.resend_ns = None;
            self.timeout_ns = (self.sent > 0).then(|| now_ns + TIMEOUT_NS.max(2 * self.rtt_ns));
        }
        let Some(oldest) = self.queue.front().filter(|_| self.cursor > 0 && self.resend_ns.is_none()) else {
            return Some(());
        };
        // The host has a datagram that left after the last with its next event, so that one was lost; or it had no place
        // for all of one.
        let lost = oldest.sent_ns < ack.client_ns;
        if lost || taken > 0 && oldest.sent_ns == ack.client_ns {
            let earliest_ns = self.resent_ns + self.patience_ns(RESEND_NS.max(self.rtt_ns));
            self.resend_ns = Some(if self.resent_ns == 0 { now_ns } else { earliest_ns.max(now_ns) });
        }
        Some(())
    }

    /// What was on its way has been lost with its connection: everything that the host is not known to have leaves again,
    /// at once, in the order of its numbers.
    pub fn reconnected(&mut self) {
        (self.cursor, self.vain, self.resent_ns) = (0, 0, 0);
        (self.timeout_ns, self.resend_ns) = (None, None);
    }

    /// The host knows nothing of what was before, and its numbers begin at 0. What was sent may have arrived, and may
    /// not leave again; what was not goes on its way.
    pub fn renumber(&mut self) {
        self.counts.given_up += self.sent as u64;
        self.queue.drain(..self.sent);
        (self.first, self.sent) = (0, 0);
        self.reconnected();
    }

    /// Number of the oldest event that the host is not known to have.
    pub fn first(&self) -> u32 {
        self.first
    }

    /// Events that the host is not known to have.
    pub fn unacknowledged(&self) -> usize {
        self.queue.len()
    }

    pub fn counts(&self) -> OutboxCounts {
        self.counts
    }

    /// Writes what fits of the queue from `start`, and gives the index behind it.
    fn write(&mut self, now_ns: u64, start: usize, out: &mut Vec<u8>) -> usize {
        self.stamp_ns = now_ns.max(self.stamp_ns + 1);
        self.counts.datagrams += 1;
        let mut writer = DatagramWriter::new(out, self.first.wrapping_add(start as u32), self.stamp_ns);
        let mut end = start;
        for entry in self.queue.iter_mut().take(WINDOW).skip(start) {
            if !writer.push(entry.at_ns, &entry.event) {
                break;
            }
            entry.sent_ns = self.stamp_ns;
            end += 1;
        }
        end
    }

    fn measure(&mut self, rtt_ns: u64) {
        let rtt_ns = rtt_ns.min(MAX_RTT_NS);
        self.rtt_ns = if self.rtt_ns == 0 { rtt_ns } else { (7 * self.rtt_ns + rtt_ns) / 8 };
    }

    /// A host that takes nothing, because it is busy or being rewired, is asked less and less often.
    fn patience_ns(&self, least_ns: u64) -> u64 {
        (least_ns << self.vain.min(8)).min(PATIENCE_NS.max(least_ns))
    }

    fn seq(&self, index: usize) -> u32 {
        self.first.wrapping_add(index as u32)
    }

    /// An outbox whose next event has this number.
    #[cfg(test)]
    pub(crate) fn at(first: u32) -> Self {
        Self { first, ..Self::default() }
    }
}

#[cfg(test)]
#[path = "outbox/tests.rs"]
mod tests;
