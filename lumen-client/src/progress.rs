//! The live line on a terminal.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::live::Live;

/// How often the line is drawn anew.
pub const PERIOD: Duration = Duration::from_millis(250);

/// Draws one line on standard error, over and over; nothing if that is not a terminal.
pub struct Progress {
    shown: bool,
    started: Instant,
    last: Option<(Instant, u64, u64)>,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        Self { shown: !quiet && io::stderr().is_terminal(), started: Instant::now(), last: None }
    }

    /// Draws the line from the session's counters.
    pub fn draw(&mut self, live: &Live) {
        if !self.shown {
            return;
        }
        let (now, frames, bytes) = (Instant::now(), live.frames.load(Relaxed), live.bytes.load(Relaxed));
        let (fps, kbps) = match self.last {
            Some((then, frames_then, bytes_then)) => {
                let seconds = (now - then).as_secs_f64().max(1e-3);
                ((frames - frames_then) as f64 / seconds, (bytes - bytes_then) as f64 * 0.008 / seconds)
            }
            None => (0.0, 0.0),
        };
        self.last = Some((now, frames, bytes));
        let latency = match live.latency_us.load(Relaxed) {
            0 => String::new(),
            us => format!("{:.1} ms  ", us as f64 / 1000.0),
        };
        // What does not fit is cut off: a line that wraps could not be cleared.
        let line = format!(
            "\x1b[?7l\r\x1b[K{:6.1} s  {fps:5.1} fps  {latency}{kbps:.0} kbit/s  {frames} frames, {} recovered, {} lost\x1b[?7h",
            (now - self.started).as_secs_f64(),
            live.recovered.load(Relaxed),
            live.lost.load(Relaxed),
        );
        // A terminal that has gone away is no reason to end a session.
        let _ = io::stderr().write_all(line.as_bytes());
    }

    /// Clears the line, so that what is printed next starts on an empty one.
    pub fn clear(&mut self) {
        if self.shown && self.last.is_some() {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
