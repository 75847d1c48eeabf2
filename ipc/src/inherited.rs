//! Descriptors that a process finds open when it starts: a plane's link, and what a service manager has kept.

#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};

/// The descriptor that the link arrives on, with a spawned plane as with a socket-activated one. The first that a service
/// manager passes.
pub const LINK_FD: RawFd = 3;

/// Descriptors that are taken from a service manager at once: as many as lumend's units let it keep.
const MOST: RawFd = 512;

/// The link that this process was started with, or none if it was started by hand.
///
/// Call it once, first thing in `main`: the descriptor must not belong to anything yet.
pub fn link() -> Option<OwnedFd> {
    let fd = take(LINK_FD)?;
    (getsockopt(&fd, sockopt::SockType) == Ok(SockType::SeqPacket)).then_some(fd)
}

/// What a service manager has kept for this process since an earlier run, with its names, as sd_listen_fds(3) has it. They
/// are close-on-exec here, and hostile: what each is has to be looked at.
///
/// Call it once, first thing in `main`: the descriptors must not belong to anything yet.
pub fn kept() -> Vec<(String, OwnedFd)> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    if variable("LISTEN_PID").parse() != Ok(std::process::id()) {
        return Vec::new();
    }
    let count = variable("LISTEN_FDS").parse().unwrap_or(0).clamp(0, MOST);
    let names = variable("LISTEN_FDNAMES");
    let names = names.split(':').map(str::to_owned).chain(std::iter::repeat(String::new()));
    let fds = (LINK_FD..LINK_FD + count).map(take);
    names.zip(fds).filter_map(|(name, fd)| Some((name, fd?))).collect()
}

fn take(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD touches no memory.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: the descriptor is open, and nothing in this process has run that could own it: see the callers.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // It cannot fail on an open descriptor.
    let _ = fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC));
    Some(fd)
}
