//! From slots to packets in the ring: gain, encoder, header, and what there is to tell about them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::PoisonError;

use ipc::event::Event as Wake;
use ipc::plane::PlaneError;
use ipc::ring::{ChunkFlags, ChunkHeader, RingProducer};
use ipc::{AudioStats, AudioWiring, Generation, PlaneKind, RingFds};

use crate::gain::Gain;
use crate::opus::Encoder;
use crate::stream::Shared;

/// Between two `Stats`.
const STATS_NS: u64 = 1_000_000_000;
/// Packets between two `Stats`, at most: they are never less than half a slot apart.
const WAITS: usize = 400;

/// The producing end of a session's audio ring.
pub struct Track {
    generation: u32,
    encoder: Encoder,
    gain: Gain,
    ring: RingProducer,
    samples: Vec<f32>,
    next: u32,
    stats: AudioStats,
    stats_ns: u64,
    /// Nanoseconds that sound has waited for its packet, since the last `Stats`.
    waits: Vec<u64>,
}

impl Track {
    /// A track for a wiring whose ring nobody has written to.
    ///
    /// # Errors
    /// The ring or the layout is not one.
    pub fn new(wiring: &AudioWiring<OwnedFd>, now_ns: u64) -> Result<Self, PlaneError> {
        let encoder = Encoder::new(wiring.layout, wiring.packet, wiring.bitrate_kbps).map_err(PlaneError::failed)?;
        let ring = attach(&wiring.ring)?;
        let samples = vec![0.0; encoder.samples()];
        Ok(Self {
            generation: wiring.generation.0,
            encoder,
            gain: Gain::from_tenths(wiring.gain_decibels_tenths),
            ring,
            samples,
            next: 0,
            stats: AudioStats::default(),
            stats_ns: now_ns + STATS_NS,
            waits: Vec::with_capacity(WAITS),
        })
    }

    /// Goes on into another ring, which nobody has written to. What is in the one before is nobody's any more.
    ///
    /// # Errors
    /// The ring is not one.
    pub fn move_to(&mut self, generation: Generation, ring: &RingFds<OwnedFd>) -> Result<(), PlaneError> {
        self.ring = attach(ring)?;
        (self.generation, self.next, self.stats) = (generation.0, 0, AudioStats::default());
        Ok(())
    }

    /// When the next [`stats`](Self::stats) are due, in CLOCK_MONOTONIC nanoseconds.
    pub const fn stats_ns(&self) -> u64 {
        self.stats_ns
    }

    /// Encodes and sends the slot that is due, if one is.
    pub fn turn(&mut self, slots: &Shared, now_ns: u64) -> Result<(), PlaneError> {
        let slot = slots.lock().unwrap_or_else(PoisonError::into_inner).take(now_ns, &mut self.samples);
        let Some(slot) = slot else { return Ok(()) };
        let silent = self.gain.apply(&mut self.samples);
        let packet = self.encoder.encode(&self.samples, silent).map_err(PlaneError::failed)?;
        let header = ChunkHeader {
            generation: self.generation,
            frame: self.next,
            flags: ChunkFlags::LAST,
            captured_ns: slot.pts_ns,
            taken_ns: now_ns,
            converted_ns: now_ns,
            sliced_ns: ipc::event::now_ns(),
            ..ChunkHeader::default()
        };
        self.next = self.next.wrapping_add(1);
        self.stats.silent += u64::from(silent);
        let sent = self.ring.reserve().map(|mut frame| frame.commit(header, packet));
        match sent {
            Some(sent) => {
                sent.map_err(PlaneError::failed)?;
                self.stats.packets += 1;
            }
            None => {
                self.ring.check().map_err(PlaneError::by(PlaneKind::Net))?;
                self.stats.dropped += 1;
            }
        }
        if let (Some(waited), true) = (slot.waited_ns, self.waits.len() < WAITS) {
            self.waits.push(waited);
        }
        Ok(())
    }

    /// What has been sent so far; the next are due in a second.
    pub fn stats(&mut self, slots: &Shared, now_ns: u64) -> AudioStats {
        self.stats_ns = now_ns + STATS_NS;
        {
            let slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
            self.stats.overruns = slots.overruns();
            self.stats.quantum = slots.quantum();
        }
        if !self.waits.is_empty() {
            let middle = self.waits.len() / 2;
            let (_, median, _) = self.waits.select_nth_unstable(middle);
            self.stats.wait_us = u32::try_from(*median / 1000).unwrap_or(u32::MAX);
            self.waits.clear();
        }
        self.stats
    }
}

fn attach(ring: &RingFds<OwnedFd>) -> Result<RingProducer, PlaneError> {
    let RingFds { memory, data, credit, geometry } = ring;
    let wake = |fd: &OwnedFd| fd.try_clone().map(Wake::from_fd);
    RingProducer::attach(memory.as_fd(), wake(data)?, wake(credit)?, *geometry)
        .map_err(|error| PlaneError::failed(format!("the audio ring cannot be used: {error}")))
}
