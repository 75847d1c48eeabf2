//! Planes that have met an impossible value in the memory that they share with a peer. Which of the two has written it
//! cannot be told, and so both are replaced: whoever lies is gone. Net is everybody's, and no client's planes can have it
//! replaced at the cost of another's: that takes the planes of two clients, or one client that is alone.
//!
//! What net says itself of a ring is believed (`Machine::picture_broken`): net could end the session anyway.

use ipc::{Fingerprint, PlaneKind};

use super::Machine;
use super::event::{Action, Exit, PlaneId};
use super::policy::ACCUSED_FOR;
use super::process::{Phase, Process};
use super::session::Wiring;

/// The word of a client's planes against a network plane, and when it was given. One client may have several sessions,
/// with planes that lie in all of them.
#[derive(Clone, Copy, Debug)]
pub struct Suspicion {
    client: Fingerprint,
    net: PlaneId,
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
        let session = accuser.session.and_then(|session| self.sessions.get(&session));
        let (Exit::Accuses { reason, .. }, Some(client)) = (exit, session.map(|session| session.client)) else {
            return;
        };
        let reason = format!("the {} plane says: {reason}", accuser.kind);
        if self.net.current != Some(plane) {
            return self.kill(plane, reason, now);
        }
        let agrees = |word: Suspicion| word.client != client && word.net == plane && now < word.at + ACCUSED_FOR;
        if !self.suspicion.is_some_and(agrees) && self.sessions.values().any(|session| session.client != client) {
            self.suspicion = Some(Suspicion { client, net: plane, at: now });
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
