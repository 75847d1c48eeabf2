//! From a frame's slices to sealed packets: data shards leave with their slice, parity after the last one.
//!
//! PROTOCOL.md §7 and §8. All memory is kept from frame to frame: after the first frames of a size nothing is allocated.

use std::convert::Infallible;

use crate::fec::kernels::Kernel;
use crate::fec::{Encoder, Scheme, Shards};
use crate::packet::{
    FRAME_HEADER_BYTES, Flags, FrameHeader, HEADER_BYTES, Header, Kind, MAX_DATA_SHARDS, PARITY_HEADER_BYTES,
    ParityHeader, Pong, TAG_BYTES, shard_bytes,
};
use crate::parity::Protection;
use crate::seal::{Exhausted, Sealer};

/// Sealed packets, one after the other, in runs that one UDP send with segmentation offload can carry.
#[derive(Default)]
pub struct PacketBatch {
    bytes: Vec<u8>,
    runs: Vec<Run>,
    packets: usize,
}

/// Packets of `segment` bytes each; only the last may be shorter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Run {
    start: usize,
    end: usize,
    segment: usize,
    packets: usize,
}

impl PacketBatch {
    /// Most packets of a run: below the kernel's own bound, and little enough for pacing to work with.
    pub const RUN_PACKETS: usize = 32;

    /// Room for so many packets of `payload` bytes; more than that grows the batch once.
    pub fn with_capacity(packets: usize, payload: u16) -> Self {
        Self {
            bytes: Vec::with_capacity(packets * usize::from(payload)),
            runs: Vec::with_capacity(packets),
            packets: 0,
        }
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.runs.clear();
        self.packets = 0;
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Packets in all runs.
    pub fn packets(&self) -> usize {
        self.packets
    }

    /// UDP payload bytes of all packets.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The runs in the order they are to leave: their bytes, and the size of each packet but perhaps the last.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = (&[u8], usize)> {
        self.runs.iter().map(|run| (&self.bytes[run.start..run.end], run.segment))
    }

    /// Every packet for itself.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.runs().flat_map(|(bytes, segment)| bytes.chunks(segment))
    }

    /// Appends a packet as it is.
    pub fn push_raw(&mut self, packet: &[u8]) {
        let Ok(()) = self.push(&[packet], |_| Ok::<_, Infallible>(()));
    }

    /// Appends one packet, made of `parts` and then changed in place by `finish`; none if that fails.
    pub(crate) fn push<E>(
        &mut self,
        parts: &[&[u8]],
        finish: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        if let Err(error) = finish(&mut self.bytes[start..]) {
            self.bytes.truncate(start);
            return Err(error);
        }
        let end = self.bytes.len();
        self.packets += 1;
        match self.runs.last_mut() {
            // A run goes on while its packets are full and this one is no longer.
            Some(run)
                if run.end - run.start == run.packets * run.segment
                    && end - start <= run.segment
                    && run.packets < Self::RUN_PACKETS =>
            {
                run.end = end;
                run.packets += 1;
            }
            _ => self.runs.push(Run { start, end, segment: end - start, packets: 1 }),
        }
        Ok(())
    }
}

/// Appends one packet with this body, sealed.
fn seal(sealer: &mut Sealer, header: Header, body: [&[u8]; 2], out: &mut PacketBatch) -> Result<(), Exhausted> {
    let parts = [&[0; HEADER_BYTES], body[0], body[1], &[0; TAG_BYTES]];
    out.push(&parts, |packet| sealer.seal(header, packet).map(drop))
}

/// Why a frame cannot go on. Begin the next one, and have it be an IDR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PacketizeError {
    #[error("the frame has more than {MAX_DATA_SHARDS} shards")]
    TooLarge,
    #[error("a slice came with no frame begun")]
    NoFrame,
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// What a session sends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketizerConfig {
    pub session: u32,
    /// The highest scheme both sides know.
    pub scheme: Scheme,
    pub parity_floor_percent: u8,
    /// Most bytes of a UDP payload; see [`payload_bytes_valid`](crate::packet::payload_bytes_valid).
    pub shard_size: u16,
}

/// Packets made since construction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PacketizerCounters {
    pub frames: u64,
    pub data: u64,
    pub parity: u64,
    /// Frames without parity, because the scheme has none for their size.
    pub bare: u64,
}

/// The frame that is being sent.
#[derive(Clone, Copy)]
struct Open {
    number: u32,
    idr: bool,
}

/// Makes the packets of one session's generation; see [`set_generation`](Self::set_generation) for the next.
pub struct Packetizer {
    config: PacketizerConfig,
    sealer: Sealer,
    protection: Protection,
    encoder: Encoder,
    counters: PacketizerCounters,
    open: Option<Open>,
    next_frame: u32,
    /// The frame's header until its first shard has taken it.
    header: Option<[u8; FRAME_HEADER_BYTES]>,
    /// The frame's data shards in clear, each padded with zeros to the size of the largest possible.
    shards: Vec<u8>,
    starts: Vec<usize>,
    longest: usize,
    parity: Vec<u8>,
}

impl Packetizer {
    /// # Panics
    /// If the shard size is not valid: it comes from our own configuration.
    pub fn new(config: PacketizerConfig, sealer: Sealer) -> Self {
        assert!(crate::packet::payload_bytes_valid(config.shard_size));
        Self {
            config,
            sealer,
            protection: Protection::new(config.scheme, config.parity_floor_percent),
            encoder: Encoder::new(Kernel::best()),
            counters: PacketizerCounters::default(),
            open: None,
            next_frame: 0,
            header: None,
            shards: Vec::new(),
            starts: Vec::new(),
            longest: 0,
            parity: Vec::new(),
        }
    }

    /// Goes on with the next generation: another key, frames from 0 again. The loss known of the path stays.
    pub fn set_generation(&mut self, sealer: Sealer) {
        self.sealer = sealer;
        self.abort();
        self.next_frame = 0;
    }

    /// Loss to defend against, in thousandths, from a [`LossEstimator`](crate::parity::LossEstimator).
    pub fn set_loss(&mut self, permille: u32) {
        self.protection.set_loss(permille);
    }

    pub fn generation(&self) -> u32 {
        self.sealer.generation()
    }

    /// Packets sent in this generation, of all kinds: the highest counter a client can have seen.
    pub fn sent(&self) -> u64 {
        self.sealer.sealed()
    }

    pub fn counters(&self) -> PacketizerCounters {
        self.counters
    }

    /// Begins a frame. One that was not finished is given up, as by [`abort`](Self::abort).
    pub fn begin(&mut self, number: u32, idr: bool, header: &FrameHeader) {
        self.abort();
        self.open = Some(Open { number, idr });
        self.next_frame = number;
        self.header = Some(header.encode());
    }

    /// Gives up the frame that was begun: the client will see that it never ends, and ask for an IDR.
    pub fn abort(&mut self) {
        if let Some(open) = self.open.take() {
            self.next_frame = open.number.saturating_add(1);
        }
        self.header = None;
        self.shards.clear();
        self.starts.clear();
        self.longest = 0;
    }

    /// Appends the packets of one or more whole slices; after the `last` those of the frame's parity too. After an
    /// error the frame is given up.
    pub fn slice(&mut self, bytes: &[u8], last: bool, out: &mut PacketBatch) -> Result<(), PacketizeError> {
        let open = self.open.ok_or(PacketizeError::NoFrame)?;
        let sent = self.data(open, bytes, last, out);
        let sent = if last { sent.and_then(|()| self.finish(open, out)) } else { sent };
        if last || sent.is_err() {
            self.abort();
        }
        sent
    }

    fn data(&mut self, open: Open, bytes: &[u8], last: bool, out: &mut PacketBatch) -> Result<(), PacketizeError> {
        let stride = shard_bytes(self.config.shard_size);
        let mut rest = bytes;
        loop {
            let index = self.starts.len();
            if index == MAX_DATA_SHARDS {
                return Err(PacketizeError::TooLarge);
            }
            let header = self.header.take();
            let head = header.as_ref().map_or(&[][..], |header| &header[..]);
            let (body, after) = rest.split_at(rest.len().min(stride - 2 - head.len()));
            rest = after;

            let start = self.shards.len();
            let length = head.len() + body.len();
            self.shards.extend_from_slice(&(length as u16).to_le_bytes());
            self.shards.extend_from_slice(head);
            self.shards.extend_from_slice(body);
            self.shards.resize(start + stride, 0);
            self.starts.push(start);
            self.longest = self.longest.max(length + 2);

            let end = rest.is_empty();
            let flags =
                Flags::default().with(Flags::IDR, open.idr).with(Flags::SLICE_END, end).with(Flags::LAST, end && last);
            let header = self.packet(Kind::Data, flags, index, open.number);
            seal(&mut self.sealer, header, [&self.shards[start..start + 2 + length], &[]], out)?;
            self.counters.data += 1;
            if end {
                return Ok(());
            }
        }
    }

    fn finish(&mut self, open: Open, out: &mut PacketBatch) -> Result<(), PacketizeError> {
        self.counters.frames += 1;
        let Some(shape) = self.protection.shape(self.starts.len(), self.longest) else {
            self.counters.bare += 1;
            return Ok(());
        };
        // `longest`, even when rounded up, is within a shard's stride, which is even.
        let Some(data) = Shards::new(&self.shards, &self.starts, shape.len()) else {
            return Err(PacketizeError::TooLarge);
        };
        self.parity.resize(shape.m() * shape.len(), 0);
        self.encoder.encode(shape, data, &mut self.parity);
        let [k, m, len] = [shape.k(), shape.m(), shape.len()].map(|value| value as u16);
        let shape_header: [u8; PARITY_HEADER_BYTES] = ParityHeader { k, m, scheme: shape.scheme() as u8, len }.encode();
        let flags = Flags::default().with(Flags::IDR, open.idr);
        for (index, shard) in self.parity.chunks_exact(shape.len()).enumerate() {
            let header = self.packet(Kind::Parity, flags, index, open.number);
            seal(&mut self.sealer, header, [&shape_header, shard], out)?;
            self.counters.parity += 1;
        }
        Ok(())
    }

    /// Appends a packet that says nothing but that the host is there, and which frame comes next.
    pub fn idle(&mut self, out: &mut PacketBatch) -> Result<(), Exhausted> {
        let header = self.packet(Kind::Idle, Flags::default(), 0, self.next_frame);
        seal(&mut self.sealer, header, [&[], &[]], out)
    }

    /// Appends the answer to a probe.
    pub fn pong(&mut self, pong: Pong, out: &mut PacketBatch) -> Result<(), Exhausted> {
        let header = self.packet(Kind::Pong, Flags::default(), 0, 0);
        seal(&mut self.sealer, header, [&pong.encode(), &[]], out)
    }

    fn packet(&self, kind: Kind, flags: Flags, index: usize, frame: u32) -> Header {
        // Generation and counter are the sealer's to fill in.
        Header { kind, flags, index: index as u16, session: self.config.session, generation: 0, frame, counter: 0 }
    }
}

#[cfg(test)]
#[path = "packetize/tests.rs"]
mod tests;
