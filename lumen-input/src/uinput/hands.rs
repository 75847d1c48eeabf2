//! Keyboard, mouse and touch screen of the kernel's, for desktops that offer no protocol of their own.

use lumen_core::input::{Axis, Button, KeyCode, MAX_CONTACTS, MOTION_UNITS, POSITION_MAX, SCROLL_UNITS, TouchPhase};
use nix::errno::Errno;

use super::codes::*;
use super::device::{Device, Kind};
use super::node::{Bit, Identity, Node};

const fn identity(product: u16, name: &'static str) -> Identity {
    Identity { bus: BUS_VIRTUAL, vendor: 0, product, version: 1, name }
}

/// A keyboard with every key that a client may press.
pub struct KeyboardKind;

impl Kind for KeyboardKind {
    const IDENTITY: Identity = identity(1, "Lumen keyboard");

    fn declare(node: &Node) -> Result<(), Errno> {
        node.set(Bit::Event, EV_KEY)?;
        // The kernel repeats keys for consoles and for readers without a repeat of their own.
        node.set(Bit::Event, EV_REP)?;
        (1..=0x2FF).filter(|&code| KeyCode::new(code).is_some_and(is_key)).try_for_each(|code| node.set(Bit::Key, code))
    }
}

/// False for codes that a [`KeyCode`] may have but that are buttons of game controllers (BTN_DPAD_UP and its
/// successors, BTN_TRIGGER_HAPPY1 and its): a keyboard that had them would be taken for a joystick.
fn is_key(code: KeyCode) -> bool {
    !matches!(code.get(), 0x220..=0x227 | 0x2C0..=0x2FF)
}

/// False if the keyboard has no such key.
pub fn key(device: &mut Device, code: KeyCode, pressed: bool) -> bool {
    if is_key(code) {
        device.put(EV_KEY, code.get(), pressed.into());
        device.report();
    }
    is_key(code)
}

/// A mouse that moves by steps and to places: two kinds of axis in one device, as the virtual mice of hypervisors have.
pub struct MouseKind;

impl Kind for MouseKind {
    const IDENTITY: Identity = identity(2, "Lumen mouse");

    fn declare(node: &Node) -> Result<(), Errno> {
        for kind in [EV_KEY, EV_REL, EV_ABS] {
            node.set(Bit::Event, kind)?;
        }
        Button::ALL.into_iter().try_for_each(|button| node.set(Bit::Key, button.evdev()))?;
        for axis in [REL_X, REL_Y, REL_WHEEL, REL_HWHEEL, REL_WHEEL_HI_RES, REL_HWHEEL_HI_RES] {
            node.set(Bit::Relative, axis)?;
        }
        node.axis(ABS_X, 0, POSITION_MAX.into(), 0)?;
        node.axis(ABS_Y, 0, POSITION_MAX.into(), 0)
    }
}

/// What is left over of finer units than the kernel's.
#[derive(Clone, Copy, Default, Debug)]
struct Remainder(i64);

impl Remainder {
    /// Adds, and takes out what is whole.
    fn whole(&mut self, amount: i32, unit: i32) -> i32 {
        self.0 += i64::from(amount);
        let whole = self.0 / i64::from(unit);
        self.0 %= i64::from(unit);
        whole.clamp(i32::MIN.into(), i32::MAX.into()) as i32
    }
}

#[derive(Debug)]
pub struct Mouse {
    device: Device,
    motion: [Remainder; 2],
    notches: [Remainder; 2],
    /// The last place, and whether the pointer may have left it since.
    place: Option<(u16, u16)>,
    moved: bool,
}

impl Mouse {
    pub fn new(device: Device) -> Self {
        Self { device, motion: Default::default(), notches: Default::default(), place: None, moved: true }
    }

    pub fn step(&mut self, dx: i32, dy: i32) {
        let (x, y) = (self.motion[0].whole(dx, MOTION_UNITS), self.motion[1].whole(dy, MOTION_UNITS));
        for (axis, step) in [(REL_X, x), (REL_Y, y)] {
            if step != 0 {
                self.device.put(EV_REL, axis, step);
                self.moved = true;
            }
        }
        self.device.report();
    }

    pub fn go(&mut self, x: u16, y: u16) {
        let last = self.place.replace((x, y));
        // The kernel drops an axis' value that is its last one: after steps in between, the pointer would stay away.
        // So the axis takes a detour of one unit within the report.
        if std::mem::replace(&mut self.moved, false) {
            let (last_x, last_y) = last.unwrap_or_default();
            if x == last_x {
                self.device.put(EV_ABS, ABS_X, (x ^ 1).into());
            }
            if y == last_y {
                self.device.put(EV_ABS, ABS_Y, (y ^ 1).into());
            }
        }
        self.device.put(EV_ABS, ABS_X, x.into());
        self.device.put(EV_ABS, ABS_Y, y.into());
        self.device.report();
    }

    pub fn button(&mut self, button: Button, pressed: bool) {
        self.device.put(EV_KEY, button.evdev(), pressed.into());
        self.device.report();
    }

    /// In the fine unit that new readers look at, and in the whole notches that old ones know.
    pub fn scroll(&mut self, axis: Axis, amount: i32) {
        let (fine, coarse, left) = match axis {
            Axis::Vertical => (REL_WHEEL_HI_RES, REL_WHEEL, &mut self.notches[0]),
            Axis::Horizontal => (REL_HWHEEL_HI_RES, REL_HWHEEL, &mut self.notches[1]),
        };
        let notches = left.whole(amount, SCROLL_UNITS);
        if amount != 0 {
            self.device.put(EV_REL, fine, amount);
        }
        if notches != 0 {
            self.device.put(EV_REL, coarse, notches);
        }
        self.device.report();
    }
}

/// A touch screen of sixteen contacts, in the kernel's slotted protocol (multi-touch-protocol.rst, type B).
pub struct TouchKind;

/// What a contact of unknown pressure presses with: readers may take 0 for hovering.
const SOME_PRESSURE: u16 = 0x8000;

impl Kind for TouchKind {
    const IDENTITY: Identity = identity(3, "Lumen touch screen");

    fn declare(node: &Node) -> Result<(), Errno> {
        node.set(Bit::Event, EV_KEY)?;
        node.set(Bit::Event, EV_ABS)?;
        node.set(Bit::Key, BTN_TOUCH)?;
        node.set(Bit::Property, INPUT_PROP_DIRECT)?;
        let place = i32::from(POSITION_MAX);
        let axes = [
            (ABS_X, place),
            (ABS_Y, place),
            (ABS_MT_SLOT, i32::from(MAX_CONTACTS) - 1),
            (ABS_MT_POSITION_X, place),
            (ABS_MT_POSITION_Y, place),
            (ABS_MT_TOOL_TYPE, MT_TOOL_PALM),
            (ABS_MT_TRACKING_ID, u16::MAX.into()),
            (ABS_MT_PRESSURE, u16::MAX.into()),
        ];
        axes.into_iter().try_for_each(|(axis, maximum)| node.axis(axis, 0, maximum, 0))
    }
}

#[derive(Debug)]
pub struct Touch {
    device: Device,
    down: u16,
    /// Contacts that a plane before this one may have left down.
    stale: u16,
    next_id: u16,
}

impl Touch {
    /// `inherited`: contacts of a plane before this one may be down, and may be lifted.
    pub fn new(device: Device, inherited: bool) -> Self {
        Self { device, down: 0, stale: if inherited { u16::MAX } else { 0 }, next_id: 0 }
    }

    /// A contact that a plane before this one has put down stays down. False if there cannot be one.
    pub fn adopt(&mut self, contact: u8) -> bool {
        let bit = if contact < MAX_CONTACTS { self.stale & 1 << contact } else { 0 };
        (self.down, self.stale) = (self.down | bit, self.stale & !bit);
        bit != 0
    }

    /// False if nothing can come of it: the movement of a contact that is not down, a contact too many.
    pub fn contact(&mut self, contact: u8, phase: TouchPhase, place: (u16, u16), pressure: u16) -> bool {
        if contact >= MAX_CONTACTS {
            return false;
        }
        let bit = 1 << contact;
        match phase {
            TouchPhase::Down => {
                self.slot(contact);
                // No two contacts have the same, whichever plane has begun them.
                let id = self.next_id << 4 | u16::from(contact);
                self.device.put(EV_ABS, ABS_MT_TRACKING_ID, id.into());
                self.device.put(EV_ABS, ABS_MT_TOOL_TYPE, MT_TOOL_FINGER);
                self.next_id = self.next_id.wrapping_add(1);
                self.down |= bit;
                self.place(place, pressure);
                self.device.put(EV_KEY, BTN_TOUCH, 1);
            }
            TouchPhase::Move => {
                if self.down & bit == 0 {
                    return false;
                }
                self.slot(contact);
                self.place(place, pressure);
            }
            TouchPhase::Up | TouchPhase::Cancel => {
                if (self.down | self.stale) & bit == 0 {
                    return false;
                }
                self.slot(contact);
                if phase == TouchPhase::Cancel {
                    // A report of its own: a contact that ends as a palm was none.
                    self.device.put(EV_ABS, ABS_MT_TOOL_TYPE, MT_TOOL_PALM);
                    self.device.report();
                }
                self.device.put(EV_ABS, ABS_MT_TRACKING_ID, -1);
                (self.down, self.stale) = (self.down & !bit, self.stale & !bit);
                if self.down == 0 {
                    self.device.put(EV_KEY, BTN_TOUCH, 0);
                }
            }
        }
        self.device.report();
        true
    }

    fn slot(&mut self, contact: u8) {
        self.device.put(EV_ABS, ABS_MT_SLOT, contact.into());
    }

    fn place(&mut self, (x, y): (u16, u16), pressure: u16) {
        let pressure = if pressure == 0 { SOME_PRESSURE } else { pressure };
        self.device.put(EV_ABS, ABS_MT_POSITION_X, x.into());
        self.device.put(EV_ABS, ABS_MT_POSITION_Y, y.into());
        self.device.put(EV_ABS, ABS_MT_PRESSURE, pressure.into());
        // Readers that know one finger only follow the first.
        if self.down.is_power_of_two() {
            self.device.put(EV_ABS, ABS_X, x.into());
            self.device.put(EV_ABS, ABS_Y, y.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up_and_nothing_is_lost_between_signs() {
        let mut left = Remainder::default();
        let steps: Vec<i32> = [100, 100, 100, -300, i32::MAX].map(|amount| left.whole(amount, 256)).to_vec();
        assert_eq!(steps, [0, 0, 1, -1, i32::MAX / 256]);
        assert_eq!(left.0, i64::from(i32::MAX % 256));
    }

    #[test]
    fn no_button_of_a_game_controller_is_a_key() {
        let keys = (1..=0x2FF).filter_map(KeyCode::new).filter(|&code| is_key(code)).count();
        assert_eq!(keys, 255 + (0x220 - 0x160) + (0x2C0 - 0x228));
    }
}
