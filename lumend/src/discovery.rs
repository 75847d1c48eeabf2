//! What lumend does for mDNS: it watches which links this machine has, and hands the network plane a multicast socket
//! on each. What is said on them is the plane's affair; lumend reads none of it.

mod links;
mod multicast;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ipc::{Announce, Face, Interface, Service};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};
use tracing::{info, warn};

pub use links::Link;

/// Links that are served, the first ones if there are more. Two descriptors and eight addresses of each fit into a
/// message.
const MOST_LINKS: usize = 16;
/// From the first news of the kernel's to the look: an interface that comes up changes several times.
const SETTLE: u64 = 300_000_000;
/// Until it is tried again where no socket could be had.
const RETRY: u64 = 30_000_000_000;
/// linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR and RTMGRP_IPV6_IFADDR.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;
/// What follows the host's name in its mDNS name, which is then no other responder's on this machine.
const SUFFIX: &str = "-lumen";
/// Bytes of a DNS label.
const LABEL: usize = 63;

/// A service, and where it listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    pub face: Face,
    pub address: SocketAddr,
}

#[derive(Debug)]
pub struct Discovery {
    /// The kernel's news of links and addresses; none when discovery is off.
    watch: Option<OwnedFd>,
    /// A DNS label.
    host: String,
    links: Vec<Link>,
    look_at: Option<u64>,
    /// It has been said that no socket can be had.
    told: bool,
}

impl Discovery {
    /// Begins to watch, if it is enabled. What stands in the way is told and ends nothing.
    pub fn new(enabled: bool, host_name: &str) -> Self {
        let watch = enabled.then(watch).and_then(|watch| {
            watch.inspect_err(|error| warn!("no discovery: the kernel does not tell of addresses: {error}")).ok()
        });
        let links = if watch.is_some() { links::current(MOST_LINKS) } else { Vec::new() };
        Self { watch, host: label(host_name), links, look_at: None, told: false }
    }

    /// To be polled; [`Self::woken`] when it can be read.
    pub fn source(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }

    /// When [`Self::changed`] is to be asked.
    pub const fn deadline(&self) -> Option<u64> {
        self.look_at
    }

    /// Takes the kernel's news. It is only a hint that a look is worth it.
    pub fn woken(&mut self, now: u64) {
        let Some(watch) = &self.watch else { return };
        let mut news = [0; 8192];
        loop {
            match recv(watch.as_raw_fd(), &mut news, MsgFlags::MSG_DONTWAIT) {
                Ok(0) | Err(Errno::EAGAIN) => return,
                // ENOBUFS: there was more news than room for it.
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => self.look_at = self.look_at.or(Some(now + SETTLE)),
                Err(errno) => {
                    warn!("discovery follows no more changes of addresses: {errno}");
                    self.watch = None;
                    return;
                }
            }
        }
    }

    /// Looks, if it is time. True if the network plane is to be told anew.
    pub fn changed(&mut self, now: u64) -> bool {
        if self.look_at.is_none_or(|at| now < at) {
            return false;
        }
        self.look_at = None;
        let links = links::current(MOST_LINKS);
        // After a failure it is tried again on the same links.
        let changed = self.told || links != self.links;
        self.links = links;
        changed
    }

    /// Fresh sockets on every link from which one of the offers is reached; none when discovery is off.
    pub fn announce(&mut self, now: u64, offers: &[Offer]) -> Option<Announce<OwnedFd>> {
        self.watch.as_ref()?;
        // Loopback is nobody else's link.
        let offers: Vec<_> = offers.iter().filter(|offer| !offer.address.ip().is_loopback()).collect();
        let everywhere = offers.iter().any(|offer| offer.address.ip().is_unspecified());
        let reached = |address: &IpAddr| everywhere || offers.iter().any(|offer| offer.address.ip() == *address);
        let mut failure = None;
        let mut interfaces = Vec::new();
        for link in &self.links {
            let addresses: Vec<_> = link.addresses.iter().copied().filter(reached).collect();
            if addresses.is_empty() {
                continue;
            }
            let mut open = |socket: io::Result<OwnedFd>| {
                socket.map_err(|error| failure = Some(format!("on {}: {error}", link.name))).ok()
            };
            let v4 = link.v4().and_then(|address| open(multicast::v4(link, address)));
            let v6 = link.has_v6.then(|| multicast::v6(link)).and_then(&mut open);
            if v4.is_some() || v6.is_some() {
                interfaces.push(Interface { v4, v6, addresses });
            }
        }
        self.tell(now, failure, interfaces.len());
        let services = offers.iter().map(|offer| Service { face: offer.face, port: offer.address.port() }).collect();
        Some(Announce { host: self.host.clone(), services, interfaces })
    }

    fn tell(&mut self, now: u64, failure: Option<String>, served: usize) {
        match failure {
            Some(reason) => {
                if !self.told {
                    warn!("clients cannot find this host everywhere: no mDNS socket {reason}");
                }
                self.told = true;
                self.look_at = Some(now + RETRY);
            }
            None if self.told => {
                info!("clients can find this host on {served} links");
                self.told = false;
            }
            None => {}
        }
    }
}

fn watch() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    Ok(fd)
}

/// The host's name as a DNS label: letters, digits and hyphens (RFC 1123 §2.1).
fn label(host_name: &str) -> String {
    let first = host_name.split('.').next().unwrap_or_default();
    let plain: String =
        first.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let plain = plain.trim_matches('-');
    // Room for a number that tells it from another host of the same name.
    let plain: String = plain.chars().take(LABEL - SUFFIX.len() - 6).collect();
    let plain = plain.trim_end_matches('-');
    format!("{}{SUFFIX}", if plain.is_empty() { "host" } else { plain })
}

#[cfg(test)]
mod tests;
