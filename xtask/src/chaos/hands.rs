//! What hands do while planes die, and which of it a window saw.
//!
//! Every 8 ms another key goes down, and up 4 ms later, always in the same order, each again after more than half a second:
//! so a window's log alone says which presses are missing and which came twice, whatever a dying plane has lifted meanwhile.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

/// From one press to the next, in milliseconds.
pub const EVERY_MS: f64 = 8.0;

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

fn ns(line: &Value) -> u64 {
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
    /// When the presses were sent that were not seen.
    pub lost_ns: Vec<u64>,
    /// When presses were seen that nobody had sent, or that were seen before.
    pub extra_ns: Vec<u64>,
}

/// Compares what was sent with what was seen. What was sent before the window was first heard of does not count: it may
/// not have been there yet; nor does what was sent after the last that it saw.
pub fn compare(sent: &[Press], seen: &[Press]) -> Match {
    let mut found = Match::default();
    let Some(first) = seen.first() else { return found };
    // The latest of that key that can have been it.
    let start = sent.iter().rposition(|press| press.code == first.code && press.ns <= first.ns);
    let Some(mut next) = start else { return found };
    for press in seen {
        let due = sent[next..].iter().take_while(|due| due.ns <= press.ns);
        // The last of that key: presses are lost more often than they come later than the next of their key.
        match due.enumerate().filter(|(_, due)| due.code == press.code).last() {
            Some((skipped, _)) => {
                found.lost_ns.extend(sent[next..next + skipped].iter().map(|lost| lost.ns));
                next += skipped + 1;
            }
            // What is still down was seen to go down before.
            None if press.held => {}
            None => found.extra_ns.push(press.ns),
        }
    }
    found
}

/// Keys that are down at the end of a window's log. A seat that loses its keyboard takes with it what was down on it.
pub fn stuck(window: &[Value]) -> BTreeSet<u64> {
    let mut down = BTreeSet::new();
    for line in window {
        match line["event"].as_str() {
            Some("key") => {
                let code = line["code"].as_u64().unwrap_or(0);
                if line["pressed"] == true {
                    down.insert(code)
                } else {
                    down.remove(&code)
                };
            }
            Some("capabilities") if !has_keyboard(line) => down.clear(),
            _ => {}
        }
    }
    down
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
        assert_eq!(seen(|window| drop(window.drain(40..41))).lost_ns, [1000 + 40 * 8]);
        let several = seen(|window| drop(window.drain(40..52)));
        assert_eq!((several.lost_ns.len(), several.extra_ns.len()), (12, 0));
        let twice = seen(|window| window.insert(41, window[40]));
        assert_eq!((twice.lost_ns.len(), twice.extra_ns), (0, vec![1000 + 40 * 8 + 3]));
    }

    #[test]
    fn a_window_that_was_away_for_long_is_not_mistaken_for_one_that_saw_things_twice() {
        let away = seen(|window| drop(window.drain(10..80)));
        assert_eq!((away.lost_ns.len(), away.extra_ns.len()), (70, 0));
    }

    #[test]
    fn what_is_down_when_a_window_gets_the_keyboard_was_pressed() {
        let held = |window: &mut Vec<Press>| window[40].held = true;
        assert_eq!(seen(held), Match::default());
        let again = |window: &mut Vec<Press>| window.insert(41, Press { held: true, ..window[40] });
        assert_eq!(seen(again), Match::default());
    }

    #[test]
    fn a_press_that_came_late_is_no_loss() {
        let late = seen(|window| window[40..60].iter_mut().for_each(|press| press.ns = 1000 + 60 * 8));
        assert_eq!(late, Match::default());
    }

    #[test]
    fn what_stays_down_is_stuck_unless_its_keyboard_went() {
        let key = |code: u64, pressed: bool| json!({"ns": 1, "event": "key", "code": code, "pressed": pressed});
        let enter = json!({"ns": 2, "event": "keyboard_enter", "held": [7, 8]});
        assert_eq!(
            presses(&[enter]).iter().map(|press| (press.code, press.held)).collect::<Vec<_>>(),
            [(7, true), (8, true)]
        );
        let seat = |ns: u64, bits: u64| json!({"ns": ns, "event": "capabilities", "bits": bits});
        let log = [seat(1, 3), key(30, true), key(31, true), key(30, false)];
        assert_eq!(stuck(&log), BTreeSet::from([31]));
        let gone = [&log[..], &[seat(8, 1), seat(9, 3), key(32, true)]].concat();
        assert_eq!((stuck(&gone), vanished(&gone)), (BTreeSet::from([32]), vec![8]));
        assert_eq!(presses(&gone).len(), 3);
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
