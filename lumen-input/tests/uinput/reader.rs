//! A program that reads a device, as a game or a compositor does.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use evdev::raw_stream::RawDevice;
use evdev::{FFEffectData, FFEffectKind, FFReplay, FFTrigger};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::rig::PATIENCE;

/// Type, code and value of an event.
pub type Event = (u16, u16, i32);

/// The events between two SYN_REPORTs.
pub type Report = Vec<Event>;

/// The event node of the device that says it is plugged in at `phys`.
pub fn find(phys: &str) -> Option<PathBuf> {
    let nodes = fs::read_dir("/sys/class/input").ok()?.filter_map(Result::ok);
    nodes.filter(|node| node.file_name().to_string_lossy().starts_with("event")).find_map(|node| {
        let text = fs::read_to_string(node.path().join("device/phys")).ok()?;
        let path = Path::new("/dev/input").join(node.file_name());
        (text.trim() == phys && path.exists()).then_some(path)
    })
}

pub struct Reader {
    pub device: RawDevice,
    /// Events of a report that has not ended yet.
    open: Report,
    done: Vec<Report>,
}

impl Reader {
    pub fn open(node: &Path) -> Self {
        let device = RawDevice::open(node).unwrap();
        Self { device, open: Report::new(), done: Vec::new() }
    }

    /// The next `count` reports. Panics when they do not come.
    pub fn reports(&mut self, count: usize) -> Vec<Report> {
        while self.done.len() < count {
            assert!(self.ready(PATIENCE.as_millis() as u16), "{} of {count} reports came", self.done.len());
            self.fetch().unwrap();
        }
        self.done.drain(..count).collect()
    }

    pub fn report(&mut self) -> Report {
        self.reports(1).remove(0)
    }

    /// The next `count` events, whatever reports they came in.
    pub fn events(&mut self, count: usize) -> Report {
        while self.done.iter().map(Vec::len).sum::<usize>() + self.open.len() < count {
            assert!(self.ready(PATIENCE.as_millis() as u16), "{:?} {:?} of {count} events", self.done, self.open);
            self.fetch().unwrap();
        }
        let mut all: Report = self.done.drain(..).flatten().chain(self.open.drain(..)).collect();
        self.open = all.split_off(count);
        all
    }

    /// True if nothing has come that was not read as a report.
    pub fn is_silent(&mut self) -> bool {
        while self.ready(0) {
            self.fetch().unwrap();
        }
        self.done.is_empty() && self.open.is_empty()
    }

    /// What reading says when the device has gone.
    pub fn error(&mut self) -> io::Error {
        loop {
            assert!(self.ready(PATIENCE.as_millis() as u16), "the device is still there");
            if let Err(error) = self.fetch() {
                return error;
            }
        }
    }

    fn ready(&self, timeout_ms: u16) -> bool {
        let mut fds = [PollFd::new(self.device.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::from(timeout_ms)).unwrap() > 0
    }

    fn fetch(&mut self) -> io::Result<()> {
        for event in self.device.fetch_events()? {
            let event = (event.event_type().0, event.code(), event.value());
            match event {
                // A report of more than sixteen events comes in pieces, which a 1 separates; the kernel says nothing
                // more if the end is such a separation too.
                (0, 0, 1) => {}
                (0, 0, _) if self.open.is_empty() => {}
                (0, 0, _) => self.done.push(std::mem::take(&mut self.open)),
                (0, ..) => panic!("the kernel dropped events: {event:?}"),
                // The kernel's own repetition of a key that is held.
                (1, _, 2) => {}
                _ => self.open.push(event),
            }
        }
        Ok(())
    }
}

/// An effect with a length in milliseconds, 0 for endless.
pub fn effect(kind: FFEffectKind, length: u16) -> FFEffectData {
    FFEffectData {
        direction: 0,
        trigger: FFTrigger { button: 0, interval: 0 },
        replay: FFReplay { length, delay: 0 },
        kind,
    }
}

pub fn rumble(strong: u16, weak: u16, length: u16) -> FFEffectData {
    effect(FFEffectKind::Rumble { strong_magnitude: strong, weak_magnitude: weak }, length)
}
