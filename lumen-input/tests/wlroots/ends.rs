//! What the end of a plane, of the network's, and of a compositor leaves behind: no key down that nobody holds, none up that
//! somebody does.

use std::os::fd::AsFd;

use ipc::plane::EXIT_REOPEN;
use ipc::{FromInput, Generation, Hands, ToInput};
use lumen_core::input::Button;
use lumen_input::state::HeldState;
use nix::sys::signal::Signal;

use super::support::sway::Sway;
use super::support::{self, Plane, button, hands, key, position, state, tap, text};
use super::{A, C, CAPS, END, END_SEEN, SHIFT, pressing, typed};

#[test]
fn nothing_stays_pressed_when_the_plane_is_killed() {
    let sway = Sway::start("killed", 1);
    let mut window = sway.window("HEADLESS-1");
    let plane = Plane::start();
    // Another pair of hands on the same seat, so that the seat never loses its pointer and keyboard.
    let other = Plane::start();
    let _other = other.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    let state = state();
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state);
    window.wait_for("seat0", "keyboard_enter");
    net.send_all([position(500, 500), key(SHIFT, true), key(A, true), button(Button::Left, true)]);
    window.until("down 272");
    plane.kill();
    let plane = Plane::start();
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state);
    // The keys by the compositor, the button by the heir.
    let mut lifted: Vec<_> = window.words("up 272").into_iter().filter(|word| pressing(word)).collect();
    lifted.sort();
    assert_eq!(lifted, ["key 30 up", "key 42 up", "up 272"]);
    assert_eq!(plane.stats(|stats| stats.healed > 0).healed, 3);
    net.send_all(tap(A));
    net.send_all([button(Button::Left, true), button(Button::Left, false)]);
    assert_eq!(window.words("up 272"), ["key 30 down a", "key 30 up", "down 272", "up 272"]);
    plane.kill();
    let plane = Plane::start();
    let _net = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state);
    assert_eq!(plane.stats(|_| true).healed, 0, "nothing was held");
    assert!(plane.stop().success() && other.stop().success());
}

/// lumend has the connection too: the compositor notices nothing, and neither does the window.
#[test]
fn an_heir_goes_on_with_the_same_devices_and_what_is_held() {
    let sway = Sway::start("heir", 1);
    let mut window = sway.window("HEADLESS-1");
    let (mut plane, state) = (Plane::start(), state());
    let Hands::Wlroots { socket, inherited, output, seat, focus_key, keymap } = hands(&sway, "", "HEADLESS-1", None)
    else {
        panic!("no hands")
    };
    let kept = socket.try_clone().unwrap();
    let first = Hands::Wlroots { socket, inherited, output, seat, focus_key, keymap };
    let (mut net, _) = plane.wired(first, &state);
    window.wait_for("seat0", "keyboard_enter");
    net.send_all([position(500, 500), key(CAPS, true), key(CAPS, false), key(SHIFT, true), text("Grüße")]);
    net.send_all([key(C, true), button(Button::Left, true)]);
    window.until("down 272");
    for _ in 0..3 {
        plane.kill();
        // Net does not know yet.
        net.send_all(tap(A));
        let before = net.theirs.take();
        let socket = kept.try_clone().unwrap();
        let (output, seat) = ("HEADLESS-1".to_owned(), String::new());
        let hands =
            Hands::Wlroots { socket, inherited: true, output, seat, focus_key: None, keymap: support::keymap() };
        plane = Plane::start();
        let heirs = plane.wire_after(hands, &state, before.into_iter().collect());
        assert!(matches!(plane.answer(), FromInput::Wired { .. }));
        // Shift and caps lock: a small letter.
        assert_eq!(window.words("key 30 up"), ["key 30 down a", "key 30 up"], "nothing else is seen");
        // Net's last word to the dead is heard before its first to the heir.
        net.send_all(tap(A));
        window.until("key 30 up");
        net = heirs;
        net.send_all([key(C, true), button(Button::Left, true), text("東京")]);
        net.send_all(tap(A));
        let words = window.words("key 30 up");
        assert_eq!(typed(&words), "東京a");
        assert!(!words.iter().any(|word| word.ends_with(" 272") || word.starts_with("key 46")), "{words:?}");
        assert_eq!(plane.stats(|stats| stats.events > 0).healed, 0);
    }
    net.send_all([key(SHIFT, false), button(Button::Left, false)]);
    assert_eq!(window.words("up 272"), ["key 42 up", "up 272"]);
    net.send_all(tap(A));
    assert_eq!(window.words("key 30 up"), ["key 30 down A", "key 30 up"], "caps lock alone");
    // One that is told to end leaves nothing behind, whoever else has the connection.
    assert!(plane.stop().success());
    assert_eq!(window.words("key 46 up"), ["key 46 up"]);
    let hands = Hands::Wlroots {
        socket: kept,
        inherited: true,
        output: "HEADLESS-1".to_owned(),
        seat: String::new(),
        focus_key: None,
        keymap: support::keymap(),
    };
    let heir = Plane::start();
    let _net = heir.wire(hands, &state);
    assert_eq!(heir.end().code(), Some(i32::from(EXIT_REOPEN)), "there are no devices to go on with");
}

/// Those that die before they can do anything leave what was for them to the next, in order.
#[test]
fn what_several_dead_planes_have_left_is_taken_in_order() {
    let sway = Sway::start("heirs", 1);
    let mut window = sway.window("HEADLESS-1");
    // Another pair of hands on the same seat, so that it has a keyboard from the beginning.
    let other = Plane::start();
    let _other = other.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    window.wait_for("seat0", "keyboard_enter");
    let (state, mut before, mut nets) = (state(), Vec::new(), Vec::new());
    for letters in [[A, C], [C, C], [C, A]] {
        let plane = Plane::start();
        plane.signal(Signal::SIGSTOP);
        let rings = before.iter().map(support::copy).collect();
        let mut net = plane.wire_after(hands(&sway, "", "HEADLESS-1", None), &state, rings);
        net.send_all(letters.into_iter().flat_map(tap));
        before.extend(net.theirs.take());
        nets.push(net);
        plane.kill();
    }
    let heir = Plane::start();
    let mut net = heir.wire_after(hands(&sway, "", "HEADLESS-1", None), &state, before);
    assert!(matches!(heir.answer(), FromInput::Wired { .. }));
    // Net's last word to one that is dead, before its first to the heir.
    nets[2].send_all(tap(A));
    net.send_all(tap(END));
    assert_eq!(typed(&window.words(END_SEEN)), "accccaa");
    assert!(heir.stop().success() && other.stop().success());
}

/// The rings of network planes that die one after the other before a plane can take anything.
#[test]
fn what_several_dead_network_planes_have_left_is_taken_in_order() {
    let sway = Sway::start("nets", 1);
    let mut window = sway.window("HEADLESS-1");
    let plane = Plane::start();
    let (mut first, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    window.wait_for("seat0", "keyboard_enter");
    plane.signal(Signal::SIGSTOP);
    first.send_all(tap(A));
    let mut second = plane.rewire(2);
    second.send_all(tap(C));
    let mut third = plane.rewire(3);
    third.send_all(tap(A).into_iter().chain(tap(END)));
    plane.signal(Signal::SIGCONT);
    assert_eq!(typed(&window.words(END_SEEN)), "aca");
    assert!(plane.stop().success());
}

#[test]
fn a_compositor_that_dies_is_a_reason_for_a_fresh_plane() {
    let mut sway = Sway::start("dies", 1);
    let plane = Plane::start();
    let (_net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    sway.kill();
    assert_eq!(plane.end().code(), Some(i32::from(EXIT_REOPEN)));
}

#[test]
fn another_network_plane_goes_on_where_the_one_before_was_with_what_is_held() {
    let sway = Sway::start("moved", 1);
    let mut window = sway.window("HEADLESS-1");
    let (plane, state) = (Plane::start(), state());
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state);
    window.wait_for("seat0", "keyboard_enter");
    net.send_all([position(500, 500), key(A, true)]);
    window.until("key 30 down a");
    // What a network plane has left behind when it died is taken, and counted, before the next is told.
    net.send_all(tap(C));
    let (mut second, next) = plane.rewired(2);
    assert_eq!(next, 4);
    assert_eq!(window.words("key 46 up"), ["key 46 down c", "key 46 up"], "and the A is still down");
    net.send_all(tap(C));
    second.sent = next;
    second.send_all([key(A, true), button(Button::Left, true), key(A, false)]);
    assert_eq!(window.words("key 30 up"), ["down 272", "key 30 up"], "of the first nothing more is heard");
    // A client that is away lets go; and what it says afterwards counts.
    second.send(key(C, true));
    window.until("key 46 down c");
    plane.link.send(ToInput::<std::os::fd::OwnedFd>::LetGo).unwrap();
    assert_eq!(window.words("key 46 up"), ["up 272", "key 46 up"]);
    let (mut third, next) = plane.rewired(3);
    assert_eq!(next, 8);
    third.sent = next;
    third.send_all(tap(A));
    window.until("key 30 up");

    // An heir knows how far its predecessor was.
    plane.kill();
    let heir = Plane::start();
    let _net = heir.wire(hands(&sway, "", "HEADLESS-1", None), &state);
    match heir.answer() {
        ipc::FromInput::Wired { next, .. } => assert_eq!(next, 10),
        other => panic!("instead of Wired: {other:?}"),
    }
    assert!(heir.stop().success());
}

#[test]
fn retired_hands_let_go_and_do_nothing_more() {
    let sway = Sway::start("retired", 1);
    let mut window = sway.window("HEADLESS-1");
    let plane = Plane::start();
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    window.wait_for("seat0", "keyboard_enter");
    net.send(key(A, true));
    window.until("key 30 down a");
    plane.link.send(ToInput::<std::os::fd::OwnedFd>::Retire { generation: Generation(1) }).unwrap();
    window.until("key 30 up");
    net.send_all(tap(C));
    plane.ping();
    assert!(window.rest().is_empty());
    assert!(plane.stop().success());
}

/// What was said last may never have been read: it is known to the heir.
#[test]
fn what_could_not_be_lifted_is_left_to_the_heir() {
    let sway = Sway::start("stuck", 1);
    let mut window = sway.window("HEADLESS-1");
    // Another pair of hands on the same seat, so that the seat never loses its pointer.
    let other = Plane::start();
    let _other = other.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    let (plane, state) = (Plane::start(), state());
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state);
    window.wait_for("seat0", "keyboard_enter");
    net.send_all([position(500, 500), button(Button::Left, true)]);
    window.until("down 272");
    sway.signal(Signal::SIGSTOP);
    assert!(plane.stop().success());
    let held = || HeldState::attach(state.as_fd()).unwrap().lift();
    assert_eq!(held(), [button(Button::Left, false)]);
    sway.signal(Signal::SIGCONT);
    let plane = Plane::start();
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state);
    net.send_all(tap(A));
    assert!(window.words("key 30 up").contains(&"up 272".to_owned()));
    assert_eq!(held(), []);
    assert!(plane.stop().success() && other.stop().success());
}

#[test]
fn what_is_no_event_is_nets_fault() {
    let sway = Sway::start("nonsense", 1);
    for nonsense in [&[][..], &[0xFF], &[0, 1], &[0; 40]] {
        let plane = Plane::start();
        let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state());
        net.send_raw(nonsense);
        assert_eq!(plane.end().code(), Some(1), "{nonsense:?}");
    }
}
