//! How many connections each address holds, so that one silent machine cannot take all there are.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Addresses with connections; those without are forgotten before there are more than this.
const KEPT: usize = 64;

/// A share of the connections for each address: IPv4 as it is, IPv6 by its network of 64 bits, of which a machine may
/// use every address.
pub struct Addresses {
    share: usize,
    known: BTreeMap<IpAddr, Arc<Semaphore>>,
}

impl Addresses {
    pub fn new(share: usize) -> Self {
        Self { share, known: BTreeMap::new() }
    }

    /// A connection's place in its address's share, to be held for as long as it lives; none if the share is used up.
    pub fn take(&mut self, address: IpAddr) -> Option<OwnedSemaphorePermit> {
        if self.known.len() >= KEPT {
            let share = self.share;
            self.known.retain(|_, places| places.available_permits() < share);
        }
        let places = self.known.entry(network(address)).or_insert_with(|| Arc::new(Semaphore::new(self.share)));
        places.clone().try_acquire_owned().ok()
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_have_anothers_share() {
        let mut addresses = Addresses::new(2);
        let mut take = |address: &str| addresses.take(address.parse().unwrap());
        let first = take("192.0.2.1");
        let second = take("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(take("192.0.2.1").is_none());
        assert!(take("192.0.2.2").is_some());
        let others = (take("2001:db8::1"), take("2001:db8::ffff:1"));
        assert!(others.0.is_some() && others.1.is_some() && take("2001:db8::2:1").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        drop(first);
        assert!(take("192.0.2.1").is_some());
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let mut addresses = Addresses::new(2);
        let held = addresses.take(IpAddr::from([10, 0, 0, 1]));
        for number in 0..=u8::MAX {
            drop(addresses.take(IpAddr::from([10, 1, 0, number])));
        }
        assert!(addresses.known.len() <= KEPT && addresses.known.contains_key(&IpAddr::from([10, 0, 0, 1])));
        drop(held);
    }
}
