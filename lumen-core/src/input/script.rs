//! Scripts of events: one a line, each with its time, for tests of a host's hands.

mod parse;

pub use parse::{ScriptError, parse};

use super::InputEvent;

/// One event and when it happens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    /// Nanoseconds from the script's begin.
    pub at_ns: u64,
    pub event: InputEvent,
}

/// The pattern of [`pattern`] as a script: an example of the format too.
pub const PATTERN: &str = include_str!("script/pattern.txt");

/// Everything that hands can do, once, in about two seconds; nothing is down in the end and the pad has left.
pub fn pattern() -> Vec<Step> {
    // A test parses it.
    parse(PATTERN).unwrap_or_default()
}

#[cfg(test)]
#[path = "script/tests.rs"]
mod tests;
