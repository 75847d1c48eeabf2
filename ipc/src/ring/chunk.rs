//! The header before each chunk's payload.

use std::ops::BitOr;

use crate::shm::Violation;

/// What a chunk is in its frame. Only the flags named here exist; see [`ChunkFlags::from_bits`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ChunkFlags(u32);

impl ChunkFlags {
    pub const NONE: Self = Self(0);
    /// The first chunk of a frame. Set by the ring itself.
    pub const FIRST: Self = Self(1);
    /// The last chunk of a frame.
    pub const LAST: Self = Self(2);
    /// The frame is an IDR.
    pub const IDR: Self = Self(4);
    /// The frame repeats a still picture.
    pub const STILL: Self = Self(8);
    /// The frame ends here, unfinished, and is to be forgotten.
    pub const ABORTED: Self = Self(16);

    /// `None` if a bit is set that means nothing.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits < 32 { Some(Self(bits)) } else { None }
    }

    pub const fn bits(self) -> u32 {
        self.0
    }

    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// True if no further chunk of the frame follows.
    pub const fn ends_frame(self) -> bool {
        self.0 & (Self::LAST.0 | Self::ABORTED.0) != 0
    }

    pub(super) const fn with(self, flag: Self, set: bool) -> Self {
        if set { Self(self.0 | flag.0) } else { Self(self.0 & !flag.0) }
    }
}

impl BitOr for ChunkFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What travels before each chunk. Times are CLOCK_MONOTONIC nanoseconds, the first stages of the frame's ledger.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ChunkHeader {
    pub generation: u32,
    /// Counts from 0 in each generation; frame 0 is an IDR.
    pub frame: u32,
    pub flags: ChunkFlags,
    /// Bytes of payload. Set by the ring on commit.
    pub len: u32,
    pub captured_ns: u64,
    pub taken_ns: u64,
    pub converted_ns: u64,
    /// When this chunk's last slice was finished.
    pub sliced_ns: u64,
}

/// A header as it lies in shared memory, in 64-bit words.
pub(super) const HEADER_WORDS: usize = 6;
pub(super) const HEADER_BYTES: u64 = 8 * HEADER_WORDS as u64;
/// Chunks begin at multiples of this.
pub(super) const UNIT: u64 = 16;

impl ChunkHeader {
    pub(super) fn to_words(self) -> [u64; HEADER_WORDS] {
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        [
            pair(self.generation, self.frame),
            pair(self.flags.0, self.len),
            self.captured_ns,
            self.taken_ns,
            self.converted_ns,
            self.sliced_ns,
        ]
    }

    pub(super) fn from_words(words: [u64; HEADER_WORDS]) -> Result<Self, Violation> {
        let [names, shape, captured_ns, taken_ns, converted_ns, sliced_ns] = words;
        Ok(Self {
            generation: names as u32,
            frame: (names >> 32) as u32,
            flags: ChunkFlags::from_bits(shape as u32).ok_or(Violation("a chunk has unknown flags"))?,
            len: (shape >> 32) as u32,
            captured_ns,
            taken_ns,
            converted_ns,
            sliced_ns,
        })
    }

    /// Bytes of the ring that this chunk takes: header and payload, rounded so that the next header is aligned.
    pub(super) fn span(&self) -> u64 {
        (HEADER_BYTES + u64::from(self.len)).next_multiple_of(UNIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip() {
        let header = ChunkHeader {
            generation: 1,
            frame: u32::MAX,
            flags: ChunkFlags::FIRST | ChunkFlags::IDR,
            len: 77,
            captured_ns: u64::MAX,
            taken_ns: 2,
            converted_ns: 3,
            sliced_ns: 4,
        };
        assert_eq!(ChunkHeader::from_words(header.to_words()), Ok(header));
        assert_eq!(header.span(), 128);
        for bit in 5..32 {
            let mut words = header.to_words();
            words[1] |= 1 << bit;
            assert!(ChunkHeader::from_words(words).is_err(), "bit {bit}");
        }
    }
}
