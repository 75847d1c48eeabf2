//! What goes into a reassembler at its beginning, and what comes out of it.

use crate::packet::{FrameHeader, Pong};
use crate::seal::MediaSecret;

/// What a session receives with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReassemblerConfig {
    pub session: u32,
    pub generation: u32,
    pub secret: MediaSecret,
    /// As in `Welcome`.
    pub shard_size: u16,
    /// How long a frame may wait for its missing packets once later ones have come: one frame's interval, 20 ms at most.
    pub reorder_wait_ns: u64,
}

/// A whole frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub generation: u32,
    pub number: u32,
    pub idr: bool,
    pub header: FrameHeader,
    /// The access unit as the encoder made it.
    pub data: Vec<u8>,
    /// Some of its shards were lost and came back from parity.
    pub recovered: bool,
    /// When its first packet came, on the caller's clock.
    pub first_packet_ns: u64,
    /// When it became whole, on the caller's clock.
    pub reassembled_ns: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The next frame to decode.
    Frame(Frame),
    /// These frames will not come.
    Lost { first: u32, count: u32 },
    /// Send a probe now: only an IDR after this frame helps. [`Reassembler::probe`] says so too until one has come.
    WantKeyframe { after: u32 },
}

/// What a datagram was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// A shard or an idle packet.
    Media,
    Pong(Pong),
    /// Not authentic, not ours, seen before or malformed; counted.
    Rejected,
}

/// Since the session began.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ReassemblerCounters {
    /// Authentic packets, each counted once.
    pub packets: u64,
    /// UDP payload bytes of those.
    pub bytes: u64,
    /// Not authentic, malformed, or of another session.
    pub rejected: u64,
    /// Seen before or older than the window.
    pub duplicates: u64,
    /// Of an earlier generation.
    pub stale: u64,
    /// Authentic, but their frame was already whole or gone: surplus parity, mostly.
    pub surplus: u64,
    /// Dropped because all shard memory was in use.
    pub overflow: u64,
    /// Data shards that parity gave back.
    pub shards_recovered: u64,
    /// Frames handed on.
    pub frames: u64,
    /// Of those, with the help of parity.
    pub frames_recovered: u64,
    pub frames_lost: u64,
    /// Whole, but withheld because a frame before them was lost.
    pub frames_skipped: u64,
}
