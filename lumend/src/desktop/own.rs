//! lumend's end of the launcher: it keeps a compositor running, at the pace of the restart policy.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::rc::Rc;

use ipc::link::{Link, LinkError};
use ipc::{FromLauncher, ToLauncher};
use tracing::{debug, warn};

use crate::launcher::DesktopPaths;
use crate::machine::Crashes;
use crate::reach::{Linked, command};

/// From closing the launcher's link to SIGKILL: it gives the compositor a second of its own, and has more to end.
const STOP_WITHIN: u64 = 3_000_000_000;

/// How to start a launcher.
#[derive(Debug)]
pub struct Program {
    lumend: OwnedFd,
    runtime: PathBuf,
    exec: String,
    seats: u32,
}

impl Program {
    /// `lumend` is this program, opened; `exec` the shell command of `[desktop] exec`; `seats` those for sessions.
    pub fn new(lumend: OwnedFd, runtime: &Path, exec: &str, seats: u32) -> Self {
        // The launcher does not run where lumend was started.
        let runtime = std::path::absolute(runtime).unwrap_or_else(|_| runtime.to_owned());
        Self { lumend, runtime, exec: exec.to_owned(), seats }
    }

    /// Of the desktop of this number, from 1 on.
    pub fn paths(&self, number: u32) -> DesktopPaths {
        DesktopPaths::new(&self.runtime, number)
    }

    fn start(&self, number: u32) -> io::Result<Linked> {
        let mut runtime = OsString::from("--runtime=");
        runtime.push(&self.runtime);
        let mut command = command(self.lumend.as_fd());
        command
            .arg0("lumend")
            .arg("launcher")
            .arg(runtime)
            .arg(format!("--seats={}", self.seats))
            .arg(format!("--number={number}"))
            .arg("--")
            .arg(&self.exec);
        command.stdin(std::process::Stdio::null());
        Linked::spawn(command)
    }
}

/// What the launcher has to tell.
#[derive(Debug)]
pub enum News {
    Up,
    Down {
        reason: String,
    },
    /// It did not even come up once: the reason is one that trying again does not mend.
    Hopeless {
        reason: String,
    },
}

#[derive(Debug)]
struct Running {
    link: Option<Link>,
    child: Child,
    pidfd: OwnedFd,
    kill_at: Option<u64>,
}

/// The launcher of one desktop, and when to order what from it.
#[derive(Debug)]
pub struct Own {
    program: Rc<Program>,
    number: u32,
    running: Option<Running>,
    /// A desktop has been ordered, and not been said to be gone since.
    ordered: bool,
    start_at: Option<u64>,
    pace: Crashes,
    was_up: bool,
    stopping: bool,
}

impl Own {
    /// Nothing is started yet.
    pub fn new(program: Rc<Program>, number: u32) -> Self {
        Self {
            program,
            number,
            running: None,
            ordered: false,
            start_at: None,
            pace: Crashes::default(),
            was_up: false,
            stopping: false,
        }
    }

    /// Orders a desktop, of a launcher that is started if there is none.
    pub fn order(&mut self) -> io::Result<()> {
        if self.running.is_none() {
            let Linked { link, child, pidfd } = self.program.start(self.number)?;
            debug!("launcher (pid {}) started", child.id());
            self.running = Some(Running { link: Some(link), child, pidfd, kill_at: None });
        }
        self.ordered = true;
        self.tell(ToLauncher::StartDesktop);
        Ok(())
    }

    /// There is no desktop, and none is on its way.
    pub const fn is_idle(&self) -> bool {
        !self.ordered && self.start_at.is_none()
    }

    fn tell(&mut self, order: ToLauncher) {
        if let Some(Running { link, .. }) = &mut self.running
            && link.as_ref().is_some_and(|link| link.send(order).is_err())
        {
            // Its end is on its way, or brought about at the deadline.
            *link = None;
        }
    }

    /// Whatever is left of the desktop is ended, and a new one started when it is time.
    pub fn start_again(&mut self, now: u64) {
        if self.start_at.is_none() && !self.stopping {
            self.ordered = false;
            self.tell(ToLauncher::StopDesktop);
            self.start_at = Some(self.pace.pace(now));
        }
    }

    /// Ends the launcher and with it the desktop; true once it has ended.
    pub fn stop(&mut self, now: u64) -> bool {
        self.stopping = true;
        self.start_at = None;
        if let Some(running) = &mut self.running {
            running.link = None;
            running.kill_at.get_or_insert(now + STOP_WITHIN);
        }
        self.reap(now);
        self.running.is_none()
    }

    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let link = self.running.iter().filter_map(|running| running.link.as_ref()).map(AsFd::as_fd);
        link.chain(self.running.iter().map(|running| running.pidfd.as_fd()))
    }

    pub fn deadline(&self) -> Option<u64> {
        let kill = self.running.as_ref().and_then(|running| running.kill_at);
        [self.start_at, kill].into_iter().flatten().min()
    }

    pub fn dispatch(&mut self, now: u64) -> Vec<News> {
        let mut news = Vec::new();
        while let Some(word) = self.hear(now) {
            news.push(match word {
                FromLauncher::DesktopReady => {
                    (self.was_up, self.ordered) = (true, true);
                    News::Up
                }
                FromLauncher::DesktopGone { reason } => self.down(reason),
                FromLauncher::AppEnded { .. } => continue,
            });
        }
        if self.reap(now) && !self.stopping {
            news.push(self.down("the launcher ended".into()));
        }
        if self.start_at.is_some_and(|at| now >= at) {
            self.start_at = None;
            if let Err(error) = self.order() {
                news.push(self.down(format!("cannot start the launcher: {error}")));
            }
        }
        news
    }

    fn down(&mut self, reason: String) -> News {
        self.ordered = false;
        if self.was_up { News::Down { reason } } else { News::Hopeless { reason } }
    }

    fn hear(&mut self, now: u64) -> Option<FromLauncher> {
        let running = self.running.as_mut()?;
        match running.link.as_ref()?.recv::<FromLauncher>() {
            Ok(word) => word.map(|received| received.message),
            Err(error) => {
                if !matches!(error, LinkError::Closed) {
                    warn!("the launcher's link: {error}");
                }
                running.link = None;
                running.kill_at.get_or_insert(now + STOP_WITHIN);
                None
            }
        }
    }

    /// True if the launcher has just ended.
    fn reap(&mut self, now: u64) -> bool {
        let Some(running) = &mut self.running else { return false };
        if running.kill_at.is_some_and(|at| now >= at) {
            // An error would mean that it has ended, which is what is wanted.
            let _ = running.child.kill();
            running.kill_at = None;
        }
        match running.child.try_wait() {
            Ok(None) => false,
            Ok(Some(status)) => {
                debug!("launcher ended: {status}");
                self.running = None;
                true
            }
            Err(error) => {
                warn!("the launcher's status is lost: {error}");
                self.running = None;
                true
            }
        }
    }
}
