//! The real plane, sealed as in production, on a real compositor, and a window that logs what reaches it.

mod ends;
#[path = "../support/mod.rs"]
mod support;

use ipc::{FromInput, Generation, HandsBackend, InputBackends, PadsBackend, TouchBackend};
use lumen_core::input::{Axis, Button, TouchPhase};
use lumen_core::{InputEvent, Permissions};
use nix::sys::signal::Signal;
use support::log::Seen;
use support::sway::Sway;
use support::{Plane, button, hands, held, key, position, scroll, state, tap, text};

/// KEY_A, KEY_C, KEY_LEFTCTRL, KEY_LEFTSHIFT and KEY_CAPSLOCK.
const A: u16 = 30;
const C: u16 = 46;
const CTRL: u16 = 29;
const SHIFT: u16 = 42;
const CAPS: u16 = 58;
/// What a test's stream of events ends with.
const END: u16 = 107;
const END_SEEN: &str = "key 107 up";

/// The text of key presses, in order.
fn typed(words: &[String]) -> String {
    words.iter().filter_map(|word| word.strip_prefix("key ")?.split_once(" down ")).map(|(_, text)| text).collect()
}

#[test]
fn everything_arrives_once_and_in_order() {
    let sway = Sway::start("all", 1);
    let mut window = sway.window("HEADLESS-1");
    let plane = Plane::start();
    let (mut net, backends) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    let expected =
        InputBackends { hands: HandsBackend::Wlroots, touch: TouchBackend::Emulated, pads: PadsBackend::None };
    assert_eq!(backends, expected);
    window.wait_for("seat0", "keyboard_enter");

    net.send_all([position(250, 500), position(500, 500), InputEvent::Motion { dx: 10 * 256, dy: -3 * 256 }]);
    for which in Button::ALL {
        net.send_all([button(which, true), button(which, true), button(which, false), button(which, false)]);
    }
    net.send_all([scroll(Axis::Vertical, 120), scroll(Axis::Vertical, -60), scroll(Axis::Vertical, -60)]);
    net.send_all([scroll(Axis::Horizontal, 240), InputEvent::Motion { dx: 128, dy: 0 }]);
    net.send_all([key(A, true), key(A, true), key(A, false), key(A, false), key(SHIFT, true)]);
    net.send_all(tap(A).into_iter().chain([key(SHIFT, false), key(CTRL, true)]).chain(tap(C)));
    net.send(key(CTRL, false));
    net.send_all(tap(END));
    let words = window.words(END_SEEN);
    let expected = [
        "motion 160 180",
        "motion 320 180",
        "motion 330 177",
        "down 272",
        "up 272",
        "down 273",
        "up 273",
        "down 274",
        "up 274",
        "down 275",
        "up 275",
        "down 276",
        "up 276",
        "notch v -1",
        "axis v -15",
        "axis v 7.5",
        "notch v 1",
        "axis v 7.5",
        "notch h 2",
        "axis h 30",
        "motion 330.5 177",
        "key 30 down a",
        "key 30 up",
        "key 42 down ",
        "key 30 down A",
        "key 30 up",
        "key 42 up",
        "key 29 down ",
        "key 46 down \u{3}",
        "key 46 up",
        "key 29 up",
        "key 107 down ",
        "key 107 up",
    ];
    // Positions are parts of 65535 of the output: half of it is not quite half of its pixels.
    let words: Vec<_> = words.iter().map(|word| rounded(word)).collect();
    // The compositor says first where its pointer happened to be.
    let first = words.iter().position(|word| word == expected[0]).unwrap_or(0);
    assert_eq!(words[first..], expected);
    let stats = plane.stats(|stats| stats.events > 0);
    assert_eq!((stats.forbidden, stats.unsupported, stats.healed), (0, 0, 0), "{stats:?}");
    assert!(plane.stop().success());
}

fn pressing(word: &str) -> bool {
    ["key", "down", "up"].iter().any(|kind| word.starts_with(kind))
}

/// A word with its coordinates to half a pixel.
fn rounded(word: &str) -> String {
    let number =
        |part: &str| part.parse::<f64>().map_or(part.to_owned(), |number| format!("{}", (number * 2.0).round() / 2.0));
    match word.starts_with("enter") || word.starts_with("motion") {
        true => word.split(' ').map(number).collect::<Vec<_>>().join(" "),
        false => word.to_owned(),
    }
}

#[test]
fn text_is_exactly_what_was_sent() {
    let sway = Sway::start("text", 1);
    let mut window = sway.window("HEADLESS-1");
    let plane = Plane::start();
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    window.wait_for("seat0", "keyboard_enter");

    // Between keys, with modifiers held that are not the text's, and again.
    net.send_all(tap(A));
    net.send(text("Grüße 東京 🎮"));
    net.send_all(tap(A));
    net.send(key(SHIFT, true));
    net.send_all(tap(A));
    net.send(text("Grüße"));
    net.send_all(tap(A));
    net.send(key(SHIFT, false));
    net.send_all(tap(A));
    net.send_all(tap(END));
    assert_eq!(typed(&window.words(END_SEEN)), "aGrüße 東京 🎮aAGrüßeAa");

    // More characters than there are keys, faster than the compositor can be: everything waits for its turn.
    let many: Vec<char> = ('一'..).take(2100).collect();
    for part in many.chunks(210) {
        for piece in part.chunks(21) {
            net.send(text(&piece.iter().collect::<String>()));
            net.send_all(tap(A));
        }
        net.send_all(tap(END));
        let expected: String = part.chunks(21).flat_map(|piece| piece.iter().chain(&['a'])).collect();
        assert_eq!(typed(&window.words(END_SEEN)), expected);
    }
    let stats = plane.stats(|stats| stats.events > 300);
    assert_eq!(stats.unsupported, 0, "{stats:?}");
    assert!(plane.stop().success());
}

#[test]
fn ten_thousand_events_come_once_each() {
    let sway = Sway::start("many", 1);
    let mut window = sway.window("HEADLESS-1");
    let plane = Plane::start();
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    window.wait_for("seat0", "keyboard_enter");
    net.send(position(500, 500));
    // As fast as the ring takes them, but in parts: a compositor closes a window that reads too slowly.
    for part in 0..25 {
        let codes = (0..100_u16).map(|number| 16 + (number + part) % 10);
        for code in codes.clone() {
            net.send_all(tap(code));
            net.send_all([button(Button::Left, true), button(Button::Left, false)]);
        }
        net.send_all(tap(END));
        let words = window.words(END_SEEN);
        let expected = codes.flat_map(|code| {
            [format!("key {code} down"), format!("key {code} up"), "down 272".to_owned(), "up 272".to_owned()]
        });
        let code = |word: &String| word.split_once(" down ").map_or(word.clone(), |(code, _)| format!("{code} down"));
        let seen: Vec<_> = words[..words.len() - 2].iter().filter(|word| pressing(word)).map(code).collect();
        assert_eq!(seen, expected.collect::<Vec<_>>(), "part {part}");
    }
    assert!(plane.stop().success());
}

#[test]
fn what_the_client_no_longer_holds_is_lifted_and_so_is_everything_at_the_end() {
    let sway = Sway::start("held", 1);
    let mut window = sway.window("HEADLESS-1");
    let plane = Plane::start();
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    window.wait_for("seat0", "keyboard_enter");
    net.send_all([position(500, 500), key(A, true), key(C, true), button(Button::Left, true)]);
    net.send(held(&[C], 0));
    let words = window.words("key 30 up");
    assert_eq!(words[words.len() - 2..], ["up 272", "key 30 up"]);
    net.send(held(&[C], 0));
    net.send_all([held(&[], 0), button(Button::Right, true)]);
    assert_eq!(window.words("down 273"), ["key 46 up", "down 273"]);
    assert_eq!(plane.stats(|stats| stats.events == 5).healed, 3);

    // A finger is the pointer here.
    let touch = |phase, x| InputEvent::Touch { contact: 2, phase, x, y: 0, pressure: 0 };
    net.send_all([touch(TouchPhase::Down, 0), touch(TouchPhase::Move, 65535), touch(TouchPhase::Up, 65535)]);
    let words = window.words("up 272");
    assert_eq!([&words[..2], &words[words.len() - 1..]].concat(), ["motion 0 0", "down 272", "up 272"]);

    // Whatever is held when the link closes is let go of.
    net.send(key(C, true));
    window.until("key 46 down c");
    assert!(plane.stop().success());
    assert_eq!(window.words("key 46 up"), ["up 273", "key 46 up"]);
}

#[test]
fn permissions_change_live() {
    let sway = Sway::start("permit", 1);
    let mut window = sway.window("HEADLESS-1");
    let plane = Plane::start();
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    window.wait_for("seat0", "keyboard_enter");
    net.send_all([position(500, 500), button(Button::Left, true), key(A, true)]);
    window.until("key 30 down a");
    plane.permit(Permissions::POINTER);
    assert_eq!(window.words("key 30 up"), ["key 30 up"]);
    net.send_all([key(C, true), text("no"), button(Button::Left, false)]);
    assert_eq!(window.words("up 272"), ["up 272"]);
    net.send(button(Button::Left, true));
    window.until("down 272");
    plane.permit(Permissions::KEYBOARD);
    assert_eq!(window.words("up 272"), ["up 272"]);
    net.send_all([position(100, 100), button(Button::Right, true), scroll(Axis::Vertical, 120)]);
    net.send_all(tap(A));
    assert_eq!(window.words("key 30 up"), ["key 30 down a", "key 30 up"]);
    assert_eq!(plane.stats(|stats| stats.forbidden > 4).forbidden, 5);
    assert!(plane.stop().success());
}

#[test]
fn a_position_is_on_the_sessions_own_output() {
    let sway = Sway::start("outputs", 2);
    let (mut one, mut two) = (sway.window("HEADLESS-1"), sway.window("HEADLESS-2"));
    sway.command("focus output HEADLESS-2; seat seat0 cursor set 960 180");
    let plane = Plane::start();
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-2", None), &state());
    two.wait_for("seat0", "keyboard_enter");
    // Beyond the left edge is the other output: the pointer stays on its own, down to the last corner.
    net.send_all([position(250, 250), position(500, 500), InputEvent::Motion { dx: -2000 * 256, dy: 0 }]);
    net.send_all([position(0, 0), position(1000, 1000)]);
    net.send_all([button(Button::Left, true), button(Button::Left, false)]);
    let words: Vec<_> = two.words("up 272").iter().map(|word| rounded(word)).collect();
    let first = words.iter().position(|word| word.ends_with("160 90")).unwrap();
    assert_eq!(words[first + 1..first + 3], ["motion 320 180", "motion 0 180"]);
    assert_eq!(words[words.len() - 4..], ["motion 0 0", "motion 639 359", "down 272", "up 272"]);
    assert!(one.rest().is_empty(), "{:?}", one.rest());
    assert!(plane.stop().success());
}

#[test]
fn two_sessions_on_one_compositor_do_not_cross() {
    let sway = Sway::start("seats", 2);
    // As lumend does it: a seat each, and a key that brings its focus back to its output.
    sway.command("seat lumen-1 shortcuts_inhibitor enable; seat lumen-2 shortcuts_inhibitor enable");
    let focus_keys = [0x301, 0x302];
    for (code, output) in focus_keys.iter().zip(["HEADLESS-1", "HEADLESS-2"]) {
        sway.command(&format!("bindcode --no-warn --inhibited {} focus output {output}", code + 8));
    }
    sway.command("seat lumen-1 cursor set 320 180; seat lumen-2 cursor set 960 180");
    let (mut one, mut two) = (sway.window("HEADLESS-1"), sway.window("HEADLESS-2"));
    let (first, second) = (Plane::start(), Plane::start());
    let (mut left, _) = first.wired(hands(&sway, "lumen-1", "HEADLESS-1", Some(focus_keys[0])), &state());
    let (mut right, _) = second.wired(hands(&sway, "lumen-2", "HEADLESS-2", Some(focus_keys[1])), &state());
    left.send_all(tap(SHIFT));
    right.send_all(tap(SHIFT));
    one.wait_for("lumen-1", "keyboard_enter");
    two.wait_for("lumen-2", "keyboard_enter");
    let (mut of_left, mut of_right) = (Vec::new(), Vec::new());
    for number in 0..200 {
        left.send_all([position(number, 500), text("左"), key(A, true), button(Button::Left, true)]);
        right.send_all([position(number, 500), text("右"), key(C, true), button(Button::Right, true)]);
        left.send_all([key(A, false), button(Button::Left, false)]);
        right.send_all([key(C, false), button(Button::Right, false)]);
        // Every change between text and keys brings a window a keymap to compile: it is given time for that.
        if number % 20 == 19 {
            left.send_all(tap(END));
            right.send_all(tap(END));
            of_left.extend(one.until(END_SEEN));
            of_right.extend(two.until(END_SEEN));
        }
    }
    for (seen, seat, text, button) in
        [(&of_left, "lumen-1", "左a", "down 272"), (&of_right, "lumen-2", "右c", "down 273")]
    {
        let strange: Vec<_> = seen.iter().filter(|seen| seen.seat != seat).collect();
        assert!(strange.is_empty(), "{seat}: {strange:?}");
        let words: Vec<_> = seen.iter().map(|Seen { what, .. }| what.clone()).collect();
        assert_eq!(typed(&words), text.repeat(200));
        assert_eq!(words.iter().filter(|word| *word == button).count(), 200);
    }
    assert!(first.stop().success() && second.stop().success());
}

#[test]
fn places_that_are_not_there_are_named() {
    let sway = Sway::start("absent", 1);
    for (seat, output, missing) in [("", "DP-7", "DP-7"), ("lumen-9", "HEADLESS-1", "lumen-9")] {
        let plane = Plane::start();
        let _net = plane.wire(hands(&sway, seat, output, None), &state());
        match plane.answer() {
            FromInput::Failed { generation: Generation(1), reason } => {
                assert!(reason.contains(missing) && reason.contains("it has: "), "{reason}");
            }
            other => panic!("{other:?}"),
        }
        plane.ping();
        assert!(plane.stop().success());
    }
}

/// A compositor that stood still has a window's worth of text before it and no more: all at once would cost the window
/// its connection.
#[test]
fn text_for_a_compositor_that_stood_still_costs_no_window() {
    let sway = Sway::start("still", 1);
    let mut window = sway.window("HEADLESS-1");
    let plane = Plane::start();
    let (mut net, _) = plane.wired(hands(&sway, "", "HEADLESS-1", None), &state());
    window.wait_for("seat0", "keyboard_enter");
    sway.signal(Signal::SIGSTOP);
    let words = ["abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl"; 200];
    for word in words {
        net.send(text(word));
    }
    net.send_all(tap(END));
    plane.stats(|stats| stats.events >= 2);
    sway.signal(Signal::SIGCONT);
    assert_eq!(typed(&window.words(END_SEEN)), words.concat());
    assert!(plane.stop().success());
}
