//! Ring ends that the control thread's runtime can wait for.

use std::os::fd::{AsFd, OwnedFd};

use ipc::event::Event;
use ipc::ring::{ChunkFlags, ChunkHeader, RingConsumer, RingProducer};
use ipc::shm::Violation;
use ipc::{Generation, RingFds};

use crate::readable::Readable;

/// Consumer end of a ring whose frames are single chunks.
pub struct Inflow {
    generation: Generation,
    ring: RingConsumer,
    wake: Readable<Event>,
    /// The newest chunk is copied here.
    chunk: Vec<u8>,
}

impl Inflow {
    /// Maps the ring. Must run inside the control thread's runtime.
    pub fn attach(generation: Generation, fds: RingFds<OwnedFd>) -> Result<Self, String> {
        let RingFds { memory, data, credit, geometry } = fds;
        let ring = RingConsumer::attach(memory.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry)
            .map_err(|error| error.to_string())?;
        let wake = registered(ring.data())?;
        Ok(Self { generation, ring, wake, chunk: Vec::with_capacity(geometry.frame_bytes as usize) })
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Signalled when the ring has gone from empty to non-empty.
    pub fn wake(&self) -> &Readable<Event> {
        &self.wake
    }

    /// Takes the oldest chunk.
    pub fn take(&mut self) -> Result<Option<(ChunkHeader, &[u8])>, Violation> {
        let Some(chunk) = self.ring.peek()? else { return Ok(None) };
        let header = *chunk.header();
        self.chunk.clear();
        // The ring has checked the length against the geometry that the buffer was made for.
        chunk.read(&mut self.chunk).map_err(|_| Violation("a chunk is larger than its credit"))?;
        self.ring.release();
        if !header.flags.contains(ChunkFlags::LAST) {
            return Err(Violation("a frame is more than one chunk"));
        }
        Ok(Some((header, &self.chunk)))
    }

    /// Wakes this end once more: its turn is over and the ring may not be empty.
    pub fn again(&self) {
        self.ring.data().signal();
    }
}

/// Producer end of a ring whose frames are single chunks.
pub struct Outflow {
    generation: Generation,
    ring: RingProducer,
    wake: Readable<Event>,
}

impl Outflow {
    /// Maps the ring. Must run inside the control thread's runtime.
    pub fn attach(generation: Generation, fds: RingFds<OwnedFd>) -> Result<Self, String> {
        let RingFds { memory, data, credit, geometry } = fds;
        let ring = RingProducer::attach(memory.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry)
            .map_err(|error| error.to_string())?;
        let wake = registered(ring.credit())?;
        Ok(Self { generation, ring, wake })
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Signalled when there is room again after [`Self::put`] found none.
    pub fn wake(&self) -> &Readable<Event> {
        &self.wake
    }

    /// Puts one chunk into the ring; false if there is no room, or the consumer has broken the protocol.
    pub fn put(&mut self, frame: u32, captured_ns: u64, payload: &[u8]) -> bool {
        let (generation, flags) = (self.generation.0, ChunkFlags::LAST);
        let header = ChunkHeader { generation, frame, flags, captured_ns, ..ChunkHeader::default() };
        let put = self.ring.reserve().is_some_and(|mut writer| writer.commit(header, payload).is_ok());
        put && self.ring.check().is_ok()
    }

    pub fn check(&self) -> Result<(), Violation> {
        self.ring.check()
    }
}

/// The runtime wants a descriptor of its own; the event behind it is the same.
fn registered(event: &Event) -> Result<Readable<Event>, String> {
    event.try_clone().and_then(Readable::new).map_err(|error| error.to_string())
}
