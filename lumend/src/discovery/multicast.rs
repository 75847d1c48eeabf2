//! One socket of mDNS on one link: bound to the group itself, so that it takes nothing that another responder of this
//! machine, such as avahi, waits for.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::OwnedFd;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};

use super::Link;

/// RFC 6762 §3.
const PORT: u16 = 5353;
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// RFC 6762 §11: so that a receiver may tell that a packet crossed no router.
const HOPS: u32 = 255;

/// `address` is one of the link's, for kernels that choose the interface by it.
pub fn v4(link: &Link, address: Ipv4Addr) -> io::Result<OwnedFd> {
    let socket = shared(Domain::IPV4, link)?;
    socket.set_multicast_ttl_v4(HOPS)?;
    socket.set_multicast_if_v4(&address)?;
    // Else it would hear what others of this machine have joined the group for on other links.
    socket.set_multicast_all_v4(false)?;
    socket.bind(&SockAddr::from(SocketAddrV4::new(GROUP_V4, PORT)))?;
    socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(link.index))?;
    Ok(socket.into())
}

pub fn v6(link: &Link) -> io::Result<OwnedFd> {
    let socket = shared(Domain::IPV6, link)?;
    socket.set_only_v6(true)?;
    socket.set_multicast_hops_v6(HOPS)?;
    socket.set_multicast_if_v6(link.index)?;
    socket.bind(&SockAddr::from(SocketAddrV6::new(GROUP_V6, PORT, 0, link.index)))?;
    socket.join_multicast_v6(&GROUP_V6, link.index)?;
    Ok(socket.into())
}

/// A socket that shares its port with other responders, and stays on its link.
fn shared(domain: Domain, link: &Link) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    socket.set_cloexec(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    // Denied to ordinary users by kernels before 5.7; the options that follow do nearly the same.
    let _ = socket.bind_device(Some(link.name.as_bytes()));
    Ok(socket)
}
