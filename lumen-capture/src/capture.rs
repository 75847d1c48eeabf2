//! The plane: one loop over the link, the display and one timer.
//!
//! The order of a session is `Open` → `Opened` → `Wire` → pictures → `Retire`. Each `Open` brings a connection of its
//! own; a `Wire` of a higher generation without one goes on with the connection there is. What names an older
//! generation is ignored; what names one that cannot be is an error of lumend's, and the plane ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ipc::event::{Event as Wake, now_ns};
use ipc::link::{Link, LinkError};
use ipc::mailbox::{FrameMeta, MailboxWriter};
use ipc::plane::{Exit, PlaneError, Startup};
use ipc::{CaptureStats, FromCapture, Generation, PlaneKind, Pool, Source, ToCapture};
use lumen_core::Mode;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::display::synthetic::Synthetic;
use crate::display::wlroots::Wlroots;
use crate::display::{Display, DisplayError, Event, Frame};

/// Between two `Stats`.
const STATS_INTERVAL_NS: u64 = 1_000_000_000;
/// When to look for a free buffer again after there was none. With the pool's four that takes a reader which holds
/// more than one.
const NO_BUFFER_PAUSE_NS: u64 = 1_000_000;

/// Seals the plane and runs it until its link closes.
///
/// # Errors
/// A peer that broke the rules, or a failure of the plane itself; a source that fails is reported over the link.
pub fn run(startup: Startup) -> Result<Exit, PlaneError> {
    let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)
        .map_err(io::Error::from)?;
    let link = startup.seal()?;
    Plane::new(link, timer).run()
}

/// What interrupts a turn of the loop.
enum Trouble {
    /// The plane is done.
    Exit(Exit),
    /// The plane cannot go on.
    Plane(PlaneError),
    /// The source cannot go on; the plane can.
    Source(DisplayError),
}

impl From<PlaneError> for Trouble {
    fn from(error: PlaneError) -> Self {
        Self::Plane(error)
    }
}

impl From<LinkError> for Trouble {
    fn from(error: LinkError) -> Self {
        Self::Plane(error.into())
    }
}

impl From<DisplayError> for Trouble {
    fn from(error: DisplayError) -> Self {
        Self::Source(error)
    }
}

/// The capture plane after its lockdown.
pub struct Plane {
    link: Link,
    timer: TimerFd,
    /// What the timer is set to.
    armed: Option<u64>,
    source: Option<Opened>,
    events: Vec<Event>,
}

/// A source that was asked for with `Open`.
struct Opened {
    generation: Generation,
    display: Box<dyn Display>,
    wired: Option<Wired>,
}

/// A generation that pictures go to.
struct Wired {
    mailbox: MailboxWriter,
    sequence: u64,
    stats_at: u64,
    /// No free buffer was found; look again at this time.
    retry_at: Option<u64>,
    /// Nothing has been drawn yet.
    first: bool,
}

impl Plane {
    /// A plane on a `link` whose `Hello` has been said, with a timer of CLOCK_MONOTONIC.
    pub fn new(link: Link, timer: TimerFd) -> Self {
        Self { link, timer, armed: None, source: None, events: Vec::with_capacity(4) }
    }

    /// Runs until the link closes.
    ///
    /// # Errors
    /// As [`run`].
    pub fn run(mut self) -> Result<Exit, PlaneError> {
        loop {
            let link_readable = self.wait()?;
            match self.turn(link_readable).or_else(|trouble| self.settle(trouble)) {
                Ok(()) => {}
                Err(Trouble::Exit(exit)) => return Ok(exit),
                Err(Trouble::Plane(error)) => return Err(error),
                Err(Trouble::Source(error)) => return Err(PlaneError::failed(error)),
            }
        }
    }

    /// Sleeps until the link or the display can be read or something is due; true if it is the link.
    fn wait(&mut self) -> Result<bool, PlaneError> {
        let due = self.source.as_ref().and_then(Opened::deadline);
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
        let (link, timer) = (readable(self.link.as_fd()), readable(self.timer.as_fd()));
        let woken = match self.source.as_ref().and_then(|source| source.display.fd()) {
            Some(display) => poll_all(&mut [link, timer, readable(display)]),
            None => poll_all(&mut [link, timer]),
        };
        Ok(woken?)
    }

    /// Everything there is to do now. The display finds out by itself, without blocking, if there is nothing for it.
    fn turn(&mut self, link_readable: bool) -> Result<(), Trouble> {
        while let Some(received) = link_readable.then(|| self.link.recv::<ToCapture<OwnedFd>>()).transpose()?.flatten()
        {
            self.obey(received.message)?;
        }
        match &mut self.source {
            Some(source) => source.turn(&self.link, &mut self.events),
            None => Ok(()),
        }
    }

    /// Gives a failed source up and says why; leaves if only a fresh plane can go on.
    fn settle(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        let Trouble::Source(error) = trouble else { return Err(trouble) };
        match (error, self.source.take()) {
            (DisplayError::Gone(_), _) => Err(Trouble::Exit(Exit::Reopen)),
            (DisplayError::Failed(reason), Some(Opened { generation, .. })) => {
                Ok(self.link.send(FromCapture::Failed { generation, reason })?)
            }
            (error, None) => Err(Trouble::Source(error)),
        }
    }

    fn obey(&mut self, message: ToCapture<OwnedFd>) -> Result<(), Trouble> {
        match message {
            ToCapture::Ping(cookie) => self.link.send(FromCapture::Pong(cookie))?,
            ToCapture::Open { session: _, generation, mode, source } => {
                self.source = None;
                match open(mode, source) {
                    Ok(display) => self.source = Some(Opened { generation, display, wired: None }),
                    Err(DisplayError::Failed(reason)) => self.link.send(FromCapture::Failed { generation, reason })?,
                    Err(DisplayError::Gone(_)) => return Err(Trouble::Exit(Exit::Reopen)),
                }
            }
            ToCapture::Wire { generation, pool } => {
                // Without a source, `Failed` crossed this message on its way.
                let source = self.source.as_mut().filter(|source| source.generation <= generation);
                if let Some(source) = source {
                    source.generation = generation;
                    source.wire(pool)?;
                }
            }
            ToCapture::Retire { generation } => {
                if let Some(source) = self.source.as_mut().filter(|source| source.generation <= generation) {
                    source.wired = None;
                    source.display.detach(now_ns());
                }
            }
        }
        Ok(())
    }
}

/// Waits for any of them; true if the first can be read or has hung up.
fn poll_all(fds: &mut [PollFd<'_>]) -> io::Result<bool> {
    match poll(fds, PollTimeout::NONE) {
        Ok(_) => Ok(fds.first().is_some_and(|link| link.any() != Some(false))),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn open(mode: Mode, source: Source<OwnedFd>) -> Result<Box<dyn Display>, DisplayError> {
    let now = now_ns();
    Ok(match source {
        Source::Pattern => Box::new(Synthetic::new(mode, now)),
        Source::Wlroots { socket, output } => Box::new(Wlroots::open(socket, &output, now)?.at_most(mode)),
    })
}

impl Wired {
    fn publish(&mut self, frame: Frame) {
        let meta = FrameMeta { sequence: self.sequence, captured_ns: frame.captured_ns };
        self.mailbox.publish(frame.buffer, meta);
        self.sequence += 1;
    }
}

impl Opened {
    fn deadline(&self) -> Option<u64> {
        let wired = self.wired.as_ref();
        let stats_at = wired.map(|wired| wired.stats_at);
        let retry_at = wired.and_then(|wired| wired.retry_at);
        [self.display.deadline(), stats_at, retry_at].into_iter().flatten().min()
    }

    /// Takes a generation's pool.
    fn wire(&mut self, pool: Pool<OwnedFd>) -> Result<(), Trouble> {
        let now = now_ns();
        self.wired = None;
        let buffers = u32::try_from(pool.buffers.len()).map_err(PlaneError::failed)?;
        let mailbox = MailboxWriter::attach(pool.mailbox.as_fd(), Wake::from_fd(pool.wake), buffers)
            .map_err(|error| PlaneError::failed(format!("the mailbox cannot be used: {error}")))?;
        self.display.attach(pool.format, pool.buffers, now)?;
        let stats_at = now + STATS_INTERVAL_NS;
        self.wired = Some(Wired { mailbox, sequence: 0, stats_at, retry_at: None, first: true });
        Ok(())
    }

    /// Lets the display move on, passes on what it has made, and gives it the next buffer.
    fn turn(&mut self, link: &Link, events: &mut Vec<Event>) -> Result<(), Trouble> {
        let now = now_ns();
        events.clear();
        self.display.dispatch(now, events)?;
        for event in events.drain(..) {
            match (event, &mut self.wired) {
                (Event::Opened(format), _) => {
                    link.send(FromCapture::Opened { generation: self.generation, format })?;
                }
                (Event::Ready(frame), Some(wired)) => wired.publish(frame),
                // A display has no buffer when nothing is wired.
                (Event::Ready(_), None) => {}
            }
        }
        let Some(wired) = &mut self.wired else { return Ok(()) };
        wired.retry_at = None;
        if self.display.wants_buffer() {
            match wired.mailbox.acquire().map_err(PlaneError::by(PlaneKind::Encode))? {
                Some(buffer) => self.display.begin(buffer, now),
                None => wired.retry_at = Some(now + NO_BUFFER_PAUSE_NS),
            }
        }
        // The source is at its first picture. What the generation before showed last need not wait for that.
        if std::mem::take(&mut wired.first)
            && let Some(buffer) = wired.mailbox.acquire().map_err(PlaneError::by(PlaneKind::Encode))?
        {
            match self.display.again(buffer, now) {
                Some(frame) => wired.publish(frame),
                None => wired.mailbox.cancel(buffer),
            }
        }
        if now >= wired.stats_at {
            wired.stats_at += STATS_INTERVAL_NS;
            let stats = CaptureStats { captured: wired.mailbox.published(), skipped: wired.mailbox.skipped() };
            link.send(FromCapture::Stats { generation: self.generation, stats })?;
        }
        Ok(())
    }
}
