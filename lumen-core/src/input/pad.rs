//! Gamepads: which, what kind, their state, and force feedback.

use serde::{Deserialize, Serialize};

use super::MAX_PADS;

/// 0 to 15.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct PadIndex(u8);

impl PadIndex {
    pub const fn new(index: u8) -> Option<Self> {
        if index < MAX_PADS { Some(Self(index)) } else { None }
    }

    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for PadIndex {
    type Error = &'static str;

    fn try_from(index: u8) -> Result<Self, Self::Error> {
        Self::new(index).ok_or("a pad's index is 0 to 15")
    }
}

impl From<PadIndex> for u8 {
    fn from(index: PadIndex) -> u8 {
        index.0
    }
}

/// What the client's pad is; the host makes what comes nearest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum PadKind {
    Unknown = 0,
    Xbox = 1,
    PlayStation = 2,
    Nintendo = 3,
}

/// The whole state of a pad. Buttons are GameStream's bits (moonlight-common-c, Limelight.h); triggers 0 to 255; sticks
/// as XInput has them: -32768 to 32767, right and up positive.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct PadState {
    pub buttons: PadButtons,
    pub left_trigger: u8,
    pub right_trigger: u8,
    pub left_stick: (i16, i16),
    pub right_stick: (i16, i16),
}

/// GameStream's button bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Debug)]
pub struct PadButtons(u32);

impl PadButtons {
    pub const UP: u32 = 0x0001;
    pub const DOWN: u32 = 0x0002;
    pub const LEFT: u32 = 0x0004;
    pub const RIGHT: u32 = 0x0008;
    pub const START: u32 = 0x0010;
    pub const BACK: u32 = 0x0020;
    pub const LEFT_STICK: u32 = 0x0040;
    pub const RIGHT_STICK: u32 = 0x0080;
    pub const LEFT_BUMPER: u32 = 0x0100;
    pub const RIGHT_BUMPER: u32 = 0x0200;
    pub const GUIDE: u32 = 0x0400;
    pub const A: u32 = 0x1000;
    pub const B: u32 = 0x2000;
    pub const X: u32 = 0x4000;
    pub const Y: u32 = 0x8000;
    pub const PADDLE1: u32 = 0x01_0000;
    pub const PADDLE2: u32 = 0x02_0000;
    pub const PADDLE3: u32 = 0x04_0000;
    pub const PADDLE4: u32 = 0x08_0000;
    pub const TOUCHPAD: u32 = 0x10_0000;
    pub const MISC: u32 = 0x20_0000;
    /// Every bit that means something.
    pub const KNOWN: u32 = 0x003F_F7FF;

    /// Unknown bits are dropped: a newer client's extra button must not cost the rest.
    pub const fn new(bits: u32) -> Self {
        Self(bits & Self::KNOWN)
    }

    pub const fn bits(self) -> u32 {
        self.0
    }

    pub const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

/// Force feedback of one pad: the motors' strength, 0 to 65535.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rumble {
    pub pad: PadIndex,
    /// The large, slow motor.
    pub low: u16,
    /// The small, fast motor.
    pub high: u16,
}
