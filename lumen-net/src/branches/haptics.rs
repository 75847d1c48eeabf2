//! Rumble: the newest state of each pad, from the haptics ring to the client.

use ipc::shm::Violation;
use lumen_core::input::{MAX_PADS, Rumble};

use super::tally::{Count, Tally};
use super::{Inflow, TURN};

/// A pad's motors follow no faster; states that come faster replace each other, so that a game that changes them every
/// frame does not crowd out sound.
const INTERVAL_NS: u64 = 4_000_000;

/// A session's rumble.
#[derive(Default)]
pub struct Haptics {
    ring: Option<Inflow>,
    /// States not sent yet, one a pad.
    waiting: [Option<Rumble>; MAX_PADS as usize],
    /// Nothing is sent before this.
    next_ns: u64,
}

impl Haptics {
    pub fn ring(&self) -> Option<&Inflow> {
        self.ring.as_ref()
    }

    pub fn wire(&mut self, ring: Inflow) {
        self.ring = Some(ring);
    }

    pub fn retire(&mut self) {
        self.ring = None;
    }

    /// When [`Self::send`] has something to do.
    pub fn due_ns(&self) -> Option<u64> {
        self.waiting.iter().any(Option::is_some).then_some(self.next_ns)
    }

    /// Takes what the ring holds.
    pub fn take(&mut self) -> Result<(), Violation> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        for _ in 0..TURN {
            let Some((_, payload)) = ring.take()? else { return Ok(()) };
            let rumble = Rumble::decode(payload).ok_or(Violation("what it says is no rumble"))?;
            self.waiting[usize::from(rumble.pad.get())] = Some(rumble);
        }
        ring.again();
        Ok(())
    }

    /// Gives what waits to `send`, which says whether it could, if it is time; before the client is `live` it is
    /// forgotten.
    pub fn send(&mut self, live: bool, now_ns: u64, tally: &Tally, mut send: impl FnMut(&Rumble) -> bool) {
        if self.due_ns().is_none_or(|due_ns| now_ns < due_ns) {
            return;
        }
        self.next_ns = now_ns + INTERVAL_NS;
        for rumble in self.waiting.iter_mut().filter_map(Option::take).filter(|_| live) {
            // The plane says every state again within half a second, so one that is lost needs no more.
            if send(&rumble) {
                tally.add(Count::Rumbles);
            }
        }
    }
}
