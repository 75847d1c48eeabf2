//! The SEQPACKET socket between lumend and a plane: typed messages, descriptors and the sender's credentials.
//!
//! Neither end ever blocks on a send. Whoever does not read what it is sent is dead, and [`LinkError::Full`] says so.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, getsockname, getsockopt, sendmsg,
    setsockopt, socketpair, sockopt,
};

use crate::codec::{Incoming, MAX_BODY, MAX_FDS, Malformed, Message, Outgoing};
use crate::event::wait_readable;

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
}

/// One end of a link.
#[derive(Debug)]
pub struct Link(OwnedFd);

impl Link {
    /// Two connected ends, both close-on-exec and both set to receive credentials.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (left, right) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // Before the first message on either: one sent earlier would carry no credentials.
        setsockopt(&left, sockopt::PassCred, &true)?;
        setsockopt(&right, sockopt::PassCred, &true)?;
        Ok((Self(left), Self(right)))
    }

    /// Takes over an inherited end; checks that it is a local SEQPACKET socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Self, LinkError> {
        let is_unix = getsockname::<UnixAddr>(fd.as_raw_fd()).is_ok();
        if !is_unix || getsockopt(&fd, sockopt::SockType) != Ok(SockType::SeqPacket) {
            return Err(LinkError::Malformed("the descriptor is not a link"));
        }
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(io::Error::from)?;
        setsockopt(&fd, sockopt::PassCred, &true).map_err(io::Error::from)?;
        Ok(Self(fd))
    }

    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// Sends one message and the descriptors in it, which are closed here. Never blocks: [`LinkError::Full`] means
    /// that the other end has stopped reading.
    pub fn send<M: Message>(&self, message: M) -> Result<(), LinkError> {
        let mut outgoing = Outgoing::new();
        message.encode(&mut outgoing)?;
        self.send_fds(outgoing.body(), outgoing.fds())
    }

    /// The one function in Lumen that sends descriptors.
    fn send_fds(&self, body: &[u8], fds: &[OwnedFd]) -> Result<(), LinkError> {
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            return match sendmsg::<()>(self.0.as_raw_fd(), &[IoSlice::new(body)], control, flags, None) {
                Ok(_) => Ok(()),
                Err(Errno::EINTR) => continue,
                // ETOOMANYREFS: too many descriptors wait in queues that nobody reads.
                Err(Errno::EAGAIN | Errno::ETOOMANYREFS) => Err(LinkError::Full),
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => Err(LinkError::Closed),
                Err(error) => Err(LinkError::Io(error.into())),
            };
        }
    }

    /// Takes the next message; `None` if there is none yet.
    pub fn recv<M: Message>(&self) -> Result<Option<Received<M>>, LinkError> {
        let mut body = [0; MAX_BODY];
        let Some(packet) = self.recv_packet(&mut body)? else { return Ok(None) };
        let sender = packet.sender.ok_or(LinkError::Malformed("no credentials came with the message"))?;
        let message = M::decode(Incoming::new(&body[..packet.len], packet.fds))?;
        Ok(Some(Received { message, sender }))
    }

    fn recv_packet(&self, body: &mut [u8; MAX_BODY]) -> Result<Option<Packet>, LinkError> {
        let mut reset = false;
        loop {
            return match receive(self.0.as_fd(), body) {
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
        wait_readable(self.0.as_fd(), Some(timeout))
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What one call of recvmsg brought.
struct Packet {
    len: usize,
    fds: Vec<OwnedFd>,
    sender: Option<Credentials>,
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

/// Room for as many descriptors as the kernel lets one message carry (253) and for credentials: whatever a peer
/// attaches is seen here, and closed, instead of being left open by a truncated control buffer.
const CONTROL_BYTES: usize = 1152;

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
    let mut packet = Packet { len: len as usize, fds: Vec::new(), sender: None, flags: header.msg_flags };
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
            _ => {}
        }
        // SAFETY: as for the first one.
        message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    Ok(packet)
}
