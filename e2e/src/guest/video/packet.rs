//! One packet of video: its headers, by the rules of moonlight-common-c (Video.h, RtpVideoQueue.c).

/// RTP, four zeros, and the header behind them.
pub const HEADERS: usize = 32;
/// What lies before the part of a packet that `packetSize` counts.
pub const PREFIX: usize = 16;

pub const PICTURE: u8 = 1;
pub const END: u8 = 2;
pub const START: u8 = 4;

/// What a packet's headers say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    pub first_byte: u8,
    pub number: u16,
    pub time: u32,
    /// Of the data packets of all frames, 24 bits.
    pub index: u32,
    pub frame: u32,
    pub flags: u8,
    pub extra_flags: u8,
    pub multi_flags: u8,
    pub block: u8,
    pub last_block: u8,
    /// Shards of data in the block.
    pub data: usize,
    /// This packet's among all shards of the block.
    pub shard: usize,
    pub percentage: usize,
}

impl Packet {
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.get(..HEADERS)?;
        let big = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let little = |at: usize| big(at).swap_bytes();
        let fec = little(28);
        Some(Self {
            first_byte: header[0],
            number: big(0) as u16,
            time: big(4),
            index: little(16) >> 8,
            frame: little(20),
            flags: header[24],
            extra_flags: header[25],
            multi_flags: header[26],
            block: header[27] >> 4 & 3,
            last_block: header[27] >> 6,
            data: (fec >> 22) as usize,
            shard: (fec >> 12 & 0x3ff) as usize,
            percentage: (fec >> 4 & 0xff) as usize,
        })
    }

    /// As the client computes it.
    pub const fn parity(&self) -> usize {
        (self.data * self.percentage).div_ceil(100)
    }
}
