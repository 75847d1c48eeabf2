use proptest::prelude::*;

use super::*;
use crate::InputEvent;
use crate::gamestream::keys;
use crate::input::{Hands, Held, KeyCode, MAX_EVENT, PadButtons, Text, TouchPhase};

fn hex(text: &str) -> Vec<u8> {
    let text = text.replace(' ', "");
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn pad(index: u8) -> PadIndex {
    PadIndex::new(index).unwrap()
}

fn point(x: u16, y: u16, pressure: u16) -> Point {
    Point { x: Fraction(x), y: Fraction(y), pressure: Fraction(pressure) }
}

/// Packets by the structures of Input.h with the values of InputStream.c.
fn said() -> Vec<(&'static str, Packet)> {
    let buttons = PadButtons::new(0x0020_8001);
    let (left_stick, right_stick) = ((-32768, 32767), (1, -2));
    let state = PadState { buttons, left_trigger: 255, right_trigger: 1, left_stick, right_stick };
    vec![
        // Qt's key A, shift held, down and up.
        ("0000000a 03000000 00 4180 01 0000", Packet::Key { vk: 0x41, pressed: true, normalised: true }),
        ("0000000a 04000000 00 4180 01 0000", Packet::Key { vk: 0x41, pressed: false, normalised: true }),
        ("0000000a 03000000 01 e280 00 0000", Packet::Key { vk: 0xE2, pressed: true, normalised: false }),
        ("00000006 17000000 c3a4", Packet::Text(Utf8::new("ä").unwrap())),
        // The first motion of every session (Connection.c).
        ("00000008 07000000 0001 0001", Packet::Motion { dx: 1, dy: 1 }),
        ("00000008 07000000 ffff 8000", Packet::Motion { dx: -1, dy: -32768 }),
        // The middle and the last pixel of a window of 1281x721.
        ("0000000e 05000000 0280 0168 0000 0500 02d0", Packet::Position { x: Fraction(32767), y: Fraction(32767) }),
        ("0000000e 05000000 0500 02d0 0000 0500 02d0", Packet::Position { x: Fraction(65535), y: Fraction(65535) }),
        ("0000000e 05000000 0501 ffff 0000 0500 02d0", Packet::Position { x: Fraction(65535), y: Fraction(0) }),
        ("00000005 08000000 01", Packet::Button { button: Button::Left, pressed: true }),
        ("00000005 09000000 02", Packet::Button { button: Button::Middle, pressed: false }),
        ("00000005 08000000 05", Packet::Button { button: Button::Extra, pressed: true }),
        ("0000000a 0a000000 0078 0078 0000", Packet::Scroll { axis: Axis::Vertical, amount: 120 }),
        ("00000006 01000055 ff88", Packet::Scroll { axis: Axis::Horizontal, amount: -120 }),
        (
            "0000001e 0c000000 1a00 0200 0500 1400 0180 ff 01 0080 ff7f 0100 feff 9c00 2000 5500",
            Packet::Pad { pad: pad(2), present: 5, state },
        ),
        ("00000006 0d000000 0100", Packet::Haptics(true)),
        (
            "00000020 02000055 01 00 ffff 07000000 0000003f 0000803f 00000000 00000000 00000000",
            Packet::Touch { id: 7, contact: Contact::Down, point: point(32768, 65535, 0) },
        ),
        (
            "00000020 03000055 03 02 01 00 00000000 0000803f 0000803e ffff ff 00 00000000 00000000",
            Packet::Pen { contact: Contact::Move, tool: Tool::Eraser, buttons: 1, point: point(0, 65535, 16384) },
        ),
        (
            "0000000c 04000055 0f 02 ff01 ffff3f00",
            Packet::PadArrived { pad: pad(15), kind: PadKind::PlayStation, capabilities: 0x1FF, buttons: 0x003F_FFFF },
        ),
        (
            "00000018 05000055 00 02 00 01 01000000 0000803f 0000803f 00000000",
            Packet::PadTouch { pad: pad(0), touchpad: 1, id: 1, contact: Contact::Up, point: point(65535, 65535, 0) },
        ),
        (
            "00000014 06000055 01 02 0000 0000803f 000080bf 00000000",
            Packet::PadMotion { pad: pad(1), sensor: Sensor::Gyroscope, axes: [1.0, -1.0, 0.0] },
        ),
        ("00000008 07000055 01 03 64 00", Packet::PadBattery { pad: pad(1), state: 3, percent: 100 }),
        ("00000004 08000055", Packet::Unknown(0x5500_0008)),
    ]
}

#[test]
fn packets_as_clients_write_them() {
    for (bytes, packet) in said() {
        let bytes = hex(bytes);
        assert_eq!(Packet::parse(&bytes), Ok(packet), "{bytes:02x?}");
        let mut again = Vec::new();
        packet.encode(&mut again);
        assert_eq!(Packet::parse(&again).map(|it| std::mem::discriminant(&it)), Ok(std::mem::discriminant(&packet)));
        assert_eq!(again.len(), bytes.len(), "{packet:?}");
    }
}

#[test]
fn truncated_packets_are_none() {
    for (bytes, packet) in said() {
        let whole = hex(bytes);
        for end in 0..whole.len() {
            assert_eq!(Packet::parse(&whole[..end]), Err(Malformed), "{end} bytes of {packet:?}");
            // With a size to fit.
            if end >= 4 {
                let mut cut = whole[..end].to_vec();
                cut[..4].copy_from_slice(&(end as u32 - 4).to_be_bytes());
                let parsed = Packet::parse(&cut);
                let padding = matches!((&packet, parsed), (a, Ok(b)) if *a == b);
                assert!(parsed.is_err() || padding, "{end} bytes of {packet:?}: {parsed:?}");
            }
        }
    }
}

#[test]
fn impossible_values_are_none() {
    let wrong = [
        "00000004 17000000",                                       // no text
        "00000006 17000000 c328",                                  // not UTF-8
        "00000005 08000000 00",                                    // no button
        "00000005 08000000 06",                                    // none that there is
        "0000000e 05000000 0280 0168 0000 0000 02d0",              // a picture of no width
        "0000000e 05000000 0280 0168 0000 ffff 02d0",              // or of less
        "00000014 06000055 01 03 0000 0000803f 000080bf 00000000", // no sensor
        "00000014 06000055 01 02 0000 0000c07f 000080bf 00000000", // not a number
        "0000000c 04000055 10 02 ff01 ffff3f00",                   // pad 16
        "00000020 02000055 08 00 ffff 07000000 0000003f 0000803f 00000000 00000000 00000000",
    ];
    for bytes in wrong {
        assert_eq!(Packet::parse(&hex(bytes)), Err(Malformed), "{bytes}");
    }
    let mut long = hex("00000025 17000000");
    long.resize(4 + 0x25, b'a');
    assert_eq!(Packet::parse(&long), Err(Malformed));
}

#[test]
fn fractions() {
    for (value, expected) in [
        (0.0, 0),
        (-0.0, 0),
        (1.0, 65535),
        (0.5, 32768),
        (1e-9, 1),
        (-1.0, 0),
        (7.5, 65535),
        (f32::INFINITY, 65535),
        (f32::NEG_INFINITY, 0),
        (f32::NAN, 0),
    ] {
        assert_eq!(Fraction::new(value), Fraction(expected), "{value}");
    }
}

/// The events of these packets, and what became of the last.
fn events(packets: &[Packet]) -> (Vec<InputEvent>, Verdict) {
    let (mut hands, mut out, mut verdict) = (GuestHands::default(), Vec::new(), Verdict::Done);
    for packet in packets {
        verdict = hands.to_events(packet, &mut out);
    }
    (out, verdict)
}

fn key(code: u16, pressed: bool) -> InputEvent {
    InputEvent::Key { code: KeyCode::new(code).unwrap(), pressed }
}

#[test]
fn keys_mouse_and_text() {
    let said = [
        Packet::Key { vk: 0x41, pressed: true, normalised: true },
        Packet::Motion { dx: -3, dy: 4 },
        Packet::Position { x: Fraction(1), y: Fraction(2) },
        Packet::Button { button: Button::Side, pressed: true },
        Packet::Scroll { axis: Axis::Vertical, amount: -240 },
        Packet::Text(Utf8::new("ab\tc\n\u{7}").unwrap()),
    ];
    let text = |text: &str| InputEvent::Text(Text::new(text).unwrap());
    let meant = [
        key(30, true),
        InputEvent::Motion { dx: -768, dy: 1024 },
        InputEvent::Position { x: 1, y: 2 },
        InputEvent::Button { button: Button::Side, pressed: true },
        InputEvent::Scroll { axis: Axis::Vertical, amount: -240 },
        text("ab"),
        key(15, true),
        key(15, false),
        text("c"),
        key(28, true),
        key(28, false),
    ];
    assert_eq!(events(&said), (meant.to_vec(), Verdict::Done));
    let unknown = Packet::Key { vk: 0xFF, pressed: true, normalised: true };
    assert_eq!(events(&[unknown]), (vec![], Verdict::Unsupported));
    assert_eq!(events(&[Packet::Haptics(true)]), (vec![], Verdict::Haptics(true)));
}

#[test]
fn pads_arrive_move_and_go() {
    let state = |index, present| Packet::Pad { pad: pad(index), present, state: PadState::default() };
    let arrived = Packet::PadArrived { pad: pad(1), kind: PadKind::Nintendo, capabilities: 0, buttons: 0 };
    let moved = |index| InputEvent::PadState { pad: pad(index), state: PadState::default() };
    // Pad 0 says nothing of itself; pad 1 does, and then what old hosts need. What pad 0's packets say of pad 1 may be
    // old. Pad 2 was never there.
    let said = [state(0, 1), arrived, state(1, 3), state(0, 1), state(1, 1), state(1, 1), state(2, 1), state(1, 2)];
    let meant = [
        InputEvent::PadArrived { pad: pad(0), kind: PadKind::Unknown },
        moved(0),
        InputEvent::PadArrived { pad: pad(1), kind: PadKind::Nintendo },
        moved(1),
        moved(0),
        InputEvent::PadRemoved { pad: pad(1) },
        InputEvent::PadArrived { pad: pad(1), kind: PadKind::Unknown },
        moved(1),
    ];
    assert_eq!(events(&said).0, meant);
    let mut hands = GuestHands::default();
    let mut out = Vec::new();
    said.iter().for_each(|packet| {
        hands.to_events(packet, &mut out);
    });
    assert!(hands.has_pad(pad(0)) && hands.has_pad(pad(1)) && !hands.has_pad(pad(2)));
    out.clear();
    hands.let_go(&mut out);
    let removed = [0, 1].map(|index| InputEvent::PadRemoved { pad: pad(index) });
    assert_eq!(out, [vec![InputEvent::Held(Held::NOTHING)], removed.to_vec()].concat());
}

#[test]
fn fingers_and_pens_are_contacts() {
    let finger = |id, contact, x| Packet::Touch { id, contact, point: point(x, 5, 9) };
    let pen = |contact, x| Packet::Pen { contact, tool: Tool::Pen, buttons: 0, point: point(x, 5, 9) };
    let touch = |contact, phase, x, pressure| InputEvent::Touch { contact, phase, x, y: 5, pressure };
    let said = [
        finger(900, Contact::Down, 1),
        finger(901, Contact::Hover, 2),
        finger(901, Contact::Down, 3),
        finger(900, Contact::Up, 4),
        finger(900, Contact::Move, 5),
        pen(Contact::Hover, 6),
        pen(Contact::Down, 7),
        pen(Contact::Buttons, 8),
        finger(901, Contact::Move, 9),
        finger(0, Contact::CancelAll, 0),
        pen(Contact::Hover, 10),
        pen(Contact::Hover, 11),
    ];
    let meant = [
        touch(0, TouchPhase::Down, 1, 9),
        touch(1, TouchPhase::Down, 3, 9),
        touch(0, TouchPhase::Up, 4, 0),
        InputEvent::Position { x: 6, y: 5 },
        touch(0, TouchPhase::Down, 7, 9),
        touch(1, TouchPhase::Move, 9, 9),
        touch(1, TouchPhase::Cancel, 9, 0),
        touch(0, TouchPhase::Up, 10, 0),
        InputEvent::Position { x: 11, y: 5 },
    ];
    assert_eq!(events(&said).0, meant);
    let many: Vec<_> = (0..17).map(|id| finger(id, Contact::Down, 0)).collect();
    let (out, verdict) = events(&many);
    assert_eq!((out.len(), verdict), (16, Verdict::TooMany));
}

proptest! {
    #[test]
    fn any_bytes_are_a_packet_or_not(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        kind in prop_oneof![0u32..0x20, 0x5500_0000u32..0x5500_000A],
    ) {
        let _ = Packet::parse(&bytes);
        let mut framed = (bytes.len() as u32 + 4).to_be_bytes().to_vec();
        framed.extend_from_slice(&kind.to_le_bytes());
        framed.extend_from_slice(&bytes);
        if let Ok(packet) = Packet::parse(&framed) {
            GuestHands::default().to_events(&packet, &mut Vec::new());
        }
    }

    #[test]
    fn what_a_client_says_is_heard(packet in any_packet()) {
        let mut bytes = Vec::new();
        packet.encode(&mut bytes);
        prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
        // A newer client may say more.
        if !matches!(packet, Packet::Text(_)) {
            bytes.push(0);
            let size = bytes.len() as u32 - 4;
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            prop_assert_eq!(Packet::parse(&bytes), Ok(packet));
        }
    }

    /// Events are ones that lumen/1 could carry too, contacts come in pairs, pads arrive before they move, and letting go
    /// leaves nothing behind.
    #[test]
    fn hands_make_sense(packets in prop::collection::vec(any_packet(), 0..200)) {
        let (mut hands, mut pads, mut contacts) = (GuestHands::default(), 0u16, 0u16);
        let mut follow = |events: &[InputEvent]| -> Result<(u16, u16), TestCaseError> {
            for event in events {
                let mut bytes = [0; MAX_EVENT];
                let length = event.encode(&mut bytes);
                prop_assert_eq!(InputEvent::decode(&bytes[..length]), Some(*event));
                match *event {
                    InputEvent::PadArrived { pad, .. } => {
                        prop_assert_eq!(pads & 1 << pad.get(), 0);
                        pads |= 1 << pad.get();
                    }
                    InputEvent::PadState { pad, .. } => prop_assert_ne!(pads & 1 << pad.get(), 0),
                    InputEvent::PadRemoved { pad } => {
                        prop_assert_ne!(pads & 1 << pad.get(), 0);
                        pads &= !(1 << pad.get());
                    }
                    InputEvent::Touch { contact, phase: TouchPhase::Down, .. } => {
                        prop_assert_eq!(contacts & 1 << contact, 0);
                        contacts |= 1 << contact;
                    }
                    InputEvent::Touch { contact, phase, .. } => {
                        prop_assert_ne!(contacts & 1 << contact, 0);
                        contacts &= if phase == TouchPhase::Move { u16::MAX } else { !(1 << contact) };
                    }
                    InputEvent::Held(held) => {
                        prop_assert_eq!(held, Held::NOTHING);
                        contacts = 0;
                    }
                    _ => {}
                }
            }
            Ok((pads, contacts))
        };
        for packet in &packets {
            let mut out = Vec::new();
            hands.to_events(packet, &mut out);
            prop_assert!(out.len() <= GuestHands::MAX_EVENTS);
            follow(&out)?;
        }
        let mut out = Vec::new();
        hands.let_go(&mut out);
        prop_assert_eq!(follow(&out)?, (0, 0));
        // And it may begin anew.
        let down = Packet::Touch { id: 1, contact: Contact::Down, point: Point::default() };
        let mut again = Vec::new();
        prop_assert_eq!(hands.to_events(&down, &mut again), Verdict::Done);
        prop_assert_eq!(again.len(), 1);
    }

    /// A press that was heard is lifted by the same key.
    #[test]
    fn a_key_has_one_code(vk in any::<u8>(), normalised in any::<bool>()) {
        let Some(code) = keys::evdev(vk, normalised) else { return Ok(()) };
        let mut hands = Hands::default();
        let both = [true, false].map(|pressed| Packet::Key { vk, pressed, normalised });
        let (events, _) = events(&both);
        hands.apply(&events[0]);
        prop_assert!(hands.is_key_down(code));
        hands.apply(&events[1]);
        prop_assert!(hands.is_empty());
    }
}
