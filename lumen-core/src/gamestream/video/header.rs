//! The bytes in front of payloads: RTP's header, GameStream's, and that of a frame. docs/gamestream.md §7.

use super::blocks::Block;

/// Bytes of a packet before its payload: 12 of RTP, 4 of an extension that says nothing, 16 of GameStream's header.
pub(super) const PACKET_HEADER: usize = 32;
/// Bytes of a frame before its access unit.
pub(super) const FRAME_HEADER: usize = 8;

/// RTP version 2 with an extension.
const RTP_FLAGS: u8 = 0x90;
/// Any would do; the first dynamic one promises nothing.
const RTP_TYPE: u8 = 96;
const FLAG_PICTURE: u8 = 1;
const FLAG_LAST: u8 = 2;
const FLAG_FIRST: u8 = 4;
/// What hosts with several blocks have in `multiFecFlags`.
const BLOCKS_KNOWN: u8 = 0x10;

/// What a frame is to a client; the numbers travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum FrameType {
    P = 1,
    Idr = 2,
}

/// The bytes before an access unit. `last` is the payload of the frame's last packet, these bytes included where that is
/// the first.
pub(super) fn frame_header(kind: FrameType, latency: u16, last: usize) -> [u8; FRAME_HEADER] {
    let [latency_low, latency_high] = latency.to_le_bytes();
    let [last_low, last_high] = (last as u16).to_le_bytes();
    [1, latency_low, latency_high, kind as u8, last_low, last_high, 0, 0]
}

/// Time since capture in tenths of a millisecond, rounded, at most what the field holds. 0 says that it is not known, so
/// what is known is at least 1.
pub(super) fn latency(captured_ns: Option<u64>, now_ns: u64) -> u16 {
    captured_ns.map_or(0, |captured| {
        let tenths = (now_ns.saturating_sub(captured) + 50_000) / 100_000;
        u16::try_from(tenths).unwrap_or(u16::MAX).max(1)
    })
}

/// RTP times of frames, at 90 kHz.
#[derive(Default, Debug)]
pub(super) struct Timestamps {
    first_ns: Option<u64>,
    last: u32,
}

impl Timestamps {
    /// Counts from the first frame's time. Always later than the one before, even if the picture is not: a picture can
    /// have been taken before an older one was sent again. Never 0, which says that there is no time.
    pub(super) fn next(&mut self, at_ns: u64) -> u32 {
        let first = *self.first_ns.get_or_insert(at_ns);
        let ticks = (at_ns.saturating_sub(first) / 1_000).wrapping_mul(9) / 100;
        let time = (ticks as u32).wrapping_add(1);
        let later = time.wrapping_sub(self.last).cast_signed() > 0;
        self.last = if later { time } else { self.last.wrapping_add(1) }.max(1);
        self.last
    }
}

/// What the packets of one block have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct BlockHeader {
    timestamp: u32,
    frame: u32,
    /// This block's number and the last's, as they travel.
    numbers: u8,
    block: Block,
}

impl BlockHeader {
    /// Of the block `number` of `count`.
    pub(super) fn new(timestamp: u32, frame: u32, number: usize, count: usize, block: Block) -> Self {
        let numbers = (number as u8) << 4 | (count as u8 - 1) << 6;
        Self { timestamp, frame, numbers, block }
    }

    pub(super) fn frame(&self) -> u32 {
        self.frame
    }

    /// Of a data packet, at position `index` of the block. `stream` counts data packets.
    pub(super) fn write_data(&self, packet: &mut [u8], index: usize, sequence: u16, stream: u32) {
        let first = if index == 0 { FLAG_FIRST } else { 0 };
        let last = if index + 1 == self.block.data { FLAG_LAST } else { 0 };
        packet[16..20].copy_from_slice(&(stream << 8).to_le_bytes());
        packet[24] = FLAG_PICTURE | first | last;
        self.write_parity(packet, index, sequence);
    }

    /// Of a parity packet: all but the fields that a client restores lost packets' from.
    pub(super) fn write_parity(&self, packet: &mut [u8], index: usize, sequence: u16) {
        packet[0] = RTP_FLAGS;
        packet[1] = RTP_TYPE;
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        packet[8..12].fill(0);
        packet[20..24].copy_from_slice(&self.frame.to_le_bytes());
        packet[26] = BLOCKS_KNOWN;
        packet[27] = self.numbers;
        let shape = (self.block.data as u32) << 22 | (index as u32) << 12 | u32::from(self.block.percent) << 4;
        packet[28..32].copy_from_slice(&shape.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_rounded_and_bounded() {
        assert_eq!(latency(None, 5_000_000), 0);
        assert_eq!(latency(Some(0), 3_449_999), 34);
        assert_eq!(latency(Some(0), 3_450_000), 35);
        assert_eq!(latency(Some(7), 7), 1, "unknown is another thing than fast");
        assert_eq!(latency(Some(9), 7), 1);
        assert_eq!(latency(Some(0), u64::MAX - 50_000), u16::MAX);
    }

    #[test]
    fn times_grow_from_one() {
        let mut times = Timestamps::default();
        let start = 77_000_000_000;
        assert_eq!(times.next(start), 1);
        assert_eq!(times.next(start + 1_000_000_000), 90_001);
        assert_eq!(times.next(start + 990_000_000), 90_002, "taken before what was sent");
        assert_eq!(times.next(start - 5), 90_003);
        assert_eq!(times.next(start + 2_000_000_000), 180_001);
    }

    #[test]
    fn times_wrap_without_saying_zero() {
        let period = (u64::from(u32::MAX) + 1) * 100_000 / 9;
        let mut times = Timestamps { first_ns: Some(0), last: u32::MAX - 5 };
        for step in 0..20 {
            let before = times.last;
            let time = times.next(period - 40_000 + step * 12_000);
            assert!(time != 0 && time.wrapping_sub(before) <= 6, "{before} then {time}");
        }
        assert!(times.last < 30);
    }
}
