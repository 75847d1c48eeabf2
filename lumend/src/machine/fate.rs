//! How processes and sessions end, and what follows from it: who takes a plane's place, and who ends with it.

use std::collections::BTreeSet;

use ipc::{EndCode, Generation, PlaneKind, SessionId};

use super::Machine;
use super::event::{Action, Exit, PlaneId};
use super::process::{Phase, Process, Slot};
use super::session::{Output, Wiring};

impl Machine {
    /// Where a process of this kind serves: net the host, an audio plane of no session as the janitor, every other its
    /// session.
    fn slot_mut(&mut self, kind: PlaneKind, session: Option<SessionId>) -> Option<&mut Slot> {
        match (kind, session) {
            (PlaneKind::Net, None) => Some(&mut self.net),
            (PlaneKind::Audio, None) => Some(&mut self.janitor.slot),
            (PlaneKind::Capture | PlaneKind::Encode | PlaneKind::Input, None) => None,
            (_, Some(id)) => self.sessions.get_mut(&id)?.slot_mut(kind),
        }
    }

    pub(super) fn restart(&mut self, kind: PlaneKind, session: Option<SessionId>, now: u64) {
        let Some(slot) = self.slot_mut(kind, session).filter(|_| kind == PlaneKind::Net || session.is_some()) else {
            return;
        };
        let old = slot.current;
        slot.renew(now);
        if let Some(plane) = old {
            self.vacated(kind, session, now);
            self.close(plane, now);
        }
    }

    /// A process that sat in a slot does so no more: what it took part in begins anew without it.
    pub(super) fn vacated(&mut self, kind: PlaneKind, session: Option<SessionId>, now: u64) {
        match session {
            Some(id) => {
                let ready = self.ready(id);
                let Some(session) = self.sessions.get_mut(&id) else { return };
                match session.branch_mut(kind) {
                    Some(branch) => branch.retire(id, ready.net, &mut self.out),
                    None => session.retire(ready, now, &mut self.out),
                }
            }
            None if kind == PlaneKind::Audio => self.janitor.until = None,
            None => self.without_net(now),
        }
    }

    pub(super) fn lost(&mut self, plane: PlaneId, process: &Process, exit: &Exit, now: u64) {
        let unasked;
        let exit = match exit {
            Exit::Stopped => {
                unasked = Exit::Crashed("it stopped without being told to".into());
                &unasked
            }
            other => other,
        };
        if self.standby_lost(plane, process, exit, now) {
            return;
        }
        let slot = self.slot_mut(process.kind, process.session).filter(|slot| slot.current == Some(plane));
        let Some(slot) = slot else { return };
        let verdict = slot.lost(exit, now.saturating_sub(process.started_at), now);
        let accused = self.accused(process, exit);
        if let Some(session) = process.session.and_then(|id| self.sessions.get_mut(&id)) {
            let obstacle = format!("the {} plane: {exit}", process.kind);
            match session.branch_mut(process.kind) {
                Some(branch) => branch.obstacle = Some(obstacle),
                None => session.obstacle = obstacle,
            }
        }
        self.vacated(process.kind, process.session, now);
        if let Some(accused) = accused {
            self.believe(process, accused, exit, now);
        }
        if let (Err(reason), Some(id)) = (verdict, process.session) {
            self.fail(id, Some(process.kind), reason, now);
        }
    }

    /// Net has let go of the picture's rings, because encode broke the rules. Its heir gets new ones.
    pub(super) fn picture_broken(&mut self, id: SessionId, generation: Generation, reason: &str, now: u64) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.generation == generation) else { return };
        if let (Wiring::Ends | Wiring::Whole, Some(plane)) = (session.wiring, session.encode.current) {
            self.kill(plane, format!("the network plane says: {reason}"), now);
        }
    }

    /// Kills a plane that broke a rule.
    pub(super) fn kill(&mut self, plane: PlaneId, reason: String, now: u64) {
        self.put_down(plane, reason, true, now);
    }

    /// Kills a plane that did not do in time what it was to do.
    pub(super) fn kill_late(&mut self, plane: PlaneId, reason: String, now: u64) {
        self.put_down(plane, reason, false, now);
    }

    /// SIGKILL now, and its slot is free at once: a heir need not wait for the body.
    fn put_down(&mut self, plane: PlaneId, reason: String, broke: bool, now: u64) {
        let Some(process) = self.processes.get_mut(&plane).filter(|p| p.phase != Phase::Killed) else { return };
        process.phase = Phase::Killed;
        self.out.push(Action::Kill { plane, reason: reason.clone(), broke });
        let process = process.clone();
        self.lost(plane, &process, &Exit::Crashed(reason), now);
    }

    pub(super) fn close(&mut self, plane: PlaneId, now: u64) {
        if let Some(process) = self.processes.get_mut(&plane)
            && !process.is_leaving()
        {
            process.close(now);
            self.out.push(Action::Close(plane));
        }
    }

    /// Ends a session that cannot go on, for want of this plane or of something else, and remembers it.
    pub(super) fn fail(&mut self, id: SessionId, plane: Option<PlaneKind>, reason: String, now: u64) {
        if let Some(session) = self.sessions.get(&id) {
            self.failures.note(session, plane, &reason, now);
        }
        self.end(id, EndCode::Unavailable, reason, now);
    }

    /// Ends a session and tells its client why.
    pub(super) fn end(&mut self, id: SessionId, code: EndCode, reason: String, now: u64) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let ask = session.ask.take();
        if let Some(plane) = self.ready_net() {
            self.out.push(match ask {
                Some(ask) => Action::Refuse { plane, ask, code, reason },
                None => Action::End { plane, session: id, code, reason },
            });
        }
        self.drop_session(id, now);
    }

    /// Takes a session apart; its client knows already, or cannot be told.
    pub(super) fn drop_session(&mut self, id: SessionId, now: u64) {
        let Some(session) = self.sessions.remove(&id) else { return };
        let planes: Vec<_> = session.slots().chain(&session.standby).filter_map(|slot| slot.current).collect();
        for plane in planes {
            self.close(plane, now);
        }
        if session.output != Output::Wanted {
            self.vacant.insert(id);
        }
        if let Some(run) = session.run {
            self.drop_run(run, now);
        }
    }

    /// Gives back the outputs of sessions that are gone. A button that is let go of while its output goes away reaches
    /// no window any more, so the hands come first.
    pub(super) fn release_outputs(&mut self) {
        let hands = self.processes.values().filter(|process| process.kind == PlaneKind::Input);
        let busy: BTreeSet<_> = hands.filter_map(|process| process.session).collect();
        let free: Vec<_> = self.vacant.difference(&busy).copied().collect();
        for id in free {
            self.vacant.remove(&id);
            self.out.push(Action::ReleaseOutput(id));
        }
    }

    pub(super) fn shutdown(&mut self, now: u64) {
        if std::mem::replace(&mut self.stopping, true) {
            return;
        }
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.end(id, EndCode::Shutdown, "the host is shutting down".into(), now);
        }
        self.dismiss_janitor(now);
        // What runs ends with its launcher, which undoes its preparations.
        self.runs.clear();
        self.net.retry_at = None;
        if let Some(plane) = self.net.current.take() {
            self.close(plane, now);
        }
    }
}
