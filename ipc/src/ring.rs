//! The bounded single-producer single-consumer queue of chunks, with credit for whole frames.
//!
//! A producer reserves credit for one whole frame before it begins, so an encoded frame never meets a full ring. Each
//! chunk is visible as soon as it is committed. See [`core`] for the index protocol.

mod chunk;
pub mod core;
mod geometry;
mod memory;

use std::os::fd::BorrowedFd;

pub use self::chunk::{ChunkFlags, ChunkHeader};
use self::chunk::{HEADER_BYTES, HEADER_WORDS, UNIT};
use self::core::{Consumer, Producer};
pub use self::geometry::CONTROL_BYTES;
use self::memory::Memory;
use crate::event::Event;
use crate::msg::RingGeometry;
use crate::shm::{ShmError, Violation};

const _: () = assert!(HEADER_WORDS * 8 == HEADER_BYTES as usize);

/// A ring as lumend sees it: a size.
pub struct Ring;

impl Ring {
    /// Bytes of the memory that both ends attach to.
    pub const fn memory_size(geometry: &RingGeometry) -> usize {
        CONTROL_BYTES + geometry.capacity as usize
    }
}

/// A chunk does not fit: into what is left of the frame's credit, or into the reader's buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the chunk is larger than the space left for it")]
pub struct TooLarge;

/// The writing end. Belongs to one thread.
#[derive(Debug)]
pub struct RingProducer {
    memory: Memory,
    data: Event,
    credit: Event,
    geometry: RingGeometry,
    state: Producer,
    violation: Option<Violation>,
}

impl RingProducer {
    /// Attaches to fresh memory.
    pub fn attach(
        memory: BorrowedFd<'_>,
        data: Event,
        credit: Event,
        geometry: RingGeometry,
    ) -> Result<Self, ShmError> {
        let memory = Memory::attach(memory, &geometry, true)?;
        let state = Producer::new(geometry.capacity.into());
        Ok(Self { memory, data, credit, geometry, state, violation: None })
    }

    /// Takes credit for one whole frame. `None` while the consumer has not released enough: [`credit`](Self::credit)
    /// is then signalled once it has. Also `None` for good after a violation; see [`check`](Self::check).
    pub fn reserve(&mut self) -> Option<FrameWriter<'_>> {
        let (bytes_left, chunks_left) = (self.geometry.frame_bytes, self.geometry.frame_chunks);
        self.ready().then(|| FrameWriter { ring: self, bytes_left, chunks_left, last: None, ended: false })
    }

    /// True if [`reserve`](Self::reserve) would succeed; like it, arms the credit event if not.
    pub fn ready(&mut self) -> bool {
        if self.violation.is_some() {
            return false;
        }
        let credit = self.state.credit(self.memory.control(), self.geometry.frame_credit());
        self.violation = credit.err();
        credit == Ok(true)
    }

    /// Signalled after a `reserve` that found too little room. Wait, drain, then reserve again.
    pub fn credit(&self) -> &Event {
        &self.credit
    }

    /// Tells whether the consumer has broken the protocol: a plane then gives up.
    pub fn check(&self) -> Result<(), Violation> {
        self.violation.map_or(Ok(()), Err)
    }

    fn put(&mut self, header: &ChunkHeader, payload: &[u8]) {
        self.memory.write(self.state.tail(), header.to_words(), payload);
        match self.state.commit(self.memory.control(), header.span()) {
            Ok(true) => self.data.signal(),
            Ok(false) => {}
            Err(violation) => self.violation = Some(violation),
        }
    }
}

/// Credit for one frame. Dropped with its frame begun but not ended, it aborts the frame, so that the consumer always
/// sees frames from FIRST to LAST or ABORTED.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    ring: &'a mut RingProducer,
    bytes_left: u32,
    chunks_left: u32,
    last: Option<ChunkHeader>,
    ended: bool,
}

impl FrameWriter<'_> {
    /// Payload bytes that the frame may still take.
    pub fn bytes_left(&self) -> u32 {
        self.bytes_left
    }

    /// Writes one chunk and makes it visible at once; wakes the consumer only if the ring was empty. `FIRST` and
    /// `len` of `header` are set here, the other flags are the caller's. After `LAST` or `ABORTED` the credit is spent.
    ///
    /// On [`TooLarge`] nothing was written: the caller aborts the frame, by a chunk of flag `ABORTED` without payload
    /// (for which there is always room) or by dropping the writer.
    pub fn commit(&mut self, mut header: ChunkHeader, payload: &[u8]) -> Result<(), TooLarge> {
        let len = u32::try_from(payload.len()).map_err(|_| TooLarge)?;
        let abort = header.flags.contains(ChunkFlags::ABORTED) && len == 0;
        if self.ended || len > self.bytes_left || (self.chunks_left == 0 && !abort) {
            return Err(TooLarge);
        }
        header.len = len;
        header.flags = header.flags.with(ChunkFlags::FIRST, self.last.is_none());
        self.ring.put(&header, payload);
        self.bytes_left -= len;
        self.chunks_left = self.chunks_left.saturating_sub(1);
        self.ended = header.flags.ends_frame();
        self.last = Some(header);
        Ok(())
    }
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        if let (Some(last), false) = (self.last, self.ended) {
            let flags = ChunkFlags::ABORTED;
            self.ring.put(&ChunkHeader { flags, len: 0, ..last }, &[]);
        }
    }
}

/// The reading end. Belongs to one thread.
#[derive(Debug)]
pub struct RingConsumer {
    memory: Memory,
    data: Event,
    credit: Event,
    geometry: RingGeometry,
    state: Consumer,
    peeked: Option<ChunkHeader>,
    /// Chunks and payload bytes of the frame under way; `None` between frames.
    frame: Option<(u32, u32)>,
}

impl RingConsumer {
    /// Attaches to the memory of a producer that attaches to it before or after.
    pub fn attach(
        memory: BorrowedFd<'_>,
        data: Event,
        credit: Event,
        geometry: RingGeometry,
    ) -> Result<Self, ShmError> {
        let memory = Memory::attach(memory, &geometry, false)?;
        let state = Consumer::new(geometry.capacity.into());
        Ok(Self { memory, data, credit, geometry, state, peeked: None, frame: None })
    }

    /// Attaches in the place of a consumer that is no more: what that has not released comes first. Its frames must be
    /// of one chunk each. What a consumer in bad hands has left may make no sense, and is a [`Violation`] then, here or
    /// later: no more can be had from it.
    pub fn resume(
        memory: BorrowedFd<'_>,
        data: Event,
        credit: Event,
        geometry: RingGeometry,
    ) -> Result<Result<Self, Violation>, ShmError> {
        let mut consumer = Self::attach(memory, data, credit, geometry)?;
        let state = Consumer::resume(geometry.capacity.into(), UNIT, consumer.memory.control());
        Ok(match state {
            Some(state) => {
                consumer.state = state;
                Ok(consumer)
            }
            None => Err(Violation("a consumer that is no more has left an impossible position")),
        })
    }

    /// The oldest chunk not yet released; the same one again until it is.
    ///
    /// Guaranteed of every chunk: known flags; FIRST exactly on the first of a frame, which goes on to LAST or
    /// ABORTED; at most `frame_bytes` bytes and `frame_chunks` + 1 chunks a frame. Not checked: generation, frame
    /// numbers, times.
    pub fn peek(&mut self) -> Result<Option<Chunk<'_>>, Violation> {
        let header = match self.peeked {
            Some(header) => header,
            None => match self.next_header()? {
                Some(header) => header,
                None => return Ok(None),
            },
        };
        let payload = self.state.head() + HEADER_BYTES;
        Ok(Some(Chunk { memory: &self.memory, header, payload }))
    }

    fn next_header(&mut self) -> Result<Option<ChunkHeader>, Violation> {
        let available = self.state.available(self.memory.control())?;
        if available == 0 {
            return Ok(None);
        }
        if available < HEADER_BYTES {
            return Err(Violation("a chunk is shorter than its header"));
        }
        let header = ChunkHeader::from_words(self.memory.read_header(self.state.head()))?;
        if header.span() > available {
            return Err(Violation("a chunk is longer than what was committed"));
        }
        let first = header.flags.contains(ChunkFlags::FIRST);
        let (chunks, bytes) = match self.frame {
            None if first => (0, 0),
            Some(so_far) if !first => so_far,
            _ => return Err(Violation("a frame does not begin where the one before ended")),
        };
        let bytes = header.len.checked_add(bytes).filter(|bytes| *bytes <= self.geometry.frame_bytes);
        let (Some(bytes), true) = (bytes, chunks <= self.geometry.frame_chunks) else {
            return Err(Violation("a frame is larger than its credit"));
        };
        self.frame = (!header.flags.ends_frame()).then_some((chunks + 1, bytes));
        self.peeked = Some(header);
        Ok(Some(header))
    }

    /// Frees the peeked chunk, and wakes a producer that waits for what is now free.
    pub fn release(&mut self) {
        if let Some(header) = self.peeked.take()
            && self.state.release(self.memory.control(), header.span())
        {
            self.credit.signal();
        }
    }

    /// Signalled when the ring goes from empty to non-empty. Wait, drain, then peek and release until there is none.
    pub fn data(&self) -> &Event {
        &self.data
    }
}

/// One chunk in the ring.
#[derive(Debug)]
pub struct Chunk<'a> {
    memory: &'a Memory,
    header: ChunkHeader,
    payload: u64,
}

impl Chunk<'_> {
    /// The header, copied out of shared memory once.
    pub fn header(&self) -> &ChunkHeader {
        &self.header
    }

    /// Appends the payload to `out` within its reserved capacity: this never allocates.
    pub fn read(&self, out: &mut Vec<u8>) -> Result<(), TooLarge> {
        let len = self.header.len as usize;
        if len > out.capacity() - out.len() {
            return Err(TooLarge);
        }
        self.memory.read(self.payload, len, out);
        Ok(())
    }
}
