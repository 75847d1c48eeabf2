//! The control thread: one loop over one closed enum. It knows who is connected, what was asked and which sessions
//! run, and tells lumend, the media thread and the clients' tasks what follows. It decides nothing about policy.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc::link::{Link, LinkError};
use ipc::plane::{Exit, PlaneError};
use ipc::{
    AskId, Face as Protocol, Fingerprint, FromNet, Generation, Listen, NetCounters, PlaneKind, SessionId, ToNet,
};
use quinn::Incoming;
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::branches::BranchOrder;
use crate::counters::Counters;
use crate::discovery::Discovery;
use crate::gamestream::face::{AskNumbers, Face, VISITS};
use crate::gamestream::http::Visit;
use crate::gamestream::hub::{Hub, HubEvent};
use crate::media::{MediaCommand, MediaEvent};
use crate::native::{Acceptor, ClientId, EndpointKeys, FromClient, Limits};
use crate::queue::{Receiver, Sender};
use crate::readable::Readable;
use crate::tls::{self, Signer};

mod branches;
mod clients;
mod gamestream;

use clients::{Client, Session};

/// Reports of clients' tasks that may wait; a task waits when it is full.
const CLIENT_EVENTS: usize = 64;
/// Reports of the hub that may wait; it waits when it is full.
const HUB_EVENTS: usize = 64;

/// Everything that can happen to the control thread.
enum Event {
    Lumend(ToNet<OwnedFd>),
    LinkEnded(LinkError),
    Media,
    Client(FromClient),
    Visit(Box<Visit>),
    Hub(HubEvent),
    Incoming(Box<Incoming>),
    EndpointEnded,
    Tick,
}

/// What only a `Listen` brings.
struct Listening {
    acceptor: Acceptor,
    signer: Signer,
    media_port: u16,
    host_name: String,
    boot_id: [u8; 16],
}

/// The control thread's state.
pub struct Control {
    link: Readable<Link>,
    media: Sender<MediaCommand>,
    from_media: Receiver<MediaEvent>,
    media_wake: Readable<ipc::event::Event>,
    events: mpsc::Receiver<FromClient>,
    to_events: mpsc::Sender<FromClient>,
    tick: Interval,
    limits: Limits,
    counters: Arc<Counters>,
    reported: NetCounters,
    listening: Option<Listening>,
    permitted: BTreeSet<Fingerprint>,
    clients: BTreeMap<ClientId, Client>,
    /// Have been sent their last word; their tasks have not ended yet.
    parting: BTreeSet<ClientId>,
    asks: BTreeMap<AskId, ClientId>,
    sessions: BTreeMap<SessionId, Session>,
    ask_numbers: AskNumbers,
    /// GameStream's side of all this.
    face: Face,
    visits: mpsc::Receiver<Visit>,
    hub: Hub,
    hub_events: mpsc::Receiver<HubEvent>,
    discovery: Discovery,
}

impl Control {
    /// Must run inside the control thread's runtime.
    pub fn new(
        link: Link,
        media: Sender<MediaCommand>,
        from_media: Receiver<MediaEvent>,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> Result<Self, PlaneError> {
        let media_wake = Readable::new(from_media.wake().try_clone()?)?;
        let (to_events, events) = mpsc::channel(CLIENT_EVENTS);
        let (to_visits, visits) = mpsc::channel(VISITS);
        let (to_hub_events, hub_events) = mpsc::channel(HUB_EVENTS);
        let mut tick = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            link: Readable::new(link)?,
            media,
            from_media,
            media_wake,
            events,
            to_events,
            tick,
            limits,
            discovery: Discovery::new(counters.clone()),
            counters: counters.clone(),
            reported: NetCounters::default(),
            listening: None,
            permitted: BTreeSet::new(),
            clients: BTreeMap::new(),
            parting: BTreeSet::new(),
            asks: BTreeMap::new(),
            sessions: BTreeMap::new(),
            ask_numbers: AskNumbers::default(),
            face: Face::new(to_visits, counters.clone()),
            visits,
            hub: Hub::start(to_hub_events, counters),
            hub_events,
        })
    }

    /// Runs until the link closes.
    pub async fn run(mut self) -> Result<Exit, PlaneError> {
        let outcome = loop {
            let event = self.next().await?;
            let done = match event {
                Event::Lumend(message) => self.on_lumend(message),
                Event::LinkEnded(LinkError::Closed) => break Ok(Exit::Stopped),
                Event::LinkEnded(error) => Err(error.into()),
                Event::Media => self.on_media(),
                Event::Client(event) => self.on_client(event),
                Event::Visit(visit) => self.on_visit(*visit),
                Event::Hub(event) => self.face(|face, acts| face.hub(event, acts)),
                Event::Incoming(incoming) => {
                    if let Some(listening) = &mut self.listening {
                        listening.acceptor.admit(*incoming);
                    }
                    Ok(())
                }
                Event::EndpointEnded => Err(PlaneError::failed("the QUIC endpoint has ended")),
                Event::Tick => self.on_tick(),
            };
            match done {
                Ok(()) => {}
                Err(PlaneError::Link(LinkError::Closed)) => break Ok(Exit::Stopped),
                Err(error) => break Err(error),
            }
        };
        self.hub.shut_down(&mut self.hub_events).await;
        self.discovery.stop().await;
        // Nobody reads any more what clients' tasks report: they need not wait for room.
        self.events.close();
        if let Some(listening) = self.listening {
            listening.acceptor.shut_down(&self.parting).await;
        }
        outcome
    }

    async fn next(&mut self) -> io::Result<Event> {
        let accept = async {
            match &self.listening {
                Some(listening) => match listening.acceptor.incoming().await {
                    Some(incoming) => Event::Incoming(Box::new(incoming)),
                    None => Event::EndpointEnded,
                },
                None => std::future::pending().await,
            }
        };
        // In this order: what lumend says goes before what strangers say.
        tokio::select! {
            biased;
            event = self.link.find(from_link) => event,
            woken = self.media_wake.find(|wake| wake.drain().then_some(())) => woken.map(|()| Event::Media),
            _ = self.tick.tick() => Ok(Event::Tick),
            Some(event) = self.hub_events.recv() => Ok(Event::Hub(event)),
            Some(event) = self.events.recv() => Ok(Event::Client(event)),
            Some(visit) = self.visits.recv() => Ok(Event::Visit(Box::new(visit))),
            event = accept => Ok(event),
        }
    }

    fn on_lumend(&mut self, message: ToNet<OwnedFd>) -> Result<(), PlaneError> {
        match message {
            ToNet::Ping(number) => self.tell_lumend(FromNet::Pong(number)),
            ToNet::Listen(listen) => self.listen(listen),
            ToNet::Permit { face: Protocol::Lumen, client, allowed } => self.permit(client, allowed),
            ToNet::Permit { face: Protocol::GameStream, client, allowed } => {
                self.face(|face, acts| face.permit(client, allowed, acts))
            }
            ToNet::GameStream(listen) => self.listen_for_guests(listen),
            ToNet::App(app) => {
                self.face.app(app);
                Ok(())
            }
            ToNet::Accepted { ask, session, mode } => {
                self.try_face(|face, acts| face.accepted(ask, session, mode, acts))
            }
            ToNet::Running { client, app } => {
                self.face.running(client, app);
                Ok(())
            }
            ToNet::Pin { pairing, pin } => self.face(|face, acts| face.pin(Instant::now(), pairing, &pin, acts)),
            ToNet::DropPairing { pairing, reason } => {
                self.face.drop_pairing(pairing, &reason);
                Ok(())
            }
            ToNet::Announce(announce) => Ok(self.discovery.announce(announce)?),
            ToNet::Rebind { quic, media, media_port } => self.rebind(quic.into(), media.into(), media_port),
            ToNet::Wire(wiring) => self.wire(wiring),
            ToNet::Retire { session, generation } => {
                self.tell_media(MediaCommand::Retire { session, generation: generation.0 })
            }
            ToNet::WireAudio { session, generation, ring } => self.wire_audio(session, generation, ring),
            ToNet::RetireAudio { session, generation } => self.order(session, BranchOrder::RetireAudio(generation)),
            ToNet::WireInput { session, generation, events, haptics } => {
                self.wire_input(session, generation, events, haptics)
            }
            ToNet::RetireInput { session, generation } => self.order(session, BranchOrder::RetireInput(generation)),
            ToNet::InputFrom { session, generation, next } => {
                self.order(session, BranchOrder::InputFrom(generation, next))
            }
            ToNet::Refuse { ask, code, reason } => {
                self.refuse(ask, code, reason);
                Ok(())
            }
            ToNet::End { session, code, reason } => self.end(session, code, reason),
        }
    }

    fn listen(&mut self, listen: Listen<OwnedFd>) -> Result<(), PlaneError> {
        let signer = Signer::new(listen.signer)?;
        let tls = tls::server_config(listen.certificate, signer.clone()).map_err(PlaneError::failed)?;
        let keys =
            EndpointKeys { reset: listen.reset_key, token: listen.token_key, connection_id: listen.connection_id_key };
        let events = self.to_events.clone();
        let acceptor = Acceptor::new(listen.quic.into(), tls, &keys, self.limits, events, self.counters.clone())
            .map_err(PlaneError::Failed)?;
        self.listening = Some(Listening {
            acceptor,
            signer,
            media_port: listen.media_port,
            host_name: listen.host_name,
            boot_id: listen.boot_id,
        });
        self.tell_media(MediaCommand::Socket(listen.media.into()))
    }

    fn rebind(&mut self, quic: UdpSocket, media: UdpSocket, media_port: u16) -> Result<(), PlaneError> {
        let listening = self.listening.as_mut().ok_or_else(|| PlaneError::protocol("Rebind before Listen"))?;
        listening.acceptor.rebind(quic)?;
        listening.media_port = media_port;
        self.tell_media(MediaCommand::Socket(media))
    }

    fn on_media(&mut self) -> Result<(), PlaneError> {
        loop {
            let Ok(event) = self.from_media.next() else {
                return Err(PlaneError::failed("the media thread has ended"));
            };
            let Some(event) = event else { return Ok(()) };
            match event {
                MediaEvent::Stats { session, mut stats } => {
                    // A session that has just ended may still be in the queue.
                    if let Some(tally) = self.tally(session) {
                        tally.fill(&mut stats);
                        self.tell_lumend(FromNet::Stats { session, stats })?;
                    }
                }
                MediaEvent::Broken { session, reason } => self.broken(session, reason)?,
                MediaEvent::RingBroken { session, generation, reason } => {
                    let (kind, generation) = (PlaneKind::Encode, Generation(generation));
                    self.tell_lumend(FromNet::BranchBroken { session, kind, generation, reason })?;
                }
                MediaEvent::Silent { session, generation } => self.silent(session, generation)?,
                MediaEvent::Died { reason } => return Err(PlaneError::Failed(reason)),
            }
        }
    }

    fn on_tick(&mut self) -> Result<(), PlaneError> {
        self.face(|face, acts| face.tick(Instant::now(), acts))?;
        let now = self.counters.snapshot();
        if now == self.reported {
            return Ok(());
        }
        self.reported = now;
        self.tell_lumend(FromNet::Counters(now))
    }

    fn tell_lumend(&self, message: FromNet) -> Result<(), PlaneError> {
        Ok(self.link.get().send(message)?)
    }

    fn tell_media(&self, command: MediaCommand) -> Result<(), PlaneError> {
        match self.media.send(command) {
            true => Ok(()),
            // Commands are rare and taken at once: a full queue means that the thread hangs.
            false => Err(PlaneError::failed("the media thread takes no commands")),
        }
    }
}

fn from_link(link: &Link) -> Option<Event> {
    match link.recv() {
        Ok(Some(received)) => Some(Event::Lumend(received.message)),
        Ok(None) => None,
        Err(error) => Some(Event::LinkEnded(error)),
    }
}
