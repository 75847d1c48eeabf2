//! A sealed plane on a link: loopback, which is one that no test machine's neighbours hear.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ipc::{Announce, Interface, Service, ToNet};
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, Question, TYPE};
use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use crate::host::{Host, PATIENCE};

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// A responder's socket, as lumend makes them.
fn member() -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    socket.set_multicast_all_v4(false).unwrap();
    socket.bind(&SocketAddrV4::new(GROUP, 5353).into()).unwrap();
    socket.join_multicast_v4_n(&GROUP, &InterfaceIndexOrAddress::Address(Ipv4Addr::LOCALHOST)).unwrap();
    socket.into()
}

/// A neighbour who hears what everybody hears.
fn neighbour() -> UdpSocket {
    let socket = member();
    socket.set_nonblocking(false).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    socket
}

fn host(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn announce(name: &str, port: u16) -> ToNet<OwnedFd> {
    ToNet::Announce(Announce {
        host: host(name),
        services: vec![Service { face: ipc::Face::GameStream, port }],
        interfaces: vec![Interface {
            v4: Some(member().into()),
            v6: None,
            addresses: vec![IpAddr::from([192, 0, 2, 44])],
        }],
    })
}

/// Waits for a message of which `pick` makes something; others speak on this link too.
fn hear<T>(socket: &UdpSocket, mut pick: impl FnMut(&Packet<'_>) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    let mut bytes = [0; 2048];
    loop {
        assert!(Instant::now() < deadline, "nobody says what was expected");
        let Ok(length) = socket.recv(&mut bytes) else { continue };
        if let Some(found) = Packet::parse(&bytes[..length]).ok().as_ref().and_then(&mut pick) {
            return found;
        }
    }
}

/// The port of a host's SRV record in an answer, with its time to live.
fn announced(packet: &Packet<'_>, host: &str) -> Option<(u16, u32)> {
    let name = format!("{host}._nvstream._tcp.local");
    let mut all = packet.answers.iter().chain(&packet.additional_records);
    let found = all.find_map(|record| match &record.rdata {
        RData::SRV(srv) if record.name.to_string() == name => Some((srv.port, record.ttl)),
        _ => None,
    });
    found.filter(|_| packet.has_flags(PacketFlag::RESPONSE))
}

#[test]
fn is_found_announced_and_gone() {
    let plane = Host::program();
    let neighbour = neighbour();
    plane.tell(announce("found", 47989));
    assert_eq!(hear(&neighbour, |packet| announced(packet, &host("found"))), (47989, 120));

    // Somebody who knows DNS alone.
    let stranger = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    stranger.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    stranger.set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    let stranger = UdpSocket::from(stranger);
    stranger.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let mut query = Packet::new_query(77);
    let kind = Name::new_unchecked("_nvstream._tcp.local");
    query.questions.push(Question::new(kind, TYPE::PTR.into(), CLASS::IN.into(), false));
    stranger.send_to(&query.build_bytes_vec().unwrap(), (GROUP, 5353)).unwrap();
    let (address, id) = hear(&stranger, |packet| {
        announced(packet, &host("found"))?;
        packet.additional_records.iter().find_map(|record| match &record.rdata {
            RData::A(a) => Some((Ipv4Addr::from(a.address), packet.id())),
            _ => None,
        })
    });
    assert_eq!((address, id), (Ipv4Addr::new(192, 0, 2, 44), 77));

    // What is no message is counted, and ends nothing.
    let mut plane = plane;
    stranger.send_to(&[0xff; 60], (GROUP, 5353)).unwrap();
    plane.expect_counters(|counters| counters.discovery_ignored >= 1);

    // Another port is another thing to tell: the old one is taken back.
    plane.tell(announce("found", 40000));
    assert_eq!(hear(&neighbour, |packet| announced(packet, &host("found")).filter(|(_, ttl)| *ttl == 0)), (47989, 0));
    assert_eq!(hear(&neighbour, |packet| announced(packet, &host("found")).filter(|(_, ttl)| *ttl > 0)), (40000, 120));
    assert!(plane.stop().success());
    assert_eq!(hear(&neighbour, |packet| announced(packet, &host("found")).filter(|(_, ttl)| *ttl == 0)), (40000, 0));
}

#[test]
fn nothing_is_said_where_nothing_is_served() {
    let plane = Host::program();
    let neighbour = neighbour();
    plane.tell(announce("served", 1));
    hear(&neighbour, |packet| announced(packet, &host("served")));
    plane.tell(ToNet::Announce(Announce { host: host("served"), services: Vec::new(), interfaces: Vec::new() }));
    assert_eq!(hear(&neighbour, |packet| announced(packet, &host("served")).filter(|(_, ttl)| *ttl == 0)), (1, 0));
    assert!(plane.stop().success());
}
