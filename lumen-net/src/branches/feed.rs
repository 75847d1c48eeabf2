//! The producer's end of a session's input ring, over its generations, and what does not fit into it yet.

use ipc::Generation;
use ipc::shm::Violation;
use lumen_core::InputEvent;
use lumen_core::input::MAX_EVENT;

use super::Outflow;
use super::pending::{Offered, Pending};
use super::tally::{Count, Tally};

/// Events on their way into the input plane.
#[derive(Default)]
pub struct Feed {
    ring: Option<Outflow>,
    wired: Option<Generation>,
    pending: Pending,
}

impl Feed {
    pub fn ring(&self) -> Option<&Outflow> {
        self.ring.as_ref()
    }

    /// True if this is not a stale generation.
    pub fn wire(&mut self, ring: Outflow) -> bool {
        let newer = self.wired < Some(ring.generation());
        if newer {
            self.wired = Some(ring.generation());
            self.ring = Some(ring);
        }
        newer
    }

    /// True if this generation was wired.
    pub fn retire(&mut self, generation: Generation) -> bool {
        self.ring.take_if(|ring| ring.generation() == generation).is_some()
    }

    /// Drops the ring, and says of which generation it was.
    pub fn let_go(&mut self) -> Option<Generation> {
        self.ring.take().map(|ring| ring.generation())
    }

    /// Whether the plane at the other end keeps to the protocol.
    pub fn check(&self) -> Result<(), Violation> {
        self.ring.as_ref().map_or(Ok(()), Outflow::check)
    }

    /// Puts what waits into the ring, as far as it has room.
    pub fn flush(&mut self, now_ns: u64, tally: &Tally) {
        while let Some(&(number, event)) = self.pending.oldest() {
            if !self.put(number, &event, now_ns, tally) {
                return;
            }
            self.pending.forget_oldest();
        }
    }

    /// True if the event of this number is in the ring, or waits to be.
    pub fn place(&mut self, number: u32, event: &InputEvent, now_ns: u64, tally: &Tally) -> bool {
        if self.ring.is_none() {
            return false;
        }
        self.flush(now_ns, tally);
        if self.pending.is_empty() && self.put(number, event, now_ns, tally) {
            return true;
        }
        match self.pending.offer(number, event) {
            Offered::Kept => true,
            Offered::Merged => {
                tally.add(Count::InputCoalesced);
                true
            }
            Offered::Refused => false,
        }
    }

    fn put(&mut self, number: u32, event: &InputEvent, now_ns: u64, tally: &Tally) -> bool {
        let Some(ring) = &mut self.ring else { return false };
        let mut bytes = [0; MAX_EVENT];
        let len = event.encode(&mut bytes);
        let put = ring.put(number, now_ns, &bytes[..len]);
        if put {
            tally.add(Count::InputEvents);
        }
        put
    }
}
