//! Sound on the wire: channel layouts, how Opus carries them, and the datagram of one packet. PROTOCOL.md §15.

pub mod tracker;

use serde::{Deserialize, Serialize};

use crate::cursor::Reader;

/// First byte of an audio datagram.
pub const AUDIO_DATAGRAM: u8 = 0xC9;
/// Samples a second of every stream.
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples of each channel in one packet: 5 ms.
pub const FRAME_SAMPLES: usize = 240;
/// Nanoseconds of one packet.
pub const FRAME_NS: u64 = 5_000_000;
/// Most channels of any layout.
pub const MAX_CHANNELS: usize = 8;
/// Most bytes of one Opus packet, of any layout and bit rate that this project uses.
pub const MAX_PACKET: usize = 1100;
/// Bytes of an audio datagram before its Opus packet.
pub const HEADER_BYTES: usize = 1 + 4 + 8;

/// Appends what stands before the Opus packet in a datagram. `seq` counts the session's packets from 0 and wraps;
/// `pts_ns` is the host's CLOCK_MONOTONIC when the first sample was captured.
pub fn encode_header(seq: u32, pts_ns: u64, out: &mut Vec<u8>) {
    out.push(AUDIO_DATAGRAM);
    out.extend_from_slice(&seq.to_le_bytes());
    out.extend_from_slice(&pts_ns.to_le_bytes());
}

/// Sequence number, capture time in ns and Opus packet of a datagram; `None` if it is none, or the packet is empty or
/// longer than [`MAX_PACKET`]. What the packet holds is for a decoder to judge.
pub fn parse(datagram: &[u8]) -> Option<(u32, u64, &[u8])> {
    let mut reader = Reader::new(datagram.strip_prefix(&[AUDIO_DATAGRAM])?);
    let (seq, pts_ns, packet) = (reader.u32().ok()?, reader.u64().ok()?, reader.rest());
    if packet.is_empty() || packet.len() > MAX_PACKET { None } else { Some((seq, pts_ns, packet)) }
}

/// How much sound one packet holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum PacketTime {
    /// 5 ms: what lumen/1 always has.
    Five,
    /// 10 ms: what some GameStream clients want.
    Ten,
}

impl PacketTime {
    /// Samples of each channel.
    pub const fn samples(self) -> usize {
        match self {
            Self::Five => FRAME_SAMPLES,
            Self::Ten => 2 * FRAME_SAMPLES,
        }
    }

    /// Nanoseconds.
    pub const fn ns(self) -> u64 {
        match self {
            Self::Five => FRAME_NS,
            Self::Ten => 2 * FRAME_NS,
        }
    }
}

/// Speakers, in the order in which samples are interleaved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub enum AudioLayout {
    /// FL FR
    Stereo,
    /// FL FR FC LFE RL RR
    Surround51,
    /// FL FR FC LFE RL RR SL SR
    Surround71,
}

impl AudioLayout {
    pub const ALL: [Self; 3] = [Self::Stereo, Self::Surround51, Self::Surround71];

    pub const fn channels(self) -> usize {
        match self {
            Self::Stereo => 2,
            Self::Surround51 => 6,
            Self::Surround71 => 8,
        }
    }

    pub fn from_channels(channels: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|layout| layout.channels() == usize::from(channels))
    }

    /// Streams of the Opus multistream packet, those of two channels included.
    pub const fn streams(self) -> u8 {
        match self {
            Self::Stereo => 1,
            Self::Surround51 => 4,
            Self::Surround71 => 5,
        }
    }

    /// Streams that carry two channels; they come first.
    pub const fn coupled(self) -> u8 {
        match self {
            Self::Stereo => 1,
            Self::Surround51 => 2,
            Self::Surround71 => 3,
        }
    }

    /// For each channel, in order, the decoded channel of the streams that it is (RFC 7845 §5.1.1).
    pub const fn mapping(self) -> &'static [u8] {
        match self {
            Self::Stereo => &[0, 1],
            Self::Surround51 => &[0, 1, 4, 5, 2, 3],
            Self::Surround71 => &[0, 1, 6, 7, 2, 3, 4, 5],
        }
    }

    /// Bits a second, hard CBR, in kbit/s.
    pub const fn bitrate_kbps(self) -> u32 {
        match self {
            Self::Stereo => 128,
            Self::Surround51 => 320,
            Self::Surround71 => 448,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_of_the_protocol() {
        let mut datagram = Vec::new();
        encode_header(5, 0x0102_0304_0506_0708, &mut datagram);
        datagram.extend_from_slice(&[0xFC, 0xFF, 0xFE]);
        assert_eq!(datagram, [0xC9, 5, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 0xFC, 0xFF, 0xFE]);
        assert_eq!(parse(&datagram), Some((5, 0x0102_0304_0506_0708, &[0xFC, 0xFF, 0xFE][..])));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        let mut datagram = Vec::new();
        encode_header(1, 2, &mut datagram);
        for end in 0..=HEADER_BYTES {
            assert_eq!(parse(&datagram[..end]), None);
        }
        datagram.resize(HEADER_BYTES + MAX_PACKET, 0);
        assert!(parse(&datagram).is_some());
        datagram.push(0);
        assert_eq!(parse(&datagram), None);
        datagram.truncate(100);
        datagram[0] = 0xCA;
        assert_eq!(parse(&datagram), None);
    }

    #[test]
    fn every_channel_is_carried_once() {
        for layout in AudioLayout::ALL {
            let mut mapping = layout.mapping().to_vec();
            assert_eq!(mapping.len(), usize::from(layout.streams() + layout.coupled()));
            mapping.sort_unstable();
            assert!(mapping.iter().copied().eq(0..layout.channels() as u8));
            assert_eq!(AudioLayout::from_channels(layout.channels() as u8), Some(layout));
            let packet = layout.bitrate_kbps() as usize * 1000 / 8 / 200;
            assert!(packet <= MAX_PACKET);
        }
    }
}
