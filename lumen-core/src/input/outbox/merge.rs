//! Which events may become one, and which may change places, when more come than the host takes.

use crate::input::{InputEvent, MAX_MOTION, MAX_SCROLL, PadIndex};

/// The one event that does what `waiting` and, right after it, `event` do.
///
/// Pads with other buttons than before are not merged: a press must not vanish between two states.
pub(super) fn merged(waiting: &InputEvent, event: &InputEvent) -> Option<InputEvent> {
    match (*waiting, *event) {
        (InputEvent::Motion { dx, dy }, InputEvent::Motion { dx: more_x, dy: more_y }) => {
            Some(InputEvent::Motion { dx: sum(dx, more_x, MAX_MOTION)?, dy: sum(dy, more_y, MAX_MOTION)? })
        }
        (InputEvent::Position { .. }, InputEvent::Position { .. }) => Some(*event),
        (InputEvent::Scroll { axis, amount }, InputEvent::Scroll { axis: same, amount: more }) if axis == same => {
            Some(InputEvent::Scroll { axis, amount: sum(amount, more, MAX_SCROLL)? })
        }
        (InputEvent::PadState { pad, state: old }, InputEvent::PadState { pad: same, state }) => {
            (pad == same && old.buttons == state.buttons).then_some(*event)
        }
        _ => None,
    }
}

/// Whether it makes no difference which of the two comes first: a pad has nothing to do with anything else, and the
/// two axes of a wheel have nothing to do with each other.
pub(super) fn commute(one: &InputEvent, other: &InputEvent) -> bool {
    if let (InputEvent::Scroll { axis, .. }, InputEvent::Scroll { axis: across, .. }) = (one, other) {
        return axis != across;
    }
    let pads = (pad(one), pad(other));
    pads != (None, None) && pads.0 != pads.1
}

fn pad(event: &InputEvent) -> Option<PadIndex> {
    match *event {
        InputEvent::PadArrived { pad, .. } | InputEvent::PadRemoved { pad } | InputEvent::PadState { pad, .. } => {
            Some(pad)
        }
        _ => None,
    }
}

fn sum(one: i32, other: i32, most: i32) -> Option<i32> {
    one.checked_add(other).filter(|sum| (-most..=most).contains(sum))
}
