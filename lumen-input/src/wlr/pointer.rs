//! The virtual pointer: each event is a group of its own, closed by `frame`.

use lumen_core::input::{Axis, Button, MOTION_UNITS, POSITION_MAX, SCROLL_UNITS};

use super::wire::{Arg, Object, Requests};

/// Requests of zwlr_virtual_pointer_v1.
mod request {
    pub const MOTION: u16 = 0;
    pub const MOTION_ABSOLUTE: u16 = 1;
    pub const BUTTON: u16 = 2;
    pub const AXIS: u16 = 3;
    pub const FRAME: u16 = 4;
    pub const AXIS_SOURCE: u16 = 5;
    pub const AXIS_DISCRETE: u16 = 7;
    pub const DESTROY: u16 = 8;
}

/// wl_pointer.axis and axis_source.
const VERTICAL: u32 = 0;
const HORIZONTAL: u32 = 1;
const WHEEL: u32 = 0;

/// What one notch of a wheel scrolls, in Wayland's units. libinput tells the wheel's angle, which is 15 degrees a notch
/// on nearly every mouse, and compositors hand that number on unchanged: programs are used to it.
const NOTCH: f64 = 15.0;

#[derive(Debug)]
pub(super) struct Pointer {
    object: Object,
    vertical: Notches,
    horizontal: Notches,
}

/// Counts whole notches in high-resolution scrolling.
#[derive(Clone, Copy, Default, Debug)]
struct Notches {
    /// In 1/120 notch, less than one notch either way.
    rest: i32,
}

impl Notches {
    /// The notches completed by this amount. Turning back begins anew, as with a wheel that clicks into place.
    fn add(&mut self, amount: i32) -> i32 {
        if amount.signum() == -self.rest.signum() {
            self.rest = 0;
        }
        let sum = self.rest.saturating_add(amount);
        self.rest = sum % SCROLL_UNITS;
        sum / SCROLL_UNITS
    }
}

impl Pointer {
    pub fn new(object: Object) -> Self {
        Self { object, vertical: Notches::default(), horizontal: Notches::default() }
    }

    fn put(&self, requests: &mut Requests, opcode: u16, arguments: &[Arg<'_>]) {
        requests.put(self.object, opcode, arguments);
    }

    /// Both in 1/256 pixel.
    pub fn motion(&self, requests: &mut Requests, time_ms: u32, dx: i32, dy: i32) {
        let pixels = |amount: i32| Arg::Fixed(f64::from(amount) / f64::from(MOTION_UNITS));
        self.put(requests, request::MOTION, &[Arg::Uint(time_ms), pixels(dx), pixels(dy)]);
        self.put(requests, request::FRAME, &[]);
    }

    /// On the output that the pointer was made for, wherever that lies and however large it is.
    pub fn position(&self, requests: &mut Requests, time_ms: u32, x: u16, y: u16) {
        let extent = u32::from(POSITION_MAX);
        let place = [time_ms, x.into(), y.into(), extent, extent].map(Arg::Uint);
        self.put(requests, request::MOTION_ABSOLUTE, &place);
        self.put(requests, request::FRAME, &[]);
    }

    pub fn button(&self, requests: &mut Requests, time_ms: u32, button: Button, pressed: bool) {
        let change = [time_ms, button.evdev().into(), pressed.into()].map(Arg::Uint);
        self.put(requests, request::BUTTON, &change);
        self.put(requests, request::FRAME, &[]);
    }

    /// In 1/120 notch. Every amount scrolls at once; the notches that programs count come when they are complete.
    pub fn scroll(&mut self, requests: &mut Requests, time_ms: u32, axis: Axis, amount: i32) {
        // To Wayland that would be the end of a finger's scrolling.
        if amount == 0 {
            return;
        }
        // Down is positive for Wayland, and right is.
        let (name, amount, notches) = match axis {
            Axis::Vertical => (VERTICAL, amount.checked_neg().unwrap_or(i32::MAX), &mut self.vertical),
            Axis::Horizontal => (HORIZONTAL, amount, &mut self.horizontal),
        };
        let value = Arg::Fixed(f64::from(amount) * NOTCH / f64::from(SCROLL_UNITS));
        let (time, name) = (Arg::Uint(time_ms), Arg::Uint(name));
        match notches.add(amount) {
            0 => self.put(requests, request::AXIS, &[time, name, value]),
            notches => self.put(requests, request::AXIS_DISCRETE, &[time, name, value, Arg::Int(notches)]),
        }
        // After the axis: wlroots gives the source to the axis named last.
        self.put(requests, request::AXIS_SOURCE, &[Arg::Uint(WHEEL)]);
        self.put(requests, request::FRAME, &[]);
    }

    pub fn destroy(&self, requests: &mut Requests) {
        self.put(requests, request::DESTROY, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notches(amounts: &[i32]) -> Vec<i32> {
        let mut notches = Notches::default();
        amounts.iter().map(|&amount| notches.add(amount)).collect()
    }

    #[test]
    fn notches_are_counted_when_they_are_complete() {
        assert_eq!(notches(&[120, -120, 240]), [1, -1, 2]);
        assert_eq!(notches(&[30, 30, 30, 30, 30]), [0, 0, 0, 1, 0]);
        assert_eq!(notches(&[-90, -90, -60]), [0, -1, -1]);
        assert_eq!(notches(&[300, 60]), [2, 1]);
        assert_eq!(notches(&[0, 0]), [0, 0]);
    }

    #[test]
    fn turning_back_begins_anew() {
        assert_eq!(notches(&[90, -60, -60, 90, 30]), [0, 0, -1, 0, 1]);
    }

    #[test]
    fn no_amount_is_too_much() {
        let all = notches(&[i32::MAX, i32::MAX, i32::MIN, i32::MIN]);
        assert_eq!(all[0], i32::MAX / 120);
        assert_eq!(all[2], i32::MIN / 120);
    }
}
