//! The links that this machine shares with others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use tracing::warn;

/// Addresses that are told of one link.
const MOST_ADDRESSES: usize = 8;

/// One interface with addresses, on a link with multicast.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    pub name: String,
    /// Told apart from another interface that had this name.
    pub index: u32,
    /// What others reach this machine by: link-local IPv6 only where there is nothing else, as it means nothing without
    /// the interface's name.
    pub addresses: Vec<IpAddr>,
    pub has_v6: bool,
}

impl Link {
    pub fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
    }
}

/// Those that are up now, `most` of them: first those with addresses that clients like best.
pub fn current(most: usize) -> Vec<Link> {
    match getifaddrs() {
        Ok(found) => {
            let found = found.filter_map(|interface| {
                let address = interface.address.as_ref()?;
                let address = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
                    (Some(v4), _) => IpAddr::V4(v4.ip()),
                    (_, Some(v6)) => IpAddr::V6(v6.ip()),
                    _ => return None,
                };
                Some((interface.interface_name, interface.flags, address))
            });
            pick(found, |name| if_nametoindex(name).ok(), most)
        }
        Err(errno) => {
            warn!("no discovery: the kernel does not list its addresses: {errno}");
            Vec::new()
        }
    }
}

fn pick(
    found: impl Iterator<Item = (String, InterfaceFlags, IpAddr)>,
    index: impl Fn(&str) -> Option<u32>,
    most: usize,
) -> Vec<Link> {
    let mut by_name = BTreeMap::<String, Vec<IpAddr>>::new();
    for (name, flags, address) in found {
        let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_MULTICAST;
        // Nobody to be found by is at the other end of loopback, or of a tunnel.
        let alone = InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_POINTOPOINT;
        if flags.contains(up) && !flags.intersects(alone) && !address.is_unspecified() {
            by_name.entry(name).or_default().push(address);
        }
    }
    let mut links: Vec<_> = by_name
        .into_iter()
        .filter_map(|(name, mut addresses)| {
            let has_v6 = addresses.iter().any(IpAddr::is_ipv6);
            addresses.sort_by_key(|address| (rank(address), *address));
            addresses.dedup();
            if addresses.first().is_some_and(|best| rank(best) < LINK_LOCAL_V6) {
                addresses.retain(|address| rank(address) < LINK_LOCAL_V6);
            }
            addresses.truncate(MOST_ADDRESSES);
            Some(Link { index: index(&name)?, name, addresses, has_v6 })
        })
        .collect();
    links.sort_by_key(|link| (link.addresses.first().map(rank), link.index));
    links.truncate(most);
    links
}

const LINK_LOCAL_V6: u8 = 3;

fn rank(address: &IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) if !v4.is_link_local() => 0,
        IpAddr::V6(v6) if !is_link_local(v6) => 1,
        IpAddr::V4(_) => 2,
        IpAddr::V6(_) => LINK_LOCAL_V6,
    }
}

fn is_link_local(address: &Ipv6Addr) -> bool {
    address.segments()[0] & 0xffc0 == 0xfe80
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(found: &[(&str, InterfaceFlags, &str)], most: usize) -> Vec<(String, Vec<String>)> {
        let found = found.iter().map(|(name, flags, address)| (name.to_string(), *flags, address.parse().unwrap()));
        let links = pick(found, |name| name.bytes().last().map(u32::from), most);
        links.into_iter().map(|link| (link.name, link.addresses.iter().map(ToString::to_string).collect())).collect()
    }

    #[test]
    fn links_with_neighbours_and_the_addresses_that_reach_them() {
        let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_MULTICAST;
        let found = [
            ("lo", up | InterfaceFlags::IFF_LOOPBACK, "127.0.0.1"),
            ("tun1", up | InterfaceFlags::IFF_POINTOPOINT, "10.8.0.2"),
            ("bare2", up, "fe80::2"),
            ("eth3", up, "fe80::3"),
            ("eth3", up, "2001:db8::3"),
            ("eth3", up, "192.0.2.3"),
            ("eth3", up, "192.0.2.3"),
            ("auto4", up, "169.254.7.7"),
            ("auto4", up, "fe80::4"),
            ("down5", InterfaceFlags::IFF_UP | InterfaceFlags::IFF_MULTICAST, "192.0.2.5"),
            ("dumb6", InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING, "192.0.2.6"),
            ("six7", up, "2001:db8::7"),
        ];
        let expected = [
            ("eth3", vec!["192.0.2.3", "2001:db8::3"]),
            ("six7", vec!["2001:db8::7"]),
            ("auto4", vec!["169.254.7.7"]),
            ("bare2", vec!["fe80::2"]),
        ];
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(name, list)| (name.to_owned(), list.into_iter().map(str::to_owned).collect()))
            .collect();
        assert_eq!(picked(&found, 16), expected);
        assert_eq!(picked(&found, 2), expected[..2]);
    }

    #[test]
    fn a_link_of_a_thousand_addresses_fits() {
        let up = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_MULTICAST;
        let found =
            (0..1000).map(|at| ("eth0".to_owned(), up, IpAddr::from(Ipv6Addr::from_bits((0x2001 << 112) + at))));
        let links = pick(found, |_| Some(1), 16);
        assert!(links.len() == 1 && links[0].addresses.len() == MOST_ADDRESSES && links[0].v4().is_none());
    }
}
