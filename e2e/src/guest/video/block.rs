//! One block of a frame's shards, until it is whole.

use fec_rs::ReedSolomon;

use super::packet::{END, HEADERS, PICTURE, PREFIX, Packet, START};

/// Shards of one block, data first.
#[derive(Debug)]
pub struct Block {
    pub frame: u32,
    pub block: u8,
    pub last_block: u8,
    pub data: usize,
    pub parity: usize,
    percentage: usize,
    /// Number of its first packet.
    pub lowest: u16,
    shards: Vec<Option<Vec<u8>>>,
    pub received_data: usize,
    pub received_parity: usize,
    /// Bytes of each shard.
    size: usize,
    pub highest_seen: u16,
}

/// A whole block's data.
pub struct Whole {
    /// Data shards, each as its packet was.
    pub shards: Vec<Vec<u8>>,
    pub recovered: usize,
}

impl Block {
    /// The block that a packet belongs to; an error names what is impossible about it.
    pub fn new(packet: &Packet, packet_size: usize) -> Result<Self, String> {
        let parity = packet.parity();
        if packet.data == 0 || packet.data + parity > 255 {
            return Err(format!("{} data and {parity} parity shards", packet.data));
        }
        if parity < 2 {
            return Err(format!("{parity} parity shards for {} of data", packet.data));
        }
        Ok(Self {
            frame: packet.frame,
            block: packet.block,
            last_block: packet.last_block,
            data: packet.data,
            parity,
            percentage: packet.percentage,
            lowest: packet.number.wrapping_sub(packet.shard as u16),
            shards: vec![None; packet.data + parity],
            received_data: 0,
            received_parity: 0,
            size: packet_size + PREFIX,
            highest_seen: packet.number,
        })
    }

    pub const fn received(&self) -> usize {
        self.received_data + self.received_parity
    }

    /// Number of the packet behind its last.
    pub const fn end(&self) -> u16 {
        self.lowest.wrapping_add(self.shards.len() as u16)
    }

    pub const fn percentage(&self) -> usize {
        self.percentage
    }

    /// Packets before the highest one seen that are missing.
    pub fn missing(&self) -> usize {
        usize::from(self.highest_seen.wrapping_sub(self.lowest)) + 1 - self.received()
    }

    /// Number of the first packet that is missing.
    pub fn next_contiguous(&self) -> u16 {
        let first = self.shards.iter().position(Option::is_none).unwrap_or(self.shards.len());
        self.lowest.wrapping_add(first as u16)
    }

    /// Takes a packet in; false for one that is there already.
    pub fn add(&mut self, packet: &Packet, bytes: &[u8]) -> Result<bool, String> {
        let same = (packet.data, packet.percentage, packet.last_block) == (self.data, self.percentage, self.last_block);
        if !same || packet.number != self.lowest.wrapping_add(packet.shard as u16) {
            return Err(format!("{packet:?} in the block of {} + {} from {}", self.data, self.parity, self.lowest));
        }
        let Some(place) = self.shards.get_mut(packet.shard) else {
            return Err(format!("shard {} of {}", packet.shard, self.shards.len()));
        };
        let is_short = packet.shard + 1 == self.data && packet.block == packet.last_block;
        if bytes.len() > self.size || bytes.len() < self.size && !is_short {
            return Err(format!("{} bytes of shard {} of {}", bytes.len(), packet.shard, self.data));
        }
        if place.is_some() {
            return Ok(false);
        }
        *place = Some(bytes.to_vec());
        if packet.number.wrapping_sub(self.highest_seen) < 0x8000 {
            self.highest_seen = packet.number;
        }
        match packet.shard < self.data {
            true => self.received_data += 1,
            false => self.received_parity += 1,
        }
        Ok(true)
    }

    /// Its data, as soon as enough is there.
    pub fn complete(&self) -> Result<Option<Whole>, String> {
        if self.received() < self.data {
            return Ok(None);
        }
        let recovered = self.data - self.received_data;
        if recovered == 0 {
            let shards = self.shards[..self.data].iter().flatten().cloned().collect();
            return Ok(Some(Whole { shards, recovered }));
        }
        let mut shards = self.shards.clone();
        for shard in shards.iter_mut().flatten() {
            shard.resize(self.size, 0);
        }
        let code = ReedSolomon::new(self.data, self.parity).map_err(|error| error.to_string())?;
        code.reconstruct_data(&mut shards).map_err(|error| error.to_string())?;
        shards.truncate(self.data);
        let mut shards: Vec<Vec<u8>> = shards.into_iter().flatten().collect();
        for (place, shard) in shards.iter_mut().enumerate() {
            match &self.shards[place] {
                Some(received) => shard.truncate(received.len()),
                None => self.mend(place, shard)?,
            }
        }
        Ok(Some(Whole { shards, recovered }))
    }

    /// Puts back what the client knows of a recovered shard and parity does not; the rest must make sense.
    fn mend(&self, place: usize, shard: &mut [u8]) -> Result<(), String> {
        shard[0] = 0x90;
        shard[2..4].copy_from_slice(&self.lowest.wrapping_add(place as u16).to_be_bytes());
        shard[20..24].copy_from_slice(&self.frame.to_le_bytes());
        shard[26] = 0x10;
        shard[27] = self.block << 4 | self.last_block << 6;
        let fec = (self.data as u32) << 22 | (place as u32) << 12 | (self.percentage as u32) << 4;
        shard[28..32].copy_from_slice(&fec.to_le_bytes());
        let flags = shard[24];
        let wrong = flags & !(PICTURE | END | START) != 0
            || place == 0 && flags & START == 0
            || place + 1 == self.data && flags & END == 0
            || flags & PICTURE == 0;
        if wrong { Err(format!("a recovered shard {place} of {} has flags {flags:#x}", self.data)) } else { Ok(()) }
    }

    /// Holds what has arrived, parity and late data too, against the data, byte by byte; call it when no more packets will
    /// come. Returns how many parity packets were compared.
    pub fn judge(&self, whole: &[Vec<u8>]) -> Result<usize, String> {
        if self.received_parity == 0 {
            return Ok(0);
        }
        let mut shards: Vec<Vec<u8>> = whole.to_vec();
        shards.resize(self.data + self.parity, Vec::new());
        for shard in &mut shards {
            shard.resize(self.size, 0);
        }
        let code = ReedSolomon::new(self.data, self.parity).map_err(|error| error.to_string())?;
        code.encode(&mut shards).map_err(|error| error.to_string())?;
        for (place, (received, wanted)) in self.shards.iter().zip(&shards).enumerate() {
            let Some(received) = received else { continue };
            // What a packet's own headers have overwritten cannot be compared.
            let parts = [16..20, 24..26, HEADERS..received.len()];
            if parts.into_iter().any(|part| received[part.clone()] != wanted[part]) {
                return Err(format!("shard {place} of {} + {} is not what parity says", self.data, self.parity));
            }
        }
        Ok(self.received_parity)
    }
}
