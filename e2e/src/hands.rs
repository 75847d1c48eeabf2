//! Reads what a window's log says that hands did, and what a client's says that it sent.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::process::wait_until;

/// One line of `listener`'s log.
#[derive(Clone, Debug)]
pub struct Seen {
    pub ns: u64,
    pub seat: String,
    pub event: String,
    pub fields: Value,
}

impl Seen {
    pub fn number(&self, key: &str) -> f64 {
        self.fields[key].as_f64().unwrap_or(f64::NAN)
    }

    /// A key, or none: code and direction.
    pub fn key(&self) -> Option<(u64, bool)> {
        (self.event == "key").then(|| Some((self.fields["code"].as_u64()?, self.fields["pressed"].as_bool()?)))?
    }

    /// A button, or none: evdev code and direction.
    pub fn button(&self) -> Option<(u64, bool)> {
        (self.event == "button").then(|| Some((self.fields["button"].as_u64()?, self.fields["pressed"].as_bool()?)))?
    }
}

/// The whole lines of a log that may still be written to.
pub fn seen(path: &Path) -> Result<Vec<Seen>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(line).collect()
}

fn line(text: &str) -> Result<Seen> {
    let fields: Value = serde_json::from_str(text)?;
    let word = |key: &str| fields[key].as_str().map(str::to_owned).with_context(|| format!("no {key} in {text}"));
    Ok(Seen { ns: fields["ns"].as_u64().context("no ns")?, seat: word("seat")?, event: word("event")?, fields })
}

/// Waits until the log satisfies `done`, and returns it.
pub fn wait_seen(path: &Path, limit: Duration, done: impl Fn(&[Seen]) -> bool) -> Result<Vec<Seen>> {
    let look = || seen(path).ok().filter(|events| done(events));
    wait_until(limit, look).with_context(|| format!("not seen; the window saw {:#?}", seen(path).map(shortened)))
}

fn shortened(events: Vec<Seen>) -> Vec<String> {
    let from = events.len().saturating_sub(40);
    events[from..].iter().map(|event| event.fields.to_string()).collect()
}

/// Bits of a seat's capabilities, as the log has them: wl_seat's.
const POINTER: u64 = 1;
const KEYBOARD: u64 = 2;

/// Keys and buttons that are down at the end of the log, each by its code.
///
/// A seat that loses its last pointer or keyboard takes with it what was down on it: the window has no such device any
/// more, and gets the next one with nothing pressed. That is how a compositor tells the death of a virtual device.
pub fn left_down(events: &[Seen]) -> BTreeSet<u64> {
    let mut down: Vec<(&str, u64, u64)> = Vec::new();
    for event in events {
        let seat = event.seat.as_str();
        let change = event.key().map(|(code, pressed)| (KEYBOARD, code, pressed));
        let change = change.or_else(|| event.button().map(|(code, pressed)| (POINTER, code, pressed)));
        if let Some((device, code, pressed)) = change {
            down.retain(|held| *held != (seat, device, code));
            if pressed {
                down.push((seat, device, code));
            }
        } else if event.event == "capabilities" {
            let bits = event.fields["bits"].as_u64().unwrap_or(0);
            down.retain(|(of, device, _)| *of != seat || bits & device != 0);
        }
    }
    down.into_iter().map(|(_, _, code)| code).collect()
}

/// One line of a client's `--input-log`.
#[derive(Clone, Debug)]
pub struct Sent {
    pub sequence: u64,
    pub ns: u64,
    pub fields: Value,
}

/// The events that a client sent.
pub fn sent(path: &Path) -> Result<Vec<Sent>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let parse = |text: &str| -> Result<Sent> {
        let fields: Value = serde_json::from_str(text)?;
        let number = |key: &str| fields[key].as_u64().with_context(|| format!("no {key} in {text}"));
        Ok(Sent { sequence: number("seq")?, ns: number("sent_ns")?, fields })
    };
    text.lines().map(parse).collect()
}
