//! Processes by descriptor: what the number of one cannot say, since it may be another's by now.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::sys::signal::Signal;

/// A pidfd of the process that has this number now. Only of a child that has not been waited for is it certain which.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = RawFd::try_from(fd).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new (and close-on-exec, as pidfds are) and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether this descriptor is of a process: the kernel then has a line on which, below /proc.
pub fn is_one(fd: BorrowedFd<'_>) -> bool {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))
        .is_ok_and(|text| text.lines().any(|line| line.starts_with("Pid:")))
}

/// SIGKILL.
pub fn kill(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null pointer asks for what kill(2) would send.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), Signal::SIGKILL as libc::c_int, none, 0)
    };
    Errno::result(sent).map(|_| ())
}

/// How a process ended that somebody else is the parent of. None until that parent has taken note. An error on a kernel
/// before 6.13, which cannot tell, and of a process that ended on one before 6.15.
pub fn status(pidfd: BorrowedFd<'_>) -> Result<Option<ExitStatus>, Errno> {
    // SAFETY: all-zero bytes are a valid pidfd_info, which is integers.
    let mut info: libc::pidfd_info = unsafe { std::mem::zeroed() };
    info.mask = u64::from(libc::PIDFD_INFO_EXIT);
    // SAFETY: the request's number says how large the structure is that the pointer leads to, and it lives on.
    Errno::result(unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) })?;
    let told = info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0;
    Ok(told.then(|| ExitStatus::from_raw(info.exit_code)))
}
