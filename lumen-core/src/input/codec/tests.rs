use proptest::prelude::*;

use super::*;
use crate::input::any_event;

fn encoded(event: &InputEvent) -> Vec<u8> {
    let mut out = [0xAA; MAX_EVENT];
    let length = event.encode(&mut out);
    out[..length].to_vec()
}

#[test]
fn the_vectors_of_the_protocol() {
    let key = KeyCode::new(30).unwrap();
    let pad = PadIndex::new(1).unwrap();
    let state = PadState {
        buttons: PadButtons::new(PadButtons::A | PadButtons::UP),
        left_trigger: 255,
        right_trigger: 1,
        left_stick: (-32768, 32767),
        right_stick: (0, -2),
    };
    let vectors: [(InputEvent, &[u8]); 11] = [
        (InputEvent::Key { code: key, pressed: true }, &[1, 30, 0, 1]),
        (InputEvent::Text(Text::new("ß").unwrap()), &[2, 0xC3, 0x9F]),
        (InputEvent::Motion { dx: 256, dy: -128 }, &[3, 0, 1, 0, 0, 0x80, 0xFF, 0xFF, 0xFF]),
        (InputEvent::Position { x: 32768, y: 65535 }, &[4, 0, 0x80, 0xFF, 0xFF]),
        (InputEvent::Button { button: Button::Middle, pressed: false }, &[5, 2, 0]),
        (InputEvent::Scroll { axis: Axis::Horizontal, amount: -120 }, &[6, 1, 0x88, 0xFF, 0xFF, 0xFF]),
        (
            InputEvent::Touch { contact: 15, phase: TouchPhase::Cancel, x: 1, y: 2, pressure: 3 },
            &[7, 15, 3, 1, 0, 2, 0, 3, 0],
        ),
        (InputEvent::PadArrived { pad, kind: PadKind::PlayStation }, &[8, 1, 2]),
        (InputEvent::PadRemoved { pad }, &[9, 1]),
        (
            InputEvent::PadState { pad, state },
            &[10, 1, 0x01, 0x10, 0, 0, 255, 1, 0, 0x80, 0xFF, 0x7F, 0, 0, 0xFE, 0xFF],
        ),
        (InputEvent::Held(Held::new([key], 4, 0x8001)), &[11, 1, 30, 0, 4, 1, 0x80]),
    ];
    for (event, bytes) in vectors {
        assert_eq!(encoded(&event), bytes);
        assert_eq!(InputEvent::decode(bytes), Some(event));
    }
    let rumble = Rumble { pad, low: 0x1234, high: 0xFFFF };
    assert_eq!(rumble.datagram(), [0xCA, 1, 0x34, 0x12, 0xFF, 0xFF]);
    assert_eq!(Rumble::from_datagram(&rumble.datagram()), Some(rumble));
    assert_eq!(Rumble::decode(&rumble.encode()), Some(rumble));
}

#[test]
fn what_may_not_be_injected_is_no_event() {
    let bad: [&[u8]; 27] = [
        &[],
        &[0],
        &[12, 0],
        &[255],
        &[1, 0, 0, 1],
        &[1, 0x10, 1, 1],
        &[1, 0, 3, 1],
        &[1, 30, 0, 2],
        &[1, 30, 0],
        &[2],
        &[2, 7],
        &[2, b'a', b'\n'],
        &[2, 0xC2, 0x85],
        &[2, 0xC3],
        &[3, 1, 0, 0, 1, 0, 0, 0, 0],
        &[3, 0, 0, 0, 0, 0, 0, 0, 0x80],
        &[4, 0, 0, 0],
        &[5, 5, 0],
        &[6, 2, 0, 0, 0, 0],
        &[6, 0, 0, 0, 0, 0x80],
        &[7, 16, 0, 0, 0, 0, 0, 0, 0],
        &[7, 0, 4, 0, 0, 0, 0, 0, 0],
        &[8, 255, 0],
        &[8, 0, 4],
        &[9, 16],
        &[11, 0, 0x20, 0, 0],
        &[11, 33, 0, 0, 0],
    ];
    for bytes in bad {
        assert_eq!(InputEvent::decode(bytes), None, "{bytes:?}");
    }
    let long = [&[2][..], &[b'a'; 65]].concat();
    assert_eq!(InputEvent::decode(&long), None);
    assert!(InputEvent::decode(&long[..65]).is_some());
    for bytes in [&[][..], &[0xCA, 0, 0, 0, 0, 0, 0], &[0xCA, 16, 0, 0, 0, 0], &[0xCB, 0, 0, 0, 0, 0]] {
        assert_eq!(Rumble::from_datagram(bytes), None, "{bytes:?}");
    }
}

#[test]
fn motion_and_scroll_beyond_the_bounds_are_cut() {
    let motion = InputEvent::Motion { dx: i32::MIN, dy: i32::MAX };
    assert_eq!(InputEvent::decode(&encoded(&motion)), Some(InputEvent::Motion { dx: -MAX_MOTION, dy: MAX_MOTION }));
    let scroll = InputEvent::Scroll { axis: Axis::Vertical, amount: i32::MIN };
    assert_eq!(
        InputEvent::decode(&encoded(&scroll)),
        Some(InputEvent::Scroll { axis: Axis::Vertical, amount: -MAX_SCROLL })
    );
}

proptest! {
    #[test]
    fn every_event_survives_and_no_prefix_of_it_is_another(event in any_event()) {
        let bytes = encoded(&event);
        prop_assert_eq!(InputEvent::decode(&bytes), Some(event));
        let mut more = bytes.clone();
        more.push(b'x');
        // Only text grows by a byte and stays an event.
        prop_assert!(bytes[0] == TEXT || InputEvent::decode(&more).is_none());
    }

    #[test]
    fn no_bytes_panic_the_decoder(kind in 0u8..16, rest in proptest::collection::vec(any::<u8>(), 0..80)) {
        let bytes = [&[kind][..], &rest].concat();
        if let Some(event) = InputEvent::decode(&bytes) {
            // Unknown buttons of a pad are the one thing that is dropped silently.
            prop_assert!(kind == PAD_STATE || encoded(&event) == bytes);
        }
        let _ = Rumble::from_datagram(&bytes);
        let _ = crate::audio::parse(&bytes);
    }
}
