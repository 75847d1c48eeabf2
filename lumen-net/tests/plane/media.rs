//! Sessions that stream.

use std::net::UdpSocket;
use std::os::fd::OwnedFd;
use std::time::Duration;

use ipc::feedback::Feedback;
use ipc::ring::{ChunkFlags, ChunkHeader};
use ipc::{EndCode, Face, FromNet, PlaneKind, SessionId, ToNet};
use lumen_core::hello::{ClientMessage, Code, HostMessage};
use lumen_core::packet::{Kind, Probe};
use lumen_core::reassemble::Pushed;

use super::host::{Host, PATIENCE, mode};
use super::session::Session;

/// Ten times what the largest frame takes.
const ONE_FRAME: Duration = Duration::from_millis(300);

#[test]
fn every_frame_arrives_intact_and_the_ledger_knows_its_times() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 7);
    // From less than a shard to what a default socket buffer holds, should this test not be scheduled meanwhile.
    let sizes = [1, 500, 1_110, 1_150, 5_000, 20_000, 60_000];
    for number in 0..35 {
        let bytes = sizes[number as usize % sizes.len()];
        let payload = session.encoder.frame(bytes, number == 0);
        let frame = session.media.expect_frame(number, &payload);
        let header = frame.header;
        assert_eq!((header.taken, header.converted, header.first_slice), (1_000_000, 2_000_000, 3_000_000));
        let previous = header.previous.map(|previous| previous.number);
        assert_eq!(previous, number.checked_sub(1));
        if let Some(previous) = header.previous {
            assert!(previous.last_slice <= previous.first_packet && previous.first_packet <= previous.last_packet);
        }
    }
    let stats = session.expect_stats(&mut host, |stats| stats.frames == 35);
    assert!(stats.parity_packets >= 2 * 35 && stats.parity_packets < stats.packets, "{stats:?}");
    assert!(stats.total.p50 >= 3_000 && stats.capture_wait.p50 >= 1_000, "{stats:?}");
    assert_eq!((stats.rejected, stats.loss_permille), (0, 0));
    assert!(host.stop().success());
}

#[test]
fn frames_beyond_a_burst_and_beyond_255_shards_arrive() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    // 217 data shards and 44 of parity, paced over some 20 ms. A socket buffer that overflows in that time, because
    // this test was not scheduled, may cost a frame; each is an IDR, so the next one counts.
    for tries in 0..20 {
        let payload = session.encoder.frame(249_000, true);
        let frame = session.media.next_frame_within(ONE_FRAME);
        if let Some(frame) = frame.filter(|frame| frame.number == tries) {
            assert!(frame.data == payload);
            assert!(host.stop().success());
            return;
        }
    }
    panic!("no large frame arrived");
}

#[test]
fn nothing_is_sent_before_start_and_a_sealed_probe() {
    let mut host = Host::program();
    let mut session = Session::welcomed(&mut host, 1);
    let payload = session.encoder.frame(3_000, true);
    // The address is proven, but the client is not ready.
    for _ in 0..3 {
        session.media.send_probe();
        session.media.expect(Kind::Pong);
    }
    while let Some((kind, _)) = session.media.receive() {
        assert_eq!(kind, Kind::Pong);
    }
    session.start();
    session.media.expect_frame(0, &payload);

    // The client is ready, but what names its session is not from it.
    let mut other = Session::welcomed(&mut host, 2);
    other.encoder.frame(3_000, true);
    other.start();
    let mut forged = other.media.probe(&Probe::default());
    forged[30] ^= 1;
    other.media.send(&forged);
    other.expect_stats(&mut host, |stats| stats.rejected == 1);
    assert_eq!(other.media.receive(), None);
    assert!(host.stop().success());
}

#[test]
fn a_quiet_session_is_kept_alive_by_idle_packets() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    for _ in 0..5 {
        assert_eq!(session.media.expect(Kind::Idle), Pushed::Media);
    }
    // Even while nothing is wired.
    host.tell(ToNet::Retire { session: session.id, generation: ipc::Generation(1) });
    for _ in 0..5 {
        session.media.expect(Kind::Idle);
    }
    session.encoder = host.wire(1, 2, None);
    session.frame(0, 10_000, true);
}

#[test]
fn a_session_whose_probes_cease_ends_before_its_connection_does() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    // The connection itself stays alive all the time: only the probes tell that nobody watches.
    let (id, reason) = host.expect_gone();
    assert_eq!(id, session.id);
    assert!(reason.contains("probes"), "{reason}");
    let end = session.client.hear(&mut session.stream);
    assert!(matches!(&end, HostMessage::End { code, .. } if *code == Code::Timeout as u16), "{end:?}");
}

#[test]
fn media_follows_the_client_to_a_new_address() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    session.frame(0, 10_000, true);
    let moved = UdpSocket::bind("127.0.0.1:0").unwrap();
    moved.set_read_timeout(session.media.socket.read_timeout().unwrap()).unwrap();
    let replayed = session.media.probe(&Probe::default());
    session.media.send(&replayed);
    session.media.expect(Kind::Pong);
    // Somebody who replays a probe does not draw the stream to himself.
    moved.send_to(&replayed, session.media.host).unwrap();
    session.expect_stats(&mut host, |stats| stats.rejected == 1);
    session.frame(1, 10_000, false);
    session.media.socket = moved;
    session.media.send_probe();
    session.media.expect(Kind::Pong);
    session.frame(2, 10_000, false);
}

#[test]
fn a_keyframe_wish_reaches_the_encoder_and_is_not_repeated_once_served() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    session.frame(0, 10_000, true);
    session.frame(1, 10_000, false);
    assert_eq!(session.feedback(), None);
    let wish = Probe { keyframe_wanted: Some(1), ..Probe::default() };
    let packet = session.media.probe(&wish);
    session.media.send(&packet);
    session.media.expect(Kind::Pong);
    assert_eq!(session.feedback(), Some(Feedback::Idr));
    session.frame(2, 30_000, true);
    // The wish was under way when the keyframe left.
    let packet = session.media.probe(&wish);
    session.media.send(&packet);
    session.media.expect(Kind::Pong);
    assert_eq!(session.feedback(), None);
}

#[test]
fn parity_grows_with_the_loss_that_the_client_reports() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    for number in 0..4 {
        session.frame(number, 60_000, number == 0);
    }
    let before = session.expect_stats(&mut host, |stats| stats.frames == 4).parity_packets / 4;
    let lossy = Probe { highest: 200, received: 170, ..Probe::default() };
    let packet = session.media.probe(&lossy);
    session.media.send(&packet);
    session.media.expect(Kind::Pong);
    session.frame(4, 60_000, false);
    let stats = session.expect_stats(&mut host, |stats| stats.frames == 5);
    let after = stats.parity_packets - 4 * before;
    assert!(after > before + before / 2, "{before} of each frame before, now {stats:?}");
    assert!((80..=150).contains(&stats.loss_permille), "{stats:?}");
}

#[test]
fn a_new_generation_takes_over_on_every_path() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    session.frame(0, 20_000, true);
    for generation in 2..=6 {
        session.encoder = host.wire(1, generation, None);
        let said = session.client.hear(&mut session.stream);
        assert_eq!(said, HostMessage::Reconfigure { generation, mode: mode() });
        // The packets alone move the client: it has not told its reassembler.
        session.frame(0, 20_000, true);
        session.frame(1, 2_000, false);
        session.media.send_probe();
        session.media.expect(Kind::Pong);
    }
    // A generation that was before is none any more.
    let mut stale = host.wire(1, 3, None);
    stale.frame(1_000, true);
    session.frame(2, 2_000, false);
}

#[test]
fn an_aborted_frame_is_skipped() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    session.frame(0, 20_000, true);
    let header = ChunkHeader { generation: 1, frame: 1, flags: ChunkFlags::NONE, ..ChunkHeader::default() };
    session.encoder.video.reserve().unwrap().commit(header, &[1; 5_000]).unwrap();
    session.encoder.skip_frame();
    let payload = session.encoder.frame(20_000, true);
    let frame = session.media.next_frame_within(PATIENCE).expect("a frame");
    assert!((frame.number, frame.idr) == (2, true) && frame.data == payload);
}

#[test]
fn an_encoder_that_breaks_the_rules_costs_its_own_generation_only() {
    let mut host = Host::program();
    let mut good = Session::started(&mut host, 1);
    let mut bad = Session::started(&mut host, 2);
    good.frame(0, 10_000, true);
    let header = ChunkHeader { generation: 99, flags: ChunkFlags::LAST, ..ChunkHeader::default() };
    bad.encoder.video.reserve().unwrap().commit(header, b"of another generation").unwrap();
    let (generation, reason) = host.expect_branch_broken(bad.id, PlaneKind::Encode);
    assert!(generation.0 == 1 && reason.contains("generation"), "{reason}");
    good.frame(1, 10_000, false);
    bad.encoder = host.wire(2, 2, None);
    assert_eq!(bad.client.hear(&mut bad.stream), HostMessage::Reconfigure { generation: 2, mode: mode() });
    bad.frame(0, 10_000, true);
    assert!(host.stop().success());
}

#[test]
fn garbage_and_replays_are_counted_and_disturb_nobody() {
    let mut host = Host::program();
    let mut victim = Session::started(&mut host, 1);
    let mut target = Session::started(&mut host, 2);
    let attacker = UdpSocket::bind("127.0.0.1:0").unwrap();
    let probe = target.media.probe(&Probe::default());
    target.media.send(&probe);
    target.media.expect(Kind::Pong);
    let garbage: Vec<u8> = (0..1_500_u32).map(|at| at.wrapping_mul(2_654_435_761) as u8).collect();
    let mut rejected = 0;
    for number in 0..40_u32 {
        for length in [0, 1, 23, 39, 40, 1_200, 1_500] {
            attacker.send_to(&garbage[..length], host.media).unwrap();
            attacker.send_to(&garbage[..length], host.quic).unwrap();
        }
        // An initial packet's first bytes, with nonsense behind them.
        let mut initial = garbage[..1_200].to_vec();
        initial[..6].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8]);
        initial[6] = number as u8;
        attacker.send_to(&initial, host.quic).unwrap();
        // A replay, and the same with each part spoilt: header, body, tag; and cut short.
        attacker.send_to(&probe, host.media).unwrap();
        rejected += 1;
        for at in [1, 16, 30, probe.len() - 1] {
            let mut spoilt = probe.clone();
            spoilt[at] ^= 2;
            attacker.send_to(&spoilt, host.media).unwrap();
        }
        attacker.send_to(&probe[..probe.len() - 1], host.media).unwrap();
        rejected += 5;
        victim.frame(number, 10_000, number == 0);
    }
    // The kernel may have dropped some of a flood, but not most.
    let stats = target.expect_stats(&mut host, |stats| stats.rejected >= rejected / 2);
    assert!(stats.rejected <= rejected, "{stats:?} of {rejected}");
    host.expect_counters(|counters| counters.stray_packets >= 40);
    target.frame(0, 10_000, true);
    assert_eq!(victim.expect_stats(&mut host, |stats| stats.frames == 40).rejected, 0);
    assert!(host.stop().success());
}

#[test]
fn a_flood_of_probes_is_answered_in_part_and_delays_no_frame() {
    let mut host = Host::program();
    let mut flooding = Session::started(&mut host, 1);
    let mut other = Session::started(&mut host, 2);
    let mut pongs = 0;
    for number in 0..20 {
        for _ in 0..100 {
            flooding.media.send_probe();
        }
        other.frame(number, 10_000, number == 0);
        while let Some((kind, _)) = flooding.media.receive() {
            pongs += u32::from(kind == Kind::Pong);
        }
    }
    assert!((200..1_900).contains(&pongs), "{pongs} answers to 2000 probes");
    // It is answered again later, and its media was never held back.
    flooding.frame(0, 10_000, true);
    host.expect(|message| matches!(message, FromNet::Stats { session: SessionId(1), .. }).then_some(()));
    flooding.media.send_probe();
    flooding.media.expect(Kind::Pong);
    assert!(host.stop().success());
}

#[test]
fn the_end_of_a_session_is_told_and_final() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    session.frame(0, 10_000, true);
    host.tell(ToNet::End { session: session.id, code: EndCode::Stopped, reason: "ended by test".into() });
    let end = HostMessage::End { code: Code::Stopped as u16, reason: "ended by test".into() };
    assert_eq!(session.client.hear(&mut session.stream), end);
    assert_eq!(session.client.closed(), (Code::Stopped as u64, "ended by test".into()));
    // Its number means nothing any more.
    while session.media.receive().is_some() {}
    session.media.send_probe();
    host.expect_counters(|counters| counters.stray_packets > 0);

    let mut other = Session::started(&mut host, 2);
    other.frame(0, 10_000, true);
    host.tell(ToNet::Permit { face: Face::Lumen, client: other.identity.fingerprint(), allowed: false });
    let (gone, _) = host.expect_gone();
    assert_eq!(gone, other.id, "session 1 was not reported: lumend ended it");
    assert_eq!(other.client.closed().0, Code::NotAllowed as u64);
    assert!(host.stop().success());
}

#[test]
fn clients_that_leave_or_vanish_are_reported() {
    let mut host = Host::program();
    let vanishing = Session::started(&mut host, 1);
    let mut leaving = Session::started(&mut host, 2);
    vanishing.client.vanish();
    leaving.client.say(&mut leaving.stream, &ClientMessage::Bye);
    let (gone, reason) = host.expect_gone();
    assert!(gone == leaving.id && reason.contains("goodbye"), "{reason}");
    let (gone, reason) = host.expect_gone();
    // Its probes may be missed before its connection is.
    assert!(gone == vanishing.id && (reason.contains("silent") || reason.contains("probes")), "{reason}");
    assert!(host.stop().success());
}

#[test]
fn clients_find_the_host_where_it_has_moved() {
    let mut host = Host::program();
    let socket = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    };
    let (quic, media) = (socket(), socket());
    (host.quic, host.media) = (quic.local_addr().unwrap(), media.local_addr().unwrap());
    let media_port = host.media.port();
    host.tell(ToNet::Rebind { quic: OwnedFd::from(quic), media: OwnedFd::from(media), media_port });
    let mut session = Session::started(&mut host, 1);
    session.frame(0, 10_000, true);
    assert!(host.stop().success());
}

#[test]
fn sockets_of_any_address_serve_both_families() {
    for bind in ["0.0.0.0:0", "[::]:0"] {
        let mut host = Host::program_on(bind);
        let mut session = Session::started(&mut host, 1);
        session.frame(0, 60_000, true);
        assert!(host.stop().success());
    }
    let mut host = Host::program_on("[::1]:0");
    host.quic.set_ip("::1".parse().unwrap());
    host.media.set_ip("::1".parse().unwrap());
    let mut session = Session::started(&mut host, 1);
    session.frame(0, 60_000, true);
    assert!(host.stop().success());
}

#[test]
fn a_plane_that_stops_closes_without_an_end_code_so_that_its_clients_come_back() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    assert!(host.stop().success());
    assert_eq!(session.client.closed().0, 0);
}
