//! The socket to a service manager is of a kind that could send to any address that its user may write to. What it is
//! connected to it may be told with `write`; whatever could name another address, or copy the descriptor for that, is
//! denied.
//!
//! A filter knows a descriptor by its number alone. A plane in bad hands that has somebody at the other end of a local
//! socket to help it, as the desktop may be, can send this one there and have it back under a second number, with which it
//! may name addresses. What it reaches so, the permissions of those sockets decide, for a user that owns nothing.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, BorrowedFd};

use seccompiler::SeccompAction;

use super::SandboxError;
use super::seccomp::{compile, equal, rule};

/// Of this number. For all threads, beside the other filters and before them.
pub fn only_write(socket: BorrowedFd<'_>) -> Result<(), SandboxError> {
    let fd = socket.as_raw_fd().cast_unsigned();
    let mut denied = BTreeMap::new();
    for call in [libc::SYS_sendmsg, libc::SYS_sendto, libc::SYS_sendmmsg] {
        denied.insert(call, vec![rule(&[equal(0, fd)])?]);
    }
    let copies = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC].map(i32::cast_unsigned);
    let copies = copies.map(|copy| rule(&[equal(0, fd), equal(1, copy)])).into_iter().collect::<Result<_, _>>()?;
    denied.insert(libc::SYS_fcntl, copies);
    let program = compile(denied, SeccompAction::Allow, SeccompAction::Errno(libc::EPERM as u32))?;
    seccompiler::apply_filter_all_threads(&program).map_err(SandboxError::Install)
}
