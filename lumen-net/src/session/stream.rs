//! One session's frames on their way out: chunk by chunk from the ring, packet by packet to the socket.
//!
//! A chunk is peeked, copied once and released; its packets are sealed into one batch, and nothing more is taken from
//! the ring until the batch has left. So the ring is the only queue, and a slow path is felt by the encoder.

use ipc::SessionStats;
use ipc::event::now_ns;
use ipc::feedback::Feedback;
use ipc::ring::{ChunkFlags, ChunkHeader};
use lumen_core::packet::Pong;
use lumen_core::packetize::PacketBatch;
use lumen_core::seal::{Exhausted, ReplayWindow};

use super::packets::Packets;
use super::{Path, SHARD_SIZE};
use crate::ledger::FrameTimes;
use crate::media::Wiring;
use crate::media::socket::{Outlet, Peer};

/// Packets to wait for when the allowance is spent: fewer would cost a system call each.
const PACED_PACKETS: usize = 16;

/// Chunks taken in one go. Pacing bounds those that make packets, but not aborted ones: an encoder that makes nothing
/// else must not keep the thread from the other sessions.
const CHUNKS_AT_ONCE: usize = 64;

/// A pong overtakes the packets that wait for their turn. Those that it is further ahead of than the client's
/// anti-replay window would be refused there, so half a window is all it may overtake.
const MOST_OVERTAKEN: usize = ReplayWindow::SIZE as usize / 2;

/// Why [`Stream::pump`] has stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pumped {
    /// The ring is empty; its event wakes us.
    Empty,
    /// The allowance is spent until this time, or others come first.
    Until(u64),
    /// The socket is full.
    Blocked,
}

/// The encoder broke the protocol of its ring, or a key is used up: this generation cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(String);

impl Broken {
    pub(super) fn because(reason: impl ToString) -> Self {
        Self(reason.to_string())
    }
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the current frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Between frames.
    None,
    /// Some of its slices are taken.
    Slices,
    /// All of it that has not left is in the batch, parity included.
    Leaving,
}

/// The outgoing half of a session.
pub struct Stream {
    packets: Packets,
    generation: u32,
    batch: PacketBatch,
    /// Of the batch, whole runs that have left.
    runs_left: usize,
    /// Bytes of the next run that have left.
    bytes_left: usize,
    /// Idle packets and pongs, one at a time.
    small: PacketBatch,
    wiring: Option<Wiring>,
    stage: Stage,
    frame: FrameTimes,
    /// It is an IDR.
    idr: bool,
    previous: Option<FrameTimes>,
}

impl Stream {
    /// Makes every buffer that the frames of this wiring will need.
    pub fn new(packets: Packets, wiring: Wiring) -> Self {
        Self {
            batch: packets.batch(&wiring),
            packets,
            generation: wiring.generation,
            runs_left: 0,
            bytes_left: 0,
            small: PacketBatch::with_capacity(1, SHARD_SIZE),
            wiring: Some(wiring),
            stage: Stage::None,
            frame: FrameTimes::begin(&ChunkHeader::default(), 0),
            idr: false,
            previous: None,
        }
    }

    /// Goes on with a higher generation: frames from 0, and nothing of the one before.
    pub fn wire(&mut self, wiring: Wiring) {
        self.packets.set_generation(wiring.generation);
        self.generation = wiring.generation;
        self.batch = self.packets.batch(&wiring);
        (self.runs_left, self.bytes_left) = (0, 0);
        (self.stage, self.previous) = (Stage::None, None);
        self.wiring = Some(wiring);
    }

    /// Gives up the rings, and with them what of a frame is still here: nobody could send the rest of it.
    pub fn unwire(&mut self) -> Option<Wiring> {
        self.packets.abort();
        self.clear_batch();
        self.stage = Stage::None;
        self.wiring.take()
    }

    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// See [`Packets::sent`].
    pub fn sent(&self) -> u64 {
        self.packets.sent()
    }

    /// Loss to defend against from the next frame on, in thousandths.
    pub fn set_loss(&mut self, permille: u32) {
        self.packets.set_loss(permille);
    }

    pub fn drain_wake(&self) {
        if let Some(wiring) = &self.wiring {
            wiring.video.data().drain();
        }
    }

    /// Tells the encoder something. When its ring is full it has not listened for dozens of messages; the client
    /// repeats its wishes, so this one is dropped.
    pub fn feed_back(&mut self, feedback: Feedback) {
        let generation = self.generation;
        let Some(wiring) = &mut self.wiring else { return };
        if let Some(mut writer) = wiring.feedback.reserve() {
            let header = ChunkHeader { generation, flags: ChunkFlags::LAST, ..ChunkHeader::default() };
            // Eight bytes are what the ring's credit is for.
            let _ = writer.commit(header, &feedback.encode());
        }
    }

    /// Sends an idle packet; false when it did not leave. It says that all frames so far have left, so there is none
    /// while packets wait.
    pub fn send_idle(&mut self, stats: &mut SessionStats, to: Peer, out: Outlet<'_>) -> bool {
        if !self.batch.is_empty() {
            return false;
        }
        self.small.clear();
        let sealed = self.packets.idle(&mut self.small);
        self.send_small(sealed, stats, to, out)
    }

    /// Answers a probe; false when the answer did not leave.
    pub fn send_pong(&mut self, pong: Pong, stats: &mut SessionStats, to: Peer, out: Outlet<'_>) -> bool {
        if self.batch.packets() > MOST_OVERTAKEN {
            return false;
        }
        self.small.clear();
        let sealed = self.packets.pong(pong, &mut self.small);
        self.send_small(sealed, stats, to, out)
    }

    /// A small packet that meets a full socket is dropped: the next one will say the same.
    fn send_small(
        &mut self,
        sealed: Result<(), Exhausted>,
        stats: &mut SessionStats,
        to: Peer,
        out: Outlet<'_>,
    ) -> bool {
        let packet = self.small.iter().next().filter(|_| sealed.is_ok());
        let Some(packet) = packet.filter(|packet| out.send(to, packet, packet.len()).is_ok()) else { return false };
        stats.packets += 1;
        stats.bytes += packet.len() as u64;
        true
    }

    /// Sends until the ring is empty, the allowance is spent or the socket is full, but never for long.
    pub fn pump(
        &mut self,
        path: &mut Path,
        stats: &mut SessionStats,
        to: Peer,
        out: Outlet<'_>,
    ) -> Result<Pumped, Broken> {
        for _ in 0..CHUNKS_AT_ONCE {
            if let Some(stopped) = self.flush(path, stats, to, out) {
                return Ok(stopped);
            }
            if self.stage == Stage::Leaving {
                self.end_frame(path, stats);
            }
            if !self.take_chunk(path, stats)? {
                return Ok(Pumped::Empty);
            }
        }
        Ok(Pumped::Until(now_ns()))
    }

    /// Sends the batch; none when all of it has left.
    fn flush(&mut self, path: &mut Path, stats: &mut SessionStats, to: Peer, out: Outlet<'_>) -> Option<Pumped> {
        while let Some((run, segment)) = self.batch.runs().nth(self.runs_left) {
            let rest = &run[self.bytes_left..];
            let waiting = rest.len().div_ceil(segment);
            let now = now_ns();
            let allowed = path.pacer.allowance(now) as usize / segment;
            let enough = waiting.min(PACED_PACKETS);
            if allowed < enough {
                return Some(Pumped::Until(path.pacer.ready_at((enough * segment) as u64)));
            }
            let most = waiting.min(allowed).min(out.max_segments(segment)) * segment;
            // Fewer than asked for, if the device has no offload after all.
            let Ok(bytes) = out.send(to, &rest[..rest.len().min(most)], segment) else { return Some(Pumped::Blocked) };
            self.bytes_left += bytes;
            if self.bytes_left == run.len() {
                (self.runs_left, self.bytes_left) = (self.runs_left + 1, 0);
            }
            path.pacer.spend(now, bytes as u64);
            path.last_sent_ns = now_ns();
            self.frame.sent(path.last_sent_ns);
            stats.packets += bytes.div_ceil(segment) as u64;
            stats.bytes += bytes as u64;
        }
        None
    }

    fn end_frame(&mut self, path: &mut Path, stats: &mut SessionStats) {
        stats.frames += 1;
        path.ledger.record(&self.frame);
        self.previous = Some(self.frame);
        self.stage = Stage::None;
    }

    /// Makes the next batch of the oldest chunk; false when the ring is empty.
    fn take_chunk(&mut self, path: &mut Path, stats: &mut SessionStats) -> Result<bool, Broken> {
        self.clear_batch();
        let Some(wiring) = &mut self.wiring else { return Ok(false) };
        let Some(chunk) = wiring.video.peek().map_err(Broken::because)? else { return Ok(false) };
        let header = *chunk.header();
        wiring.chunk.clear();
        chunk.read(&mut wiring.chunk).map_err(Broken::because)?;
        wiring.video.release();

        let has = |flag| header.flags.contains(flag);
        if header.generation != wiring.generation {
            return Err(Broken::because("the encoder sent a chunk of another generation"));
        }
        if has(ChunkFlags::FIRST) {
            if self.previous.is_some_and(|previous| header.frame <= previous.number) {
                return Err(Broken::because("the encoder used a frame number twice"));
            }
            self.frame = FrameTimes::begin(&header, path.flowing_ns);
            self.idr = has(ChunkFlags::IDR);
            self.packets.begin(&self.frame, self.idr, self.previous.as_ref());
            self.stage = Stage::Slices;
        } else if header.frame != self.frame.number {
            return Err(Broken::because("the encoder mixed two frames"));
        }
        if has(ChunkFlags::ABORTED) {
            // A client of lumen/1 sees a frame that never ends, one of GameStream nothing; the encoder knows that it
            // owes an IDR.
            self.packets.abort();
            self.stage = Stage::None;
            return Ok(true);
        }
        self.frame.last_slice = header.sliced_ns;
        let last = has(ChunkFlags::LAST);
        let parity = self.packets.slice(&wiring.chunk, last, now_ns(), &mut self.batch)?;
        stats.parity_packets += parity;
        if !self.batch.is_empty() && self.frame.first_sealed == 0 {
            self.frame.first_sealed = now_ns();
            if self.idr {
                path.keyframes.sent_idr(self.frame.number);
            }
        }
        if last {
            self.stage = Stage::Leaving;
        }
        Ok(true)
    }

    fn clear_batch(&mut self) {
        self.batch.clear();
        (self.runs_left, self.bytes_left) = (0, 0);
    }
}
