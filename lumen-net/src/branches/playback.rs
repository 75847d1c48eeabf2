//! The consumer's end of a session's audio ring, over its generations.

use ipc::Generation;
use ipc::shm::Violation;

use super::Inflow;

/// Packets in a row that the audio plane may have dropped for want of room: a minute of them. More is a lie.
const GAP: u32 = 60 * 200;

/// Packets on their way out of the audio plane.
#[derive(Default)]
pub struct Playback {
    ring: Option<Inflow>,
    wired: Option<Generation>,
    /// The next packet's number in the ring.
    next: u32,
}

/// One packet of sound.
pub struct Played<'a> {
    /// How many the plane had to drop before it.
    pub skipped: u32,
    /// When its first sample was captured.
    pub captured_ns: u64,
    pub opus: &'a [u8],
}

impl Playback {
    pub fn ring(&self) -> Option<&Inflow> {
        self.ring.as_ref()
    }

    /// A generation that is not newer than the one before is stale and ignored.
    pub fn wire(&mut self, ring: Inflow) {
        if self.wired < Some(ring.generation()) {
            self.wired = Some(ring.generation());
            self.ring = Some(ring);
            self.next = 0;
        }
    }

    pub fn retire(&mut self, generation: Generation) {
        self.ring.take_if(|ring| ring.generation() == generation);
    }

    /// Drops the ring, and says of which generation it was.
    pub fn let_go(&mut self) -> Option<Generation> {
        self.ring.take().map(|ring| ring.generation())
    }

    /// Takes the oldest packet.
    pub fn take(&mut self) -> Result<Option<Played<'_>>, Violation> {
        let Some(ring) = &mut self.ring else { return Ok(None) };
        let Some((header, opus)) = ring.take()? else { return Ok(None) };
        let skipped = header.frame.wrapping_sub(self.next);
        if skipped > GAP {
            return Err(Violation("packets are not in order"));
        }
        self.next = header.frame.wrapping_add(1);
        Ok(Some(Played { skipped, captured_ns: header.captured_ns, opus }))
    }
}
