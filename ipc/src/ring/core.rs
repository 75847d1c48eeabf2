//! The ring's index protocol over a struct of atomics: positions, credit and wake-ups, and nothing about bytes.
//!
//! Positions are counts of bytes since the generation began and only grow; 64 bits outlast any stream. Each side
//! keeps its own position in private memory and only ever *publishes* it, so a peer that scribbles over it changes
//! nothing; the other side's position is checked against what it can be before use.

use crate::shm::Violation;
use crate::sync::{AtomicU64, Line, Ordering, fence};

/// What lies in shared memory. All zeroes is an empty ring in which nobody waits.
#[repr(C)]
#[derive(Default)]
pub struct Shared {
    /// Bytes committed. Written by the producer.
    tail: Line<AtomicU64>,
    /// The head at which a waiting producer wants to be woken, or 0. Set by the producer, cleared by the consumer.
    wanted: Line<AtomicU64>,
    /// Bytes released. Written by the consumer.
    head: Line<AtomicU64>,
}

/// The producer's account.
#[derive(Debug)]
pub struct Producer {
    capacity: u64,
    tail: u64,
    head: u64,
}

impl Producer {
    pub fn new(capacity: u64) -> Self {
        Self { capacity, tail: 0, head: 0 }
    }

    /// Where the next byte goes.
    pub fn tail(&self) -> u64 {
        self.tail
    }

    /// True if `bytes` (at most the capacity) may be committed. Otherwise the consumer is asked to wake the producer
    /// once they may.
    pub fn credit(&mut self, shared: &Shared, bytes: u64) -> Result<bool, Violation> {
        let Some(target) = (self.tail + bytes).checked_sub(self.capacity) else { return Ok(true) };
        if self.head >= target || self.look(shared)? >= target {
            return Ok(true);
        }
        shared.wanted.0.store(target, Ordering::Relaxed);
        // The store of `wanted` and the load of `head` must not pass each other, as their mirror images in `release`
        // must not: one of the two sides then sees the other's store, and no wake-up is lost.
        fence(Ordering::SeqCst);
        if self.look(shared)? >= target {
            shared.wanted.0.store(0, Ordering::Relaxed);
            return Ok(true);
        }
        Ok(false)
    }

    /// Makes `bytes` bytes visible. True if the ring was empty: the consumer must be woken.
    pub fn commit(&mut self, shared: &Shared, bytes: u64) -> Result<bool, Violation> {
        let before = self.tail;
        self.tail += bytes;
        // Release: the bytes are complete before the position that covers them can be seen.
        shared.tail.0.store(self.tail, Ordering::Release);
        // Mirrored in `Consumer::release`: either the consumer's next look sees this tail, or we see that it has
        // released everything before it and may be asleep.
        fence(Ordering::SeqCst);
        Ok(self.look(shared)? == before)
    }

    fn look(&mut self, shared: &Shared) -> Result<u64, Violation> {
        // Acquire pairs with the consumer's Release: it has copied the bytes before we overwrite them.
        let head = shared.head.0.load(Ordering::Acquire);
        if head < self.head || head > self.tail {
            return Err(Violation("the consumer's position is impossible"));
        }
        self.head = head;
        Ok(head)
    }
}

/// The consumer's account.
#[derive(Debug)]
pub struct Consumer {
    capacity: u64,
    head: u64,
    tail: u64,
}

impl Consumer {
    pub fn new(capacity: u64) -> Self {
        Self { capacity, head: 0, tail: 0 }
    }

    /// In the place of a consumer that is no more, where that has left off. `None` if it has left nonsense: a position
    /// that is not a multiple of `unit`, or that the producer cannot have.
    pub fn resume(capacity: u64, unit: u64, shared: &Shared) -> Option<Self> {
        let head = shared.head.0.load(Ordering::Acquire);
        let mut heir = Self { capacity, head, tail: head };
        (head.is_multiple_of(unit) && heir.look(shared).is_ok()).then_some(heir)
    }

    /// Where the oldest unreleased byte lies.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Bytes that may be read, at most the capacity. Once this has answered 0, the next commit wakes the consumer.
    pub fn available(&mut self, shared: &Shared) -> Result<u64, Violation> {
        if self.tail == self.head {
            self.look(shared)?;
        }
        Ok(self.tail - self.head)
    }

    /// Gives `bytes` of the available bytes back. True if the producer waits for them and must be woken.
    pub fn release(&mut self, shared: &Shared, bytes: u64) -> bool {
        debug_assert!(bytes <= self.tail - self.head);
        self.head += bytes;
        shared.head.0.store(self.head, Ordering::Release);
        // Orders the store of `head` before two loads: of `wanted` here (see `Producer::credit`) and of `tail` in the
        // next look (see `Producer::commit`).
        fence(Ordering::SeqCst);
        let wanted = shared.wanted.0.load(Ordering::Relaxed);
        // The exchange fails if the producer has just asked anew; that asking then sees the head stored above.
        wanted != 0
            && self.head >= wanted
            && shared.wanted.0.compare_exchange(wanted, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn look(&mut self, shared: &Shared) -> Result<u64, Violation> {
        // Acquire pairs with the producer's Release: the bytes up to here are complete.
        let tail = shared.tail.0.load(Ordering::Acquire);
        if tail < self.tail || tail - self.head > self.capacity {
            return Err(Violation("the producer's position is impossible"));
        }
        self.tail = tail;
        Ok(tail)
    }
}
