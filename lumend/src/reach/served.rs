//! Planes that a service manager starts, one for each connection to the sockets on which it listens for lumend. They are
//! nobody's children here: who they are is what the kernel says of the sender of their first message.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use ipc::PlaneKind;
use ipc::link::{Credentials, Link};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::geteuid;

use super::body::{Body, End};
use super::pidfd;
use crate::machine::PATIENCE;

/// Between a process's end and its parent's taking note of it, after which the kernel tells its exit status.
const STATUS_WITHIN: u64 = 50_000_000;
/// A process that lumend may not kill, because it is another user's and no unit has given lumend the right, has seen by
/// then that its link is closed. Its session waits longer for what takes its place.
const GONE_WITHIN: u64 = 4_000_000_000;
const _: () = assert!(GONE_WITHIN < PATIENCE);
/// A process that was killed has ended by then, unless the kernel holds it for the sake of a device or a disk.
const DEAD_WITHIN: u64 = 10_000_000_000;

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
#[derive(Clone, Debug)]
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
        self.path_of(kind.name())
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.sock"))
    }

    /// Has a plane started.
    pub(super) fn plane(&self, kind: PlaneKind) -> io::Result<(Link, Body)> {
        self.dial(kind.name())
    }

    /// Has a launcher started.
    pub fn launcher(&self) -> io::Result<(Link, Body)> {
        self.dial("launcher")
    }

    fn dial(&self, name: &str) -> io::Result<(Link, Body)> {
        let path = self.path_of(name);
        let link = Link::dial(&path).map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ECONNREFUSED) => {
                io::Error::other(format!("nobody listens at {}; start lumen-{name}.socket", path.display()))
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
        Ok((link, Body::Served(Served { uid, pidfds, met: None, status_until: None, gone_until: None })))
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
pub struct Served {
    /// Whose it must be.
    uid: Option<u32>,
    /// The kernel names senders by descriptor.
    pidfds: bool,
    met: Option<Met>,
    status_until: Option<u64>,
    gone_until: Option<u64>,
}

impl Served {
    pub fn pid(&self) -> Option<u32> {
        self.met.as_ref().map(|met| met.pid)
    }

    /// Its number and descriptor, if it has spoken, and whether they are certain to be of one process.
    pub fn into_process(self) -> Option<(u32, OwnedFd, bool)> {
        self.met.map(|met| (met.pid, met.pidfd, met.certain))
    }

    /// Its number and descriptor, once they are certain to be of one process.
    pub fn process(&self) -> Option<(u32, BorrowedFd<'_>)> {
        self.met.as_ref().filter(|met| met.certain).map(|met| (met.pid, met.pidfd.as_fd()))
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
        let within = if matches!(killed, Ok(()) | Err(Errno::ESRCH)) { DEAD_WITHIN } else { GONE_WITHIN };
        self.gone_until.get_or_insert(now + within);
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

/// Whether a process has not ended.
pub fn lives(pidfd: BorrowedFd<'_>) -> bool {
    state(pidfd).is_empty()
}

/// Empty while a process lives; a hang-up once its parent has taken note of its end.
fn state(pidfd: BorrowedFd<'_>) -> PollFlags {
    let mut polled = [PollFd::new(pidfd, PollFlags::POLLIN)];
    // An error leaves no flags, and one more try.
    let _ = poll(&mut polled, PollTimeout::ZERO);
    let [polled] = polled;
    polled.revents().unwrap_or(PollFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;
    use std::os::unix::process::ExitStatusExt;

    use ipc::{FromEncode, FromLauncher};
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};

    use super::*;

    /// A service manager whose planes are this very process.
    struct Manager {
        directory: PathBuf,
        // Of packets, which it does not mind.
        listener: UnixListener,
    }

    impl Manager {
        fn new(name: &str) -> Self {
            let directory = std::env::temp_dir().join(format!("lumen-served-{}-{name}", std::process::id()));
            let _ = std::fs::remove_dir_all(&directory);
            std::fs::create_dir_all(directory.join("planes")).unwrap();
            let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
            bind(listener.as_raw_fd(), &UnixAddr::new(&directory.join("planes/encode.sock")).unwrap()).unwrap();
            listen(&listener, Backlog::new(4).unwrap()).unwrap();
            Self { directory, listener: listener.into() }
        }

        fn dial(&self) -> (Link, Served) {
            let sockets = Sockets { directory: self.directory.join("planes") };
            match sockets.plane(PlaneKind::Encode).unwrap() {
                (link, Body::Served(served)) => (link, served),
                (_, body) => panic!("{body:?}"),
            }
        }

        fn accept(&self) -> Link {
            Link::from_fd(self.listener.accept().unwrap().0.into()).unwrap()
        }
    }

    impl Drop for Manager {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }

    fn hear(link: &Link, served: &mut Served) -> Result<(), &'static str> {
        let received = link.recv::<FromEncode>().unwrap().unwrap();
        served.hear(link, received.sender, received.pidfd)
    }

    #[test]
    fn who_speaks_first_is_the_plane() {
        let manager = Manager::new("speaks");
        let (link, mut served) = manager.dial();
        let plane = manager.accept();
        assert!(served.pid().is_none() && served.pidfd().is_none() && served.reap(false, 0).is_none());
        plane.send(FromEncode::Pong(1)).unwrap();
        hear(&link, &mut served).unwrap();
        assert_eq!((served.pid(), served.deadline(false)), (Some(std::process::id()), None));
        let met = served.met.as_ref().unwrap();
        assert_eq!(met.certain, served.pidfds, "the kernel's word, or one to be confirmed");
        assert!(state(met.pidfd.as_fd()).is_empty() && served.reap(true, 0).is_none(), "it lives");
        plane.send(FromEncode::Pong(2)).unwrap();
        let received = link.recv::<FromEncode>().unwrap().unwrap();
        assert!(received.pidfd.is_none(), "one is enough");
        let another = Credentials { pid: received.sender.pid + 1, ..received.sender };
        assert!(served.hear(&link, another, None).is_err());
        served.hear(&link, received.sender, None).unwrap();
        assert!(served.met.as_ref().unwrap().certain);
    }

    #[test]
    fn another_user_s_plane_is_taken_of_the_system_s_manager_alone() {
        let manager = Manager::new("users");
        let (link, mut served) = manager.dial();
        let plane = manager.accept();
        plane.send(FromEncode::Pong(1)).unwrap();
        let received = link.recv::<FromEncode>().unwrap().unwrap();
        let other = Credentials { uid: received.sender.uid + 1, ..received.sender };
        assert_eq!(served.uid, Some(received.sender.uid), "this user's own manager");
        assert!(served.hear(&link, other, None).unwrap_err().contains("user"));
        served.uid = None;
        served.hear(&link, other, received.pidfd).unwrap();
    }

    #[test]
    fn a_plane_that_never_speaks_is_given_up_with_its_link() {
        let manager = Manager::new("silent");
        let (link, mut served) = manager.dial();
        served.kill(0);
        drop(link);
        assert_eq!(served.deadline(true), Some(0));
        assert!(matches!(served.reap(true, 0), Some(End::Unmet)));
    }

    #[test]
    fn a_plane_that_cannot_be_killed_is_abandoned_in_time() {
        let manager = Manager::new("abandoned");
        let (link, mut served) = manager.dial();
        manager.accept().send(FromEncode::Pong(1)).unwrap();
        hear(&link, &mut served).unwrap();
        // What is not certain to be it is not killed either: here it would be this test.
        served.met.as_mut().unwrap().certain = false;
        served.kill(5);
        assert_eq!(served.deadline(true), Some(5 + GONE_WITHIN));
        assert!(served.reap(true, 4 + GONE_WITHIN).is_none());
        assert!(matches!(served.reap(true, 5 + GONE_WITHIN), Some(End::Abandoned)));
    }

    #[test]
    fn a_plane_that_the_kernel_does_not_let_die_is_abandoned_too() {
        let mut child = std::process::Command::new("/bin/cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let met = Some(Met { pid: child.id(), pidfd: pidfd::open(child.id()).unwrap(), certain: true });
        let mut served = Served { uid: None, pidfds: true, met, status_until: None, gone_until: None };
        served.kill(3);
        assert_eq!(served.deadline(true), Some(3 + DEAD_WITHIN));
        assert_eq!(child.wait().unwrap().signal(), Some(9));
    }

    #[test]
    fn the_end_of_somebody_else_s_child_is_read_from_its_pidfd() {
        // The parent of this one has to take note of it first, which is this process, and decides when.
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "exit 75"]).spawn().unwrap();
        let pidfd = pidfd::open(child.id()).unwrap();
        let met = Some(Met { pid: child.id(), pidfd, certain: true });
        let mut served = Served { uid: None, pidfds: true, met, status_until: None, gone_until: None };
        let mut polled = [PollFd::new(served.pidfd().unwrap().0, PollFlags::POLLIN)];
        assert_eq!(poll(&mut polled, PollTimeout::from(20_000u16)), Ok(1));
        match served.reap(true, 7) {
            // It knows that it cannot know.
            Some(End::Unknown) => assert!(pidfd::status(served.pidfd().unwrap().0).is_err()),
            None => {
                assert_eq!(served.deadline(true), Some(7 + STATUS_WITHIN));
                assert_eq!(served.pidfd().unwrap().1, PollFlags::empty());
                child.wait().unwrap();
                match served.reap(true, 7) {
                    Some(End::Status(status)) => assert_eq!(status.code(), Some(75)),
                    Some(End::Unknown) => {}
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
        let _ = child.wait();
    }

    #[test]
    fn what_is_missing_is_named() {
        let manager = Manager::new("missing");
        assert!(Sockets::find(&manager.directory).unwrap_err().to_string().contains("planes/net.sock"));
        let sockets = Sockets { directory: manager.directory.join("planes") };
        let said = sockets.launcher().unwrap_err().to_string();
        assert!(said.contains("start lumen-launcher.socket"), "{said}");
        let (link, _) = sockets.plane(PlaneKind::Encode).unwrap();
        manager.accept().send(FromLauncher::Hello).unwrap();
        assert!(link.recv::<FromLauncher>().unwrap().is_some());
    }
}
