//! The SEQPACKET socket between lumend and a plane: typed messages, descriptors and the sender's credentials.
//!
//! Neither end ever blocks on a send. Whoever does not read what it is sent is dead, and [`LinkError::Full`] says so.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockname, getsockopt, sendmsg,
    setsockopt, socket, socketpair, sockopt,
};

use crate::codec::{Incoming, MAX_BODY, MAX_FDS, Malformed, Message, Outgoing};
use crate::event::wait_readable;
use crate::notify::Manager;

/// Why a link is of no more use. After any of these the owner drops it.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the link was closed by the other end")]
    Closed,
    #[error("the other end does not read its messages")]
    Full,
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    #[error("link failed: {0}")]
    Io(#[from] io::Error),
}

impl From<Malformed> for LinkError {
    fn from(Malformed(reason): Malformed) -> Self {
        Self::Malformed(reason)
    }
}

/// Who sent a message, as the kernel tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Credentials {
    /// 0 if the sender lives in a pid namespace that this process cannot see into.
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// A message and its sender.
#[derive(Debug)]
pub struct Received<M> {
    pub message: M,
    pub sender: Credentials,
    /// The sender itself, where [`Link::ask_for_pidfds`] was answered and the process is not gone yet.
    pub pidfd: Option<OwnedFd>,
}

/// One end of a link.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
    /// Told of what goes over a plane's link; see [`crate::notify`].
    manager: Option<Manager>,
}

impl Link {
    /// Two connected ends, both close-on-exec and both set to receive credentials.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // Before the first message on either: one sent earlier would carry no credentials.
        setsockopt(&left, sockopt::PassCred, &true)?;
        setsockopt(&right, sockopt::PassCred, &true)?;
        Ok((Self::new(left), Self::new(right)))
    }

    const fn new(fd: OwnedFd) -> Self {
        Self { fd, manager: None }
    }

    /// Connects without waiting to the socket at `path`, on which a service manager listens that starts a plane for each
    /// connection.
    pub fn dial(path: &Path) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
        setsockopt(&fd, sockopt::PassCred, &true)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok(Self::new(fd))
    }

    /// From now on, or no more, a pidfd of its sender comes with each message. An error on a kernel before 6.5.
    pub fn ask_for_pidfds(&self, wanted: bool) -> io::Result<()> {
        let wanted = libc::c_int::from(wanted);
        let size = size_of_val(&wanted) as libc::socklen_t;
        let fd = self.fd.as_raw_fd();
        // SAFETY: the option's value is an int, which lives until the call returns.
        let done =
            unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_PASSPIDFD, (&raw const wanted).cast(), size) };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Another descriptor of the same end.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self::new(self.fd.try_clone()?))
    }

    /// A plane's end: `manager` is told when a ping is answered, and of the session that the plane serves.
    pub(crate) fn watched_by(self, manager: Option<Manager>) -> Self {
        Self { manager, ..self }
    }

    /// Takes over an inherited end; checks that it is a local SEQPACKET socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, LinkError> {
        let is_unix = getsockname::<UnixAddr>(fd.as_raw_fd()).is_ok();
        if !is_unix || getsockopt(&fd, sockopt::SockType) != Ok(SockType::SeqPacket) {
            return Err(LinkError::Malformed("the descriptor is not a link"));
        }
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(io::Error::from)?;
        setsockopt(&fd, sockopt::PassCred, &true).map_err(io::Error::from)?;
        Ok(Self::new(fd))
    }

    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }

    /// Sends one message and the descriptors in it, which are closed here. Never blocks: [`LinkError::Full`] means
    /// that the other end has stopped reading.
    pub fn send<M: Message>(&self, message: M) -> Result<(), LinkError> {
        let mut outgoing = Outgoing::new();
        let pong = message.is_pong();
        message.encode(&mut outgoing)?;
        match send_fds(self.fd.as_fd(), outgoing.body(), outgoing.fds()) {
            Ok(()) => {}
            // ETOOMANYREFS: too many descriptors wait in queues that nobody reads.
            Err(Errno::EAGAIN | Errno::ETOOMANYREFS) => return Err(LinkError::Full),
            Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => return Err(LinkError::Closed),
            Err(error) => return Err(LinkError::Io(error.into())),
        }
        if let Some(manager) = self.manager.as_ref().filter(|_| pong) {
            manager.alive();
        }
        Ok(())
    }

    /// Takes the next message; `None` if there is none yet.
    pub fn recv<M: Message>(&self) -> Result<Option<Received<M>>, LinkError> {
        let mut body = [0; MAX_BODY];
        let Some(packet) = self.recv_packet(&mut body)? else { return Ok(None) };
        let sender = packet.sender.ok_or(LinkError::Malformed("no credentials came with the message"))?;
        let message = M::decode(Incoming::new(&body[..packet.len], packet.fds))?;
        if let (Some(manager), Some(session)) = (&self.manager, message.session()) {
            manager.serves(session);
        }
        Ok(Some(Received { message, sender, pidfd: packet.pidfd }))
    }

    fn recv_packet(&self, body: &mut [u8; MAX_BODY]) -> Result<Option<Packet>, LinkError> {
        let mut reset = false;
        loop {
            return match receive(self.fd.as_fd(), body) {
                Ok(packet) if packet.is_end() => Err(LinkError::Closed),
                Ok(packet) => packet.check().map(Some),
                Err(Errno::EAGAIN) => Ok(None),
                Err(Errno::EINTR) => continue,
                // Told once when the other end closed with messages unread. What it wrote before is still queued, its
                // last words among it.
                Err(Errno::ECONNRESET) if !reset => {
                    reset = true;
                    continue;
                }
                Err(Errno::ECONNRESET | Errno::ENOTCONN) => Err(LinkError::Closed),
                Err(error) => Err(LinkError::Io(error.into())),
            };
        }
    }

    /// Waits for a message or for the other end to close; false if `timeout` went by first.
    pub fn wait_readable(&self, timeout: Duration) -> io::Result<bool> {
        wait_readable(self.fd.as_fd(), Some(timeout))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Sends `body` and `fds` to whoever `socket` is connected to, without waiting: the one function in Lumen that sends
/// descriptors.
pub(crate) fn send_fds(socket: BorrowedFd<'_>, body: &[u8], fds: &[OwnedFd]) -> Result<(), Errno> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(body)], control, flags, None) {
            Err(Errno::EINTR) => {}
            sent => return sent.map(|_| ()),
        }
    }
}

/// What one call of recvmsg brought.
struct Packet {
    len: usize,
    fds: Vec<OwnedFd>,
    sender: Option<Credentials>,
    pidfd: Option<OwnedFd>,
    flags: libc::c_int,
}

impl Packet {
    /// An empty packet has credentials, the end of the stream has not.
    fn is_end(&self) -> bool {
        self.len == 0 && self.sender.is_none() && self.fds.is_empty() && self.flags & libc::MSG_CTRUNC == 0
    }

    fn check(self) -> Result<Self, LinkError> {
        if self.flags & libc::MSG_TRUNC != 0 {
            return Err(LinkError::Malformed("the message is larger than 4 KiB"));
        }
        if self.flags & libc::MSG_CTRUNC != 0 {
            return Err(LinkError::Malformed("not all descriptors of the message could be received"));
        }
        if self.fds.len() > MAX_FDS {
            return Err(LinkError::Malformed("the message has more than 64 descriptors"));
        }
        Ok(self)
    }
}

/// Room for as many descriptors as the kernel lets one message carry (253), for credentials and a pidfd: whatever a peer
/// attaches is seen here, and closed, instead of being left open by a truncated control buffer.
const CONTROL_BYTES: usize = 1152;

/// Of linux/socket.h.
const SCM_PIDFD: libc::c_int = 4;

#[repr(C, align(16))]
struct Control([u8; CONTROL_BYTES]);

/// recvmsg by hand: the safe wrapper refuses to list the descriptors of a truncated message, which would leak them.
fn receive(socket: BorrowedFd<'_>, body: &mut [u8; MAX_BODY]) -> Result<Packet, Errno> {
    let mut control = Control([0; CONTROL_BYTES]);
    let mut vector = libc::iovec { iov_base: body.as_mut_ptr().cast(), iov_len: body.len() };
    // SAFETY: all-zero bytes are a valid msghdr, which is integers and pointers.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut vector;
    header.msg_iovlen = 1;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = CONTROL_BYTES as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the header points at a body and a control buffer that live until the end of this function, with their
    // true sizes.
    let len = Errno::result(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags) })?;
    let mut packet = Packet { len: len as usize, fds: Vec::new(), sender: None, pidfd: None, flags: header.msg_flags };
    // SAFETY: the kernel has filled in the header and its control buffer; the macros stay within msg_controllen.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    while !message.is_null() {
        // SAFETY: not null, so a whole control message header within the buffer, aligned as `Control` is.
        let (level, kind, size) = unsafe { ((*message).cmsg_level, (*message).cmsg_type, (*message).cmsg_len) };
        // SAFETY: computes an address within the control message.
        let data = unsafe { libc::CMSG_DATA(message) };
        let data_len = size - (data as usize - message as usize);
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                for index in 0..data_len / size_of::<RawFd>() {
                    // SAFETY: the kernel has written `data_len` bytes of descriptors that are new to this process
                    // and owned by nobody yet.
                    let fd = unsafe { OwnedFd::from_raw_fd(data.cast::<RawFd>().add(index).read_unaligned()) };
                    packet.fds.push(fd);
                }
            }
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if data_len >= size_of::<libc::ucred>() => {
                // SAFETY: the length is checked, and a ucred is three integers.
                let ucred = unsafe { data.cast::<libc::ucred>().read_unaligned() };
                packet.sender = Some(Credentials { pid: ucred.pid, uid: ucred.uid, gid: ucred.gid });
            }
            (libc::SOL_SOCKET, SCM_PIDFD) if data_len >= size_of::<RawFd>() => {
                // SAFETY: the length is checked, and the kernel has written an int.
                let fd = unsafe { data.cast::<RawFd>().read_unaligned() };
                // Below zero it is the reason why there is none: the sender is gone.
                if fd >= 0 {
                    // SAFETY: the descriptor is new to this process and owned by nobody yet.
                    packet.pidfd = Some(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
            _ => {}
        }
        // SAFETY: as for the first one.
        message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    Ok(packet)
}
