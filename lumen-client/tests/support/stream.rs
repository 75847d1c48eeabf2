//! The media side of a test host: stamped pictures, encoded, packetised and sealed, over a network that loses packets.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lumen_core::Mode;
use lumen_core::fec::Scheme;
use lumen_core::hello::Code;
use lumen_core::packet::{FrameHeader, Header, Kind, Pong, PreviousFrame, Probe};
use lumen_core::packetize::{PacketBatch, Packetizer, PacketizerConfig};
use lumen_core::seal::{Direction, MediaSecret, Opener, Sealer};
use lumen_core::stamp::{self, Stamp};
use openh264::OpenH264API;
use openh264::encoder::{BitRate, Encoder, EncoderConfig};
use openh264::formats::YUVBuffer;

/// What to stream. The default is a clean stream until the client leaves.
#[derive(Clone, Default)]
pub struct Plan {
    /// Packets lost at random, in thousandths.
    pub loss_permille: u64,
    /// Of these frames (by count since the start) no packet arrives.
    pub black_holes: Vec<u32>,
    /// These frames arrive whole, but damaged before they were sealed: an encoder's fault.
    pub damaged: Vec<u32>,
    /// At these counts the host moves to the next generation.
    pub rewire_at: Vec<u32>,
    /// Send every datagram twice, and one of garbage with each frame.
    pub noisy: bool,
    /// The boot id differs, so that the clock must be measured.
    pub other_machine: bool,
    /// After so many frames the host stops dead.
    pub vanish_after: Option<u32>,
    /// After 30 frames the host ends the session.
    pub end_with: Option<(Code, &'static str)>,
    pub stop: Arc<AtomicBool>,
    /// Frames sent so far.
    pub sent: Arc<AtomicU32>,
}

impl Plan {
    /// Whether `count` frames have been sent before the time is up.
    pub fn wait_for_frames(&self, count: u32, limit: Duration) -> bool {
        let started = Instant::now();
        while self.sent.load(Ordering::Relaxed) < count && started.elapsed() < limit {
            std::thread::park_timeout(Duration::from_millis(5));
        }
        self.sent.load(Ordering::Relaxed) >= count
    }
}

/// A frame every 1/60 s, whatever the mode says: the tests should be short, not realistic.
const INTERVAL: Duration = Duration::from_nanos(16_666_667);

/// Pictures that move, with a stamp in the corner.
struct Camera {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    encoder: Encoder,
}

impl Camera {
    fn new(mode: Mode) -> Self {
        let (width, height) = (usize::from(mode.width()), usize::from(mode.height()));
        // A frame the encoder skips would be an empty one, which no host sends.
        let config = EncoderConfig::new().skip_frames(false).bitrate(BitRate::from_bps(6_000_000));
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config).unwrap();
        Self { width, height, pixels: vec![0; width * height * 4], encoder }
    }

    fn shoot(&mut self, number: u32, time_ns: u64, idr: bool) -> Vec<u8> {
        for (index, pixel) in self.pixels.chunks_exact_mut(4).enumerate() {
            let (x, y) = (index % self.width, index / self.width);
            // Noise, so that a frame is worth several packets.
            let noise = (((x * 31 + y * 17 + number as usize * 7) * 2_654_435_761) >> 13) & 0x3f;
            pixel.fill((((x + number as usize * 4) & 0x7f) | noise) as u8);
        }
        assert!(stamp::draw(&mut self.pixels, self.width * 4, self.width, self.height, Stamp { number, time_ns }));
        let mut planes: Vec<u8> =
            self.pixels.chunks_exact(4).map(|pixel| 16 + (u16::from(pixel[0]) * 219 / 255) as u8).collect();
        planes.resize(self.width * self.height * 3 / 2, 128);
        if idr {
            self.encoder.force_intra_frame();
        }
        self.encoder.encode(&YUVBuffer::from_vec(planes, self.width, self.height)).unwrap().to_vec()
    }
}

/// A linear congruential generator: the same losses at each run of the test.
#[derive(Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn lost(&mut self, permille: u64) -> bool {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % 1000 < permille
    }
}

/// The host's end of the media socket, in a thread of its own.
pub struct Streamer {
    plan: Plan,
    secret: MediaSecret,
    socket: UdpSocket,
    client: Option<SocketAddr>,
    camera: Camera,
    packetizer: Packetizer,
    opener: Opener,
    batch: PacketBatch,
    dice: Dice,
    wish: Option<u32>,
    last_idr: Option<u32>,
}

impl Streamer {
    pub fn new(plan: Plan, mode: Mode, secret: MediaSecret) -> Self {
        Self::of_generation(plan, mode, secret, 1)
    }

    /// One that begins with a later generation, as for a client that has come back.
    pub fn of_generation(plan: Plan, mode: Mode, secret: MediaSecret, generation: u32) -> Self {
        let config =
            PacketizerConfig { session: 7, scheme: Scheme::Leopard, parity_floor_percent: 20, shard_size: 1200 };
        Self {
            plan,
            socket: UdpSocket::bind("127.0.0.1:0").unwrap(),
            client: None,
            camera: Camera::new(mode),
            packetizer: Packetizer::new(config, Sealer::new(&secret, generation, Direction::HostToClient)),
            opener: Opener::new(&secret, generation, Direction::ClientToHost),
            batch: PacketBatch::default(),
            dice: Dice(1),
            wish: None,
            last_idr: None,
            secret,
        }
    }

    pub fn port(&self) -> u16 {
        self.socket.local_addr().unwrap().port()
    }

    /// Streams as planned until told to stop, beginning with the first probe.
    pub fn run(mut self) {
        let mut previous = None;
        let (mut count, mut number) = (0, 0);
        let mut due = Instant::now();
        while !self.plan.stop.load(Ordering::Relaxed) {
            self.listen(due);
            if self.client.is_none() || Instant::now() < due {
                continue;
            }
            due += INTERVAL;
            if self.plan.rewire_at.contains(&count) {
                self.rewire();
                (number, previous) = (0, None);
            }
            let idr = number == 0 || self.wish.take_if(|wish| self.last_idr.is_none_or(|last| last <= *wish)).is_some();
            let captured_ns = monotonic_ns() - CLAIMED_AGE;
            let mut data = self.camera.shoot(count, captured_ns, idr);
            if idr {
                self.last_idr = Some(number);
            }
            if self.plan.damaged.contains(&count) {
                data.truncate(data.len() / 3);
            }
            let header = FrameHeader {
                still: false,
                captured_ns,
                taken: 1_000_000,
                converted: 3_000_000,
                first_slice: 4_000_000,
                previous,
            };
            self.packetizer.begin(number, idr, &header);
            self.packetizer.slice(&data, true, &mut self.batch).unwrap();
            previous =
                Some(PreviousFrame { number, last_slice: 6_000_000, first_packet: 6_100_000, last_packet: 6_500_000 });
            let hole = self.plan.black_holes.contains(&count);
            self.flush(hole);
            (count, number) = (count + 1, number + 1);
            self.plan.sent.store(count, Ordering::Relaxed);
            if self.plan.vanish_after == Some(count) || self.plan.end_with.is_some() && count == 30 {
                return;
            }
        }
    }

    /// Moves to the next generation, as after a crash of a plane.
    fn rewire(&mut self) {
        let generation = self.packetizer.generation() + 1;
        self.packetizer.set_generation(Sealer::new(&self.secret, generation, Direction::HostToClient));
        self.opener = Opener::new(&self.secret, generation, Direction::ClientToHost);
        (self.wish, self.last_idr) = (None, None);
    }

    /// Reads probes until `due`.
    fn listen(&mut self, due: Instant) {
        let mut datagram = [0; 2048];
        loop {
            let left = due.saturating_duration_since(Instant::now());
            // A streamer without a client has nothing to send, but must notice the order to stop.
            let wait = if self.client.is_none() { Duration::from_millis(50) } else { left };
            if wait.is_zero() {
                return;
            }
            self.socket.set_read_timeout(Some(wait)).unwrap();
            match self.socket.recv_from(&mut datagram) {
                Ok((length, from)) => self.probe(&datagram[..length], from),
                Err(_) => return,
            }
        }
    }

    fn probe(&mut self, datagram: &[u8], from: SocketAddr) {
        let host_received_ns = monotonic_ns();
        let Some(header) = Header::decode(datagram).filter(|header| header.kind == Kind::Probe) else { return };
        let mut body = [0; 2048];
        // Probes of the generation before are still on their way after a rewiring.
        let Ok(body) = self.opener.open(&header, datagram, &mut body) else { return };
        let probe = Probe::decode(body).expect("an authentic probe is well-formed");
        self.client = Some(from);
        if probe.wants_idr(self.last_idr) {
            self.wish = probe.keyframe_wanted;
        }
        let pong = Pong { client_ns: probe.client_ns, host_received_ns, host_sent_ns: monotonic_ns() };
        self.packetizer.pong(pong, &mut self.batch).unwrap();
        self.flush(false);
    }

    /// Sends what has gathered, but for what the network loses.
    fn flush(&mut self, hole: bool) {
        let Some(client) = self.client else { return };
        for packet in self.batch.iter() {
            if hole || self.dice.lost(self.plan.loss_permille) {
                continue;
            }
            for _ in 0..if self.plan.noisy { 2 } else { 1 } {
                self.socket.send_to(packet, client).unwrap();
            }
        }
        if self.plan.noisy {
            let mut forged = self.batch.iter().next().unwrap_or(b"lumen").to_vec();
            let end = forged.len() - 1;
            forged[end] ^= 1;
            // A fresh counter, so that it is the seal that has to refuse it.
            if let Some(counter) = forged.get_mut(18) {
                *counter ^= 0xff;
            }
            self.socket.send_to(&forged, client).unwrap();
        }
        self.batch.clear();
    }
}

/// What the pictures claim to have waited, been converted and encoded before they are sent.
const CLAIMED_AGE: u64 = 7_000_000;

pub fn monotonic_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}
