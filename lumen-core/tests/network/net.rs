//! A seeded virtual network: packets go in with a time and come out with another, or not at all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// xorshift64*: the same numbers on every machine.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound.max(1)
    }

    pub fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }
}

/// One direction of a path.
#[derive(Clone, Copy)]
pub struct Path {
    pub delay_ns: u64,
    pub loss_permille: u64,
    pub reorder_permille: u64,
    /// A reordered packet is this much later at most.
    pub reorder_ns: u64,
    pub duplicate_permille: u64,
}

impl Path {
    pub const fn clean(delay_ns: u64) -> Self {
        Self { delay_ns, loss_permille: 0, reorder_permille: 0, reorder_ns: 0, duplicate_permille: 0 }
    }
}

pub struct Net {
    path: Path,
    random: Random,
    /// By time of arrival, then by order of departure.
    flying: BinaryHeap<Reverse<(u64, u64, Vec<u8>)>>,
    sent: u64,
    /// Packets until the burst, and packets in it.
    burst: (u64, u64),
}

impl Net {
    pub fn new(path: Path, seed: u64) -> Self {
        Self { path, random: Random::new(seed), flying: BinaryHeap::new(), sent: 0, burst: (0, 0) }
    }

    /// After so many packets, so many are lost in a row.
    pub fn burst_after(&mut self, skip: u64, packets: u64) {
        self.burst = (skip, packets);
    }

    /// Whether a burst is still to come or going on.
    pub fn bursting(&self) -> bool {
        self.burst.1 > 0
    }

    pub fn send(&mut self, now_ns: u64, packet: &[u8]) {
        self.sent += 1;
        match &mut self.burst {
            (0, 0) => {}
            (0, left) => {
                *left -= 1;
                return;
            }
            (skip, _) => *skip -= 1,
        }
        if self.random.chance(self.path.loss_permille) {
            return;
        }
        let copies = if self.random.chance(self.path.duplicate_permille) { 2 } else { 1 };
        for copy in 0..copies {
            let late = copy > 0 || self.random.chance(self.path.reorder_permille);
            let extra = if late { self.random.below(self.path.reorder_ns) } else { 0 };
            self.flying.push(Reverse((now_ns + self.path.delay_ns + extra, self.sent, packet.to_vec())));
        }
    }

    pub fn next_arrival(&self) -> Option<u64> {
        self.flying.peek().map(|Reverse((at, ..))| *at)
    }

    pub fn receive(&mut self, now_ns: u64) -> Option<Vec<u8>> {
        if self.next_arrival()? > now_ns {
            return None;
        }
        self.flying.pop().map(|Reverse((.., packet))| packet)
    }
}
