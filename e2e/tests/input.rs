//! Hands, from a client's events to a window on a real compositor.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::hands::{Seen, left_down, seen, wait_seen};
use e2e::relay::{Relay, Weather};
use e2e::trial::{MODE, only_replaced, pids, sound, stage, trace, wait_for_nothing, watch};
use serde_json::Value;
use xtask::client::{Client, allow, fingerprint};
use xtask::host::{Desktop, Host};
use xtask::stage::Stage;
use xtask::sway::Sway;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;

/// linux/input-event-codes.h
const KEY_A: u64 = 30;
const KEY_LEFTSHIFT: u64 = 42;
const KEY_B: u64 = 48;
const KEY_F1: u64 = 59;
const KEY_F2: u64 = 60;
const BTN_LEFT: u64 = 0x110;

/// A host on a desktop of its own, with a window that logs.
fn host<'a>(stage: &'a Stage, log: &Path) -> Host<'a> {
    let exec = format!("{} {}", stage.program("listener").display(), log.display());
    Host::start(stage, Desktop::Sway, &format!("[desktop]\nexec = \"{exec}\"")).unwrap()
}

/// An allowed client that does what a script says.
fn drive<'a>(stage: &'a Stage, host: &Host, name: &str, script: &str, seconds: u32, more: &[&str]) -> Client<'a> {
    let script = stage.write(&format!("{name}.script"), script).unwrap();
    let arguments = [&["--input-script", text(&script), "--no-audio"][..], more].concat();
    watch(stage, host, name, seconds, &arguments).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Everything between the press of F1 and the press of F2, of one seat.
fn framed(events: &[Seen]) -> Vec<Seen> {
    let at = |code| events.iter().position(|event| event.key() == Some((code, true)));
    let (from, to) = (at(KEY_F1).expect("F1 was pressed"), at(KEY_F2).expect("F2 was pressed"));
    events[from..to].to_vec()
}

fn is_over(events: &[Seen]) -> bool {
    events.iter().any(|event| event.key() == Some((KEY_F2, false)))
}

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() < 0.02
}

#[test]
fn everything_that_hands_do_arrives_once_and_in_order() {
    let stage = stage().unwrap();
    let log = stage.out("window.log");
    let host = host(&stage, &log);
    let script = "\
0 at 0.5 0.5
20 key f1 down
30 key f1 up
60 at 0.25 0.5
80 move 40 0
100 move 0.5 -0.25
120 at 0.75 0.25
140 button left down
160 button left up
180 button right down
200 button right up
220 scroll 120
240 scroll -30
260 hscroll 120
300 key a down
320 key a up
340 key leftshift down
360 key b down
380 key b up
400 key leftshift up
420 key leftctrl down
440 key c down
460 key c up
480 key leftctrl up
500 text Grüße 東京 🎮
520 key d down
540 key d up
900 key f2 down
920 key f2 up
";
    let client = drive(&stage, &host, "hands", script, 4, &[]);
    let events = wait_seen(&log, Duration::from_secs(20), is_over).unwrap();
    let status = host.status().unwrap();
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    let input = &status["sessions"][0]["input"];
    assert_eq!((&input["hands"], &input["touch"]), (&"wlroots".into(), &"emulated".into()), "{status:#}");
    let plane = status["planes"].as_array().unwrap().iter().find(|plane| plane["plane"] == "input").unwrap();
    assert_eq!(plane["backend"], "wlroots", "{status:#}");
    assert!(left_down(&events).is_empty(), "{events:?}");

    let events = framed(&events);
    let places: Vec<(f64, f64)> = events
        .iter()
        .filter(|event| event.event == "motion")
        .map(|event| (event.number("x"), event.number("y")))
        .collect();
    let expected = [
        (WIDTH / 4.0, HEIGHT / 2.0),
        (WIDTH / 4.0 + 40.0, HEIGHT / 2.0),
        (WIDTH / 4.0 + 40.5, HEIGHT / 2.0 - 0.25),
        (WIDTH * 0.75, HEIGHT / 4.0),
    ];
    assert_eq!(places.len(), expected.len(), "{places:?}");
    for (found, wanted) in places.iter().zip(expected) {
        assert!(near(found.0, wanted.0) && near(found.1, wanted.1), "{places:?} instead of {expected:?}");
    }
    let buttons: Vec<_> = events.iter().filter_map(Seen::button).collect();
    assert_eq!(buttons, [(BTN_LEFT, true), (BTN_LEFT, false), (BTN_LEFT + 1, true), (BTN_LEFT + 1, false)]);
    // Wayland's axes grow down and to the right, 15 units a notch.
    let axes: Vec<_> = events
        .iter()
        .filter(|event| event.event == "axis")
        .map(|event| (event.fields["horizontal"] == true, event.number("value")))
        .collect();
    assert_eq!(axes, [(false, -15.0), (false, 3.75), (true, 15.0)]);
    let presses = |from: &str, to: &str| -> String {
        let pressed: Vec<&str> = events
            .iter()
            .filter(|event| event.key().is_some_and(|(_, pressed)| pressed))
            .filter_map(|event| event.fields["text"].as_str())
            .collect();
        let whole = pressed.concat();
        let start = whole.find(from).unwrap_or_else(|| panic!("{from:?} is not in {whole:?}"));
        let end = whole.rfind(to).unwrap_or_else(|| panic!("{to:?} is not in {whole:?}"));
        whole[start..end + to.len()].to_owned()
    };
    // Control makes a C the control character 3.
    assert_eq!(presses("a", "d"), "aB\u{3}Grüße 東京 🎮d");
    assert_eq!(report["input"]["sent"], report["input"]["acknowledged"], "{report:#}");
}

/// Ten thousand discrete events at 1 kHz, half of them keys and half buttons.
#[test]
fn ten_thousand_events_at_a_thousand_a_second_arrive_once_and_in_order() {
    let stage = stage().unwrap();
    let log = stage.out("window.log");
    let host = host(&stage, &log);
    let letters = ["q", "w", "e", "r", "t", "z"];
    let codes = [16, 17, 18, 19, 20, 44];
    let mut script = String::from("0 at 0.5 0.5\n");
    let mut expected = Vec::new();
    for index in 0..2_500_u32 {
        let (at, letter) = (100 + index * 4, index as usize % letters.len());
        script.push_str(
            &format!("{at} key {} down\n{} key {0} up\n", letters[letter], at + 1).replace("{0}", letters[letter]),
        );
        script.push_str(&format!("{} button left down\n{} button left up\n", at + 2, at + 3));
        expected.extend([(codes[letter], true), (codes[letter], false), (BTN_LEFT, true), (BTN_LEFT, false)]);
    }
    script.push_str("10200 key f2 down\n10220 key f2 up\n");
    let client = drive(&stage, &host, "hands", &script, 60, &[]);
    let events = wait_seen(&log, Duration::from_secs(40), is_over).unwrap();
    let report = client.leave(Duration::from_secs(30)).unwrap();
    let found: Vec<_> = events.iter().filter_map(|event| event.key().or_else(|| event.button())).collect();
    let last = found.len() - 2;
    assert_eq!(last, expected.len(), "{report:#}");
    let first = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!(first, None, "the first difference");
}

#[test]
fn a_bad_network_leaves_nothing_pressed_and_loses_nothing() {
    let stage = stage().unwrap();
    let log = stage.out("window.log");
    let host = host(&stage, &log);
    let weather = Weather { loss: 50, reorder: 50, duplicate: 50, seed: 11, ..Weather::default() };
    let control = Relay::start(host.address().parse::<SocketAddr>().unwrap(), weather).unwrap();
    let mut script = String::from("0 at 0.5 0.5\n");
    let mut expected = Vec::new();
    for index in 0..600_u32 {
        let at = 100 + index * 10;
        script.push_str(&format!("{at} key a down\n{} button left down\n", at + 2));
        script.push_str(&format!("{} key a up\n{} button left up\n", at + 5, at + 7));
        expected.extend([(KEY_A, true), (BTN_LEFT, true), (KEY_A, false), (BTN_LEFT, false)]);
    }
    script.push_str("6300 key f2 down\n6320 key f2 up\n");
    let script = stage.write("hands.script", &script).unwrap();
    allow(&stage, &host, "hands").unwrap();
    let arguments = ["--mode", MODE, "--seconds", "9", "--no-audio", "--input-script", text(&script)];
    let client = Client::connect(&stage, "hands", &control.address().to_string(), &arguments).unwrap();
    let events = wait_seen(&log, Duration::from_secs(40), is_over).unwrap();
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    let (forwarded, dropped) = control.counts();
    assert!(dropped * 30 > forwarded, "the relay did drop: {dropped} of {forwarded}");
    assert_eq!(report["input"]["sent"], report["input"]["acknowledged"], "{report:#}");
    assert_eq!(left_down(&events), BTreeSet::new());
    let found: Vec<_> = events.iter().filter_map(|event| event.key().or_else(|| event.button())).collect();
    assert_eq!(found.len() - 2, expected.len());
    let first = found.iter().zip(&expected).position(|(found, expected)| found != expected);
    assert_eq!(first, None, "the first difference");
}

/// The last thing that a dying client did was to press: its session's end lifts it.
#[test]
fn what_a_dead_client_held_is_lifted() {
    let stage = stage().unwrap();
    let log = stage.out("window.log");
    let host = host(&stage, &log);
    let script = "0 at 0.5 0.5\n400 key a down\n410 button left down\n60000 key a up\n";
    let mut client = drive(&stage, &host, "hands", script, 60, &[]);
    wait_seen(&log, Duration::from_secs(20), |events| left_down(events).len() == 2).unwrap();
    client.running().signal(nix::sys::signal::Signal::SIGKILL).unwrap();
    client.running().wait(Duration::from_secs(5)).unwrap();
    wait_for_nothing(&host, Duration::from_secs(10)).unwrap();
    wait_seen(&log, Duration::from_secs(5), |events| left_down(events).is_empty()).unwrap();
}

/// `kill -9` of the input plane while keys are down and others are typed: the window does not notice, nor the picture.
#[test]
fn a_dead_input_plane_takes_nothing_along_and_the_picture_goes_on() {
    let stage = stage().unwrap();
    let log = stage.out("window.log");
    let host = host(&stage, &log);
    let mut script = String::from("0 at 0.5 0.5\n400 key leftshift down\n410 key a down\n420 button left down\n");
    let mut expected = vec![(KEY_LEFTSHIFT, true), (KEY_A, true), (BTN_LEFT, true)];
    for at in (500..5000).step_by(20) {
        script.push_str(&format!("{at} key b down\n{} key b up\n", at + 10));
        expected.extend([(KEY_B, true), (KEY_B, false)]);
    }
    script.push_str("5100 button left up\n5110 key a up\n5120 key leftshift up\n5200 key f2 down\n5210 key f2 up\n");
    expected.extend([(BTN_LEFT, false), (KEY_A, false), (KEY_LEFTSHIFT, false), (KEY_F2, true), (KEY_F2, false)]);
    let client = drive(&stage, &host, "hands", &script, 8, &[]);
    wait_seen(&log, Duration::from_secs(20), |events| left_down(events).len() >= 3).unwrap();
    let before = pids(&host).unwrap();
    let killed = host.kill_plane("input").unwrap();
    only_replaced(&host, "input", killed, &before).unwrap();
    let events = wait_seen(&log, Duration::from_secs(30), is_over).unwrap();
    assert!(left_down(&events).is_empty());
    let mut found = events.iter().filter_map(|event| event.key().or_else(|| event.button())).peekable();
    // In this order, each once; the event that the plane was at may be missing.
    let lost: Vec<_> = expected.into_iter().filter(|due| found.next_if_eq(due).is_none()).collect();
    assert_eq!(found.next(), None, "{lost:?} were lost before");
    assert!(lost.len() <= 1, "{lost:?}");
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["lost"], 0, "{report:#}");
    let frames = trace(&stage, "hands").unwrap();
    sound(&frames).unwrap();
    assert!(frames.iter().all(|frame| frame.generation == 1), "the picture was wired anew");
}

#[test]
fn a_permission_is_taken_and_given_in_mid_stream() {
    let stage = stage().unwrap();
    let log = stage.out("window.log");
    let host = host(&stage, &log);
    let script: String = std::iter::once("0 at 0.5 0.5\n".to_owned())
        .chain((0..1000).map(|index| {
            let at = 50 + index * 10;
            format!("{at} key a down\n{} key a up\n{} button left down\n{} button left up\n", at + 2, at + 4, at + 6)
        }))
        .collect();
    let client = drive(&stage, &host, "hands", &script, 20, &[]);
    let who = fingerprint(&stage, "hands").unwrap();
    wait_seen(&log, Duration::from_secs(20), |events| count(events, Seen::key) > 20).unwrap();
    host.must(&["permit", &who, "-keyboard"]).unwrap();
    // The reply comes once the plane has been told; what was on its way may still arrive.
    let forbidden = |status: &Value| status["sessions"][0]["input"]["forbidden"].as_u64().unwrap_or(0) > 20;
    host.status_where(Duration::from_secs(10), forbidden).unwrap();
    let (keys, buttons) = counts(&log);
    let events =
        wait_seen(&log, Duration::from_secs(10), |events| count(events, Seen::button) > buttons + 100).unwrap();
    assert_eq!(count(&events, Seen::key), keys, "no key passes");
    assert!(!left_down(&events).contains(&KEY_A), "and none is stuck");
    host.must(&["permit", &who, "+keyboard"]).unwrap();
    wait_seen(&log, Duration::from_secs(10), |events| count(events, Seen::key) > keys + 20).unwrap();
    drop(client);
}

fn count(events: &[Seen], kind: impl Fn(&Seen) -> Option<(u64, bool)>) -> usize {
    events.iter().filter(|event| kind(event).is_some()).count()
}

fn counts(log: &Path) -> (usize, usize) {
    let events = seen(log).unwrap();
    (count(&events, Seen::key), count(&events, Seen::button))
}

/// When the scripts of two sessions begin: both windows have to be on their outputs by then, or the test fails for
/// events that nobody saw.
const BEGIN_MS: u32 = 8_000;

/// Two clients in one session of a user's sway: each has its output, its seat and its window.
#[test]
fn two_sessions_type_and_point_at_once_and_nothing_crosses() {
    let stage = stage().unwrap();
    let sway = Sway::start(&stage, "640x360@60Hz", "true").unwrap();
    let host = Host::start_in(&stage, &sway.environment(), "").unwrap();
    let script = |letter: &str, from: f64| -> String {
        let mut script = String::new();
        for index in 0..300 {
            let at = BEGIN_MS + index * 20;
            script.push_str(&format!("{at} at {:.3} 0.5\n", from + f64::from(index) * 0.001));
            script.push_str(&format!("{} key {letter} down\n{} key {letter} up\n", at + 5, at + 10));
        }
        script + &format!("{} key f2 down\n{} key f2 up\n", BEGIN_MS + 6100, BEGIN_MS + 6120)
    };
    let windows: Vec<(PathBuf, &str, f64)> = vec![(stage.out("one.log"), "a", 0.1), (stage.out("two.log"), "b", 0.5)];
    let mut clients = Vec::new();
    for (index, (log, letter, from)) in windows.iter().enumerate() {
        let name = ["one", "two"][index];
        clients.push(drive(&stage, &host, name, &script(letter, *from), 20, &[]));
        let session = |status: &Value| status["sessions"][index]["input"]["state"] == "running";
        let status = host.status_where(Duration::from_secs(20), session).unwrap();
        let output = status["sessions"][index]["output"].as_str().expect("a session's output is told").to_owned();
        let program = stage.program("listener");
        let exec = format!("exec {} {} --title {name}", program.display(), log.display());
        sway.message(&stage, &["--", "focus", "output", &output]).unwrap();
        sway.message(&stage, &["--", &exec]).unwrap();
        wait_seen(log, Duration::from_secs(10), |_| true).unwrap();
        let tree = || sway.message(&stage, &["-t", "get_tree"]).is_ok_and(|tree| tree.contains(&format!("\"{name}\"")));
        xtask::process::wait_until(Duration::from_secs(5), || tree().then_some(())).unwrap();
    }
    let mut seats = BTreeSet::new();
    for (log, letter, from) in &windows {
        let events = wait_seen(log, Duration::from_secs(30), is_over).unwrap();
        let typed: Vec<_> = events.iter().filter(|event| event.key().is_some_and(|(code, _)| code != KEY_F2)).collect();
        assert_eq!(typed.len(), 600, "every key once");
        assert!(typed.iter().all(|event| event.fields["symbol"] == *letter), "a key of the other session");
        let places: Vec<f64> =
            events.iter().filter(|event| event.event == "motion").map(|event| event.number("x")).collect();
        let (low, high) = (from * WIDTH - 1.0, (from + 0.3) * WIDTH + 1.0);
        assert!(places.len() >= 290 && places.iter().all(|x| (low..high).contains(x)), "{places:?}");
        seats.extend(typed.iter().map(|event| event.seat.clone()));
    }
    assert_eq!(seats.len(), 2, "a seat each: {seats:?}");
    drop(clients);
}
