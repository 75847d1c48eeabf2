//! What goes along with a send, as bytes for `msg_control`: the size of the datagrams that one buffer is cut into, and
//! the address that they come from. cmsg(3), udp(7), ip(7), ipv6(7).

use std::net::IpAddr;

use nix::libc::{self, c_int};

/// A `cmsghdr`: a length, a level and a type.
const HEADER: usize = size_of::<usize>() + 2 * size_of::<c_int>();

/// Room for a segment size and an IPv6 source, the longest there can be.
const ROOM: usize = space(size_of::<u16>()) + space(size_of::<libc::in6_pktinfo>());

/// What a message with so much data takes.
const fn space(data: usize) -> usize {
    (HEADER + data).next_multiple_of(size_of::<usize>())
}

/// Ancillary messages of one send. Nothing of the socket's own settings is overridden, so that its traffic class is
/// what lumend has set.
pub struct Ancillary {
    bytes: [u8; ROOM],
    used: usize,
}

impl Ancillary {
    /// For a buffer that is cut into datagrams of `segment` bytes, if it is to be cut; from `source`, if that is known.
    pub fn new(segment: Option<u16>, source: Option<IpAddr>) -> Self {
        let mut messages = Self { bytes: [0; ROOM], used: 0 };
        if let Some(segment) = segment {
            messages.push(libc::SOL_UDP, libc::UDP_SEGMENT, &[&segment.to_ne_bytes()]);
        }
        // Interface 0: whichever the route says.
        let interface = 0_u32.to_ne_bytes();
        match source {
            Some(IpAddr::V4(source)) => {
                messages.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &[&interface, &source.octets(), &[0; 4]]);
            }
            Some(IpAddr::V6(source)) => {
                messages.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &[&source.octets(), &interface]);
            }
            None => {}
        }
        messages
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.used]
    }

    fn push(&mut self, level: c_int, kind: c_int, data: &[&[u8]]) {
        let length: usize = data.iter().map(|part| part.len()).sum();
        let message = &mut self.bytes[self.used..][..space(length)];
        let mut at = 0;
        let header: [&[u8]; 3] = [&(HEADER + length).to_ne_bytes(), &level.to_ne_bytes(), &kind.to_ne_bytes()];
        for part in header.iter().chain(data) {
            message[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.used += message.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_the_kernel_reads_them() {
        assert_eq!(HEADER, size_of::<libc::cmsghdr>());
        assert!(Ancillary::new(None, None).bytes().is_empty());
        let segment = Ancillary::new(Some(1_200), None);
        let [length, level, kind] = [&18_usize.to_ne_bytes()[..], &17_i32.to_ne_bytes(), &103_i32.to_ne_bytes()];
        assert_eq!(segment.bytes(), [length, level, kind, &1_200_u16.to_ne_bytes(), &[0; 6]].concat());
        let source = Ancillary::new(None, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(source.bytes()[..HEADER], [28_usize.to_ne_bytes(), [0, 0, 0, 0, 8, 0, 0, 0]].concat());
        assert_eq!(source.bytes()[HEADER..], [0, 0, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(Ancillary::new(Some(1), Some("2001:db8::1".parse().unwrap())).bytes().len(), ROOM);
    }
}
