//! What hands do while planes die, and which of it a window saw.
//!
//! Every 8 ms another key goes down, and up 4 ms later, always in the same order, each again after more than half a second:
//! so a window's log alone says which presses are missing and which came twice, whatever a dying plane has lifted meanwhile.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// From one press to the next, in milliseconds.
pub const EVERY_MS: f64 = 8.0;

/// A key that has been down for longer than this when hands stop to be watched is not going up any more. Hands hold it for
/// 4 ms.
const HELD_NS: u64 = 100_000_000;

/// By the names of linux/input-event-codes.h. None is a modifier, none is bound to anything.
const KEYS: &str = "a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5 6 7 8 9 0 f1 f2 f3 f4 f5 f6 f7 f8 f9 f10 \
                    minus equal leftbrace rightbrace semicolon apostrophe grave backslash comma dot slash space tab enter \
                    insert delete home end pageup pagedown up down left right kp1 kp2 kp3";

/// A script for this long: the pointer into the window, to its last corner, where no arrow covers what the window has
/// drawn; then keys.
pub fn script(seconds: u32) -> String {
    let mut script = String::from("0 at 1 1\n");
    let presses = (f64::from(seconds) * 1000.0 / EVERY_MS) as usize;
    for (index, key) in KEYS.split_whitespace().cycle().take(presses).enumerate() {
        let at = 20 + index * EVERY_MS as usize;
        let _ = writeln!(script, "{at} key {key} down\n{} key {key} up", at + 4);
    }
    script
}

/// A press: when, and which key (evdev's code).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Press {
    pub ns: u64,
    pub code: u64,
    /// The window was not told that it went down, but that it is down: it has just got the keyboard.
    pub held: bool,
}

/// The presses that a client has sent, from its `--input-log`.
pub fn sent(path: &Path) -> Result<Vec<Press>> {
    let press = |line: &Value| {
        let event = &line["event"];
        let down = event["kind"] == "key" && event["pressed"] == true;
        down.then(|| Some(Press { ns: line["sent_ns"].as_u64()?, code: event["code"].as_u64()?, held: false }))?
    };
    Ok(lines(path)?.iter().filter_map(press).collect())
}

/// What each window of this stage has logged since `from_ns`, the window that was there first first.
pub fn windows(directory: &Path, from_ns: u64) -> Result<Vec<Vec<Value>>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let is_log = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(LOG));
        if is_log {
            let log: Vec<Value> = lines(&path)?.into_iter().filter(|line| ns(line) >= from_ns).collect();
            all.extend((!log.is_empty()).then_some(log));
        }
    }
    all.sort_by_key(|log| log.first().map(ns));
    Ok(all)
}

/// What the names of windows' logs begin with. A window has one of its own.
pub const LOG: &str = "window-";

/// When it was written.
pub fn ns(line: &Value) -> u64 {
    line["ns"].as_u64().unwrap_or(0)
}

/// The presses that a window saw.
pub fn presses(window: &[Value]) -> Vec<Press> {
    let mut presses = Vec::new();
    for line in window {
        let press = |code: &Value, held| Some(Press { ns: ns(line), code: code.as_u64()?, held });
        match line["event"].as_str() {
            Some("key") if line["pressed"] == true => presses.extend(press(&line["code"], false)),
            Some("keyboard_enter") => {
                let held = line["held"].as_array().map_or(&[][..], Vec::as_slice);
                presses.extend(held.iter().filter_map(|code| press(code, true)));
            }
            _ => {}
        }
    }
    presses
}

/// Which presses of those sent were seen.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Match {
    /// The presses, as they were sent, that were not seen.
    pub lost: Vec<Press>,
    /// When presses were seen that nobody had sent, or that were seen before.
    pub extra_ns: Vec<u64>,
}

/// Compares what was sent with what was seen. What was sent before the window was first heard of does not count: it may
/// not have been there yet; nor does what was sent after the last that it saw.
///
/// As each key comes again, presses that are late by more than that look like those of the next time around: of both readings
/// the one counts that has to explain less.
pub fn compare(sent: &[Press], seen: &[Press]) -> Match {
    let [lost, late] = [false, true].map(|late| align(sent, seen, late));
    if late.1 < lost.1 { late.0 } else { lost.0 }
}

/// Takes a press for the first of its key that it can have been, if presses may be that late, else for the last. With it, how
/// many presses that leaves to be explained, of which some may just not have come yet.
fn align(sent: &[Press], seen: &[Press], late: bool) -> (Match, usize) {
    let mut found = Match::default();
    let (Some(first), Some(end)) = (seen.first(), seen.last()) else { return (found, 0) };
    // The latest of that key that can have been it.
    let start = sent.iter().rposition(|press| press.code == first.code && press.ns <= first.ns);
    let Some(mut next) = start else { return (found, 0) };
    for press in seen {
        let due = sent[next..].iter().take_while(|due| due.ns <= press.ns);
        let mut its = due.enumerate().filter(|(_, due)| due.code == press.code).map(|(skipped, _)| skipped);
        match if late { its.next() } else { its.last() } {
            Some(skipped) => {
                found.lost.extend(&sent[next..next + skipped]);
                next += skipped + 1;
            }
            // What is still down was seen to go down before.
            None if press.held => {}
            None => found.extra_ns.push(press.ns),
        }
    }
    let to_come = sent[next..].iter().take_while(|due| due.ns <= end.ns).count();
    let unexplained = found.lost.len() + found.extra_ns.len() + to_come;
    (found, unexplained)
}

/// A key that stayed down at a window after hands had let it go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stuck {
    pub code: u64,
    /// Since when this was to be seen. A key is up before the next one goes down, however long hands were stopped on their
    /// way: so it is when the window saw another one go down, or, if there was none, [`HELD_NS`] after this one did.
    pub due_ns: u64,
    /// When it came up after all, or its keyboard went, or nobody watched any more.
    pub until_ns: u64,
}

impl Stuck {
    /// A window that has never seen the key come up does not see it go down again.
    pub const fn hides(&self, press: &Press) -> bool {
        press.code == self.code && self.due_ns <= press.ns && press.ns < self.until_ns
    }
}

/// A key that is down.
#[derive(Clone, Copy)]
struct Hold {
    since_ns: u64,
    due_ns: Option<u64>,
}

/// Keys that were stuck at a window while it was watched, which must be before its session ends: that lifts whatever is down.
pub fn stuck(window: &[Value], end_ns: u64) -> Vec<Stuck> {
    let mut down: BTreeMap<u64, Hold> = BTreeMap::new();
    let mut found = Vec::new();
    let mut lifted = |code: u64, hold: Hold, until_ns: u64| {
        found.extend(hold.due_ns.map(|due_ns| Stuck { code, due_ns, until_ns }));
    };
    for line in window.iter().take_while(|line| ns(line) < end_ns) {
        let code = line["code"].as_u64().unwrap_or(0);
        let fresh = Hold { since_ns: ns(line), due_ns: None };
        match line["event"].as_str() {
            Some("key") if line["pressed"] == true => {
                let others = down.iter_mut().filter(|(other, _)| **other != code);
                others.for_each(|(_, hold)| _ = hold.due_ns.get_or_insert(ns(line)));
                down.entry(code).or_insert(fresh);
            }
            Some("key") => {
                if let Some(hold) = down.remove(&code) {
                    lifted(code, hold, ns(line));
                }
            }
            // It is told all that is down.
            Some("keyboard_enter") => {
                let held: Vec<u64> = line["held"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect();
                let gone = down.extract_if(.., |code, _| !held.contains(code));
                gone.for_each(|(code, hold)| lifted(code, hold, ns(line)));
                held.into_iter().for_each(|code| _ = down.entry(code).or_insert(fresh));
            }
            Some("capabilities") if !has_keyboard(line) => {
                std::mem::take(&mut down).into_iter().for_each(|(code, hold)| lifted(code, hold, ns(line)));
            }
            _ => {}
        }
    }
    for (code, hold) in down {
        let overdue = Some(hold.since_ns + HELD_NS).filter(|due_ns| *due_ns < end_ns);
        lifted(code, Hold { due_ns: hold.due_ns.or(overdue), ..hold }, end_ns);
    }
    found
}

/// When a window was told that its seat has no keyboard any more: to it, a device has disappeared. It had one when the log
/// begins.
pub fn vanished(window: &[Value]) -> Vec<u64> {
    let mut had = true;
    let mut lost = Vec::new();
    for line in window.iter().filter(|line| line["event"] == "capabilities") {
        let has = has_keyboard(line);
        lost.extend((had && !has).then(|| ns(line)));
        had = has;
    }
    lost
}

/// wl_seat's bit of a keyboard.
fn has_keyboard(line: &Value) -> bool {
    line["bits"].as_u64().unwrap_or(0) & 2 != 0
}

/// The whole lines of a log that may still be written to.
fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).with_context(|| path.display().to_string())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;

    const CODES: u64 = 73;

    /// A hundred presses, 8 ns apart.
    fn typed() -> Vec<Press> {
        (0..100).map(|index| Press { ns: 1000 + index * 8, code: index % CODES, held: false }).collect()
    }

    /// The same, seen 3 ns later, but for what `change` makes of it.
    fn seen(change: impl Fn(&mut Vec<Press>)) -> Match {
        let mut window = typed();
        window.iter_mut().for_each(|press| press.ns += 3);
        change(&mut window);
        compare(&typed(), &window)
    }

    #[test]
    fn a_press_that_is_missing_and_one_that_came_twice_are_found() {
        assert_eq!(seen(|_| {}), Match::default());
        assert_eq!(seen(|window| drop(window.drain(..7))), Match::default(), "the window was not there yet");
        assert_eq!(seen(|window| drop(window.drain(90..))), Match::default(), "it is not there any more");
        assert_eq!(seen(|window| drop(window.drain(40..41))).lost, typed()[40..41]);
        let several = seen(|window| drop(window.drain(40..52)));
        assert_eq!((several.lost.len(), several.extra_ns.len()), (12, 0));
        let twice = seen(|window| window.insert(41, window[40]));
        assert_eq!((twice.lost.len(), twice.extra_ns), (0, vec![1000 + 40 * 8 + 3]));
    }

    #[test]
    fn a_window_that_was_away_for_long_is_not_mistaken_for_one_that_saw_things_twice() {
        let away = seen(|window| drop(window.drain(10..80)));
        assert_eq!((away.lost.len(), away.extra_ns.len()), (70, 0));
    }

    #[test]
    fn what_is_down_when_a_window_gets_the_keyboard_was_pressed() {
        let held = |window: &mut Vec<Press>| window[40].held = true;
        assert_eq!(seen(held), Match::default());
        let again = |window: &mut Vec<Press>| window.insert(41, Press { held: true, ..window[40] });
        assert_eq!(seen(again), Match::default());
    }

    #[test]
    fn presses_that_waited_until_their_keys_came_again_are_late() {
        // Hands were stopped from the 20th to the 250th, and all came at once then but what `gone` has.
        let sent: Vec<Press> =
            (0..400).map(|index| Press { ns: 1000 + index * 8, code: index % CODES, held: false }).collect();
        let late = |gone: std::ops::Range<usize>| {
            let mut window = sent.clone();
            window.iter_mut().for_each(|press| press.ns += 3);
            window[20..250].iter_mut().for_each(|press| press.ns = 1000 + 250 * 8 + 1);
            drop(window.drain(gone));
            compare(&sent, &window)
        };
        assert_eq!(late(0..0), Match::default());
        assert_eq!(late(40..42), Match { lost: sent[40..42].to_vec(), extra_ns: Vec::new() });
        assert_eq!(late(20..250).lost, sent[20..250], "they never came");
    }

    #[test]
    fn a_press_that_came_late_is_no_loss() {
        let late = seen(|window| window[40..60].iter_mut().for_each(|press| press.ns = 1000 + 60 * 8));
        assert_eq!(late, Match::default());
    }

    const MS: u64 = 1_000_000;

    fn key(ms: u64, code: u64, pressed: bool) -> Value {
        json!({"ns": ms * MS, "event": "key", "code": code, "pressed": pressed})
    }

    fn seat(ms: u64, bits: u64) -> Value {
        json!({"ns": ms * MS, "event": "capabilities", "bits": bits})
    }

    fn enter(ms: u64, held: &[u64]) -> Value {
        json!({"ns": ms * MS, "event": "keyboard_enter", "held": held})
    }

    /// Codes and when they were due and over, in milliseconds.
    fn stuck_ms(window: &[Value], end_ms: u64) -> Vec<(u64, u64, u64)> {
        stuck(window, end_ms * MS).iter().map(|stuck| (stuck.code, stuck.due_ns / MS, stuck.until_ns / MS)).collect()
    }

    #[test]
    fn a_window_that_gets_the_keyboard_sees_what_is_held() {
        let seen: Vec<_> = presses(&[enter(2, &[7, 8])]).iter().map(|press| (press.code, press.held)).collect();
        assert_eq!(seen, [(7, true), (8, true)]);
    }

    #[test]
    fn what_stays_down_is_stuck_though_the_end_of_a_session_lifts_it() {
        let left = [seat(1, 3), key(8, 30, true), key(16, 31, true), key(20, 31, false)];
        // The goodbye comes at 500: it lifts the key, and the seat's keyboard goes.
        let ended = [&left[..], &[key(500, 30, false), seat(501, 1)]].concat();
        let taken = [&left[..], &[seat(501, 1)]].concat();
        for log in [&left[..], &ended, &taken] {
            assert_eq!(stuck_ms(log, 499), [(30, 16, 499)]);
        }
        assert_eq!(stuck_ms(&[seat(1, 3), key(8, 30, true)], 499), [(30, 108, 499)], "nothing came any more");
        assert_eq!(stuck_ms(&[seat(1, 3), key(8, 30, true)], 100), [], "it was just being held");
    }

    #[test]
    fn a_key_that_comes_up_too_late_is_stuck_and_one_that_was_stopped_on_its_way_is_not() {
        let again = [key(8, 30, true), key(16, 31, true), key(20, 31, false), key(592, 30, true), key(596, 30, false)];
        assert_eq!(stuck_ms(&again, 900), [(30, 16, 596)]);
        let hides = |ms, code| stuck(&again, 900 * MS)[0].hides(&Press { ns: ms * MS, code, held: false });
        assert_eq!([hides(591, 30), hides(591, 31), hides(7, 30), hides(597, 30)], [true, false, false, false]);
        let stopped = [key(8, 30, true), key(3000, 30, false), key(3000, 31, true), key(3001, 31, false)];
        assert_eq!(stuck_ms(&stopped, 9000), []);
    }

    #[test]
    fn a_seat_takes_with_it_what_is_down_and_tells_who_comes_what_is_down() {
        let gone = [key(8, 30, true), seat(9, 1), seat(10, 3), key(16, 31, true), key(20, 31, false)];
        assert_eq!((stuck_ms(&gone, 900), vanished(&gone)), (Vec::new(), vec![9 * MS]));
        let told = [key(8, 30, true), enter(9, &[]), key(16, 31, true), enter(17, &[31, 32]), key(20, 31, false)];
        let told = [&told[..], &[key(24, 33, true), key(28, 33, false), key(700, 32, false)]].concat();
        assert_eq!(stuck_ms(&told, 900), [(32, 24, 700)]);
    }

    #[test]
    fn a_script_presses_each_key_and_lets_it_go() {
        let keys: BTreeSet<&str> = KEYS.split_whitespace().collect();
        assert_eq!((keys.len() as u64, KEYS.split_whitespace().count() as u64), (CODES, CODES));
        let script = script(1);
        assert!(script.starts_with("0 at 1 1\n20 key a down\n24 key a up\n28 key b down\n"), "{script}");
        assert_eq!(script.lines().count(), 1 + 2 * 125);
    }
}
