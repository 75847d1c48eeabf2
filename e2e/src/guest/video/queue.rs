//! From packets to frames: in order, with what parity can give back, and strict about every rule of the wire.

use super::block::Block;
use super::frame::{self, Frame};
use super::packet::{END, HEADERS, PICTURE, Packet, START};

/// Faults that are told in words; more are only counted.
const TOLD: usize = 20;

/// What became of packets.
#[derive(Debug)]
pub enum Event {
    Frame(Frame),
    /// Frames that will never be whole.
    Lost {
        frames: u32,
    },
    /// How a frame's parity fared: the body of a message for the host (Video.h, SS_FRAME_FEC_STATUS).
    Status([u8; 21]),
}

/// What was seen.
#[derive(Clone, Default, Debug)]
pub struct Counts {
    pub packets: u64,
    pub bytes: u64,
    pub parity_packets: u64,
    /// Packets of frames or blocks that were done with.
    pub late: u64,
    pub duplicates: u64,
    /// Data packets that parity gave back.
    pub recovered_packets: u64,
    /// Parity packets that were compared with what they should be.
    pub parity_judged: u64,
    pub frames: u64,
    pub recovered_frames: u64,
    pub lost: u64,
    pub idrs: u64,
    /// Frames of more than one block.
    pub blocked: u64,
    pub faults: u64,
    pub told: Vec<String>,
}

impl Counts {
    fn fault(&mut self, fault: String) {
        self.faults += 1;
        if self.told.len() < TOLD {
            self.told.push(fault);
        }
    }
}

/// The blocks of the frame that is being put together.
pub struct Queue {
    packet_size: usize,
    frame: u32,
    block: u8,
    current: Option<Block>,
    /// Done, but more of its parity may come; with its data.
    done: Option<(Block, Vec<Vec<u8>>)>,
    /// Payload of the frame's blocks so far, and how many of its packets parity gave back.
    gathered: Vec<u8>,
    first: Vec<u8>,
    recovered: usize,
    last_payload: usize,
    /// The number that the next block must begin with, as long as nothing was lost.
    next_number: Option<u16>,
    next_index: Option<u32>,
    pub counts: Counts,
}

impl Queue {
    /// For packets whose part behind the first sixteen bytes has this size.
    pub fn new(packet_size: usize) -> Self {
        Self {
            packet_size,
            frame: 1,
            block: 0,
            current: None,
            done: None,
            gathered: Vec::new(),
            first: Vec::new(),
            recovered: 0,
            last_payload: 0,
            next_number: None,
            next_index: None,
            counts: Counts::default(),
        }
    }

    /// Takes a packet in.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        self.counts.packets += 1;
        self.counts.bytes += bytes.len() as u64;
        let Some(packet) = Packet::parse(bytes) else {
            self.counts.fault(format!("a packet of {} bytes", bytes.len()));
            return;
        };
        self.check(&packet);
        if packet.shard >= packet.data {
            self.counts.parity_packets += 1;
        }
        let ahead = packet.frame.wrapping_sub(self.frame) as i32;
        if ahead < 0 || ahead == 0 && packet.block < self.block {
            self.late(&packet, bytes);
            return;
        }
        if (packet.frame, packet.block) != (self.frame, self.block) {
            self.skip_to(&packet, events);
        }
        if (packet.frame, packet.block) == (self.frame, self.block) {
            self.add(&packet, bytes, events);
        }
    }

    /// What every packet must obey, whatever came before.
    fn check(&mut self, packet: &Packet) {
        let shard = (packet.shard, packet.data);
        let is_data = shard.0 < shard.1;
        let wanted = if is_data {
            PICTURE | if shard.0 == 0 { START } else { 0 } | if shard.0 + 1 == shard.1 { END } else { 0 }
        } else {
            packet.flags
        };
        let right = packet.first_byte == 0x90 && packet.multi_flags == 0x10 && packet.extra_flags == 0;
        if !right || packet.flags != wanted || packet.block > packet.last_block || packet.frame == 0 {
            self.counts.fault(format!("headers {packet:?}"));
        }
    }

    /// Of a block that is done with: no longer needed, but what it says can still be wrong.
    fn late(&mut self, packet: &Packet, bytes: &[u8]) {
        if let Some((block, _)) = &mut self.done
            && (block.frame, block.block) == (packet.frame, packet.block)
        {
            match block.add(packet, bytes) {
                Ok(true) => return,
                Ok(false) => self.counts.duplicates += 1,
                Err(fault) => self.counts.fault(fault),
            }
        }
        self.counts.late += 1;
    }

    /// No more packets of the block that is done: its parity is held against its data.
    fn judge(&mut self) {
        if let Some((block, whole)) = self.done.take() {
            match block.judge(&whole) {
                Ok(judged) => self.counts.parity_judged += judged as u64,
                Err(fault) => self.counts.fault(format!("frame {}: {fault}", block.frame)),
            }
        }
    }

    /// Gives up what is not whole, because a packet of something newer is there.
    fn skip_to(&mut self, packet: &Packet, events: &mut Vec<Event>) {
        if let Some(block) = self.current.take() {
            events.push(Event::Status(status(&block)));
        }
        self.next_number = None;
        self.next_index = None;
        self.gathered.clear();
        self.recovered = 0;
        let mut lost = packet.frame - self.frame;
        if packet.block != 0 {
            // The frame's first blocks are missing: it is lost as well.
            lost += 1;
        }
        self.frame += lost;
        self.block = 0;
        if lost > 0 {
            self.counts.lost += u64::from(lost);
            events.push(Event::Lost { frames: lost });
        }
    }

    fn add(&mut self, packet: &Packet, bytes: &[u8], events: &mut Vec<Event>) {
        if self.current.is_none() {
            self.judge();
            match Block::new(packet, self.packet_size) {
                Ok(block) => {
                    if self.next_number.is_some_and(|next| next != block.lowest) {
                        self.counts.fault(format!("packet {} instead of {:?}", block.lowest, self.next_number));
                    }
                    self.current = Some(block);
                }
                Err(fault) => return self.counts.fault(fault),
            }
        }
        let Some(block) = &mut self.current else { return };
        match block.add(packet, bytes) {
            Ok(true) => {}
            Ok(false) => {
                self.counts.duplicates += 1;
                return;
            }
            Err(fault) => return self.counts.fault(fault),
        }
        match block.complete() {
            Ok(None) => {}
            Ok(Some(whole)) => {
                self.counts.recovered_packets += whole.recovered as u64;
                self.recovered += whole.recovered;
                let Some(block) = self.current.take() else { return };
                if whole.recovered > 0 {
                    events.push(Event::Status(status(&block)));
                }
                self.finish(block, whole.shards, events);
            }
            Err(fault) => self.counts.fault(format!("frame {}: {fault}", packet.frame)),
        }
    }

    /// A block is whole.
    fn finish(&mut self, block: Block, shards: Vec<Vec<u8>>, events: &mut Vec<Event>) {
        for (place, shard) in shards.iter().enumerate() {
            let Some(packet) = Packet::parse(shard) else { continue };
            if self.next_index.is_some_and(|next| next != packet.index) {
                self.counts.fault(format!("data packet {} instead of {:?}", packet.index, self.next_index));
            }
            self.next_index = Some((packet.index + 1) & 0xff_ffff);
            let payload = &shard[HEADERS.min(shard.len())..];
            if block.block == 0 && place == 0 {
                self.first = payload.to_vec();
            }
            self.last_payload = payload.len();
            self.gathered.extend_from_slice(payload);
        }
        self.next_number = Some(block.end());
        let (is_last, blocks, frame) = (block.block == block.last_block, block.last_block + 1, block.frame);
        self.done = Some((block, shards));
        if !is_last {
            self.block += 1;
            return;
        }
        let payload = std::mem::take(&mut self.gathered);
        self.counts.blocked += u64::from(blocks > 1);
        match frame::assemble(frame, payload, &self.first, self.last_payload, self.recovered) {
            Ok(frame) => {
                self.counts.frames += 1;
                self.counts.recovered_frames += u64::from(frame.recovered > 0);
                self.counts.idrs += u64::from(frame.idr);
                events.push(Event::Frame(frame));
            }
            Err(fault) => self.counts.fault(format!("frame {frame}: {fault}")),
        }
        self.recovered = 0;
        self.frame += 1;
        self.block = 0;
    }
}

fn status(block: &Block) -> [u8; 21] {
    let mut body = [0; 21];
    body[..4].copy_from_slice(&block.frame.to_be_bytes());
    let words = [
        block.highest_seen,
        block.next_contiguous(),
        block.missing() as u16,
        block.data as u16,
        block.parity as u16,
        block.received_data as u16,
        block.received_parity as u16,
    ];
    for (place, word) in words.into_iter().enumerate() {
        body[4 + 2 * place..6 + 2 * place].copy_from_slice(&word.to_be_bytes());
    }
    body[18] = block.percentage() as u8;
    body[19] = block.block;
    body[20] = block.last_block + 1;
    body
}
