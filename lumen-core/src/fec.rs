//! Forward error correction: the two erasure codes of the data plane. PROTOCOL.md §8.

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

impl Scheme {
    pub fn from_wire(value: u8) -> Option<Self> {
        [Self::None, Self::Cauchy, Self::Leopard].into_iter().find(|&scheme| scheme as u8 == value)
    }
}
