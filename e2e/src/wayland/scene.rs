//! A full-screen application that moves: the synthetic desktop drawn into a window as fast as the compositor takes it.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use ipc::FrameFormat;
use ipc::event::now_ns;
use lumen_capture::pattern::{Cadence, Pattern};
use lumen_core::Mode;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;
use serde_json::{Value, json};
use wayland_client::Connection;

use super::window::Window;

/// How often to draw.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Pace {
    /// Whenever the compositor asks for a frame.
    Compositor,
    /// No more than this many thousandths of a hertz.
    AtMost { refresh_mhz: u32 },
    /// Once.
    Still,
}

/// What a scene did.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Pictures shown, each with a number of its own in its stamp, from 0.
    pub frames: u64,
    /// Of those, the ones that the compositor has composited (their frame callback came).
    pub presented: u64,
    /// From the first picture to the last.
    pub elapsed: Duration,
    pub width: u16,
    pub height: u16,
}

impl Report {
    /// As written to the JSON file: `{frames, presented, seconds, fps, width, height}`.
    pub fn json(&self) -> Value {
        let seconds = self.elapsed.as_secs_f64();
        json!({
            "frames": self.frames,
            "presented": self.presented,
            "seconds": seconds,
            "fps": if seconds > 0.0 { self.frames.saturating_sub(1) as f64 / seconds } else { 0.0 },
            "width": self.width,
            "height": self.height,
        })
    }
}

/// Draws until `length` has passed since the first picture, the window is closed, or SIGTERM or SIGINT says so.
///
/// What hands do to the window goes into `log`.
///
/// # Errors
/// The compositor went away or cannot show a window.
pub fn run(
    compositor: Connection,
    pace: Pace,
    length: Duration,
    title: &str,
    log: Option<File>,
) -> anyhow::Result<Report> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    ends.thread_block()?;
    let ended = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    let mut window = Window::open(compositor, title)?;
    if let Some(log) = log {
        window.log_to(log);
    }
    let mut scene = Scene::new(pace)?;
    loop {
        window.dispatch()?;
        let now = now_ns();
        let over = scene.started.is_some_and(|start| now >= start + length.as_nanos() as u64);
        if over || window.closed() || ended.read_signal()?.is_some() {
            return Ok(scene.report(window.presented()));
        }
        let next = scene.draw(&mut window, now)?;
        let end = scene.started.map(|start| start + length.as_nanos() as u64);
        let wake = [next, end].into_iter().flatten().min();
        let timeout = wake.map(|at| TimeSpec::from_duration(Duration::from_nanos(at.saturating_sub(now_ns()))));
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        match ppoll(&mut [readable(window.fd()), readable(ended.as_fd())], timeout, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

struct Scene {
    pace: Pace,
    cadence: Option<Cadence>,
    pattern: Option<(FrameFormat, Pattern)>,
    frames: u64,
    started: Option<u64>,
    last: u64,
}

impl Scene {
    fn new(pace: Pace) -> anyhow::Result<Self> {
        let cadence = match pace {
            // Of the mode only the rate matters here.
            Pace::AtMost { refresh_mhz } => Some(Cadence::new(Mode::new(1280, 720, refresh_mhz)?, now_ns())),
            Pace::Compositor | Pace::Still => None,
        };
        Ok(Self { pace, cadence, pattern: None, frames: 0, started: None, last: 0 })
    }

    /// Draws the next picture if it is time and the compositor wants one; says when to look again if that is earlier
    /// than the compositor's next word.
    fn draw(&mut self, window: &mut Window, now: u64) -> anyhow::Result<Option<u64>> {
        let Some(canvas) = window.canvas()? else { return Ok(None) };
        let same_size = self.pattern.as_ref().is_some_and(|(format, _)| *format == canvas.format);
        if self.pace == Pace::Still && self.frames > 0 && same_size {
            return Ok(None);
        }
        if let Some(cadence) = &mut self.cadence
            && !cadence.due(now)
        {
            return Ok(Some(cadence.deadline()));
        }
        let pattern = match &mut self.pattern {
            Some((format, pattern)) if *format == canvas.format => pattern,
            other => &mut other.insert((canvas.format, Pattern::new(canvas.format))).1,
        };
        let (number, buffer) = (self.frames as u32, canvas.buffer);
        pattern.draw(buffer, canvas.pixels, number);
        let drawn = now_ns();
        pattern.stamp(canvas.pixels, number, drawn);
        window.show(buffer)?;
        self.frames += 1;
        self.started.get_or_insert(drawn);
        self.last = drawn;
        Ok(None)
    }

    fn report(&self, presented: u64) -> Report {
        let (width, height) = self.pattern.as_ref().map_or((0, 0), |(format, _)| (format.width, format.height));
        let elapsed = Duration::from_nanos(self.started.map_or(0, |start| self.last - start));
        Report { frames: self.frames, presented, elapsed, width, height }
    }
}
