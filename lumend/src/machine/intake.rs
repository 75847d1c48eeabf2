//! What the planes say to the machine: requests of clients, and answers that a generation waits for. Late answers are
//! forgotten, impossible ones end the plane.

use std::cmp::Ordering;
use std::net::SocketAddr;

use ipc::{AskId, EndCode, Fingerprint, FrameFormat, Generation, PlaneKind, SessionId, Wish};
use lumen_core::Mode;

use super::branch::{Branch, Demand};
use super::event::{Action, PlaneId};
use super::session::{Session, Wiring};
use super::{Machine, policy};

impl Machine {
    pub(super) fn asked(
        &mut self,
        plane: PlaneId,
        ask: AskId,
        peer: SocketAddr,
        client: Fingerprint,
        wish: Wish,
        now: u64,
    ) {
        if self.sessions.values().any(|s| s.ask == Some(ask)) {
            return self.kill(plane, "it used the number of an open request again".into(), now);
        }
        let verdict = if !self.rate.take(now) {
            Err((EndCode::Full, "too many requests; try again in a few seconds".into()))
        } else if !self.allowed.contains(&client) {
            Err((EndCode::NotAllowed, "this client is not allowed; see `lumend allow --help` on the host".into()))
        } else if self.sessions.len() >= self.limits.max_sessions {
            Err((EndCode::Full, format!("the host runs as many sessions as it may ({})", self.limits.max_sessions)))
        } else {
            Mode::try_from(wish.mode).map_err(|error| (EndCode::Mode, error.to_string()))
        };
        match verdict {
            Err((code, reason)) => self.out.push(Action::Refuse { plane, ask, code, reason }),
            Ok(mode) => {
                self.last_session += 1;
                let id = SessionId(self.last_session);
                let wished = if wish.bitrate_kbps > 0 { wish.bitrate_kbps } else { self.limits.bitrate_kbps };
                let mut session = Session::new(id, ask, client, peer, mode, now);
                session.bitrate_kbps = policy::bitrate_kbps(wished, mode);
                session.capture.retry_at = Some(now);
                session.encode.retry_at = Some(now);
                let sound = wish.audio.filter(|_| self.limits.audio);
                let sound = sound.map(|layout| Demand::Sound { layout, own_sink: wish.own_sink });
                session.audio = sound.map(|demand| Branch::new(demand, now));
                session.input = (wish.input && self.limits.input).then(|| Branch::new(Demand::Hands, now));
                self.sessions.insert(id, session);
            }
        }
    }

    pub(super) fn opened(&mut self, plane: PlaneId, generation: Generation, format: FrameFormat, now: u64) {
        let Some(id) = self.session_of(plane, PlaneKind::Capture) else { return };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let expected = session.wiring == Wiring::Opening;
        match generation.cmp(&session.generation) {
            Ordering::Less => {}
            Ordering::Equal if expected => {
                if let Err(error) = format.check() {
                    return self.kill(plane, error.to_string(), now);
                }
                // The output has the last word on its size: it may have been resized under the session.
                match Mode::new(format.width, format.height, session.mode.refresh_mhz()) {
                    Ok(mode) => {
                        session.mode = mode;
                        session.wiring = Wiring::Opened(format);
                    }
                    Err(error) => {
                        self.end(id, EndCode::Unavailable, format!("the output cannot be sent: {error}"), now)
                    }
                }
            }
            _ => self.kill(plane, "it answered what it was not asked".into(), now),
        }
    }

    pub(super) fn wired(&mut self, plane: PlaneId, generation: Generation, now: u64) {
        if let Some(kind) = self.branch_kind(plane) {
            return self.branch_wired(plane, kind, generation, now);
        }
        let Some(id) = self.session_of(plane, PlaneKind::Encode) else { return };
        let ready = self.ready(id);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if generation < session.generation {
            return;
        }
        if generation > session.generation || session.wiring != Wiring::Consumers {
            return self.kill(plane, "it answered what it was not asked".into(), now);
        }
        session.wired(ready, &mut self.out);
    }

    /// Audio or input, if it is a branch's plane.
    fn branch_kind(&self, plane: PlaneId) -> Option<PlaneKind> {
        let kind = self.processes.get(&plane)?.kind;
        matches!(kind, PlaneKind::Audio | PlaneKind::Input).then_some(kind)
    }

    pub(super) fn failed(&mut self, plane: PlaneId, generation: Generation, reason: String, now: u64) {
        if let Some(kind) = self.branch_kind(plane) {
            return self.branch_failed(plane, kind, generation, reason, now);
        }
        let kind = self.processes.get(&plane).map(|p| p.kind);
        let Some(id) = kind.and_then(|kind| self.session_of(plane, kind)) else { return };
        let Some(session) = self.sessions.get(&id) else { return };
        if generation < session.generation {
            return;
        }
        if session.was_whole {
            self.kill(plane, reason, now);
        } else {
            self.end(id, EndCode::Unavailable, reason, now);
        }
    }
}
