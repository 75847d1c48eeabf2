//! From datagrams back to frames: authentic, whole, in order, and never one that the decoder has no base for.
//!
//! PROTOCOL.md §7 to §11. Whatever arrives, memory is bounded: a fixed window of frames, a fixed number of shards.
//! Time is an argument; call [`Reassembler::poll`] until it has nothing more after each batch of
//! [`push`](Reassembler::push)es, and at [`next_deadline`](Reassembler::next_deadline).

mod event;
mod frame;
mod order;
mod pool;
mod reorder;

use std::collections::VecDeque;
use std::ops::Range;

use crate::fec::Decoder;
use crate::fec::kernels::Kernel;
use crate::packet::{Header, Kind, Pong, Probe, shard_bytes};
use crate::seal::{Direction, Opener, Rejected};
pub use event::{Event, Frame, Pushed, ReassemblerConfig, ReassemblerCounters};
use frame::{Filed, Gather, Pending};
use pool::Pool;
use reorder::ReorderMeter;

/// Frames that may be under way at once.
const WINDOW: u32 = 32;

pub struct Reassembler {
    config: ReassemblerConfig,
    opener: Opener,
    /// A higher generation that some packet claimed, so that a flood of such packets derives one key, not one each.
    candidate: Option<Opener>,
    pool: Pool,
    decoder: Decoder,
    gather: Gather,
    scratch: Vec<u8>,
    frames: Vec<Pending>,
    /// The next frame to hand on.
    next: u32,
    /// Frames below this have left the host entirely.
    passed: u32,
    awaiting_idr: bool,
    wanted: Option<u32>,
    wish_untold: bool,
    lost: Option<Range<u32>>,
    /// Events that a long batch of packets brought about before anybody asked.
    queue: VecDeque<Event>,
    queued_bytes: usize,
    reorder: ReorderMeter,
    counters: ReassemblerCounters,
    /// Packets lost in generations before this one.
    lost_before: u64,
    spare: Vec<Vec<u8>>,
}

impl Reassembler {
    /// # Panics
    /// If the shard size is not valid; `Welcome` is decoded only with a valid one.
    pub fn new(config: ReassemblerConfig) -> Self {
        assert!(crate::packet::payload_bytes_valid(config.shard_size));
        let stride = shard_bytes(config.shard_size);
        Self {
            opener: Opener::new(&config.secret, config.generation, Direction::HostToClient),
            candidate: None,
            pool: Pool::new(stride),
            decoder: Decoder::new(Kernel::best()),
            gather: Gather::default(),
            scratch: vec![0; usize::from(config.shard_size)],
            frames: (0..WINDOW).map(|_| Pending::default()).collect(),
            next: 0,
            passed: 0,
            awaiting_idr: true,
            wanted: None,
            wish_untold: false,
            lost: None,
            queue: VecDeque::new(),
            queued_bytes: 0,
            reorder: ReorderMeter::default(),
            counters: ReassemblerCounters::default(),
            lost_before: 0,
            spare: Vec::new(),
            config,
        }
    }

    /// The generation packets are taken from. Probes are sealed for the same one.
    pub fn generation(&self) -> u32 {
        self.opener.generation()
    }

    pub fn counters(&self) -> ReassemblerCounters {
        self.counters
    }

    /// Packets the host numbered that have not come, of all generations. Those still on their way are among them.
    pub fn packets_lost(&self) -> u64 {
        self.lost_before + (self.opener.highest() - self.opener.received())
    }

    /// The frame after which an IDR is wanted, while one is.
    pub fn keyframe_wanted(&self) -> Option<u32> {
        self.wanted
    }

    /// The body of the next probe, to be sealed for [`generation`](Self::generation).
    pub fn probe(&self, now_ns: u64) -> Probe {
        Probe {
            client_ns: now_ns,
            highest: self.opener.highest(),
            received: self.opener.received(),
            frames: self.counters.frames as u32,
            frames_recovered: self.counters.frames_recovered as u32,
            frames_lost: self.counters.frames_lost as u32,
            rejected: self.counters.rejected as u32,
            keyframe_wanted: self.wanted,
        }
    }

    /// Moves to a higher generation because `Reconfigure` said so; a packet of it has the same effect.
    pub fn move_to(&mut self, generation: u32) {
        if generation > self.generation() {
            let opener = Opener::new(&self.config.secret, generation, Direction::HostToClient);
            self.enter(opener);
        }
    }

    /// Goes on with another session, or the same under another secret: what is under way is given up, what was counted
    /// counts on.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn resume(&mut self, config: ReassemblerConfig) {
        let mut fresh = Self::new(config);
        fresh.lost_before = self.packets_lost();
        fresh.counters = self.counters;
        fresh.queue = std::mem::take(&mut self.queue);
        fresh.queue.retain(|event| matches!(event, Event::Frame(_)));
        fresh.queued_bytes = self.queued_bytes;
        *self = fresh;
    }

    fn enter(&mut self, opener: Opener) {
        self.lost_before = self.packets_lost();
        self.opener = opener;
        self.candidate = None;
        for frame in &mut self.frames {
            frame.release(&mut self.pool);
        }
        self.next = 0;
        self.passed = 0;
        self.awaiting_idr = true;
        self.wanted = None;
        self.wish_untold = false;
        self.lost = None;
        self.queue.retain(|event| matches!(event, Event::Frame(_)));
        self.reorder = ReorderMeter::default();
    }

    /// Takes in one datagram.
    pub fn push(&mut self, now_ns: u64, datagram: &[u8]) -> Pushed {
        let header = Header::decode(datagram).filter(|header| header.session == self.config.session);
        let Some(header) = header.filter(|header| header.kind != Kind::Probe) else {
            self.counters.rejected += 1;
            return Pushed::Rejected;
        };
        if header.generation < self.generation() {
            self.counters.stale += 1;
            return Pushed::Rejected;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let pushed = match self.open(&header, datagram, &mut scratch) {
            Ok(body) => self.authentic(now_ns, &header, datagram.len(), body),
            Err(Rejected::Replayed) => {
                self.counters.duplicates += 1;
                Pushed::Rejected
            }
            Err(Rejected::Forged | Rejected::Malformed) => {
                self.counters.rejected += 1;
                Pushed::Rejected
            }
        };
        self.scratch = scratch;
        pushed
    }

    fn open<'a>(&mut self, header: &Header, datagram: &[u8], out: &'a mut [u8]) -> Result<&'a [u8], Rejected> {
        if header.generation == self.generation() {
            return self.opener.open(header, datagram, out);
        }
        let secret = &self.config.secret;
        let known = self.candidate.take().filter(|opener| opener.generation() == header.generation);
        let mut opener = known.unwrap_or_else(|| Opener::new(secret, header.generation, Direction::HostToClient));
        match opener.open(header, datagram, out) {
            Ok(body) => {
                self.enter(opener);
                Ok(body)
            }
            Err(rejected) => {
                self.candidate = Some(opener);
                Err(rejected)
            }
        }
    }

    fn authentic(&mut self, now_ns: u64, header: &Header, bytes: usize, body: &[u8]) -> Pushed {
        self.counters.packets += 1;
        self.counters.bytes += bytes as u64;
        match header.kind {
            Kind::Data | Kind::Parity => {
                self.reorder.packet(now_ns, header.counter);
                self.shard(now_ns, header, body);
            }
            Kind::Idle => self.pass(now_ns, header.frame),
            // A pong overtakes packets that wait for their turn: it says nothing of what is late.
            Kind::Pong => match Pong::decode(body) {
                Some(pong) => return Pushed::Pong(pong),
                None => self.counters.rejected += 1,
            },
            Kind::Probe => {}
        }
        Pushed::Media
    }

    fn shard(&mut self, now_ns: u64, header: &Header, body: &[u8]) {
        // The last number stands for "none" elsewhere, and leaves room to count past the frame before it.
        if header.frame == u32::MAX {
            self.counters.rejected += 1;
            return;
        }
        if header.frame < self.next {
            self.counters.surplus += 1;
            return;
        }
        self.pass(now_ns, header.frame);
        let frame = &mut self.frames[(header.frame % WINDOW) as usize];
        match frame.file(now_ns, header, body, &mut self.pool, &mut self.decoder, &mut self.gather) {
            Filed::Kept => {}
            Filed::Recovered(shards) => self.counters.shards_recovered += shards,
            Filed::Surplus => self.counters.surplus += 1,
            Filed::Malformed => self.counters.rejected += 1,
            Filed::Overflow => self.counters.overflow += 1,
        }
    }

    /// The next thing that happened, if any.
    pub fn poll(&mut self, now_ns: u64) -> Option<Event> {
        let Some(event) = self.queue.pop_front() else { return self.step(now_ns) };
        if let Event::Frame(frame) = &event {
            self.queued_bytes -= frame.data.len();
        }
        Some(event)
    }

    /// When [`poll`](Self::poll) will have something to say even if nothing arrives.
    pub fn next_deadline(&self, now_ns: u64) -> Option<u64> {
        let overdue = self.frames[(self.next % WINDOW) as usize].overdue()?;
        let wait = if self.may_wish() { self.wish_wait_ns(now_ns) } else { self.config.reorder_wait_ns };
        Some(overdue.saturating_add(wait))
    }

    /// Gives a frame's memory back, for the next one.
    pub fn recycle(&mut self, mut data: Vec<u8>) {
        if self.spare.len() < 4 {
            data.clear();
            self.spare.push(data);
        }
    }
}

#[cfg(test)]
#[path = "reassemble/tests.rs"]
mod tests;
