//! The network sockets: lumend binds them, the network plane reads them. Those here are of lumen/1.

pub mod gamestream;
mod kept;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv6V6Only, RcvBuf, ReuseAddr, SndBuf};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, getsockname, sendto, setsockopt,
    socket,
};

pub use self::kept::Kept;
use crate::config::{Address, Listen};

/// Bytes asked for each way; the kernel gives what its limits allow. A frame's burst should fit.
const BUFFER: usize = 2 << 20;

/// A port that cannot be had. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("UDP port {port} on {address} is in use: stop what uses it, or set listen.port to another")]
    InUse { address: IpAddr, port: u16 },
    #[error("cannot listen on {address} UDP port {port}: {error}; see listen.address and listen.port")]
    Other { address: IpAddr, port: u16, error: io::Error },
}

/// Names of what is kept.
const QUIC: &str = "lumen-quic";
const MEDIA: &str = "lumen-media";

/// What may have a port already.
enum Old<'a> {
    /// Sockets of an earlier lumend, to be used again.
    Kept(&'a mut Kept),
    /// A socket that this one is to replace.
    Shared,
}

impl Old<'_> {
    fn again(&mut self) -> Old<'_> {
        match self {
            Self::Kept(kept) => Old::Kept(kept),
            Self::Shared => Old::Shared,
        }
    }
}

/// The bound pair and where it is reached.
#[derive(Debug)]
pub struct Sockets {
    pub quic: OwnedFd,
    pub media: OwnedFd,
    pub quic_address: SocketAddr,
    pub media_address: SocketAddr,
}

impl Sockets {
    /// Binds both, or takes those that were kept. With `open` an automatic address is every one this machine has, else
    /// loopback.
    pub fn bind(listen: &Listen, open: bool, kept: &mut Kept) -> Result<Self, BindError> {
        let address = match listen.address {
            Address::Ip(address) => address,
            Address::Auto if open => return Self::everywhere(listen.port, listen.media_port(), Old::Kept(kept)),
            Address::Auto => IpAddr::V4(Ipv4Addr::LOCALHOST),
        };
        Self::at(address, listen.port, listen.media_port(), Old::Kept(kept))
    }

    /// A second pair on the same ports and every address, to take over from this one.
    pub fn widen(&self) -> Result<Self, BindError> {
        let (port, media_port) = (self.quic_address.port(), self.media_address.port());
        // Sharing a port needs the wish of both sockets; it is withdrawn from the new ones below, so that another
        // program's bind fails as it should.
        for old in [&self.quic, &self.media] {
            setsockopt(old, ReuseAddr, &true).map_err(|errno| other(self.quic_address.ip(), port, errno))?;
        }
        Self::everywhere(port, media_port, Old::Shared)
    }

    /// Whether a network plane can still send with these. One in bad hands may have shut them down, for everybody who
    /// holds them and for good.
    pub fn can_send(&self) -> bool {
        can_send(&self.quic, self.quic_address) && can_send(&self.media, self.media_address)
    }

    /// A fresh pair in the place of this one, although another process may still hold on to this.
    pub fn renew(&self) -> Result<Self, BindError> {
        let (address, port, media_port) = (self.quic_address.ip(), self.quic_address.port(), self.media_address.port());
        for old in [&self.quic, &self.media] {
            setsockopt(old, ReuseAddr, &true).map_err(|errno| other(address, port, errno))?;
        }
        Self::at(address, port, media_port, Old::Shared)
    }

    /// Lets no more datagrams reach these sockets, wherever they are still open. They are bound more narrowly than
    /// their successors on the same ports, and would go on taking what comes over loopback.
    pub fn seal_off(&self) -> io::Result<()> {
        for (fd, address) in [(&self.quic, self.quic_address), (&self.media, self.media_address)] {
            // A connected socket hears its peer alone, and nobody can be this one: its port is the socket's own.
            connect(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        }
        Ok(())
    }

    fn everywhere(port: u16, media_port: u16, mut old: Old<'_>) -> Result<Self, BindError> {
        match Self::at(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port, media_port, old.again()) {
            // A kernel without IPv6.
            Err(BindError::Other { .. }) => Self::at(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port, media_port, old),
            done => done,
        }
    }

    fn at(address: IpAddr, port: u16, media_port: u16, mut old: Old<'_>) -> Result<Self, BindError> {
        let (quic, quic_address) = udp(QUIC, address, port, old.again())?;
        let (media, media_address) = udp(MEDIA, address, media_port, old)?;
        Ok(Self { quic, media, quic_address, media_address })
    }

    /// To be kept for a successor.
    pub fn named(&self) -> [(&'static str, BorrowedFd<'_>); 2] {
        [(QUIC, self.quic.as_fd()), (MEDIA, self.media.as_fd())]
    }

    /// Descriptors for a network plane.
    pub fn try_clone(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        Ok((self.quic.try_clone()?, self.media.try_clone()?))
    }
}

/// Tries it with an empty datagram to the socket itself, which means nothing there. False only where it was shut down.
fn can_send(socket: &OwnedFd, bound: SocketAddr) -> bool {
    let to = match bound.ip() {
        IpAddr::V4(any) if any.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(any) if any.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        address => address,
    };
    let to = SockaddrStorage::from(SocketAddr::new(to, bound.port()));
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    sendto(socket.as_raw_fd(), &[], &to, flags) != Err(Errno::EPIPE)
}

fn other(address: IpAddr, port: u16, errno: Errno) -> BindError {
    BindError::Other { address, port, error: errno.into() }
}

fn udp(name: &str, address: IpAddr, port: u16, old: Old<'_>) -> Result<(OwnedFd, SocketAddr), BindError> {
    let shared = match old {
        Old::Shared => true,
        Old::Kept(kept) => {
            let kept = kept.take(name, SockType::Datagram, SocketAddr::new(address, port));
            let kept = kept.and_then(|fd| Some((bound(&fd).ok()?, fd))).filter(|(bound, fd)| can_send(fd, *bound));
            if let Some((bound, fd)) = kept {
                return Ok((fd, SocketAddr::new(address, bound.port())));
            }
            false
        }
    };
    let fail = |errno| match errno {
        Errno::EADDRINUSE => BindError::InUse { address, port },
        errno => other(address, port, errno),
    };
    let fd = open(address, SockType::Datagram).map_err(fail)?;
    // Smaller buffers than wished for are no error.
    let _ = setsockopt(&fd, RcvBuf, &BUFFER);
    let _ = setsockopt(&fd, SndBuf, &BUFFER);
    if shared {
        setsockopt(&fd, ReuseAddr, &true).map_err(fail)?;
    }
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(address, port))).map_err(fail)?;
    if shared {
        setsockopt(&fd, ReuseAddr, &false).map_err(fail)?;
    }
    let bound = bound(&fd).map_err(fail)?;
    Ok((fd, SocketAddr::new(address, bound.port())))
}

fn bound(fd: &OwnedFd) -> Result<SocketAddr, Errno> {
    let bound: SockaddrStorage = getsockname(fd.as_raw_fd())?;
    address_of(&bound).ok_or(Errno::EAFNOSUPPORT)
}

fn address_of(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|&v4| SocketAddr::V4(v4.into()));
    v4.or_else(|| address.as_sockaddr_in6().map(|&v6| SocketAddr::V6(v6.into())))
}

/// A socket that is not bound yet, of the address's family. One on every IPv6 address serves IPv4 too.
fn open(address: IpAddr, kind: SockType) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    if address.is_ipv6() {
        setsockopt(&fd, Ipv6V6Only, &false)?;
    }
    Ok(fd)
}

#[cfg(test)]
pub mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn any_port() -> Listen {
        Listen { port: 0, ..Listen::default() }
    }

    #[test]
    fn widening_keeps_the_ports_and_reaches_loopback() {
        let narrow = Sockets::bind(&any_port(), false, &mut Kept::default()).unwrap();
        assert!(narrow.quic_address.ip().is_loopback());
        let wide = narrow.widen().unwrap();
        assert!(wide.quic_address.ip().is_unspecified());
        assert_eq!(wide.quic_address.port(), narrow.quic_address.port());
        assert_eq!(wide.media_address.port(), narrow.media_address.port());
        let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), wide.quic_address.port());
        // The old network plane may hold on to its sockets for a while.
        narrow.seal_off().unwrap();
        let socket = UdpSocket::from(wide.quic);
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", to).unwrap();
        socket.set_nonblocking(false).unwrap();
        assert_eq!(socket.recv(&mut [0; 4]).unwrap(), 1);
    }

    /// What a network plane can do to the sockets of its successors.
    pub fn shut_down(socket: &OwnedFd) {
        let theirs = UdpSocket::from(socket.try_clone().unwrap());
        // It says that it is not connected, and does it all the same.
        let _ = nix::sys::socket::shutdown(theirs.as_raw_fd(), nix::sys::socket::Shutdown::Write);
    }

    #[test]
    fn sockets_that_were_shut_down_are_found_out_and_replaced() {
        for open in [false, true] {
            let sockets = Sockets::bind(&any_port(), open, &mut Kept::default()).unwrap();
            assert!(sockets.can_send());
            let held = sockets.media.try_clone().unwrap();
            shut_down(&sockets.media);
            assert!(!sockets.can_send());
            let fresh = sockets.renew().unwrap();
            assert_eq!((fresh.quic_address, fresh.media_address), (sockets.quic_address, sockets.media_address));
            drop((sockets, held));
            assert!(fresh.can_send());
            let to = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), fresh.media_address.port());
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", to).unwrap();
            let socket = UdpSocket::from(fresh.media);
            socket.set_nonblocking(false).unwrap();
            let mut byte = [0; 4];
            while socket.recv(&mut byte).unwrap() == 0 {}
            assert_eq!(byte[0], b'x');
        }
    }

    #[test]
    fn a_port_in_use_is_told() {
        let first = Sockets::bind(&any_port(), false, &mut Kept::default()).unwrap();
        let listen = Listen { port: first.quic_address.port(), ..Listen::default() };
        let error = Sockets::bind(&listen, false, &mut Kept::default()).unwrap_err().to_string();
        assert!(error.contains("in use") && error.contains("listen.port"), "{error}");
        let wide = first.widen().unwrap();
        assert!(Sockets::bind(&listen, true, &mut Kept::default()).is_err(), "widened sockets share with nobody");
        drop(wide);
    }
}
