//! The launcher, a role of the lumend binary with a process of its own: it starts the desktop and what runs on it.
//!
//! It is the one process that is not locked down, because what it starts must be free to use sandboxes and JITs of its
//! own. So it has no link to a plane, holds no key, and is told only *that* it should start a desktop, never what.

mod compositor;

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use ipc::link::{Link, LinkError};
use ipc::{FromLauncher, ToLauncher};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use compositor::Compositor;
pub use compositor::DesktopPaths;

/// What the launcher waits for.
enum Event {
    Order(ToLauncher),
    /// The order to end.
    LinkClosed,
    /// The desktop's start script ran: the sockets exist. Or it said something else.
    Spoke,
    /// A child ended, ours or an orphan of one of ours.
    Child(WaitStatus),
    /// The desktop took too long to come up.
    TooLate,
}

/// What a desktop is to have.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// A shell command, empty for none.
    pub exec: &'a str,
    /// Seats for sessions.
    pub seats: u32,
    /// Which of lumend's desktops it is, from 1 on.
    pub number: u32,
}

struct Launcher<'a> {
    link: Link,
    children: SignalFd,
    paths: DesktopPaths,
    setup: Setup<'a>,
    desktop: Option<Compositor>,
}

/// Runs until the link on fd 3 closes; then everything that was started is ended.
pub fn run(runtime: &Path, setup: Setup<'_>) -> ExitCode {
    let Some(fd) = ipc::plane::inherited_link() else {
        eprintln!("lumend launcher is started by lumend, not by hand; run `lumend run --desktop sway`");
        return ExitCode::from(2);
    };
    match Link::from_fd(fd).and_then(|link| Launcher::new(link, runtime, setup)).and_then(Launcher::serve) {
        Ok(()) | Err(LinkError::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lumend launcher: {error}");
            ExitCode::FAILURE
        }
    }
}

impl<'a> Launcher<'a> {
    fn new(link: Link, runtime: &Path, setup: Setup<'a>) -> Result<Self, LinkError> {
        let io = |errno: nix::Error| LinkError::Io(errno.into());
        // Apps on the desktop detach from the compositor; as orphans they become children of this process.
        nix::sys::prctl::set_child_subreaper(true).map_err(io)?;
        let mask = SigSet::from(Signal::SIGCHLD);
        mask.thread_block().map_err(io)?;
        let children = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(io)?;
        Ok(Self { link, children, paths: DesktopPaths::new(runtime, setup.number), setup, desktop: None })
    }

    fn serve(mut self) -> Result<(), LinkError> {
        let ended = loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.stop();
        ended
    }

    /// Waits once and handles what came. False when the link has closed.
    fn turn(&mut self) -> Result<bool, LinkError> {
        for event in self.wait()? {
            match event {
                Event::Order(ToLauncher::StartDesktop) => self.start()?,
                Event::Order(ToLauncher::StopDesktop) => self.stop(),
                Event::Order(ToLauncher::StartApp { run, .. }) => {
                    self.link.send(FromLauncher::AppEnded { run, reason: "there are no apps".into() })?;
                }
                Event::Order(ToLauncher::StopApp { .. }) => {}
                Event::LinkClosed => return Ok(false),
                Event::Spoke => self.check_ready()?,
                Event::Child(status) => self.on_child(status)?,
                // Its end may have been told in the same round.
                Event::TooLate if self.desktop.is_none() => {}
                Event::TooLate => {
                    let reason = format!("sway did not come up within {} s", compositor::START_WITHIN.as_secs());
                    self.gone(reason)?;
                }
            }
        }
        Ok(true)
    }

    fn wait(&mut self) -> Result<Vec<Event>, LinkError> {
        let deadline = self.desktop.as_ref().and_then(Compositor::deadline);
        let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
            let left = deadline.saturating_duration_since(Instant::now()).as_millis();
            // Rounded up: a poll that ends a little early would only be repeated.
            PollTimeout::try_from(left + 1).unwrap_or(PollTimeout::MAX)
        });
        let ready = self.desktop.as_ref().and_then(Compositor::ready_pipe);
        let mut sources = vec![
            PollFd::new(self.link.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
        ];
        sources.extend(ready.map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        match poll(&mut sources, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(LinkError::Io(errno.into())),
        }
        let came: Vec<bool> = sources.iter().map(|source| source.any().unwrap_or(false)).collect();
        let mut events = Vec::new();
        if came[1] {
            self.drain_signals();
            events.extend(reap().map(Event::Child));
        }
        if came.get(2) == Some(&true) {
            events.push(Event::Spoke);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            events.push(Event::TooLate);
        }
        if came[0] {
            match self.link.recv::<ToLauncher>() {
                Ok(Some(received)) => events.push(Event::Order(received.message)),
                Ok(None) => {}
                Err(LinkError::Closed) => events.push(Event::LinkClosed),
                Err(error) => return Err(error),
            }
        }
        Ok(events)
    }

    fn drain_signals(&self) {
        while let Ok(Some(_)) = self.children.read_signal() {}
    }

    fn start(&mut self) -> Result<(), LinkError> {
        match &self.desktop {
            Some(desktop) if desktop.is_ready() => return self.link.send(FromLauncher::DesktopReady),
            Some(_) => return Ok(()),
            None => {}
        }
        match Compositor::start(&self.paths, self.setup) {
            Ok(desktop) => self.desktop = Some(desktop),
            Err(reason) => self.link.send(FromLauncher::DesktopGone { reason })?,
        }
        Ok(())
    }

    fn check_ready(&mut self) -> Result<(), LinkError> {
        let Some(desktop) = &mut self.desktop else { return Ok(()) };
        match desktop.check_ready(&self.paths) {
            Ok(false) => Ok(()),
            Ok(true) => self.link.send(FromLauncher::DesktopReady),
            Err(reason) => self.gone(reason),
        }
    }

    fn on_child(&mut self, status: WaitStatus) -> Result<(), LinkError> {
        if self.desktop.as_ref().is_none_or(|desktop| status.pid() != Some(desktop.pid())) {
            return Ok(());
        }
        let how = match status {
            WaitStatus::Exited(_, code) => format!("exit status {code}"),
            WaitStatus::Signaled(_, signal, _) => signal.as_str().to_owned(),
            other => format!("{other:?}"),
        };
        self.gone(format!("sway ended ({how}); its messages are in lumend's log"))
    }

    fn gone(&mut self, reason: String) -> Result<(), LinkError> {
        self.stop();
        self.link.send(FromLauncher::DesktopGone { reason })
    }

    /// Ends the desktop and everything that was started on it.
    fn stop(&mut self) {
        if let Some(desktop) = self.desktop.take() {
            desktop.stop();
        }
    }
}

/// The children that have ended.
fn reap() -> impl Iterator<Item = WaitStatus> {
    std::iter::from_fn(|| match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(_) => None,
        Ok(status) => Some(status),
    })
}
