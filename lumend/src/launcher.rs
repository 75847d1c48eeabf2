//! The launcher, a role of the lumend binary with a process of its own: it starts the desktop and what runs on it.
//!
//! It is the one process that is not locked down, because what it starts must be free to use sandboxes and JITs of its
//! own. So it has no link to a plane, holds no key, and is told only *that* it should start a desktop, or which entry
//! of its own list of apps, never what.

mod apps;
mod compositor;
mod family;
mod notes;
mod served;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ipc::link::{Link, LinkError};
use ipc::{FromLauncher, RunId, ToLauncher};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use apps::Apps;
pub use apps::Commands;
use compositor::Compositor;
pub use compositor::DesktopPaths;
use notes::Notes;
pub use notes::any as owes;
pub use served::{digest, run as run_served};

/// All apps have ended by then, or are killed, when the launcher is to end.
pub const APPS_END_WITHIN: Duration = Duration::from_secs(8);

/// Without a word from lumend these would end the launcher, and nothing would be undone.
const END: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];

/// What the launcher waits for.
enum Event {
    Order(ToLauncher),
    /// The order to end; or a signal that says the same, as a service manager sends to all that it sees.
    LinkClosed,
    /// The desktop's start script ran: the sockets exist. Or it said something else.
    Spoke,
    /// A child ended, ours or an orphan of one of ours.
    Child(WaitStatus),
    /// The desktop took too long to come up.
    TooLate,
    /// Something is due in the life of an app.
    AppsDue,
}

/// Where the launcher starts things.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// On a desktop of its own.
    Own,
    /// Where lumend was started: there are apps only, and no desktop is ordered.
    Bare,
}

/// What a desktop is to have.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    pub place: Place,
    /// A shell command, empty for none.
    pub exec: &'a str,
    /// Seats for sessions.
    pub seats: u32,
    /// Which of lumend's desktops it is, from 1 on.
    pub number: u32,
    /// Where launchers note what they will have to undo.
    pub undo: Option<&'a Path>,
}

struct Launcher<'a> {
    link: Link,
    /// Of children that end, and of those who want this process to.
    signals: SignalFd,
    paths: DesktopPaths,
    setup: Setup<'a>,
    desktop: Option<Compositor>,
    apps: Apps,
    /// The desktop is this launcher's until its end.
    _claim: Option<File>,
}

/// Runs until the link on fd 3 closes; then everything that was started is ended.
///
/// `apps` is its list, as JSON.
pub fn run(runtime: &Path, setup: Setup<'_>, apps: &str) -> ExitCode {
    let Ok(apps) = serde_json::from_str::<Vec<Commands>>(apps) else {
        eprintln!("lumend launcher: its list of apps is none");
        return ExitCode::from(2);
    };
    let Some(fd) = ipc::inherited::link() else { return by_hand() };
    ended(Link::from_fd(fd).and_then(|link| Launcher::new(link, runtime, setup, apps)).and_then(Launcher::serve))
}

fn by_hand() -> ExitCode {
    eprintln!("lumend launcher is started by lumend, not by hand; run `lumend run --spawn --desktop sway`");
    ExitCode::from(2)
}

fn ended(end: Result<(), LinkError>) -> ExitCode {
    match end {
        Ok(()) | Err(LinkError::Closed) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lumend launcher: {error}");
            ExitCode::FAILURE
        }
    }
}

impl<'a> Launcher<'a> {
    fn new(link: Link, runtime: &Path, setup: Setup<'a>, apps: Vec<Commands>) -> Result<Self, LinkError> {
        let io = |errno: nix::Error| LinkError::Io(errno.into());
        let paths = DesktopPaths::new(runtime, setup.number);
        // Before signals are blocked: whoever waits here has nothing to undo, and may be ended.
        let claim = match setup.place {
            Place::Own => Some(paths.claim(&link)?),
            Place::Bare => None,
        };
        // Apps on the desktop detach from the compositor; as orphans they become children of this process.
        nix::sys::prctl::set_child_subreaper(true).map_err(io)?;
        let mask: SigSet = [Signal::SIGCHLD].into_iter().chain(END).collect();
        mask.thread_block().map_err(io)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map_err(io)?;
        let (place, of_apps) = (setup.place, paths.clone());
        let notes = Notes::new(setup.undo.map(Path::to_owned));
        let mut apps = Apps::new(apps, Box::new(move |run, line| spawn(place, &of_apps, run, line)), notes);
        apps.inherit(Instant::now());
        Ok(Self { link, signals, paths, setup, desktop: None, apps, _claim: claim })
    }

    fn serve(mut self) -> Result<(), LinkError> {
        let ended = loop {
            match self.turn() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // While there is still a desktop for them to end on.
        self.end_apps();
        self.stop();
        // What has hidden from that, and what has run where lumend was started.
        family::end();
        ended
    }

    /// Waits once and handles what came. False when the link has closed.
    fn turn(&mut self) -> Result<bool, LinkError> {
        for event in self.wait()? {
            match event {
                Event::Order(ToLauncher::Begin { .. }) => return Err(LinkError::Malformed("it has begun already")),
                Event::Order(ToLauncher::StartDesktop) => self.start()?,
                Event::Order(ToLauncher::StopDesktop) if self.desktop.is_none() => {}
                Event::Order(ToLauncher::StopDesktop) => self.gone("it was stopped".into())?,
                Event::Order(ToLauncher::StartApp { run, app }) => self.start_app(run, app)?,
                Event::Order(ToLauncher::StopApp { run }) => self.apps.stop(Instant::now(), run, "it was stopped"),
                Event::LinkClosed => return Ok(false),
                Event::Spoke => self.check_ready()?,
                Event::Child(status) => self.on_child(status)?,
                // Its end may have been told in the same round.
                Event::TooLate if self.desktop.is_none() => {}
                Event::TooLate => {
                    let reason = format!("sway did not come up within {} s", compositor::START_WITHIN.as_secs());
                    self.gone(reason)?;
                }
                Event::AppsDue => self.apps.tick(Instant::now()),
            }
        }
        for (run, reason) in self.apps.ended() {
            self.link.send(FromLauncher::AppEnded { run, reason })?;
        }
        Ok(true)
    }

    fn wait(&mut self) -> Result<Vec<Event>, LinkError> {
        let deadline = self.desktop.as_ref().and_then(Compositor::deadline);
        let due = self.apps.deadline();
        let timeout = until(deadline.into_iter().chain(due).min());
        let ready = self.desktop.as_ref().and_then(Compositor::ready_pipe);
        let mut sources = vec![
            PollFd::new(self.link.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        sources.extend(ready.map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        match poll(&mut sources, timeout) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(errno) => return Err(LinkError::Io(errno.into())),
        }
        let came: Vec<bool> = sources.iter().map(|source| source.any().unwrap_or(false)).collect();
        let mut events = Vec::new();
        let mut told_to_end = false;
        if came[1] {
            told_to_end = self.drain_signals();
            events.extend(reap().map(Event::Child));
        }
        if came.get(2) == Some(&true) {
            events.push(Event::Spoke);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            events.push(Event::TooLate);
        }
        if due.is_some_and(|due| Instant::now() >= due) {
            events.push(Event::AppsDue);
        }
        if came[0] {
            match self.link.recv::<ToLauncher>() {
                Ok(Some(received)) => events.push(Event::Order(received.message)),
                Ok(None) => {}
                Err(LinkError::Closed) => events.push(Event::LinkClosed),
                Err(error) => return Err(error),
            }
        }
        if told_to_end {
            events.push(Event::LinkClosed);
        }
        Ok(events)
    }

    /// Whether one of them was to end this process.
    fn drain_signals(&self) -> bool {
        let mut end = false;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            end |= END.iter().any(|&one| signal.ssi_signo == one as u32);
        }
        end
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
            Ok(true) => {
                self.apps.desktop_is_ready(Instant::now());
                self.link.send(FromLauncher::DesktopReady)
            }
            Err(reason) => self.gone(reason),
        }
    }

    /// An app for a desktop that is on its way waits for it; for one that nobody has ordered it would wait for ever.
    fn start_app(&mut self, run: RunId, app: u16) -> Result<(), LinkError> {
        let ready = match (self.setup.place, &self.desktop) {
            (Place::Bare, _) => Ok(true),
            (Place::Own, Some(desktop)) => Ok(desktop.is_ready()),
            (Place::Own, None) => Err("the desktop is gone".to_owned()),
        };
        match ready.and_then(|ready| self.apps.start(Instant::now(), run, app, ready)) {
            Ok(()) => Ok(()),
            Err(reason) => self.link.send(FromLauncher::AppEnded { run, reason }),
        }
    }

    fn on_child(&mut self, status: WaitStatus) -> Result<(), LinkError> {
        self.apps.child_ended(Instant::now(), status);
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

    /// Ends the desktop and everything that was started on it. What it leaves of apps is undone without it.
    fn stop(&mut self) {
        if let Some(desktop) = self.desktop.take() {
            desktop.stop();
            self.apps.desktop_is_gone(Instant::now(), "its desktop ended");
        }
    }

    /// Ends all apps and undoes their preparations, but does not take for ever over it. There is nobody to be told.
    fn end_apps(&mut self) {
        let deadline = Instant::now() + APPS_END_WITHIN;
        self.apps.stop_all(Instant::now());
        while !self.apps.is_idle() && Instant::now() < deadline {
            let timeout = until(self.apps.deadline().into_iter().chain([deadline]).min());
            let _ = poll(&mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)], timeout);
            self.drain_signals();
            for status in reap() {
                self.apps.child_ended(Instant::now(), status);
            }
            self.apps.tick(Instant::now());
        }
    }
}

/// Starts a shell command for a run. The error is for people.
fn spawn(place: Place, paths: &DesktopPaths, run: RunId, line: &str) -> Result<Pid, String> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line).stdin(Stdio::null());
    match place {
        Place::Own => compositor::set_app_environment(&mut command, paths),
        Place::Bare => compositor::set_bare_environment(&mut command, paths),
    }
    command.env(family::RUN, run.0.to_string());
    compositor::dies_with_us(&mut command);
    compositor::leads_a_session(&mut command);
    let child = command.spawn().map_err(|error| format!("a shell cannot be started: {error}"))?;
    // Its end is taken by the launcher's wait for any child, which dropping the handle leaves alone.
    Ok(Pid::from_raw(child.id().cast_signed()))
}

/// How long to poll for; none is for ever.
fn until(deadline: Option<Instant>) -> PollTimeout {
    deadline.map_or(PollTimeout::NONE, |deadline| {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        // Rounded up: a poll that ends a little early would only be repeated.
        PollTimeout::try_from(left + 1).unwrap_or(PollTimeout::MAX)
    })
}

/// The children that have ended.
fn reap() -> impl Iterator<Item = WaitStatus> {
    std::iter::from_fn(|| match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) | Err(_) => None,
        Ok(status) => Some(status),
    })
}
