use serde_json::json;

use super::*;

const MS: u64 = 1_000_000;
const SCREEN: (f64, f64) = (1280.0, 720.0);

/// Lines of a client's log: milliseconds and event.
fn sent(events: &[(u64, Value)]) -> Vec<Value> {
    let line = |(seq, (ms, event)): (usize, &(u64, Value))| json!({"seq": seq, "sent_ns": ms * MS, "event": event});
    events.iter().enumerate().map(line).collect()
}

/// Lines of a window's log.
fn window(events: &[(u64, Value)]) -> Vec<Value> {
    let line = |(ms, event): &(u64, Value)| {
        let mut event = event.clone();
        event["ns"] = (ms * MS).into();
        event
    };
    events.iter().map(line).collect()
}

fn key(code: u64, pressed: bool) -> Value {
    json!({"kind": "key", "code": code, "pressed": pressed})
}

fn key_seen(code: u64, pressed: bool, text: &str) -> Value {
    json!({"event": "key", "code": code, "pressed": pressed, "text": text})
}

fn motion_seen(x: f64, y: f64) -> Value {
    json!({"event": "motion", "x": x, "y": y})
}

#[test]
fn all_that_a_window_can_see_is_found_and_timed() {
    let sent = sent(&[
        (10, json!({"kind": "held", "keys": [], "buttons": [], "contacts": []})),
        (20, json!({"kind": "position", "x": 32768, "y": 32768})),
        (30, json!({"kind": "motion", "dx": 256, "dy": -128})),
        (40, json!({"kind": "scroll", "axis": "vertical", "amount": 120})),
        (50, json!({"kind": "text", "text": "ü京"})),
        (60, json!({"kind": "pad_state", "pad": 0})),
        (70, key(30, true)),
        (71, key(30, false)),
    ]);
    let window = window(&[
        (21, json!({"event": "enter", "x": 640.01, "y": 360.0})),
        (32, motion_seen(641.01, 359.5)),
        (43, json!({"event": "axis", "horizontal": false, "value": -15.0})),
        (43, json!({"event": "axis_120", "horizontal": false, "value": -120})),
        (51, key_seen(9, true, "ü")),
        (51, json!({"event": "modifiers", "depressed": 0})),
        (52, key_seen(9, false, "ü")),
        (53, key_seen(10, true, "京")),
        (54, key_seen(10, false, "京")),
        (75, key_seen(30, true, "a")),
        (76, key_seen(30, false, "a")),
    ]);
    let echo = Echo::of(&sent, &window, SCREEN, true);
    assert_eq!((echo.visible, echo.seen, echo.duplicated), (6, 6, 0), "{echo:?}");
    assert_eq!(echo.latency_ns, [1, 2, 3, 4, 5, 5].map(|ms| ms * MS));
    assert_eq!((echo.latency_us(500), echo.latency_us(1000)), (json!(3000.0), json!(5000.0)));
}

#[test]
fn what_comes_twice_or_never_is_told() {
    let sent = sent(&[(10, key(30, true)), (20, key(30, false)), (30, key(31, true)), (40, key(30, true))]);
    let events = [
        (11, key_seen(30, true, "a")),
        (12, key_seen(30, true, "a")),
        (21, key_seen(30, false, "a")),
        (41, key_seen(30, true, "a")),
    ];
    let echo = Echo::of(&sent, &window(&events), SCREEN, true);
    assert_eq!((echo.visible, echo.seen, echo.duplicated), (4, 3, 1), "{echo:?}");
    assert_eq!(echo.missed, [2]);
    let nothing = Echo::of(&sent, &[], SCREEN, true);
    assert_eq!((nothing.seen, nothing.latency_us(500)), (0, Value::Null));
}

#[test]
fn a_motion_to_where_the_pointer_is_cannot_be_seen() {
    let there =
        window(&[(1, json!({"event": "enter", "x": 320.003_906, "y": 180.003_906})), (12, motion_seen(330.0, 180.0))]);
    let sent = sent(&[
        (10, json!({"kind": "position", "x": 16384, "y": 16384})),
        (11, json!({"kind": "motion", "dx": 2560, "dy": 0})),
    ]);
    let echo = Echo::of(&sent, &there, SCREEN, true);
    assert_eq!((echo.visible, echo.seen, echo.duplicated), (1, 1, 0), "{echo:?}");
}

#[test]
fn a_finger_is_a_pointer_where_touch_is_emulated() {
    let touch = |contact: u64, phase: &str, x: u64| json!({"kind": "touch", "contact": contact, "phase": phase, "x": x, "y": 0, "pressure": 0});
    let sent = sent(&[
        (10, touch(0, "down", 0)),
        (20, touch(1, "down", 9)),
        (30, touch(0, "move", 32768)),
        (40, touch(1, "up", 9)),
        (50, touch(0, "up", 32768)),
        (60, touch(2, "down", 0)),
        (70, touch(2, "cancel", 0)),
    ]);
    let button = |pressed: bool| json!({"event": "button", "button": 272, "pressed": pressed});
    let window = window(&[
        (11, motion_seen(0.0, 0.0)),
        (11, button(true)),
        (31, motion_seen(640.01, 0.0)),
        (51, button(false)),
        (61, motion_seen(0.0, 0.0)),
        (61, button(true)),
        (71, button(false)),
    ]);
    let echo = Echo::of(&sent, &window, SCREEN, true);
    assert_eq!((echo.visible, echo.seen, echo.duplicated), (5, 5, 0), "{echo:?}");
    assert_eq!(Echo::of(&sent, &[], SCREEN, false).visible, 0);
}
