//! One generation's turns, in this process.

mod support;

use ipc::event::now_ns;
use ipc::link::Link;
use ipc::{FromInput, Generation, Hands, InputWiring, SessionId};
use lumen_core::{InputEvent, Permissions};
use lumen_input::wired::Wired;
use lumen_input::wlr::Pages;
use support::{Net, state};

/// Net is not trusted: it may put in events as fast as they are taken out, and lumend is to be heard all the same.
#[test]
fn a_turn_ends_although_the_ring_is_not_empty_and_the_next_comes_at_once() {
    let (mut net, events, haptics) = Net::new();
    let wiring = InputWiring {
        session: SessionId(1),
        generation: Generation(1),
        permissions: Permissions::ALL,
        hands: Hands::None,
        uinput: false,
        events,
        before: Vec::new(),
        haptics,
        state: state(),
        kept: Vec::new(),
    };
    let (plane, lumend) = Link::pair().unwrap();
    let mut wired = Wired::new(wiring, Pages::new().unwrap(), now_ns()).unwrap();
    for _ in 0..900 {
        net.send(InputEvent::Motion { dx: 1, dy: 1 });
    }
    let waits = |wired: &Wired| wired.deadline().is_none_or(|at| at > now_ns());
    assert!(waits(&wired));
    wired.turn(&plane, true).unwrap();
    assert!(!waits(&wired));
    // The wake-up has been drained: only the deadline knows of the rest.
    wired.turn(&plane, false).unwrap();
    assert!(waits(&wired));
    assert!(matches!(lumend.recv::<FromInput>().unwrap().unwrap().message, FromInput::Wired { .. }));
}
