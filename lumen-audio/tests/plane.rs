//! The locked-down program between a real PipeWire and the ring.

mod support;

use std::os::unix::process::ExitStatusExt;

use ipc::plane::EXIT_REOPEN;
use ipc::{DefaultSink, FromAudio, Generation, RingGeometry, SessionId, SinkChoice, ToAudio};
use lumen_core::AudioLayout;
use lumen_core::audio::{FRAME_NS, PacketTime};

use crate::support::player::{Player, Score};
use crate::support::server::{Server, wait};
use crate::support::{Listener, Packet, Plane, amplitude, channel, loudest, wiring};

#[test]
fn what_the_default_sink_plays_comes_out_with_its_channels_in_order() {
    let server = Server::with_speakers("FL,FR");
    let (plane, mut listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Auto);
    assert_eq!(plane.sink(), "Loudspeakers-speakers");
    let player = Player::start(server.connect(), Score::Tones(vec![440.0, 1000.0]));
    listener.wait_for_sound(0.3);
    wait_for_tones(&mut listener, &[440.0, 1000.0]);
    drop(player);
    plane.retire();
    assert!(plane.outcome().success());
}

#[test]
fn surround_keeps_its_six_speakers_apart() {
    let server = Server::with_speakers("FL,FR,FC,LFE,RL,RR");
    let (plane, mut listener) = Plane::wired(&server, AudioLayout::Surround51, SinkChoice::Monitor);
    plane.sink();
    let tones = [400.0, 600.0, 800.0, 1000.0, 1400.0, 1800.0];
    let _player = Player::start(server.connect(), Score::Tones(tones.to_vec()));
    listener.wait_for_sound(0.3);
    wait_for_tones(&mut listener, &tones);
    assert!(plane.ended().success());
}

#[test]
fn another_network_plane_hears_the_same_sound_at_once() {
    let server = Server::with_speakers("FL,FR");
    let (plane, mut listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Auto);
    plane.sink();
    let _player = Player::start(server.connect(), Score::Tones(vec![440.0, 1000.0]));
    listener.wait_for_sound(0.3);
    let last = listener.packets(1).remove(0).header;
    for generation in 2..5 {
        listener.move_to(&plane, generation);
        let first = listener.packets(1).remove(0).header;
        assert_eq!((first.generation, first.frame), (generation, 0), "numbers begin anew");
        assert!(first.captured_ns > last.captured_ns);
        match plane.answer() {
            FromAudio::Wired { generation: wired, sink, .. } => {
                assert_eq!((wired, sink.as_str()), (Generation(generation), "Loudspeakers-speakers"));
            }
            other => panic!("not wired: {other:?}"),
        }
        wait_for_tones(&mut listener, &[440.0, 1000.0]);
    }
    assert!(plane.ended().success());
}

#[test]
fn packets_are_equal_and_leave_evenly_whatever_the_quantum() {
    let server = Server::with_speakers("FL,FR");
    server.force_quantum(1024);
    let (plane, mut listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Auto);
    plane.sink();
    let _player = Player::start(server.connect(), Score::Tones(vec![440.0, 440.0]));
    listener.wait_for_sound(0.3);
    while plane.stats().quantum != 1024 {}
    // What the machine's load does to packets is not ours; bursts would show in most of them, always.
    let even = |packets: &[Packet]| {
        let spacing = |time: fn(&Packet) -> u64| {
            let mut gaps: Vec<u64> = packets.windows(2).map(|two| time(&two[1]) - time(&two[0])).collect();
            gaps.sort_unstable();
            [gaps[10], gaps[50], gaps[90]].into_iter().all(|gap| gap.abs_diff(FRAME_NS) < FRAME_NS / 2)
        };
        spacing(|packet| packet.header.sliced_ns) && spacing(|packet| packet.header.captured_ns)
    };
    let found = (0..40).any(|_| {
        let packets = listener.packets(101);
        assert!(packets.iter().all(|packet| packet.bytes.len() == 80));
        assert!(packets.windows(2).all(|two| two[1].header.captured_ns > two[0].header.captured_ns));
        even(&packets)
    });
    assert!(found, "packets leave in bursts");
    assert!(plane.ended().success());
}

#[test]
fn packets_of_ten_milliseconds_are_made_when_asked_for() {
    let server = Server::with_speakers("FL,FR");
    let plane = Plane::start();
    let (mut listener, mut wiring) = wiring(&server, AudioLayout::Stereo, SinkChoice::Auto);
    (wiring.packet, listener.time) = (PacketTime::Ten, PacketTime::Ten);
    plane.link.send(ToAudio::Wire(wiring)).unwrap();
    plane.sink();
    let _player = Player::start(server.connect(), Score::Tones(vec![440.0, 1000.0]));
    listener.wait_for_sound(0.3);
    wait_for_tones(&mut listener, &[440.0, 1000.0]);
    let packets = listener.packets(100);
    assert!(packets.iter().all(|packet| packet.bytes.len() == 160));
    // A cycle that comes late, on a busy machine, moves those around it.
    let middle = |mut gaps: Vec<u64>| *gaps.select_nth_unstable(50).1;
    let gaps = packets.windows(2).map(|two| two[1].header.captured_ns - two[0].header.captured_ns);
    let gap = middle(gaps.collect());
    assert!(gap.abs_diff(2 * FRAME_NS) < FRAME_NS / 10, "{gap}");
    assert!(plane.ended().success());
}

#[test]
fn silence_flows_with_nothing_playing_and_with_no_sink_at_all() {
    let server = Server::start();
    let (plane, mut listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Monitor);
    let packets = listener.packets(100);
    assert!(packets.iter().all(|packet| loudest(packet) < 1e-4 && packet.bytes.len() == 80));
    assert_eq!(plane.sink(), "none");
    server.add_sink("speakers", "FL,FR");
    let _player = Player::start(server.connect(), Score::Tones(vec![440.0, 440.0]));
    listener.wait_for_sound(0.3);
    let stats = (0..20).map(|_| plane.stats()).find(|stats| stats.silent >= 100).expect("silence is not counted");
    assert!(stats.packets >= stats.silent && stats.dropped == 0, "{stats:?}");
    assert!(plane.ended().success());
}

#[test]
fn a_machine_without_a_sink_gets_one_for_as_long_as_the_plane_lives() {
    let server = Server::start();
    let (plane, mut listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Auto);
    let record = plane.grant();
    assert_eq!(record, DefaultSink { ours: "lumen.1".to_owned(), previous: None });
    assert_eq!(plane.sink(), "Lumen");
    wait(|| server.default_sink().as_deref() == Some("lumen.1"), "the own sink does not become the default");
    // Two programs at once: PipeWire adds them up in the plane.
    let left = Player::start(server.connect(), Score::Tones(vec![440.0, 0.0]));
    let right = Player::start(server.connect(), Score::Tones(vec![0.0, 1000.0]));
    listener.wait_for_sound(0.3);
    wait_for_tones(&mut listener, &[440.0, 1000.0]);
    drop((left, right));
    // A sink that appears is captured instead: people plug loudspeakers in.
    server.add_sink("speakers", "FL,FR");
    assert_eq!(plane.undone(), "lumen.1");
    wait(|| server.node("lumen.1").is_none(), "the own sink stays");
    wait(|| server.default_sink().as_deref() == Some("speakers"), "the default stays");
    assert_eq!(server.configured_sink(), None);
    let _player = Player::start(server.connect(), Score::Tones(vec![440.0, 440.0]));
    listener.wait_for_sound(0.3);
    assert!(plane.ended().success());
}

/// Waits until each channel has its own tone, at the level it is played at, and no other's. A busy machine may lose a
/// cycle here and there, which is why it has more than one try.
fn wait_for_tones(listener: &mut Listener, tones: &[f32]) {
    let apart = |packets: &[Packet]| {
        tones.iter().enumerate().all(|(speaker, own)| {
            let signal = channel(packets, speaker, tones.len());
            tones.iter().all(|tone| {
                let expected = if tone == own { 0.46..0.54 } else { 0.0..0.03 };
                expected.contains(&amplitude(&signal, *tone))
            })
        })
    };
    // 200 ms hold a whole number of periods of every tone used here.
    assert!((0..50).any(|_| apart(&listener.packets(40))), "the tones are not heard, each on its own channel");
}

#[test]
fn the_default_is_changed_only_when_it_is_on_disk_how_to_put_it_back() {
    let server = Server::with_speakers("FL,FR");
    server.configure_sink("speakers");
    let (plane, mut listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Own);
    let FromAudio::Record(record) = plane.answer() else { panic!("no record") };
    assert_eq!(record, DefaultSink { ours: "lumen.1".to_owned(), previous: Some("speakers".to_owned()) });
    listener.packets(100);
    assert_eq!(server.configured_sink().as_deref(), Some("speakers"), "changed before it was recorded");
    plane.link.send(ToAudio::Recorded { previous: record.previous }).unwrap();
    assert_eq!(plane.sink(), "Lumen");
    wait(|| server.default_sink().as_deref() == Some("lumen.1"), "the own sink does not become the default");
    let _player = Player::start(server.connect(), Score::Tones(vec![440.0, 440.0]));
    listener.wait_for_sound(0.3);
    plane.retire();
    assert_eq!(plane.undone(), "lumen.1");
    assert!(plane.outcome().success());
    assert_eq!(server.configured_sink().as_deref(), Some("speakers"));
    assert!(server.node("lumen.1").is_none());
}

#[test]
fn a_default_that_somebody_else_has_chosen_since_is_left_alone() {
    let server = Server::with_speakers("FL,FR");
    server.add_sink("headphones", "FL,FR");
    server.configure_sink("speakers");
    let (plane, _listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Own);
    assert_eq!(plane.grant().previous.as_deref(), Some("speakers"));
    assert_eq!(plane.sink(), "Lumen");
    server.choose_sink("headphones");
    assert_eq!(plane.undone(), "lumen.1");
    assert!(plane.ended().success());
    assert_eq!(server.configured_sink().as_deref(), Some("headphones"));
}

#[test]
fn a_closed_link_puts_the_default_back_too() {
    let server = Server::with_speakers("FL,FR");
    server.configure_sink("speakers");
    let (plane, _listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Own);
    plane.grant();
    plane.sink();
    assert!(plane.ended().success());
    assert_eq!(server.configured_sink().as_deref(), Some("speakers"));
}

#[test]
fn a_plane_that_finds_its_own_sink_puts_back_what_lumend_knows() {
    let server = Server::with_speakers("FL,FR");
    server.configure_sink("lumen.1");
    let (plane, _listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Own);
    let FromAudio::Record(record) = plane.answer() else { panic!("no record") };
    assert_eq!(record, DefaultSink { ours: "lumen.1".to_owned(), previous: Some("lumen.1".to_owned()) });
    plane.link.send(ToAudio::Recorded { previous: Some("speakers".to_owned()) }).unwrap();
    plane.sink();
    assert!(plane.ended().success());
    assert_eq!(server.configured_sink().as_deref(), Some("speakers"));
}

#[test]
fn what_a_killed_plane_changed_its_heir_puts_back() {
    let server = Server::with_speakers("FL,FR");
    server.configure_sink("speakers");
    let (plane, _listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Own);
    let record = plane.grant();
    plane.sink();
    plane.kill();
    assert_eq!(server.configured_sink().as_deref(), Some("lumen.1"));
    let heir = Plane::start();
    let (_listener, mut wiring) = wiring(&server, AudioLayout::Stereo, SinkChoice::Own);
    wiring.undo = vec![record.clone()];
    heir.link.send(ToAudio::Wire(wiring)).unwrap();
    assert_eq!(heir.undone(), "lumen.1");
    assert_eq!(heir.grant(), record);
    heir.sink();
    heir.retire();
    assert_eq!(heir.undone(), "lumen.1");
    assert!(heir.outcome().success());
    assert_eq!(server.configured_sink().as_deref(), Some("speakers"));
}

#[test]
fn what_a_killed_plane_changed_a_plane_started_just_for_it_puts_back() {
    let server = Server::with_speakers("FL,FR");
    server.configure_sink("speakers");
    let (plane, _listener) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Own);
    let record = plane.grant();
    plane.sink();
    plane.kill();
    let stale = DefaultSink { ours: "lumen.9".to_owned(), previous: Some("headphones".to_owned()) };
    let janitor = Plane::start();
    janitor.link.send(ToAudio::Undo { pipewire: server.connect(), records: vec![stale, record] }).unwrap();
    let mut undone = [janitor.undone(), janitor.undone()];
    undone.sort();
    assert_eq!(undone, ["lumen.1", "lumen.9"]);
    assert!(janitor.outcome().success());
    assert_eq!(server.configured_sink().as_deref(), Some("speakers"));
}

#[test]
fn of_two_sessions_without_a_sink_one_makes_it_and_both_hear_it() {
    let server = Server::start();
    let (first, mut hears_first) = Plane::wired(&server, AudioLayout::Stereo, SinkChoice::Auto);
    assert_eq!(first.grant().ours, "lumen.1");
    first.sink();
    let second = Plane::start();
    let (mut hears_second, mut wiring) = wiring(&server, AudioLayout::Stereo, SinkChoice::Auto);
    wiring.session = SessionId(2);
    second.link.send(ToAudio::Wire(wiring)).unwrap();
    assert_eq!(second.sink(), "Lumen");
    let _player = Player::start(server.connect(), Score::Tones(vec![440.0, 440.0]));
    hears_first.wait_for_sound(0.3);
    hears_second.wait_for_sound(0.3);
    // The sink goes with its session, and the other one makes its own.
    assert!(first.ended().success());
    assert_eq!(second.grant(), DefaultSink { ours: "lumen.2".to_owned(), previous: None });
    wait(|| server.default_sink().as_deref() == Some("lumen.2"), "the other session makes no sink");
    assert!(second.ended().success());
}

#[test]
fn without_pipewire_the_plane_asks_to_be_replaced() {
    for choice in [SinkChoice::Auto, SinkChoice::Own] {
        let mut server = Server::with_speakers("FL,FR");
        let (plane, mut listener) = Plane::wired(&server, AudioLayout::Stereo, choice);
        listener.packets(20);
        server.kill();
        assert_eq!(plane.outcome().code(), Some(EXIT_REOPEN.into()));
    }
}

#[test]
fn a_daemon_that_speaks_no_sense_is_as_good_as_gone() {
    let server = Server::start();
    let plane = Plane::start();
    let (_listener, mut wiring) = wiring(&server, AudioLayout::Stereo, SinkChoice::Auto);
    let (daemon, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    wiring.pipewire = theirs.into();
    plane.link.send(ToAudio::Wire(wiring)).unwrap();
    std::io::Write::write_all(&mut &daemon, &[0xff; 4096]).unwrap();
    drop(daemon);
    let status = plane.outcome();
    assert_eq!((status.code(), status.signal()), (Some(EXIT_REOPEN.into()), None));
}

#[test]
fn a_ring_that_cannot_be_used_is_told() {
    let server = Server::start();
    let plane = Plane::start();
    let (_listener, mut wiring) = wiring(&server, AudioLayout::Stereo, SinkChoice::Auto);
    wiring.ring.geometry = RingGeometry { capacity: 3, ..RingGeometry::AUDIO };
    plane.link.send(ToAudio::Wire(wiring)).unwrap();
    let FromAudio::Failed { generation: Generation(1), reason } = plane.answer() else { panic!("no failure") };
    assert!(reason.contains("ring"), "{reason}");
    assert!(plane.ended().success());
}

#[test]
fn nothing_that_the_sealed_plane_does_is_denied() {
    let server = Server::with_speakers("FL,FR");
    for choice in [SinkChoice::Monitor, SinkChoice::Own] {
        let trace = std::env::temp_dir().join(format!("lumen-audio-{}.trace", std::process::id()));
        let plane = Plane::traced(&trace);
        let mut listener = plane.wire(&server, AudioLayout::Stereo, choice);
        if choice == SinkChoice::Own {
            plane.grant();
        }
        plane.sink();
        let players = [440.0, 1000.0].map(|tone| Player::start(server.connect(), Score::Tones(vec![tone; 2])));
        listener.wait_for_sound(0.3);
        listener.packets(100);
        drop(players);
        plane.retire();
        assert!(plane.outcome().success());
        let calls = std::fs::read_to_string(&trace).unwrap();
        std::fs::remove_file(&trace).unwrap();
        let (_, sealed) = calls.rsplit_once("SECCOMP_SET_MODE_FILTER").expect("the plane seals itself");
        assert!(sealed.lines().count() > 500, "only {} calls were seen", sealed.lines().count());
        let denied: Vec<&str> = sealed.lines().filter(|call| call.contains("EPERM")).collect();
        assert!(denied.is_empty(), "{choice:?}: {denied:#?}");
    }
}
