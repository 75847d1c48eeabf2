//! Planes and launchers as children of lumend's: programs that were opened before, and a link on fd 3.

#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use ipc::PlaneKind;
use ipc::link::Link;
use ipc::plane::LINK_FD;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::Signal;

use super::pidfd;

/// Descriptors that a new plane must not find its link on top of.
const ABOVE_LINK: RawFd = 10;

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

    pub(super) fn get(&self, kind: PlaneKind) -> BorrowedFd<'_> {
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

/// A program that was opened before; its descriptor must be one of [`above_link`].
pub fn command(program: BorrowedFd<'_>) -> Command {
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    // Of its own group: a key press in lumend's terminal is lumend's to answer.
    command.current_dir("/").process_group(0);
    command
}

/// The child is killed when this process dies, whether or not it looks at its link: nobody else would know of it.
pub fn dies_with_us(command: &mut Command) {
    let parent = nix::unistd::getpid();
    // SAFETY: between fork and exec only prctl and getppid are called, which are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
            // It may have died before.
            if nix::unistd::getppid() == parent { Ok(()) } else { Err(io::Error::from(io::ErrorKind::BrokenPipe)) }
        });
    }
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
        // SAFETY: between fork and exec only `dup2` and `close_range` are called, which are async-signal-safe; `theirs`
        // lives until the child has been started.
        unsafe {
            command.pre_exec(move || {
                // The copy is not close-on-exec; everything else lumend has opened is. What whoever started lumend left
                // open in it is none of the child's business either; kernels before 5.11 cannot be told so.
                if libc::dup2(link_fd, LINK_FD) < 0 {
                    return Err(io::Error::last_os_error());
                }
                let above = LINK_FD.cast_unsigned() + 1;
                libc::syscall(libc::SYS_close_range, above, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        match pidfd::open(child.id()) {
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

/// A close-on-exec copy that is not in the way of a plane's link.
pub fn above_link(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    dup_from(fd, ABOVE_LINK)
}

fn dup_from(fd: BorrowedFd<'_>, lowest: RawFd) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}
