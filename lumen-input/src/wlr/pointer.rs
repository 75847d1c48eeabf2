//! The virtual pointer: each event is a group of its own, closed by `frame`.

use lumen_core::input::{Axis, Button, MOTION_UNITS, POSITION_MAX, SCROLL_UNITS};
use wayland_client::protocol::wl_pointer;
use wayland_protocols_wlr::virtual_pointer::v1::client::zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1;

/// What one notch of a wheel scrolls, in Wayland's units. libinput tells the wheel's angle, which is 15 degrees a notch
/// on nearly every mouse, and compositors hand that number on unchanged: programs are used to it.
const NOTCH: f64 = 15.0;

pub(super) struct Pointer {
    proxy: ZwlrVirtualPointerV1,
    vertical: Notches,
    horizontal: Notches,
}

/// Counts whole notches in high-resolution scrolling.
#[derive(Clone, Copy, Default)]
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
    pub fn new(proxy: ZwlrVirtualPointerV1) -> Self {
        Self { proxy, vertical: Notches::default(), horizontal: Notches::default() }
    }

    /// Both in 1/256 pixel.
    pub fn motion(&self, time_ms: u32, dx: i32, dy: i32) {
        let pixels = |amount: i32| f64::from(amount) / f64::from(MOTION_UNITS);
        self.proxy.motion(time_ms, pixels(dx), pixels(dy));
        self.proxy.frame();
    }

    /// On the output that the pointer was made for, wherever that lies and however large it is.
    pub fn position(&self, time_ms: u32, x: u16, y: u16) {
        let extent = u32::from(POSITION_MAX);
        self.proxy.motion_absolute(time_ms, x.into(), y.into(), extent, extent);
        self.proxy.frame();
    }

    pub fn button(&self, time_ms: u32, button: Button, pressed: bool) {
        let state = if pressed { wl_pointer::ButtonState::Pressed } else { wl_pointer::ButtonState::Released };
        self.proxy.button(time_ms, button.evdev().into(), state);
        self.proxy.frame();
    }

    /// In 1/120 notch. Every amount scrolls at once; the notches that programs count come when they are complete.
    pub fn scroll(&mut self, time_ms: u32, axis: Axis, amount: i32) {
        // To Wayland that would be the end of a finger's scrolling.
        if amount == 0 {
            return;
        }
        // Down is positive for Wayland, and right is.
        let (name, amount, notches) = match axis {
            Axis::Vertical => {
                (wl_pointer::Axis::VerticalScroll, amount.checked_neg().unwrap_or(i32::MAX), &mut self.vertical)
            }
            Axis::Horizontal => (wl_pointer::Axis::HorizontalScroll, amount, &mut self.horizontal),
        };
        let value = f64::from(amount) * NOTCH / f64::from(SCROLL_UNITS);
        match notches.add(amount) {
            0 => self.proxy.axis(time_ms, name, value),
            notches => self.proxy.axis_discrete(time_ms, name, value, notches),
        }
        // After the axis: wlroots gives the source to the axis named last.
        self.proxy.axis_source(wl_pointer::AxisSource::Wheel);
        self.proxy.frame();
    }
}

impl Drop for Pointer {
    fn drop(&mut self) {
        self.proxy.destroy();
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
