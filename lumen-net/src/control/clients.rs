//! Clients and sessions as the control thread sees them: a client asks, lumend answers, a session runs, either ends it.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipc::plane::PlaneError;
use ipc::{AskId, EndCode, Face as Protocol, Fingerprint, FromNet, NetWiring, SessionId, Wish};
use lumen_core::fec::Scheme;
use lumen_core::hello::{CODEC_H264, ClientHello, Code, Codec, Welcome};

use super::Control;
use crate::branches::Tally;
use crate::counters::Counter;
use crate::media::{MediaCommand, Wiring};
use crate::native::{ClientId, ClientSender, FromClient, ToClient};
use crate::session;

/// Hellos that may wait for lumend at once.
const PENDING_ASKS: usize = 16;

/// The schemes that every frame may need: which one it gets depends on its size.
const FEC_SCHEMES: u8 = Scheme::Cauchy.bit() | Scheme::Leopard.bit();

/// A client whose `Hello` was accepted.
pub struct Client {
    fingerprint: Fingerprint,
    to: ClientSender,
    tally: Arc<Tally>,
    stage: Stage,
}

enum Stage {
    Asking(AskId),
    Live(SessionId),
}

/// A session and the client it belongs to.
pub struct Session {
    client: ClientId,
    /// By whose answer.
    ask: AskId,
    generation: u32,
}

impl Control {
    pub(super) fn on_client(&mut self, event: FromClient) -> Result<(), PlaneError> {
        match event {
            FromClient::Hello { client, peer, fingerprint, hello, to, tally } => {
                if let Err((code, reason)) = self.check(fingerprint, &hello) {
                    self.counters.add(if code == Code::Full { Counter::AsksRefused } else { Counter::HellosRefused });
                    // The task's queue is still empty.
                    let _ = to.try_send(ToClient::Refused { code, reason });
                    self.parting.insert(client);
                    return Ok(());
                }
                let ask = self.ask_numbers.take();
                self.asks.insert(ask, client);
                self.clients.insert(client, Client { fingerprint, to, tally, stage: Stage::Asking(ask) });
                let wish = Wish {
                    face: Protocol::Lumen,
                    app: None,
                    mode: Some(hello.mode),
                    bitrate_kbps: hello.bitrate_kbps,
                    audio: hello.audio,
                    own_sink: hello.own_sink,
                    input: hello.input,
                    resume: hello.resume.map(|resume| resume.token),
                };
                self.tell_lumend(FromNet::Ask { ask, peer, client: fingerprint, wish })
            }
            FromClient::Start { client } => match self.clients.get(&client).map(|client| &client.stage) {
                Some(&Stage::Live(session)) => {
                    self.tell_media(MediaCommand::Start { session })?;
                    let ask = self.sessions.get(&session).map(|session| session.ask);
                    ask.map_or(Ok(()), |ask| self.tell_lumend(FromNet::Started { session, ask }))
                }
                _ => Ok(()),
            },
            FromClient::BranchBroken { client, broken } => {
                match self.clients.get(&client).map(|client| &client.stage) {
                    Some(&Stage::Live(session)) => self.branch_broken(session, broken),
                    _ => Ok(()),
                }
            }
            FromClient::Gone { client, reason } => match self.clients.remove(&client).map(|client| client.stage) {
                Some(Stage::Asking(ask)) => {
                    self.asks.remove(&ask);
                    self.tell_lumend(FromNet::Withdrawn { ask })
                }
                Some(Stage::Live(session)) => self.gone(session, reason),
                // Ended by the host, which knows.
                None => {
                    self.parting.remove(&client);
                    Ok(())
                }
            },
        }
    }

    /// What net can refuse without asking lumend.
    fn check(&self, fingerprint: Fingerprint, hello: &ClientHello) -> Result<(), (Code, String)> {
        let refuse = |code, reason: &str| Err((code, reason.to_owned()));
        if !self.permitted.contains(&fingerprint) {
            let hex = hex(&fingerprint);
            return refuse(Code::NotAllowed, &format!("unknown client; on the host run `lumend allow {hex}`"));
        }
        if hello.codecs & CODEC_H264 == 0 {
            return refuse(Code::Unavailable, "this host sends H.264, which the client does not take");
        }
        if hello.fec_schemes & FEC_SCHEMES != FEC_SCHEMES {
            return refuse(Code::Unavailable, "this host protects with FEC schemes 1 and 2, and the client lacks one");
        }
        if self.asks.len() >= PENDING_ASKS {
            return refuse(Code::Full, "too many clients are connecting at once; try again");
        }
        Ok(())
    }

    pub(super) fn permit(&mut self, fingerprint: Fingerprint, allowed: bool) -> Result<(), PlaneError> {
        if allowed {
            self.permitted.insert(fingerprint);
            return Ok(());
        }
        self.permitted.remove(&fingerprint);
        let its = |(id, client): (&ClientId, &Client)| (client.fingerprint == fingerprint).then_some(*id);
        let losers: Vec<ClientId> = self.clients.iter().filter_map(its).collect();
        for id in losers {
            let (code, reason) = (Code::NotAllowed, "this client is no longer allowed on the host".to_owned());
            match self.clients.get(&id).map(|client| &client.stage) {
                Some(&Stage::Asking(ask)) => {
                    self.asks.remove(&ask);
                    self.drop_client(id, ToClient::Refused { code, reason });
                    self.tell_lumend(FromNet::Withdrawn { ask })?;
                }
                Some(&Stage::Live(session)) => {
                    self.drop_client(id, ToClient::End { code, reason: reason.clone() });
                    self.gone(session, reason)?;
                }
                None => {}
            }
        }
        Ok(())
    }

    pub(super) fn wire(&mut self, wiring: NetWiring<OwnedFd>) -> Result<(), PlaneError> {
        let (id, generation, mode) = (wiring.session, wiring.generation.0, wiring.mode);
        if self.face.has(id) {
            return self.try_face(|face, acts| face.wire(wiring, acts));
        }
        match wiring.ask {
            Some(ask) => {
                let Some(client) = self.asks.remove(&ask) else {
                    return self.tell_lumend(gone(id, ask, "the client went away while its session was being made"));
                };
                self.welcome(client, ask, wiring)
            }
            None => {
                let Some(session) = self.sessions.get_mut(&id) else {
                    // It has ended meanwhile, and lumend is being told.
                    return Ok(());
                };
                if generation <= session.generation {
                    return Ok(());
                }
                session.generation = generation;
                let client = session.client;
                match Wiring::attach(wiring) {
                    Ok(wiring) => self.tell_media(MediaCommand::Wire { session: id, wiring: Box::new(wiring) })?,
                    Err(reason) => return self.broken(id, reason),
                }
                self.tell_client(client, ToClient::Reconfigure { generation, mode });
                Ok(())
            }
        }
    }

    /// Turns a client that waits into a session.
    fn welcome(&mut self, id: ClientId, ask: AskId, wiring: NetWiring<OwnedFd>) -> Result<(), PlaneError> {
        let (session, generation, mode) = (wiring.session, wiring.generation.0, wiring.mode);
        let (audio, permissions) = (wiring.audio, wiring.permissions);
        let (resumed, resume) = (wiring.resumed, wiring.resume.clone());
        self.take_away(session)?;
        let (Some(client), Some(listening)) = (self.clients.get_mut(&id), &self.listening) else {
            return self.tell_lumend(gone(session, ask, "the client went away while its session was being made"));
        };
        let wiring = match Wiring::attach(wiring) {
            Ok(wiring) => wiring,
            Err(reason) => {
                self.drop_client(id, ToClient::Refused { code: Code::Unavailable, reason: "internal error".into() });
                return self.tell_lumend(gone(session, ask, &reason));
            }
        };
        let secret = session::fresh_secret().map_err(PlaneError::failed)?;
        let welcome = Welcome {
            session: session.0,
            generation,
            mode,
            codec: Codec::H264,
            fec: Scheme::Leopard,
            parity_floor_percent: session::PARITY_FLOOR_PERCENT,
            shard_size: session::SHARD_SIZE,
            secret: secret.clone(),
            audio,
            permissions,
            resumed,
            resume,
            media_port: listening.media_port,
            boot_id: listening.boot_id,
            host_name: listening.host_name.clone(),
        };
        client.stage = Stage::Live(session);
        self.sessions.insert(session, Session { client: id, ask, generation });
        // The media thread knows the session before the client can send it a probe.
        self.tell_media(MediaCommand::Open { session, secret, wiring: Box::new(wiring) })?;
        self.tell_client(id, ToClient::Welcome(Box::new(welcome)));
        Ok(())
    }

    /// A session's client comes back on another connection: whoever had it has it no more. Nothing is left of it here,
    /// so that its next secret is that of a session like any other.
    fn take_away(&mut self, session: SessionId) -> Result<(), PlaneError> {
        let Some(before) = self.sessions.remove(&session) else { return Ok(()) };
        let reason = "the session goes on over another connection".to_owned();
        self.drop_client(before.client, ToClient::End { code: Code::Stopped, reason });
        self.tell_media(MediaCommand::End { session })
    }

    pub(super) fn refuse(&mut self, ask: AskId, code: EndCode, reason: String) {
        if self.face.refuse(ask, code, &reason) {
            return;
        }
        if let Some(client) = self.asks.remove(&ask) {
            self.drop_client(client, ToClient::Refused { code: wire_code(code), reason });
        }
    }

    pub(super) fn end(&mut self, id: SessionId, code: EndCode, reason: String) -> Result<(), PlaneError> {
        if self.face.has(id) {
            return self.face(|face, acts| face.end(id, code, acts));
        }
        let Some(session) = self.sessions.remove(&id) else { return Ok(()) };
        self.drop_client(session.client, ToClient::End { code: wire_code(code), reason });
        self.tell_media(MediaCommand::End { session: id })
    }

    /// A session cannot go on, through no fault of the client.
    pub(super) fn broken(&mut self, id: SessionId, reason: String) -> Result<(), PlaneError> {
        if self.face.has(id) {
            return self.face(|face, acts| face.broken(id, reason, acts));
        }
        let Some(session) = self.sessions.get(&id) else { return Ok(()) };
        let last = ToClient::End { code: Code::Unavailable, reason: "the host's session broke; connect again".into() };
        self.drop_client(session.client, last);
        self.gone(id, reason)
    }

    /// A client has vanished, or its probes do not come through. It is told in case its connection still lives. Of a
    /// generation before this one it says nothing: the client may have come back since. If it has not, this is heard again.
    pub(super) fn silent(&mut self, id: SessionId, generation: u32) -> Result<(), PlaneError> {
        if self.face.has(id) {
            return self.face(|face, acts| face.broken(id, "its pings have ceased".into(), acts));
        }
        let Some(session) = self.sessions.get(&id).filter(|session| generation >= session.generation) else {
            return Ok(());
        };
        let port = self.listening.as_ref().map_or(0, |listening| listening.media_port);
        let reason = format!("no more probes reach the host's UDP port {port}; look at firewalls on the way");
        self.drop_client(session.client, ToClient::End { code: Code::Timeout, reason });
        self.gone(id, "its probes have ceased".into())
    }

    fn gone(&mut self, session: SessionId, reason: String) -> Result<(), PlaneError> {
        let ask = self.sessions.remove(&session).map(|session| session.ask);
        self.tell_media(MediaCommand::End { session })?;
        self.tell_lumend(FromNet::Gone { session, ask, reason })
    }

    /// The client that a session belongs to.
    pub(super) fn client_of(&self, session: SessionId) -> Option<ClientId> {
        self.sessions.get(&session).map(|session| session.client)
    }

    pub(super) fn tally(&self, session: SessionId) -> Option<&Tally> {
        let native = || self.clients.get(&self.client_of(session)?).map(|client| &*client.tally);
        self.face.tally(session).or_else(native)
    }

    /// Says the last word to a client and forgets it; its task closes the connection.
    fn drop_client(&mut self, id: ClientId, last: ToClient) {
        self.tell_client(id, last);
        if self.clients.remove(&id).is_some() {
            self.parting.insert(id);
        }
    }

    /// A client whose task is that far behind does not read: its sender is dropped, and with it the connection.
    pub(super) fn tell_client(&mut self, id: ClientId, message: ToClient) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        if client.to.try_send(message).is_err() {
            self.counters.add(Counter::QueueFull);
            // A sender whose other end does not exist: the task sees its queue closed, ends and reports it.
            client.to = tokio::sync::mpsc::channel(1).0;
        }
    }
}

fn gone(session: SessionId, ask: AskId, reason: &str) -> FromNet {
    FromNet::Gone { session, ask: Some(ask), reason: reason.to_owned() }
}

/// lumend's reasons as they are spelt on the wire.
fn wire_code(code: EndCode) -> Code {
    match code {
        EndCode::NotAllowed => Code::NotAllowed,
        EndCode::Mode => Code::Mode,
        EndCode::Full => Code::Full,
        EndCode::Unavailable => Code::Unavailable,
        EndCode::Stopped | EndCode::AppEnded => Code::Stopped,
        EndCode::Shutdown => Code::Shutdown,
    }
}

fn hex(fingerprint: &Fingerprint) -> String {
    fingerprint.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use ipc::link::Link;

    use super::*;
    use crate::native::Limits;
    use crate::queue::queue;

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_silent_before_a_client_came_back_does_not_end_its_session() {
        let (_lumend, link) = Link::pair().unwrap();
        let ((media, _orders), (_media, from_media)) = (queue(16).unwrap(), queue(16).unwrap());
        let mut control = Control::new(link, media, from_media, Limits::default(), Default::default()).unwrap();
        let session = Session { client: ClientId(1), ask: AskId(1), generation: 2 };
        control.sessions.insert(SessionId(1), session);
        control.silent(SessionId(1), 1).unwrap();
        assert!(control.sessions.contains_key(&SessionId(1)), "it was said of the generation before");
        control.silent(SessionId(1), 2).unwrap();
        assert!(!control.sessions.contains_key(&SessionId(1)));
    }
}
