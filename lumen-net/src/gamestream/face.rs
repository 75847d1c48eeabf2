//! What net knows of GameStream clients: who is paired, what they may start, what they have running, which of them wait
//! for an answer and which have sessions. It waits for nothing and sends nothing itself but answers of HTTP: it is told
//! what happens, and says what follows as [`Act`]s.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc::plane::PlaneError;
use ipc::{App, AppId, AskId, Fingerprint, FromNet, GameStreamListen, PairingId, Pin, SessionId};
use lumen_core::Encryption;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::apps::Apps;
use super::door::Door;
use super::http::{Answer, Desk, Patience, Visit, door_limits};
use super::hub::{HubOrder, HubPorts, HubSockets};
use super::pages::{self, HostNames};
use super::pairing::{HostCertificate, Pairings, SignSecret};
use super::tls;
use super::turns::Turns;
use crate::counters::Counters;
use crate::media::MediaCommand;
use crate::tls::Signer;

mod keys;
mod sessions;
#[cfg(test)]
mod tests;
mod visits;

use keys::Keys;
use sessions::{Launching, Session};

/// Requests that may wait for the control loop; connections wait when it is full.
pub const VISITS: usize = 32;

/// How long a client waits for what it has running to end. Clients give up after 30 s.
const FOR_THE_QUIT: Duration = Duration::from_secs(20);

/// What follows from what the face was told; in this order.
pub enum Act {
    Lumend(FromNet),
    Media(MediaCommand),
    Hub(HubOrder),
}

pub type Acts = Vec<Act>;

/// The numbers of requests to lumend, of this face and any other.
#[derive(Default)]
pub struct AskNumbers(u32);

impl AskNumbers {
    pub fn take(&mut self) -> AskId {
        self.0 = self.0.wrapping_add(1);
        AskId(self.0)
    }
}

/// The face's state.
pub struct Face {
    visits: mpsc::Sender<Visit>,
    counters: Arc<Counters>,
    listening: Option<Listening>,
    apps: Apps,
    paired: BTreeSet<Fingerprint>,
    running: BTreeMap<Fingerprint, AppId>,
    pairings: Pairings,
    launches: BTreeMap<AskId, Launching>,
    sessions: BTreeMap<SessionId, Session>,
    keys: Keys,
    quits: Vec<Quit>,
}

/// What only a `GameStream` message brings.
struct Listening {
    names: HostNames,
    certificate: HostCertificate,
    encryption: Encryption,
    signer: Signer,
    turns: Arc<Turns>,
    /// The two doors, which close when this is dropped.
    _doors: JoinSet<()>,
}

/// A client that waits for what it has running to end.
struct Quit {
    client: Fingerprint,
    answer: Answer,
    until: Instant,
}

impl SignSecret for Signer {
    fn sign(&self, pairing: PairingId, secret: [u8; 16]) -> Option<Vec<u8>> {
        Signer::sign(self, ipc::SignRequest::Pairing { pairing, secret }).ok()
    }
}

impl Face {
    /// Requests will come out of the other end of `visits`.
    pub fn new(visits: mpsc::Sender<Visit>, counters: Arc<Counters>) -> Self {
        Self {
            visits,
            counters,
            listening: None,
            apps: Apps::default(),
            paired: BTreeSet::new(),
            running: BTreeMap::new(),
            pairings: Pairings::default(),
            launches: BTreeMap::new(),
            sessions: BTreeMap::new(),
            keys: Keys::default(),
            quits: Vec::new(),
        }
    }

    /// Listens on these sockets from now on. Must run inside the control thread's runtime.
    pub fn listen(
        &mut self,
        listen: GameStreamListen<OwnedFd>,
        signer: &Signer,
        acts: &mut Acts,
    ) -> Result<(), PlaneError> {
        let certificate = HostCertificate::new(listen.certificate.clone())
            .ok_or_else(|| PlaneError::protocol("the host's GameStream certificate is none"))?;
        let tls = tls::server_config(listen.certificate, signer.clone()).map_err(PlaneError::failed)?;
        let (mut doors, turns) = (JoinSet::new(), Arc::<Turns>::default());
        for (socket, tls) in [(listen.http, None), (listen.https, Some(Arc::new(tls)))] {
            let door = Door::new(TcpListener::from(socket), door_limits(), self.counters.clone())?;
            let (visits, counters) = (self.visits.clone(), self.counters.clone());
            let desk = Desk { tls, turns: turns.clone(), visits, counters, patience: Patience::default() };
            let desk = Arc::new(desk);
            doors.spawn(door.run_places(move |stream, peer, place| desk.clone().attend(stream, peer, place)));
        }
        let port = |offset| listen.base_port.wrapping_add(offset);
        let sockets = HubSockets {
            rtsp: TcpListener::from(listen.rtsp),
            control: UdpSocket::from(listen.control),
            audio: UdpSocket::from(listen.audio),
            ports: HubPorts { video: port(9), control: port(10), audio: port(11) },
            encryption: listen.encryption,
        };
        acts.push(Act::Hub(HubOrder::Sockets(Box::new(sockets))));
        acts.push(Act::Media(MediaCommand::GuestSocket(UdpSocket::from(listen.video))));
        let names = HostNames { unique_id: listen.unique_id, host_name: listen.host_name, base_port: listen.base_port };
        let (encryption, signer) = (listen.encryption, signer.clone());
        self.listening = Some(Listening { names, certificate, encryption, signer, turns, _doors: doors });
        Ok(())
    }

    /// One entry of the app list.
    pub fn app(&mut self, app: App<OwnedFd>) {
        self.apps.put(app);
    }

    /// lumend trusts this client, or does so no more.
    pub fn permit(&mut self, client: Fingerprint, allowed: bool, acts: &mut Acts) {
        if allowed {
            self.paired.insert(client);
            return self.pairings.allowed(&client);
        }
        self.paired.remove(&client);
        if let Some(listening) = &self.listening {
            listening.turns.forget_known();
        }
        self.running.remove(&client);
        self.pairing(acts, |pairings, said| pairings.forbidden(&client, said));
        self.release(client, "this client is no longer paired", acts);
        for quit in self.quits.extract_if(.., |quit| quit.client == client) {
            quit.answer.send(visits::unauthorised());
        }
    }

    /// What a client has running, as lumend says.
    pub fn running(&mut self, client: Fingerprint, app: Option<AppId>) {
        match app {
            Some(app) => {
                self.running.insert(client, app);
            }
            None => {
                self.running.remove(&client);
                for quit in self.quits.extract_if(.., |quit| quit.client == client) {
                    quit.answer.send(pages::cancelled());
                }
            }
        }
    }

    /// A person has entered a PIN.
    pub fn pin(&mut self, now: Instant, pairing: PairingId, pin: &Pin, acts: &mut Acts) {
        let Some(listening) = &self.listening else { return };
        let mut said = Vec::new();
        self.pairings.pin(now, pairing, pin, &listening.certificate, &mut said);
        acts.extend(said.into_iter().map(Act::Lumend));
    }

    pub fn drop_pairing(&mut self, pairing: PairingId, reason: &str) {
        self.pairings.drop_one(pairing, reason);
    }

    /// Gives up what has taken too long. To be called about once a second.
    pub fn tick(&mut self, now: Instant, acts: &mut Acts) {
        self.pairing(acts, |pairings, said| pairings.sweep(now, said));
        self.tire(now, acts);
        for quit in self.quits.extract_if(.., |quit| now >= quit.until || quit.answer.is_gone()) {
            quit.answer.send(pages::refusal(503, "what is running does not end"));
        }
    }

    fn pairing(&mut self, acts: &mut Acts, act: impl FnOnce(&mut Pairings, &mut Vec<FromNet>)) {
        let mut said = Vec::new();
        act(&mut self.pairings, &mut said);
        acts.extend(said.into_iter().map(Act::Lumend));
    }
}
