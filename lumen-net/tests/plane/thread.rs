//! The media thread by itself, ordered about as the control thread does.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use ipc::{NetCounters, SessionId, SessionStats};
use lumen_core::gamestream::video::{PacketSize, VideoConfig};
use lumen_core::reassemble::ReassemblerConfig;
use lumen_core::seal::MediaSecret;
use lumen_net::counters::Counters;
use lumen_net::media::{GuestMedia, Media, MediaCommand, MediaEvent, Wiring};
use lumen_net::queue::{Receiver, Sender, queue};

use super::client;
use super::host::{Encoder, PATIENCE, wiring};
use super::rtp::RtpClient;

/// A common one: Ethernet, less what encryption takes.
pub const PACKET_SIZE: u16 = 1024;

/// The thread and its queues.
pub struct MediaThread {
    commands: Option<Sender<MediaCommand>>,
    events: Receiver<MediaEvent>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
    pub lumen: SocketAddr,
    pub gamestream: SocketAddr,
}

/// A GameStream client in a session, and the encoder's end of that.
pub struct GuestSession {
    pub id: SessionId,
    pub rtp: RtpClient,
    pub encoder: Encoder,
}

impl MediaThread {
    pub fn start() -> Self {
        let (commands, from_us) = queue(64).unwrap();
        let (to_us, events) = queue(256).unwrap();
        let counters = Arc::new(Counters::default());
        let media = Media::new(from_us, to_us, counters.clone()).unwrap();
        let thread = thread::Builder::new().name("media".into()).spawn(move || media.run()).unwrap();
        let socket = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (lumen, gamestream) = (socket(), socket());
        let (lumen_at, gamestream_at) = (lumen.local_addr().unwrap(), gamestream.local_addr().unwrap());
        let new = Self {
            commands: Some(commands),
            events,
            counters,
            thread: Some(thread),
            lumen: lumen_at,
            gamestream: gamestream_at,
        };
        new.tell(MediaCommand::Socket(lumen));
        new.tell(MediaCommand::GuestSocket(gamestream));
        new
    }

    pub fn tell(&self, command: MediaCommand) {
        assert!(self.commands.as_ref().unwrap().send(command), "the media thread takes no commands");
    }

    /// Wires a session of a GameStream client, which has not said that it is ready. `plain_from` is for one that knows
    /// no payloads.
    pub fn open(&self, session: u32, config: VideoConfig, plain_from: Option<IpAddr>) -> GuestSession {
        let payload = *format!("ping of guest {session:02}").as_bytes().first_chunk().unwrap();
        let (wiring, encoder) = attached(session, 1);
        let id = SessionId(session);
        let guest = GuestMedia { ping: payload, address: plain_from, config };
        self.tell(MediaCommand::OpenGuest { session: id, guest, wiring });
        let rtp = match plain_from {
            Some(_) => RtpClient::plain(self.gamestream, config),
            None => RtpClient::new(self.gamestream, payload, config),
        };
        GuestSession { id, rtp, encoder }
    }

    /// The same with a usual configuration.
    pub fn open_guest(&self, session: u32, key: Option<[u8; 16]>) -> GuestSession {
        self.open(session, video(PACKET_SIZE, key), None)
    }

    /// The same, streaming.
    pub fn start_guest(&self, session: u32, key: Option<[u8; 16]>) -> GuestSession {
        let mut guest = self.open_guest(session, key);
        self.tell(MediaCommand::Start { session: guest.id });
        guest.rtp.ping();
        guest
    }

    /// Wires a session of a native client that is ready, and its client.
    pub fn start_native(&self, session: u32) -> (client::Media, Encoder) {
        let secret = MediaSecret([7; 32]);
        let (wiring, encoder) = attached(session, 1);
        let id = SessionId(session);
        self.tell(MediaCommand::Open { session: id, secret: secret.clone(), wiring });
        self.tell(MediaCommand::Start { session: id });
        let config =
            ReassemblerConfig { session, generation: 1, secret, shard_size: 1200, reorder_wait_ns: 16_000_000 };
        (client::Media::with(self.lumen, config), encoder)
    }

    /// Moves a session to another generation.
    pub fn wire(&self, session: SessionId, generation: u32) -> Encoder {
        let (wiring, encoder) = attached(session.0, generation);
        self.tell(MediaCommand::Wire { session, wiring });
        encoder
    }

    /// Waits for a report that `pick` takes; others are passed over.
    pub fn expect<T>(&self, mut pick: impl FnMut(MediaEvent) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.events.rearm();
            while let Some(event) = self.events.next().expect("the media thread lives") {
                if let Some(found) = pick(event) {
                    return found;
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(self.events.wake().wait(Some(left)).unwrap(), "the media thread did not say what was expected");
        }
    }

    pub fn expect_stats(&self, id: SessionId, enough: impl Fn(&SessionStats) -> bool) -> SessionStats {
        self.expect(|event| match event {
            MediaEvent::Stats { session, stats } if session == id && enough(&stats) => Some(stats),
            _ => None,
        })
    }

    pub fn counters(&self) -> NetCounters {
        self.counters.snapshot()
    }
}

impl Drop for MediaThread {
    /// The end of the queue is the order to stop.
    fn drop(&mut self) {
        self.commands = None;
        let ended = self.thread.take().unwrap().join();
        if !thread::panicking() {
            ended.unwrap();
        }
    }
}

pub fn video(packet_size: u16, key: Option<[u8; 16]>) -> VideoConfig {
    VideoConfig { packet_size: PacketSize::new(packet_size.into()).unwrap(), min_parity: 2, key }
}

fn attached(session: u32, generation: u32) -> (Box<Wiring>, Encoder) {
    let (wiring, encoder) = wiring(session, generation, None);
    (Box::new(Wiring::attach(wiring).unwrap()), encoder)
}
