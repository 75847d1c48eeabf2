use proptest::prelude::*;

use super::*;
use crate::input::{MAX_HELD, any_event};

fn key(code: u16, pressed: bool) -> InputEvent {
    InputEvent::Key { code: KeyCode::new(code).unwrap(), pressed }
}

fn touch(contact: u8, phase: TouchPhase, x: u16) -> InputEvent {
    InputEvent::Touch { contact, phase, x, y: 2, pressure: 9 }
}

fn after(events: &[InputEvent]) -> Hands {
    let mut hands = Hands::default();
    events.iter().for_each(|event| hands.apply(event));
    hands
}

#[test]
fn held_names_what_is_down() {
    let hands = after(&[
        key(30, true),
        key(42, true),
        key(30, false),
        key(0x2FF, true),
        InputEvent::Button { button: Button::Extra, pressed: true },
        touch(0, TouchPhase::Down, 1),
        touch(15, TouchPhase::Down, 1),
        touch(0, TouchPhase::Up, 1),
    ]);
    let held = hands.held();
    assert_eq!(held.keys().map(KeyCode::get).collect::<Vec<_>>(), [42, 0x2FF]);
    assert_eq!((held.buttons, held.contacts), (16, 0x8000));
    assert!(!hands.is_empty());
}

#[test]
fn a_key_up_that_was_lost_is_made_good() {
    let mut host = after(&[key(30, true), key(42, true), touch(3, TouchPhase::Down, 1), touch(3, TouchPhase::Move, 7)]);
    let client = after(&[key(42, true)]);
    let lifted: Vec<_> = host.lift(&client.held()).collect();
    let cancelled = InputEvent::Touch { contact: 3, phase: TouchPhase::Cancel, x: 7, y: 2, pressure: 0 };
    assert_eq!(lifted, [cancelled, key(30, false)]);
    assert_eq!(host.held(), client.held());
    assert_eq!(host.lift(&client.held()).count(), 0);
    assert_eq!(host.lift_all().collect::<Vec<_>>(), [key(42, false)]);
    assert!(host.is_empty());
}

#[test]
fn what_a_client_names_but_has_not_pressed_is_not_pressed() {
    let mut host = Hands::default();
    assert_eq!(host.lift(&Held::new(KeyCode::new(30), 31, 0xFFFF)).count(), 0);
    assert!(host.is_empty());
}

#[test]
fn every_key_there_is_fits() {
    let codes: Vec<_> = (0..=u16::MAX).filter_map(KeyCode::new).collect();
    let mut hands = Hands::default();
    codes.iter().for_each(|code| hands.apply(&key(code.get(), true)));
    assert_eq!(hands.keys().count(), codes.len());
    assert_eq!(hands.held().keys().count(), MAX_HELD);
    // Keys beyond those that can be named are lifted at the host.
    let held = hands.held();
    assert_eq!(hands.lift(&held).count(), codes.len() - MAX_HELD);
    hands.apply(&touch(200, TouchPhase::Down, 1));
    assert_eq!(hands.held(), held);
}

proptest! {
    /// Whatever a stream did, the events that lift leave exactly what both have down.
    #[test]
    fn lifting_leaves_what_both_have(
        host in proptest::collection::vec(any_event(), 0..200), client in proptest::collection::vec(any_event(), 0..60),
    ) {
        let (mut hands, held) = (after(&host), after(&client).held());
        let before = hands.clone();
        let mut seen = before.clone();
        let lifted: Vec<_> = hands.lift(&held).collect();
        lifted.iter().for_each(|event| seen.apply(event));
        prop_assert_eq!(&seen, &hands);
        let named: Vec<_> = held.keys().collect();
        let both: Vec<_> = before.keys().filter(|code| named.contains(code)).collect();
        prop_assert_eq!(hands.keys().collect::<Vec<_>>(), both);
        prop_assert_eq!(hands.buttons, before.buttons & held.buttons);
        prop_assert_eq!(hands.contacts, before.contacts & held.contacts);
        let presses = |event: &InputEvent| matches!(event, InputEvent::Key { pressed: true, .. });
        prop_assert_eq!(hands.lift_all().filter(presses).count(), 0);
        prop_assert!(hands.is_empty());
    }
}

#[test]
fn what_is_down_can_be_put_down_again() {
    let mut hands = Hands::default();
    let key = |code, pressed| InputEvent::Key { code: KeyCode::new(code).unwrap(), pressed };
    let side = |pressed| InputEvent::Button { button: Button::Side, pressed };
    let touch = |contact, phase, x| InputEvent::Touch { contact, phase, x, y: 9, pressure: 5 };
    for event in [key(30, true), key(31, true), key(30, false), side(true), touch(2, TouchPhase::Down, 7)] {
        hands.apply(&event);
    }
    hands.apply(&touch(2, TouchPhase::Move, 8));
    let mut again = Hands::default();
    hands.presses().for_each(|event| again.apply(&event));
    assert_eq!((again, hands.presses().count()), (hands, 3));
    assert_eq!(Hands::default().presses().count(), 0);
}
