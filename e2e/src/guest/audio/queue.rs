//! From packets of sound to a row without holes, as far as parity reaches (moonlight-common-c, RtpAudioQueue.c).

use std::collections::BTreeMap;

use fec_rs::ReedSolomon;

const DATA: usize = 4;
const PARITY: usize = 2;
const HEADER: usize = 12;
const PARITY_HEADER: usize = 12;
/// The code's fixed rows.
const ROWS: [u8; DATA * PARITY] = [0x77, 0x40, 0x38, 0x0e, 0xc7, 0xa7, 0x0d, 0x6c];
/// Blocks behind the newest one in which a missing packet is still waited for.
const PATIENCE: i64 = 2;
const TOLD: usize = 20;

/// What came of the packets, in order.
#[derive(PartialEq, Eq, Debug)]
pub enum Event {
    /// A packet's payload, encrypted or not, by its number.
    Packet(u16, Vec<u8>),
    Lost,
}

#[derive(Clone, Default, Debug)]
pub struct Counts {
    pub packets: u64,
    pub parity_packets: u64,
    pub parity_judged: u64,
    pub recovered: u64,
    pub lost: u64,
    pub late: u64,
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

#[derive(Default)]
struct Block {
    shards: [Option<Vec<u8>>; DATA + PARITY],
    recovered: [bool; DATA],
}

pub struct Queue {
    packet_ms: u32,
    /// Number and time of a packet that all others follow from.
    origin: Option<(i64, u32)>,
    /// The next to be played; counted on where the number on the wire wraps.
    next: i64,
    newest: i64,
    size: Option<usize>,
    blocks: BTreeMap<i64, Block>,
    code: ReedSolomon,
    pub counts: Counts,
}

impl Queue {
    pub fn new(packet_ms: u32) -> anyhow::Result<Self> {
        let mut code = ReedSolomon::new(DATA, PARITY).map_err(|error| anyhow::anyhow!("{error}"))?;
        code.set_parity_matrix(&ROWS).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self {
            packet_ms,
            origin: None,
            next: 0,
            newest: 0,
            size: None,
            blocks: BTreeMap::new(),
            code,
            counts: Counts::default(),
        })
    }

    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        self.counts.packets += 1;
        if let Err(fault) = self.add(bytes) {
            self.counts.fault(fault);
        }
        self.play(events);
    }

    fn add(&mut self, bytes: &[u8]) -> Result<(), String> {
        if bytes.len() <= HEADER || bytes[0] != 0x80 {
            return Err(format!("{} bytes of sound that begin with {:?}", bytes.len(), bytes.first()));
        }
        let (number, time) = numbers(bytes);
        match bytes[1] {
            97 => self.place(number, time, &bytes[HEADER..], None),
            127 if bytes.len() > HEADER + PARITY_HEADER => {
                self.counts.parity_packets += 1;
                let header = &bytes[HEADER..HEADER + PARITY_HEADER];
                let (base, base_time) = numbers(header);
                let known = usize::from(header[0]) < PARITY && header[1] == 97 && header[8..12] == bytes[8..12];
                if !known || !base.is_multiple_of(DATA as u16) {
                    return Err(format!("parity header {header:?}"));
                }
                self.place(base, base_time, &bytes[HEADER + PARITY_HEADER..], Some(usize::from(header[0])))
            }
            other => Err(format!("a packet of type {other}")),
        }
    }

    /// Puts a payload where it belongs.
    fn place(&mut self, number: u16, time: u32, payload: &[u8], parity: Option<usize>) -> Result<(), String> {
        let &mut (first, first_time) = self.origin.get_or_insert_with(|| {
            // A client begins with the next whole block.
            self.next = (i64::from(number) / DATA as i64 + 1) * DATA as i64;
            self.newest = i64::from(number);
            (i64::from(number), time)
        });
        let index = self.newest + i64::from(number.wrapping_sub(self.newest as u16) as i16);
        let wanted = first_time.wrapping_add((index - first) as u32 * self.packet_ms);
        if time != wanted {
            return Err(format!("packet {number} has time {time} instead of {wanted}"));
        }
        if *self.size.get_or_insert(payload.len()) != payload.len() {
            return Err(format!("packet {number} has {} bytes, the first had {:?}", payload.len(), self.size));
        }
        self.newest = self.newest.max(index);
        let base = index.div_euclid(DATA as i64) * DATA as i64;
        // Done with, but kept for a while to be judged.
        if base + (DATA as i64) * (PATIENCE + 2) <= self.next {
            self.counts.late += 1;
            return Ok(());
        }
        if base < self.next - self.next.rem_euclid(DATA as i64) && !self.blocks.contains_key(&base) {
            return Ok(());
        }
        let block = self.blocks.entry(base).or_default();
        let shard = parity.map_or((index - base) as usize, |parity| DATA + parity);
        if let Some(recovered) = block.recovered.get(shard).filter(|&&recovered| recovered) {
            debug_assert!(recovered);
            if block.shards[shard].as_deref() != Some(payload) {
                return Err(format!("packet {number} is not what parity made of it"));
            }
        }
        block.shards[shard] = Some(payload.to_vec());
        Ok(())
    }

    /// Hands out what is next, as far as it is there or will never be.
    fn play(&mut self, events: &mut Vec<Event>) {
        if self.origin.is_none() {
            return;
        }
        while self.next <= self.newest {
            let base = self.next.div_euclid(DATA as i64) * DATA as i64;
            let shard = (self.next - base) as usize;
            let is_old = self.newest >= base + (PATIENCE + 1) * DATA as i64;
            let block = self.blocks.entry(base).or_default();
            if block.shards[shard].is_none() && block.shards.iter().flatten().count() >= DATA {
                let missing: Vec<usize> = (0..DATA).filter(|&place| block.shards[place].is_none()).collect();
                match self.code.reconstruct_data(&mut block.shards) {
                    Ok(()) => missing.iter().for_each(|&place| block.recovered[place] = true),
                    Err(error) => self.counts.fault(error.to_string()),
                }
                self.counts.recovered += missing.len() as u64;
            }
            match &block.shards[shard] {
                Some(payload) => events.push(Event::Packet(self.next as u16, payload.clone())),
                None if is_old => {
                    self.counts.lost += 1;
                    events.push(Event::Lost);
                }
                None => break,
            }
            self.next += 1;
        }
        self.judge();
    }

    /// Holds blocks that nothing more will come of against their parity.
    fn judge(&mut self) {
        let end = self.next - (PATIENCE + 1) * DATA as i64;
        while let Some(block) = self.blocks.first_entry().filter(|entry| *entry.key() < end) {
            let (base, block) = block.remove_entry();
            let Some(size) = self.size else { continue };
            let data: Option<Vec<Vec<u8>>> = block.shards[..DATA].iter().cloned().collect();
            let Some(mut shards) = data else { continue };
            shards.resize(DATA + PARITY, vec![0; size]);
            if let Err(error) = self.code.encode(&mut shards) {
                self.counts.fault(error.to_string());
            }
            for (received, wanted) in block.shards.iter().zip(&shards).skip(DATA) {
                self.counts.parity_judged += u64::from(received.is_some());
                if received.as_ref().is_some_and(|received| received != wanted) {
                    self.counts.fault(format!("parity of block {base} is wrong"));
                }
            }
        }
    }
}

fn numbers(header: &[u8]) -> (u16, u32) {
    (u16::from_be_bytes([header[2], header[3]]), u32::from_be_bytes([header[4], header[5], header[6], header[7]]))
}
