//! The live line on a terminal.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::live::Live;

/// How often the line is drawn anew.
pub const PERIOD: Duration = Duration::from_millis(250);
/// Rates are over so many periods: a second, so that they can be read.
const PERIODS: usize = 4;

/// Draws one line on standard error, over and over; nothing if that is not a terminal.
pub struct Progress {
    shown: bool,
    started: Instant,
    /// Frames and bytes at the ends of the last periods.
    samples: VecDeque<(Instant, u64, u64)>,
    drawn: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let started = Instant::now();
        let shown = !quiet && io::stderr().is_terminal();
        Self { shown, started, samples: VecDeque::from([(started, 0, 0)]), drawn: false }
    }

    /// Draws the line from the session's counters.
    pub fn draw(&mut self, live: &Live) {
        if !self.shown {
            return;
        }
        let (now, frames, bytes) = (Instant::now(), live.frames.load(Relaxed), live.bytes.load(Relaxed));
        let (then, frames_then, bytes_then) = self.samples.front().copied().unwrap_or((self.started, 0, 0));
        let seconds = (now - then).as_secs_f64().max(1e-3);
        let (fps, mbps) = ((frames - frames_then) as f64 / seconds, (bytes - bytes_then) as f64 * 8e-6 / seconds);
        if self.samples.len() == PERIODS {
            self.samples.pop_front();
        }
        self.samples.push_back((now, frames, bytes));
        let latency = match live.latency_us.load(Relaxed) {
            0 => String::new(),
            us => format!("{:5.1} ms  ", us as f64 / 1000.0),
        };
        // What does not fit is cut off: a line that wraps could not be cleared.
        let line = format!(
            "\x1b[?7l\r\x1b[K{:6.1} s  {fps:5.1} fps  {latency}{mbps:5.1} Mbit/s  {frames} frames, {} recovered, {} lost\x1b[?7h",
            (now - self.started).as_secs_f64(),
            live.recovered.load(Relaxed),
            live.lost.load(Relaxed),
        );
        // A terminal that has gone away is no reason to end a session.
        let _ = io::stderr().write_all(line.as_bytes());
        self.drawn = true;
    }

    /// Clears the line, so that what is printed next starts on an empty one.
    pub fn clear(&mut self) {
        if self.drawn {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
