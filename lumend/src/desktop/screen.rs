//! One sway, with or without a connection to it, and the sessions that are shown on it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use ipc::{Hands, SessionId, Source};
use lumen_core::Mode;

use super::{Means, dial};
use crate::machine::{Attempt, Event};
use crate::outputs::{OutputEvent, Outputs, Seat, Terms};

/// Where a sway listens.
#[derive(Clone, Debug)]
pub struct Sway {
    pub control: PathBuf,
    pub wayland: PathBuf,
    pub terms: Terms,
}

/// Where on a sway a session is.
#[derive(Debug)]
pub(super) struct Place {
    pub output: String,
    pub seat: Option<Seat>,
}

#[derive(Debug)]
struct Shown {
    /// The try that waits for its output, or got it.
    attempt: Attempt,
    mode: Mode,
    place: Option<Place>,
}

#[derive(Debug)]
pub(super) struct Screen {
    sway: Sway,
    outputs: Option<Outputs>,
    sessions: BTreeMap<SessionId, Shown>,
}

impl Screen {
    pub fn new(sway: Sway) -> Self {
        Self { sway, outputs: None, sessions: BTreeMap::new() }
    }

    pub const fn sway(&self) -> &Sway {
        &self.sway
    }

    /// It is another sway from the next connection on.
    pub fn move_to(&mut self, control: PathBuf, wayland: PathBuf) {
        (self.sway.control, self.sway.wayland) = (control, wayland);
    }

    /// There is a connection.
    pub const fn is_up(&self) -> bool {
        self.outputs.is_some()
    }

    pub fn shows(&self, session: SessionId) -> bool {
        self.sessions.contains_key(&session)
    }

    /// Nobody is shown on it, or waits to be.
    pub fn is_free(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Connects, and asks for the outputs that sessions wait for already.
    pub fn connect(&mut self, now: u64) -> io::Result<()> {
        let outputs = self.outputs.insert(Outputs::connect(now, &self.sway.control, &self.sway.terms)?);
        for (&session, shown) in &self.sessions {
            outputs.acquire(now, session, shown.mode);
        }
        Ok(())
    }

    /// Drops the connection with all that was had over it. The sessions that were shown, each with its last try.
    pub fn disconnect(&mut self) -> impl Iterator<Item = (SessionId, Attempt)> + use<> {
        self.outputs = None;
        std::mem::take(&mut self.sessions).into_iter().map(|(session, shown)| (session, shown.attempt))
    }

    /// Wants an output for a session, at once or as soon as there is a connection.
    pub fn acquire(&mut self, now: u64, session: SessionId, attempt: Attempt, mode: Mode) {
        self.sessions.insert(session, Shown { attempt, mode, place: None });
        if let Some(outputs) = &mut self.outputs {
            outputs.acquire(now, session, mode);
        }
    }

    pub fn release(&mut self, now: u64, session: SessionId) {
        if self.sessions.remove(&session).is_some()
            && let Some(outputs) = &mut self.outputs
        {
            outputs.release(now, session);
        }
    }

    /// The compositor's name of the output that a session shows, while it has one.
    pub fn output(&self, session: SessionId) -> Option<&str> {
        self.place(session).ok().map(|place| place.output.as_str())
    }

    /// What capture opens: a fresh connection.
    pub fn source(&self, session: SessionId) -> Result<Source<OwnedFd>, String> {
        let output = self.place(session)?.output.clone();
        let wayland = &self.sway.wayland;
        let socket =
            dial(wayland).map_err(|error| format!("cannot reach the compositor at {}: {error}", wayland.display()))?;
        Ok(Source::Wlroots { socket, output })
    }

    pub fn hands(&self, session: SessionId, means: &Means) -> Result<Hands<OwnedFd>, String> {
        means.on_sway(&self.sway.wayland, self.place(session)?)
    }

    fn place(&self, session: SessionId) -> Result<&Place, &'static str> {
        self.sessions.get(&session).and_then(|shown| shown.place.as_ref()).ok_or("its output is gone")
    }

    /// What to poll, and whether for writing too.
    pub fn source_fd(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.outputs.as_ref().map(|outputs| (outputs.as_fd(), outputs.wants_write()))
    }

    pub fn deadline(&self) -> Option<u64> {
        self.outputs.as_ref().and_then(Outputs::deadline)
    }

    /// Moves what can move without waiting. The answer is why the compositor is gone, if it is.
    pub fn dispatch(&mut self, now: u64, news: &mut Vec<Event>) -> Option<String> {
        let events = self.outputs.as_mut().map(|outputs| outputs.dispatch(now)).unwrap_or_default();
        for event in events {
            match event {
                OutputEvent::Ready { session, name: output, mode, seat } => {
                    if let Some(shown) = self.sessions.get_mut(&session) {
                        shown.place = Some(Place { output, seat });
                        news.push(Event::OutputReady { session, attempt: shown.attempt, mode });
                    }
                }
                OutputEvent::Failed { session, reason } => {
                    if let Some(Shown { attempt, .. }) = self.sessions.remove(&session) {
                        news.push(Event::OutputFailed { session, attempt, reason });
                    }
                }
                OutputEvent::Disturbed { session } => news.push(Event::HandsLost(session)),
                OutputEvent::Gone { reason } => return Some(reason),
            }
        }
        None
    }
}
