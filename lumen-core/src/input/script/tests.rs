use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::input::{Axis, Button, Hands, PadButtons, PadIndex, PadKind, PadState, Text, TouchPhase, keys};

const MS: u64 = 1_000_000;

fn one(line: &str) -> InputEvent {
    let steps = parse(line).unwrap();
    assert_eq!(steps.len(), 1);
    steps[0].event
}

#[test]
fn every_kind_of_line_is_understood() {
    let a = keys::by_name("a").unwrap();
    assert_eq!(one("0 key a down"), InputEvent::Key { code: a, pressed: true });
    assert_eq!(one("0 key 30 up"), InputEvent::Key { code: keys::by_name("30").unwrap(), pressed: false });
    assert_eq!(one("0 text  Hello, you  "), InputEvent::Text(Text::new("Hello, you").unwrap()));
    assert_eq!(one("0 text # no comment"), InputEvent::Text(Text::new("# no comment").unwrap()));
    assert_eq!(one("0 move 10 -5.5"), InputEvent::Motion { dx: 2560, dy: -1408 });
    assert_eq!(one("0 at 0.5 1"), InputEvent::Position { x: 32768, y: 65535 });
    assert_eq!(one("0\tbutton\tside down"), InputEvent::Button { button: Button::Side, pressed: true });
    assert_eq!(one("0 scroll 120"), InputEvent::Scroll { axis: Axis::Vertical, amount: 120 });
    assert_eq!(one("0 hscroll -120"), InputEvent::Scroll { axis: Axis::Horizontal, amount: -120 });
    let pad = PadIndex::new(3).unwrap();
    assert_eq!(one("0 pad 3 arrive"), InputEvent::PadArrived { pad, kind: PadKind::Unknown });
    assert_eq!(one("0 pad 3 arrive nintendo"), InputEvent::PadArrived { pad, kind: PadKind::Nintendo });
    assert_eq!(one("0 pad 3 remove"), InputEvent::PadRemoved { pad });
    assert_eq!(one("0 pad 3 state"), InputEvent::PadState { pad, state: PadState::default() });
    let state = PadState {
        buttons: PadButtons::new(PadButtons::A | PadButtons::B | PadButtons::LEFT_BUMPER),
        left_trigger: 255,
        left_stick: (-32768, 0),
        right_stick: (0, 32767),
        ..PadState::default()
    };
    assert_eq!(one("0 pad 3 state a+b lt=255 lb lx=-32768 ry=32767"), InputEvent::PadState { pad, state });
}

#[test]
fn a_contact_leaves_where_it_was() {
    let steps = parse("0 touch 1 down 0 1 0.5\n1.5 touch 1 up\n").unwrap();
    let touch = |phase, pressure| InputEvent::Touch { contact: 1, phase, x: 0, y: 65535, pressure };
    assert_eq!(steps[0], Step { at_ns: 0, event: touch(TouchPhase::Down, 32768) });
    assert_eq!(steps[1], Step { at_ns: 3 * MS / 2, event: touch(TouchPhase::Up, 0) });
}

#[test]
fn errors_name_the_line_and_what_to_write() {
    let error = parse("# a comment\n\n5 key a down\n6 key KEY_A up\n").unwrap_err();
    assert_eq!(error.to_string(), "line 4: no key is called \"KEY_A\"; names are evdev's without KEY_, in lower case");
    assert_eq!(
        parse("5 key a down\n4 key a up").unwrap_err().to_string(),
        "line 2: its time is before that of the line above"
    );
    for bad in [
        "x",
        "key a down",
        "-1 key a down",
        "nan key a down",
        "inf key a down",
        "1e30 key a down",
        "0",
        "0 key",
        "0 key a",
        "0 key a pressed",
        "0 key a down again",
        "0 text",
        "0 text \u{1b}[2J",
        "0 move 1",
        "0 move nan 0",
        "0 move 70000 0",
        "0 at 0.5 1.1",
        "0 button fire down",
        "0 scroll 0.5",
        "0 scroll 99999999999",
        "0 hscroll -1048577",
        "0 touch 16 down 0 0",
        "0 touch 0.5 down 0 0",
        "0 touch 0 down 0",
        "0 touch 0 up 0.5 0.5",
        "0 pad 16 arrive",
        "0 pad 0 arrive sega",
        "0 pad 0 state lt=256",
        "0 pad 0 state lz=1",
        "0 pad 0 state a++b",
        "0 pad 0 fly",
        "0 dance",
    ] {
        assert_eq!(parse(bad).map_err(|error| error.line), Err(1), "{bad}");
    }
    let long = format!("0 text {}", "a".repeat(65));
    assert!(parse(&long).is_err());
}

#[test]
fn the_pattern_does_everything_and_leaves_nothing() {
    let steps = parse(PATTERN).unwrap();
    assert_eq!(steps, pattern());
    let last_ns = steps.last().unwrap().at_ns;
    assert!((1_500 * MS..2_500 * MS).contains(&last_ns));
    let (mut hands, mut pads, mut buttons) = (Hands::default(), BTreeSet::new(), 0);
    let (mut kinds, mut most_contacts) = (BTreeSet::new(), 0);
    for step in &steps {
        hands.apply(&step.event);
        let kind = format!("{:?}", step.event);
        kinds.insert(kind.split([' ', '(']).next().unwrap().to_owned());
        most_contacts = hands.held().contacts.count_ones().max(most_contacts);
        match step.event {
            InputEvent::PadArrived { pad, .. } => assert!(pads.insert(pad)),
            InputEvent::PadState { pad, state } => {
                assert!(pads.contains(&pad));
                buttons |= state.buttons.bits();
            }
            InputEvent::PadRemoved { pad } => assert!(pads.remove(&pad)),
            InputEvent::Text(text) => assert_eq!(text.as_str(), "Grüße 東京 🎮"),
            _ => {}
        }
    }
    assert!(hands.is_empty() && pads.is_empty());
    assert_eq!(most_contacts, 2);
    // All but Held, which is the sender's own business.
    assert_eq!(kinds.len(), 10, "{kinds:?}");
    assert_eq!(buttons, 0xF7FF);
}

proptest! {
    #[test]
    fn no_script_panics(script in "(([0-9]{1,3}|x) (key|text|move|at|button|scroll|touch|pad) [a-z0-9 .=+-]{0,20}\n){0,8}") {
        let _ = parse(&script);
    }

    #[test]
    fn no_text_panics(script in "\\PC{0,60}\n\\PC{0,60}") {
        let _ = parse(&script);
    }
}
