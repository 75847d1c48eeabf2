//! What a Moonlight client does with video packets, written from the rules of docs/gamestream.md §7 alone: it shares no
//! code with the packetizer, not even the field's arithmetic. Whatever a client refuses or asserts, panics here.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

const PICTURE: u8 = 1;
const LAST: u8 = 2;
const FIRST: u8 = 4;

/// What a client gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    pub index: u32,
    pub kind: u8,
    pub latency: u16,
    pub time: u32,
    pub bytes: Vec<u8>,
    pub recovered: usize,
}

/// What the packets of a block must agree on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Block {
    pub frame: u32,
    pub number: u8,
    pub last: u8,
    pub data: usize,
    pub parity: usize,
    pub percent: usize,
    pub base: u16,
    pub time: u32,
}

/// One packet's header, checked for itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    pub block: Block,
    pub index: usize,
}

pub struct Client {
    full: usize,
    key: Option<LessSafeKey>,
    /// Nonces seen; none may come twice.
    nonces: std::collections::HashSet<[u8; 12]>,
    frame: u32,
    number: u8,
    block: Option<Block>,
    shards: Vec<Option<Vec<u8>>>,
    /// Data packets of the frame's blocks so far, in order, with how many of them were recovered.
    ready: Vec<Vec<u8>>,
    recovered: usize,
    stream: u32,
    /// Where the next block begins, if every packet of the last was sent.
    pub next_base: u16,
}

impl Client {
    pub fn new(packet_size: u16, key: Option<[u8; 16]>) -> Self {
        Self {
            full: usize::from(packet_size) + 16,
            key: key.map(|key| LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap())),
            nonces: Default::default(),
            frame: 1,
            number: 0,
            block: None,
            shards: Vec::new(),
            ready: Vec::new(),
            recovered: 0,
            stream: 0,
            next_base: 0,
        }
    }

    /// Takes the encryption off a datagram.
    pub fn open(&mut self, datagram: &[u8]) -> Vec<u8> {
        let Some(key) = &self.key else { return datagram.to_vec() };
        let nonce: [u8; 12] = datagram[..12].try_into().unwrap();
        assert_eq!(nonce[11], b'V');
        assert!(self.nonces.insert(nonce), "a nonce came twice");
        let mut packet = vec![0; datagram.len() - 32];
        let nonce = Nonce::assume_unique_for_key(nonce);
        key.open_separate_gather(nonce, Aad::empty(), &datagram[32..], &datagram[16..32], &mut packet).unwrap();
        assert_eq!(datagram[12..16], packet[20..24], "the frame in the clear is the frame");
        packet
    }

    /// Reads and checks a packet's header.
    pub fn parse(&self, packet: &[u8]) -> Packet {
        let u16_be = |at: usize| u16::from_be_bytes(packet[at..at + 2].try_into().unwrap());
        let u32_be = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let u32_le = |at: usize| u32::from_le_bytes(packet[at..at + 4].try_into().unwrap());
        assert!(packet.len() > 32 && packet.len() <= self.full);
        assert_eq!(packet[0], 0x90);
        let info = u32_le(28);
        let (data, index, percent) = (info >> 22, info >> 12 & 0x3ff, info >> 4 & 0xff);
        assert_eq!(info & 0xf, 0);
        assert_eq!(packet[26], 0x10);
        assert_eq!(packet[27] & 0xf, 0);
        let [data, index, percent] = [data, index, percent].map(|value| value as usize);
        // moonlight-common-c's formula.
        #[allow(clippy::manual_div_ceil, reason = "as it is written there")]
        let parity = (data * percent + 99) / 100;
        assert!(data >= 1 && parity >= 2 && data + parity <= 255, "{data}+{parity}");
        assert!(index < data + parity);
        let block = Block {
            frame: u32_le(20),
            number: packet[27] >> 4 & 3,
            last: packet[27] >> 6,
            data,
            parity,
            percent,
            base: u16_be(2).wrapping_sub(index as u16),
            time: u32_be(4),
        };
        assert!(block.time != 0 && block.number <= block.last);
        if index < data {
            let flags = packet[24];
            assert_eq!(flags & !(PICTURE | LAST | FIRST), 0);
            assert_ne!(flags & PICTURE, 0);
            assert_eq!(flags & FIRST != 0, index == 0);
            assert_eq!(flags & LAST != 0, index == data - 1);
            assert_eq!(packet[25], 0);
        }
        // Only a frame's very last data packet may be short: a recovered one is as long as a full one.
        if packet.len() < self.full {
            assert!(index == data - 1 && block.number == block.last);
        }
        Packet { block, index }
    }

    /// Takes a datagram; gives a frame when it is whole.
    pub fn push(&mut self, datagram: &[u8]) -> Option<Frame> {
        let packet = self.open(datagram);
        let Packet { block, index } = self.parse(&packet);
        if (block.frame, block.number) < (self.frame, self.number) {
            return None;
        }
        if self.block.is_none() {
            assert_eq!((block.frame, block.number), (self.frame, self.number), "frames and blocks come in order");
            self.block = Some(block);
            self.shards = vec![None; block.data + block.parity];
        }
        assert_eq!(self.block, Some(block), "packets of a block agree");
        assert!(self.shards[index].is_none(), "a packet came twice");
        self.shards[index] = Some(packet);
        if self.shards.iter().flatten().count() < block.data {
            return None;
        }
        self.finish_block(block);
        (block.number == block.last).then(|| self.finish_frame(block))
    }

    fn finish_block(&mut self, block: Block) {
        let lost: Vec<usize> = (0..block.data).filter(|&index| self.shards[index].is_none()).collect();
        if !lost.is_empty() {
            self.recover(block, &lost);
        }
        self.recovered += lost.len();
        self.ready.extend(self.shards.drain(..).take(block.data).flatten());
        self.block = None;
        self.next_base = block.base.wrapping_add((block.data + block.parity) as u16);
        if block.number < block.last {
            self.number += 1;
        } else {
            (self.frame, self.number) = (self.frame.wrapping_add(1), 0);
        }
    }

    /// Gives lost data packets back, and then what parity does not carry of their headers.
    fn recover(&mut self, block: Block, lost: &[usize]) {
        for shard in self.shards.iter_mut().flatten() {
            shard.resize(self.full, 0);
        }
        let code = fec_rs::ReedSolomon::new(block.data, block.parity).unwrap();
        code.reconstruct_data(&mut self.shards).unwrap();
        for &index in lost {
            let packet = self.shards[index].as_mut().unwrap();
            packet[0] = 0x90;
            packet[2..4].copy_from_slice(&block.base.wrapping_add(index as u16).to_be_bytes());
            packet[4..8].copy_from_slice(&block.time.to_be_bytes());
            packet[20..24].copy_from_slice(&block.frame.to_le_bytes());
            packet[27] = block.last << 6 | block.number << 4;
            // What a client leaves as the code gave it, and does not look at again.
            packet[26] = 0x10;
            let info = block.data << 22 | index << 12 | block.percent << 4;
            packet[28..32].copy_from_slice(&(info as u32).to_le_bytes());
            let restored = self.shards[index].as_deref().unwrap();
            assert_eq!(self.parse(restored), Packet { block, index });
        }
    }

    fn finish_frame(&mut self, block: Block) -> Frame {
        let packets = std::mem::take(&mut self.ready);
        for packet in &packets {
            let stream = u32::from_le_bytes(packet[16..20].try_into().unwrap());
            assert_eq!(stream, self.stream << 8, "data packets are counted without a gap");
            self.stream = self.stream.wrapping_add(1);
        }
        let head: [u8; 8] = packets[0][32..40].try_into().unwrap();
        assert_eq!((head[0], head[6], head[7]), (1, 0, 0));
        let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
        let (last, before) = packets.split_last().unwrap();
        assert!(before.iter().all(|packet| packet.len() == self.full));
        assert!(last[32 + length..].iter().all(|&byte| byte == 0), "padding is zeros");
        let mut bytes: Vec<u8> = before.iter().flat_map(|packet| &packet[32..]).copied().collect();
        bytes.extend_from_slice(&last[32..32 + length]);
        Frame {
            index: block.frame,
            kind: head[3],
            latency: u16::from_le_bytes([head[1], head[2]]),
            time: block.time,
            bytes: bytes.split_off(8),
            recovered: std::mem::take(&mut self.recovered),
        }
    }
}
