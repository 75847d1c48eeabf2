//! Any packet that a client may send, for tests.

use proptest::prelude::*;

use super::{Contact, Fraction, Packet, Point, Sensor, Tool, Utf8};
use crate::input::{Axis, Button, MAX_PADS, PadButtons, PadIndex, PadKind, PadState};

fn pad() -> impl Strategy<Value = PadIndex> {
    (0..MAX_PADS).prop_filter_map("no pad", PadIndex::new)
}

fn pad_state() -> impl Strategy<Value = PadState> {
    (any::<u32>(), any::<[u8; 2]>(), any::<[i16; 4]>()).prop_map(|(buttons, triggers, sticks)| PadState {
        buttons: PadButtons::new(buttons),
        left_trigger: triggers[0],
        right_trigger: triggers[1],
        left_stick: (sticks[0], sticks[1]),
        right_stick: (sticks[2], sticks[3]),
    })
}

fn contact() -> impl Strategy<Value = Contact> {
    prop::sample::select(&Contact::ALL[..])
}

fn point() -> impl Strategy<Value = Point> {
    any::<[u16; 3]>().prop_map(|[x, y, pressure]| Point {
        x: Fraction(x),
        y: Fraction(y),
        pressure: Fraction(pressure),
    })
}

/// A place that a client can say which counts in 32767 pixels.
fn place() -> impl Strategy<Value = Fraction> {
    (0..=i16::MAX as u32).prop_map(|at| Fraction((at * 65535 / 32767) as u16))
}

/// Few numbers, so that they come again.
fn finger() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..20, any::<u32>()]
}

pub(in crate::gamestream) fn any_packet() -> impl Strategy<Value = Packet> {
    let sensor = prop::sample::select(vec![Sensor::Accelerometer, Sensor::Gyroscope]);
    let tool = prop::sample::select(vec![Tool::Unknown, Tool::Pen, Tool::Eraser]);
    let kind = prop::sample::select(vec![PadKind::Unknown, PadKind::Xbox, PadKind::PlayStation, PadKind::Nintendo]);
    let axis = prop::sample::select(vec![Axis::Vertical, Axis::Horizontal]);
    let finite = any::<[i16; 3]>().prop_map(|axes| axes.map(|axis| f32::from(axis) / 7.0));
    prop_oneof![
        (any::<u8>(), any::<bool>(), any::<bool>()).prop_map(|(vk, pressed, normalised)| Packet::Key {
            vk,
            pressed,
            normalised
        }),
        prop_oneof!["\\PC{1,10}", "[\\n\\r\\ta\u{7}]{1,32}"]
            .prop_filter_map("too long", |text| Utf8::new(&text).map(Packet::Text)),
        any::<(i16, i16)>().prop_map(|(dx, dy)| Packet::Motion { dx, dy }),
        (place(), place()).prop_map(|(x, y)| Packet::Position { x, y }),
        (prop::sample::select(&Button::ALL[..]), any::<bool>())
            .prop_map(|(button, pressed)| Packet::Button { button, pressed }),
        (axis, any::<i16>()).prop_map(|(axis, amount)| Packet::Scroll { axis, amount }),
        (pad(), any::<u16>(), pad_state()).prop_map(|(pad, present, state)| Packet::Pad { pad, present, state }),
        any::<bool>().prop_map(Packet::Haptics),
        (finger(), contact(), point()).prop_map(|(id, contact, point)| Packet::Touch { id, contact, point }),
        (contact(), tool, any::<u8>(), point()).prop_map(|(contact, tool, buttons, point)| Packet::Pen {
            contact,
            tool,
            buttons,
            point
        }),
        (pad(), kind, any::<(u16, u32)>()).prop_map(|(pad, kind, (capabilities, buttons))| Packet::PadArrived {
            pad,
            kind,
            capabilities,
            buttons
        }),
        (pad(), any::<u8>(), finger(), contact(), point())
            .prop_map(|(pad, touchpad, id, contact, point)| Packet::PadTouch { pad, touchpad, id, contact, point }),
        (pad(), sensor, finite).prop_map(|(pad, sensor, axes)| Packet::PadMotion { pad, sensor, axes }),
        (pad(), any::<(u8, u8)>()).prop_map(|(pad, (state, percent))| Packet::PadBattery { pad, state, percent }),
        (0x5500_0008u32..).prop_map(Packet::Unknown),
    ]
}
