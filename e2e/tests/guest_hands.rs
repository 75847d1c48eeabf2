//! A Moonlight client's hands, from its control messages to a window on a real compositor.

use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::guest::hands::Hands;
use e2e::guest::moonlight::Moonlight;
use e2e::guest::shared::Ended;
use e2e::guest::stream::Stream;
use e2e::guest::trial::{Site, site, sound};
use e2e::hands::{Seen, left_down, seen, wait_seen};
use e2e::trial::stage;
use xtask::host::Desktop;
use xtask::process::wait_until;
use xtask::stage::Stage;

const SOON: Duration = Duration::from_secs(20);

/// Windows virtual-key codes (winuser.h).
const VK_A: u16 = 0x41;
const VK_B: u16 = 0x42;
const VK_F1: u16 = 0x70;
const VK_F2: u16 = 0x71;
const VK_LSHIFT: u16 = 0xa0;
const VK_LCONTROL: u16 = 0xa2;
/// linux/input-event-codes.h
const KEY_A: u64 = 30;
const KEY_F1: u64 = 59;
const KEY_F2: u64 = 60;
const BTN_LEFT: u64 = 0x110;

/// A host whose desktop is a window that logs, and a client that has been let in.
fn windowed(stage: &Stage) -> (Site<'_>, Moonlight, PathBuf) {
    let log = stage.out("window.log");
    let exec = format!("[desktop]\nexec = \"{} {}\"", stage.program("listener").display(), log.display());
    let site = site(stage, Desktop::Sway, &exec).unwrap();
    let client = site.enrol().unwrap();
    (site, client, log)
}

/// Taps F1 until the window has the keyboard and says so.
fn focused(hands: &Hands, log: &Path) {
    let mut look = || {
        hands.tap(VK_F1);
        std::thread::sleep(Duration::from_millis(50));
        seen(log).is_ok_and(|events| events.iter().any(|event| event.key() == Some((KEY_F1, false)))).then_some(())
    };
    wait_until(SOON, &mut look).expect("the window gets the keyboard");
}

fn is_over(events: &[Seen]) -> bool {
    events.iter().any(|event| event.key() == Some((KEY_F2, false)))
}

/// What happened between the last F1 and the first F2.
fn framed(events: &[Seen]) -> Vec<Seen> {
    let from = events.iter().rposition(|event| event.key() == Some((KEY_F1, false))).expect("F1 was released");
    let to = events.iter().position(|event| event.key() == Some((KEY_F2, true))).expect("F2 was pressed");
    events[from + 1..to].to_vec()
}

fn leave(mut stream: Stream) {
    assert_eq!(stream.leave(), Ended::Left);
    sound(&stream).unwrap();
}

/// Waits until the window has seen as many events of a kind: streams of different channels may overtake each other.
fn wait_count(log: &Path, what: &str, count: usize) {
    wait_seen(log, SOON, |events| events.iter().filter(|event| event.event == what).count() >= count).unwrap();
}

#[test]
fn everything_that_hands_do_arrives_once_and_in_order() {
    let stage = stage().unwrap();
    let (site, client, log) = windowed(&stage);
    let stream = site.watch(&client).unwrap();
    let hands = stream.hands();
    focused(&hands, &log);
    let before = |what: &str| seen(&log).unwrap().iter().filter(|event| event.event == what).count();
    let motions = before("motion");
    hands.at(160, 180, 640, 360);
    hands.nudge(40, 0);
    hands.nudge(-1, -2);
    wait_count(&log, "motion", motions + 3);
    for button in [1, 3] {
        hands.button(button, true);
        hands.button(button, false);
    }
    hands.scroll(120);
    hands.scroll(-30);
    hands.scroll_sideways(120);
    wait_count(&log, "axis", 3);
    hands.tap(VK_A);
    hands.key(VK_LSHIFT, true);
    hands.tap(VK_B);
    hands.key(VK_LSHIFT, false);
    hands.key(VK_LCONTROL, true);
    hands.tap(0x43);
    hands.key(VK_LCONTROL, false);
    let keys = wait_seen(&log, SOON, |events| left_down(events).is_empty() && typed(events).contains('\u{3}')).unwrap();
    assert!(typed(&keys).contains("aB\u{3}"), "{:?}", typed(&keys));
    hands.text("Grüße 東京 🎮");
    wait_seen(&log, SOON, |events| typed(events).contains('🎮')).unwrap();
    hands.tap(VK_F2);
    let events = wait_seen(&log, SOON, is_over).unwrap();
    assert!(left_down(&events).is_empty(), "{events:?}");
    assert!(typed(&events).contains("aB\u{3}Grüße 東京 🎮"), "{:?}", typed(&events));
    let events = framed(&events);
    let places: Vec<(f64, f64)> = events
        .iter()
        .filter(|event| event.event == "motion")
        .map(|event| (event.number("x"), event.number("y")))
        .collect();
    let near =
        |found: (f64, f64), wanted: (f64, f64)| (found.0 - wanted.0).abs() < 1.0 && (found.1 - wanted.1).abs() < 1.0;
    let wanted = [(160.0, 180.0), (200.0, 180.0), (199.0, 178.0)];
    assert!(places.len() == 3 && places.iter().zip(wanted).all(|(place, wanted)| near(*place, wanted)), "{places:?}");
    let buttons: Vec<_> = events.iter().filter_map(Seen::button).collect();
    assert_eq!(buttons, [(BTN_LEFT, true), (BTN_LEFT, false), (BTN_LEFT + 1, true), (BTN_LEFT + 1, false)]);
    // Wayland's axes grow down and to the right, 15 units a notch.
    let axes: Vec<_> = events
        .iter()
        .filter(|event| event.event == "axis")
        .map(|event| (event.fields["horizontal"] == true, event.number("value")))
        .collect();
    assert_eq!(axes, [(false, -15.0), (false, 3.75), (true, 15.0)]);
    leave(stream);
}

/// What was typed, key by key.
fn typed(events: &[Seen]) -> String {
    let pressed = events.iter().filter(|event| event.key().is_some_and(|(_, pressed)| pressed));
    pressed.filter_map(|event| event.fields["text"].as_str()).collect()
}

#[test]
fn thousands_of_keys_and_buttons_arrive_once_and_in_their_order() {
    let stage = stage().unwrap();
    let (site, client, log) = windowed(&stage);
    let stream = site.watch(&client).unwrap();
    let hands = stream.hands();
    focused(&hands, &log);
    let codes = [(0x51, 16), (0x57, 17), (0x45, 18), (0x52, 19), (0x54, 20), (0x5a, 44)];
    let mut expected = Vec::new();
    for index in 0..2000 {
        let (code, key) = codes[index % codes.len()];
        hands.tap(code);
        hands.button(1, true);
        hands.button(1, false);
        expected.push(key);
        // About a thousand messages a second, as a person with both hands at most makes.
        std::thread::sleep(Duration::from_millis(4));
    }
    hands.tap(VK_F2);
    let events = framed(&wait_seen(&log, Duration::from_secs(40), is_over).unwrap());
    // Keys and buttons are on channels of their own, so that between the two there is no order.
    let keys: Vec<_> = events.iter().filter_map(Seen::key).collect();
    let wanted: Vec<_> = expected.iter().flat_map(|key| [(*key, true), (*key, false)]).collect();
    assert_eq!(keys.len(), wanted.len());
    assert_eq!(keys.iter().zip(&wanted).position(|(found, wanted)| found != wanted), None, "the first difference");
    let buttons: Vec<bool> = events.iter().filter_map(Seen::button).map(|(_, down)| down).collect();
    let wrong = buttons.iter().enumerate().position(|(index, down)| *down != (index % 2 == 0));
    assert_eq!(wrong, None, "the first difference");
    assert!(buttons.len() >= 3990, "{}", buttons.len());
    leave(stream);
}

/// The last thing that a client did was to press: the end of its session lifts it, however it comes.
#[test]
fn what_a_client_holds_is_lifted_when_it_leaves_or_is_removed() {
    let stage = stage().unwrap();
    let (site, client, log) = windowed(&stage);
    let press = |stream: &Stream| {
        focused(&stream.hands(), &log);
        stream.hands().key(VK_A, true);
        stream.hands().button(1, true);
        wait_seen(&log, SOON, |events| left_down(events).len() == 2).unwrap();
    };
    let stream = site.watch(&client).unwrap();
    press(&stream);
    leave(stream);
    wait_seen(&log, SOON, |events| left_down(events).is_empty()).unwrap();
    site.wait_gone(&client).unwrap();

    let wish = site.wish(&client).unwrap();
    let launched = client.resume(&wish).unwrap();
    let stream = Stream::start(&client, &launched, &wish, e2e::guest::stream::Reception::default()).unwrap();
    site.flowing(&stream, 10).unwrap();
    press(&stream);
    site.host.must(&["clients", "remove", &client.identity().fingerprint().to_string()]).unwrap();
    assert_eq!(stream.ended(SOON), Some(Ended::Terminated(0x8003_0023)));
    wait_seen(&log, SOON, |events| left_down(events).is_empty()).unwrap();
}

#[test]
fn a_permission_is_taken_and_given_in_mid_stream() {
    let stage = stage().unwrap();
    let (site, client, log) = windowed(&stage);
    let who = client.identity().fingerprint().to_string();
    let stream = site.watch(&client).unwrap();
    let hands = stream.hands();
    focused(&hands, &log);
    site.host.must(&["permit", &who, "-keyboard"]).unwrap();
    let keys = || seen(&log).unwrap().iter().filter(|event| event.key() == Some((KEY_A, true))).count();
    let forbidden = || site.session(&client).unwrap()["input"]["forbidden"].as_u64().unwrap_or(0);
    // The reply comes once the plane has been told: the first keys may still pass.
    let refused = |more: u64| {
        let wanted = forbidden() + more;
        let mut look = || {
            hands.tap(VK_A);
            (forbidden() >= wanted).then_some(())
        };
        wait_until(SOON, &mut look).unwrap();
    };
    refused(1);
    let passed = keys();
    refused(4);
    assert_eq!(keys(), passed, "no key passes");
    hands.button(1, true);
    hands.button(1, false);
    wait_seen(&log, SOON, |events| events.iter().any(|event| event.button() == Some((BTN_LEFT, false)))).unwrap();
    site.host.must(&["permit", &who, "+keyboard"]).unwrap();
    let mut look = || {
        hands.tap(VK_A);
        (keys() > passed).then_some(())
    };
    wait_until(SOON, &mut look).unwrap();
    leave(stream);
}

/// Lies in input messages are counted and disturb nobody; a message that is not sealed is dropped.
#[test]
fn nonsense_between_keys_changes_nothing() {
    let stage = stage().unwrap();
    let (site, client, log) = windowed(&stage);
    let stream = site.watch(&client).unwrap();
    let hands = stream.hands();
    focused(&hands, &log);
    let mut state = 7_u64;
    for length in 0..300_usize {
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        let mut body: Vec<u8> = (0..length).map(|_| noise()).collect();
        // Every other one has a size and a kind that exist, and is cut anywhere.
        if length % 2 == 0 && length >= 8 {
            let kinds =
                [3_u32, 4, 5, 7, 8, 9, 0x0a, 0x0c, 0x0d, 0x17, 0x5500_0001, 0x5500_0002, 0x5500_0003, 0x5500_0004];
            // Not the kinds that press something, unless they are of the wrong length.
            let kind = kinds[length / 2 % kinds.len()];
            body[..4].copy_from_slice(&(length as u32 + 77).to_be_bytes());
            body[4..8].copy_from_slice(&kind.to_le_bytes());
        }
        hands.raw((length % 48) as u8, body.clone());
        stream.orders().raw((length % 48) as u8, body);
    }
    hands.tap(VK_A);
    hands.tap(VK_F2);
    let events = framed(&wait_seen(&log, SOON, is_over).unwrap());
    let keys: Vec<_> = events.iter().filter_map(Seen::key).collect();
    assert_eq!(keys, [(KEY_A, true), (KEY_A, false)], "{events:?}");
    assert_eq!(KEY_F2, 60);
    leave(stream);
}
