//! A session's second encoder: sealed, wired to nothing, started when the picture flows and nobody waits for the
//! processor. It has its encoder made, for what the session shows now. When the first one ends it takes its place, so that
//! neither a process nor an encoder has to be started in between.
//!
//! It has a record of crashes of its own, which costs the session nothing.

use ipc::{PlaneKind, SessionId};

use super::Machine;
use super::event::{Action, Exit, PlaneId};
use super::policy::STANDBY_AFTER;
use super::process::{Process, Slot};
use super::session::{Session, Wiring};

impl Session {
    /// When the next standby is to be started. None while the picture does not flow: it needs the processor more.
    pub fn standby_at(&self) -> Option<u64> {
        let standby = self.standby.as_ref().filter(|slot| slot.current.is_none() && self.wiring == Wiring::Whole)?;
        standby.retry_at
    }

    /// The encoder's place, if it is empty, is the standby's.
    fn promote(&mut self) {
        if let Some(standby) = self.standby.as_mut().filter(|_| self.encode.current.is_none())
            && let Some(plane) = standby.current.take()
        {
            standby.retry_at = None;
            self.encode.fill(plane);
        }
    }
}

impl Machine {
    /// Moves a standby up, or starts one, as is due.
    pub(super) fn settle_standby(&mut self, id: SessionId, now: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.promote();
        let flows = session.wiring == Wiring::Whole;
        if let Some(slot) = session.standby.as_mut().filter(|slot| flows && slot.current.is_none()) {
            slot.retry_at.get_or_insert(now + STANDBY_AFTER);
        }
        if session.standby_at().is_some_and(|at| now >= at) {
            let plane = self.start(PlaneKind::Encode, Some(id), now);
            if let Some(slot) = self.sessions.get_mut(&id).and_then(|session| session.standby.as_mut()) {
                slot.fill(plane);
            }
        }
        self.prepare(id);
    }

    /// Tells a standby what to expect.
    fn prepare(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let standby = session.standby.as_ref().and_then(|slot| slot.current).filter(|&plane| self.is_ready(plane));
        if let (Some(plane), Some(picture)) = (standby, session.picture)
            && session.prepared != Some((plane, session.mode, picture))
        {
            let mode = session.mode;
            self.out.push(Action::Prepare { plane, mode, picture });
            if let Some(session) = self.sessions.get_mut(&id) {
                session.prepared = Some((plane, mode, picture));
            }
        }
    }

    /// True if the process was a standby, whose end nobody notices.
    pub(super) fn standby_lost(&mut self, plane: PlaneId, process: &Process, exit: &Exit, now: u64) -> bool {
        let session = process.session.and_then(|id| self.sessions.get_mut(&id));
        let slot = session.and_then(|session| session.standby.as_mut()).filter(|slot| slot.current == Some(plane));
        // One that fails for good is tried again after a while.
        slot.map(|slot: &mut Slot| slot.lost(exit, now.saturating_sub(process.started_at), now)).is_some()
    }
}
