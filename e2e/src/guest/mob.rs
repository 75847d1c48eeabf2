//! Strangers that mean harm: many, loud and wrong.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

/// Deterministic rubbish.
#[derive(Clone, Copy, Debug)]
pub struct Noise(u64);

impl Noise {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

/// Lets this process have so many connections.
pub fn allow_connections(count: u64) -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, (count + 500).min(most), most)?)
}

/// A connection from one of the machine's many addresses: `127.0.X.Y` of this number.
pub fn connect_as(number: u16, port: u16) -> Result<TcpStream> {
    let [high, low] = (number + 2).to_be_bytes();
    let mine: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&mine), &SockaddrIn::new(127, 0, high, low, 0))?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&mine), &SockaddrIn::new(127, 0, 0, 1, port))?;
    Ok(mine.into())
}

/// Connections that say nothing, or only the beginning of something; a few from each address. Those that the host turns
/// away are left out.
pub fn half_open(port: u16, count: u16, beginning: &[u8]) -> Vec<TcpStream> {
    let open = |index: u16| {
        let mut stream = connect_as(index / 4, port).ok()?;
        if index.is_multiple_of(2) {
            // The host may have closed it by now.
            let _ = stream.write_all(beginning);
        }
        Some(stream)
    };
    (0..count).filter_map(open).collect()
}

/// Sends datagrams for a while, each from one of a few ports; returns how many.
pub fn flood(port: u16, length: Duration, mut make: impl FnMut() -> Vec<u8>) -> Result<u64> {
    let sockets = (0..8).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))).collect::<Result<Vec<_>, _>>()?;
    let (to, begun) = (SocketAddr::from((Ipv4Addr::LOCALHOST, port)), Instant::now());
    for sent in 0.. {
        if begun.elapsed() > length {
            return Ok(sent);
        }
        // Whether there is room for it is the kernel's affair.
        let _ = sockets[sent as usize % sockets.len()].send_to(&make(), to);
    }
    unreachable!("time ends before the numbers do")
}

/// An ENet CONNECT (protocol.h of ENet 1.3) that brings this as its data.
pub fn enet_connect(noise: &mut Noise, data: u32) -> Vec<u8> {
    let mut bytes = vec![0x8f, 0xff];
    bytes.extend((noise.next() as u16).to_be_bytes());
    // CONNECT to be acknowledged, on the channel of no channel, its first; then peer and sessions.
    bytes.extend([0x82, 0xff, 0, 1, 0, 0, 0xff, 0xff]);
    for field in [900, 32_768, 48, 0, 0, 5000, 2, 2, noise.next() as u32, data] {
        bytes.extend(field.to_be_bytes());
    }
    bytes
}
