//! Garbage on every door, while a stream goes on that must not notice.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use e2e::inject::{Outcome, syscall};
use e2e::trial::{only_replaced, pids, sound, stage, trace, wait_for_frames, watch};
use nix::libc;
use nix::sys::signal::Signal;
use xtask::host::{Desktop, Host};

/// Deterministic rubbish.
fn rubbish(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

#[test]
fn garbage_on_the_network_and_the_control_socket_disturbs_nobody() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 8, &[]).unwrap();
    wait_for_frames(&host, 60).unwrap();
    let before = pids(&host).unwrap();

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for port in [host.port(), host.port() + 1] {
        for seed in 0..2000 {
            let length = (seed as usize * 7) % 1400;
            socket.send_to(&rubbish(length, seed), ("127.0.0.1", port)).unwrap();
        }
    }
    // Packets that look right up to their seal: a probe for this session, another, and impossible kinds.
    for seed in 0..2000_u64 {
        let mut packet = rubbish(64, seed);
        packet[0] = (seed % 8) as u8;
        packet[4..8].copy_from_slice(&(seed as u32 % 4).to_le_bytes());
        packet[8..12].copy_from_slice(&1_u32.to_le_bytes());
        socket.send_to(&packet, ("127.0.0.1", host.port() + 1)).unwrap();
    }

    let door = stage.path().join("run/host/ctl.sock");
    for seed in 0..50 {
        let mut stream = UnixStream::connect(&door).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let _ = stream.write_all(&rubbish(20_000, seed));
        let _ = stream.write_all(b"\n");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    // One that says nothing at all and stays.
    let silent = UnixStream::connect(&door).unwrap();
    let status = host.status().unwrap();
    drop(silent);
    assert_eq!(status["sessions"].as_array().unwrap().len(), 1, "{status:#}");
    assert_eq!(pids(&host).unwrap(), before, "nothing was restarted");

    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    assert_eq!(report["frames"]["lost"], 0, "{report:#}");
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
}

#[test]
fn garbage_on_a_link_ends_the_plane_that_sent_it_and_nothing_else() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 8, &[]).unwrap();
    wait_for_frames(&host, 60).unwrap();
    for plane in ["capture", "encode"] {
        let before = pids(&host).unwrap();
        let pid = host.planes(plane).unwrap()[0];
        let (link, text, length) = (Some(ipc::plane::LINK_FD as u64), rubbish(64, 5), Some(64));
        let sent = syscall(pid, libc::SYS_write as u64, &text, &[link, None, length]).unwrap();
        // lumend may have read it, and killed the plane, before the call has returned.
        let arrived = [Outcome::Returned(64), Outcome::Killed(Signal::SIGKILL)].contains(&sent);
        assert!(arrived, "the plane can write to its link: {sent:?}");
        only_replaced(&host, plane, pid, &before).unwrap();
    }
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
}

#[test]
fn replayed_packets_of_the_host_change_nothing() {
    use e2e::relay::{Relay, Weather};
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    // Every packet of the host comes twice in its place, and once more when its frame is long over. None comes late
    // itself: what is lost would be lost to a copy.
    let weather = Weather { duplicate: 1000, replay: 1000, seed: 11, ..Weather::default() };
    let media = ([127, 0, 0, 1], host.port() + 1).into();
    let relay = Relay::start(media, weather).unwrap();
    let through = relay.address().to_string();
    let client = watch(&stage, &host, "viewer", 5, &["--media", &through]).unwrap();
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["lost"], 0, "{report:#}");
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    let counted = |kind: &str| report["packets"][kind].as_u64().unwrap();
    assert!(counted("received") > 500 && counted("duplicates") > counted("received"), "not all came again: {report:#}");
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
}
