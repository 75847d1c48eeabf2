//! Input on its way from the client.

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use ipc::event::now_ns;
use ipc::{Generation, PlaneKind, ToNet};
use lumen_core::InputEvent;
use lumen_core::input::datagram::Ack;
use lumen_core::input::outbox::Outbox;
use lumen_core::input::{
    Button, INPUT_ACK_DATAGRAM, INPUT_DATAGRAM, KeyCode, MAX_EVENT, MAX_INPUT_DATAGRAM, MAX_TEXT, PadIndex, PadKind,
    Text,
};

use super::host::{Host, InputPlane, PATIENCE};
use super::session::Session;

/// Long enough for a datagram on this machine, if one has been sent.
const MOMENT: Duration = Duration::from_millis(200);

/// Where a ring's consumer says how far it has read; see `ipc/src/ring/core.rs`.
const HEAD: u64 = 256;

pub fn encoded(event: &InputEvent) -> Vec<u8> {
    let mut bytes = [0; MAX_EVENT];
    let length = event.encode(&mut bytes);
    bytes[..length].to_vec()
}

/// An input datagram of events that are bytes, whatever they mean.
pub fn raw_datagram(first: u32, events: &[Vec<u8>]) -> Vec<u8> {
    let mut datagram = vec![INPUT_DATAGRAM];
    datagram.extend_from_slice(&first.to_le_bytes());
    datagram.extend_from_slice(&now_ns().to_le_bytes());
    datagram.push(events.len() as u8);
    for event in events {
        datagram.extend_from_slice(&[0, 0, event.len() as u8]);
        datagram.extend_from_slice(event);
    }
    datagram
}

pub fn datagram(first: u32, events: &[InputEvent]) -> Vec<u8> {
    raw_datagram(first, &events.iter().map(encoded).collect::<Vec<_>>())
}

/// A key event that differs from its neighbours.
fn key(number: u32) -> InputEvent {
    let code = KeyCode::new(1 + (number / 2 % 200) as u16).unwrap();
    InputEvent::Key { code, pressed: number.is_multiple_of(2) }
}

impl InputPlane {
    /// The next event in the ring, waiting for it; the client's number of it and when net says it came are checked.
    pub fn next(&mut self, number: u32) -> InputEvent {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.take(number) {
                return event;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(self.events.data().wait(Some(left)).unwrap(), "no event came");
            self.events.data().drain();
        }
    }

    /// The next event, if one is there.
    pub fn take(&mut self, number: u32) -> Option<InputEvent> {
        let chunk = self.events.peek().unwrap()?;
        let header = *chunk.header();
        assert_eq!(header.frame, number);
        assert!(header.captured_ns <= now_ns() && header.captured_ns + 20_000_000_000 > now_ns());
        let mut bytes = Vec::with_capacity(MAX_EVENT);
        chunk.read(&mut bytes).unwrap();
        self.events.release();
        Some(InputEvent::decode(&bytes).expect("net passes on only what can be injected"))
    }
}

impl Session {
    pub fn send(&self, first: u32, events: &[InputEvent]) {
        assert!(self.client.send_datagram(&datagram(first, events)));
    }

    /// Waits until the host expects event `next`.
    pub fn expect_ack(&self, next: u32) {
        while acked(&self.client.datagram(INPUT_ACK_DATAGRAM)) != next {}
    }
}

/// What the host expects next.
pub fn acked(ack: &[u8]) -> u32 {
    Ack::decode(ack).expect("the host sends whole datagrams").next
}

#[test]
fn events_come_once_and_in_order_whatever_the_network_does() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    let mut plane = host.wire_input(session.id, 1);
    let events: Vec<InputEvent> = (0..12).map(key).collect();
    session.send(0, &events[..3]);
    session.expect_ack(3);
    // Again; then one that others are missing before; then those, along with some that are known.
    session.send(0, &events[..3]);
    session.send(5, &events[5..9]);
    session.expect_ack(3);
    session.send(1, &events[1..7]);
    session.expect_ack(7);
    // Two in the wrong order: the second one alone is taken.
    session.send(9, &events[9..12]);
    session.send(7, &events[7..9]);
    session.expect_ack(9);
    session.send(7, &events[7..12]);
    session.expect_ack(12);
    for (number, event) in events.iter().enumerate() {
        assert_eq!(plane.next(number as u32), *event);
    }
    assert_eq!(plane.take(12), None);
    let stats = session.expect_stats(&mut host, |stats| stats.input_events == 12);
    assert_eq!((stats.input_rejected, stats.input_coalesced), (0, 0));
    assert!(host.stop().success());
}

/// Sends with the client's own machinery until everything is acknowledged; `lost` says which datagrams vanish on the
/// way there, and `meanwhile` runs now and then.
fn deliver(session: &Session, events: &[InputEvent], mut lost: impl FnMut(u32) -> bool, mut meanwhile: impl FnMut()) {
    let mut outbox = Outbox::new();
    let mut left = events.iter();
    let mut next = left.next();
    let (mut number, mut bytes) = (0, Vec::new());
    let deadline = Instant::now() + PATIENCE;
    let mut acknowledged = 0;
    while acknowledged < events.len() as u32 {
        assert!(Instant::now() < deadline, "stuck at {acknowledged}");
        while let Some(event) = next
            && outbox.push(now_ns(), *event).is_ok()
        {
            next = left.next();
        }
        while outbox.poll(now_ns(), &mut bytes) {
            if !lost(number) {
                session.client.send_datagram(&bytes);
            }
            number += 1;
        }
        if let Some(ack) = session.client.datagram_within(INPUT_ACK_DATAGRAM, Duration::from_millis(1)) {
            outbox.acknowledge(now_ns(), &ack);
            acknowledged = acked(&ack);
        }
        meanwhile();
    }
}

#[test]
fn the_clients_outbox_gets_everything_through_a_lossy_path() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    let mut plane = host.wire_input(session.id, 1);
    let events: Vec<InputEvent> = (0..3_000).map(key).collect();
    let mut got = Vec::new();
    // Every third one, and long runs.
    let lost = |number: u32| number.is_multiple_of(3) || number % 50 > 40;
    deliver(&session, &events, lost, || {
        while let Some(event) = plane.take(got.len() as u32) {
            got.push(event);
        }
    });
    while let Some(event) = plane.take(got.len() as u32) {
        got.push(event);
    }
    assert!(got == events, "{} events of {}", got.len(), events.len());
    assert!(host.stop().success());
}

#[test]
fn a_full_ring_loses_nothing_but_time() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    let mut plane = host.wire_input(session.id, 1);
    // More than the ring holds, and nobody reads it for the first while.
    let events: Vec<InputEvent> = (0..2_500).map(key).collect();
    let mut got = Vec::new();
    let begun = Instant::now();
    deliver(
        &session,
        &events,
        |_| false,
        || {
            if begun.elapsed() > MOMENT {
                while let Some(event) = plane.take(got.len() as u32) {
                    got.push(event);
                }
            }
        },
    );
    while let Some(event) = plane.take(got.len() as u32) {
        got.push(event);
    }
    assert!(got == events, "{} events of {}", got.len(), events.len());
    assert!(host.stop().success());
}

#[test]
fn motion_that_finds_no_room_becomes_one_motion() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    let mut plane = host.wire_input(session.id, 1);
    let mut seq = fill(&session);
    let filled = seq;
    // Presses do not fit, so they are not acknowledged; motion does not fit either, but it can wait.
    session.send(seq, &[key(seq)]);
    session.expect_ack(seq);
    for _ in 0..10 {
        session.send(seq, &[InputEvent::Motion { dx: 256, dy: -512 }; 40]);
        seq += 40;
        session.expect_ack(seq);
    }
    session.send(seq, &[key(0)]);
    session.expect_ack(seq);
    // Read a little: what waited comes by itself, and before the press that the client sends once more.
    for number in 0..filled {
        assert_eq!(plane.next(number), key(number));
    }
    // It has the number of the last that it stands for.
    assert_eq!(plane.next(seq - 1), InputEvent::Motion { dx: 256 * 400, dy: -512 * 400 });
    session.send(seq, &[key(0)]);
    assert_eq!(plane.next(seq), key(0));
    let stats = session.expect_stats(&mut host, |stats| stats.input_events == u64::from(filled) + 2);
    assert_eq!((stats.input_coalesced, stats.input_rejected), (399, 0));
    assert!(host.stop().success());
}

/// Fills the input ring with presses, which cannot be merged; the number of the first that found no room.
fn fill(session: &Session) -> u32 {
    let mut seq = 0;
    loop {
        let events: Vec<InputEvent> = (seq..seq + 50).map(key).collect();
        session.send(seq, &events);
        let next = acked(&session.client.datagram(INPUT_ACK_DATAGRAM));
        assert!((seq..=seq + 50).contains(&next), "{next} after {seq}");
        if next < seq + 50 {
            return next;
        }
        seq = next;
    }
}

#[test]
fn nothing_is_accepted_while_no_plane_is_wired() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    session.send(0, &[key(0)]);
    session.expect_ack(0);
    let mut first = host.wire_input(session.id, 1);
    // The client does what it does when nothing is acknowledged.
    session.send(0, &[key(0), key(1)]);
    session.expect_ack(2);
    assert_eq!((first.next(0), first.next(1)), (key(0), key(1)));
    host.tell(ToNet::RetireInput { session: session.id, generation: Generation(1) });
    host.expect(|message| matches!(message, ipc::FromNet::Stats { .. }).then_some(()));
    session.send(2, &[key(2), InputEvent::Motion { dx: 1, dy: 1 }]);
    session.expect_ack(2);
    // Numbers go on with the next plane; a stale ring is not taken for it.
    let mut second = host.wire_input(session.id, 2);
    let mut stale = host.wire_input(session.id, 1);
    host.expect(|message| matches!(message, ipc::FromNet::Stats { .. }).then_some(()));
    session.send(2, &[key(2)]);
    session.expect_ack(3);
    assert_eq!((first.take(2), stale.take(0)), (None, None));
    assert_eq!(second.next(2), key(2));
    assert!(host.stop().success());
}

#[test]
fn what_cannot_be_injected_is_counted_and_passed_over() {
    let mut host = Host::program();
    let session = Session::started(&mut host, 1);
    let mut plane = host.wire_input(session.id, 1);
    let good = encoded(&key(0));
    let text = |text: &[u8]| [&encoded(&InputEvent::Text(Text::new("x").unwrap()))[..1], text].concat();
    let mut pad_255 = encoded(&InputEvent::PadArrived { pad: PadIndex::new(3).unwrap(), kind: PadKind::Xbox });
    pad_255[1] = 255;
    let wrong = [
        pad_255,
        text(b"two\nlines"),
        text(b"\x1b[2J"),
        text(b""),
        text(&[b'a'; MAX_TEXT + 1]),
        text(&[0xff, 0xfe]),
        vec![],
        vec![0],
        vec![255; 40],
        good[..good.len() - 1].to_vec(),
        [&good[..], &[0]].concat(),
    ];
    // Each before one that is good: what a newer client can do more must not stop the rest.
    for (number, event) in (0..).zip(&wrong) {
        let datagram = raw_datagram(2 * number, &[event.clone(), encoded(&key(number))]);
        assert!(session.client.send_datagram(&datagram));
        session.expect_ack(2 * number + 2);
        assert_eq!(plane.next(2 * number + 1), key(number));
    }
    let stats = session.expect_stats(&mut host, |stats| stats.input_rejected >= wrong.len() as u64);
    assert_eq!((stats.input_rejected, stats.input_events), (wrong.len() as u64, wrong.len() as u64));
    assert!(host.stop().success());
}

#[test]
fn malformed_datagrams_are_counted_and_nothing_of_them_is_taken() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    let mut plane = host.wire_input(session.id, 1);
    let whole = datagram(0, &[key(0), key(1)]);
    let mut wrong: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    let mut more_than_told = whole.clone();
    more_than_told[13] = 1;
    let mut another_kind = whole.clone();
    another_kind[0] = 0xc0;
    let oversized = raw_datagram(0, &vec![encoded(&key(0)); 160]);
    assert!(
        oversized.len() > MAX_INPUT_DATAGRAM && session.client.connection.max_datagram_size() >= Some(oversized.len())
    );
    wrong.extend([more_than_told, another_kind, vec![INPUT_DATAGRAM; MAX_INPUT_DATAGRAM], oversized]);
    for datagram in &wrong {
        assert!(session.client.send_datagram(datagram), "{} bytes", datagram.len());
    }
    let stats = session.expect_stats(&mut host, |stats| stats.input_rejected >= wrong.len() as u64);
    assert_eq!((stats.input_rejected, stats.input_events), (wrong.len() as u64, 0));
    // The client is still welcome.
    session.send(0, &[key(0)]);
    assert_eq!(plane.next(0), key(0));
    session.frame(0, 10_000, true);
    assert!(host.stop().success());
}

#[test]
fn an_input_plane_that_lies_costs_the_session_its_input_only() {
    let mut host = Host::program();
    let mut session = Session::started(&mut host, 1);
    let plane = host.wire_input(session.id, 1);
    plane.memory.write_all_at(&u64::MAX.to_ne_bytes(), HEAD).unwrap();
    session.send(0, &[key(0)]);
    let (generation, reason) = host.expect_branch_broken(session.id, PlaneKind::Input);
    assert!(generation == Generation(1) && reason.contains("input"), "{reason}");
    session.frame(0, 10_000, true);
    // Its heir gets what the client sends again.
    let mut plane = host.wire_input(session.id, 2);
    let press = InputEvent::Button { button: Button::Left, pressed: true };
    session.send(0, &[press]);
    assert_eq!(plane.next(0), press);
    assert!(host.stop().success());
}
