//! Sound and rumble on their way to the client.

use std::time::Duration;

use ipc::event::now_ns;
use ipc::ring::{ChunkFlags, ChunkHeader, RingProducer};
use ipc::{Generation, PlaneKind, ToNet};
use lumen_core::audio::{self, AUDIO_DATAGRAM};
use lumen_core::input::{PadIndex, RUMBLE_DATAGRAM, Rumble};

use super::host::Host;
use super::session::Session;

/// Long enough for a datagram on this machine, if one has been sent.
const MOMENT: Duration = Duration::from_millis(200);

/// Puts one packet into an audio ring.
fn play(ring: &mut RingProducer, number: u32, captured_ns: u64, packet: &[u8]) {
    let header =
        ChunkHeader { generation: 1, frame: number, flags: ChunkFlags::LAST, captured_ns, ..ChunkHeader::default() };
    ring.reserve().expect("the ring has room").commit(header, packet).unwrap();
}

/// The next audio datagram: its number, its time and its packet.
fn hear(session: &Session) -> (u32, u64, Vec<u8>) {
    let datagram = session.client.datagram(AUDIO_DATAGRAM);
    let (seq, pts_ns, packet) = audio::parse(&datagram).expect("a whole datagram");
    (seq, pts_ns, packet.to_vec())
}

/// The next rumble datagram.
fn felt(session: &Session) -> Option<Rumble> {
    Rumble::decode(&session.client.datagram(RUMBLE_DATAGRAM)[1..])
}

/// Puts one state into a haptics ring.
fn rumble(ring: &mut RingProducer, pad: u8, low: u16, high: u16) -> Rumble {
    let rumble = Rumble { pad: PadIndex::new(pad).unwrap(), low, high };
    let header = ChunkHeader { flags: ChunkFlags::LAST, ..ChunkHeader::default() };
    ring.reserve().expect("the ring has room").commit(header, &rumble.encode()).unwrap();
    rumble
}

#[test]
fn packets_keep_their_bytes_and_times_and_their_numbers_go_on_over_rewirings() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 3);
    let mut seq = 0;
    for generation in 1..=3 {
        let mut ring = host.wire_audio(session.id, generation);
        for number in 0..10 {
            let packet = vec![number as u8; 80 + generation as usize];
            let pts_ns = now_ns();
            play(&mut ring, number, pts_ns, &packet);
            assert_eq!(hear(&session), (seq, pts_ns, packet));
            seq += 1;
        }
    }
    // What the plane had no room for is missing on the wire too.
    let mut ring = host.wire_audio(session.id, 4);
    play(&mut ring, 5, now_ns(), b"after five others");
    assert_eq!(hear(&session).0, seq + 5);
    let stats = session.expect_stats(&mut host, |stats| stats.audio_packets == 31);
    assert_eq!(stats.audio_dropped, 0);
    assert!(host.stop().success());
}

#[test]
fn sound_begins_with_the_client_and_not_before() {
    let mut host = Host::program();
    let mut session = Session::welcomed(&mut host, 1);
    let mut ring = host.wire_audio(session.id, 1);
    for number in 0..200 {
        play(&mut ring, number, now_ns(), b"too early");
    }
    assert_eq!(session.client.datagram_within(AUDIO_DATAGRAM, MOMENT), None);
    session.start();
    session.media.send_probe();
    // The plane goes on all the time; the first packet that the client gets is number 0 to it.
    let mut number = 200;
    let first = loop {
        play(&mut ring, number, now_ns(), b"in time");
        number += 1;
        if let Some(datagram) = session.client.datagram_within(AUDIO_DATAGRAM, MOMENT) {
            break datagram;
        }
    };
    let (seq, _, packet) = audio::parse(&first).unwrap();
    assert_eq!((seq, packet), (0, &b"in time"[..]));
    assert!(host.stop().success());
}

#[test]
fn stale_packets_are_skipped_and_counted() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    let mut ring = host.wire_audio(session.id, 1);
    let now = now_ns();
    for number in 0..40 {
        play(&mut ring, number, now - 1_000_000_000, b"of a second ago");
    }
    play(&mut ring, 40, now_ns(), b"of now");
    let (seq, _, packet) = hear(&session);
    assert_eq!((seq, &packet[..]), (40, &b"of now"[..]));
    let stats = session.expect_stats(&mut host, |stats| stats.audio_packets == 1);
    assert_eq!(stats.audio_dropped, 40);
    assert!(host.stop().success());
}

#[test]
fn a_retired_or_stale_ring_is_silent() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    let mut old = host.wire_audio(session.id, 2);
    play(&mut old, 0, now_ns(), b"heard");
    assert_eq!(hear(&session).2, b"heard");
    host.tell(ToNet::RetireAudio { session: session.id, generation: Generation(1) });
    play(&mut old, 1, now_ns(), b"that was another's");
    assert_eq!(hear(&session).2, b"that was another's");
    host.tell(ToNet::RetireAudio { session: session.id, generation: Generation(2) });
    let mut stale = host.wire_audio(session.id, 2);
    let mut new = host.wire_audio(session.id, 3);
    play(&mut stale, 0, now_ns(), b"stale");
    play(&mut new, 0, now_ns(), b"new");
    let (seq, _, packet) = hear(&session);
    assert_eq!((seq, &packet[..]), (2, &b"new"[..]));
    assert_eq!(session.client.datagram_within(AUDIO_DATAGRAM, MOMENT), None);
    assert!(host.stop().success());
}

#[test]
fn an_audio_plane_that_lies_costs_the_session_its_sound_only() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    let mut ring = host.wire_audio(session.id, 1);
    play(&mut ring, 5, now_ns(), b"good");
    play(&mut ring, 4, now_ns(), b"backwards");
    let (generation, reason) = host.expect_branch_broken(session.id, PlaneKind::Audio);
    assert!(generation == Generation(1) && reason.contains("order"), "{reason}");
    session.frame(0, 10_000, true);
    let mut ring = host.wire_audio(session.id, 2);
    let header = ChunkHeader { flags: ChunkFlags::NONE, ..ChunkHeader::default() };
    ring.reserve().unwrap().commit(header, b"half a packet").unwrap();
    let (generation, reason) = host.expect_branch_broken(session.id, PlaneKind::Audio);
    assert!(generation == Generation(2) && reason.contains("one chunk"), "{reason}");
    session.frame(1, 10_000, false);
    let mut ring = host.wire_audio(session.id, 3);
    play(&mut ring, 0, now_ns(), b"sound again");
    assert_eq!(hear(&session).2, b"good");
    assert_eq!(hear(&session).2, b"sound again");
    assert!(host.stop().success());
}

#[test]
fn rumble_reaches_the_client_and_the_newest_state_wins() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    let mut plane = host.wire_input(session.id, 1);
    let said = rumble(&mut plane.haptics, 15, 1, u16::MAX);
    assert_eq!(felt(&session), Some(said));
    // A game that changes its mind all the time: the client hears the end of it, and not everything before.
    let mut last = said;
    for strength in 0..600 {
        last = rumble(&mut plane.haptics, 0, strength, 0);
    }
    let mut heard = 0;
    loop {
        heard += 1;
        if felt(&session) == Some(last) {
            break;
        }
    }
    assert!(heard < 300, "{heard} datagrams for 600 changes");
    let stats = session.expect_stats(&mut host, |stats| stats.rumbles == heard + 1);
    assert_eq!(stats.audio_packets, 0);
    assert!(host.stop().success());
}

#[test]
fn an_input_plane_that_speaks_nonsense_costs_the_session_its_input_only() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    let mut plane = host.wire_input(session.id, 1);
    let header = ChunkHeader { flags: ChunkFlags::LAST, ..ChunkHeader::default() };
    let mut pad_255 = Rumble { pad: PadIndex::new(0).unwrap(), low: 0, high: 0 }.encode();
    pad_255[0] = 255;
    plane.haptics.reserve().unwrap().commit(header, &pad_255).unwrap();
    let (generation, reason) = host.expect_branch_broken(session.id, PlaneKind::Input);
    assert!(generation == Generation(1) && reason.contains("rumble"), "{reason}");
    session.frame(0, 10_000, true);
    let mut plane = host.wire_input(session.id, 2);
    let said = rumble(&mut plane.haptics, 0, 7, 7);
    assert_eq!(felt(&session), Some(said));
    assert!(host.stop().success());
}
