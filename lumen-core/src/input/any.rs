//! Any event at all, for tests.

use proptest::prelude::*;

use super::{
    Axis, Button, Held, InputEvent, KeyCode, MAX_CONTACTS, MAX_HELD, MAX_MOTION, MAX_PADS, MAX_SCROLL, PadButtons,
    PadIndex, PadKind, PadState, Text, TouchPhase,
};

fn key() -> impl Strategy<Value = KeyCode> {
    (1u16..0x300).prop_filter_map("a button", KeyCode::new)
}

fn pad() -> impl Strategy<Value = PadIndex> {
    (0..MAX_PADS).prop_filter_map("no pad", PadIndex::new)
}

fn pad_state() -> impl Strategy<Value = PadState> {
    (any::<u32>(), any::<u8>(), any::<u8>(), any::<(i16, i16)>(), any::<(i16, i16)>()).prop_map(
        |(buttons, left_trigger, right_trigger, left_stick, right_stick)| PadState {
            buttons: PadButtons::new(buttons),
            left_trigger,
            right_trigger,
            left_stick,
            right_stick,
        },
    )
}

pub(crate) fn any_event() -> impl Strategy<Value = InputEvent> {
    let phase = prop::sample::select(vec![TouchPhase::Down, TouchPhase::Move, TouchPhase::Up, TouchPhase::Cancel]);
    let kind = prop::sample::select(vec![PadKind::Unknown, PadKind::Xbox, PadKind::PlayStation, PadKind::Nintendo]);
    prop_oneof![
        (key(), any::<bool>()).prop_map(|(code, pressed)| InputEvent::Key { code, pressed }),
        "\\PC{1,16}".prop_filter_map("too long", |text| Text::new(&text).map(InputEvent::Text)),
        (-MAX_MOTION..=MAX_MOTION, -MAX_MOTION..=MAX_MOTION).prop_map(|(dx, dy)| InputEvent::Motion { dx, dy }),
        any::<(u16, u16)>().prop_map(|(x, y)| InputEvent::Position { x, y }),
        (prop::sample::select(&Button::ALL[..]), any::<bool>())
            .prop_map(|(button, pressed)| InputEvent::Button { button, pressed }),
        (prop::sample::select(vec![Axis::Vertical, Axis::Horizontal]), -MAX_SCROLL..=MAX_SCROLL)
            .prop_map(|(axis, amount)| InputEvent::Scroll { axis, amount }),
        (0..MAX_CONTACTS, phase, any::<(u16, u16, u16)>())
            .prop_map(|(contact, phase, (x, y, pressure))| InputEvent::Touch { contact, phase, x, y, pressure }),
        (pad(), kind).prop_map(|(pad, kind)| InputEvent::PadArrived { pad, kind }),
        pad().prop_map(|pad| InputEvent::PadRemoved { pad }),
        (pad(), pad_state()).prop_map(|(pad, state)| InputEvent::PadState { pad, state }),
        (prop::collection::vec(key(), 0..=MAX_HELD), any::<(u8, u16)>())
            .prop_map(|(keys, (buttons, contacts))| InputEvent::Held(Held::new(keys, buttons, contacts))),
    ]
}
