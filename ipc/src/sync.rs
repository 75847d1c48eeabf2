//! The atomics of the shared-memory protocols: the processor's, or loom's where every interleaving is explored.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Keeps what one side writes off the cache line that the other side writes; two lines, since the processor fetches
/// neighbours in pairs.
#[repr(C, align(128))]
#[derive(Default)]
pub(crate) struct Line<T>(pub(crate) T);
