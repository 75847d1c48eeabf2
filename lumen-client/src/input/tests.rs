use lumen_core::input::datagram::{Ack, Datagram};
use lumen_core::input::outbox::CAPACITY;
use lumen_core::input::{Held, KeyCode};

use super::*;

const STEP: u64 = HELD_EVERY_NS;

fn key(pressed: bool) -> InputEvent {
    InputEvent::Key { code: KeyCode::new(30).unwrap(), pressed }
}

fn nothing() -> InputEvent {
    InputEvent::Held(Held::NOTHING)
}

/// What leaves at a time, the host having everything that left before.
fn leaves(state: &mut State, now_ns: u64) -> Vec<InputEvent> {
    let (mut events, mut out, mut next) = (Vec::new(), Vec::new(), 0);
    state.tell_held(now_ns);
    while state.outbox.poll(now_ns, &mut out) {
        let datagram = Datagram::parse(&out).unwrap();
        events.extend(datagram.events().filter_map(|numbered| numbered.event));
        next = datagram.first + u32::from(datagram.count);
        let mut answer = Vec::new();
        Ack { next, client_ns: datagram.client_ns }.encode(&mut answer);
        state.outbox.acknowledge(now_ns, &answer).unwrap();
    }
    assert!(events.is_empty() || next > 0);
    events
}

#[test]
fn what_is_held_is_said_again_and_again_and_twice_once_nothing_is() {
    let mut state = State::new();
    state.take(0, key(true)).unwrap();
    assert_eq!(leaves(&mut state, 0), [key(true)]);
    assert_eq!(leaves(&mut state, STEP - 1), []);
    let held = InputEvent::Held(state.hands.held());
    assert_eq!((leaves(&mut state, STEP), leaves(&mut state, 2 * STEP)), (vec![held], vec![held]));
    state.take(2 * STEP + 1, key(false)).unwrap();
    assert_eq!(leaves(&mut state, 2 * STEP + 1), [key(false)]);
    assert_eq!((leaves(&mut state, 3 * STEP), leaves(&mut state, 4 * STEP)), (vec![nothing()], vec![nothing()]));
    assert_eq!(leaves(&mut state, 5 * STEP), []);
    assert_eq!(state.deadline_ns(), u64::MAX);
}

#[test]
fn a_tap_is_made_sure_of_too() {
    let mut state = State::new();
    state.take(0, key(true)).unwrap();
    state.take(1, key(false)).unwrap();
    leaves(&mut state, 1);
    assert_eq!((leaves(&mut state, STEP), leaves(&mut state, 2 * STEP)), (vec![nothing()], vec![nothing()]));
    assert_eq!(leaves(&mut state, 3 * STEP), []);
}

#[test]
fn that_nothing_is_held_is_said_twice_even_if_there_is_no_room_for_it_at_first() {
    let mut state = State::new();
    state.take(0, key(true)).unwrap();
    state.take(1, key(false)).unwrap();
    while state.outbox.unacknowledged() < CAPACITY {
        state.push(2, key(false)).unwrap();
    }
    // The host takes nothing for so long.
    for step in 1..10 {
        state.tell_held(step * STEP);
        assert_eq!(state.outbox.unacknowledged(), CAPACITY);
    }
    assert_eq!(leaves(&mut state, 9 * STEP + 1).len(), CAPACITY);
    assert_eq!((leaves(&mut state, 10 * STEP), leaves(&mut state, 11 * STEP)), (vec![nothing()], vec![nothing()]));
    assert_eq!(leaves(&mut state, 12 * STEP), []);
}
