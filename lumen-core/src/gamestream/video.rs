//! GameStream video: access units to RTP packets with parity, encrypted if the client wants it. docs/gamestream.md §7.
//!
//! A frame is gathered whole before its first packet is made, because every packet says how many there are. All memory
//! is taken at construction.

mod blocks;
mod header;
mod seal;

use std::fmt;

use crate::fec::kernels::Kernel;
use crate::fec::{Encoder, Scheme, Shape, Shards};
use crate::packetize::PacketBatch;
use crate::parity::{LEAST_PARITY, Protection};
use blocks::{BLOCK_PACKETS, Block, FRAME_BLOCKS, MOST_DATA, split};
use header::{BlockHeader, FRAME_HEADER, FrameType, PACKET_HEADER, Timestamps, frame_header, latency};
use seal::VideoSealer;

/// Parity that every frame has, in percent of its data packets, before loss asks for more and size for less.
pub const PARITY_FLOOR_PERCENT: u8 = 20;
/// Parity that a frame of [`frame_bytes`] has at least, in percent.
const PARITY_PROMISE_PERCENT: usize = 10;
/// Clients ask for 2; a larger wish is the path's business, which the reported loss knows better than they do.
const MOST_WISHED_PARITY: u8 = 16;
/// Bytes of a packet that its `packetSize` does not count: RTP's header and what follows it (moonlight-common-c, Video.h).
const UNCOUNTED: usize = 16;

/// What a client announces as `packetSize`: the bytes of a packet after the first 16. A multiple of 16, 256 to 1392.
/// A client that wants video encrypted has already taken off the 32 bytes that this costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PacketSize(u16);

impl PacketSize {
    /// `None` outside the bounds.
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes >= 256 && bytes <= 1392 && bytes.is_multiple_of(16) { Some(Self(bytes as u16)) } else { None }
    }

    pub const fn get(self) -> u16 {
        self.0
    }

    /// Bytes of a full packet before encryption, and of the shards of its code.
    const fn packet(self) -> usize {
        self.0 as usize + UNCOUNTED
    }

    /// Bytes of the access unit in a full packet.
    const fn payload(self) -> usize {
        self.packet() - PACKET_HEADER
    }

    /// Most bytes of a UDP payload.
    pub const fn datagram(self, encrypted: bool) -> u16 {
        (self.packet() + if encrypted { seal::PREFIX } else { 0 }) as u16
    }
}

/// Most bytes of an access unit for which four blocks have at least a tenth of parity. Larger ones than this still get
/// two packets of it in each block, until they are refused.
pub const fn frame_bytes(packet_size: PacketSize) -> u32 {
    let mut data = MOST_DATA;
    while data + (data * PARITY_PROMISE_PERCENT).div_ceil(100) > BLOCK_PACKETS {
        data -= 1;
    }
    (FRAME_BLOCKS * data * packet_size.payload() - FRAME_HEADER) as u32
}

/// What a session's video is made with.
#[derive(Clone, Copy)]
pub struct VideoConfig {
    pub packet_size: PacketSize,
    /// Least parity packets of a block, as the client wishes; it gets two even if it wishes fewer.
    pub min_parity: u8,
    /// The session's key, if video is to be encrypted. Control and RTSP use it too, with nonces that never meet these.
    pub key: Option<[u8; 16]>,
}

impl fmt::Debug for VideoConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoConfig")
            .field("packet_size", &self.packet_size)
            .field("min_parity", &self.min_parity)
            .field("encrypted", &self.key.is_some())
            .finish()
    }
}

/// Why a frame cannot go on. It has used no number; begin the next one, and have it be an IDR.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VideoError {
    #[error("the frame needs more packets than four blocks with parity have")]
    TooLarge,
    #[error("the frame has no bytes")]
    Empty,
    #[error("a slice came with no frame begun")]
    NoFrame,
    #[error("the session's key has encrypted as many packets as it may")]
    Exhausted,
}

/// What was made since construction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct VideoCounters {
    pub frames: u64,
    pub data: u64,
    pub parity: u64,
    /// Frames that are too large for the parity that floor and loss call for, and got what fits.
    pub lessened: u64,
}

/// The frame that is being gathered.
#[derive(Clone, Copy)]
struct Open {
    idr: bool,
    captured_ns: Option<u64>,
    /// Free bytes of the last packet begun.
    room: usize,
}

/// Makes the video packets of one session.
pub struct VideoPacketizer {
    packet_size: PacketSize,
    least_parity: usize,
    sealer: Option<VideoSealer>,
    protection: Protection,
    encoder: Encoder,
    counters: VideoCounters,
    open: Option<Open>,
    /// Index of the frame that is sent next.
    frame: u32,
    /// Number of the packet that is sent next.
    sequence: u16,
    /// Number of the data packet that is sent next; clients see its lower 24 bits.
    stream: u32,
    timestamps: Timestamps,
    /// The frame's data packets in clear, one after the other; the last may be unfinished.
    packets: Vec<u8>,
    /// Where each packet of a block begins.
    starts: Vec<usize>,
    parity: Vec<u8>,
}

impl VideoPacketizer {
    pub fn new(config: VideoConfig) -> Self {
        let stride = config.packet_size.packet();
        Self {
            packet_size: config.packet_size,
            least_parity: usize::from(config.min_parity.min(MOST_WISHED_PARITY)).max(LEAST_PARITY),
            sealer: config.key.as_ref().map(VideoSealer::new),
            protection: Protection::new(Scheme::Cauchy, PARITY_FLOOR_PERCENT),
            encoder: Encoder::new(Kernel::best()),
            counters: VideoCounters::default(),
            open: None,
            frame: 1,
            sequence: 0,
            stream: 0,
            timestamps: Timestamps::default(),
            packets: Vec::with_capacity(FRAME_BLOCKS * MOST_DATA * stride),
            starts: (0..MOST_DATA).map(|index| index * stride).collect(),
            parity: vec![0; BLOCK_PACKETS * stride],
        }
    }

    /// Loss to defend against, in thousandths of packets.
    pub fn set_loss(&mut self, permille: u32) {
        self.protection.set_loss(permille);
    }

    pub fn counters(&self) -> VideoCounters {
        self.counters
    }

    /// Index of the frame that is sent next, or is being gathered: 1 for a session's first.
    pub fn frame_index(&self) -> u32 {
        self.frame
    }

    /// Begins a frame. `captured_ns` is when its picture was taken; `None` for a picture sent before, whose age says
    /// nothing of this host. A frame that was not finished is given up.
    pub fn begin(&mut self, idr: bool, captured_ns: Option<u64>) {
        self.packets.clear();
        self.packets.resize(PACKET_HEADER + FRAME_HEADER, 0);
        self.open = Some(Open { idr, captured_ns, room: self.packet_size.payload() - FRAME_HEADER });
    }

    /// Gives up the frame that was begun. The client never knows of it.
    pub fn abort(&mut self) {
        self.open = None;
    }

    /// Takes in one or more whole slices; with the `last`, the frame's packets are appended to `out`. Both times are of
    /// one clock; `now_ns` becomes the RTP time of a picture without a time of its own. After an error the frame is
    /// given up.
    pub fn slice(&mut self, bytes: &[u8], last: bool, now_ns: u64, out: &mut PacketBatch) -> Result<(), VideoError> {
        let mut open = self.open.take().ok_or(VideoError::NoFrame)?;
        self.gather(&mut open, bytes)?;
        if last {
            return self.send(open, now_ns, out);
        }
        self.open = Some(open);
        Ok(())
    }

    fn gather(&mut self, open: &mut Open, mut bytes: &[u8]) -> Result<(), VideoError> {
        while !bytes.is_empty() {
            if open.room == 0 {
                if self.packets.len() == FRAME_BLOCKS * MOST_DATA * self.packet_size.packet() {
                    return Err(VideoError::TooLarge);
                }
                self.packets.extend_from_slice(&[0; PACKET_HEADER]);
                open.room = self.packet_size.payload();
            }
            let (now, rest) = bytes.split_at(bytes.len().min(open.room));
            self.packets.extend_from_slice(now);
            open.room -= now.len();
            bytes = rest;
        }
        Ok(())
    }

    fn send(&mut self, open: Open, now_ns: u64, out: &mut PacketBatch) -> Result<(), VideoError> {
        if self.packets.len() == PACKET_HEADER + FRAME_HEADER {
            return Err(VideoError::Empty);
        }
        if self.sealer.as_ref().is_some_and(|sealer| sealer.left() < (FRAME_BLOCKS * BLOCK_PACKETS) as u64) {
            return Err(VideoError::Exhausted);
        }
        let stride = self.packet_size.packet();
        let short = open.room;
        self.packets.resize(self.packets.len() + short, 0);
        let (protection, least) = (&mut self.protection, self.least_parity);
        let wished = |data| protection.parity_shards(data).max(least);
        let split = split(self.packets.len() / stride, wished).ok_or(VideoError::TooLarge)?;

        let kind = if open.idr { FrameType::Idr } else { FrameType::P };
        let header = frame_header(kind, latency(open.captured_ns, now_ns), self.packet_size.payload() - short);
        self.packets[PACKET_HEADER..][..FRAME_HEADER].copy_from_slice(&header);
        let timestamp = self.timestamps.next(open.captured_ns.unwrap_or(now_ns));
        let mut from = 0;
        for (number, &block) in split.blocks().iter().enumerate() {
            let last = number + 1 == split.blocks().len();
            let header = BlockHeader::new(timestamp, self.frame, number, split.blocks().len(), block);
            let end = from + block.data * stride;
            self.block(header, block, from..end, if last { short } else { 0 }, out)?;
            from = end;
        }
        self.frame = self.frame.wrapping_add(1);
        self.counters.frames += 1;
        self.counters.lessened += u64::from(split.lessened());
        Ok(())
    }

    /// Appends the data packets that lie at `place`, the last of them without its `short` bytes of padding, and parity.
    fn block(
        &mut self,
        header: BlockHeader,
        block: Block,
        place: std::ops::Range<usize>,
        short: usize,
        out: &mut PacketBatch,
    ) -> Result<(), VideoError> {
        let stride = self.packet_size.packet();
        let data = &mut self.packets[place];
        let parity = &mut self.parity[..block.parity * stride];
        for (index, packet) in data.chunks_exact_mut(stride).enumerate() {
            header.write_data(packet, index, self.sequence.wrapping_add(index as u16), self.stream);
            self.stream = self.stream.wrapping_add(1);
        }
        // Parity is that of the packets as they are, headers and all; of its own header, it keeps what clients take
        // from it to restore a lost packet's.
        let shape = Shape::new(Scheme::Cauchy, block.data, block.parity, stride).ok_or(VideoError::TooLarge)?;
        let shards = Shards::new(data, &self.starts[..block.data], stride).ok_or(VideoError::TooLarge)?;
        self.encoder.encode(shape, shards, parity);
        for (row, packet) in parity.chunks_exact_mut(stride).enumerate() {
            let index = block.data + row;
            header.write_parity(packet, index, self.sequence.wrapping_add(index as u16));
        }

        let unpadded = data.len() - short;
        let packets = data[..unpadded].chunks(stride).chain(parity.chunks_exact(stride));
        for packet in packets {
            match &mut self.sealer {
                Some(sealer) => sealer.push(header.frame(), packet, out)?,
                None => out.push_raw(packet),
            }
        }
        self.sequence = self.sequence.wrapping_add((block.data + block.parity) as u16);
        self.counters.data += block.data as u64;
        self.counters.parity += block.parity as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
