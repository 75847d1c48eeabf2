//! The `main` that every plane shares: take the link, lock down, run, and turn the end into an exit status.
//!
//! A plane has no arguments and no configuration; fd 3 is its link, and the link closing is the order to stop. Of its
//! environment it takes where to tell a service manager that it is ready and alive, and forgets the rest.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use nix::sys::signal::SigSet;

use crate::inherited;
pub use crate::inherited::LINK_FD;
use crate::link::{Link, LinkError};
use crate::notify::Manager;
use crate::sandbox::{self, SandboxError};
use crate::{BUILD, FromAudio, FromCapture, FromEncode, FromInput, FromNet, Hello, Leaving, PlaneKind};

/// Exit status of a plane that needs what only a fresh one may open; not counted as a crash.
pub const EXIT_REOPEN: u8 = 75;

/// Exit status of a plane started by hand.
const EXIT_USAGE: u8 = 2;

/// How a plane ends when nothing is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// The link closed.
    Stopped,
    /// Something that was opened before the lockdown is gone; a fresh plane can open it again.
    Reopen,
}

/// Why a plane gives up: one line for people.
#[derive(Debug, thiserror::Error)]
pub enum PlaneError {
    #[error("cannot lock down: {0}")]
    Sandbox(#[from] SandboxError),
    #[error("link: {0}")]
    Link(#[from] LinkError),
    /// lumend broke the rules of the protocol.
    #[error("protocol violation: {0}")]
    Protocol(String),
    /// A peer broke the rules of shared memory. Memory is replaced, not repaired, so the plane ends.
    #[error("the {peer} plane broke the rules: {reason}")]
    Peer { peer: PlaneKind, reason: String },
    #[error("{0}")]
    Failed(String),
}

impl PlaneError {
    pub fn failed(reason: impl ToString) -> Self {
        Self::Failed(reason.to_string())
    }

    pub fn protocol(reason: impl ToString) -> Self {
        Self::Protocol(reason.to_string())
    }

    /// What `peer` did; for `map_err`.
    pub fn by<R: ToString>(peer: PlaneKind) -> impl Fn(R) -> Self {
        move |reason| Self::Peer { peer, reason: reason.to_string() }
    }

    fn last_word(self) -> Leaving {
        match self {
            Self::Peer { peer, reason } => Leaving::Accuses { peer, reason },
            other => Leaving::Failed(other.to_string()),
        }
    }
}

impl From<io::Error> for PlaneError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A plane that has its link and the inherited half of its lockdown, and may still start threads and load libraries.
pub struct Startup {
    kind: PlaneKind,
    link: Link,
    manager: Option<Manager>,
    landlock_abi: u32,
}

impl Startup {
    /// Forbids every system call outside the plane's table, in all threads, and says `Hello`.
    ///
    /// Threads, timers, epoll sets and everything else that needs a new descriptor must exist by now.
    pub fn seal(self) -> Result<Link, PlaneError> {
        if let Some(manager) = &self.manager {
            sandbox::manager::only_write(manager.as_fd())?;
        }
        sandbox::seccomp(self.kind)?;
        let hello = Hello { kind: self.kind, build: BUILD.to_owned(), landlock_abi: self.landlock_abi };
        match self.kind {
            PlaneKind::Capture => self.link.send(FromCapture::Hello(hello))?,
            PlaneKind::Encode => self.link.send(FromEncode::Hello(hello))?,
            PlaneKind::Net => self.link.send(FromNet::Hello(hello))?,
            PlaneKind::Input => self.link.send(FromInput::Hello(hello))?,
            PlaneKind::Audio => self.link.send(FromAudio::Hello(hello))?,
        }
        if let Some(manager) = &self.manager {
            manager.ready();
        }
        Ok(self.link.watched_by(self.manager))
    }
}

/// Runs a plane from `main`. Nothing else in the program may have run, started a thread or opened a file before.
pub fn run(kind: PlaneKind, body: impl FnOnce(Startup) -> Result<Exit, PlaneError>) -> ExitCode {
    let name = name(kind);
    one_line_panics(name);
    let Some(fd) = inherited::link() else {
        eprintln!("{name} is started by lumend, not by hand; run `lumend run --spawn`");
        return ExitCode::from(EXIT_USAGE);
    };
    let mut last = None;
    let end = link_up(fd, &mut last).and_then(|link| start(kind, link)).and_then(body);
    let (status, leaving) = match end {
        // The second is the order to stop, met in the middle of something.
        Ok(Exit::Stopped) | Err(PlaneError::Link(LinkError::Closed)) => return ExitCode::SUCCESS,
        Ok(Exit::Reopen) => (ExitCode::from(EXIT_REOPEN), Leaving::Reopen),
        Err(error) => {
            eprintln!("{name}: {error}");
            (ExitCode::FAILURE, error.last_word())
        }
    };
    if let Some(link) = last {
        say_last(kind, &link, leaving);
    }
    status
}

/// The link, and in `last` another descriptor of it for the last word.
fn link_up(fd: OwnedFd, last: &mut Option<Link>) -> Result<Link, PlaneError> {
    let link = Link::from_fd(fd)?;
    *last = Some(link.try_clone()?);
    Ok(link)
}

fn start(kind: PlaneKind, link: Link) -> Result<Startup, PlaneError> {
    let manager = forget_environment();
    plain_signals()?;
    let restricted = sandbox::restrict(kind)?;
    Ok(Startup { kind, link, manager, landlock_abi: restricted.landlock_abi })
}

/// lumend may be gone already: then nobody wants to know.
fn say_last(kind: PlaneKind, link: &Link, leaving: Leaving) {
    let _ = match kind {
        PlaneKind::Capture => link.send(FromCapture::Leaving(leaving)),
        PlaneKind::Encode => link.send(FromEncode::Leaving(leaving)),
        PlaneKind::Net => link.send(FromNet::Leaving(leaving)),
        PlaneKind::Input => link.send(FromInput::Leaving(leaving)),
        PlaneKind::Audio => link.send(FromAudio::Leaving(leaving)),
    };
}

/// Connects to the service manager, if there is one to tell, and empties the environment, which libraries would listen
/// to.
fn forget_environment() -> Option<Manager> {
    // A manager that cannot be reached misses `READY=1`, and says so itself.
    let manager = std::env::var_os("NOTIFY_SOCKET").and_then(|name| Manager::connect(&name).ok());
    for (name, _) in std::env::vars_os() {
        // SAFETY: nothing has run yet that could have started another thread.
        unsafe { std::env::remove_var(name) };
    }
    manager
}

/// The name of a plane's program.
pub const fn name(kind: PlaneKind) -> &'static str {
    match kind {
        PlaneKind::Capture => "lumen-capture",
        PlaneKind::Encode => "lumen-encode",
        PlaneKind::Net => "lumen-net",
        PlaneKind::Input => "lumen-input",
        PlaneKind::Audio => "lumen-audio",
    }
}

/// A key press in the terminal of `lumend run` reaches the whole process group; lumend answers it, by closing links.
/// A SIGPIPE would turn a peer's death into ours. The signal mask may be inherited from anything.
fn plain_signals() -> Result<(), PlaneError> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for ignored in [Signal::SIGPIPE, Signal::SIGINT, Signal::SIGHUP] {
        // SAFETY: ignoring a signal installs no handler.
        unsafe { signal(ignored, SigHandler::SigIgn) }.map_err(|errno| PlaneError::Failed(errno.to_string()))?;
    }
    SigSet::all().thread_unblock().map_err(|errno| PlaneError::Failed(errno.to_string()))
}

/// The end of a panic is an abort, whatever the build profile: a plane that has lost one of its threads must not live
/// on as if it had not. What people see of it is one line.
fn one_line_panics(name: &'static str) {
    std::panic::set_hook(Box::new(move |info| {
        let place = info.location().map_or_else(String::new, |at| format!(" at {}:{}", at.file(), at.line()));
        let what = info.payload_as_str().unwrap_or("no reason given").replace('\n', " ");
        eprintln!("{name}: bug{place}: {what}");
        std::process::abort();
    }));
}
