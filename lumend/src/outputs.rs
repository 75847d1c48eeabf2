//! Who owns the virtual outputs: lumend, over sway's IPC, so that an output outlives the capture plane that shows it.
//!
//! [`Outputs`] is driven by a poll loop: it never blocks, and its answers are [`OutputEvent`]s.

mod steps;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use ipc::SessionId;
use lumen_core::Mode;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::config::DisplaySource;
use crate::swayipc::Decoder;
use steps::Steps;

/// What became of a session's wish for an output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutputEvent {
    /// The output exists and is on, in this mode: the one asked for, or that of an existing output.
    Ready { session: SessionId, name: String, mode: Mode },
    /// There is none; the session holds nothing. The reason is for people.
    Failed { session: SessionId, reason: String },
    /// The compositor is gone, or talks nonsense: drop this and connect again when it is back. The last event.
    Gone { reason: String },
}

/// A connection to sway and what it has been asked.
///
/// Times are nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug)]
pub struct Outputs {
    socket: UnixStream,
    steps: Steps,
    decoder: Decoder,
    /// Requests that the socket has not taken yet.
    unsent: Vec<u8>,
}

impl Outputs {
    /// Connects to the IPC socket at `path` without waiting. `own` says that the desktop was started by lumend, and
    /// that the outputs it began with may be given to sessions.
    pub fn connect(now: u64, path: &Path, source: DisplaySource, own: bool) -> io::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        let steps = Steps::new(now, source, own);
        let mut outputs = Self { socket: fd.into(), steps, decoder: Decoder::default(), unsent: Vec::new() };
        outputs.send();
        Ok(outputs)
    }

    /// Wants an output for the session in this mode; called again, another mode. Exactly one [`OutputEvent::Ready`] or
    /// [`OutputEvent::Failed`] answers the latest wish.
    pub fn acquire(&mut self, now: u64, session: SessionId, mode: Mode) {
        self.steps.acquire(now, session, mode);
        self.send();
    }

    /// Gives back what the session has or waits for. No event answers, and none of an earlier wish comes any more,
    /// but for those that [`Self::dispatch`] has returned already.
    pub fn release(&mut self, now: u64, session: SessionId) {
        self.steps.release(now, session);
        self.send();
    }

    /// When [`Self::dispatch`] must be called even if the socket is silent.
    pub fn deadline(&self) -> Option<u64> {
        self.steps.deadline()
    }

    /// Sends, receives and watches the time: to be called when the socket is ready and at [`Self::deadline`].
    pub fn dispatch(&mut self, now: u64) -> Vec<OutputEvent> {
        let broken = self.turn(now).err();
        let mut events: Vec<_> = std::iter::from_fn(|| self.steps.next_event()).collect();
        events.extend(broken.map(|reason| OutputEvent::Gone { reason }));
        events
    }

    /// Poll the socket for writing too.
    pub fn wants_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Sends what the socket takes at once. A broken socket is readable, so that [`Self::dispatch`] will meet the error.
    fn send(&mut self) {
        let _ = self.flush();
    }

    fn turn(&mut self, now: u64) -> Result<(), String> {
        self.flush()?;
        let open = self.receive()?;
        while let Some(reply) = self.decoder.next().map_err(|error| error.to_string())? {
            self.steps.on_reply(now, reply)?;
        }
        if !open {
            return Err("sway closed its control socket".to_owned());
        }
        self.steps.on_deadline(now)?;
        self.flush()
    }

    fn flush(&mut self) -> Result<(), String> {
        while let Some(request) = self.steps.next_request() {
            request.encode(&mut self.unsent);
        }
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("sway's control socket: {error}")),
            }
        }
        Ok(())
    }

    /// Reads what is there, within a bound per turn. False at the end of the stream.
    fn receive(&mut self) -> Result<bool, String> {
        let mut buffer = [0; 16 * 1024];
        for _ in 0..16 {
            match self.socket.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(length) => self.decoder.push(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("sway's control socket: {error}")),
            }
        }
        Ok(true)
    }
}

impl AsFd for Outputs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod sway_tests;
