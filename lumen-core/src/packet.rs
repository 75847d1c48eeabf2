//! Packets of the data plane: the clear header that every datagram begins with, and what is sealed behind it.
//!
//! PROTOCOL.md §6 to §9. Everything is little-endian. Decoding never panics and never trusts a length.

use crate::cursor::{Malformed, Reader};

/// Bytes of [`Header`] on the wire.
pub const HEADER_BYTES: usize = 24;
/// Bytes of the authentication tag at the end of every packet.
pub const TAG_BYTES: usize = 16;
/// Bytes of [`ParityHeader`] at the front of a parity packet's sealed body.
pub const PARITY_HEADER_BYTES: usize = 8;
/// Bytes of [`FrameHeader`] at the front of every frame.
pub const FRAME_HEADER_BYTES: usize = 40;
/// Bytes of [`Probe`] in a probe's sealed body.
pub const PROBE_BYTES: usize = 48;
/// Bytes of [`Pong`] in a pong's sealed body.
pub const PONG_BYTES: usize = 24;
/// Least and most bytes of a UDP payload a session may be configured for; the value is always even.
pub const PAYLOAD_BYTES: std::ops::RangeInclusive<u16> = 512..=1452;
/// Most data shards of one frame: 9.4 MB at the default payload size.
pub const MAX_DATA_SHARDS: usize = 8192;
/// Most parity shards of one frame.
pub const MAX_PARITY_SHARDS: usize = 4096;

/// Whether a session may use UDP payloads of this many bytes.
pub fn payload_bytes_valid(payload: u16) -> bool {
    PAYLOAD_BYTES.contains(&payload) && payload.is_multiple_of(2)
}

/// Most bytes of a shard, its two-byte length included, when a packet may be `payload` bytes: a parity packet, which
/// carries eight bytes more than a data packet, fills it exactly.
pub const fn shard_bytes(payload: u16) -> usize {
    payload as usize - HEADER_BYTES - TAG_BYTES - PARITY_HEADER_BYTES
}

/// What a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// Host to client: one data shard.
    Data = 1,
    /// Host to client: one parity shard.
    Parity = 2,
    /// Host to client: nothing to send, still here. `frame` is the number the next frame will have.
    Idle = 3,
    /// Host to client: the answer to a probe.
    Pong = 4,
    /// Client to host: clock, loss and keyframe wishes.
    Probe = 5,
}

/// Bits of a header's second byte.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags(pub u8);

impl Flags {
    /// The frame can be decoded without any before it; set on all its packets.
    pub const IDR: Self = Self(1);
    /// The frame's last data shard: its index + 1 is `k`.
    pub const LAST: Self = Self(2);
    /// A slice ends with this shard.
    pub const SLICE_END: Self = Self(4);

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: Self, set: bool) -> Self {
        if set { Self(self.0 | other.0) } else { self }
    }
}

/// The clear 24 bytes of every packet, authenticated with its body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    pub kind: Kind,
    pub flags: Flags,
    /// Data: shard 0..k. Parity: shard 0..m. Otherwise 0.
    pub index: u16,
    pub session: u32,
    pub generation: u32,
    /// Data and parity: the frame. Idle: the number the next frame will have. Otherwise 0.
    pub frame: u32,
    /// Grows by one with every packet of a generation and direction, from 1. Set by the [`Sealer`](crate::seal::Sealer).
    pub counter: u64,
}

impl Header {
    /// Writes the header as it travels.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0] = self.kind as u8;
        out[1] = self.flags.0;
        out[2..4].copy_from_slice(&self.index.to_le_bytes());
        out[4..8].copy_from_slice(&self.session.to_le_bytes());
        out[8..12].copy_from_slice(&self.generation.to_le_bytes());
        out[12..16].copy_from_slice(&self.frame.to_le_bytes());
        out[16..24].copy_from_slice(&self.counter.to_le_bytes());
        out
    }

    /// Reads the header of a datagram; `None` for what cannot be a packet of lumen/1 (too short, unknown kind or flag).
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        if datagram.len() < HEADER_BYTES + TAG_BYTES {
            return None;
        }
        let mut reader = Reader::new(datagram);
        let read = |reader: &mut Reader<'_>| -> Result<Self, Malformed> {
            let kind = match reader.u8()? {
                1 => Kind::Data,
                2 => Kind::Parity,
                3 => Kind::Idle,
                4 => Kind::Pong,
                5 => Kind::Probe,
                _ => return Err(Malformed),
            };
            let flags = Flags(reader.u8()?);
            if flags.0 > 7 {
                return Err(Malformed);
            }
            Ok(Self {
                kind,
                flags,
                index: reader.u16()?,
                session: reader.u32()?,
                generation: reader.u32()?,
                frame: reader.u32()?,
                counter: reader.u64()?,
            })
        };
        read(&mut reader).ok()
    }
}

/// The shape of a frame's code, in front of every parity shard, so that any one of them tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ParityHeader {
    /// Data shards.
    pub k: u16,
    /// Parity shards.
    pub m: u16,
    /// [`Scheme`](crate::fec::Scheme) as it travels.
    pub scheme: u8,
    /// Bytes of every parity shard: the longest data shard, rounded up to 2.
    pub len: u16,
}

impl ParityHeader {
    pub fn encode(&self) -> [u8; PARITY_HEADER_BYTES] {
        let [k0, k1] = self.k.to_le_bytes();
        let [m0, m1] = self.m.to_le_bytes();
        let [l0, l1] = self.len.to_le_bytes();
        [k0, k1, m0, m1, self.scheme, 0, l0, l1]
    }

    /// Splits a parity packet's opened body; `None` unless exactly `len` bytes of shard follow.
    pub fn decode(body: &[u8]) -> Option<(Self, &[u8])> {
        let (&[k0, k1, m0, m1, scheme, zero, l0, l1], shard) = body.split_first_chunk::<PARITY_HEADER_BYTES>()?;
        let [k, m, len] = [[k0, k1], [m0, m1], [l0, l1]].map(u16::from_le_bytes);
        (zero == 0 && shard.len() == usize::from(len)).then_some((Self { k, m, scheme, len }, shard))
    }
}

/// What is known of the frame before, once it has left entirely. Nanoseconds since *its* capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PreviousFrame {
    pub number: u32,
    pub last_slice: u32,
    pub first_packet: u32,
    pub last_packet: u32,
}

/// The first 40 bytes of every frame: the host's ledger, as far as it is known when the first packet leaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// A repeat of the last picture, because the desktop is still.
    pub still: bool,
    /// The host's CLOCK_MONOTONIC.
    pub captured_ns: u64,
    /// Nanoseconds since capture, saturating.
    pub taken: u32,
    pub converted: u32,
    pub first_slice: u32,
    pub previous: Option<PreviousFrame>,
}

/// Stands for "no previous frame".
const NO_FRAME: u32 = u32::MAX;

/// Nanoseconds from `since` to `then` as the ledger carries them: saturating at both ends.
pub fn ledger_delta(since: u64, then: u64) -> u32 {
    u32::try_from(then.saturating_sub(since)).unwrap_or(u32::MAX)
}

impl FrameHeader {
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut out = [0; FRAME_HEADER_BYTES];
        out[0] = u8::from(self.still);
        out[4..12].copy_from_slice(&self.captured_ns.to_le_bytes());
        let previous = match self.previous {
            Some(p) => [p.number, p.last_slice, p.first_packet, p.last_packet],
            None => [NO_FRAME; 4],
        };
        let words = [self.taken, self.converted, self.first_slice].into_iter().chain(previous);
        for (place, word) in out[12..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// Reads the front of a frame's data stream.
    pub fn decode(stream: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(stream.get(..FRAME_HEADER_BYTES)?);
        let read = |reader: &mut Reader<'_>| -> Result<Self, Malformed> {
            let [still, zero @ ..] = reader.array::<4>()?;
            if still > 1 || zero != [0; 3] {
                return Err(Malformed);
            }
            let captured_ns = reader.u64()?;
            let (taken, converted, first_slice) = (reader.u32()?, reader.u32()?, reader.u32()?);
            let number = reader.u32()?;
            let (last_slice, first_packet, last_packet) = (reader.u32()?, reader.u32()?, reader.u32()?);
            let previous =
                (number != NO_FRAME).then_some(PreviousFrame { number, last_slice, first_packet, last_packet });
            Ok(Self { still: still == 1, captured_ns, taken, converted, first_slice, previous })
        };
        read(&mut reader).ok()
    }
}

/// A client's word to its host, sent every 100 ms and whenever a keyframe is wanted. `highest` and `received` count
/// within the generation of the packet's header, the others since the session began, so that a lost probe loses nothing.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Probe {
    /// The client's clock when it sent this; echoed.
    pub client_ns: u64,
    /// Highest packet counter seen from the host, 0 for none.
    pub highest: u64,
    /// Packets opened, each counted once: `highest - received` were lost or are still on their way.
    pub received: u64,
    /// Frames handed on, of which `frames_recovered` needed parity.
    pub frames: u32,
    pub frames_recovered: u32,
    /// Frames that never became whole.
    pub frames_lost: u32,
    /// Packets that were not authentic or malformed; replays are not among them.
    pub rejected: u32,
    /// This frame was lost; only an IDR with a higher number helps. Repeated until one has come.
    pub keyframe_wanted: Option<u32>,
}

impl Probe {
    pub fn encode(&self) -> [u8; PROBE_BYTES] {
        let mut out = [0; PROBE_BYTES];
        for (place, word) in out.chunks_exact_mut(8).zip([self.client_ns, self.highest, self.received]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        let wanted = self.keyframe_wanted.unwrap_or(NO_FRAME);
        let words = [self.frames, self.frames_recovered, self.frames_lost, self.rejected, wanted, 0];
        for (place, word) in out[24..].chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let read = |reader: &mut Reader<'_>| -> Result<Self, Malformed> {
            let probe = Self {
                client_ns: reader.u64()?,
                highest: reader.u64()?,
                received: reader.u64()?,
                frames: reader.u32()?,
                frames_recovered: reader.u32()?,
                frames_lost: reader.u32()?,
                rejected: reader.u32()?,
                keyframe_wanted: Some(reader.u32()?).filter(|&frame| frame != NO_FRAME),
            };
            if reader.u32()? != 0 || probe.received > probe.highest { Err(Malformed) } else { Ok(probe) }
        };
        let probe = read(&mut reader).ok()?;
        reader.end().ok()?;
        Some(probe)
    }

    /// Whether the host still owes this client an IDR, the newest it sent being frame `last_idr` (none: no IDR yet).
    pub fn wants_idr(&self, last_idr: Option<u32>) -> bool {
        self.keyframe_wanted.is_some_and(|wanted| last_idr.is_none_or(|sent| sent <= wanted))
    }
}

/// The host's answer to a probe: the four times of an NTP exchange, but for the client's own arrival.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pong {
    /// As the probe had it.
    pub client_ns: u64,
    pub host_received_ns: u64,
    pub host_sent_ns: u64,
}

impl Pong {
    pub fn encode(&self) -> [u8; PONG_BYTES] {
        let mut out = [0; PONG_BYTES];
        for (place, word) in out.chunks_exact_mut(8).zip([self.client_ns, self.host_received_ns, self.host_sent_ns]) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    pub fn decode(body: &[u8]) -> Option<Self> {
        let body: &[u8; PONG_BYTES] = body.try_into().ok()?;
        let mut reader = Reader::new(body);
        let mut word = || reader.u64().ok();
        Some(Self { client_ns: word()?, host_received_ns: word()?, host_sent_ns: word()? })
    }
}

#[cfg(test)]
#[path = "packet/tests.rs"]
mod tests;
