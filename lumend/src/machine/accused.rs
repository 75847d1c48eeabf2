//! Planes that have met an impossible value in the memory that they share with a peer. Which of the two has written it
//! cannot be told, and so both are replaced: whoever lies is gone. Net is everybody's, and no session's plane can have it
//! replaced at the cost of others: that takes two sessions, or one that is alone.
//!
//! What net says itself of a ring is believed (`Machine::picture_broken`): net could end the session anyway.

use ipc::{PlaneKind, SessionId};

use super::Machine;
use super::event::{Action, Exit, PlaneId};
use super::policy::ACCUSED_FOR;
use super::process::{Phase, Process};
use super::session::Wiring;

/// A session's word against net, and when it was given.
#[derive(Clone, Copy, Debug)]
pub struct Suspicion {
    session: SessionId,
    at: u64,
}

impl Machine {
    /// Whom a plane accuses by its end, if it shared memory with that.
    pub(super) fn accused(&self, process: &Process, exit: &Exit) -> Option<PlaneId> {
        let Exit::Accuses { peer, .. } = *exit else { return None };
        let session = self.sessions.get(&process.session?)?;
        let picture = matches!(session.wiring, Wiring::Ends | Wiring::Whole);
        match (process.kind, peer) {
            (PlaneKind::Encode, PlaneKind::Capture) => session.capture.current.filter(|_| picture),
            (PlaneKind::Capture, PlaneKind::Encode) => session.encode.current.filter(|_| picture),
            (PlaneKind::Encode, PlaneKind::Net) => self.net.current.filter(|_| picture),
            (PlaneKind::Audio | PlaneKind::Input, PlaneKind::Net) => {
                self.net.current.filter(|_| session.branch(process.kind).is_some_and(|branch| branch.is_with_net()))
            }
            _ => None,
        }
    }

    /// Replaces the accused, or remembers what was said of it.
    pub(super) fn believe(&mut self, accuser: &Process, plane: PlaneId, exit: &Exit, now: u64) {
        let (Exit::Accuses { reason, .. }, Some(session)) = (exit, accuser.session) else { return };
        let reason = format!("the {} plane says: {reason}", accuser.kind);
        if self.net.current != Some(plane) {
            return self.kill(plane, reason, now);
        }
        let other = self.suspicion.is_some_and(|word| word.session != session && now < word.at + ACCUSED_FOR);
        if !other && self.sessions.len() > 1 {
            self.suspicion = Some(Suspicion { session, at: now });
            return;
        }
        self.suspicion = None;
        // No crash of its own: five of a session's planes in a minute are not to leave the host without a net.
        self.net.replace(&reason, None, now);
        if let Some(process) = self.processes.get_mut(&plane) {
            process.phase = Phase::Killed;
        }
        self.out.push(Action::Kill { plane, reason, broke: true });
        self.vacated(PlaneKind::Net, None, now);
    }
}
