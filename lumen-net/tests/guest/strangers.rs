//! GameStream's listeners under strangers, floods and lies: refused or bounded, and other sessions do not notice.

use std::net::{TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lumen_core::InputEvent;
use lumen_core::gamestream::Encryption;
use lumen_core::gamestream::control::ControlVersion;
use lumen_core::gamestream::input::Packet;
use lumen_core::input::{Held, KeyCode};

use super::client::{Control, PATIENCE, Rtsp};
use super::hub::{Client, Plane, TestHub};

const MOMENT: Duration = Duration::from_millis(200);

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_millis(1_500);

fn press(vk: u8, pressed: bool) -> Packet {
    Packet::Key { vk, pressed, normalised: true }
}

/// The session works: a key goes through.
fn check(client: &mut Client, plane: &mut Plane) {
    client.control.input(2, press(0x42, true));
    let code = KeyCode::new(48).unwrap();
    while plane.next(&mut client.control) != (InputEvent::Key { code, pressed: true }) {}
    client.control.input(2, press(0x42, false));
    assert_eq!(plane.next(&mut client.control), InputEvent::Key { code, pressed: false });
}

#[test]
fn strangers_get_nowhere_in_rtsp() {
    let mut hub = TestHub::new(Encryption::Auto);
    let mut stranger = Rtsp::new(hub.rtsp, None);
    assert_eq!(stranger.ask("OPTIONS", "/", "", "").unwrap().0, 403);
    assert_eq!(stranger.ask("PLAY", "/", "Session: AAAAAAAAAAAAAAAA\r\n", "").unwrap().0, 454);
    // A sealed session does not answer in clear, nor to another key, nor to what it does not understand.
    let key = hub.launch(1, true);
    assert_eq!(stranger.ask("OPTIONS", "/", "", "").unwrap().0, 403);
    assert_eq!(Rtsp::new(hub.rtsp, Some([9; 16])).ask("OPTIONS", "/", "", ""), None);
    assert_eq!(stranger.all(&[0x80, 0, 0, 4]), b"");
    let garbage = [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0; 64], &[0xFF; 64], &[b'A'; 20_000]];
    for bytes in garbage {
        let answer = stranger.all(bytes);
        assert!(answer.is_empty() || answer.starts_with(b"RTSP/1.0 400 "), "{}", String::from_utf8_lossy(&answer));
    }
    // Clients look whether the port is open by connecting and hanging up.
    for _ in 0..20 {
        drop(TcpStream::connect(hub.rtsp).unwrap());
    }
    let mut client = Rtsp::new(hub.rtsp, Some(key.bytes));
    let streams = client.set_up();
    client.announce(&streams, &[]);
    hub.expect_tuned(1);
    assert_eq!(client.ask("ANNOUNCE", "streamid=control/13/0", "", "").unwrap().0, 455);
}

#[test]
fn plain_clients_of_one_address_are_told_apart_by_launch_and_name() {
    let mut hub = TestHub::new(Encryption::Auto);
    hub.launch(1, false);
    let mut first = Rtsp::new(hub.rtsp, None);
    let ours = first.set_up();
    hub.launch(2, false);
    let mut second = Rtsp::new(hub.rtsp, None);
    let theirs = second.set_up();
    assert_ne!(ours.session, theirs.session);
    first.announce(&ours, &[]);
    hub.expect_tuned(1);
    second.announce(&theirs, &[]);
    hub.expect_tuned(2);
}

#[test]
fn half_open_connections_make_way() {
    let mut hub = TestHub::new(Encryption::Auto);
    let silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(hub.rtsp).unwrap()).collect();
    let client = hub.started(1, true, &[("x-ss-general.encryptionEnabled", 1)]);
    assert!(hub.counters.snapshot().connections_refused >= 192);
    drop((silent, client));
}

#[test]
fn a_stranger_with_the_right_data_and_the_wrong_key_does_not_keep_the_client_out() {
    let mut hub = TestHub::new(Encryption::Auto);
    let key = hub.launch(1, false);
    let mut rtsp = Rtsp::new(hub.rtsp, None);
    let streams = rtsp.set_up();
    rtsp.announce(&streams, &[("x-ml-general.featureFlags", 3)]);
    hub.expect_tuned(1);
    // It has listened to RTSP in clear.
    let mut stranger = Control::connect(hub.control, streams.connect_data, &[0; 16], ControlVersion::V1);
    stranger.start();
    for length in 0..60 {
        stranger.send(0, &vec![1; length]);
    }
    stranger.idle(MOMENT);
    assert!(hub.next_within(MOMENT).is_none());
    let mut client = Control::connect(hub.control, streams.connect_data, &key.bytes, ControlVersion::V1);
    client.start();
    hub.expect_started(1);
    // Nobody comes after the client.
    let mut late = Control::new(hub.control, streams.connect_data, &key.bytes, ControlVersion::V1);
    late.idle(MOMENT);
    assert!(!late.connected);
    let mut guesser = Control::new(hub.control, streams.connect_data ^ 1, &key.bytes, ControlVersion::V1);
    guesser.idle(MOMENT);
    assert!(!guesser.connected);
    assert!(hub.counters.snapshot().stray_packets > 0);
}

#[test]
fn floods_of_garbage_disturb_nobody() {
    let mut hub = TestHub::new(Encryption::Auto);
    let mut client = hub.started(1, true, &[("x-ss-general.encryptionEnabled", 1)]);
    let mut plane = hub.wire_input(1, 1);
    let stop = AtomicBool::new(false);
    let (control, audio, rtsp) = (hub.control, hub.audio, hub.rtsp);
    thread::scope(|threads| {
        threads.spawn(|| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let mut number = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                let datagram: Vec<u8> = (0..number % 100).map(|at| (number.wrapping_mul(at + 7) >> 3) as u8).collect();
                // The kernel drops what the host does not read in time.
                let _ = socket.send_to(&datagram, if number.is_multiple_of(2) { control } else { audio });
                number = number.wrapping_add(1);
            }
        });
        threads.spawn(|| {
            let mut held = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                held.extend(TcpStream::connect_timeout(&rtsp, MOMENT));
                if held.len() > 100 {
                    held.clear();
                }
            }
        });
        let begun = Instant::now();
        let mut rounds = 0;
        while begun.elapsed() < FLOOD {
            check(&mut client, &mut plane);
            rounds += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(rounds > 10, "{rounds} rounds in {FLOOD:?}");
    });
    let counters = hub.counters.snapshot();
    assert!(counters.stray_packets > 1_000 && counters.connections_refused > 0, "{counters:?}");
}

#[test]
fn garbage_from_the_clients_own_address_does_not_end_its_session() {
    let mut hub = TestHub::new(Encryption::Auto);
    let mut client = hub.started(1, true, &[("x-ss-general.encryptionEnabled", 1)]);
    let mut plane = hub.wire_input(1, 1);
    check(&mut client, &mut plane);
    let socket = client.control.host.socket().try_clone().unwrap();
    let mut seed = 0x2545_F491_u32;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 17;
        seed ^= seed << 5;
        seed
    };
    for round in 0..20_000 {
        let length = random() % 200;
        let mut datagram: Vec<u8> = (0..length).map(|_| random() as u8).collect();
        // Most as datagrams to the client's own peer, with a command that exists; not one that ends the connection.
        if round % 4 != 0 && datagram.len() > 8 {
            datagram[..2].copy_from_slice(&[0x80 | (0x10 * (random() % 4) as u8), 0]);
            datagram[4] &= 0x8F;
            if datagram[4] & 0x0F == 4 {
                datagram[4] ^= 1;
            }
        }
        let _ = socket.send_to(&datagram, hub.control);
        if round % 500 == 0 {
            client.control.pause();
        }
    }
    assert!(!client.control.disconnected);
    // The host lives, and serves others.
    let mut other = hub.started(2, true, &[("x-ss-general.encryptionEnabled", 1)]);
    let mut plane = hub.wire_input(2, 1);
    check(&mut other, &mut plane);
}

#[test]
fn a_flood_of_input_that_nobody_takes_ends_in_nothing_being_held() {
    let mut hub = TestHub::new(Encryption::Auto);
    let mut flooding = hub.started(1, true, &[("x-ss-general.encryptionEnabled", 1)]);
    let mut other = hub.started(2, true, &[("x-ss-general.encryptionEnabled", 1)]);
    let (mut flooded, mut plane) = (hub.wire_input(1, 1), hub.wire_input(2, 1));
    let begun = Instant::now();
    let mut sent = 0;
    while sent < 6_000 {
        assert!(begun.elapsed() < PATIENCE, "stuck after {sent}");
        // Presses and releases that cannot be merged, and nobody reads them.
        for _ in 0..100 {
            flooding.control.input(2, press(0x41 + (sent % 20) as u8, true));
            sent += 1;
        }
        check(&mut other, &mut plane);
    }
    // Once somebody does, what was lost holds nothing down.
    let mut lifted = false;
    flooding.control.until("everything is let go of", |_| {
        while let Some(event) = flooded.take() {
            lifted |= event == InputEvent::Held(Held::NOTHING);
        }
        lifted
    });
    // Much of the flood is still under way, and what is let go of then is let go of once more; but it ends.
    let code = KeyCode::new(48).unwrap();
    let mut last = None;
    flooding.control.until("the last release comes through", |control| {
        control.input(2, press(0x42, false));
        control.idle(Duration::from_millis(20));
        while let Some(event) = flooded.take() {
            last = Some(event);
        }
        last == Some(InputEvent::Key { code, pressed: false })
    });
}
