//! What strangers' bytes come to first in this plane, for the targets in `fuzz/`. Built with the feature `fuzz` alone.

mod guest;
mod media;
mod pairing;
mod rings;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipc::{Face, Service, SessionId};
use rustls::SignatureScheme;
use rusty_enet::{Host, HostSettings, MTU_MAX, PacketReceived, Socket};

use crate::discovery::responder::Responder;
use crate::discovery::zone::Zone;
use crate::gamestream::certificate::Certificate;
use crate::gamestream::enet::gate::{Gate, PEERS, Verdict};
use crate::gamestream::enet::wire::CHANNELS;
use crate::gamestream::http;
use crate::gamestream::request::Page;
use crate::media::socket::Peer;

pub use guest::Seated;
pub use media::{GENERATION, Media, ping};
pub use pairing::Strangers;
pub use rings::Rings;

/// Whom the gate lets in: with this connect data.
pub const CONNECT_DATA: u32 = 0x0102_0304;
const STEP_NS: u64 = 1_000_000;

/// An HTTP request. True if it is whole.
pub fn http(bytes: &[u8]) -> bool {
    matches!(http::parse(bytes), Ok(Some(_)))
}

/// The target of a request of GameStream. True if it is well-formed.
pub fn page(target: &str) -> bool {
    !matches!(Page::parse(target), Page::Malformed(_) | Page::MalformedPrivate(_) | Page::Unknown)
}

/// A client's certificate: DER, or PEM.
pub fn certificate(bytes: &[u8]) -> bool {
    let read = Certificate::from_der(bytes).or_else(|| Certificate::from_pem(bytes));
    // Its key is the client's choice too, and what it is said to have signed.
    for scheme in [SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::RSA_PSS_SHA512] {
        let _ = read.as_ref().is_some_and(|read| read.has_signed(scheme, b"text", &[1; 256]));
    }
    read.is_some()
}

/// The datagrams that an address sends to the ENet host, a millisecond apart: the gate, and behind it the library. What
/// it gets to keep is bounded.
pub fn enet<'a>(datagrams: impl Iterator<Item = &'a [u8]>) {
    let from = Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), local: None };
    let mut gate = Gate::default();
    gate.expect(CONNECT_DATA, SessionId(1), None);
    let clock = Arc::new(AtomicU64::new(0));
    let time = clock.clone();
    let settings = HostSettings {
        peer_limit: PEERS,
        channel_limit: CHANNELS,
        time: Box::new(move || Duration::from_nanos(time.load(Ordering::Relaxed))),
        seed: Some(1),
        ..HostSettings::default()
    };
    let Ok(mut host) = Host::new(Tape::default(), settings) else { panic!("ENet cannot be set up") };
    for datagram in datagrams {
        let now_ns = clock.fetch_add(STEP_NS, Ordering::Relaxed);
        if gate.judge(now_ns, from, datagram) == Verdict::Pass {
            host.socket_mut().arrived.push_back((from.address, datagram.to_vec()));
        }
        while let Ok(Some(_)) = host.service() {}
        assert!(host.socket().arrived.is_empty());
        while let Some((address, said)) = host.socket_mut().said.pop_front() {
            gate.said(address, &said);
        }
    }
    // Whoever is there is given up when nothing more comes: in the end, since a client may claim to be a minute away.
    for _ in 0..16 {
        clock.fetch_add(60_000_000_000, Ordering::Relaxed);
        while let Ok(Some(_)) = host.service() {}
    }
    assert_eq!(host.connected_peers().count(), 0);
}

/// Datagrams for the mDNS responder, from one address, a tenth of a second apart, and what it answers.
pub fn mdns<'a>(datagrams: impl Iterator<Item = &'a [u8]>) {
    let own = Ipv4Addr::new(192, 0, 2, 1).into();
    let zone = Zone {
        host: "host".into(),
        services: vec![Service { face: Face::GameStream, port: 47989 }, Service { face: Face::Lumen, port: 47800 }],
        addresses: vec![own],
        own: [own].into(),
    };
    let from = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 2), 5353));
    let mut responder = Responder::new(0, zone, 1);
    // It has its name by now, or would have.
    let mut now = 0;
    for datagram in datagrams {
        responder.receive(now, from, datagram);
        now += 100_000_000;
        let said = std::iter::from_fn(|| responder.poll(now)).take(256).count();
        assert!(said < 256, "it does not stop");
    }
}

/// A socket that is not one: what has arrived, and what was sent.
#[derive(Default)]
struct Tape {
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
    said: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Socket for Tape {
    type Address = SocketAddr;
    type Error = Infallible;

    fn send(&mut self, address: SocketAddr, buffer: &[u8]) -> Result<usize, Infallible> {
        self.said.push_back((address, buffer.to_vec()));
        Ok(buffer.len())
    }

    fn receive(&mut self, buffer: &mut [u8; MTU_MAX]) -> Result<Option<(SocketAddr, PacketReceived)>, Infallible> {
        let Some((address, datagram)) = self.arrived.pop_front() else { return Ok(None) };
        buffer[..datagram.len()].copy_from_slice(&datagram);
        Ok(Some((address, PacketReceived::Complete(datagram.len()))))
    }
}
