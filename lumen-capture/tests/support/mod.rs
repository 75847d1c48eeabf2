//! The real plane binary on a real link, as lumend would start it, and the reading end of its mailbox.
#![allow(dead_code)] // Each test program uses its part.

pub mod pointer;
pub mod sway;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ipc::event::Event;
use ipc::link::{Link, LinkError};
use ipc::mailbox::{FrameMeta, Mailbox, MailboxReader};
use ipc::shm::{Mapping, sealed_memfd};
use ipc::{FrameFormat, FromCapture, Generation, Pool, SessionId, Source, ToCapture};
use lumen_core::Mode;
use lumen_core::stamp::{self, Stamp};

/// Long enough for the busiest machine; nothing waits this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

const BUFFERS: u32 = 4;

/// A running capture plane.
pub struct Plane {
    pub link: Link,
    child: Child,
}

impl Plane {
    /// Starts one and reads its `Hello`.
    pub fn start() -> Self {
        let (link, theirs) = Link::pair().unwrap();
        let theirs = theirs.into_fd();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumen-capture"));
        command.env_clear();
        let raw = theirs.as_raw_fd();
        // SAFETY: between fork and exec only async-signal-safe calls: dup2, or fcntl where the number is right already.
        unsafe {
            command.pre_exec(move || {
                let failed = if raw == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(raw, 3) } < 0;
                if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let child = command.spawn().unwrap();
        drop(theirs);
        let plane = Self { link, child };
        match plane.next() {
            FromCapture::Hello(hello) => assert_eq!(hello.build, ipc::BUILD),
            other => panic!("the first message is {other:?}"),
        }
        plane
    }

    /// The next message, whatever it is.
    pub fn next(&self) -> FromCapture {
        self.try_next().expect("the plane ended")
    }

    pub fn try_next(&self) -> Result<FromCapture, LinkError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(received) = self.link.recv::<FromCapture>()? {
                return Ok(received.message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the plane says nothing");
            self.link.wait_readable(left).unwrap();
        }
    }

    /// The next message that is not `Stats`.
    pub fn answer(&self) -> FromCapture {
        loop {
            match self.next() {
                FromCapture::Stats { .. } => {}
                other => return other,
            }
        }
    }

    /// Asks whether the plane is still there; whatever was sent before has been dealt with when this returns.
    pub fn ping(&self) {
        self.link.send(ToCapture::Ping(77)).unwrap();
        match self.answer() {
            FromCapture::Pong(77) => {}
            other => panic!("instead of Pong: {other:?}"),
        }
    }

    pub fn open(&self, generation: u32, mode: Mode, source: Source<OwnedFd>) {
        let generation = Generation(generation);
        self.link.send(ToCapture::Open { session: SessionId(1), generation, mode, source }).unwrap();
    }

    /// Opens a source that must work.
    pub fn opened(&self, generation: u32, mode: Mode, source: Source<OwnedFd>) -> FrameFormat {
        self.open(generation, mode, source);
        match self.answer() {
            FromCapture::Opened { generation: answered, format } if answered.0 == generation => format,
            other => panic!("instead of Opened: {other:?}"),
        }
    }

    /// Wires a generation; the reading end is encode's.
    pub fn wire(&self, generation: u32, format: FrameFormat) -> Reader {
        let (reader, pool) = Reader::new(format);
        self.link.send(ToCapture::Wire { generation: Generation(generation), pool }).unwrap();
        reader
    }

    /// Closes the link, which is the order to stop.
    pub fn stop(self) -> ExitStatus {
        let Self { link, child } = self;
        drop(link);
        ended(child)
    }

    /// Waits for the plane to end by itself.
    pub fn end(self) -> ExitStatus {
        ended(self.child)
    }
}

fn ended(mut child: Child) -> ExitStatus {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    receiver.recv_timeout(PATIENCE).expect("the plane does not end").unwrap()
}

/// Encode's end of a generation.
pub struct Reader {
    format: FrameFormat,
    mailbox: MailboxReader,
    buffers: Vec<Mapping>,
}

impl Reader {
    fn new(format: FrameFormat) -> (Self, Pool<OwnedFd>) {
        let memory = sealed_memfd("mailbox", Mailbox::memory_size()).unwrap();
        let wake = Event::new().unwrap();
        let buffers: Vec<_> = (0..BUFFERS).map(|_| sealed_memfd("frame", format.size()).unwrap()).collect();
        let mapped = buffers.iter().map(|fd| Mapping::read_only(fd.as_fd(), format.size()).unwrap()).collect();
        let mailbox = MailboxReader::attach(memory.as_fd(), wake.try_clone().unwrap(), BUFFERS).unwrap();
        (Self { format, mailbox, buffers: mapped }, Pool { format, buffers, mailbox: memory, wake: wake.into_fd() })
    }

    /// The newest frame if there is one within `patience`.
    pub fn frame_within<T>(&mut self, patience: Duration, look: impl FnOnce(FrameMeta, &[u8]) -> T) -> Option<T> {
        let deadline = Instant::now() + patience;
        loop {
            self.mailbox.wake().drain();
            if let Some((index, meta)) = self.mailbox.take().unwrap() {
                let seen = look(meta, self.buffers[index as usize].as_slice());
                self.mailbox.release(index);
                return Some(seen);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || !self.mailbox.wake().wait(Some(left)).unwrap() {
                return None;
            }
        }
    }

    /// The newest frame, which must come.
    pub fn frame<T>(&mut self, look: impl FnOnce(FrameMeta, &[u8]) -> T) -> T {
        self.frame_within(PATIENCE, look).expect("no picture came")
    }

    /// The newest frame's stamp.
    pub fn stamp(&mut self) -> (FrameMeta, Option<Stamp>) {
        let format = self.format;
        self.frame(|meta, pixels| (meta, read_stamp(pixels, format)))
    }
}

/// Green is near enough to luma for black and white cells.
pub fn read_stamp(pixels: &[u8], format: FrameFormat) -> Option<Stamp> {
    let (width, height) = (usize::from(format.width), usize::from(format.height));
    let rows = pixels.chunks_exact(format.stride as usize);
    let luma: Vec<u8> = rows.flat_map(|row| row.as_chunks::<4>().0[..width].iter().map(|pixel| pixel[1])).collect();
    stamp::read(&luma, width, width, height)
}
