//! GameStream sessions from RTSP to goodbye: control, input, rumble and sound.

use std::time::Duration;

use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use ipc::ring::{ChunkFlags, ChunkHeader};
use ipc::{Colour, EndCode, Matrix, SessionId};
use lumen_core::audio::PacketTime;
use lumen_core::gamestream::Encryption;
use lumen_core::gamestream::control::{ControlVersion, FecStatus, FromGuest, Termination, ToGuest};
use lumen_core::gamestream::input::Packet;
use lumen_core::input::{Button, KeyCode, MOTION_UNITS, PadButtons, PadIndex, PadKind, PadState, Rumble};
use lumen_core::{AudioLayout, InputEvent};
use lumen_net::gamestream::hub::{HubEvent, HubOrder};

use super::client::{Audio, Control, Rtsp};
use super::hub::{Plane, TestHub, play};

/// Long enough for something on this machine, if it was going to happen.
const MOMENT: Duration = Duration::from_millis(200);

/// Everything encrypted, as clients say it.
const ENCRYPTED: [(&str, u32); 3] = [
    ("x-ss-general.encryptionEnabled", 7),
    ("x-nv-general.featureFlags", 0x20 | 0x80),
    ("x-ml-general.featureFlags", 3),
];

fn key(vk: u8, pressed: bool) -> Packet {
    Packet::Key { vk, pressed, normalised: true }
}

fn a(pressed: bool) -> InputEvent {
    InputEvent::Key { code: KeyCode::new(30).unwrap(), pressed }
}

fn feel(plane: &mut Plane, pad: u8, low: u16, high: u16) -> Rumble {
    let rumble = Rumble { pad: PadIndex::new(pad).unwrap(), low, high };
    let header = ChunkHeader { flags: ChunkFlags::LAST, ..ChunkHeader::default() };
    plane.haptics.reserve().expect("the ring has room").commit(header, &rumble.encode()).unwrap();
    rumble
}

#[test]
fn what_a_client_announces_becomes_the_sessions_tuning() {
    let mut hub = TestHub::new(Encryption::Auto);
    let attributes = [
        ("x-nv-video[0].packetSize", 1392),
        ("x-ml-video.configuredBitrateKbps", 20_000),
        ("x-nv-video[0].encoderCscMode", 3),
        ("x-nv-audio.surround.numChannels", 6),
        ("x-nv-aqos.packetDuration", 10),
        ("x-ml-general.featureFlags", 3),
    ];
    let client = hub.started(1, false, &attributes);
    let tuning = client.tuning;
    assert_eq!((tuning.bitrate_kbps, tuning.audio), (16_000, AudioLayout::Surround51));
    assert_eq!(tuning.audio_packet, PacketTime::Ten);
    assert_eq!(tuning.colour, Colour { matrix: Matrix::Bt709, full_range: true });
    assert!(tuning.frame_bytes > 1_000_000, "{}", tuning.frame_bytes);
    assert_eq!(client.media.ping, client.streams.video.ping.as_bytes());
    assert_eq!((client.media.config.packet_size.get(), client.media.config.key), (1392, None));
    assert_eq!(client.media.address, None);

    let sealed = hub.started(2, true, &ENCRYPTED);
    assert_eq!(sealed.media.config.key, Some(sealed.key.bytes));
    assert_ne!(sealed.streams.connect_data, client.streams.connect_data);
    assert_ne!(sealed.streams.video.ping, client.streams.video.ping);
}

#[test]
fn a_client_that_knows_neither_payloads_nor_connect_data_is_served_too() {
    let mut hub = TestHub::new(Encryption::Auto);
    let key = hub.launch(1, false);
    let mut rtsp = Rtsp::new(hub.rtsp, None);
    let streams = rtsp.set_up();
    rtsp.announce(&streams, &[]);
    assert_eq!(hub.expect_tuned(1).1.address, Some([127, 0, 0, 1].into()));
    let mut control = Control::connect(hub.control, 0, &key.bytes, ControlVersion::V1);
    control.start();
    hub.expect_started(1);
    let audio = Audio::new(hub.audio, "");
    audio.socket.send_to(b"PING", hub.audio).unwrap();
    let mut ring = hub.wire_audio(1, 1);
    audio.socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut number = 0;
    control.until("sound comes to who pings as old clients do", |_| {
        play(&mut ring, number, &[1; 80]);
        number += 1;
        audio.socket.recv(&mut [0; 2048]).is_ok()
    });
}

/// Input of all kinds, in its order on each channel, and rumble back.
fn hands(sealed: bool) {
    let mut hub = TestHub::new(Encryption::Auto);
    let mut client = hub.started(1, sealed, if sealed { &ENCRYPTED } else { &[("x-ml-general.featureFlags", 3)] });
    let mut plane = hub.wire_input(1, 1);
    let control = &mut client.control;
    let pad = PadIndex::new(2).unwrap();
    let state = PadState { buttons: PadButtons::new(PadButtons::A), left_stick: (1, -2), ..PadState::default() };
    control.input(2, key(0x41, true));
    assert_eq!(plane.next(control), a(true));
    control.input(2, key(0x41, false));
    assert_eq!(plane.next(control), a(false));
    control.input(3, Packet::Motion { dx: 3, dy: -4 });
    assert_eq!(plane.next(control), InputEvent::Motion { dx: 3 * MOTION_UNITS, dy: -4 * MOTION_UNITS });
    control.input(3, Packet::Button { button: Button::Right, pressed: true });
    assert_eq!(plane.next(control), InputEvent::Button { button: Button::Right, pressed: true });
    control.input(0x12, Packet::Pad { pad, present: 4, state });
    assert_eq!(plane.next(control), InputEvent::PadArrived { pad, kind: PadKind::Unknown });
    assert_eq!(plane.next(control), InputEvent::PadState { pad, state });
    control.input(0x12, Packet::Pad { pad, present: 0, state });
    assert_eq!(plane.next(control), InputEvent::PadRemoved { pad });
    // What this host cannot do costs nothing else.
    control.say(0, &FromGuest::Unknown(0x1234));
    control.input(0, Packet::Unknown(0x5500_00FF));
    control.input(2, key(0x41, true));
    assert_eq!(plane.next(control), a(true));

    let strong = feel(&mut plane, 2, 60_000, 1);
    assert_eq!(control.hear(), ToGuest::Rumble(strong));
    // What the plane only says again is not said again.
    feel(&mut plane, 2, 60_000, 1);
    let off = feel(&mut plane, 2, 0, 0);
    assert_eq!(control.hear(), ToGuest::Rumble(off));
    control.idle(MOMENT);
    assert!(!control.has_heard());
}

#[test]
fn hands_by_control_encryption_v1() {
    hands(false);
}

#[test]
fn hands_by_control_encryption_v2() {
    hands(true);
}

#[test]
fn a_client_asks_for_keyframes_and_tells_of_loss() {
    let mut hub = TestHub::new(Encryption::Auto);
    let mut client = hub.started(1, true, &ENCRYPTED);
    let keyframe = |event| matches!(event, HubEvent::Keyframe { session: SessionId(1) }).then_some(());
    // The first half of "start" is a request for one.
    hub.expect(keyframe);
    client.control.say(1, &FromGuest::RequestIdr);
    client.control.say(1, &FromGuest::Invalidate { first: 3, last: 9 });
    hub.expect(keyframe);
    let mut status = FecStatus {
        frame: 1,
        highest_received: 99,
        next_contiguous: 90,
        missing_before_highest: 10,
        data: 80,
        parity: 20,
        received_data: 70,
        received_parity: 20,
        percentage: 25,
        block: 0,
        blocks: 1,
    };
    for frame in 1..6 {
        status.frame = frame;
        client.control.say(0, &FromGuest::FecStatus(status));
    }
    let (session, permille) = hub.expect(|event| match event {
        HubEvent::Loss { session, permille } => Some((session, permille)),
        _ => None,
    });
    assert_eq!((session, permille), (SessionId(1), 100));
}

#[test]
fn a_session_ends_with_the_word_that_clients_understand() {
    let mut hub = TestHub::new(Encryption::Auto);
    for (session, sealed) in [(1, true), (2, false)] {
        let mut client = hub.started(session, sealed, if sealed { &ENCRYPTED } else { &[] });
        hub.tell(HubOrder::End { session: SessionId(session), code: EndCode::AppEnded });
        assert_eq!(client.control.hear(), ToGuest::Termination(Termination::Graceful));
        client.control.until("the host hangs up", |control| control.disconnected);
    }
    // One that has not come so far is forgotten without a word.
    let key = hub.launch(3, true);
    hub.tell(HubOrder::End { session: SessionId(3), code: EndCode::Stopped });
    let mut rtsp = Rtsp::new(hub.rtsp, Some(key.bytes));
    assert_eq!(rtsp.ask("OPTIONS", "/", "", ""), None);
    assert!(hub.next_within(MOMENT).is_none_or(|event| matches!(event, HubEvent::Keyframe { .. })));
}

#[test]
fn a_hub_to_which_nobody_listens_obeys_and_says_goodbye() {
    let mut hub = TestHub::with_room(Encryption::Auto, 4);
    let (mut first, mut second) = (hub.started(1, true, &ENCRYPTED), hub.started(2, true, &ENCRYPTED));
    // The first of these reports fill the queue, and the hub stands still with the next one.
    for _ in 0..8 {
        second.control.say(1, &FromGuest::RequestIdr);
        second.control.idle(Duration::from_millis(30));
    }
    hub.tell(HubOrder::End { session: SessionId(1), code: EndCode::Unavailable });
    hub.shut_down();
    assert_eq!(first.control.hear(), ToGuest::Termination(Termination::Encoder));
    assert_eq!(second.control.hear(), ToGuest::Termination(Termination::Graceful));
}

#[test]
fn a_client_that_says_goodbye_is_gone_and_its_name_with_it() {
    let mut hub = TestHub::new(Encryption::Auto);
    let client = hub.started(1, false, &[]);
    let (streams, key) = (client.streams.clone(), client.key);
    client.control.leave();
    assert!(hub.expect_gone(1).contains("control stream"));
    let mut rtsp = Rtsp::new(hub.rtsp, None);
    let session = format!("Session: {}\r\n", streams.session);
    assert_eq!(rtsp.ask("PLAY", "/", &session, "").unwrap().0, 454);
    let mut late = Control::new(hub.control, streams.connect_data, &key.bytes, ControlVersion::V1);
    late.idle(MOMENT);
    assert!(!late.connected);
}

/// GF(2^8) with the polynomial 0x11D.
fn times(mut one: u8, mut other: u8) -> u8 {
    let mut product = 0;
    while other != 0 {
        if other & 1 != 0 {
            product ^= one;
        }
        one = (one << 1) ^ if one & 0x80 != 0 { 0x1D } else { 0 };
        other >>= 1;
    }
    product
}

/// Sound with one packet of each block lost, as a client gets it back.
fn sound(encrypted: bool) {
    const ROWS: [[u8; 4]; 2] = [[0x77, 0x40, 0x38, 0x0e], [0xc7, 0xa7, 0x0d, 0x6c]];
    let mut hub = TestHub::new(Encryption::Auto);
    let client = hub.started(1, true, if encrypted { &ENCRYPTED } else { &[("x-ss-general.encryptionEnabled", 1)] });
    let mut ring = hub.wire_audio(1, 1);
    let opus: Vec<Vec<u8>> =
        (0..12_u8).map(|number| (0..80).map(|at| number.wrapping_mul(37) ^ at).collect()).collect();
    for (number, packet) in opus.iter().enumerate() {
        play(&mut ring, number as u32, packet);
    }
    for block in 0..3_u16 {
        let packets: Vec<Vec<u8>> = (0..6).map(|_| client.audio.packet()).collect();
        let (data, parity) = packets.split_at(4);
        for (at, packet) in data.iter().enumerate() {
            let number = block * 4 + at as u16;
            assert_eq!(packet[..4], [0x80, 97, (number >> 8) as u8, number as u8]);
            assert_eq!(packet[4..8], (u32::from(number) * 5).to_be_bytes());
        }
        for (row, packet) in parity.iter().enumerate() {
            assert_eq!((packet[1], packet[12], packet[13]), (127, row as u8, 97));
            assert_eq!(packet[14..16], (block * 4).to_be_bytes());
        }
        let lost = usize::from(block);
        for (row, packet) in ROWS.iter().zip(parity) {
            // What remains of the parity without the others is a multiple of the lost one.
            let mut rest = packet[24..].to_vec();
            for (at, other) in data.iter().enumerate().filter(|(at, _)| *at != lost) {
                rest.iter_mut().zip(&other[12..]).for_each(|(rest, byte)| *rest ^= times(row[at], *byte));
            }
            let whole: Vec<u8> = data[lost][12..].iter().map(|byte| times(row[lost], *byte)).collect();
            assert_eq!(rest, whole);
        }
        for (at, packet) in data.iter().enumerate() {
            let number = block * 4 + at as u16;
            let mut payload = packet[12..].to_vec();
            if encrypted {
                let iv = client.key.id.wrapping_add(number.into()).to_be_bytes();
                let iv: [u8; 16] = std::array::from_fn(|at| iv.get(at).copied().unwrap_or(0));
                let cipher = UnboundCipherKey::new(&AES_128, &client.key.bytes).unwrap();
                let cipher = PaddedBlockDecryptingKey::cbc_pkcs7(cipher).unwrap();
                let context = DecryptionContext::Iv128(FixedLength::from(iv));
                payload = cipher.decrypt(&mut payload, context).unwrap().to_vec();
            }
            assert_eq!(payload, opus[usize::from(number)]);
        }
    }
}

#[test]
fn sound_in_clear() {
    sound(false);
}

#[test]
fn sound_encrypted() {
    sound(true);
}

#[test]
fn sound_goes_where_the_newest_ping_of_its_own_came_from() {
    let mut hub = TestHub::new(Encryption::Auto);
    let mut first = hub.started(1, true, &ENCRYPTED);
    let second = hub.started(2, true, &ENCRYPTED);
    let mut ring = hub.wire_audio(1, 1);
    play(&mut ring, 0, &[1; 80]);
    first.audio.packet();
    // It has moved, and somebody who does not know its payload would like to have its sound.
    let mut moved = Audio::new(hub.audio, &first.streams.audio.ping);
    moved.pings = 5;
    moved.ping();
    let mut thief = Audio::new(hub.audio, "AAAAAAAAAAAAAAAA");
    thief.ping();
    thief.socket.send_to(b"PING", hub.audio).unwrap();
    // Nor is it to be had by saying again what was overheard, old or new.
    let mut echo = Audio::new(hub.audio, &first.streams.audio.ping);
    for overheard in [1, 6] {
        echo.pings = overheard - 1;
        echo.ping();
    }
    let mut number = 1;
    moved.socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut bytes = [0; 2048];
    first.control.until("sound comes to the new address", |_| {
        play(&mut ring, number, &[1; 80]);
        number += 1;
        moved.socket.recv(&mut bytes).is_ok()
    });
    for deaf in [&thief, &echo, &second.audio] {
        deaf.socket.set_read_timeout(Some(MOMENT)).unwrap();
        assert!(deaf.socket.recv(&mut bytes).is_err());
    }
}

#[test]
fn an_input_plane_may_come_late_and_come_again() {
    let mut hub = TestHub::new(Encryption::Auto);
    let mut client = hub.started(1, true, &ENCRYPTED);
    // ENet has acknowledged these, so they wait for a plane.
    client.control.input(2, key(0x41, true));
    for _ in 0..100 {
        client.control.input(3, Packet::Motion { dx: 1, dy: 0 });
    }
    client.control.idle(MOMENT);
    let mut plane = hub.wire_input(1, 1);
    assert_eq!(plane.next(&mut client.control), a(true));
    let mut moved = 0;
    while moved < 100 * MOTION_UNITS {
        match plane.next(&mut client.control) {
            InputEvent::Motion { dx, dy: 0 } => moved += dx,
            other => panic!("{other:?}"),
        }
    }
    hub.tell(HubOrder::Branch {
        session: SessionId(1),
        order: Box::new(lumen_net::branches::BranchOrder::RetireInput(ipc::Generation(1))),
    });
    client.control.input(2, key(0x41, false));
    client.control.idle(MOMENT);
    let mut heir = hub.wire_input(1, 2);
    // A hub that is late finds order and key at once, and may take the key first.
    let mut up = None;
    client.control.until("the key is let go", |_| {
        up = heir.take().or_else(|| plane.take());
        up.is_some()
    });
    assert_eq!((up, heir.take(), plane.take()), (Some(a(false)), None, None));
}
