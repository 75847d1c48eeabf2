//! Words to the service manager that started this process, as sd_notify(3) has them: a datagram each, never waited for.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};

use crate::SessionId;
use crate::link::send_fds;

/// A socket that is connected to the manager's.
#[derive(Debug)]
pub struct Manager(OwnedFd);

impl Manager {
    /// `name` is what NOTIFY_SOCKET says: a path, or an abstract name after an `@`.
    pub fn connect(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_encoded_bytes().split_first() {
            Some((b'@', rest)) => UnixAddr::new_abstract(rest)?,
            _ => UnixAddr::new(Path::new(name))?,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        connect(fd.as_raw_fd(), &address)?;
        Ok(Self(fd))
    }

    /// Lines of `NAME=VALUE`. Written, not sent: a sealed plane can then be kept from sending to any other address with
    /// this socket.
    pub fn tell(&self, lines: &str) -> io::Result<()> {
        match nix::unistd::write(&self.0, lines.as_bytes()) {
            Ok(_) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives `fd` to the manager to keep while this process lives and until its successor has it.
    pub fn store(&self, name: &str, fd: OwnedFd) -> io::Result<()> {
        // Not polled: what happens to a socket is its owner's business.
        let lines = format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0");
        Ok(send_fds(self.0.as_fd(), lines.as_bytes(), &[fd])?)
    }

    /// A plane has answered a ping. A manager that is not there, or does not listen, goes without, here and below.
    pub(crate) fn alive(&self) {
        let _ = self.tell("WATCHDOG=1");
    }

    pub(crate) fn ready(&self) {
        let _ = self.tell("READY=1");
    }

    pub(crate) fn serves(&self, session: SessionId) {
        let _ = self.tell(&format!("STATUS=serves session {}", session.0));
    }
}

impl AsFd for Manager {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
