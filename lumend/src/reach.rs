//! Starting planes and keeping hold of them: a link, a process, and a pidfd that says when it has ended.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use ipc::codec::Message;
use ipc::link::{Link, LinkError};
use ipc::plane::{EXIT_REOPEN, LINK_FD};
use ipc::{Hello, PlaneKind, SessionId};
use nix::fcntl::{FcntlArg, fcntl};

use crate::grumbles::Grumbles;
use crate::machine::Exit;
use crate::rate::Rate;

/// Descriptors that a new plane must not find its link on top of.
const ABOVE_LINK: RawFd = 10;

/// Messages of one plane at once and in the long run. The busiest says a few a second for each of sixteen sessions, and
/// what a link holds may all come at once after lumend was stopped for a while.
const TALK_BURST: u32 = 1024;
const TALK_PER_SECOND: u32 = 256;

/// A binary that cannot be started. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}; install it beside lumend", path.display())]
pub struct MissingBinary {
    path: PathBuf,
    error: io::Error,
}

/// The planes' programs, opened once: an upgrade on disk does not break a running host.
#[derive(Debug)]
pub struct Binaries([(PlaneKind, OwnedFd); 5]);

impl Binaries {
    /// Opens the programs that lie in `directory`, which is lumend's own.
    pub fn open_beside(directory: &Path) -> Result<Self, MissingBinary> {
        let open = |kind: PlaneKind| {
            let path = directory.join(ipc::plane::name(kind));
            match File::open(&path).and_then(|file| above_link(file.as_fd())) {
                Ok(fd) => Ok((kind, fd)),
                Err(error) => Err(MissingBinary { path, error }),
            }
        };
        Ok(Self([
            open(PlaneKind::Capture)?,
            open(PlaneKind::Encode)?,
            open(PlaneKind::Net)?,
            open(PlaneKind::Input)?,
            open(PlaneKind::Audio)?,
        ]))
    }

    fn get(&self, kind: PlaneKind) -> BorrowedFd<'_> {
        let [capture, encode, net, input, audio] = &self.0;
        match kind {
            PlaneKind::Capture => capture.1.as_fd(),
            PlaneKind::Encode => encode.1.as_fd(),
            PlaneKind::Net => net.1.as_fd(),
            PlaneKind::Input => input.1.as_fd(),
            PlaneKind::Audio => audio.1.as_fd(),
        }
    }
}

/// A living process of a plane.
#[derive(Debug)]
pub struct Reach {
    pub kind: PlaneKind,
    pub session: Option<SessionId>,
    /// None once it is closed, by either side.
    link: Option<Link>,
    child: Child,
    pidfd: OwnedFd,
    /// What it said of itself, once checked.
    pub hello: Option<Hello>,
    /// By lumend, which has said why.
    pub killed: bool,
    pub grumbles: Grumbles,
    /// Of messages.
    talk: Rate,
}

impl Reach {
    /// Starts a plane with nothing but its link and a stderr: no arguments, no environment, no other descriptor.
    pub fn spawn(binaries: &Binaries, kind: PlaneKind, session: Option<SessionId>, now: u64) -> io::Result<Self> {
        let (grumbles, stderr) = Grumbles::pipe(now)?;
        let mut command = command(binaries.get(kind));
        command.arg0(ipc::plane::name(kind)).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let Linked { link, child, pidfd } = Linked::spawn(command)?;
        let talk = Rate::new(now, TALK_BURST, TALK_PER_SECOND);
        Ok(Self { kind, session, link: Some(link), child, pidfd, hello: None, killed: false, grumbles, talk })
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Readable once the process has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// The order to stop.
    pub fn close(&mut self) {
        self.link = None;
    }

    /// Sends without waiting; a link that is closed already swallows the message, as its end is on its way.
    pub fn send<M: Message>(&self, message: M) -> Result<(), LinkError> {
        self.link.as_ref().map_or(Ok(()), |link| link.send(message))
    }

    /// Takes the next message. Words of any other process than the one that was started are a violation, and so is
    /// talk without end, which would keep lumend from its work.
    pub fn recv<M: Message>(&mut self, now: u64) -> Result<Option<M>, LinkError> {
        let Some(link) = &self.link else { return Ok(None) };
        let received = link.recv::<M>()?;
        if received.is_some() && !self.talk.take(now) {
            return Err(LinkError::Malformed("it talks without end"));
        }
        match received {
            Some(received) if received.sender.pid.cast_unsigned() != self.pid() => {
                Err(LinkError::Malformed("it was sent by another process"))
            }
            other => Ok(other.map(|received| received.message)),
        }
    }

    /// Checks the first message. The error is the reason to kill it.
    pub fn greet(&mut self, hello: Hello) -> Result<(), String> {
        if hello.kind != self.kind {
            return Err(format!("a {} plane answers in its place", hello.kind));
        }
        if hello.build != ipc::BUILD {
            let build = hello.build.escape_debug();
            return Err(format!("it is build {build}, lumend is {}: install both of one build", ipc::BUILD));
        }
        self.hello = Some(hello);
        Ok(())
    }

    pub fn kill(&mut self) {
        self.link = None;
        self.killed = true;
        // An error would mean that it has ended, which is what is wanted.
        let _ = self.child.kill();
    }

    /// Takes the exit status, if there is one.
    pub fn reap(&mut self) -> Option<Exit> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(exit(status)),
            Err(error) => Some(Exit::Crashed(format!("its status is lost: {error}"))),
        }
    }
}

/// A program that was opened before; its descriptor must be one of [`above_link`].
pub fn command(program: BorrowedFd<'_>) -> Command {
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    // Of its own group: a key press in lumend's terminal is lumend's to answer.
    command.current_dir("/").process_group(0);
    command
}

/// A child with a link on its fd 3, where planes and the launcher look for it.
#[derive(Debug)]
pub struct Linked {
    pub link: Link,
    pub child: Child,
    /// Readable once the child has ended.
    pub pidfd: OwnedFd,
}

impl Linked {
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let (link, theirs) = Link::pair()?;
        let theirs = above_link(theirs.into_fd().as_fd())?;
        // The standard library's own pipe to the child must not be where the link is going to be.
        let _occupied = dup_from(theirs.as_fd(), LINK_FD)?;
        let link_fd = theirs.as_raw_fd();
        // SAFETY: between fork and exec only `dup2` is called, which is async-signal-safe; `theirs` lives until the
        // child has been started.
        unsafe {
            command.pre_exec(move || {
                // The copy is not close-on-exec; everything else lumend has open is.
                if libc::dup2(link_fd, LINK_FD) < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let mut child = command.spawn()?;
        match pidfd_open(child.id()) {
            Ok(pidfd) => Ok(Self { link, child, pidfd }),
            Err(error) => {
                // Nobody would learn of its end.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(0), _) => Exit::Stopped,
        (Some(code), _) if code == i32::from(EXIT_REOPEN) => Exit::Reopen,
        (Some(code), _) => Exit::Crashed(format!("exit status {code}")),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => Exit::Crashed(name.as_str().to_owned()),
            Err(_) => Exit::Crashed(format!("signal {signal}")),
        },
        (None, None) => Exit::Crashed(status.to_string()),
    }
}

/// A close-on-exec copy that is not in the way of a plane's link.
pub fn above_link(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    dup_from(fd, ABOVE_LINK)
}

fn dup_from(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// A pidfd of a child that has not been waited for, so that the number cannot be another process's by now.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new (and close-on-exec, as pidfds are) and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
