//! Input events that are acknowledged but did not fit into the ring: few, because those that only say where something
//! has got to are merged.

use std::collections::VecDeque;

use lumen_core::InputEvent;
use lumen_core::input::{MAX_MOTION, MAX_SCROLL, PadIndex, TouchPhase};

/// Events of the pointer that may wait; only those of one kind in a row are merged, so that a scroll still happens
/// where the pointer was.
const POINTER: usize = 8;
/// States of one pad that may wait: one more than the newest, because a press is not merged with its release.
const PAD: usize = 2;

/// Events in the order in which they have to be injected, each with the number of the newest that it stands for.
/// Bounded: those of the pointer, and those of each pad.
#[derive(Default, Debug)]
pub struct Pending(VecDeque<(u32, InputEvent)>);

/// What became of an event that was offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Offered {
    /// It waits.
    Kept,
    /// It is part of one that waits.
    Merged,
    /// It is not of a kind that can wait, or too much waits already.
    Refused,
}

/// Events whose order among each other matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Device {
    Pointer,
    Pad(PadIndex),
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn oldest(&self) -> Option<&(u32, InputEvent)> {
        self.0.front()
    }

    pub fn forget_oldest(&mut self) {
        self.0.pop_front();
    }

    /// Keeps an event that nothing may overtake but those of other devices.
    pub fn offer(&mut self, number: u32, event: &InputEvent) -> Offered {
        let Some(device) = device(event) else { return Offered::Refused };
        let same = |(_, waiting): &&mut (u32, InputEvent)| self::device(waiting) == Some(device);
        if let Some((newest, waiting)) = self.0.iter_mut().rfind(same)
            && let Some(merged) = merged(waiting, event)
        {
            (*newest, *waiting) = (number, merged);
            return Offered::Merged;
        }
        let limit = if device == Device::Pointer { POINTER } else { PAD };
        if self.0.iter().filter(|(_, waiting)| self::device(waiting) == Some(device)).count() >= limit {
            return Offered::Refused;
        }
        self.0.push_back((number, *event));
        Offered::Kept
    }
}

/// Whose event this is, if it is of a kind that may wait.
fn device(event: &InputEvent) -> Option<Device> {
    match event {
        // Where there is no touch screen the first contact moves the pointer.
        InputEvent::Motion { .. }
        | InputEvent::Position { .. }
        | InputEvent::Scroll { .. }
        | InputEvent::Touch { phase: TouchPhase::Move, .. } => Some(Device::Pointer),
        InputEvent::PadState { pad, .. } => Some(Device::Pad(*pad)),
        InputEvent::Key { .. }
        | InputEvent::Text(_)
        | InputEvent::Button { .. }
        | InputEvent::Touch { .. }
        | InputEvent::PadArrived { .. }
        | InputEvent::PadRemoved { .. }
        | InputEvent::Held(_) => None,
    }
}

/// The one event that does what `old` and then `new` would have done.
pub fn merged(old: &InputEvent, new: &InputEvent) -> Option<InputEvent> {
    use InputEvent::{Motion, PadState, Position, Scroll, Touch};
    match (*old, *new) {
        (Motion { dx, dy }, Motion { dx: more_x, dy: more_y }) => {
            Some(Motion { dx: sum(dx, more_x, MAX_MOTION)?, dy: sum(dy, more_y, MAX_MOTION)? })
        }
        (Position { .. }, position @ Position { .. }) => Some(position),
        (Scroll { axis, amount }, Scroll { axis: other, amount: more }) if axis == other => {
            Some(Scroll { axis, amount: sum(amount, more, MAX_SCROLL)? })
        }
        (Touch { contact, .. }, touch @ Touch { contact: other, .. }) if contact == other => Some(touch),
        // Sticks and triggers only say where they are, but a press must not vanish in the release after it.
        (PadState { state: old, .. }, new @ PadState { state, .. }) if old.buttons == state.buttons => Some(new),
        _ => None,
    }
}

/// None if no one event can say it.
fn sum(one: i32, other: i32, most: i32) -> Option<i32> {
    one.checked_add(other).filter(|sum| (-most..=most).contains(sum))
}

#[cfg(test)]
mod tests {
    use lumen_core::input::{Axis, Button, PadButtons, PadState};

    use super::*;

    fn drained(mut pending: Pending) -> Vec<InputEvent> {
        let mut events = Vec::new();
        while let Some((_, event)) = pending.oldest().copied() {
            events.push(event);
            pending.forget_oldest();
        }
        events
    }

    fn pad(pad: u8, buttons: u32, left_trigger: u8) -> InputEvent {
        let state = PadState { buttons: PadButtons::new(buttons), left_trigger, ..PadState::default() };
        InputEvent::PadState { pad: PadIndex::new(pad).unwrap(), state }
    }

    #[test]
    fn a_flood_of_motion_becomes_one_motion_of_the_same_length() {
        let mut pending = Pending::default();
        for _ in 0..100_000 {
            assert_ne!(pending.offer(0, &InputEvent::Motion { dx: 3, dy: -2 }), Offered::Refused);
        }
        assert_eq!(drained(pending), [InputEvent::Motion { dx: 300_000, dy: -200_000 }]);
    }

    #[test]
    fn different_kinds_keep_their_order_and_their_bound() {
        let mut pending = Pending::default();
        let motion = InputEvent::Motion { dx: 1, dy: 0 };
        let scroll = InputEvent::Scroll { axis: Axis::Vertical, amount: 120 };
        for _ in 0..POINTER / 2 {
            assert_eq!((pending.offer(0, &motion), pending.offer(0, &scroll)), (Offered::Kept, Offered::Kept));
        }
        assert_eq!(pending.offer(0, &motion), Offered::Refused);
        assert_eq!(pending.offer(0, &scroll), Offered::Merged);
        let events = drained(pending);
        assert_eq!(events[..2], [motion, scroll]);
        assert_eq!(events[POINTER - 1], InputEvent::Scroll { axis: Axis::Vertical, amount: 240 });
    }

    #[test]
    fn a_press_between_two_states_of_a_pad_is_not_swallowed() {
        let mut pending = Pending::default();
        assert_eq!(pending.offer(0, &pad(1, 0, 10)), Offered::Kept);
        assert_eq!(pending.offer(0, &pad(2, 0, 0)), Offered::Kept);
        assert_eq!(pending.offer(0, &pad(1, 0, 20)), Offered::Merged);
        assert_eq!(pending.offer(0, &pad(1, PadButtons::A, 20)), Offered::Kept);
        assert_eq!(pending.offer(0, &pad(1, 0, 20)), Offered::Refused, "the client says it again");
        assert_eq!(drained(pending), [pad(1, 0, 20), pad(2, 0, 0), pad(1, PadButtons::A, 20)]);
    }

    #[test]
    fn what_cannot_wait_is_refused_and_sums_stay_in_bounds() {
        let mut pending = Pending::default();
        let press = InputEvent::Button { button: Button::Left, pressed: true };
        assert_eq!(pending.offer(0, &press), Offered::Refused);
        let far = InputEvent::Motion { dx: MAX_MOTION, dy: 0 };
        assert_eq!((pending.offer(0, &far), pending.offer(0, &far)), (Offered::Kept, Offered::Kept));
        assert!(!pending.is_empty());
    }
}
