//! Loss that can be repeated: a seeded generator decides about each packet.

/// Says of each packet whether it is lost.
#[derive(Clone, Copy, Debug)]
pub struct Chance {
    state: u64,
    permille: u32,
}

impl Chance {
    /// Loses `permille` of a thousand packets.
    pub const fn new(permille: u32, seed: u64) -> Self {
        Self { state: seed, permille }
    }

    pub fn strikes(&mut self) -> bool {
        self.permille > 0 && self.random() % 1000 < u64::from(self.permille)
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
