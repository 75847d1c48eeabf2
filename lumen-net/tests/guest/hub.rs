//! The hub of GameStream sessions on sockets and rings of the test's, which plays the control loop.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipc::event::now_ns;
use ipc::ring::{ChunkFlags, ChunkHeader, RingConsumer, RingProducer};
use ipc::{Generation, RingGeometry, SessionId, Tuning};
use lumen_core::gamestream::Encryption;
use lumen_core::gamestream::control::ControlVersion;
use lumen_core::input::MAX_EVENT;
use lumen_core::{AudioLayout, InputEvent, Mode};
use lumen_net::branches::{BranchOrder, Inflow, Outflow};
use lumen_net::counters::Counters;
use lumen_net::gamestream::guest::{Guest, Launch};
use lumen_net::gamestream::hub::{Hub, HubEvent, HubOrder, HubPorts, HubSockets};
use lumen_net::media::GuestMedia;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::client::{Audio, Control, PATIENCE, Rtsp, Streams};
use super::rings::{consumer, producer, ring};

/// A hub in a thread of its own.
pub struct TestHub {
    hub: Option<Hub>,
    events: mpsc::Receiver<HubEvent>,
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    pub counters: Arc<Counters>,
    pub rtsp: SocketAddr,
    pub control: SocketAddr,
    pub audio: SocketAddr,
}

impl TestHub {
    pub fn new(encryption: Encryption) -> Self {
        Self::with_room(encryption, 64)
    }

    /// So many of the hub's reports may wait.
    pub fn with_room(encryption: Encryption, reports: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || drop(runtime.block_on(stopped)));
        let (to_events, events) = mpsc::channel(reports);
        let counters = Arc::new(Counters::default());
        let inside = handle.enter();
        let hub = Hub::start(to_events, counters.clone());
        drop(inside);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (control, audio) = (udp(), udp());
        let rtsp = listener.local_addr().unwrap();
        let addresses = (control.local_addr().unwrap(), audio.local_addr().unwrap());
        let ports = HubPorts { video: 1, control: addresses.0.port(), audio: addresses.1.port() };
        let sockets = HubSockets { rtsp: listener, control, audio, ports, encryption };
        hub.tell(HubOrder::Sockets(Box::new(sockets))).unwrap();
        let (stop, thread) = (Some(stop), Some(thread));
        let (control, audio) = addresses;
        Self { hub: Some(hub), events, handle, stop, thread, counters, rtsp, control, audio }
    }

    pub fn tell(&self, order: HubOrder) {
        self.hub.as_ref().unwrap().tell(order).unwrap();
    }

    /// The control loop's end.
    pub fn shut_down(&mut self) {
        let Self { hub, events, handle, .. } = self;
        handle.block_on(hub.as_mut().unwrap().shut_down(events));
    }

    /// Waits for an event that `pick` takes; others are passed over.
    pub fn expect<T>(&mut self, mut pick: impl FnMut(HubEvent) -> Option<T>) -> T {
        let Self { handle, events, .. } = self;
        let found = async {
            loop {
                let event = events.recv().await.expect("the hub lives");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        };
        handle.block_on(async { timeout(PATIENCE, found).await }).expect("the hub did not say what was expected")
    }

    /// The next event, if one comes within a moment.
    pub fn next_within(&mut self, patience: Duration) -> Option<HubEvent> {
        let Self { handle, events, .. } = self;
        handle.block_on(async { timeout(patience, events.recv()).await.ok().flatten() })
    }

    pub fn expect_tuned(&mut self, id: u32) -> (Tuning, GuestMedia) {
        self.expect(|event| match event {
            HubEvent::Tuned { session, tuning, media } if session == SessionId(id) => Some((tuning, *media)),
            _ => None,
        })
    }

    pub fn expect_started(&mut self, id: u32) {
        self.expect(|event| matches!(event, HubEvent::Started { session } if session == SessionId(id)).then_some(()));
    }

    pub fn expect_gone(&mut self, id: u32) -> String {
        self.expect(|event| match event {
            HubEvent::Gone { session, reason } if session == SessionId(id) => Some(reason),
            _ => None,
        })
    }

    /// A launch that lumend has granted.
    pub fn launch(&self, session: u32, sealed: bool) -> Key {
        let key = Key { bytes: [session as u8 + 1; 16], id: -7 - session as i32 };
        let guest = Guest::new(Launch {
            session: SessionId(session),
            peer: IpAddr::from([127, 0, 0, 1]),
            mode: Mode::new(1280, 720, 60_000).unwrap(),
            audio: AudioLayout::Stereo,
            key: key.bytes,
            key_id: key.id,
            sealed,
        });
        self.tell(HubOrder::Open(Box::new(guest.unwrap())));
        key
    }

    /// A session that has started, as its client sees it.
    pub fn started(&mut self, session: u32, sealed: bool, attributes: &[(&str, u32)]) -> Client {
        let key = self.launch(session, sealed);
        let mut rtsp = Rtsp::new(self.rtsp, sealed.then_some(key.bytes));
        let streams = rtsp.set_up();
        assert_eq!((streams.control, streams.audio.port), (self.control.port(), self.audio.port()));
        let mut audio = Audio::new(self.audio, &streams.audio.ping);
        audio.ping();
        rtsp.announce(&streams, attributes);
        let (tuning, media) = self.expect_tuned(session);
        let version = if sealed { ControlVersion::V2 } else { ControlVersion::V1 };
        let mut control = Control::connect(self.control, streams.connect_data, &key.bytes, version);
        control.start();
        self.expect_started(session);
        Client { key, streams, audio, control, tuning, media }
    }

    /// Wires sound, and keeps the audio plane's end.
    pub fn wire_audio(&self, session: u32, generation: u32) -> RingProducer {
        let (theirs, ours) = ring(RingGeometry::AUDIO);
        let inside = self.handle.enter();
        let order = BranchOrder::WireAudio(Inflow::attach(Generation(generation), theirs).unwrap());
        drop(inside);
        self.tell(HubOrder::Branch { session: SessionId(session), order: Box::new(order) });
        producer(ours)
    }

    /// Wires input and rumble, and keeps the input plane's ends.
    pub fn wire_input(&self, session: u32, generation: u32) -> Plane {
        let ((events, our_events), (haptics, our_haptics)) = (ring(RingGeometry::INPUT), ring(RingGeometry::HAPTICS));
        let inside = self.handle.enter();
        let events = Outflow::attach(Generation(generation), events).unwrap();
        let haptics = Inflow::attach(Generation(generation), haptics).unwrap();
        drop(inside);
        let order = Box::new(BranchOrder::WireInput(events, haptics));
        self.tell(HubOrder::Branch { session: SessionId(session), order });
        Plane { events: consumer(our_events), haptics: producer(our_haptics) }
    }
}

impl Drop for TestHub {
    fn drop(&mut self) {
        drop(self.hub.take());
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a launch has agreed on.
#[derive(Clone, Copy)]
pub struct Key {
    pub bytes: [u8; 16],
    pub id: i32,
}

/// A started session's client.
pub struct Client {
    pub key: Key,
    pub streams: Streams,
    pub audio: Audio,
    pub control: Control,
    pub tuning: Tuning,
    pub media: GuestMedia,
}

/// The input plane's ends of a session's rings.
pub struct Plane {
    pub events: RingConsumer,
    pub haptics: RingProducer,
}

impl Plane {
    /// The next event, if one is there.
    pub fn take(&mut self) -> Option<InputEvent> {
        let chunk = self.events.peek().unwrap()?;
        let mut bytes = Vec::with_capacity(MAX_EVENT);
        chunk.read(&mut bytes).unwrap();
        self.events.release();
        Some(InputEvent::decode(&bytes).expect("net passes on only what can be injected"))
    }

    /// The next event; the client is served meanwhile.
    pub fn next(&mut self, client: &mut Control) -> InputEvent {
        let mut event = None;
        client.until("an event comes", |_| {
            event = self.take();
            event.is_some()
        });
        event.unwrap()
    }
}

/// Puts one packet into an audio ring.
pub fn play(ring: &mut RingProducer, number: u32, packet: &[u8]) {
    let captured_ns = now_ns();
    let header = ChunkHeader { frame: number, flags: ChunkFlags::LAST, captured_ns, ..ChunkHeader::default() };
    ring.reserve().expect("the ring has room").commit(header, packet).unwrap();
}
