//! An input that is a script: what the other side does, and when, between the calls of this side.

/// Takes an input apart from its front. What is missing at the end is zeros.
pub struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What to do next; none at the end.
    pub fn step(&mut self) -> Option<u8> {
        let (&step, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(step)
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let piece = self.bytes(N);
        array[..piece.len()].copy_from_slice(piece);
        array
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_le_bytes(self.array())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// So many bytes, or as many as there are.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        piece
    }

    /// The same, with their number in front of them.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = self.u8();
        self.bytes(length.into())
    }

    /// A number as the other side may leave it in shared memory: near one that means something, or any.
    pub fn near(&mut self, meant: u64) -> u64 {
        match self.u8() {
            wild @ 0xF0.. => {
                if wild.is_multiple_of(2) {
                    self.u64()
                } else {
                    u64::from(wild) << 60
                }
            }
            step @ 0..0x80 => meant.wrapping_add(u64::from(step) * 16),
            step => meant.wrapping_add_signed(i64::from(step) - 0xB0),
        }
    }
}
