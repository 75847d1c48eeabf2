//! What planes say, turned into the machine's events. Every word here is from a process that may be in bad hands.

use ipc::event::now_ns;
use ipc::link::LinkError;
use ipc::{FromCapture, FromEncode, FromNet, Hello, Leaving, PlaneKind, SignRequest};
use tracing::{debug, warn};

use super::Daemon;
use crate::grumbles::printable;
use crate::machine::{Event, PlaneId};

/// Messages taken from one plane before the others get their turn.
const TURN: usize = 64;
/// Most characters of a plane's reason that reach logs and clients.
pub(super) const REASON: usize = 200;

impl Daemon {
    pub(super) fn hear(&mut self, plane: PlaneId) {
        let now = now_ns();
        for _ in 0..TURN {
            let Some(reach) = self.planes.get_mut(&plane) else { return };
            let more = match reach.kind {
                PlaneKind::Capture => reach.recv(now).map(|word| word.map(|word| self.capture_says(plane, word))),
                PlaneKind::Encode => reach.recv(now).map(|word| word.map(|word| self.encode_says(plane, word))),
                PlaneKind::Net => reach.recv(now).map(|word| word.map(|word| self.net_says(plane, word))),
                PlaneKind::Input => reach.recv(now).map(|word| word.map(|word| self.input_says(plane, word))),
                PlaneKind::Audio => reach.recv(now).map(|word| word.map(|word| self.audio_says(plane, word))),
            };
            match more {
                Ok(Some(Ok(()))) => {}
                Ok(None) => return,
                Ok(Some(Err(reason))) => return self.broken(plane, reason),
                Err(LinkError::Closed) => {
                    if let Some(reach) = self.planes.get_mut(&plane) {
                        reach.close();
                    }
                    self.queue.push_back(Event::LinkClosed(plane));
                    return;
                }
                Err(error) => return self.broken(plane, error.to_string()),
            }
        }
    }

    /// Retells what a plane has written to its stderr.
    pub(super) fn retell(&mut self, plane: PlaneId) {
        let Some(reach) = self.planes.get_mut(&plane) else { return };
        let lines = reach.grumbles.as_mut().map(|grumbles| grumbles.hear(now_ns()));
        let (name, session) = super::fields(reach);
        for line in lines.into_iter().flatten() {
            warn!(plane = name, session, "{}: {line}", super::label(reach));
        }
    }

    fn broken(&mut self, plane: PlaneId, reason: String) {
        // Nothing more is heard from it: the machine orders its end.
        if let Some(reach) = self.planes.get_mut(&plane) {
            reach.close();
        }
        self.queue.push_back(Event::Broken { plane, reason });
    }

    pub(super) fn greeted(&mut self, plane: PlaneId, hello: Hello) -> Result<(), String> {
        if let Some(reach) = self.planes.get_mut(&plane) {
            reach.greet(hello)?;
            let (name, session) = super::fields(reach);
            debug!(plane = name, session, "{} is ready", super::label(reach));
            self.planes_changed = true;
            self.queue.push_back(Event::Ready(plane));
        }
        Ok(())
    }

    /// Its last word; its end will tell what it was worth.
    pub(super) fn leaves(&mut self, plane: PlaneId, leaving: Leaving) {
        let leaving = match leaving {
            Leaving::Reopen => Leaving::Reopen,
            Leaving::Failed(reason) => Leaving::Failed(printable(&reason, REASON)),
            Leaving::Accuses { peer, reason } => Leaving::Accuses { peer, reason: printable(&reason, REASON) },
        };
        if let Some(reach) = self.planes.get_mut(&plane) {
            reach.leaves(leaving);
        }
    }

    /// Nothing may come before `Hello`: a plane that speaks earlier is not locked down.
    pub(super) fn has_greeted(&self, plane: PlaneId) -> Result<(), String> {
        let greeted = self.planes.get(&plane).is_some_and(|reach| reach.hello.is_some());
        if greeted { Ok(()) } else { Err("it spoke before its Hello".into()) }
    }

    fn capture_says(&mut self, plane: PlaneId, word: FromCapture) -> Result<(), String> {
        match word {
            FromCapture::Hello(hello) => return self.greeted(plane, hello),
            FromCapture::Leaving(leaving) => {
                self.leaves(plane, leaving);
                return Ok(());
            }
            _ => self.has_greeted(plane)?,
        }
        let event = match word {
            FromCapture::Hello(_) | FromCapture::Leaving(_) => return Ok(()),
            FromCapture::Pong(token) => Event::Pong { plane, token },
            FromCapture::Opened { generation, format } => Event::Opened { plane, generation, format },
            FromCapture::Failed { generation, reason } => {
                Event::Failed { plane, generation, reason: printable(&reason, REASON) }
            }
            FromCapture::Stats { generation, stats } => {
                if let Some(session) = self.planes.get(&plane).and_then(|reach| reach.session)
                    && self.machine.session(session).is_some_and(|s| generation <= s.generation)
                {
                    self.books.entry(session).or_default().capture_reports(generation, stats);
                }
                return Ok(());
            }
        };
        self.queue.push_back(event);
        Ok(())
    }

    fn encode_says(&mut self, plane: PlaneId, word: FromEncode) -> Result<(), String> {
        match word {
            FromEncode::Hello(hello) => return self.greeted(plane, hello),
            FromEncode::Leaving(leaving) => {
                self.leaves(plane, leaving);
                return Ok(());
            }
            _ => self.has_greeted(plane)?,
        }
        let session = self.planes.get(&plane).and_then(|reach| reach.session);
        let session = session.filter(|&id| self.machine.session(id).is_some());
        let event = match word {
            FromEncode::Hello(_) | FromEncode::Leaving(_) => return Ok(()),
            FromEncode::Pong(token) => Event::Pong { plane, token },
            FromEncode::Wired { generation, encoder } => {
                if let Some(session) = session {
                    self.books.entry(session).or_default().encoder = printable(&encoder, REASON);
                }
                Event::Wired { plane, generation }
            }
            FromEncode::Failed { generation, reason } => {
                Event::Failed { plane, generation, reason: printable(&reason, REASON) }
            }
            FromEncode::Stats { generation, stats } => {
                if let Some(session) = session
                    && self.machine.session(session).is_some_and(|s| generation <= s.generation)
                {
                    self.books.entry(session).or_default().encode_reports(generation, stats);
                }
                return Ok(());
            }
        };
        self.queue.push_back(event);
        Ok(())
    }

    fn net_says(&mut self, plane: PlaneId, word: FromNet) -> Result<(), String> {
        match word {
            FromNet::Hello(hello) => return self.greeted(plane, hello),
            FromNet::Leaving(leaving) => {
                self.leaves(plane, leaving);
                return Ok(());
            }
            _ => self.has_greeted(plane)?,
        }
        let event = match word {
            FromNet::Hello(_) | FromNet::Leaving(_) => return Ok(()),
            FromNet::Pong(token) => Event::Pong { plane, token },
            FromNet::Ask { ask, peer, client, wish } => {
                // A dual-stack socket shows IPv4 as IPv6.
                let peer = std::net::SocketAddr::new(peer.ip().to_canonical(), peer.port());
                Event::Ask { plane, ask, peer, client, wish }
            }
            FromNet::Withdrawn { ask } => Event::Withdrawn { plane, ask },
            // One that net has just ended on lumend's word, or that never was.
            FromNet::Gone { session, .. } if self.machine.session(session).is_none() => return Ok(()),
            FromNet::Started { session, ask } => Event::Started { plane, session, ask },
            FromNet::Gone { session, ask, reason } => {
                Event::Gone { plane, session, ask, reason: printable(&reason, REASON) }
            }
            FromNet::Stats { session, stats } => {
                if self.machine.session(session).is_some() {
                    self.books.entry(session).or_default().net_reports(now_ns(), stats);
                }
                return Ok(());
            }
            FromNet::BranchBroken { session, kind, generation, reason } => {
                Event::BranchBroken { plane, session, kind, generation, reason: printable(&reason, REASON) }
            }
            FromNet::Tune { session, tuning } => Event::Tune { plane, session, tuning },
            FromNet::Quit { client } => Event::Quit { plane, client },
            // Of one that has been replaced nothing more is heard of pairings.
            FromNet::Pairing { .. } | FromNet::Paired { .. } | FromNet::PairingFailed { .. }
                if self.machine.net().current != Some(plane) =>
            {
                return Ok(());
            }
            FromNet::Pairing { pairing, client, peer, name } => {
                self.pairing_began(now_ns(), pairing, client, peer, &name);
                return Ok(());
            }
            FromNet::Paired { pairing } => {
                self.paired(now_ns(), pairing);
                return Ok(());
            }
            FromNet::PairingFailed { pairing, reason } => {
                self.pairing_failed(now_ns(), pairing, &reason);
                return Ok(());
            }
            FromNet::Counters(counters) => {
                self.counters = counters;
                return Ok(());
            }
        };
        self.queue.push_back(event);
        Ok(())
    }

    /// Answers requests for signatures; the signer keeps their rate.
    pub(super) fn sign(&mut self, now: u64) {
        for _ in 0..TURN {
            let Some((plane, link)) = &self.sign_link else { return };
            let plane = *plane;
            // One that has been replaced, or told to end, has nobody to sign for.
            if self.machine.net().current != Some(plane) {
                self.sign_link = None;
                return;
            }
            let sent = match link.recv::<SignRequest>() {
                Ok(None) => return,
                Ok(Some(request)) => {
                    let pairings = &mut self.pairings;
                    let may_pair = |pairing| pairings.may_sign(now, pairing);
                    let reply = self.parts.signer.sign(now, &request.message, may_pair);
                    link.send(reply)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                self.sign_link = None;
                if !matches!(error, LinkError::Closed) {
                    self.broken(plane, format!("its link for signatures: {error}"));
                }
                return;
            }
        }
    }
}
