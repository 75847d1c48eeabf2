//! The janitor: an audio plane of no session, started to put back a default sink that dead planes have left changed.
//! It lives only while there is such work and no session's audio plane is about to be given it. When lumend stops, the
//! last one has one try at what the sessions' planes could not put back, or have put back to each other's sinks.

use ipc::PlaneKind;

use super::branch::Stage;
use super::event::{Action, PlaneId};
use super::process::Slot;
use super::{Machine, policy};

#[derive(Debug)]
pub struct Janitor {
    pub slot: Slot,
    /// It has its order, and is to be done by then.
    pub until: Option<u64>,
    /// Not to be given its order before then: there was no PipeWire.
    pub order_at: Option<u64>,
    /// lumend stops, and this is the last.
    last: bool,
}

impl Janitor {
    pub fn new() -> Self {
        Self { slot: Slot::new(PlaneKind::Audio), until: None, order_at: None, last: false }
    }
}

impl Machine {
    /// There is work that nobody is going to do otherwise.
    fn janitor_is_wanted(&self) -> bool {
        let mut audio = self.sessions.values().filter_map(|session| session.audio.as_ref());
        !audio.any(|branch| branch.stage == Stage::New) && self.ledger.has_orphans(&self.heirs().collect())
    }

    /// When the janitor next needs a tick, beside those of its process.
    pub(super) fn janitor_deadline(&self) -> Option<u64> {
        let Janitor { slot, until, order_at, .. } = &self.janitor;
        match slot.current {
            Some(_) => until.or(*order_at),
            None => slot.retry_at.filter(|_| !self.stopping && self.janitor_is_wanted()),
        }
    }

    /// One may be started, if it is wanted.
    fn janitor_is_due(&self, now: u64) -> bool {
        let Janitor { slot, last, .. } = &self.janitor;
        match self.stopping {
            // The sessions' planes put back what they can.
            true => !last && self.processes.values().all(|process| process.kind != PlaneKind::Audio),
            false => slot.retry_at.is_none_or(|at| now >= at),
        }
    }

    pub(super) fn settle_janitor(&mut self, now: u64) {
        let wanted = self.janitor_is_wanted();
        self.janitor.order_at = self.janitor.order_at.filter(|&at| now < at);
        match self.janitor.slot.current {
            None if wanted && self.janitor_is_due(now) => {
                self.janitor.last = self.stopping;
                let plane = self.start(PlaneKind::Audio, None, now);
                self.janitor.slot.fill(plane);
            }
            Some(plane) if self.janitor.until.is_some() => {
                let at_work = self.ledger.holders().any(|holder| holder == plane);
                if !at_work {
                    self.dismiss_janitor(now);
                }
            }
            Some(_) if !wanted => self.dismiss_janitor(now),
            Some(plane) if self.is_ready(plane) && self.janitor.order_at.is_none() => {
                let records = self.ledger.hand_over(plane, &self.heirs().collect());
                let within = if self.stopping { policy::LAST_UNDO_WITHIN } else { policy::UNDO_WITHIN };
                self.janitor.until = Some(now + within);
                self.out.push(Action::Undo { plane, records });
            }
            _ => {}
        }
    }

    /// Its work is done, or somebody else's.
    pub(super) fn dismiss_janitor(&mut self, now: u64) {
        self.janitor.until = None;
        self.janitor.slot.retry_at = None;
        if let Some(plane) = self.janitor.slot.current.take() {
            self.ledger.release(plane);
            self.close(plane, now);
        }
    }

    /// Its order was not carried out; it has heard nothing.
    pub(super) fn cannot_undo(&mut self, plane: PlaneId, now: u64) {
        if self.stopping {
            self.dismiss_janitor(now);
        } else if self.janitor.slot.current == Some(plane) {
            self.ledger.release(plane);
            self.janitor.until = None;
            self.janitor.order_at = Some(now + policy::UNDO_AGAIN);
        }
    }

    pub(super) fn tick_janitor(&mut self, now: u64) {
        if let (Some(plane), Some(until)) = (self.janitor.slot.current, self.janitor.until)
            && now >= until
        {
            self.kill_late(plane, "it did not put the default sink back in time".into(), now);
        }
    }
}
