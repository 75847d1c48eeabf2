//! Which of a client's input events a window saw, how often and how late.
//!
//! Both logs carry CLOCK_MONOTONIC of one machine: the client's `--input-log` when it sent an event, the window's when
//! it received one. A window can see pointer, keys and text. It cannot see gamepads, nor `held` (which only repeats what
//! is pressed), nor a motion to where the pointer is already, nor a second finger where touch is emulated.

mod expect;

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use expect::{Atom, Desk};

/// Differences in place or amount that rounding explains: Wayland counts in 1/256, the wire in 1/65535 of a side.
const TOLERANCE: f64 = 0.02;

/// What a client's events amounted to at a window.
#[derive(Debug)]
pub struct Echo {
    /// Events sent that a window can see.
    pub visible: usize,
    /// Of those, the ones that it saw the whole of.
    pub seen: usize,
    /// Numbers of those that it did not see.
    pub missed: Vec<u64>,
    /// Events of the window's that no event of the client's explains: one that came twice, or from elsewhere.
    pub duplicated: usize,
    /// From sending to the window, of each event seen, sorted. Of a text: to its last character.
    pub latency_ns: Vec<u64>,
}

impl Echo {
    /// Compares the two logs. `screen` is the session's width and height in pixels, which the window fills;
    /// `emulated` says that touch acts as the pointer.
    ///
    /// # Errors
    /// A log cannot be read or has a line that is none.
    pub fn read(sent: &Path, window: &Path, screen: (f64, f64), emulated: bool) -> Result<Self> {
        Ok(Self::of(&lines(sent)?, &lines(window)?, screen, emulated))
    }

    /// See [`Echo::read`].
    pub fn of(sent: &[Value], window: &[Value], screen: (f64, f64), emulated: bool) -> Self {
        let began = sent.first().and_then(|line| line["sent_ns"].as_u64()).unwrap_or(0);
        let before = window.iter().take_while(|line| line["ns"].as_u64() < Some(began));
        let there = before.filter_map(place).last();
        let mut desk = Desk::new(screen, emulated, there);
        let mut expected = Vec::new();
        for line in sent {
            let event =
                Event { sequence: number(&line["seq"]), sent_ns: number(&line["sent_ns"]), seen_ns: 0, left: 0 };
            let atoms = desk.atoms(&line["event"]);
            expected.push((Event { left: atoms.len(), ..event }, atoms));
        }
        let window = window.iter().filter(|line| line["ns"].as_u64() >= Some(began));
        compare(expected, window)
    }

    /// Quantile of the latency in microseconds, `permille` from 0 to 1000; null if nothing was seen.
    pub fn latency_us(&self, permille: usize) -> Value {
        let last = self.latency_ns.len().saturating_sub(1);
        self.latency_ns.get(last * permille / 1000).map_or(Value::Null, |ns| json!(*ns as f64 / 1e3))
    }
}

/// An event of the client's.
struct Event {
    sequence: u64,
    sent_ns: u64,
    /// When the last of it was seen.
    seen_ns: u64,
    /// Parts not yet seen.
    left: usize,
}

/// A part of an event that may still come.
struct Part {
    /// Index of its event.
    event: usize,
    sent_ns: u64,
    atom: Atom,
}

/// Events come in the order in which they were sent, and none before it was: that is what tells a late one from one
/// that came twice.
fn compare<'a>(expected: Vec<(Event, Vec<Atom>)>, window: impl Iterator<Item = &'a Value>) -> Echo {
    let mut events: Vec<Event> = Vec::new();
    let mut parts = Vec::new();
    for (event, atoms) in expected.into_iter().filter(|(_, atoms)| !atoms.is_empty()) {
        let (index, sent_ns) = (events.len(), event.sent_ns);
        parts.extend(atoms.into_iter().map(|atom| Part { event: index, sent_ns, atom }));
        events.push(event);
    }
    let (mut next, mut duplicated) = (0, 0);
    for line in window {
        let ns = number(&line["ns"]);
        let Some(found) = Atom::seen(line) else { continue };
        let due = parts[next..].iter().take_while(|part| part.sent_ns <= ns);
        let Some((ahead, part)) = due.enumerate().find(|(_, part)| part.atom.is(&found)) else {
            // Where a pointer enters is a place like any other, but it may enter by itself.
            duplicated += usize::from(line["event"] != "enter");
            continue;
        };
        let event = &mut events[part.event];
        event.left -= 1;
        event.seen_ns = ns;
        next += ahead + 1;
    }
    let (seen, missed): (Vec<_>, Vec<_>) = events.iter().partition(|event| event.left == 0);
    let mut latency_ns: Vec<u64> = seen.iter().map(|event| event.seen_ns - event.sent_ns).collect();
    latency_ns.sort_unstable();
    let missed = missed.iter().map(|event| event.sequence).collect();
    Echo { visible: events.len(), seen: seen.len(), missed, duplicated, latency_ns }
}

/// Where the window's pointer is after this line of its log, if it says so.
fn place(line: &Value) -> Option<(f64, f64)> {
    matches!(line["event"].as_str(), Some("enter" | "motion"))
        .then(|| Some((line["x"].as_f64()?, line["y"].as_f64()?)))?
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// The whole lines of a log.
fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let parse =
        |line: &str| serde_json::from_str(line).with_context(|| format!("{} has the line {line}", path.display()));
    whole.lines().map(parse).collect()
}

#[cfg(test)]
mod tests;
