//! What follows from what has happened: planes that are due are started, and every session moves as far as it can.

use ipc::{PlaneKind, SessionId};

use super::{Action, Attempt, Machine, Output, PlaneId, Process};

impl Machine {
    /// Starts what is due and moves every session as far as it can go.
    pub(super) fn settle(&mut self, now: u64) {
        self.release_outputs();
        if self.stopping {
            self.settle_janitor(now);
            if self.processes.is_empty() && !self.finished {
                self.finished = true;
                self.out.push(Action::Finish);
            }
            return;
        }
        if self.net.is_due(now) && !self.net_is_leaving() {
            let plane = self.start(PlaneKind::Net, None, now);
            self.net.fill(plane);
        }
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.settle_standby(id, now);
            for kind in [PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Audio, PlaneKind::Input] {
                let due = self.sessions.get(&id).and_then(|s| s.slot(kind)).is_some_and(|slot| slot.is_due(now));
                if due {
                    let plane = self.start(kind, Some(id), now);
                    if let Some(slot) = self.sessions.get_mut(&id).and_then(|s| s.slot_mut(kind)) {
                        slot.fill(plane);
                    }
                }
            }
            let ready = self.ready(id);
            let Some(session) = self.sessions.get_mut(&id) else { continue };
            // What is about to be given back is used again.
            if session.output == Output::Wanted && self.desktop.is_ok() && self.vacant.is_empty() {
                self.last_attempt += 1;
                let attempt = Attempt(self.last_attempt);
                session.output = Output::Acquiring(attempt);
                self.out.push(Action::AcquireOutput { session: id, attempt, mode: session.mode, run: session.run });
            }
            session.advance(ready, now, &mut self.mint, &mut self.out);
            self.settle_run(id, now);
            self.accept(id, now);
            self.settle_branches(id, now);
        }
        self.settle_janitor(now);
    }

    pub(super) fn start(&mut self, kind: PlaneKind, session: Option<SessionId>, now: u64) -> PlaneId {
        self.last_plane += 1;
        let plane = PlaneId(self.last_plane);
        self.processes.insert(plane, Process::started(kind, session, now));
        self.out.push(Action::Start { plane, kind, session });
        plane
    }
}
