//! Input events: what a hand did, as types whose every value may be injected. PROTOCOL.md §16.

#[cfg(test)]
mod any;
mod codec;
pub mod datagram;
pub mod hands;
pub mod inbox;
pub mod keys;
pub mod outbox;
mod pad;
pub mod script;

use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use any::any_event;
pub use hands::Hands;
pub use inbox::Inbox;
pub use outbox::Outbox;
pub use pad::{PadButtons, PadIndex, PadKind, PadState, Rumble};

/// First byte of a datagram of input events, from client to host.
pub const INPUT_DATAGRAM: u8 = 0xCB;
/// First byte of the answer to one.
pub const INPUT_ACK_DATAGRAM: u8 = 0xCC;
/// First byte of a datagram of force feedback, from host to client.
pub const RUMBLE_DATAGRAM: u8 = 0xCA;
/// Most bytes of a datagram of input events; fits QUIC's least path, 1200 bytes of UDP, with room to spare.
pub const MAX_INPUT_DATAGRAM: usize = 1100;
/// Pads that one client may have.
pub const MAX_PADS: u8 = 16;
/// Touch contacts at a time.
pub const MAX_CONTACTS: u8 = 16;
/// Keys that a [`Held`] can name.
pub const MAX_HELD: usize = 32;
/// Most bytes of UTF-8 in one [`Text`].
pub const MAX_TEXT: usize = 64;
/// Absolute positions run from 0 to this, left to right and top to bottom of the session's output.
pub const POSITION_MAX: u16 = u16::MAX;
/// Most bytes of one encoded [`InputEvent`].
pub const MAX_EVENT: usize = 1 + 1 + 2 * MAX_HELD + 1 + 2;
/// Bytes of one encoded [`Rumble`].
pub const RUMBLE_BYTES: usize = 5;
/// Relative motion is in 1/256 of a pixel, as Wayland's fixed-point numbers are.
pub const MOTION_UNITS: i32 = 256;
/// Scroll amounts are in 1/120 of a notch, as evdev's REL_WHEEL_HI_RES is.
pub const SCROLL_UNITS: i32 = 120;
/// Largest motion of one event along an axis, in the units of [`MOTION_UNITS`]: 65 536 pixels.
pub const MAX_MOTION: i32 = 1 << 24;
/// Largest scroll of one event, in the units of [`SCROLL_UNITS`]: about 8700 notches.
pub const MAX_SCROLL: i32 = 1 << 20;

/// What a client may do with its hands. Bits: 1 pointer (and touch), 2 keyboard (and text), 4 gamepads.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Permissions(u8);

impl Permissions {
    pub const NONE: Self = Self(0);
    pub const POINTER: Self = Self(1);
    pub const KEYBOARD: Self = Self(2);
    pub const GAMEPAD: Self = Self(4);
    pub const ALL: Self = Self(7);

    /// `None` if a bit is set that means nothing.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits <= Self::ALL.0 { Some(Self(bits)) } else { None }
    }

    pub const fn bits(self) -> u8 {
        self.0
    }

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    pub const fn with(self, other: Self, set: bool) -> Self {
        if set { Self(self.0 | other.0) } else { Self(self.0 & !other.0) }
    }
}

/// A key by its evdev code (`KEY_*` of linux/input-event-codes.h): 1 to 0x2FF without the buttons' range 0x100..=0x15F.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyCode(u16);

impl KeyCode {
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1..=0xFF | 0x160..=0x2FF => Some(Self(code)),
            _ => None,
        }
    }

    pub const fn get(self) -> u16 {
        self.0
    }
}

/// Pointer buttons; the wire value is `BTN_LEFT` (0x110) onwards minus 0x110.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Button {
    Left = 0,
    Right = 1,
    Middle = 2,
    Side = 3,
    Extra = 4,
}

impl Button {
    pub const ALL: [Self; 5] = [Self::Left, Self::Right, Self::Middle, Self::Side, Self::Extra];

    pub fn from_wire(value: u8) -> Option<Self> {
        Self::ALL.get(usize::from(value)).copied()
    }

    /// `BTN_LEFT` and its successors.
    pub const fn evdev(self) -> u16 {
        0x110 + self as u16
    }
}

/// UTF-8 of 1 to [`MAX_TEXT`] bytes without control characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Text {
    len: u8,
    bytes: [u8; MAX_TEXT],
}

impl Text {
    pub fn new(text: &str) -> Option<Self> {
        if text.is_empty() || text.len() > MAX_TEXT || text.chars().any(char::is_control) {
            return None;
        }
        let mut bytes = [0; MAX_TEXT];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { len: text.len() as u8, bytes })
    }

    pub fn as_str(&self) -> &str {
        // Only `new` makes one, from a str of this length.
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum Axis {
    /// Positive: away from the user, so that the page shows what is above, as REL_WHEEL has it.
    Vertical = 0,
    /// Positive: to the right.
    Horizontal = 1,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u8)]
pub enum TouchPhase {
    Down = 0,
    Move = 1,
    Up = 2,
    /// The contact ends and what it did is to be forgotten.
    Cancel = 3,
}

/// Everything that is down at the client at this point of its event stream. The host lifts what it holds and this does
/// not name; it presses nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Held {
    keys: [u16; MAX_HELD],
    count: u8,
    /// Bit `n`: [`Button::from_wire`]`(n)`.
    pub buttons: u8,
    /// Bit `n`: contact `n`.
    pub contacts: u16,
}

impl Held {
    /// The bits of [`buttons`](Self::buttons) that mean something.
    pub const BUTTONS: u8 = 0x1F;
    /// Nothing is down.
    pub const NOTHING: Self = Self { keys: [0; MAX_HELD], count: 0, buttons: 0, contacts: 0 };

    /// Keys beyond [`MAX_HELD`] are not told, and so lifted.
    pub fn new(keys: impl IntoIterator<Item = KeyCode>, buttons: u8, contacts: u16) -> Self {
        let mut held = Self { keys: [0; MAX_HELD], count: 0, buttons: buttons & Self::BUTTONS, contacts };
        for (slot, key) in held.keys.iter_mut().zip(keys) {
            *slot = key.get();
            held.count += 1;
        }
        held
    }

    pub fn keys(&self) -> impl Iterator<Item = KeyCode> + '_ {
        self.keys[..usize::from(self.count)].iter().filter_map(|&code| KeyCode::new(code))
    }
}

/// One thing that hands did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum InputEvent {
    Key {
        code: KeyCode,
        pressed: bool,
    },
    Text(Text),
    /// In 1/256 pixel, at most [`MAX_MOTION`] either way; right and down positive.
    Motion {
        dx: i32,
        dy: i32,
    },
    /// Of the session's output; see [`POSITION_MAX`].
    Position {
        x: u16,
        y: u16,
    },
    Button {
        button: Button,
        pressed: bool,
    },
    /// In 1/120 notch, at most [`MAX_SCROLL`] either way.
    Scroll {
        axis: Axis,
        amount: i32,
    },
    /// Contact 0 to 15; pressure 0 to 65535, 0 for unknown.
    Touch {
        contact: u8,
        phase: TouchPhase,
        x: u16,
        y: u16,
        pressure: u16,
    },
    PadArrived {
        pad: PadIndex,
        kind: PadKind,
    },
    PadRemoved {
        pad: PadIndex,
    },
    PadState {
        pad: PadIndex,
        state: PadState,
    },
    Held(Held),
}

impl InputEvent {
    /// The permission that this event needs.
    pub const fn needs(&self) -> Permissions {
        match self {
            Self::Key { .. } | Self::Text(_) => Permissions::KEYBOARD,
            Self::Motion { .. }
            | Self::Position { .. }
            | Self::Button { .. }
            | Self::Scroll { .. }
            | Self::Touch { .. } => Permissions::POINTER,
            Self::PadArrived { .. } | Self::PadRemoved { .. } | Self::PadState { .. } => Permissions::GAMEPAD,
            // It only ever lifts.
            Self::Held(_) => Permissions::NONE,
        }
    }
}
