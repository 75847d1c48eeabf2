//! What a window has seen, as short words: `enter 320 180`, `motion 1 2`, `down 272`, `axis v 15`, `key 30 down a`.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::PATIENCE;

/// A window's log, read on as the test goes on.
pub struct Log {
    path: PathBuf,
    /// Lines taken so far.
    taken: usize,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Seen {
    pub seat: String,
    pub what: String,
}

impl Log {
    pub fn new(path: PathBuf) -> Self {
        Self { path, taken: 0 }
    }

    /// The lines that have come since the last call, without those about keymaps, modifiers and focus.
    fn fresh(&mut self) -> Vec<Seen> {
        let text = fs::read_to_string(&self.path).unwrap();
        // The last piece is a line that is being written, or nothing.
        let lines: Vec<_> = text.split('\n').collect();
        let whole = &lines[..lines.len() - 1];
        let fresh = whole[self.taken..].iter().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
        self.taken = whole.len();
        let seen = |line: &Value| {
            words(line).map(|what| Seen { seat: line["seat"].as_str().unwrap_or_default().to_owned(), what })
        };
        fresh.iter().filter_map(seen).collect()
    }

    /// Waits for a line about something else, such as `keyboard_enter`, after those that were taken.
    pub fn wait_for(&mut self, seat: &str, event: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&self.path).unwrap();
            let mut found = text.lines().skip(self.taken).filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if found.any(|line| line["seat"] == seat && line["event"] == event) {
                return;
            }
            assert!(Instant::now() < deadline, "no {event} of {seat} in:\n{text}");
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// Everything up to the word that must come last.
    pub fn until(&mut self, last: &str) -> Vec<Seen> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        loop {
            seen.extend(self.fresh());
            if seen.last().is_some_and(|seen| seen.what == last) {
                return seen;
            }
            assert!(Instant::now() < deadline, "{last} does not come: {seen:?}");
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// The words up to the last.
    pub fn words(&mut self, last: &str) -> Vec<String> {
        self.until(last).into_iter().map(|seen| seen.what).collect()
    }

    /// What has come, if anything.
    pub fn rest(&mut self) -> Vec<Seen> {
        self.fresh()
    }
}

fn words(line: &Value) -> Option<String> {
    let text = |key: &str| line[key].as_str().unwrap_or_default();
    let number = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
    let axis = || if line["horizontal"] == true { "h" } else { "v" };
    let way = || if line["pressed"] == true { "down" } else { "up" };
    Some(match text("event") {
        event @ ("enter" | "motion") => format!("{event} {} {}", number("x"), number("y")),
        "button" => format!("{} {}", way(), number("button")),
        "axis" => format!("axis {} {}", axis(), number("value")),
        "axis_discrete" => format!("notch {} {}", axis(), number("steps")),
        "key" if line["pressed"] == true => format!("key {} down {}", number("code"), text("text")),
        "key" => format!("key {} up", number("code")),
        _ => return None,
    })
}
