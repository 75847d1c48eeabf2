//! Sockets that a service manager has kept since an earlier lumend, so that no port was lost and no datagram with it. Each
//! is used only if it is what would be bound anew.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::sockopt::{AcceptConn, Ipv6V6Only, SockType as Kind};
use nix::sys::socket::{SockType, SockaddrStorage, getpeername, getsockname, getsockopt};

use super::address_of;

/// By name. Those that nobody takes are closed with it.
#[derive(Debug, Default)]
pub struct Kept(Vec<(String, OwnedFd)>);

impl Kept {
    pub fn new(sockets: Vec<(String, OwnedFd)>) -> Self {
        Self(sockets)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, BorrowedFd<'_>)> {
        self.0.iter().map(|(name, fd)| (name.as_str(), fd.as_fd()))
    }

    /// Takes out what is no socket, going by its name.
    pub fn split_off(&mut self, belongs: impl Fn(&str) -> bool) -> Vec<(String, OwnedFd)> {
        let (theirs, rest) = std::mem::take(&mut self.0).into_iter().partition(|(name, _)| belongs(name));
        self.0 = rest;
        theirs
    }

    /// The socket of this name, if it is bound to `at` (port 0: to any port there), a listener if it is a TCP socket, and
    /// nobody has connected it. What does not fit stays: another address may be tried.
    pub fn take(&mut self, name: &str, kind: SockType, at: SocketAddr) -> Option<OwnedFd> {
        let fits = |(kept, fd): &(String, OwnedFd)| kept == name && is_it(fd.as_fd(), kind, at);
        let at = self.0.iter().position(fits)?;
        Some(self.0.remove(at).1)
    }
}

fn is_it(fd: BorrowedFd<'_>, kind: SockType, at: SocketAddr) -> bool {
    let raw = fd.as_raw_fd();
    let bound = getsockname::<SockaddrStorage>(raw).ok().as_ref().and_then(address_of);
    let connected = getpeername::<SockaddrStorage>(raw);
    getsockopt(&fd, Kind) == Ok(kind)
        && bound.is_some_and(|bound| bound.ip() == at.ip() && (at.port() == 0 || bound.port() == at.port()))
        && connected == Err(Errno::ENOTCONN)
        && getsockopt(&fd, AcceptConn) == Ok(kind == SockType::Stream)
        && (at.is_ipv4() || getsockopt(&fd, Ipv6V6Only) == Ok(false))
        // It lies with the socket, not with the descriptor: whoever had it may have changed that.
        && fcntl(fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn kept(name: &str, fd: impl Into<OwnedFd>) -> Kept {
        Kept::new(vec![(name.to_owned(), fd.into())])
    }

    #[test]
    fn what_does_not_fit_here_may_fit_elsewhere() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = socket.local_addr().unwrap();
        let mut kept = kept("quic", socket);
        // As on a kernel without IPv6, where every address is tried in both families.
        let wide = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, at.port()));
        assert!(kept.take("quic", SockType::Datagram, wide).is_none());
        assert!(kept.take("quic", SockType::Datagram, at).is_some());
    }

    #[test]
    fn only_what_would_be_bound_anew_is_used() {
        let udp = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let socket = udp();
        let at = socket.local_addr().unwrap();
        let any = SocketAddr::new(at.ip(), 0);
        let inode = |fd: &OwnedFd| nix::sys::stat::fstat(fd).unwrap().st_ino;
        let expected = inode(&socket.try_clone().unwrap().into());
        for wanted in [at, any] {
            let mut kept = kept("quic", socket.try_clone().unwrap());
            assert!(kept.take("media", SockType::Datagram, wanted).is_none());
            let taken = kept.take("quic", SockType::Datagram, wanted).unwrap();
            assert_eq!(inode(&taken), expected);
            assert!(kept.take("quic", SockType::Datagram, wanted).is_none(), "given away once");
        }
        let other = SocketAddr::new(at.ip(), at.port() ^ 1);
        assert!(kept("quic", socket.try_clone().unwrap()).take("quic", SockType::Datagram, other).is_none());
        assert!(kept("quic", socket.try_clone().unwrap()).take("quic", SockType::Stream, at).is_none());
        let wide = SocketAddr::from(([0, 0, 0, 0], at.port()));
        assert!(kept("quic", socket.try_clone().unwrap()).take("quic", SockType::Datagram, wide).is_none());
        socket.connect(at).unwrap();
        assert!(kept("quic", socket).take("quic", SockType::Datagram, at).is_none(), "sealed off");

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        assert!(kept("http", listener.try_clone().unwrap()).take("http", SockType::Stream, at).is_some());
        let connection = std::net::TcpStream::connect(at).unwrap();
        let here = connection.local_addr().unwrap();
        assert!(kept("http", connection).take("http", SockType::Stream, here).is_none());

        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(kept("quic", file).take("quic", SockType::Datagram, any).is_none());
    }
}
