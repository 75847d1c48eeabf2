//! A client that sends as fast as it can.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ipc::event::now_ns;
use ipc::ring::{ChunkFlags, ChunkHeader};
use lumen_core::InputEvent;
use lumen_core::audio::{self, AUDIO_DATAGRAM};
use lumen_core::input::INPUT_ACK_DATAGRAM;
use lumen_core::input::datagram::Ack;

use super::hands::{acked, datagram};
use super::host::{Host, InputPlane, PATIENCE};
use super::session::Session;

/// How long the flood lasts: less than a client may go without a probe.
const FLOOD: Duration = Duration::from_millis(1_500);

/// Sends one event until the host has it, as a client does; others' floods may have cost the first try.
fn insist(session: &Session, plane: &mut InputPlane, seq: u32, event: InputEvent) {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        session.send(seq, &[event]);
        let ack = session.client.datagram_within(INPUT_ACK_DATAGRAM, Duration::from_millis(20));
        if ack.is_some_and(|ack| acked(&ack) == seq + 1) {
            assert_eq!(plane.take(seq), Some(event), "acknowledged, so it is there");
            return;
        }
    }
    panic!("event {seq} did not come through");
}

#[test]
fn a_flood_of_input_is_bounded_and_disturbs_nobody() {
    let mut host = Host::program();
    let flooding = Session::started(&mut host, 1);
    let mut other = Session::started(&mut host, 2);
    // Nobody reads it: what does not fit has to be merged.
    let mut flooded = host.wire_input(flooding.id, 1);
    let mut plane = host.wire_input(other.id, 1);
    let mut sound = host.wire_audio(other.id, 1);

    let stop = AtomicBool::new(false);
    let sent = thread::scope(|threads| {
        let flood = threads.spawn(|| {
            // Motions, numbered as they should be, and nonsense in between.
            let datagrams = (0..).map(|number: u32| match number % 4 {
                3 => vec![0xcb; 50],
                _ => datagram(number / 4 * 3 + number % 4, &[InputEvent::Motion { dx: 1, dy: 0 }]),
            });
            flooding.client.flood(&stop, datagrams)
        });
        let begun = Instant::now();
        let mut number = 0;
        while begun.elapsed() < FLOOD {
            let header =
                ChunkHeader { frame: number, flags: ChunkFlags::LAST, captured_ns: now_ns(), ..ChunkHeader::default() };
            sound.reserve().expect("the ring is emptied").commit(header, b"sound").unwrap();
            assert_eq!(audio::parse(&other.client.datagram(AUDIO_DATAGRAM)).unwrap().0, number);
            insist(&other, &mut plane, number, InputEvent::Position { x: number as u16, y: 1 });
            other.frame(number, 10_000, number == 0);
            number += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(number > 10, "{number} rounds in {FLOOD:?}");
        flood.join().unwrap()
    });
    let stats = flooding.expect_stats(&mut host, |stats| stats.input_rejected > 0);
    assert!(sent > 1_000 && stats.input_rejected + stats.input_events <= sent, "{sent} sent, {stats:?}");
    assert_eq!(other.expect_stats(&mut host, |_| true).input_rejected, 0);

    // The flooding client is still served, and what was acknowledged to it has all been done, merged or not.
    let seq = acknowledged(&flooding);
    let mut done = 0;
    for number in 0.. {
        let InputEvent::Motion { dx, .. } = flooded.next(number) else { panic!("only motions were sent") };
        done += dx;
        if done >= seq as i32 {
            break;
        }
    }
    assert_eq!(done, seq as i32);
    assert!(host.stop().success());
}

#[test]
fn a_plane_that_never_stops_is_one_among_others() {
    let mut host = Host::program();
    let flooded = Session::started(&mut host, 1);
    let other = Session::started(&mut host, 2);
    let mut sound = host.wire_audio(flooded.id, 1);
    let mut plane = host.wire_input(other.id, 1);
    let stop = AtomicBool::new(false);
    thread::scope(|threads| {
        threads.spawn(|| {
            let mut frame = 0;
            while !stop.load(Ordering::Relaxed) {
                let (flags, captured_ns) = (ChunkFlags::LAST, now_ns());
                // Filled up again as fast as a plane can.
                while let Some(mut room) = sound.reserve() {
                    let header = ChunkHeader { frame, flags, captured_ns, ..ChunkHeader::default() };
                    room.commit(header, b"sound").unwrap();
                    frame += 1;
                }
            }
        });
        let begun = Instant::now();
        let mut number = 0;
        while begun.elapsed() < FLOOD {
            insist(&other, &mut plane, number, InputEvent::Position { x: number as u16, y: 1 });
            number += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(number > 10, "{number} rounds in {FLOOD:?}");
    });
    assert!(host.stop().success());
}

/// What the host expects next of a client whose last words may have been lost.
fn acknowledged(session: &Session) -> u32 {
    // Whatever was acknowledged before this question is not the answer to it.
    let asked_ns = now_ns();
    loop {
        session.send(0, &[InputEvent::Motion { dx: 1, dy: 0 }]);
        let ack = Ack::decode(&session.client.datagram(INPUT_ACK_DATAGRAM)).unwrap();
        if ack.client_ns >= asked_ns {
            return ack.next;
        }
    }
}
