//! The pings by which a GameStream client shows where one of its RTP streams is to go.
//!
//! A client sends one every 500 ms from the socket on which it wants the stream (moonlight-common-c, VideoStream.c and
//! AudioStream.c): 16 bytes of payload that RTSP told it and a big-endian counter from 1; or `PING`, if it is too old
//! for payloads.

use std::cmp::Ordering;
use std::net::{IpAddr, SocketAddr};

/// Bytes of the payload that RTSP tells.
pub const PAYLOAD: usize = 16;

/// One well-formed ping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ping {
    Payload {
        payload: [u8; PAYLOAD],
        counter: u32,
    },
    /// Names nobody: all there is to go by is where it came from.
    Plain,
}

impl Ping {
    /// None for anything else.
    pub fn parse(datagram: &[u8]) -> Option<Self> {
        if datagram == b"PING" {
            return Some(Self::Plain);
        }
        let (payload, counter) = datagram.split_first_chunk()?;
        Some(Self::Payload { payload: *payload, counter: u32::from_be_bytes(counter.try_into().ok()?) })
    }
}

/// How well a ping fits a stream; of several streams, the one with the greatest fit has to take it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fit {
    /// From the address of a client whose stream goes elsewhere on that address.
    Moved,
    /// From the address of a client whose stream goes nowhere yet.
    New,
    /// It names the stream, or comes from where that already goes.
    Named,
}

/// One stream's client, as its pings show it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pinged {
    payload: [u8; PAYLOAD],
    /// Whence plain pings are taken.
    plain_from: Option<IpAddr>,
    /// Counter of the newest ping.
    newest: u32,
}

impl Pinged {
    /// A stream of a client that was told this payload; or of one at this address that knows no payloads.
    pub fn new(payload: [u8; PAYLOAD], plain_from: Option<IpAddr>) -> Self {
        Self { payload, plain_from: plain_from.map(|address| address.to_canonical()), newest: 0 }
    }

    /// Its client knows no payloads after all, and is at this address.
    pub fn take_plain_from(&mut self, address: IpAddr) {
        self.plain_from = Some(address.to_canonical());
    }

    /// Whether a ping may be of this stream's client; `peer` is where the stream goes at present.
    pub fn fit(&self, ping: &Ping, from: SocketAddr, peer: Option<SocketAddr>) -> Option<Fit> {
        match ping {
            Ping::Payload { payload, .. } => (*payload == self.payload).then_some(Fit::Named),
            Ping::Plain => {
                self.plain_from.filter(|address| *address == from.ip().to_canonical())?;
                Some(match peer {
                    Some(peer) if peer == from => Fit::Named,
                    Some(_) => Fit::Moved,
                    None => Fit::New,
                })
            }
        }
    }

    /// Takes a ping that fits; `peer` is as for [`Self::fit`]. False if the stream is not to follow it: an older one, which
    /// was delayed, as the client may have moved since; or a copy of the newest from somewhere else, as nobody sends one
    /// twice.
    pub fn take(&mut self, ping: &Ping, from: SocketAddr, peer: Option<SocketAddr>) -> bool {
        let Ping::Payload { counter, .. } = *ping else { return true };
        match counter.cmp(&self.newest) {
            Ordering::Less => false,
            Ordering::Equal => peer.is_none_or(|peer| peer == from),
            Ordering::Greater => {
                self.newest = counter;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAYLOAD_A: [u8; 16] = *b"0123456789abcdef";

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_ping_names_its_stream_wherever_it_comes_from() {
        let ping = Ping::parse(b"0123456789abcdef\0\0\x01\x02").unwrap();
        assert_eq!(ping, Ping::Payload { payload: PAYLOAD_A, counter: 258 });
        let mut stream = Pinged::new(PAYLOAD_A, None);
        assert_eq!(stream.fit(&ping, at("192.0.2.1:7"), Some(at("192.0.2.2:8"))), Some(Fit::Named));
        assert_eq!(stream.fit(&Ping::Plain, at("192.0.2.1:7"), None), None);
        assert_eq!(Pinged::new([b'x'; 16], None).fit(&ping, at("192.0.2.1:7"), None), None);
        let mut take = |counter, from: &str, peer: Option<&str>| {
            stream.take(&Ping::Payload { payload: PAYLOAD_A, counter }, at(from), peer.map(at))
        };
        assert!(take(258, "192.0.2.1:7", None) && take(258, "192.0.2.1:7", Some("192.0.2.1:7")));
        assert!(!take(257, "192.0.2.1:7", Some("192.0.2.1:7")), "an older one");
        assert!(!take(258, "192.0.2.9:7", Some("192.0.2.1:7")), "somebody has heard it, and says it again");
        assert!(take(259, "192.0.2.2:8", Some("192.0.2.1:7")), "the client has moved");
    }

    #[test]
    fn a_plain_ping_goes_by_its_address() {
        let ping = Ping::parse(b"PING").unwrap();
        let stream = Pinged::new(PAYLOAD_A, Some("192.0.2.1".parse().unwrap()));
        let fit = |from: &str, peer: Option<&str>| stream.fit(&ping, at(from), peer.map(at));
        assert_eq!(fit("192.0.2.1:7", None), Some(Fit::New));
        assert_eq!(fit("[::ffff:192.0.2.1]:7", None), Some(Fit::New), "the same through a socket of both families");
        assert_eq!(fit("192.0.2.1:7", Some("192.0.2.1:7")), Some(Fit::Named));
        assert_eq!(fit("192.0.2.1:7", Some("192.0.2.1:8")), Some(Fit::Moved));
        assert_eq!(fit("192.0.2.2:7", None), None);
        assert!(Fit::Named > Fit::New && Fit::New > Fit::Moved);
    }

    proptest! {
        #[test]
        fn whatever_arrives_is_a_ping_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let parsed = Ping::parse(&bytes);
            prop_assert_eq!(parsed.is_some(), bytes.len() == 20 || bytes == b"PING");
        }
    }
}
