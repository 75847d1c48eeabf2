//! Who owns the virtual outputs and the seats: lumend, over sway's IPC, so that an output outlives the capture plane that
//! shows it, and a seat the input plane that moves it.
//!
//! [`Outputs`] is driven by a poll loop: it never blocks, and its answers are [`OutputEvent`]s.

mod seats;
mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use ipc::SessionId;
use lumen_core::Mode;

use crate::config::Display;
use crate::desktop::dial;
use crate::swayipc::{Decoder, Reply, Request};
pub use seats::making as seat_command;
use seats::{SeatEvent, Seats};
use steps::Steps;

/// What became of a session's wish for an output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OutputEvent {
    /// The output exists and is on, in this mode: the one asked for, or that of an existing output.
    Ready { session: SessionId, name: String, mode: Mode, seat: Option<Seat> },
    /// There is none; the session holds nothing. The reason is for people.
    Failed { session: SessionId, reason: String },
    /// Devices on the session's seat have been moved to another: they have to be made anew.
    Disturbed { session: SessionId },
    /// The compositor is gone, or talks nonsense: drop this and connect again when it is back. The last event.
    Gone { reason: String },
}

/// Where a session's pointer and keyboard are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seat {
    /// `wl_seat.name`.
    pub name: String,
    /// Evdev code that brings the seat's focus back to its output; see [`ipc::Hands::Wlroots`].
    pub focus_key: u32,
}

/// How sessions are shown.
#[derive(Clone, Debug)]
pub struct Terms {
    pub display: Display,
    /// Seats to make once there is a session: one for each that there can be at a time. 0 if none needs one.
    pub seats: u32,
    /// The desktop was started by lumend, and the outputs it began with may be given to sessions.
    pub own: bool,
}

/// Who waits for an answer: sway answers in the order of the requests.
#[derive(Clone, Copy, Debug)]
enum Asker {
    Steps,
    Seats,
}

/// A connection to sway and what it has been asked.
///
/// Times are nanoseconds of CLOCK_MONOTONIC.
#[derive(Debug)]
pub struct Outputs {
    socket: UnixStream,
    steps: Steps,
    seats: Seats,
    /// Outputs that are there and wait for their session's seat.
    seatless: BTreeMap<SessionId, (String, Mode)>,
    events: VecDeque<OutputEvent>,
    askers: VecDeque<Asker>,
    decoder: Decoder,
    /// Requests that the socket has not taken yet.
    unsent: Vec<u8>,
}

impl Outputs {
    /// Connects to the IPC socket at `path` without waiting.
    pub fn connect(now: u64, path: &Path, terms: &Terms) -> io::Result<Self> {
        let mut outputs = Self {
            socket: dial(path)?.into(),
            steps: Steps::new(now, terms.display.clone(), terms.own),
            seats: Seats::new(terms.seats),
            seatless: BTreeMap::new(),
            events: VecDeque::new(),
            askers: VecDeque::new(),
            decoder: Decoder::default(),
            unsent: Vec::new(),
        };
        outputs.send();
        Ok(outputs)
    }

    /// Wants an output for the session in this mode; called again, another mode. Exactly one [`OutputEvent::Ready`] or
    /// [`OutputEvent::Failed`] answers the latest wish.
    pub fn acquire(&mut self, now: u64, session: SessionId, mode: Mode) {
        self.seatless.remove(&session);
        self.steps.acquire(now, session, mode);
        self.send();
    }

    /// Gives back what the session has or waits for. No event answers, and none of an earlier wish comes any more,
    /// but for those that [`Self::dispatch`] has returned already.
    pub fn release(&mut self, now: u64, session: SessionId) {
        self.seatless.remove(&session);
        self.steps.release(now, session);
        self.seats.release(now, session);
        self.send();
    }

    /// When [`Self::dispatch`] must be called even if the socket is silent.
    pub fn deadline(&self) -> Option<u64> {
        [self.steps.deadline(), self.seats.deadline()].into_iter().flatten().min()
    }

    /// Sends, receives and watches the time: to be called when the socket is ready and at [`Self::deadline`].
    pub fn dispatch(&mut self, now: u64) -> Vec<OutputEvent> {
        let broken = self.turn(now).err();
        let mut events: Vec<_> = self.events.drain(..).collect();
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
            self.on_reply(now, reply)?;
        }
        if !open {
            return Err("sway closed its control socket".to_owned());
        }
        self.steps.on_deadline(now)?;
        self.seats.on_deadline(now)?;
        self.pass_on(now);
        self.flush()
    }

    fn on_reply(&mut self, now: u64, reply: Reply) -> Result<(), &'static str> {
        match reply {
            Reply::OutputsChanged => return self.steps.on_reply(now, reply),
            Reply::Reloaded => {
                self.seats.reloaded(now);
                return Ok(());
            }
            Reply::Ran(_) | Reply::Outputs(_) | Reply::Seats(_) | Reply::Watching => {}
        }
        match self.askers.pop_front() {
            Some(Asker::Steps) => self.steps.on_reply(now, reply),
            Some(Asker::Seats) => self.seats.on_reply(now, reply),
            None => Err("sway answers what nobody asked"),
        }
    }

    /// An output that is ready waits for its seat.
    fn pass_on(&mut self, now: u64) {
        while let Some(event) = self.steps.next_event() {
            match event {
                OutputEvent::Ready { session, name, mode, .. } => {
                    self.seats.settle(now, session, &name);
                    self.seatless.insert(session, (name, mode));
                }
                other => self.events.push_back(other),
            }
        }
        while let Some(event) = self.seats.next_event() {
            match event {
                SeatEvent::Settled { session, seat } => {
                    if let Some((name, mode)) = self.seatless.remove(&session) {
                        self.events.push_back(OutputEvent::Ready { session, name, mode, seat });
                    }
                }
                SeatEvent::Disturbed { session } => self.events.push_back(OutputEvent::Disturbed { session }),
            }
        }
    }

    fn next_request(&mut self) -> Option<(Asker, Request)> {
        let steps = self.steps.next_request().map(|request| (Asker::Steps, request));
        steps.or_else(|| Some((Asker::Seats, self.seats.next_request()?)))
    }

    fn flush(&mut self) -> Result<(), String> {
        while let Some((asker, request)) = self.next_request() {
            self.askers.push_back(asker);
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

/// A name becomes part of a command, so it must not be able to end it.
fn is_plain(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && !name.starts_with('-') && name.bytes().all(plain)
}

#[cfg(test)]
mod seat_tests;
#[cfg(test)]
mod sway_tests;
