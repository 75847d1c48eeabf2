//! The plane's loop: messages from lumend, feedback from net, pictures from capture, room in the ring.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc::event::now_ns;
use ipc::link::{Link, LinkError};
use ipc::plane::{Exit, PlaneError, Startup};
use ipc::{EncodeWiring, FromEncode, Generation as Number, ToEncode};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::{TimeSpec, TimeValLike};

use crate::generation::{Generation, Kept, Supply, WireError};
use crate::prepared::Prepared;

/// From one `Stats` to the next.
const STATS_INTERVAL_NS: u64 = 1_000_000_000;

/// Runs the plane until its link closes.
pub fn run(startup: Startup) -> Result<Exit, PlaneError> {
    serve(startup.seal()?)
}

/// Serves an open link until it closes. Everything the plane does, but for the lockdown.
pub fn serve(link: Link) -> Result<Exit, PlaneError> {
    let mut plane = Plane { link, generation: None, kept: None, prepared: None, newest: 0, stats_ns: 0 };
    loop {
        match plane.wait()? {
            Event::Message => match plane.link.recv::<ToEncode<OwnedFd>>() {
                Ok(Some(received)) => plane.obey(received.message)?,
                Ok(None) => {}
                Err(LinkError::Closed) => return Ok(Exit::Stopped),
                Err(error) => return Err(error.into()),
            },
            Event::Statistics => plane.report()?,
            Event::Supply(supply) => {
                if let Some(generation) = &mut plane.generation {
                    generation.serve(supply)?;
                }
            }
        }
    }
}

/// What the plane wakes up for, the most urgent first. Nothing is lost by serving one at a time: descriptors stay
/// readable until drained, deadlines stay past.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Event {
    Message,
    Statistics,
    Supply(Supply),
}

struct Plane {
    link: Link,
    generation: Option<Box<Generation>>,
    /// Of the generation before, while there is none.
    kept: Option<Kept>,
    /// For the first wiring.
    prepared: Option<Prepared>,
    /// The highest generation ever wired; messages about lower ones are stale.
    newest: u32,
    stats_ns: u64,
}

impl Plane {
    fn wait(&self) -> Result<Event, PlaneError> {
        let Some(generation) = &self.generation else {
            poll([self.link.as_fd()], None)?;
            return Ok(Event::Message);
        };
        let (source, news) = generation.awaits();
        loop {
            let due_ns = generation.repeat_ns().unwrap_or(u64::MAX);
            let wanted = [self.link.as_fd(), generation.feedback().as_fd(), source.as_fd()];
            let [message, feedback, supply] = poll(wanted, Some(due_ns.min(self.stats_ns)))?;
            let now_ns = now_ns();
            if message {
                return Ok(Event::Message);
            }
            if self.stats_ns <= now_ns {
                return Ok(Event::Statistics);
            }
            if feedback {
                return Ok(Event::Supply(Supply::Feedback));
            }
            if supply {
                return Ok(Event::Supply(news));
            }
            if due_ns <= now_ns {
                return Ok(Event::Supply(Supply::Repeat));
            }
        }
    }

    fn obey(&mut self, message: ToEncode<OwnedFd>) -> Result<(), PlaneError> {
        match message {
            ToEncode::Ping(number) => self.link.send(FromEncode::Pong(number))?,
            ToEncode::Wire(wiring) => self.wire(wiring)?,
            // What is wrong with it will be told when it is wired, if it ever is.
            ToEncode::Prepare { mode, settings } => self.prepared = Prepared::new(mode, settings).ok(),
            ToEncode::Retire { generation } => {
                if self.generation.as_ref().is_some_and(|wired| wired.number() <= generation.0) {
                    self.retire();
                }
            }
            ToEncode::Idr => {
                if let Some(generation) = &mut self.generation {
                    generation.want_idr();
                }
            }
        }
        Ok(())
    }

    /// Gives everything of the generation back but the picture that it showed last.
    fn retire(&mut self) {
        if let Some(generation) = self.generation.take() {
            self.kept = generation.keep();
        }
    }

    fn wire(&mut self, wiring: EncodeWiring<OwnedFd>) -> Result<(), PlaneError> {
        let number = wiring.generation;
        if number.0 <= self.newest {
            return Ok(());
        }
        self.newest = number.0;
        // The old pool and its encoder go first: two of each at once could be more than the plane may have.
        self.retire();
        match Generation::wire(wiring, self.kept.take(), self.prepared.take()) {
            Ok(generation) => {
                let encoder = generation.encoder_name().to_owned();
                self.generation = Some(Box::new(generation));
                self.stats_ns = now_ns().saturating_add(STATS_INTERVAL_NS);
                self.link.send(FromEncode::Wired { generation: number, encoder })?;
                Ok(())
            }
            Err(error) => {
                self.link.send(FromEncode::Failed { generation: number, reason: error.to_string() })?;
                match error {
                    // lumend may have another encoder, or none, in mind: the plane itself is sound.
                    WireError::Encoder(_) => Ok(()),
                    WireError::Pool(_) | WireError::Memory(_) => Err(PlaneError::protocol(error)),
                }
            }
        }
    }

    fn report(&mut self) -> Result<(), PlaneError> {
        self.stats_ns = now_ns().saturating_add(STATS_INTERVAL_NS);
        if let Some(generation) = &self.generation {
            let (number, stats) = (Number(generation.number()), generation.stats());
            self.link.send(FromEncode::Stats { generation: number, stats })?;
        }
        Ok(())
    }
}

/// Waits until a descriptor is readable (or broken) or the deadline has come; says which are.
fn poll<const N: usize>(fds: [BorrowedFd<'_>; N], deadline_ns: Option<u64>) -> Result<[bool; N], PlaneError> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    let left = deadline_ns.map(|deadline_ns| {
        let left_ns = deadline_ns.saturating_sub(now_ns());
        TimeSpec::nanoseconds(i64::try_from(left_ns).unwrap_or(i64::MAX))
    });
    match ppoll(&mut polled, left, None) {
        Ok(_) | Err(Errno::EINTR) => Ok(polled.map(|fd| fd.any().unwrap_or(false))),
        Err(errno) => Err(PlaneError::failed(format_args!("cannot wait: {errno}"))),
    }
}
