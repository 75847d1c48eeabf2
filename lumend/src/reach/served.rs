//! Planes that a service manager starts, one for each connection to the sockets on which it listens for lumend. They are
//! nobody's children here: who they are is what the kernel says of the sender of their first message.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use ipc::PlaneKind;
use ipc::link::{Credentials, Link};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;

use super::pidfd;

/// Between a process's end and its parent's taking note of it, after which the kernel tells its exit status.
const STATUS_WITHIN: u64 = 50_000_000;
/// A process that lumend may not kill, because it is another user's, has ended by then: its unit sees to that.
const GONE_WITHIN: u64 = 10_000_000_000;

const KINDS: [PlaneKind; 5] =
    [PlaneKind::Net, PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Input, PlaneKind::Audio];

/// No sockets to have planes started by. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error(
    "nobody listens at {}: start lumend as a service (see `lumend install --help`), or with --spawn as the parent of its \
     planes",
    path.display()
)]
pub struct NoManager {
    path: PathBuf,
}

/// Where the service manager listens.
#[derive(Debug)]
pub struct Sockets {
    directory: PathBuf,
}

impl Sockets {
    /// Those in lumend's runtime directory. That there are sockets is all that can be seen without starting a plane.
    pub fn find(runtime: &Path) -> Result<Self, NoManager> {
        let sockets = Self { directory: runtime.join("planes") };
        let is_there = |path: &PathBuf| path.metadata().is_ok_and(|metadata| metadata.file_type().is_socket());
        match KINDS.map(|kind| sockets.path(kind)).into_iter().find(|path| !is_there(path)) {
            None => Ok(sockets),
            Some(path) => Err(NoManager { path }),
        }
    }

    fn path(&self, kind: PlaneKind) -> PathBuf {
        self.directory.join(format!("{}.sock", kind.name()))
    }

    /// Has a plane started.
    pub(super) fn dial(&self, kind: PlaneKind) -> io::Result<(Link, Served)> {
        let path = self.path(kind);
        let link = Link::dial(&path).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ECONNREFUSED) => {
                io::Error::other(format!("nobody listens at {}; start lumen-{}.socket", path.display(), kind.name()))
            }
            _ => error,
        })?;
        let manager = getsockopt(&link, PeerCredentials)?.uid();
        let own = geteuid().as_raw();
        if manager != 0 && manager != own {
            return Err(io::Error::other(format!("it is user {manager} who listens at {}", path.display())));
        }
        let pidfds = link.ask_for_pidfds(true).is_ok();
        // A user's manager starts processes of that user alone; the system's gives each plane a user of its own.
        let uid = (manager == own).then_some(own);
        Ok((link, Served { uid, pidfds, met: None, status_until: None, gone_until: None }))
    }
}

/// A process that has spoken.
#[derive(Debug)]
struct Met {
    pid: u32,
    pidfd: OwnedFd,
    /// The descriptor is certain to be of the process that spoke, and not of another one with its number.
    certain: bool,
}

/// A plane that somebody else has started, or is starting.
#[derive(Debug)]
pub(super) struct Served {
    /// Whose it must be.
    uid: Option<u32>,
    /// The kernel names senders by descriptor.
    pidfds: bool,
    met: Option<Met>,
    status_until: Option<u64>,
    gone_until: Option<u64>,
}

/// What is left of a process.
pub(super) enum End {
    Status(ExitStatus),
    /// It has ended; how, nobody says.
    Unknown,
    /// It never spoke.
    Unmet,
    /// It lives on, out of reach.
    Abandoned,
}

impl Served {
    pub fn pid(&self) -> Option<u32> {
        self.met.as_ref().map(|met| met.pid)
    }

    /// What to poll for its end.
    pub fn pidfd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        // Once it has ended there is a hang-up to wait for, when its parent has taken note.
        let flags = if self.status_until.is_none() { PollFlags::POLLIN } else { PollFlags::empty() };
        self.met.as_ref().map(|met| (met.pidfd.as_fd(), flags))
    }

    /// Whether a message comes from the process that this is. The first one tells which that is.
    pub fn hear(&mut self, link: &Link, sender: Credentials, theirs: Option<OwnedFd>) -> Result<(), &'static str> {
        if let Some(met) = &mut self.met {
            if sender.pid.cast_unsigned() != met.pid {
                return Err("it was sent by another process");
            }
            // One that has just spoken, and lives, is the one whose number was looked up after its first words.
            met.certain = met.certain || state(met.pidfd.as_fd()).is_empty();
            return Ok(());
        }
        let pid =
            u32::try_from(sender.pid).ok().filter(|&pid| pid > 0).ok_or("its process cannot be seen from here")?;
        if self.uid.is_some_and(|uid| uid != sender.uid) {
            return Err("it is another user's process");
        }
        let certain = theirs.is_some();
        let gone = "its process is gone";
        let pidfd = match theirs {
            Some(pidfd) => pidfd,
            None if self.pidfds => return Err(gone),
            None => pidfd::open(pid).map_err(|_| gone)?,
        };
        self.met = Some(Met { pid, pidfd, certain });
        if self.pidfds {
            // One for each message would have to be closed each time. An error costs just that.
            let _ = link.ask_for_pidfds(false);
        }
        Ok(())
    }

    /// Its link is closed already, which is all that can be done to a process that has not spoken.
    pub fn kill(&mut self, now: u64) {
        let Some(met) = &self.met else { return };
        let killed = if met.certain { pidfd::kill(met.pidfd.as_fd()) } else { Err(Errno::EPERM) };
        if !matches!(killed, Ok(()) | Err(Errno::ESRCH)) {
            self.gone_until.get_or_insert(now + GONE_WITHIN);
        }
    }

    /// When to call [`Self::reap`] even if nothing is to be polled.
    pub fn deadline(&self, closed: bool) -> Option<u64> {
        let unmet = (closed && self.met.is_none()).then_some(0);
        [unmet, self.status_until, self.gone_until].into_iter().flatten().min()
    }

    /// Its end, if it has ended or is given up; `closed` says that its link is.
    pub fn reap(&mut self, closed: bool, now: u64) -> Option<End> {
        let Some(met) = &self.met else { return closed.then_some(End::Unmet) };
        let state = state(met.pidfd.as_fd());
        if state.is_empty() {
            return self.gone_until.is_some_and(|at| now >= at).then_some(End::Abandoned);
        }
        match pidfd::status(met.pidfd.as_fd()) {
            Ok(Some(status)) => Some(End::Status(status)),
            Ok(None) if state.contains(PollFlags::POLLHUP) => Some(End::Unknown),
            Ok(None) => (now >= *self.status_until.get_or_insert(now + STATUS_WITHIN)).then_some(End::Unknown),
            Err(_) => Some(End::Unknown),
        }
    }
}

/// Empty while a process lives; a hang-up once its parent has taken note of its end.
fn state(pidfd: BorrowedFd<'_>) -> PollFlags {
    let mut polled = [PollFd::new(pidfd, PollFlags::POLLIN)];
    // An error leaves no flags, and one more try.
    let _ = poll(&mut polled, PollTimeout::ZERO);
    let [polled] = polled;
    polled.revents().unwrap_or(PollFlags::empty())
}
