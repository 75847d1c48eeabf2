//! A bare screencopy loop that reads the stamp out of each picture: what the compositor itself takes from a client's
//! drawing to a buffer that can be read.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use ipc::FrameFormat;
use ipc::event::now_ns;
use ipc::shm::{Mapping, sealed_memfd};
use lumen_capture::display::wlroots::Wlroots;
use lumen_capture::display::{Display, Event, Frame};
use lumen_core::stamp::{self, Stamp};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use serde_json::{Value, json};

/// Filled in turn; one would do, two let the next copy start before the last is read.
const BUFFERS: u32 = 2;

/// What the loop saw.
#[derive(Clone, Default, Debug)]
pub struct Report {
    /// Pictures captured.
    pub frames: u64,
    /// Of those, pictures with a stamp that was not in the picture before.
    pub stamped: u64,
    /// Stamp numbers that were left out between one picture and the next.
    pub gaps: u64,
    drawn_to_readable_ns: Vec<u64>,
    commit_to_readable_ns: Vec<u64>,
    last: Option<u32>,
}

impl Report {
    /// `{frames, stamped, gaps, drawn_to_readable_us, commit_to_readable_us}`, the last two as percentiles; the commit
    /// is the compositor's own time of the picture.
    pub fn json(&self) -> Value {
        json!({
            "frames": self.frames,
            "stamped": self.stamped,
            "gaps": self.gaps,
            "drawn_to_readable_us": percentiles(&self.drawn_to_readable_ns),
            "commit_to_readable_us": percentiles(&self.commit_to_readable_ns),
        })
    }

    fn count(&mut self, frame: Frame, readable: u64, stamp: Option<Stamp>) {
        self.frames += 1;
        self.commit_to_readable_ns.push(readable.saturating_sub(frame.captured_ns));
        let Some(stamp) = stamp.filter(|stamp| self.last != Some(stamp.number)) else { return };
        self.stamped += 1;
        self.drawn_to_readable_ns.push(readable.saturating_sub(stamp.time_ns));
        if let Some(last) = self.last {
            self.gaps += u64::from(stamp.number.saturating_sub(last).saturating_sub(1));
        }
        self.last = Some(stamp.number);
    }
}

fn percentiles(samples: &[u64]) -> Value {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let at = |permille: usize| sorted.get(sorted.len().saturating_sub(1) * permille / 1000).map(|ns| ns / 1000);
    json!({ "p50": at(500), "p95": at(950), "p99": at(990), "max": at(1000) })
}

/// A connection to the compositor that WAYLAND_DISPLAY and XDG_RUNTIME_DIR name.
///
/// # Errors
/// There is none.
pub fn connect() -> anyhow::Result<OwnedFd> {
    let name = PathBuf::from(std::env::var_os("WAYLAND_DISPLAY").context("WAYLAND_DISPLAY is not set")?);
    let path = match std::env::var_os("XDG_RUNTIME_DIR") {
        Some(directory) if name.is_relative() => PathBuf::from(directory).join(name),
        _ => name,
    };
    Ok(UnixStream::connect(&path).with_context(|| format!("cannot connect to {}", path.display()))?.into())
}

/// Captures `output` for `length`, counted from its first picture.
///
/// # Errors
/// The output cannot be captured, or no picture came within ten seconds.
pub fn run(socket: OwnedFd, output: &str, length: Duration) -> anyhow::Result<Report> {
    let mut display = Wlroots::open(socket, output, now_ns())?;
    let mut pool: Option<(FrameFormat, Vec<Mapping>)> = None;
    let mut report = Report::default();
    let mut next = 0;
    let mut end = now_ns() + Duration::from_secs(10).as_nanos() as u64;
    let mut events = Vec::new();
    loop {
        let now = now_ns();
        if now >= end {
            return if report.frames > 0 { Ok(report) } else { Err(anyhow!("no picture of {output} came in 10 s")) };
        }
        display.dispatch(now, &mut events)?;
        let readable = now_ns();
        for event in events.drain(..) {
            match event {
                Event::Opened(format) => pool = Some((format, attach(&mut display, format)?)),
                Event::Ready(frame) => {
                    // The next copy first, as the plane does it.
                    display.begin(next % BUFFERS, readable);
                    next += 1;
                    let Some((format, buffers)) = &pool else { bail!("a picture before its shape") };
                    if report.frames == 0 {
                        end = readable + length.as_nanos() as u64;
                    }
                    report.count(frame, readable, read_stamp(buffers[frame.buffer as usize].as_slice(), *format));
                }
            }
        }
        if display.wants_buffer() {
            display.begin(next % BUFFERS, readable);
            next += 1;
        }
        let wake = display.deadline().map_or(end, |at| at.min(end));
        let timeout = TimeSpec::from_duration(Duration::from_nanos(wake.saturating_sub(now_ns())));
        let Some(fd) = display.fd() else { bail!("the display has no descriptor") };
        match ppoll(&mut [PollFd::new(fd, PollFlags::POLLIN)], Some(timeout), None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn attach(display: &mut Wlroots, format: FrameFormat) -> anyhow::Result<Vec<Mapping>> {
    let memory = (0..BUFFERS).map(|_| sealed_memfd("floor", format.size())).collect::<Result<Vec<_>, _>>()?;
    let mapped = memory.iter().map(|fd| Mapping::read_only(fd.as_fd(), format.size())).collect::<Result<_, _>>()?;
    display.attach(format, memory, now_ns())?;
    Ok(mapped)
}

/// Reads the stamp of a picture; green is near enough to luma for black and white cells.
pub fn read_stamp(pixels: &[u8], format: FrameFormat) -> Option<Stamp> {
    let (width, height) = (usize::from(format.width), usize::from(format.height));
    let mut luma = vec![0; width * height];
    // The strip is never higher than this; the rest of the plane may stay black.
    let strip = (height / 3).max(64);
    for (row, line) in pixels.chunks_exact(format.stride as usize).zip(luma.chunks_exact_mut(width)).take(strip) {
        for (pixel, value) in row.as_chunks::<4>().0.iter().zip(line) {
            *value = pixel[1];
        }
    }
    stamp::read(&luma, width, width, height)
}
