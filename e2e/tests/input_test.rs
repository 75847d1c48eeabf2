//! `lumend input-test`: the pattern of everything that hands can do, on a session that is there, without a client.

use std::process::Stdio;
use std::time::Duration;

use e2e::hands::{Seen, left_down, wait_seen};
use e2e::trial::stage;
use lumen_core::InputEvent;
use lumen_core::input::script::pattern;
use serde_json::Value;
use xtask::process::wait_until;
use xtask::sway::Sway;

/// BTN_LEFT of linux/input-event-codes.h.
const BTN_LEFT: u64 = 0x110;

/// Where the pointer goes on an output of 640x360: steps, places, and the finger that acts as the pointer.
const PLACES: [(f64, f64); 11] = [
    (320.0, 180.0),
    (360.0, 180.0),
    (360.0, 210.0),
    (320.0, 210.0),
    (320.0, 180.0),
    (320.5, 179.75),
    (160.0, 270.0),
    (160.0, 90.0),
    (240.0, 90.0),
    (320.0, 135.0),
    (64.0, 324.0),
];

fn near(found: (f64, f64), expected: (f64, f64)) -> bool {
    (found.0 - expected.0).abs() < 0.02 && (found.1 - expected.1).abs() < 0.02
}

/// A last finger has touched, after everything else that reaches a window.
fn is_over(events: &[Seen]) -> bool {
    events.iter().filter_map(Seen::button).filter(|button| *button == (BTN_LEFT, false)).count() == 3
}

#[test]
fn the_whole_pattern_reaches_the_window_that_is_there() {
    let stage = stage().unwrap();
    let log = stage.out("window.log");
    let listener = format!("{} {}", stage.program("listener").display(), log.display());
    let sway = Sway::start(&stage, "640x360@60Hz", &listener).unwrap();
    let shown = || sway.message(&stage, &["-t", "get_tree"]).is_ok_and(|tree| tree.contains("lumen listener"));
    wait_until(Duration::from_secs(10), || shown().then_some(())).unwrap();

    let config = stage.write("input-test.toml", "").unwrap();
    let output = stage
        .command("lumend")
        .args(["input-test", "--json", "--config"])
        .arg(config)
        .envs(sway.environment())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert_eq!(said, "", "a script hears its JSON and nothing else");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();

    let steps = pattern();
    assert_eq!((&report["backend"]["hands"], &report["backend"]["touch"]), (&"wlroots".into(), &"emulated".into()));
    // Only pads may be out of reach, and they are where nobody may use uinput.
    let is_pad = |event: &InputEvent| {
        matches!(event, InputEvent::PadArrived { .. } | InputEvent::PadState { .. } | InputEvent::PadRemoved { .. })
    };
    let pads = match report["backend"]["pads"].as_str() {
        Some("none") => steps.iter().filter(|step| is_pad(&step.event)).count(),
        other => panic!("an unprivileged user has pads: {other:?}"),
    };
    assert_eq!(report["sent"], steps.len(), "{report:#}");
    assert_eq!(report["unsupported"], pads, "{report:#}");
    assert_eq!(report["injected"], steps.len() - pads, "{report:#}");
    assert_eq!(report["rumbles"], 0, "{report:#}");
    let wait = |key: &str| report["wait_us"][key].as_u64().unwrap();
    assert!(wait("p50") <= wait("p99"), "{report:#}");

    let events = wait_seen(&log, Duration::from_secs(10), is_over).unwrap();
    assert!(left_down(&events).is_empty(), "{events:?}");
    let places: Vec<_> = events
        .iter()
        .filter(|event| event.event == "motion")
        .map(|event| (event.number("x"), event.number("y")))
        .collect();
    // A pointer that begins where it is sent first does not move there.
    let expected = if places.len() < PLACES.len() { &PLACES[1..] } else { &PLACES[..] };
    assert_eq!(places.len(), expected.len(), "{places:?}");
    assert!(places.iter().zip(expected).all(|(found, expected)| near(*found, *expected)), "{places:?}");

    let buttons: Vec<_> = events.iter().filter_map(Seen::button).collect();
    let clicks = (0..5).map(|number| BTN_LEFT + number).chain([BTN_LEFT; 2]);
    assert_eq!(buttons, clicks.flat_map(|button| [(button, true), (button, false)]).collect::<Vec<_>>());
    let axes: Vec<_> = events
        .iter()
        .filter(|event| event.event == "axis")
        .map(|event| (event.fields["horizontal"] == true, event.number("value")))
        .collect();
    // Wayland's axes grow down and to the right, 15 units a notch.
    let expected =
        [(false, -15.0), (false, 15.0), (false, -3.75), (false, 1.875), (true, 15.0), (true, -15.0), (true, 1.875)];
    assert_eq!(axes, expected);
    let typed: String = events
        .iter()
        .filter(|event| event.key().is_some_and(|(_, pressed)| pressed))
        .filter_map(|event| event.fields["text"].as_str())
        .collect();
    // With Control a letter is a control character.
    assert_eq!(typed, "aB\u{3}\u{1a}\rGrüße 東京 🎮");
}
