//! Forward error correction: the two erasure codes of the data plane. PROTOCOL.md §8.
//!
//! Both are systematic: data shards travel as they are, and any `k` of a frame's `k + m` shards give all of it back.
//! Encoder and decoder keep their scratch memory, so that a frame of a size seen before allocates nothing in scheme 1.

mod cauchy;
mod field;
pub mod kernels;
mod leopard;

use crate::packet::{MAX_DATA_SHARDS, MAX_PARITY_SHARDS};
use kernels::Kernel;

/// Which code protects a frame; the numbers travel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Scheme {
    /// No parity.
    None = 0,
    /// Reed-Solomon over GF(2^8) with a Cauchy matrix: at most 255 shards, parity included.
    Cauchy = 1,
    /// Leopard, an FFT-based Reed-Solomon over GF(2^16): beyond 255 shards.
    Leopard = 2,
}

/// Most shards of a frame in scheme 1, parity included.
pub const MAX_CAUCHY_SHARDS: usize = 255;

impl Scheme {
    pub fn from_wire(value: u8) -> Option<Self> {
        [Self::None, Self::Cauchy, Self::Leopard].into_iter().find(|&scheme| scheme as u8 == value)
    }

    /// This scheme's bit in [`ClientHello::fec_schemes`](crate::hello::ClientHello::fec_schemes).
    pub const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The shape of one frame's code, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    scheme: Scheme,
    k: usize,
    m: usize,
    len: usize,
}

impl Shape {
    /// `k` data shards and `m` parity shards of `len` bytes each (even, at least 2). `None` for what the scheme cannot
    /// do; scheme 0 has no shape, because it has no parity.
    pub fn new(scheme: Scheme, k: usize, m: usize, len: usize) -> Option<Self> {
        let sizes = (1..=MAX_DATA_SHARDS).contains(&k) && (1..=MAX_PARITY_SHARDS).contains(&m);
        let possible = match scheme {
            Scheme::None => false,
            Scheme::Cauchy => k + m <= MAX_CAUCHY_SHARDS,
            Scheme::Leopard => leopard::supports(k, m),
        };
        (sizes && possible && len >= 2 && len.is_multiple_of(2)).then_some(Self { scheme, k, m, len })
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Data shards.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Parity shards.
    pub fn m(&self) -> usize {
        self.m
    }

    /// Bytes of every shard.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Never: a shape has at least one shard of two bytes.
    pub fn is_empty(&self) -> bool {
        false
    }
}

/// Makes the tables of scheme 2, 8 MiB that the first large frame would otherwise wait some milliseconds for.
pub fn warm_up() {
    if let Some(shape) = Shape::new(Scheme::Leopard, 2, 1, 2)
        && let Some(data) = Shards::new(&[0; 4], &[0, 2], 2)
    {
        Encoder::new(Kernel::best()).encode(shape, data, &mut [0; 2]);
    }
}

/// Shards lying in one buffer, by where each begins.
#[derive(Clone, Copy)]
pub struct Shards<'a> {
    bytes: &'a [u8],
    starts: &'a [usize],
    len: usize,
}

impl<'a> Shards<'a> {
    /// `None` unless every shard lies within `bytes`.
    pub fn new(bytes: &'a [u8], starts: &'a [usize], len: usize) -> Option<Self> {
        let last = bytes.len().checked_sub(len)?;
        starts.iter().all(|&start| start <= last).then_some(Self { bytes, starts, len })
    }

    /// The shard at a position of `starts`.
    pub fn get(&self, position: usize) -> &'a [u8] {
        let start = self.starts[position];
        &self.bytes[start..start + self.len]
    }

    pub fn count(&self) -> usize {
        self.starts.len()
    }

    /// Bytes of each.
    pub fn shard_len(&self) -> usize {
        self.len
    }
}

/// Makes parity.
pub struct Encoder {
    cauchy: cauchy::Cauchy,
    leopard: leopard::Leopard,
}

impl Encoder {
    pub fn new(kernel: Kernel) -> Self {
        Self { cauchy: cauchy::Cauchy::new(kernel), leopard: leopard::Leopard::default() }
    }

    /// Writes the `m` parity shards, one after the other, over `parity`.
    ///
    /// # Panics
    /// If `data` is not `k` shards of the shape's length or `parity` not `m * len` bytes: errors of the caller, nothing
    /// that came over a network.
    pub fn encode(&mut self, shape: Shape, data: Shards<'_>, parity: &mut [u8]) {
        assert!(data.count() == shape.k && data.len == shape.len && parity.len() == shape.m * shape.len);
        match shape.scheme {
            Scheme::None => {}
            Scheme::Cauchy => self.cauchy.encode(shape, data, parity),
            Scheme::Leopard => self.leopard.encode(shape, data, parity),
        }
    }
}

/// What there is of a frame: positions among `k` data and `m` parity shards, with where each lies.
pub struct Present<'a> {
    /// Indices of the data shards that are there, ascending, as many as `data` has shards.
    pub data_indices: &'a [usize],
    pub data: Shards<'a>,
    /// Indices of the parity shards, ascending: at least as many as data shards are missing.
    pub parity_indices: &'a [usize],
    pub parity: Shards<'a>,
    /// Indices of the data shards that are missing, ascending.
    pub missing: &'a [usize],
}

/// The shards given cannot give the frame back.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too few shards, or shards that do not fit their shape")]
pub struct Unrecoverable;

/// Gives missing data shards back.
pub struct Decoder {
    cauchy: cauchy::Cauchy,
    leopard: leopard::Leopard,
}

impl Decoder {
    pub fn new(kernel: Kernel) -> Self {
        Self { cauchy: cauchy::Cauchy::new(kernel), leopard: leopard::Leopard::default() }
    }

    /// Writes the missing data shards, in the order of `present.missing` and one after the other, over `out`.
    pub fn decode(&mut self, shape: Shape, present: &Present<'_>, out: &mut [u8]) -> Result<(), Unrecoverable> {
        let ascending = |indices: &[usize], below: usize| {
            indices.is_sorted_by(|a, b| a < b) && indices.last().is_none_or(|&last| last < below)
        };
        let fits = present.data.count() == present.data_indices.len()
            && present.parity.count() == present.parity_indices.len()
            && present.data_indices.len() + present.missing.len() == shape.k
            && present.parity_indices.len() >= present.missing.len()
            && present.data.len == shape.len
            && present.parity.len == shape.len
            && out.len() == present.missing.len() * shape.len
            && ascending(present.data_indices, shape.k)
            && ascending(present.missing, shape.k)
            && ascending(present.parity_indices, shape.m);
        if !fits {
            return Err(Unrecoverable);
        }
        if present.missing.is_empty() {
            return Ok(());
        }
        match shape.scheme {
            Scheme::None => Err(Unrecoverable),
            Scheme::Cauchy => self.cauchy.decode(shape, present, out),
            Scheme::Leopard => self.leopard.decode(shape, present, out),
        }
    }
}

#[cfg(test)]
#[path = "fec/tests.rs"]
mod tests;
