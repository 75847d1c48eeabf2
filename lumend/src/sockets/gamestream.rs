//! The six sockets of GameStream, all on one address, their ports derived from one base.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv4Tos, Ipv6TClass, RcvBuf, ReuseAddr, SndBuf};
use nix::sys::socket::{Backlog, SockType, SockaddrStorage, bind, listen, setsockopt};

use super::{BUFFER, Kept, can_send, open};
use crate::config::{Address, GameStream};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Type of service: DSCP CS5 for pictures and CS6 for sound, what WLANs send ahead of the rest.
const VIDEO_TOS: i32 = 0xa0;
const AUDIO_TOS: i32 = 0xc0;

/// Of what is kept, in the order of the sockets below.
const NAMES: [&str; 6] = [
    "gamestream-http",
    "gamestream-https",
    "gamestream-rtsp",
    "gamestream-video",
    "gamestream-control",
    "gamestream-audio",
];

/// A port that cannot be had. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum GameStreamBindError {
    #[error(
        "{kind} port {port} on {address} is in use: stop what uses it (another GameStream host?), or set \
             gamestream.base_port"
    )]
    InUse { kind: &'static str, address: IpAddr, port: u16 },
    #[error("cannot listen on {address} {kind} port {port}: {error}; see gamestream.bind and gamestream.base_port")]
    Other { kind: &'static str, address: IpAddr, port: u16, error: io::Error },
}

impl GameStreamBindError {
    fn new(kind: SockType, address: SocketAddr, errno: Errno) -> Self {
        let kind = if kind == SockType::Stream { "TCP" } else { "UDP" };
        let (address, port) = (address.ip(), address.port());
        match errno {
            Errno::EADDRINUSE => Self::InUse { kind, address, port },
            errno => Self::Other { kind, address, port, error: errno.into() },
        }
    }
}

/// Bound, and the TCP ones listening.
#[derive(Debug)]
pub struct GameStreamSockets {
    pub http: OwnedFd,
    pub https: OwnedFd,
    pub rtsp: OwnedFd,
    pub video: OwnedFd,
    pub control: OwnedFd,
    pub audio: OwnedFd,
    /// Of HTTP.
    pub address: SocketAddr,
}

impl GameStreamSockets {
    /// Binds all of them, or none; what was kept of them is used.
    pub fn bind(settings: &GameStream, kept: &mut Kept) -> Result<Self, GameStreamBindError> {
        let mut at = |address: IpAddr| Self::at(address, settings.base_port, kept);
        match settings.bind {
            Address::Ip(address) => at(address),
            Address::Auto => match at(IpAddr::V6(Ipv6Addr::UNSPECIFIED)) {
                // A kernel without IPv6.
                Err(GameStreamBindError::Other { .. }) => at(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
                done => done,
            },
        }
    }

    fn at(address: IpAddr, base: u16, kept: &mut Kept) -> Result<Self, GameStreamBindError> {
        // That all six exist has been checked with the configuration.
        let port = |offset: i16| SocketAddr::new(address, base.saturating_add_signed(offset));
        let mut listener = |name, address| match kept.take(name, SockType::Stream, address) {
            Some(fd) => Ok(fd),
            None => tcp(address),
        };
        let (http, https) = (listener(NAMES[0], port(0))?, listener(NAMES[1], port(-5))?);
        let rtsp = listener(NAMES[2], port(21))?;
        let mut datagrams = |name, address, service| match kept.take(name, SockType::Datagram, address) {
            Some(fd) if can_send(&fd, address) => {
                serve(&fd, address, service);
                Ok(fd)
            }
            _ => udp(address, service, false),
        };
        Ok(Self {
            http,
            https,
            rtsp,
            video: datagrams(NAMES[3], port(9), VIDEO_TOS)?,
            control: datagrams(NAMES[4], port(10), 0)?,
            audio: datagrams(NAMES[5], port(11), AUDIO_TOS)?,
            address: port(0),
        })
    }

    /// To be kept for a successor.
    pub fn named(&self) -> [(&'static str, BorrowedFd<'_>); 6] {
        let fds = [&self.http, &self.https, &self.rtsp, &self.video, &self.control, &self.audio];
        std::array::from_fn(|index| (NAMES[index], fds[index].as_fd()))
    }

    /// Replaces those that a network plane in bad hands has shut down, for everybody who holds them and for good. True
    /// if there are any. Listeners cannot be shut down in the half that a plane may.
    pub fn mend(&mut self) -> Result<bool, GameStreamBindError> {
        let mut mended = false;
        let address = self.address;
        let all = [(&mut self.video, 9, VIDEO_TOS), (&mut self.control, 10, 0), (&mut self.audio, 11, AUDIO_TOS)];
        for (socket, offset, service) in all {
            let at = SocketAddr::new(address.ip(), address.port().saturating_add(offset));
            if can_send(socket, at) {
                continue;
            }
            // Another process may still hold on to it.
            let shared = setsockopt(socket, ReuseAddr, &true);
            shared.map_err(|errno| GameStreamBindError::new(SockType::Datagram, at, errno))?;
            *socket = udp(at, service, true)?;
            mended = true;
        }
        Ok(mended)
    }
}

fn tcp(address: SocketAddr) -> Result<OwnedFd, GameStreamBindError> {
    let bound = || {
        let fd = open(address.ip(), SockType::Stream)?;
        // Connections of an earlier lumend that linger do not keep this one from the port; a listener does.
        setsockopt(&fd, ReuseAddr, &true)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        listen(&fd, Backlog::new(BACKLOG)?)?;
        Ok(fd)
    };
    bound().map_err(|errno| GameStreamBindError::new(SockType::Stream, address, errno))
}

fn udp(address: SocketAddr, service: i32, shared: bool) -> Result<OwnedFd, GameStreamBindError> {
    let bound = || {
        let fd = open(address.ip(), SockType::Datagram)?;
        serve(&fd, address, service);
        if shared {
            setsockopt(&fd, ReuseAddr, &true)?;
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        if shared {
            setsockopt(&fd, ReuseAddr, &false)?;
        }
        Ok(fd)
    };
    bound().map_err(|errno| GameStreamBindError::new(SockType::Datagram, address, errno))
}

/// Less than wished for is no error; a network that does not look at the type of service is none either. What a socket of
/// IPv6 sends to IPv4 addresses goes by the setting of IPv4.
fn serve(fd: &OwnedFd, address: SocketAddr, service: i32) {
    let _ = setsockopt(fd, RcvBuf, &BUFFER);
    let _ = setsockopt(fd, SndBuf, &BUFFER);
    let _ = setsockopt(fd, Ipv4Tos, &service);
    if address.is_ipv6() {
        let _ = setsockopt(fd, Ipv6TClass, &service);
    }
}

#[cfg(test)]
pub mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use nix::sys::socket::getsockopt;

    use super::*;

    /// Sockets on a base that nobody else uses: the kernel names one, and the rest is tried.
    pub fn somewhere(bind: Address) -> (GameStream, GameStreamSockets) {
        for _ in 0..100 {
            let base_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let settings = GameStream { base_port: base_port.clamp(6, 65514), bind, ..GameStream::default() };
            if let Ok(sockets) = GameStreamSockets::bind(&settings, &mut Kept::default()) {
                return (settings, sockets);
            }
        }
        panic!("no six free ports")
    }

    #[test]
    fn all_six_are_reached_on_both_families() {
        let (settings, sockets) = somewhere(Address::Auto);
        let at = |offset: i16| SocketAddr::from((Ipv4Addr::LOCALHOST, settings.base_port.wrapping_add_signed(offset)));
        for offset in [0, -5, 21] {
            TcpStream::connect(at(offset)).unwrap();
        }
        if sockets.address.is_ipv6() {
            TcpStream::connect((Ipv6Addr::LOCALHOST, settings.base_port)).unwrap();
        }
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let services = [getsockopt(&sockets.video, Ipv4Tos).unwrap(), getsockopt(&sockets.audio, Ipv4Tos).unwrap()];
        assert_eq!(services, [VIDEO_TOS, AUDIO_TOS]);
        for (fd, offset) in [(sockets.video, 9), (sockets.control, 10), (sockets.audio, 11)] {
            sender.send_to(b"x", at(offset)).unwrap();
            let socket = UdpSocket::from(fd);
            socket.set_nonblocking(false).unwrap();
            assert_eq!(socket.recv(&mut [0; 4]).unwrap(), 1);
        }
    }

    #[test]
    fn what_was_shut_down_is_replaced_and_the_rest_kept() {
        let (settings, mut sockets) = somewhere(Address::Auto);
        assert!(!sockets.mend().unwrap());
        let held = sockets.video.try_clone().unwrap();
        crate::sockets::tests::shut_down(&sockets.video);
        let control = sockets.control.as_raw_fd();
        assert!(sockets.mend().unwrap() && !sockets.mend().unwrap());
        drop(held);
        assert_eq!((sockets.control.as_raw_fd(), getsockopt(&sockets.video, Ipv4Tos)), (control, Ok(VIDEO_TOS)));
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", (Ipv4Addr::LOCALHOST, settings.base_port + 9)).unwrap();
        let socket = UdpSocket::from(sockets.video);
        socket.set_nonblocking(false).unwrap();
        let mut byte = [0; 4];
        while socket.recv(&mut byte).unwrap() == 0 {}
        assert_eq!(byte[0], b'x');
    }

    #[test]
    fn a_port_in_use_is_named_and_none_is_kept() {
        let (settings, sockets) = somewhere(Address::Ip(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let taken = sockets.control.try_clone().unwrap();
        drop(sockets);
        let error = GameStreamSockets::bind(&settings, &mut Kept::default()).unwrap_err().to_string();
        assert!(error.contains(&format!("UDP port {}", settings.base_port + 10)), "{error}");
        assert!(error.contains("in use") && error.contains("gamestream.base_port"), "{error}");
        drop(taken);
        GameStreamSockets::bind(&settings, &mut Kept::default())
            .expect("what was bound before the failure is free again");
    }
}
