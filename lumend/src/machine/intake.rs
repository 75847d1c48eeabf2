//! What the planes say to the machine: requests of clients, and answers that a generation waits for. Late answers are
//! forgotten, impossible ones end the plane.

use std::cmp::Ordering;

use ipc::{EndCode, Face, FrameFormat, Generation, PlaneKind, SessionId, Tuning, Wish};
use lumen_core::Mode;
use lumen_core::audio::PacketTime;

use super::branch::{Branch, Demand};
use super::event::{Action, PlaneId};
use super::process::Slot;
use super::runs::Choice;
use super::session::{Asked, Picture, Session, Source, Wiring};
use super::{Machine, policy};

impl Machine {
    pub(super) fn asked(&mut self, plane: PlaneId, asked: Asked, wish: &Wish, now: u64) {
        let Asked { ask, client, face, .. } = asked;
        if self.sessions.values().any(|s| s.ask == Some(ask)) {
            return self.kill(plane, "it used the number of an open request again".into(), now);
        }
        if self.came_back(plane, asked, wish, now) {
            return;
        }
        let (mode, choice) = match self.judge(asked, wish, now) {
            Ok(granted) => granted,
            Err((code, reason)) => return self.out.push(Action::Refuse { plane, ask, code, reason }),
        };
        if self.is_full(choice)
            && let Some(id) = self.waits_for(client)
        {
            self.end(id, EndCode::Stopped, "its client has begun anew".into(), now);
        }
        self.last_session += 1;
        let id = SessionId(self.last_session);
        let mut session = Session::new(id, asked, mode, now);
        session.standby = self.limits.standby.then(|| Slot::new(PlaneKind::Encode));
        if face == Face::Lumen {
            let bitrate_kbps = self.bitrate_kbps(wish.bitrate_kbps, mode);
            session.picture = Some(Picture { bitrate_kbps, colour: None, frame_bytes: None });
        }
        let sound = wish.audio.filter(|_| self.limits.audio);
        let own_sink = wish.own_sink;
        let sound = sound.map(|layout| Demand::Sound { layout, packet: PacketTime::Five, own_sink });
        session.audio = sound.map(|demand| Branch::new(demand, now));
        session.input = (wish.input && self.limits.input).then(|| Branch::new(Demand::Hands, now));
        session.run = self.take(client, choice, mode, now);
        self.sessions.insert(id, session);
    }

    /// What a request is granted.
    fn judge(&mut self, asked: Asked, wish: &Wish, now: u64) -> Result<(Mode, Choice), (EndCode, String)> {
        if !self.rate.take(now) {
            return Err((EndCode::Full, "too many requests; try again in a few seconds".into()));
        }
        let Some(&standing) = self.allowed.get(&asked.client).filter(|standing| standing.face == asked.face) else {
            let help = match asked.face {
                Face::Lumen => "`lumend allow --help`",
                Face::GameStream => "`lumend pair --help`",
            };
            return Err((EndCode::NotAllowed, format!("this client is not allowed; see {help} on the host")));
        };
        if !standing.view {
            let reason = "this client may not see the desktop; see `lumend permit --help` on the host";
            return Err((EndCode::NotAllowed, reason.into()));
        }
        let choice = self.choose(asked.client, standing, wish.app)?;
        if self.is_full(choice) && self.waits_for(asked.client).is_none() {
            let reason = format!("the host runs as many sessions as it may ({})", self.limits.max_sessions);
            return Err((EndCode::Full, reason));
        }
        let mode = match wish.mode {
            Some(mode) => Mode::try_from(mode).map_err(|error| (EndCode::Mode, error.to_string()))?,
            None => {
                self.mode_of(choice).ok_or((EndCode::Mode, "nothing is running whose mode it could have".into()))?
            }
        };
        Ok((mode, choice))
    }

    /// There is no room for what was chosen beside what it does not replace.
    fn is_full(&self, choice: Choice) -> bool {
        self.sessions.len() - self.sessions_before(choice) >= self.limits.max_sessions
    }

    fn bitrate_kbps(&self, wished: u32, mode: Mode) -> u32 {
        policy::bitrate_kbps(if wished > 0 { wished } else { self.limits.bitrate_kbps }, mode)
    }

    /// Grants a GameStream client's request once everything is there that its session can have before its `Tune`.
    pub(super) fn accept(&mut self, id: SessionId, now: u64) {
        let ready = self.ready(id);
        let Some(session) = self.sessions.get(&id).filter(|s| s.picture.is_none() && s.format().is_some()) else {
            return;
        };
        let (Some(plane), Some(_)) = (ready.net, ready.encode) else { return };
        if session.ask.is_none() || !self.has_its_app(session) {
            return;
        }
        self.keep_run(id, plane);
        if let Some(session) = self.sessions.get_mut(&id)
            && let Some(ask) = session.ask.take()
        {
            session.patience = Some(now + policy::TUNE_WITHIN);
            self.out.push(Action::Accept { plane, ask, session: id, mode: session.mode });
        }
    }

    /// The rest of a wish. Late ones are of sessions that are gone; any other that nobody waits for is impossible.
    pub(super) fn tuned(&mut self, plane: PlaneId, id: SessionId, tuning: Tuning, now: u64) {
        let Some(session) = self.sessions.get(&id) else { return };
        if session.picture.is_some() || session.ask.is_some() {
            return self.kill(plane, "it tuned a session that does not wait for it".into(), now);
        }
        let picture = Picture {
            bitrate_kbps: self.bitrate_kbps(tuning.bitrate_kbps, session.mode),
            colour: Some(tuning.colour),
            frame_bytes: Some(tuning.frame_bytes.max(policy::MIN_FRAME_BYTES)),
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.picture = Some(picture);
        session.patience = Some(now + policy::PATIENCE);
        if let Some(Demand::Sound { layout, packet, .. }) = session.audio.as_mut().map(|branch| &mut branch.demand) {
            (*layout, *packet) = (tuning.audio, tuning.audio_packet);
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
                        session.source = Some(Source { plane, generation, format });
                        session.wiring = Wiring::Opened(format);
                    }
                    Err(error) => self.fail(id, None, format!("the output cannot be sent: {error}"), now),
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
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if generation < session.generation {
            return;
        }
        if generation > session.generation || session.wiring != Wiring::Ends {
            return self.kill(plane, "it answered what it was not asked".into(), now);
        }
        session.wired();
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
        // A source that is good for later generations is as bad for them.
        let of_the_source = session.source.is_some_and(|s| s.plane == plane && s.generation <= generation);
        if generation < session.generation && !of_the_source {
            return;
        }
        if session.was_whole {
            self.kill(plane, reason, now);
        } else {
            self.fail(id, kind, reason, now);
        }
    }
}
