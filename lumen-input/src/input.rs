//! The plane: one loop over the link, the ring of events, the backends and one timer.
//!
//! The order of a session is `Wire` → `Wired` → events → `Retire`. A plane is wired once in its life: a wiring's Wayland
//! connection and what the plane knows of the session end with it, and a fresh plane takes over from the state that
//! lumend keeps. Only its rings may become others: `Rings` → `Wired`, when the network plane has been replaced. When the link closes, everything is lifted before the plane ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ipc::event::now_ns;
use ipc::link::{Link, LinkError};
use ipc::plane::{Exit, PlaneError, Startup};
use ipc::{FromInput, Generation, ToInput};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::inject::InjectError;
use crate::wired::{Wired, WiredError};
use crate::wlr::Pages;

/// Characters of a reason that lumend is told.
const REASON: usize = 500;

/// Seals the plane and runs it until its link closes.
///
/// # Errors
/// A peer that broke the rules, or a failure of the plane itself; a backend that fails is reported over the link.
pub fn run(startup: Startup) -> Result<Exit, PlaneError> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
        .map_err(io::Error::from)?;
    let pages = Pages::new()?;
    let link = startup.seal()?;
    Plane { link, timer, armed: None, phase: Phase::Fresh(pages) }.run()
}

struct Plane {
    link: Link,
    timer: TimerFd,
    /// What the timer is set to.
    armed: Option<u64>,
    phase: Phase,
}

enum Phase {
    /// Not wired yet.
    Fresh(Pages),
    Wired(Box<Wired>),
    /// It was wired, and that has ended.
    Over,
}

/// What there may be to do after a wait. The timer and the backends find out by themselves.
#[derive(Clone, Copy)]
struct Woken {
    link: bool,
    /// The ring of events.
    ring: bool,
}

impl Plane {
    fn run(mut self) -> Result<Exit, PlaneError> {
        loop {
            let woken = self.wait()?;
            let turn = match self.obey(woken.link) {
                Ok(()) => self.turn(woken.ring),
                Err(error) => Err(error),
            };
            match turn {
                Ok(()) => {}
                Err(WiredError::Inject(InjectError::Gone(_))) => return Ok(Exit::Reopen),
                Err(WiredError::Inject(InjectError::Failed(reason))) => self.give_up(reason)?,
                Err(WiredError::Plane(error)) => {
                    self.let_go();
                    return Err(error);
                }
            }
        }
    }

    /// Sleeps until something can be read or is due.
    fn wait(&mut self) -> Result<Woken, PlaneError> {
        let wired = match &self.phase {
            Phase::Wired(wired) => Some(wired),
            Phase::Fresh(_) | Phase::Over => None,
        };
        let due = wired.and_then(|wired| wired.deadline());
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
        let mut fds = vec![self.link.as_fd(), self.timer.as_fd()];
        if let Some(wired) = wired {
            wired.fds(&mut fds);
        }
        let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Woken { link: false, ring: false }),
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let readable = |index: usize| fds.get(index).is_some_and(|fd| fd.any() != Some(false));
        Ok(Woken { link: readable(0), ring: readable(2) })
    }

    fn turn(&mut self, rung: bool) -> Result<(), WiredError> {
        match &mut self.phase {
            Phase::Wired(wired) => wired.turn(&self.link, rung),
            Phase::Fresh(_) | Phase::Over => Ok(()),
        }
    }

    /// Does what lumend says.
    fn obey(&mut self, readable: bool) -> Result<(), WiredError> {
        while let Some(received) =
            readable.then(|| self.link.recv::<ToInput<OwnedFd>>()).transpose().map_err(plane)?.flatten()
        {
            match received.message {
                ToInput::Ping(cookie) => self.link.send(FromInput::Pong(cookie)).map_err(plane)?,
                ToInput::Wire(wiring) => match std::mem::replace(&mut self.phase, Phase::Over) {
                    Phase::Fresh(pages) => {
                        let generation = wiring.generation;
                        match Wired::new(wiring, pages, now_ns()) {
                            Ok(wired) => self.phase = Phase::Wired(Box::new(wired)),
                            Err(WiredError::Inject(InjectError::Failed(reason))) => self.failed(generation, reason)?,
                            Err(error) => return Err(error),
                        }
                    }
                    Phase::Wired(_) | Phase::Over => return Err(PlaneError::protocol("wired a second time").into()),
                },
                ToInput::Rings { generation, events, haptics } => {
                    if let Phase::Wired(wired) = &mut self.phase {
                        wired.move_to(generation, events, haptics, &self.link, now_ns())?;
                    }
                }
                ToInput::LetGo => {
                    if let Phase::Wired(wired) = &mut self.phase {
                        wired.rest(now_ns());
                    }
                }
                ToInput::Permit(permissions) => {
                    if let Phase::Wired(wired) = &mut self.phase {
                        wired.permit(permissions, now_ns());
                    }
                }
                ToInput::Device { device, fd } => {
                    if let Phase::Wired(wired) = &mut self.phase {
                        wired.device(device, fd, now_ns());
                    }
                }
                ToInput::Retire { generation } => {
                    if matches!(&self.phase, Phase::Wired(wired) if wired.generation() <= generation) {
                        self.let_go();
                    }
                }
            }
        }
        Ok(())
    }

    /// The backend is no use any more. Its other end may be there all the same: a seat outlives its output.
    fn give_up(&mut self, reason: String) -> Result<(), PlaneError> {
        let Phase::Wired(wired) = &self.phase else { return Ok(()) };
        let generation = wired.generation();
        self.let_go();
        self.failed(generation, reason)
    }

    /// The compositor has a say in the reason, and a link carries no message larger than 4 KiB.
    fn failed(&self, generation: Generation, reason: String) -> Result<(), PlaneError> {
        let reason = reason.chars().take(REASON).collect();
        Ok(self.link.send(FromInput::Failed { generation, reason })?)
    }

    /// Lifts everything and forgets the wiring.
    fn let_go(&mut self) {
        if let Phase::Wired(wired) = std::mem::replace(&mut self.phase, Phase::Over) {
            wired.let_go(now_ns());
        }
    }
}

fn plane(error: LinkError) -> WiredError {
    WiredError::Plane(error.into())
}
