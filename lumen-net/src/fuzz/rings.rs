//! Sound and rumble out of the rings of planes in bad hands.

use std::os::fd::AsFd;

use ipc::event::Event;
use ipc::ring::{ChunkHeader, Ring, RingProducer};
use ipc::shm::sealed_memfd;
use ipc::{Generation, RingFds, RingGeometry};
use lumen_core::audio::MAX_PACKET;

use crate::branches::{Haptics, Inflow, Playback, Tally};

/// Of the same frames as theirs, and as small as a ring can be.
const SOUND: RingGeometry = RingGeometry { capacity: 64 * 1024, ..RingGeometry::AUDIO };

/// The consumers, and the producers' ends of their rings.
pub struct Rings {
    playback: Playback,
    haptics: Haptics,
    tally: Tally,
    sound: RingProducer,
    rumble: RingProducer,
}

impl Rings {
    /// Must be made inside a runtime.
    pub fn new() -> Self {
        let (sound, audio) = ring(SOUND);
        let (rumble, pads) = ring(RingGeometry::HAPTICS);
        let (mut playback, mut haptics) = (Playback::default(), Haptics::default());
        playback.wire(audio);
        haptics.wire(pads);
        Self { playback, haptics, tally: Tally::default(), sound, rumble }
    }

    pub fn sound(&mut self, header: ChunkHeader, payload: &[u8]) {
        put(&mut self.sound, header, payload);
    }

    pub fn rumble(&mut self, header: ChunkHeader, payload: &[u8]) {
        put(&mut self.rumble, header, payload);
    }

    /// Takes all that is there, as long as it is in order.
    pub fn take(&mut self, now_ns: u64) {
        while let Ok(Some(played)) = self.playback.take() {
            assert!(played.opus.len() <= MAX_PACKET && played.skipped <= 60 * 200);
        }
        if self.haptics.take().is_err() {
            self.haptics.retire();
        }
        let mut sent = 0;
        self.haptics.send(true, now_ns, &self.tally, |_| {
            sent += 1;
            true
        });
        assert!(sent <= 16, "more states than pads");
    }
}

impl Default for Rings {
    fn default() -> Self {
        Self::new()
    }
}

fn put(ring: &mut RingProducer, header: ChunkHeader, payload: &[u8]) {
    if let Some(mut writer) = ring.reserve() {
        // More than the ring takes is refused, and the frame aborted.
        let _ = writer.commit(header, payload);
    }
}

fn ring(geometry: RingGeometry) -> (RingProducer, Inflow) {
    let memory = sealed_memfd("fuzz", Ring::memory_size(&geometry)).expect("there is memory");
    let event = || Event::new().expect("there are descriptors");
    let producer = RingProducer::attach(memory.as_fd(), event(), event(), geometry).expect("a ring");
    let fds = RingFds { memory, data: event().into_fd(), credit: event().into_fd(), geometry };
    (producer, Inflow::attach(Generation(1), fds).expect("a ring"))
}
