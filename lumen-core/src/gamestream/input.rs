//! Input as clients send it (moonlight-common-c, Input.h and InputStream.c): packets, and the hands that make
//! [`InputEvent`](crate::InputEvent)s of them.

#[cfg(test)]
mod any;
mod encode;
mod hands;
mod parse;
mod touch;

#[cfg(test)]
pub(super) use any::any_packet;
pub use hands::{GuestHands, Verdict};

use super::control::{Malformed, Sensor};
use crate::input::{Axis, Button, PadIndex, PadKind, PadState};

/// Most bytes of text in one packet (Input.h, UTF8_TEXT_EVENT_MAX_COUNT). Clients send one character each.
pub const MAX_UTF8: usize = 32;

/// UTF-8 of 1 to [`MAX_UTF8`] bytes. It may hold control characters: pasted text has line ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Utf8 {
    len: u8,
    bytes: [u8; MAX_UTF8],
}

impl Utf8 {
    pub fn new(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > MAX_UTF8 {
            return None;
        }
        let mut bytes = [0; MAX_UTF8];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { len: text.len() as u8, bytes })
    }

    pub fn as_str(&self) -> &str {
        // Only `new` makes one, from a str of this length.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl std::fmt::Debug for Utf8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

/// A fraction, 0 to 65535 for 0 to 1.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Fraction(pub u16);

impl Fraction {
    /// What is outside is put on the edge; what is no number is 0. Nothing but 0 becomes 0.
    pub fn new(value: f32) -> Self {
        let scaled = (f64::from(value) * f64::from(u16::MAX)).round();
        Self(if value > 0.0 { (scaled as u16).max(1) } else { 0 })
    }

    pub fn get(self) -> f32 {
        f32::from(self.0) / f32::from(u16::MAX)
    }
}

/// What a finger or a pen did (Limelight.h, LI_TOUCH_EVENT_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Contact {
    /// Near the surface, not on it.
    Hover = 0,
    Down = 1,
    Up = 2,
    Move = 3,
    Cancel = 4,
    /// The buttons of a pen have changed, and nothing else.
    Buttons = 5,
    /// No longer near the surface.
    Leave = 6,
    CancelAll = 7,
}

impl Contact {
    const ALL: [Self; 8] =
        [Self::Hover, Self::Down, Self::Up, Self::Move, Self::Cancel, Self::Buttons, Self::Leave, Self::CancelAll];

    fn from_wire(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }
}

/// Where, from the top left corner of the picture, and how hard: 0 for unknown. Of a hovering one: how far, 1 at most.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Point {
    pub x: Fraction,
    pub y: Fraction,
    pub pressure: Fraction,
}

/// What a pen writes with (Limelight.h, LI_TOOL_TYPE_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Tool {
    Unknown = 0,
    Pen = 1,
    Eraser = 2,
}

/// One input packet. All its values are ones that may be injected.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Packet {
    /// `vk`: a Windows virtual-key code of a US keyboard. Not `normalised`: of the client's own layout.
    Key {
        vk: u8,
        pressed: bool,
        normalised: bool,
    },
    Text(Utf8),
    /// In pixels; right and down positive.
    Motion {
        dx: i16,
        dy: i16,
    },
    /// Of the picture: 0 at its left and top, 1 at its right and bottom edge.
    Position {
        x: Fraction,
        y: Fraction,
    },
    Button {
        button: Button,
        pressed: bool,
    },
    /// In 1/120 notch; away from the user and right positive.
    Scroll {
        axis: Axis,
        amount: i16,
    },
    /// Bit `n` of `present`: the client has pad `n`. Packets of different pads may overtake each other, so only the bit
    /// of `pad` is up to date.
    Pad {
        pad: PadIndex,
        present: u16,
        state: PadState,
    },
    /// The client wants to be told of rumble.
    Haptics(bool),
    Touch {
        id: u32,
        contact: Contact,
        point: Point,
    },
    /// Buttons: bit 0 the primary, 1 the secondary, 2 the third.
    Pen {
        contact: Contact,
        tool: Tool,
        buttons: u8,
        point: Point,
    },
    /// `capabilities`: Limelight.h, LI_CCAP_*. `buttons`: those that the pad has.
    PadArrived {
        pad: PadIndex,
        kind: PadKind,
        capabilities: u16,
        buttons: u32,
    },
    PadTouch {
        pad: PadIndex,
        touchpad: u8,
        id: u32,
        contact: Contact,
        point: Point,
    },
    /// In the sensor's unit; all are numbers.
    PadMotion {
        pad: PadIndex,
        sensor: Sensor,
        axes: [f32; 3],
    },
    /// `state`: Limelight.h, LI_BATTERY_STATE_*. `percent`: 255 for unknown.
    PadBattery {
        pad: PadIndex,
        state: u8,
        percent: u8,
    },
    /// A kind of packet that this host does not know.
    Unknown(u32),
}

mod magic {
    pub const KEY_DOWN: u32 = 3;
    pub const KEY_UP: u32 = 4;
    pub const POSITION: u32 = 5;
    pub const MOTION: u32 = 7;
    pub const BUTTON_DOWN: u32 = 8;
    pub const BUTTON_UP: u32 = 9;
    pub const SCROLL: u32 = 0x0A;
    pub const PAD: u32 = 0x0C;
    pub const HAPTICS: u32 = 0x0D;
    pub const TEXT: u32 = 0x17;
    pub const HSCROLL: u32 = 0x5500_0001;
    pub const TOUCH: u32 = 0x5500_0002;
    pub const PEN: u32 = 0x5500_0003;
    pub const PAD_ARRIVED: u32 = 0x5500_0004;
    pub const PAD_TOUCH: u32 = 0x5500_0005;
    pub const PAD_MOTION: u32 = 0x5500_0006;
    pub const PAD_BATTERY: u32 = 0x5500_0007;
}

#[cfg(test)]
#[path = "input/tests.rs"]
mod tests;
