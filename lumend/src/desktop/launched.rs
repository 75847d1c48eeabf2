//! A launcher as lumend holds it: how one is started, the link to it, and the apps that it was told to start.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ipc::event::now_ns;
use ipc::link::{Link, LinkError};
use ipc::{Duty, FromLauncher, RunId, ToLauncher};
use nix::poll::PollFlags;
use tracing::{debug, warn};

use crate::launcher::{APPS_END_WITHIN, Commands, DesktopPaths, digest, owes};
use crate::rate::Rate;
use crate::reach::{Body, End, Sockets, command};

/// From closing the launcher's link to SIGKILL: it gives the compositor a second of its own, and has more to end.
const STOP_WITHIN: u64 = 3_000_000_000;

/// Messages of a launcher at once and in the long run: it says a few words when a desktop or an app comes and goes, and
/// what a link holds may all come at once.
const TALK_BURST: u32 = 256;
const TALK_PER_SECOND: u32 = 32;

/// How to start a launcher.
#[derive(Debug)]
pub struct Program {
    lumend: OwnedFd,
    runtime: PathBuf,
    /// Where launchers note what they will have to undo.
    undo: PathBuf,
    exec: String,
    seats: u32,
    /// JSON.
    apps: String,
    app_count: usize,
    /// Where a service manager starts launchers, if it is not lumend who does.
    manager: Option<Sockets>,
}

/// What a launcher is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Role {
    /// The desktop of this number, from 1 on, and apps on it.
    Desktop(u32),
    /// Apps where lumend was started.
    Apps,
}

impl Program {
    /// `lumend` is this program, opened; `undo` a directory for launchers' notes; `exec` the shell command of `[desktop]
    /// exec`; `seats` those for sessions; `apps` the list whose indices [`super::Desktop::start_app`] takes.
    pub fn new(lumend: OwnedFd, (runtime, undo): (&Path, &Path), exec: &str, seats: u32, apps: &[Commands]) -> Self {
        // The launcher does not run where lumend was started.
        let [runtime, undo] = [runtime, undo].map(|path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        let app_count = apps.len();
        // Strings in vectors: there is nothing that JSON could not express.
        let apps = serde_json::to_string(apps).unwrap_or_else(|_| "[]".into());
        Self { lumend, runtime, undo, exec: exec.to_owned(), seats, apps, app_count, manager: None }
    }

    /// Launchers are to be started by this service manager.
    pub fn served_by(self, manager: Option<Sockets>) -> Self {
        Self { manager, ..self }
    }

    /// Of the desktop of this number, from 1 on.
    pub fn paths(&self, number: u32) -> DesktopPaths {
        DesktopPaths::new(&self.runtime, number)
    }

    /// Whether a launcher has, or has left, something to undo.
    pub(super) fn owes(&self) -> bool {
        owes(&self.undo)
    }

    /// Whether the list has such an app. The error is for people.
    pub(super) fn check(&self, app: u16) -> Result<(), String> {
        if usize::from(app) < self.app_count { Ok(()) } else { Err("there is no such app".into()) }
    }
}

/// What a launcher has said, or what its end means.
#[derive(Debug)]
pub(super) enum Word {
    Ready,
    Gone { reason: String },
    AppEnded { run: RunId, reason: String },
}

#[derive(Debug)]
pub(super) struct Launched {
    link: Option<Link>,
    body: Body,
    /// Of messages.
    talk: Rate,
    kill_at: Option<u64>,
    /// Ordered, and not been said to have ended.
    runs: BTreeSet<RunId>,
}

impl Launched {
    pub fn start(program: &Program, role: Role) -> io::Result<Self> {
        let (link, body) = match &program.manager {
            None => Self::spawn(program, role)?,
            Some(manager) => {
                let (link, body) = manager.launcher()?;
                let duty = match role {
                    Role::Desktop(number) => Duty::Desktop { number, seats: program.seats },
                    Role::Apps => Duty::Apps,
                };
                let commands = digest(&program.exec, &program.apps);
                link.send(ToLauncher::Begin { duty, commands }).map_err(io::Error::other)?;
                (link, body)
            }
        };
        debug!("launcher started");
        let talk = Rate::new(now_ns(), TALK_BURST, TALK_PER_SECOND);
        Ok(Self { link: Some(link), body, talk, kill_at: None, runs: BTreeSet::new() })
    }

    fn spawn(program: &Program, role: Role) -> io::Result<(Link, Body)> {
        let mut command = command(program.lumend.as_fd());
        command.arg0("lumend").arg("launcher").arg(format!("--apps={}", program.apps));
        for (name, path) in [("--runtime=", &program.runtime), ("--undo=", &program.undo)] {
            let mut argument = OsString::from(name);
            argument.push(path);
            command.arg(argument);
        }
        match role {
            Role::Desktop(number) => command
                .arg(format!("--seats={}", program.seats))
                .arg(format!("--number={number}"))
                .arg("--")
                .arg(&program.exec),
            Role::Apps => command.args(["--bare", "--", ""]),
        };
        command.stdin(Stdio::null());
        Body::spawn(command)
    }

    pub fn tell(&mut self, order: ToLauncher) {
        if let ToLauncher::StartApp { run, .. } = order {
            self.runs.insert(run);
        }
        if self.link.as_ref().is_some_and(|link| link.send(order).is_err()) {
            // Its end is on its way, or brought about at the deadline.
            self.link = None;
        }
    }

    /// The order to end, and everything that it has started with it.
    pub fn close(&mut self, now: u64) {
        self.link = None;
        let apps = if self.runs.is_empty() { 0 } else { APPS_END_WITHIN.as_nanos() as u64 };
        self.kill_at.get_or_insert(now + STOP_WITHIN + apps);
    }

    pub fn sources(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        // Of one that has ended nothing more is to be read but a hang-up, and its deadline is near.
        let pidfd = self.body.pidfd().filter(|(_, flags)| flags.contains(PollFlags::POLLIN)).map(|(fd, _)| fd);
        self.link.as_ref().map(AsFd::as_fd).into_iter().chain(pidfd)
    }

    pub fn deadline(&self) -> Option<u64> {
        [self.kill_at, self.body.deadline(self.link.is_none())].into_iter().flatten().min()
    }

    pub fn hear(&mut self, now: u64) -> Option<Word> {
        loop {
            let link = self.link.as_ref()?;
            let received = link.recv::<FromLauncher>().and_then(|received| {
                let Some(received) = received else { return Ok(None) };
                if !self.talk.take(now) {
                    return Err(LinkError::Malformed("it talks without end"));
                }
                let heard = self.body.hear(link, received.sender, received.pidfd);
                heard.map(|()| Some(received.message)).map_err(LinkError::Malformed)
            });
            match received {
                Ok(None) => return None,
                Ok(Some(message)) => match message {
                    FromLauncher::Hello => {}
                    FromLauncher::DesktopReady => return Some(Word::Ready),
                    FromLauncher::DesktopGone { reason } => return Some(Word::Gone { reason }),
                    FromLauncher::AppEnded { run, reason } if self.runs.remove(&run) => {
                        return Some(Word::AppEnded { run, reason });
                    }
                    FromLauncher::AppEnded { .. } => {}
                },
                Err(error) => {
                    if !matches!(error, LinkError::Closed) {
                        warn!("the launcher's link: {error}");
                    }
                    self.close(now);
                    return None;
                }
            }
        }
    }

    /// The runs that ended with the launcher, if it has ended. What prepared them the next one undoes, if this one has not.
    pub fn reap(&mut self, now: u64) -> Option<BTreeSet<RunId>> {
        if self.link.is_none() {
            // Also for one that could not be told something.
            self.close(now);
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.body.kill(now);
            self.kill_at = None;
        }
        match self.body.reap(self.link.is_none(), now)? {
            End::Status(status) => debug!("launcher ended: {status}"),
            End::Unknown => debug!("launcher ended"),
            End::Unmet => warn!("the launcher has not come up; see the journal of lumen-launcher@"),
            End::Abandoned => warn!("the launcher cannot be ended from here"),
        }
        Some(std::mem::take(&mut self.runs))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use ipc::PlaneKind;
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

    use super::*;

    /// A service manager's sockets, behind which the test is the launcher.
    pub struct Manager {
        directory: PathBuf,
        listeners: Vec<UnixListener>,
    }

    impl Manager {
        pub fn new(test: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("lumen-{test}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&directory);
            std::fs::create_dir_all(directory.join("planes")).unwrap();
            let names = PlaneKind::ALL.iter().map(|kind| kind.name()).chain(["launcher"]);
            let listen_at = |name: &str| -> UnixListener {
                let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
                let path = directory.join("planes").join(format!("{name}.sock"));
                bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
                listen(&listener, Backlog::new(1).unwrap()).unwrap();
                listener.into()
            };
            let listeners = names.map(listen_at).collect();
            Self { directory, listeners }
        }

        pub fn program(&self) -> Program {
            let lumend = std::fs::File::open("/proc/self/exe").unwrap().into();
            let program = Program::new(lumend, (&self.directory, &self.directory), "", 0, &[]);
            program.served_by(Some(Sockets::find(&self.directory).unwrap()))
        }

        /// The launcher's end, once one has been started.
        pub fn launcher(&self) -> Link {
            Link::from_fd(self.listeners.last().unwrap().accept().unwrap().0.into()).unwrap()
        }
    }

    impl Drop for Manager {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    #[test]
    fn a_launcher_that_talks_without_end_is_not_listened_to() {
        let manager = Manager::new("launched");
        let mut launched = Launched::start(&manager.program(), Role::Apps).unwrap();
        let link = manager.launcher();
        let mut said = 0;
        while launched.link.is_some() {
            assert!(said <= 10 * TALK_BURST, "it goes on for ever");
            let ended = FromLauncher::AppEnded { run: RunId(said), reason: "again".into() };
            link.send(ended).unwrap();
            said += 1;
            assert!(launched.hear(0).is_none(), "of no run that was ordered");
        }
        assert_eq!(said, TALK_BURST + 1);
    }
}
