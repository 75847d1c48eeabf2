//! A client that is allowed in and means harm: it speaks lumen/1 well enough for a session with hands, and then sends
//! whatever bytes it likes as datagrams, as fast as it likes.
//!
//! It is no part of the reference client because that one would have to unlearn its manners: it takes no notice of
//! congestion and of who the host is, and reads no picture.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ipc::event::now_ns;
use lumen_core::RawMode;
use lumen_core::fec::Scheme;
use lumen_core::hello::{
    CODEC_H264, ClientHello, ClientMessage, ControlMessage, FrameReader, HostMessage, VERSION, Welcome,
};
use lumen_core::input::datagram::Ack;
use lumen_core::packet::{Flags, HEADER_BYTES, Header, Kind, PROBE_BYTES, Probe, TAG_BYTES};
use lumen_core::seal::{Direction, Sealer};
use quinn::congestion::{Controller, ControllerFactory};
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use tokio::net::UdpSocket;
use tokio::sync::Notify;
use xtask::client::allow;
use xtask::host::Host;
use xtask::process::wait_until;
use xtask::stage::Stage;

mod tls;

/// Bytes of unsent datagrams that it keeps; more than this is not sent at all.
const SEND_BUFFER: usize = 4 << 20;
/// What it believes the network to hold.
const WINDOW: u64 = 64 << 20;
/// As a good client does, so that the host does not take it for dead.
const PROBE_EVERY: Duration = Duration::from_millis(100);

/// How long it waits for an answer before it asks again.
const AGAIN: Duration = Duration::from_millis(30);

/// What its two threads share.
struct Shared {
    answer: Mutex<Option<Ack>>,
    generation: AtomicU32,
    stop: Notify,
}

/// A session of an allowed client that means harm. It ends when it is dropped.
pub struct Attacker {
    connection: Connection,
    shared: Arc<Shared>,
    session: u32,
    thread: Option<JoinHandle<()>>,
}

/// What a flood amounted to.
#[derive(Clone, Copy, Debug)]
pub struct Flood {
    /// Datagrams that left, and UDP packets.
    pub datagrams: u64,
    pub packets: u64,
    /// Of the packets, those that the host has not acknowledged, as far as is known when the flood ends.
    pub lost: u64,
    /// How long it took.
    pub length: Duration,
}

impl Flood {
    /// UDP packets a second.
    pub fn rate(&self) -> f64 {
        self.packets as f64 / self.length.as_secs_f64()
    }
}

impl Attacker {
    /// Allows `identity` on the host, and starts a session of it with a small picture and hands.
    pub fn connect(stage: &Stage, host: &Host, identity: &str) -> Result<Self> {
        allow(stage, host, identity)?;
        let tls = tls::config(&stage.path().join("home").join(identity))?;
        let address: SocketAddr = host.address().parse()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let dialled = runtime.block_on(dial(tls, address))?;
        let Dialled { endpoint, connection, send, recv, reader, welcome } = dialled;
        let shared = Arc::new(Shared {
            answer: Mutex::new(None),
            generation: AtomicU32::new(welcome.generation),
            stop: Notify::new(),
        });
        let session = welcome.session;
        let (inside, line) = (Arc::clone(&shared), connection.clone());
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = probe(&welcome, SocketAddr::new(address.ip(), welcome.media_port), &inside) => {}
                    () = listen(recv, reader, &inside) => {}
                    () = answers(&line, &inside) => {}
                    () = inside.stop.notified() => {}
                }
                drop(send);
                line.close(0_u32.into(), b"bye");
                let _ = tokio::time::timeout(Duration::from_secs(1), endpoint.wait_idle()).await;
            });
        });
        Ok(Self { connection, shared, session, thread: Some(thread) })
    }

    /// The session's number, as `lumend status` has it.
    pub const fn session(&self) -> u32 {
        self.session
    }

    /// Most bytes that a datagram can have on this path.
    pub fn most_bytes(&self) -> usize {
        self.connection.max_datagram_size().unwrap_or_default()
    }

    /// Sends one datagram.
    pub fn fire(&self, datagram: &[u8]) -> Result<()> {
        Ok(self.connection.send_datagram(datagram.to_vec().into())?)
    }

    /// The host's newest answer.
    pub fn answer(&self) -> Option<Ack> {
        *self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends `datagram` again and again until the host answers to its time, `client_ns`, and what it says it has is
    /// `enough`; gives that.
    pub fn insist(&self, datagram: &[u8], client_ns: u64, enough: impl Fn(u32) -> bool) -> Result<u32> {
        let mut fired = Instant::now();
        self.fire(datagram)?;
        wait_until(Duration::from_secs(20), || {
            if fired.elapsed() > AGAIN {
                fired = Instant::now();
                // A connection that has ended gives no answer either.
                let _ = self.fire(datagram);
            }
            self.answer()
                .filter(|answer| answer.client_ns == client_ns && enough(answer.next))
                .map(|answer| answer.next)
        })
        .with_context(|| format!("what was sent at {client_ns} has no such answer, the last is {:?}", self.answer()))
    }

    /// For this long, sends what `make` gives `per_second` times, or as often as this machine can. Whatever is larger
    /// than half a packet leaves in a UDP packet of its own.
    pub fn flood(&self, length: Duration, per_second: u64, mut make: impl FnMut(u64) -> Vec<u8>) -> Result<Flood> {
        let (before, began) = (self.connection.stats(), Instant::now());
        let mut made = 0;
        loop {
            let elapsed = began.elapsed();
            if elapsed >= length {
                break;
            }
            let wanted = elapsed.as_nanos() as u64 * per_second / 1_000_000_000;
            while made < wanted && self.connection.datagram_send_buffer_space() > SEND_BUFFER / 2 {
                self.connection.send_datagram(make(made).into())?;
                made += 1;
            }
            // What there was no room for is not made up for.
            made = made.max(wanted.saturating_sub(per_second / 100));
            std::thread::sleep(Duration::from_micros(200));
        }
        let (after, length) = (self.connection.stats(), began.elapsed());
        let datagrams = after.frame_tx.datagram - before.frame_tx.datagram;
        let packets = after.udp_tx.datagrams - before.udp_tx.datagrams;
        Ok(Flood { datagrams, packets, lost: after.path.lost_packets - before.path.lost_packets, length })
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Dialled {
    endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    reader: FrameReader,
    welcome: Welcome,
}

async fn dial(tls: quinn::crypto::rustls::QuicClientConfig, address: SocketAddr) -> Result<Dialled> {
    let mut transport = TransportConfig::default();
    transport
        .datagram_receive_buffer_size(Some(64 << 10))
        .datagram_send_buffer_size(SEND_BUFFER)
        .keep_alive_interval(Some(Duration::from_secs(1)))
        .congestion_controller_factory(Arc::new(Reckless));
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    let endpoint = Endpoint::client("127.0.0.1:0".parse()?)?;
    let connection = endpoint.connect_with(config, address, "lumen")?.await?;
    let (mut send, mut recv) = connection.open_bi().await?;
    let hello = ClientHello {
        version: VERSION,
        boot_id: [0; 16],
        mode: RawMode { width: 320, height: 240, refresh_mhz: 30_000 },
        bitrate_kbps: 0,
        codecs: CODEC_H264,
        fec_schemes: 1 << Scheme::Cauchy as u8 | 1 << Scheme::Leopard as u8,
        audio: None,
        own_sink: false,
        input: true,
        name: "attacker".into(),
        resume: None,
    };
    send.write_all(&encoded(&ClientMessage::Hello(hello))).await?;
    let mut reader = FrameReader::default();
    let welcome = match next(&mut recv, &mut reader).await? {
        HostMessage::Welcome(welcome) => welcome,
        other => bail!("no welcome but {other:?}"),
    };
    send.write_all(&encoded(&ClientMessage::Start)).await?;
    Ok(Dialled { endpoint, connection, send, recv, reader, welcome })
}

fn encoded(message: &ClientMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

async fn next(recv: &mut RecvStream, reader: &mut FrameReader) -> Result<HostMessage> {
    loop {
        if let Some(message) = reader.poll()? {
            return Ok(message);
        }
        let mut bytes = [0; 2048];
        let count = recv.read(&mut bytes).await?.context("the host hung up")?;
        reader.push(&bytes[..count]);
    }
}

/// Follows the generations of its picture until the host ends it.
async fn listen(mut recv: RecvStream, mut reader: FrameReader, shared: &Shared) {
    loop {
        match next(&mut recv, &mut reader).await {
            Ok(HostMessage::Reconfigure { generation, .. }) => shared.generation.store(generation, Ordering::Relaxed),
            Ok(_) | Err(_) => return,
        }
    }
}

/// Keeps the newest answer to its events until the connection ends.
async fn answers(connection: &Connection, shared: &Shared) {
    while let Ok(datagram) = connection.read_datagram().await {
        if let Some(answer) = Ack::decode(&datagram) {
            *shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
        }
    }
}

/// Says that it is still there, and never that it has received anything.
async fn probe(welcome: &Welcome, media: SocketAddr, shared: &Shared) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    let mut sealer = Sealer::new(&welcome.secret, welcome.generation, Direction::ClientToHost);
    loop {
        let generation = shared.generation.load(Ordering::Relaxed);
        if sealer.generation() != generation {
            sealer = Sealer::new(&welcome.secret, generation, Direction::ClientToHost);
        }
        let (kind, flags, session) = (Kind::Probe, Flags::default(), welcome.session);
        let header = Header { kind, flags, index: 0, session, generation, frame: 0, counter: 0 };
        let mut packet = [0; HEADER_BYTES + PROBE_BYTES + TAG_BYTES];
        let probe = Probe { client_ns: now_ns(), ..Probe::default() };
        packet[HEADER_BYTES..HEADER_BYTES + PROBE_BYTES].copy_from_slice(&probe.encode());
        ensure!(sealer.seal(header, &mut packet).is_ok(), "a key wears out only after centuries of probes");
        socket.send_to(&packet, media).await?;
        tokio::time::sleep(PROBE_EVERY).await;
    }
}

/// Takes no notice of loss.
#[derive(Clone)]
struct Reckless;

impl ControllerFactory for Reckless {
    fn build(self: Arc<Self>, _now: Instant, _mtu: u16) -> Box<dyn Controller> {
        Box::new(Self)
    }
}

impl Controller for Reckless {
    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, _persistent: bool, _lost: u64) {}

    fn on_mtu_update(&mut self, _mtu: u16) {}

    fn window(&self) -> u64 {
        WINDOW
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
