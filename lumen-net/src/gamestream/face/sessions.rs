//! GameStream sessions as the control loop sees them: a client has asked, lumend has answered, the client has said the
//! rest over RTSP, and lumend has wired it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc::plane::PlaneError;
use ipc::{AppId, AskId, EndCode, Face as Protocol, Fingerprint, FromNet, NetWiring, SessionId, Wish};
use lumen_core::{Encryption, Mode};

use super::visits::Guest as Caller;
use super::{Act, Acts, AskNumbers, Face};
use crate::branches::{BranchOrder, Tally};
use crate::counters::Counter;
use crate::gamestream::guest::{Guest, Launch};
use crate::gamestream::hub::{HubEvent, HubOrder};
use crate::gamestream::pages::{self, Verb};
use crate::gamestream::request::LaunchRequest;
use crate::media::{GuestMedia, MediaCommand, Wiring};

/// Launches that may wait for lumend at once.
const LAUNCHES: usize = 8;
/// How long one waits: an app may take its time, and clients have two minutes.
const FOR_THE_ANSWER: Duration = Duration::from_secs(60);

/// Clients draw a key for each session (moonlight-qt, session.cpp).
const KEY_USED: &str = "a session has had this key before; connect again";

/// What a client wants.
pub(super) struct Wanted {
    pub verb: Verb,
    pub app: AppId,
    pub launch: LaunchRequest,
}

/// A client that waits for lumend.
pub(super) struct Launching {
    caller: Caller,
    verb: Verb,
    launch: LaunchRequest,
    until: Instant,
}

/// A session, from lumend's `Accepted` to its end.
pub(super) struct Session {
    client: Fingerprint,
    tally: Arc<Tally>,
    picture: Picture,
    /// The client is ready for pictures.
    started: bool,
}

/// How far a session's picture has got.
enum Picture {
    /// The client has the word.
    Untuned,
    /// lumend has.
    Tuned(Box<GuestMedia>),
    /// The media thread knows the session, in this generation.
    Wired(u32),
}

impl Face {
    /// Asks lumend for a session. What the client had before makes way, but not before something else: whether what
    /// runs has to be quit first is lumend's to say, and until it has, the client keeps its stream.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        caller: Caller,
        Wanted { verb, app, launch }: Wanted,
        asks: &mut AskNumbers,
        acts: &mut Acts,
    ) {
        let Some(listening) = &self.listening else { return };
        if listening.encryption == Encryption::Required && !launch.sealed {
            let reason = "this host encrypts everything, which this client cannot";
            return caller.answer.send(pages::no_session(verb, 403, reason));
        }
        if self.keys.has(&launch.key) {
            return caller.answer.send(pages::no_session(verb, 400, KEY_USED));
        }
        let (client, reason) = (caller.client, "the client has asked for another session");
        match self.running.get(&client).is_some_and(|running| *running != app) {
            true => self.withdraw(client, reason, acts),
            false => self.release(client, reason, acts),
        }
        if self.launches.len() >= LAUNCHES {
            self.counters.add(Counter::AsksRefused);
            let reason = "too many clients are connecting at once; try again";
            return caller.answer.send(pages::no_session(verb, 503, reason));
        }
        let wish = Wish {
            face: Protocol::GameStream,
            app: Some(app),
            mode: launch.mode,
            bitrate_kbps: 0,
            audio: Some(launch.audio),
            own_sink: !launch.local_audio,
            input: true,
            resume: None,
        };
        let (ask, peer) = (asks.take(), caller.peer);
        self.launches.insert(ask, Launching { caller, verb, launch, until: now + FOR_THE_ANSWER });
        acts.push(Act::Lumend(FromNet::Ask { ask, peer, client, wish }));
    }

    /// lumend grants a request.
    pub fn accepted(&mut self, ask: AskId, session: SessionId, mode: Mode, acts: &mut Acts) -> Result<(), PlaneError> {
        let launching = self.launches.remove(&ask).filter(|launching| !launching.caller.answer.is_gone());
        let Some(Launching { caller, verb, launch, .. }) = launching else {
            acts.push(gone(session, "the client went away while its session was being made"));
            return Ok(());
        };
        let Some(listening) = &self.listening else { return Err(PlaneError::protocol("Accepted before GameStream")) };
        let LaunchRequest { audio, key, key_id, sealed, .. } = launch;
        if !self.keys.take(&key) {
            // Two have asked at once.
            caller.answer.send(pages::no_session(verb, 400, KEY_USED));
            acts.push(gone(session, KEY_USED));
            return Ok(());
        }
        let peer = caller.peer.ip().to_canonical();
        let guest =
            Guest::new(Launch { session, peer, mode, audio, key, key_id, sealed }).map_err(PlaneError::failed)?;
        let (tally, client) = (guest.tally.clone(), caller.client);
        let reply = pages::session(verb, guest.scheme(), caller.local, listening.names.rtsp_port());
        // The hub knows the session before the client knows where to find it.
        acts.push(Act::Hub(HubOrder::Open(Box::new(guest))));
        caller.answer.send(reply);
        self.sessions.insert(session, Session { client, tally, picture: Picture::Untuned, started: false });
        Ok(())
    }

    /// lumend refuses a request. False if it is none of this face's.
    pub fn refuse(&mut self, ask: AskId, code: EndCode, reason: &str) -> bool {
        let Some(Launching { caller, verb, .. }) = self.launches.remove(&ask) else { return false };
        let status = match code {
            EndCode::NotAllowed => 403,
            _ => 503,
        };
        caller.answer.send(pages::no_session(verb, status, reason));
        true
    }

    /// Whether this session is one of this face's.
    pub fn has(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    pub(super) fn has_session_of(&self, client: Fingerprint) -> bool {
        self.sessions.values().any(|session| session.client == client)
    }

    pub fn tally(&self, session: SessionId) -> Option<&Tally> {
        self.sessions.get(&session).map(|session| &*session.tally)
    }

    /// A generation's rings for the picture.
    pub fn wire(&mut self, wiring: NetWiring<OwnedFd>, acts: &mut Acts) -> Result<(), PlaneError> {
        let (id, generation) = (wiring.session, wiring.generation.0);
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        if matches!(session.picture, Picture::Wired(newest) if generation <= newest) {
            return Ok(());
        }
        let wiring = match Wiring::attach(wiring) {
            Ok(wiring) => Box::new(wiring),
            Err(reason) => {
                self.broken(id, reason, acts);
                return Ok(());
            }
        };
        match std::mem::replace(&mut session.picture, Picture::Wired(generation)) {
            Picture::Untuned => return Err(PlaneError::protocol("a session was wired that its client has not tuned")),
            Picture::Tuned(guest) => {
                acts.push(Act::Media(MediaCommand::OpenGuest { session: id, guest: *guest, wiring }));
                if session.started {
                    acts.push(Act::Media(MediaCommand::Start { session: id }));
                }
            }
            Picture::Wired(_) => acts.push(Act::Media(MediaCommand::Wire { session: id, wiring })),
        }
        Ok(())
    }

    /// Rings of sound and input.
    pub fn branch(&self, session: SessionId, order: BranchOrder, acts: &mut Acts) {
        acts.push(Act::Hub(HubOrder::Branch { session, order: Box::new(order) }));
    }

    /// lumend ends a session.
    pub fn end(&mut self, session: SessionId, code: EndCode, acts: &mut Acts) {
        if self.sessions.remove(&session).is_some() {
            acts.push(Act::Hub(HubOrder::End { session, code }));
            acts.push(Act::Media(MediaCommand::End { session }));
        }
    }

    /// A session cannot go on: its encoder broke the protocol, or its client's pings do not come through.
    pub fn broken(&mut self, session: SessionId, reason: String, acts: &mut Acts) {
        if self.has(session) {
            self.end(session, EndCode::Unavailable, acts);
            acts.push(Act::Lumend(FromNet::Gone { session, ask: None, reason }));
        }
    }

    /// What the hub reports.
    pub fn hub(&mut self, event: HubEvent, acts: &mut Acts) {
        match event {
            HubEvent::Tuned { session: id, tuning, media } => {
                let Some(session) = self.sessions.get_mut(&id) else { return };
                if matches!(session.picture, Picture::Untuned) {
                    session.picture = Picture::Tuned(media);
                    acts.push(Act::Lumend(FromNet::Tune { session: id, tuning }));
                }
            }
            HubEvent::Started { session: id } => {
                let Some(session) = self.sessions.get_mut(&id) else { return };
                session.started = true;
                if matches!(session.picture, Picture::Wired(_)) {
                    acts.push(Act::Media(MediaCommand::Start { session: id }));
                }
            }
            HubEvent::Keyframe { session } if self.has(session) => {
                acts.push(Act::Media(MediaCommand::Keyframe { session }));
            }
            HubEvent::Loss { session, permille } if self.has(session) => {
                acts.push(Act::Media(MediaCommand::Loss { session, permille }));
            }
            HubEvent::BranchBroken { session, broken } if self.has(session) => {
                let crate::branches::Broken { kind, generation, reason } = broken;
                acts.push(Act::Lumend(FromNet::BranchBroken { session, kind, generation, reason }));
            }
            HubEvent::Gone { session, reason } => {
                if self.sessions.remove(&session).is_some() {
                    acts.push(Act::Media(MediaCommand::End { session }));
                    acts.push(Act::Lumend(FromNet::Gone { session, ask: None, reason }));
                }
            }
            // Of a session that has ended meanwhile.
            HubEvent::Keyframe { .. } | HubEvent::Loss { .. } | HubEvent::BranchBroken { .. } => {}
        }
    }

    /// Ends whatever a client has or waits for.
    pub(super) fn release(&mut self, client: Fingerprint, reason: &str, acts: &mut Acts) {
        self.withdraw(client, reason, acts);
        let its = |(id, session): (&SessionId, &Session)| (session.client == client).then_some(*id);
        let losers: Vec<SessionId> = self.sessions.iter().filter_map(its).collect();
        for session in losers {
            self.end(session, EndCode::Stopped, acts);
            acts.push(gone(session, reason));
        }
    }

    /// Takes back what a client has asked for and not yet got.
    pub(super) fn withdraw(&mut self, client: Fingerprint, reason: &str, acts: &mut Acts) {
        self.withdraw_where(|launching| launching.caller.client == client, reason, acts);
    }

    /// Takes back what has been waited for too long, or by nobody any more.
    pub(super) fn tire(&mut self, now: Instant, acts: &mut Acts) {
        self.withdraw_where(|launching| launching.caller.answer.is_gone(), "the client has gone", acts);
        self.withdraw_where(|launching| now >= launching.until, "the host is too busy to answer; try again", acts);
    }

    fn withdraw_where(&mut self, which: impl Fn(&Launching) -> bool, reason: &str, acts: &mut Acts) {
        for (ask, Launching { caller, verb, .. }) in self.launches.extract_if(.., |_, launching| which(launching)) {
            caller.answer.send(pages::no_session(verb, 503, reason));
            acts.push(Act::Lumend(FromNet::Withdrawn { ask }));
        }
    }
}

fn gone(session: SessionId, reason: &str) -> Act {
    Act::Lumend(FromNet::Gone { session, ask: None, reason: reason.to_owned() })
}
