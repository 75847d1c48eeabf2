//! Sizes of rings: what one frame may cost, and how much memory that needs.

use lumen_core::Mode;

use crate::msg::RingGeometry;
use crate::shm::ShmError;

/// Bytes of shared memory before the data area: the largest page size Linux has, so that the data area can be mapped
/// on its own everywhere. Untouched pages of a memfd cost nothing.
pub const CONTROL_BYTES: usize = 64 * 1024;

/// What a chunk costs at most beside its payload: its header and the rounding to the next chunk.
pub(super) const CHUNK_OVERHEAD: u64 = 64;

const MIN_CAPACITY: u32 = 64 * 1024;
const MAX_CAPACITY: u32 = 64 * 1024 * 1024;
const MAX_CHUNKS: u32 = 1024;

impl RingGeometry {
    /// The feedback ring from net to encode: dozens of eight-byte messages.
    pub const FEEDBACK: Self = Self { capacity: MIN_CAPACITY, frame_bytes: 8, frame_chunks: 1 };

    /// The audio ring from audio to net: 1.7 s of the largest packets, so that a stall of net costs latency nowhere.
    pub const AUDIO: Self =
        Self { capacity: 4 * MIN_CAPACITY, frame_bytes: lumen_core::audio::MAX_PACKET as u32, frame_chunks: 1 };

    /// The input ring from net to input: some 600 events, half a second of a fast mouse.
    pub const INPUT: Self =
        Self { capacity: MIN_CAPACITY, frame_bytes: lumen_core::input::MAX_EVENT as u32, frame_chunks: 1 };

    /// The haptics ring from input to net.
    pub const HAPTICS: Self =
        Self { capacity: MIN_CAPACITY, frame_bytes: lumen_core::input::RUMBLE_BYTES as u32, frame_chunks: 1 };

    /// A video ring that always has room for one frame while another is being sent. A frame may be six times the
    /// average of its bitrate, and at least 192 KiB so that an IDR of a busy desktop fits at low bitrates too.
    pub fn video(mode: Mode, bitrate_kbps: u32) -> Self {
        // Microseconds: nanoseconds would overflow at bitrates that a client may well ask for.
        let average = u64::from(bitrate_kbps) * 125 * (mode.frame_interval_ns() / 1000) / 1_000_000;
        let frame_bytes = (average * 6).clamp(192 * 1024, 8 * 1024 * 1024) as u32;
        let mut geometry = Self { capacity: MIN_CAPACITY, frame_bytes, frame_chunks: 64 };
        while u64::from(geometry.capacity) < 2 * geometry.frame_credit() {
            geometry.capacity *= 2;
        }
        geometry
    }

    /// Most bytes of the ring that one frame takes, the chunk that aborts it included.
    pub(super) fn frame_credit(&self) -> u64 {
        u64::from(self.frame_bytes) + (u64::from(self.frame_chunks) + 1) * CHUNK_OVERHEAD
    }

    /// Checks what came over a link: a power of two of 64 KiB to 64 MiB that holds a whole frame.
    pub fn check(&self) -> Result<(), ShmError> {
        if !self.capacity.is_power_of_two() || !(MIN_CAPACITY..=MAX_CAPACITY).contains(&self.capacity) {
            return Err(ShmError::Geometry("a ring's capacity is a power of two from 64 KiB to 64 MiB"));
        }
        if self.frame_bytes == 0 || !(1..=MAX_CHUNKS).contains(&self.frame_chunks) {
            return Err(ShmError::Geometry("a ring's frame has at least one byte and 1 to 1024 chunks"));
        }
        if self.frame_credit() > u64::from(self.capacity) {
            return Err(ShmError::Geometry("a ring must hold one whole frame"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn video_rings_hold_two_frames() {
        for (mode, kbps) in [((128, 96, 10_000), 0), ((1280, 720, 60_000), 10_000), ((4096, 2304, 10_000), u32::MAX)] {
            let geometry = RingGeometry::video(Mode::new(mode.0, mode.1, mode.2).unwrap(), kbps);
            geometry.check().unwrap();
            assert!(2 * geometry.frame_credit() <= u64::from(geometry.capacity));
        }
        RingGeometry::FEEDBACK.check().unwrap();
    }

    #[test]
    fn refuses_impossible_geometries() {
        let good = RingGeometry::FEEDBACK;
        for bad in [
            RingGeometry { capacity: 0, ..good },
            RingGeometry { capacity: 4096, ..good },
            RingGeometry { capacity: 65_537, ..good },
            RingGeometry { capacity: 1 << 31, ..good },
            RingGeometry { frame_bytes: 0, ..good },
            RingGeometry { frame_bytes: 65_536, ..good },
            RingGeometry { frame_bytes: u32::MAX, ..good },
            RingGeometry { frame_chunks: 0, ..good },
            RingGeometry { frame_chunks: u32::MAX, ..good },
        ] {
            assert!(matches!(bad.check(), Err(ShmError::Geometry(_))), "{bad:?}");
        }
    }
}
