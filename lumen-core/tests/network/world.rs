//! A host and a client of the real parts, joined by a virtual network, on a virtual clock.

use lumen_core::fec::Scheme;
use lumen_core::packet::{FrameHeader, HEADER_BYTES, Header, Kind, Pong, Probe, TAG_BYTES, ledger_delta};
use lumen_core::packetize::{PacketBatch, Packetizer, PacketizerConfig};
use lumen_core::parity::LossEstimator;
use lumen_core::reassemble::{Event, Pushed, Reassembler, ReassemblerConfig};
use lumen_core::seal::{Direction, MediaSecret, Opener, Sealer};

use crate::net::{Net, Path, Random};

pub const FRAME_NS: u64 = 1_000_000_000 / 60;
/// Between two packets of a frame: 1200 bytes at one gigabit.
const PACKET_NS: u64 = 10_000;
const SESSION: u32 = 77;
const SLICES: usize = 4;
const PROBE_NS: u64 = 100_000_000;

pub struct Setup {
    pub seed: u64,
    pub down: Path,
    pub up: Path,
    /// Bytes of the smallest and the largest frame.
    pub frame_bytes: (u64, u64),
    /// Frame at which the host goes on with the next generation.
    pub rewire_at: Option<u32>,
}

/// What the client saw, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    Frame { at_ns: u64, generation: u32, number: u32, idr: bool, recovered: bool },
    Lost { generation: u32, first: u32, count: u32 },
    Wish { at_ns: u64, after: u32 },
}

pub struct World {
    setup: Setup,
    random: Random,
    secret: MediaSecret,
    pub down: Net,
    up: Net,
    // The host.
    packetizer: Packetizer,
    batch: PacketBatch,
    from_client: Opener,
    loss: LossEstimator,
    made: u32,
    number: u32,
    last_idr: Option<u32>,
    idr_owed: bool,
    pub first_report_ns: Option<u64>,
    /// Packets that leave one by one: time and bytes.
    leaving: std::collections::VecDeque<(u64, Vec<u8>)>,
    // The client.
    pub client: Reassembler,
    to_host: Sealer,
    next_probe_ns: u64,
    pub seen: Vec<Seen>,
    /// When the first packet after a burst came.
    pub after_burst_ns: Option<u64>,
    /// Counter of a burst's last packet.
    burst_end: Option<u64>,
}

/// What frame `number` of a generation holds.
pub fn content(seed: u64, generation: u32, number: u32, bytes: (u64, u64)) -> Vec<u8> {
    let mut random = Random::new(seed ^ u64::from(generation) << 32 ^ u64::from(number) << 1);
    let len = bytes.0 + random.below(bytes.1 - bytes.0 + 1);
    let mut frame = Vec::with_capacity(len as usize + 8);
    while (frame.len() as u64) < len {
        frame.extend_from_slice(&random.next().to_le_bytes());
    }
    frame.truncate(len as usize);
    frame
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let secret = MediaSecret([42; 32]);
        let config =
            PacketizerConfig { session: SESSION, scheme: Scheme::Leopard, parity_floor_percent: 20, shard_size: 1200 };
        Self {
            random: Random::new(setup.seed),
            down: Net::new(setup.down, setup.seed ^ 1),
            up: Net::new(setup.up, setup.seed ^ 2),
            packetizer: Packetizer::new(config, Sealer::new(&secret, 1, Direction::HostToClient)),
            batch: PacketBatch::with_capacity(256, 1200),
            from_client: Opener::new(&secret, 1, Direction::ClientToHost),
            loss: LossEstimator::default(),
            made: 0,
            number: 0,
            last_idr: None,
            idr_owed: true,
            first_report_ns: None,
            leaving: Default::default(),
            client: Reassembler::new(ReassemblerConfig {
                session: SESSION,
                generation: 1,
                secret: secret.clone(),
                shard_size: 1200,
                reorder_wait_ns: FRAME_NS,
            }),
            to_host: Sealer::new(&secret, 1, Direction::ClientToHost),
            next_probe_ns: 0,
            seen: Vec::new(),
            after_burst_ns: None,
            burst_end: None,
            secret,
            setup,
        }
    }

    /// Lets the host make `frames` frames, and everything arrive. `each` is called before every frame.
    pub fn run(&mut self, frames: u32, mut each: impl FnMut(&mut Self, u32)) {
        let mut now = 0;
        let end = u64::from(frames) * FRAME_NS + 1_000_000_000;
        while now < end {
            if self.made < frames && now >= u64::from(self.made) * FRAME_NS {
                each(self, self.made);
                self.make_frame(now);
            }
            self.leave(now);
            self.arrive(now);
            now = self.next_time(now, frames).unwrap_or(end);
        }
    }

    fn next_time(&self, now: u64, frames: u32) -> Option<u64> {
        let frame = (self.made < frames).then(|| u64::from(self.made) * FRAME_NS);
        let leaving = self.leaving.front().map(|(at, _)| *at);
        let deadline = self.client.next_deadline(now).filter(|&at| at > now);
        let times =
            [frame, leaving, self.down.next_arrival(), self.up.next_arrival(), deadline, Some(self.next_probe_ns)];
        times.into_iter().flatten().min().map(|at| at.max(now + 1))
    }

    fn make_frame(&mut self, now: u64) {
        if self.setup.rewire_at == Some(self.made) {
            let generation = self.packetizer.generation() + 1;
            self.packetizer.set_generation(Sealer::new(&self.secret, generation, Direction::HostToClient));
            self.from_client = Opener::new(&self.secret, generation, Direction::ClientToHost);
            self.loss.new_generation();
            (self.number, self.last_idr, self.idr_owed) = (0, None, true);
        }
        let idr = std::mem::take(&mut self.idr_owed);
        if idr {
            self.last_idr = Some(self.number);
        }
        let header = FrameHeader {
            still: false,
            captured_ns: now,
            taken: ledger_delta(now, now + 10),
            converted: 20,
            first_slice: 30,
            previous: None,
        };
        let bytes = content(self.setup.seed, self.packetizer.generation(), self.number, self.setup.frame_bytes);
        self.batch.clear();
        self.packetizer.begin(self.number, idr, &header);
        let slices: Vec<_> = bytes.chunks(bytes.len().div_ceil(SLICES)).collect();
        for (index, slice) in slices.iter().enumerate() {
            self.packetizer.slice(slice, index + 1 == slices.len(), &mut self.batch).unwrap();
        }
        let packets = self.batch.iter().enumerate();
        self.leaving.extend(packets.map(|(index, packet)| (now + index as u64 * PACKET_NS, packet.to_vec())));
        self.made += 1;
        self.number += 1;
    }

    fn leave(&mut self, now: u64) {
        while let Some((_, packet)) = self.leaving.pop_front_if(|(at, _)| *at <= now) {
            let bursting = self.down.bursting();
            self.down.send(now, &packet);
            if bursting && !self.down.bursting() {
                self.burst_end = Header::decode(&packet).map(|header| header.counter);
            }
        }
        while let Some(packet) = self.up.receive(now) {
            self.host_receives(now, &packet);
        }
    }

    fn host_receives(&mut self, now: u64, packet: &[u8]) {
        let Some(header) = Header::decode(packet) else { return };
        let mut body = [0; 64];
        let Ok(body) = self.from_client.open(&header, packet, &mut body) else { return };
        let probe = Probe::decode(body).expect("our own client's");
        let permille = self.loss.report(probe.highest, probe.received, self.packetizer.sent());
        self.packetizer.set_loss(permille);
        if probe.received >= 48 {
            self.first_report_ns.get_or_insert(now);
        }
        self.idr_owed |= probe.wants_idr(self.last_idr);
        let pong = Pong { client_ns: probe.client_ns, host_received_ns: now, host_sent_ns: now };
        self.batch.clear();
        self.packetizer.pong(pong, &mut self.batch).unwrap();
        // Packets leave in the order of their counters: behind what still waits.
        let at = self.leaving.back().map_or(now, |(at, _)| *at);
        self.leaving.extend(self.batch.iter().map(|packet| (at, packet.to_vec())));
    }

    fn arrive(&mut self, now: u64) {
        let mut ask = false;
        while let Some(packet) = self.down.receive(now) {
            let counter = Header::decode(&packet).map(|header| header.counter);
            if self.after_burst_ns.is_none() && self.burst_end.is_some() && counter > self.burst_end {
                self.after_burst_ns = Some(now);
            }
            let generation = self.client.generation();
            if let Pushed::Pong(pong) = self.client.push(now, &packet) {
                assert!(pong.client_ns <= pong.host_received_ns && pong.host_sent_ns <= now);
            }
            if self.client.generation() != generation {
                self.to_host = Sealer::new(&self.secret, self.client.generation(), Direction::ClientToHost);
            }
            ask |= self.drain(now);
        }
        ask |= self.drain(now);
        if ask || now >= self.next_probe_ns {
            self.next_probe_ns = now + PROBE_NS;
            self.probe(now);
        }
    }

    fn drain(&mut self, now: u64) -> bool {
        let mut ask = false;
        while let Some(event) = self.client.poll(now) {
            self.seen.push(match event {
                Event::Frame(frame) => {
                    let expected = content(self.setup.seed, frame.generation, frame.number, self.setup.frame_bytes);
                    assert!(frame.data == expected, "frame {} of {} is wrong", frame.number, frame.generation);
                    assert!(frame.reassembled_ns <= now && frame.first_packet_ns <= frame.reassembled_ns);
                    let seen = Seen::Frame {
                        at_ns: now,
                        generation: frame.generation,
                        number: frame.number,
                        idr: frame.idr,
                        recovered: frame.recovered,
                    };
                    self.client.recycle(frame.data);
                    seen
                }
                Event::Lost { first, count } => Seen::Lost { generation: self.client.generation(), first, count },
                Event::WantKeyframe { after } => {
                    ask = true;
                    Seen::Wish { at_ns: now, after }
                }
            });
        }
        ask
    }

    fn probe(&mut self, now: u64) {
        let body = self.client.probe(now).encode();
        let mut packet = vec![0; HEADER_BYTES];
        packet.extend_from_slice(&body);
        packet.resize(packet.len() + TAG_BYTES, 0);
        let header = Header {
            kind: Kind::Probe,
            flags: Default::default(),
            index: 0,
            session: SESSION,
            generation: 0,
            frame: 0,
            counter: 0,
        };
        self.to_host.seal(header, &mut packet).unwrap();
        self.up.send(now, &packet);
    }

    /// A number for tests that place something at random.
    pub fn random(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    /// Parity packets for each hundred data packets.
    pub fn parity_percent(&self) -> u64 {
        let counters = self.packetizer.counters();
        counters.parity * 100 / counters.data
    }
}
