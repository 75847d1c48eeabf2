//! The media thread's work for one session, between an encoder and a client that may both be in bad hands.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use ipc::event::{Event, now_ns};
use ipc::ring::{ChunkHeader, Ring, RingConsumer, RingProducer};
use ipc::shm::sealed_memfd;
use ipc::{RingGeometry, SessionId};
use lumen_core::gamestream::video::{PacketSize, VideoConfig};
use lumen_core::packet::{HEADER_BYTES, Header, TAG_BYTES};
use lumen_core::seal::{Direction, MediaSecret, Sealer};

use crate::counters::Counters;
use crate::media::socket::{MediaSocket, Outlet, Peer};
use crate::media::{GuestMedia, Wiring};
use crate::ping::Ping;
use crate::session::MediaSession;

/// The generation that is wired.
pub const GENERATION: u32 = 1;
const SESSION: SessionId = SessionId(5);
const PING: [u8; 16] = [7; 16];
/// Frames that need more than one packet, and rings that are soon full.
const VIDEO: RingGeometry = RingGeometry { capacity: 128 * 1024, frame_bytes: 50_000, frame_chunks: 8 };

/// A session that streams to a socket nobody reads.
pub struct Media {
    session: MediaSession,
    encoder: RingProducer,
    client: Sealer,
    socket: MediaSocket,
    counters: Counters,
    peer: Peer,
    _feedback: OwnedFd,
}

impl Media {
    /// Of a native client, or of one of GameStream, whose video may be encrypted.
    pub fn new(guest: bool, encrypted: bool) -> Self {
        Self::try_new(guest, encrypted).expect("there are descriptors and ports")
    }

    fn try_new(guest: bool, encrypted: bool) -> Result<Self, Box<dyn std::error::Error>> {
        let video = sealed_memfd("fuzz", Ring::memory_size(&VIDEO))?;
        let feedback = sealed_memfd("fuzz", Ring::memory_size(&RingGeometry::FEEDBACK))?;
        let wiring = Wiring {
            generation: GENERATION,
            // Nothing waits for its turn.
            bitrate_kbps: 1 << 30,
            video: RingConsumer::attach(video.as_fd(), Event::new()?, Event::new()?, VIDEO)?,
            feedback: RingProducer::attach(feedback.as_fd(), Event::new()?, Event::new()?, RingGeometry::FEEDBACK)?,
            chunk: Vec::with_capacity(VIDEO.frame_bytes as usize),
        };
        let encoder = RingProducer::attach(video.as_fd(), Event::new()?, Event::new()?, VIDEO)?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let peer = Peer { address: socket.local_addr()?, local: None };
        let secret = MediaSecret([1; 32]);
        let client = Sealer::new(&secret, GENERATION, Direction::ClientToHost);
        let now = now_ns();
        let mut session = if guest {
            let packet_size = PacketSize::new(1024).ok_or("a size of packets")?;
            let config = VideoConfig { packet_size, min_parity: 2, key: encrypted.then_some([3; 16]) };
            MediaSession::guest(SESSION, GuestMedia { ping: PING, address: None, config }, wiring, now)
        } else {
            MediaSession::new(SESSION, secret, wiring, now)
        };
        session.start(now);
        let (socket, counters) = (MediaSocket::new(socket)?, Counters::default());
        Ok(Self { session, encoder, client, socket, counters, peer, _feedback: feedback })
    }

    /// The encoder writes a frame's chunks; what is not said of them is the ring's to add.
    pub fn frame<'a>(&mut self, chunks: impl Iterator<Item = (ChunkHeader, &'a [u8])>) {
        let Some(mut writer) = self.encoder.reserve() else { return };
        for (header, payload) in chunks {
            if writer.commit(header, payload).is_err() {
                return;
            }
        }
    }

    /// The client sends a packet of this header and body, with a good seal.
    pub fn sealed(&mut self, header: Header, body: &[u8]) {
        let mut packet = [&[0; HEADER_BYTES], body, &[0; TAG_BYTES]].concat();
        if self.client.seal(header, &mut packet).is_ok() {
            self.datagram(&packet);
        }
    }

    /// A datagram arrives.
    pub fn datagram(&mut self, datagram: &[u8]) {
        let out = Outlet { socket: &self.socket, counters: &self.counters };
        if let Some(header) = Header::decode(datagram) {
            self.session.on_datagram(&header, datagram, self.peer, now_ns(), out);
        }
        if let Some(ping) = Ping::parse(datagram)
            && self.session.fit(&ping, self.peer).is_some()
        {
            self.session.on_ping(&ping, self.peer, now_ns());
        }
    }

    /// The ping of the GameStream client that this is.
    pub fn ping(&mut self, counter: u32) {
        self.datagram(&[&PING[..], &counter.to_be_bytes()].concat());
    }

    /// What there is goes out. False if the encoder has broken the protocol.
    pub fn pump(&mut self) -> bool {
        self.session.drain_wake();
        let out = Outlet { socket: &self.socket, counters: &self.counters };
        let pumped = self.session.pump(out).is_ok();
        self.session.send_idle(out, now_ns());
        pumped
    }

    pub fn lose(&mut self, permille: u32) {
        self.session.set_loss(permille);
    }

    pub fn want_keyframe(&mut self) {
        let now = now_ns();
        if self.session.demand_keyframe(now).is_some() {
            self.session.keyframe_due(now);
        }
        self.session.stats(now);
    }
}

/// What arrives at the video socket of GameStream.
pub fn ping(datagram: &[u8], from: SocketAddr) -> bool {
    let mut stream = crate::ping::Pinged::new(PING, Some(from.ip()));
    let Some(ping) = Ping::parse(datagram) else { return false };
    stream.fit(&ping, from, None).is_some() && stream.take(&ping, from, None)
}
