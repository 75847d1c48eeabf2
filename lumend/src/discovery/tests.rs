//! In a network namespace of the test's own, on links that lead nowhere.

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::process::{Command, Stdio};

use nix::poll::{PollFd, PollFlags, poll};

use super::*;

/// A bound on hanging, not on speed.
const PATIENCE: u16 = 20_000;

#[test]
fn a_host_name_becomes_a_label() {
    for (name, expected) in [
        ("desk", "desk-lumen"),
        ("Desk.example.org", "desk-lumen"),
        ("my desk_2", "my-desk-2-lumen"),
        ("--", "host-lumen"),
        ("", "host-lumen"),
        ("schreibtisch-\u{fc}", "schreibtisch-lumen"),
    ] {
        assert_eq!(label(name), expected);
    }
    assert!(label(&"x".repeat(200)).len() <= LABEL - 4);
}

/// Runs a test of this file again, in a namespace where it may make interfaces.
fn in_namespace(name: &str) {
    let own = std::env::current_exe().unwrap();
    let mut again = Command::new("unshare");
    again.args(["--user", "--map-root-user", "--net", "--"]).arg(own);
    again.args(["--exact", &format!("discovery::tests::{name}"), "--ignored", "--nocapture"]);
    let output = again.stdin(Stdio::null()).output().expect("unshare of util-linux");
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "{said}{}", String::from_utf8_lossy(&output.stderr));
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip of iproute2");
    assert!(status.success(), "ip {arguments}");
}

/// A link with these addresses, and none that the kernel thinks of itself.
fn link(name: &str, addresses: &[&str]) {
    ip(&format!("link add {name} type veth peer name {name}x"));
    for end in [name, &format!("{name}x")] {
        ip(&format!("link set {end} addrgenmode none"));
        ip(&format!("link set {end} up"));
    }
    for address in addresses {
        ip(&format!("addr add dev {name} {address}"));
    }
}

fn offers() -> [Offer; 1] {
    [Offer { face: Face::GameStream, address: SocketAddr::from(([0, 0, 0, 0], 47989)) }]
}

/// Waits for the kernel's news until a look, at the time for which it is planned, finds a change.
fn await_change(discovery: &mut Discovery) {
    loop {
        if let Some(at) = discovery.deadline()
            && discovery.changed(at)
        {
            return;
        }
        let source = discovery.source().unwrap();
        assert_eq!(poll(&mut [PollFd::new(source, PollFlags::POLLIN)], PATIENCE), Ok(1), "the kernel says nothing");
        discovery.woken(0);
    }
}

#[test]
fn follows_the_machines_links() {
    in_namespace("follows_links");
}

#[test]
#[ignore = "is run by the test above, in a namespace"]
fn follows_links() {
    let mut discovery = Discovery::new(true, "desk");
    let told = discovery.announce(0, &offers()).unwrap();
    assert!(told.interfaces.is_empty() && told.host == "desk-lumen");
    assert_eq!(told.services, [Service { face: Face::GameStream, port: 47989 }]);

    link("lumen0", &["192.0.2.1/24"]);
    let addresses = loop {
        await_change(&mut discovery);
        let mut told = discovery.announce(0, &offers()).unwrap();
        if let Some(interface) = told.interfaces.pop() {
            assert!(interface.v4.is_some());
            break interface.addresses;
        }
    };
    assert_eq!(addresses, [IpAddr::from([192, 0, 2, 1])]);

    ip("addr add 192.0.2.2/24 dev lumen0");
    loop {
        await_change(&mut discovery);
        let told = discovery.announce(0, &offers()).unwrap();
        if told.interfaces[0].addresses == [IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2])] {
            break;
        }
    }
    // What listens on one address is found by that alone, and what listens on loopback not at all.
    let on = |address: [u8; 4]| [Offer { face: Face::Lumen, address: SocketAddr::from((address, 1)) }];
    let told = discovery.announce(0, &on([192, 0, 2, 2])).unwrap();
    assert_eq!(told.interfaces[0].addresses, [IpAddr::from([192, 0, 2, 2])]);
    assert!(discovery.announce(0, &on([192, 0, 2, 9])).unwrap().interfaces.is_empty());
    assert!(discovery.announce(0, &on([127, 0, 0, 1])).unwrap().services.is_empty());

    ip("link del lumen0");
    loop {
        await_change(&mut discovery);
        if discovery.announce(0, &offers()).unwrap().interfaces.is_empty() {
            break;
        }
    }
    assert!(discovery.deadline().is_none(), "nothing has failed");
}

#[test]
fn sockets_hear_the_group_on_their_link_beside_other_responders() {
    in_namespace("hears_its_link");
}

#[test]
#[ignore = "is run by the test above, in a namespace"]
fn hears_its_link() {
    for number in 1..=2 {
        link(&format!("lumen{number}"), &[&format!("192.0.{number}.1/24"), &format!("2001:db8:{number}::1/64 nodad")]);
    }
    // As avahi binds.
    let other = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).unwrap();
    other.set_reuse_address(true).unwrap();
    other.set_reuse_port(true).unwrap();
    other.bind(&SocketAddr::from(([0, 0, 0, 0], 5353)).into()).unwrap();
    let other = UdpSocket::from(other);

    let mut discovery = Discovery::new(true, "desk");
    assert_eq!(discovery.links.len(), 2, "{:?}", discovery.links);
    let told = discovery.announce(0, &offers()).unwrap();
    let sockets: Vec<_> = told
        .interfaces
        .into_iter()
        .map(|interface| (UdpSocket::from(interface.v4.unwrap()), UdpSocket::from(interface.v6.unwrap())))
        .collect();
    let (v4, v6) = ((Ipv4Addr::new(224, 0, 0, 251), 5353), (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb), 5353));
    for (at, (four, six)) in sockets.iter().enumerate() {
        let word = [at as u8];
        four.send_to(&word, v4).unwrap();
        six.send_to(&word, v6).unwrap();
    }
    // Each hears itself and nothing of the other link.
    for (at, (four, six)) in sockets.iter().enumerate() {
        for socket in [four, six] {
            assert_eq!(poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], PATIENCE), Ok(1));
            let mut heard = [0; 8];
            let (length, from) = socket.recv_from(&mut heard).unwrap();
            assert_eq!((&heard[..length], from.port()), (&[at as u8][..], 5353));
            assert_eq!(socket.recv(&mut heard).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
    }
    // Nothing that is meant for the other responder alone is taken from it.
    sockets[0].0.send_to(b"x", "192.0.1.1:5353").unwrap();
    other.set_read_timeout(Some(std::time::Duration::from_millis(u64::from(PATIENCE)))).unwrap();
    assert_eq!(other.recv(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn off_is_off() {
    let mut discovery = Discovery::new(false, "desk");
    assert!(discovery.source().is_none() && discovery.announce(0, &offers()).is_none());
    discovery.woken(0);
    assert!(discovery.deadline().is_none() && !discovery.changed(u64::MAX));
}
