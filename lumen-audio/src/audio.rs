//! The plane: one loop over the link, PipeWire's events and one timer.
//!
//! A plane's life is `Wire` → packets → `Retire`, or `Undo` and nothing else; a `Ring` in between is for another network
//! plane, and leaves what was set up as it is. It ends with the link, with a `Retire`,
//! or when the last record of an `Undo` is dealt with; when PipeWire goes away it asks to be replaced.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ipc::event::now_ns;
use ipc::link::{Link, LinkError};
use ipc::plane::{Exit, PlaneError, Startup};
use ipc::{FromAudio, ToAudio};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::client::Client;
use crate::default::Undoing;
use crate::desktop::Desktop;
use crate::session::Session;
use crate::trouble::Trouble;

/// How long PipeWire may take to put the default back before the plane ends without.
const FAREWELL_NS: u64 = 2_000_000_000;
/// How often it looks up from waiting for that, in milliseconds.
const FAREWELL_STEP: u8 = 50;
/// How long a plane that was started to undo waits for a session manager before a fresh one tries again.
const JANITOR_NS: u64 = 5_000_000_000;

/// Loads PipeWire's library, seals the plane and runs it until its link closes.
///
/// # Errors
/// A machine without PipeWire's library, a peer that broke the rules, or a failure of the plane itself.
pub fn run(startup: Startup) -> Result<Exit, PlaneError> {
    let client = Client::load().map_err(PlaneError::failed)?;
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
        .map_err(io::Error::from)?;
    let link = startup.seal()?;
    Plane { work: Work::None, link, timer, armed: None, client }.run()
}

/// What the plane is doing.
enum Work {
    /// Nothing has been asked.
    None,
    Session(Box<Session>),
    /// Undoing what dead planes did, until the time given.
    Janitor(Desktop, Undoing, u64),
}

impl Work {
    fn deadline(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Session(session) => Some(session.deadline()),
            Self::Janitor(_, _, until) => Some(*until),
        }
    }
}

/// The audio plane after its lockdown.
struct Plane {
    // Before the client whose library it uses.
    work: Work,
    link: Link,
    timer: TimerFd,
    /// What the timer is set to.
    armed: Option<u64>,
    client: Client,
}

impl Plane {
    fn run(mut self) -> Result<Exit, PlaneError> {
        loop {
            let link_readable = self.wait()?;
            match self.turn(link_readable) {
                Ok(None) => {}
                Ok(Some(exit)) => return Ok(exit),
                Err(Trouble::Gone) => return Ok(Exit::Reopen),
                Err(Trouble::Plane(PlaneError::Link(LinkError::Closed))) => return self.farewell(),
                Err(Trouble::Plane(error)) => return Err(self.failed(error)),
            }
        }
    }

    /// Sleeps until there is something to do; true if it is the link's.
    fn wait(&mut self) -> Result<bool, PlaneError> {
        let due = self.work.deadline();
        if due != self.armed {
            match due {
                // A time of zero would disarm the timer.
                Some(at) => {
                    let at = TimeSpec::from_duration(Duration::from_nanos(at.max(1)));
                    self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)
                }
                None => self.timer.unset(),
            }
            .map_err(io::Error::from)?;
            self.armed = due;
        }
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [readable(self.link.as_fd()), readable(self.timer.as_fd()), readable(self.client.fd())];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => Ok(fds[0].any() != Some(false)),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(io::Error::from(errno).into()),
        }
    }

    /// Everything there is to do now; how the plane ends if it does.
    fn turn(&mut self, link_readable: bool) -> Result<Option<Exit>, Trouble> {
        while let Some(received) = link_readable.then(|| self.link.recv::<ToAudio<OwnedFd>>()).transpose()?.flatten() {
            if let Some(exit) = self.obey(received.message)? {
                return Ok(Some(exit));
            }
        }
        self.client.dispatch();
        match &mut self.work {
            Work::None => Ok(None),
            Work::Session(session) => session.turn(&self.link, now_ns()).map(|()| None),
            Work::Janitor(desktop, undoing, until) => {
                let now = now_ns();
                desktop.turn(now)?;
                for record in undoing.turn(desktop, now)? {
                    self.link.send(FromAudio::Undone(record.ours))?;
                }
                Ok(match undoing.is_over() {
                    true => Some(Exit::Stopped),
                    false => (now >= *until).then_some(Exit::Reopen),
                })
            }
        }
    }

    fn obey(&mut self, message: ToAudio<OwnedFd>) -> Result<Option<Exit>, Trouble> {
        match (message, &mut self.work) {
            (ToAudio::Ping(cookie), _) => self.link.send(FromAudio::Pong(cookie))?,
            (ToAudio::Wire(wiring), Work::None) => {
                let generation = wiring.generation;
                match Session::open(&self.client, wiring, now_ns()) {
                    Ok(session) => self.work = Work::Session(Box::new(session)),
                    Err(Trouble::Plane(error)) => {
                        self.link.send(FromAudio::Failed { generation, reason: error.to_string() })?;
                    }
                    Err(gone) => return Err(gone),
                }
            }
            (ToAudio::Ring { generation, ring }, Work::Session(session)) => {
                session.move_to(generation, &ring, &self.link, now_ns())?;
            }
            (ToAudio::Undo { pipewire, records }, Work::None) => {
                let desktop = Desktop::connect(&self.client, pipewire)?;
                self.work = Work::Janitor(desktop, Undoing::new(records), now_ns() + JANITOR_NS);
            }
            (ToAudio::Wire(_) | ToAudio::Undo { .. }, _) => {
                return Err(PlaneError::failed("lumend has given this plane a second task").into());
            }
            (ToAudio::Recorded { previous }, Work::Session(session)) => session.recorded(previous, now_ns())?,
            (ToAudio::Retire { generation }, Work::Session(session)) if session.generation() == generation => {
                return Ok(Some(self.farewell()?));
            }
            // All can cross a `Failed`.
            (ToAudio::Ring { .. } | ToAudio::Recorded { .. } | ToAudio::Retire { .. }, _) => {}
        }
        Ok(None)
    }

    /// Puts the default back, if it is ours, before the plane ends. `Stopped` means that nothing is left changed.
    fn farewell(&mut self) -> Result<Exit, PlaneError> {
        let Work::Session(session) = &mut self.work else { return Ok(Exit::Stopped) };
        session.leave();
        match leave(session, &self.client, &self.link) {
            Ok(()) => Ok(Exit::Stopped),
            Err(Trouble::Gone) => Ok(Exit::Reopen),
            Err(Trouble::Plane(error)) => Err(error),
        }
    }

    /// Says over the link why the plane ends, and leaves the default as it was if that is still possible.
    fn failed(&mut self, error: PlaneError) -> PlaneError {
        if let Work::Session(session) = &self.work {
            let generation = session.generation();
            let _ = self.link.send(FromAudio::Failed { generation, reason: error.to_string() });
        }
        let _ = self.farewell();
        error
    }
}

/// Waits until the desktop has undone what the session changed; gone, if that takes too long.
fn leave(session: &mut Session, client: &Client, link: &Link) -> Result<(), Trouble> {
    let until = now_ns() + FAREWELL_NS;
    while !session.has_left(link, now_ns())? {
        if now_ns() >= until {
            return Err(Trouble::Gone);
        }
        match poll(&mut [PollFd::new(client.fd(), PollFlags::POLLIN)], FAREWELL_STEP) {
            Ok(_) | Err(Errno::EINTR) => client.dispatch(),
            Err(errno) => return Err(PlaneError::from(io::Error::from(errno)).into()),
        }
    }
    Ok(())
}
