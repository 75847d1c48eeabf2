//! The desktop that sessions show, whichever it is: the pattern, the sway session around lumend, or a sway of its own.
//!
//! The daemon asks for outputs and connections here; what happens to the desktop comes back as the machine's events.

mod hands;
mod own;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ipc::{Hands, SessionId, Source};
use lumen_core::Mode;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::machine::{Attempt, Event};
use crate::outputs::{OutputEvent, Outputs, Seat, Terms};
pub use hands::Means;
use own::News;
pub use own::{Own, Program};

/// Between tries to reach a compositor that went away.
const RETRY: u64 = 500_000_000;

/// Where a sway listens.
#[derive(Clone, Debug)]
pub struct Sway {
    pub control: PathBuf,
    pub wayland: PathBuf,
    pub terms: Terms,
}

/// No desktop to show. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NoDesktop {
    #[error(
        "no sway session found: start lumend inside one, or use --desktop sway for a headless desktop of its own, \
         or --desktop pattern for a test picture"
    )]
    NotFound,
    #[error(
        "cannot reach the sway session at {}: {error}; start lumend as its user, or use --desktop sway",
        path.display()
    )]
    Unreachable { path: PathBuf, error: io::Error },
}

#[derive(Debug)]
enum Kind {
    Pattern,
    /// Somebody else's sway: it is there or it is not.
    Found(Sway),
    /// A sway that the launcher keeps running.
    Own(Sway, Own),
}

/// Where on a sway a session is.
#[derive(Debug)]
struct Place {
    output: String,
    seat: Option<Seat>,
}

#[derive(Debug)]
pub struct Desktop {
    kind: Kind,
    means: Means,
    outputs: Option<Outputs>,
    retry_at: Option<u64>,
    /// The try that waits for its output, and where the session is shown once it is there.
    sessions: BTreeMap<SessionId, (Attempt, Option<Place>)>,
    news: Vec<Event>,
    /// Why there will never be a desktop.
    hopeless: Option<String>,
}

impl Desktop {
    pub fn pattern(means: Means) -> Self {
        let mut desktop = Self::of(Kind::Pattern, means);
        desktop.news.push(Event::DesktopUp);
        desktop
    }

    /// The session lumend was started in, as SWAYSOCK, WAYLAND_DISPLAY and XDG_RUNTIME_DIR name it.
    pub fn found(now: u64, terms: Terms, means: Means) -> Result<Self, NoDesktop> {
        let (control, wayland) = environment().ok_or(NoDesktop::NotFound)?;
        let mut desktop = Self::of(Kind::Found(Sway { control, wayland, terms }), means);
        desktop.connect(now)?;
        Ok(desktop)
    }

    /// A headless sway of lumend's own: it is being started.
    pub fn own(program: Program, terms: Terms, means: Means) -> io::Result<Self> {
        let paths = program.paths();
        let sway = Sway { control: paths.control, wayland: paths.wayland, terms };
        Ok(Self::of(Kind::Own(sway, Own::start(program)?), means))
    }

    fn of(kind: Kind, means: Means) -> Self {
        let sessions = BTreeMap::new();
        Self { kind, means, outputs: None, retry_at: None, sessions, news: Vec::new(), hopeless: None }
    }

    /// For people.
    pub fn name(&self) -> String {
        match &self.kind {
            Kind::Pattern => "pattern".into(),
            Kind::Found(sway) => {
                format!("sway at {}{}", sway.control.display(), if self.outputs.is_some() { "" } else { " (gone)" })
            }
            Kind::Own(..) if self.outputs.is_some() => "sway of its own".into(),
            Kind::Own(..) => "sway of its own (starting)".into(),
        }
    }

    /// True if sessions can be shown now.
    pub const fn is_up(&self) -> bool {
        matches!(self.kind, Kind::Pattern) || self.outputs.is_some()
    }

    fn sway(&self) -> Option<&Sway> {
        match &self.kind {
            Kind::Pattern => None,
            Kind::Found(sway) | Kind::Own(sway, _) => Some(sway),
        }
    }

    /// Why there is no desktop and never will be, once that is known.
    pub fn hopeless(&mut self) -> Option<String> {
        self.hopeless.take()
    }

    /// Ends a desktop of lumend's own; true once it has ended.
    pub fn stop(&mut self, now: u64) -> bool {
        self.outputs = None;
        match &mut self.kind {
            Kind::Own(_, own) => own.stop(now),
            Kind::Pattern | Kind::Found(_) => true,
        }
    }

    fn connect(&mut self, now: u64) -> Result<(), NoDesktop> {
        let Some(sway) = self.sway() else { return Ok(()) };
        match Outputs::connect(now, &sway.control, &sway.terms) {
            Ok(outputs) => {
                self.outputs = Some(outputs);
                self.retry_at = None;
                self.news.push(Event::DesktopUp);
                Ok(())
            }
            Err(error) => {
                let path = sway.control.clone();
                self.retry_at = Some(now + RETRY);
                Err(NoDesktop::Unreachable { path, error })
            }
        }
    }

    /// Wants an output for a session; an [`Event::OutputReady`] or [`Event::OutputFailed`] will answer.
    pub fn acquire(&mut self, now: u64, session: SessionId, attempt: Attempt, mode: Mode) {
        self.sessions.insert(session, (attempt, None));
        match (&self.kind, &mut self.outputs) {
            (Kind::Pattern, _) => self.news.push(Event::OutputReady { session, attempt, mode }),
            (_, Some(outputs)) => outputs.acquire(now, session, mode),
            // The machine has not heard yet that the desktop is gone; when it has, it will ask again.
            (_, None) => {}
        }
    }

    pub fn release(&mut self, now: u64, session: SessionId) {
        self.sessions.remove(&session);
        if let Some(outputs) = &mut self.outputs {
            outputs.release(now, session);
        }
    }

    /// The compositor's name of the output that a session shows, while it has one.
    pub fn output(&self, session: SessionId) -> Option<&str> {
        self.sessions.get(&session)?.1.as_ref().map(|place| place.output.as_str())
    }

    /// What capture opens for this session: always a fresh connection.
    pub fn source(&self, session: SessionId) -> Result<Source<OwnedFd>, String> {
        let Some(sway) = self.sway() else { return Ok(Source::Pattern) };
        let output = self.place(session)?.output.clone();
        let socket = dial(&sway.wayland)
            .map_err(|error| format!("cannot reach the compositor at {}: {error}", sway.wayland.display()))?;
        Ok(Source::Wlroots { socket, output })
    }

    /// What the session's pointer and keyboard act on, over a fresh connection. To be asked for after
    /// [`Event::OutputReady`], which is when the seat exists. The error is for people.
    pub fn hands(&self, session: SessionId) -> Result<Hands<OwnedFd>, String> {
        let Some(sway) = self.sway() else { return self.means.bare() };
        self.means.on_sway(&sway.wayland, self.place(session)?)
    }

    fn place(&self, session: SessionId) -> Result<&Place, &'static str> {
        self.sessions.get(&session).and_then(|(_, place)| place.as_ref()).ok_or("its output is gone")
    }

    /// What to poll, and whether for writing too.
    pub fn sources(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let own = match &self.kind {
            Kind::Own(_, own) => Some(own.sources().map(|fd| (fd, false))),
            Kind::Pattern | Kind::Found(_) => None,
        };
        self.outputs.iter().map(|outputs| (outputs.as_fd(), outputs.wants_write())).chain(own.into_iter().flatten())
    }

    pub fn deadline(&self) -> Option<u64> {
        let outputs = self.outputs.as_ref().and_then(Outputs::deadline);
        let news = (!self.news.is_empty()).then_some(0);
        let own = match &self.kind {
            Kind::Own(_, own) => own.deadline(),
            Kind::Pattern | Kind::Found(_) => None,
        };
        [self.retry_at, outputs, news, own].into_iter().flatten().min()
    }

    /// Moves everything that can move without waiting.
    pub fn dispatch(&mut self, now: u64) -> Vec<Event> {
        if self.retry_at.is_some_and(|at| now >= at) {
            // The next try is planned; its failure is no news.
            let _ = self.connect(now);
        }
        self.hear_launcher(now);
        let events = self.outputs.as_mut().map(|outputs| outputs.dispatch(now)).unwrap_or_default();
        for event in events {
            match event {
                OutputEvent::Ready { session, name: output, mode, seat } => {
                    if let Some((attempt, slot)) = self.sessions.get_mut(&session) {
                        *slot = Some(Place { output, seat });
                        self.news.push(Event::OutputReady { session, attempt: *attempt, mode });
                    }
                }
                OutputEvent::Failed { session, reason } => {
                    if let Some((attempt, _)) = self.sessions.remove(&session) {
                        self.news.push(Event::OutputFailed { session, attempt, reason });
                    }
                }
                OutputEvent::Disturbed { session } => {
                    self.news.push(Event::HandsLost(session));
                }
                OutputEvent::Gone { reason } => self.lost(now, reason),
            }
        }
        std::mem::take(&mut self.news)
    }

    fn hear_launcher(&mut self, now: u64) {
        let Kind::Own(_, own) = &mut self.kind else { return };
        for news in own.dispatch(now) {
            match news {
                News::Up if self.outputs.is_none() => {
                    if let Err(error) = self.connect(now) {
                        self.lost(now, error.to_string());
                    }
                }
                News::Up => {}
                News::Down { reason } => self.lost(now, reason),
                News::Hopeless { reason } => self.hopeless = Some(reason),
            }
        }
    }

    fn lost(&mut self, now: u64, reason: String) {
        let was_up = self.outputs.take().is_some();
        self.sessions.clear();
        self.retry_at = None;
        match &mut self.kind {
            Kind::Own(_, own) => own.start_again(now),
            Kind::Pattern | Kind::Found(_) => self.retry_at = Some(now + RETRY),
        }
        if was_up {
            self.news.push(Event::DesktopDown { reason });
        }
    }
}

/// Control and Wayland socket of the session that this process was started in.
pub fn environment() -> Option<(PathBuf, PathBuf)> {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // An absolute WAYLAND_DISPLAY replaces the directory, as it does for every Wayland client.
    let wayland = path("XDG_RUNTIME_DIR").unwrap_or_default().join(path("WAYLAND_DISPLAY")?);
    Some((path("SWAYSOCK")?, wayland))
}

/// A connected socket, without waiting for a server that does not accept.
pub fn dial(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}
