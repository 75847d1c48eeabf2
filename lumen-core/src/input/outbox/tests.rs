use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::input::datagram::Datagram;
use crate::input::inbox::{Inbox, Order};
use crate::input::{Axis, Button, KeyCode, MAX_MOTION, PadButtons, PadIndex, PadState};

const MS: u64 = 1_000_000;

fn key(pressed: bool) -> InputEvent {
    InputEvent::Key { code: KeyCode::new(30).unwrap(), pressed }
}

fn motion(dx: i32) -> InputEvent {
    InputEvent::Motion { dx, dy: 0 }
}

fn pad(index: u8, buttons: u32, stick: i16) -> InputEvent {
    let state = PadState { buttons: PadButtons::new(buttons), left_stick: (stick, 0), ..PadState::default() };
    InputEvent::PadState { pad: PadIndex::new(index).unwrap(), state }
}

/// Every datagram that is due, each as its first number and its events.
fn poll(outbox: &mut Outbox, now_ns: u64) -> Vec<(u32, Vec<InputEvent>)> {
    let (mut all, mut out) = (Vec::new(), Vec::new());
    while outbox.poll(now_ns, &mut out) {
        let datagram = Datagram::parse(&out).unwrap();
        all.push((datagram.first, datagram.events().map(|numbered| numbered.event.unwrap()).collect()));
    }
    all
}

fn ack(next: u32, client_ns: u64) -> Vec<u8> {
    let mut out = Vec::new();
    Ack { next, client_ns }.encode(&mut out);
    out
}

/// An outbox with as much as it holds, of which the window was sent at 0 ns.
fn full() -> Outbox {
    let mut outbox = Outbox::new();
    for index in 0..CAPACITY {
        outbox.push(0, key(index % 2 == 0)).unwrap();
    }
    poll(&mut outbox, 0);
    outbox
}

#[test]
fn a_new_event_leaves_at_once_with_those_before_it() {
    let mut outbox = Outbox::new();
    assert_eq!(outbox.deadline(), None);
    for number in 0..20 {
        assert_eq!(outbox.push(number, motion(number as i32)), Ok(number as u32));
        assert_eq!(outbox.deadline(), Some(0));
        let sent = poll(&mut outbox, number);
        let from = number.saturating_sub(8);
        assert_eq!(sent, [(from as u32, (from..=number).map(|dx| motion(dx as i32)).collect())]);
    }
    assert_eq!(outbox.counts().retransmitted, 0);
    outbox.acknowledge(30, &ack(20, 10)).unwrap();
    assert_eq!((outbox.unacknowledged(), outbox.deadline()), (0, None));
}

#[test]
fn on_another_connection_what_is_not_acknowledged_leaves_again_at_once_under_its_numbers() {
    let mut outbox = Outbox::new();
    for dx in 0..5 {
        outbox.push(0, motion(dx)).unwrap();
        poll(&mut outbox, 0);
    }
    outbox.acknowledge(1, &ack(2, 0)).unwrap();
    poll(&mut outbox, 40 * MS);
    outbox.reconnected();
    assert_eq!((outbox.first(), outbox.deadline()), (2, Some(0)));
    assert_eq!(poll(&mut outbox, 41 * MS), [(2, (2..5).map(motion).collect())]);
    // What the host had taken and could not say is acknowledged as ever, and the numbers go on.
    outbox.acknowledge(42 * MS, &ack(4, 41 * MS)).unwrap();
    assert_eq!(outbox.push(43 * MS, key(true)), Ok(5));
    assert_eq!(poll(&mut outbox, 43 * MS), [(4, vec![motion(4), key(true)])]);
}

#[test]
fn in_another_session_numbers_begin_anew_and_nothing_leaves_a_second_time() {
    let mut outbox = full();
    outbox.renumber();
    let left = (outbox.unacknowledged(), outbox.first());
    assert_eq!((outbox.counts().given_up, left), (WINDOW as u64, (CAPACITY - WINDOW, 0)));
    // A datagram repeats the last events of the one before.
    let numbers = |(first, events): (u32, Vec<_>)| first..first + events.len() as u32;
    let sent: BTreeSet<_> = poll(&mut outbox, MS).into_iter().flat_map(numbers).collect();
    assert!(sent.into_iter().eq(0..(CAPACITY - WINDOW) as u32), "what never left is not lost");
    assert_eq!(outbox.acknowledge(2 * MS, &ack((CAPACITY - WINDOW) as u32, MS)), Some(()));
    assert_eq!(outbox.push(2 * MS, key(true)), Ok((CAPACITY - WINDOW) as u32));
}

#[test]
fn what_is_not_acknowledged_leaves_again_less_and_less_often() {
    let mut outbox = Outbox::new();
    outbox.push(0, key(true)).unwrap();
    assert_eq!(poll(&mut outbox, 0).len(), 1);
    let mut last = 0;
    for wait in [20, 40, 80, 100, 100, 100] {
        let due = outbox.deadline().unwrap();
        assert_eq!(due - last, wait * MS);
        assert_eq!(poll(&mut outbox, due - 1), []);
        assert_eq!(poll(&mut outbox, due), [(0, vec![key(true)])]);
        last = due;
    }
    assert_eq!(outbox.counts().retransmitted, 6);
    outbox.acknowledge(last + 1, &ack(1, last)).unwrap();
    assert_eq!(outbox.deadline(), None);
    outbox.push(last + 2, key(false)).unwrap();
    poll(&mut outbox, last + 2);
    // Patience is forgotten once the host takes something, and the round trip was short.
    assert_eq!(outbox.deadline(), Some(last + 2 + 20 * MS));
}

#[test]
fn a_loss_that_an_acknowledgement_shows_is_made_good_at_once() {
    let mut outbox = Outbox::new();
    // Ten datagrams of one event each come, and a hundred events more in the eleventh do not.
    for number in 0..10 {
        outbox.push(number, motion(1)).unwrap();
        poll(&mut outbox, number);
    }
    (0..60).for_each(|_| assert!(outbox.push(20, motion(2)).is_ok()));
    assert_eq!(poll(&mut outbox, 20).len(), 1);
    outbox.push(30, key(true)).unwrap();
    assert_eq!(poll(&mut outbox, 30).len(), 1);
    outbox.acknowledge(40, &ack(10, 9)).unwrap();
    assert_eq!(poll(&mut outbox, 41), []);
    // The host got what left at 30 and still waits for number 10.
    outbox.acknowledge(50, &ack(10, 30)).unwrap();
    let again = poll(&mut outbox, 50);
    assert_eq!((again[0].0, again[0].1.len()), (10, 61));
    // The same again brings nothing more: what is under way is newer.
    outbox.acknowledge(51, &ack(10, 30)).unwrap();
    assert_eq!(poll(&mut outbox, 51), []);
}

#[test]
fn answers_that_speak_of_what_was_never_sent_change_nothing() {
    let mut outbox = Outbox::new();
    (0..3).for_each(|_| assert!(outbox.push(5, motion(1)).is_ok()));
    poll(&mut outbox, 5);
    outbox.push(6, motion(1)).unwrap();
    for bad in [ack(4, 5), ack(5, 5), ack(1 << 30, 5), ack(3, 6), ack(3, u64::MAX), vec![], vec![0xCC; 12]] {
        assert_eq!(outbox.acknowledge(7, &bad), None, "{bad:?}");
    }
    assert_eq!(outbox.counts().malformed, 7);
    assert_eq!(outbox.unacknowledged(), 4);
    // Old answers are no fault.
    outbox.acknowledge(7, &ack(2, 5)).unwrap();
    outbox.acknowledge(7, &ack(1, 5)).unwrap();
    outbox.acknowledge(7, &ack((1 << 31) + 3, 5)).unwrap();
    assert_eq!((outbox.unacknowledged(), outbox.counts().acknowledged), (2, 2));
}

#[test]
fn a_round_trip_of_any_length_is_survived() {
    for (sent, received) in [(0, u64::MAX / 2), (u64::MAX / 4, 0)] {
        let mut outbox = Outbox::new();
        outbox.push(sent, motion(1)).unwrap();
        poll(&mut outbox, sent);
        let stamp = outbox.stamp_ns;
        outbox.acknowledge(received, &ack(0, stamp)).unwrap();
        assert!(outbox.rtt_ns <= MAX_RTT_NS);
    }
}

#[test]
fn when_full_only_what_is_safe_is_merged() {
    let mut outbox = full();
    assert_eq!(outbox.push(1, key(true)), Err(Full));
    assert_eq!(outbox.push(1, motion(1)), Err(Full));
    // Room for six; these are behind the window and were never sent.
    outbox.acknowledge(1, &ack(6, 1)).unwrap();
    let last = CAPACITY as u32;
    let a = PadButtons::A;
    for (index, event) in [motion(5), pad(0, a, 1), pad(1, 0, 1)].into_iter().enumerate() {
        assert_eq!(outbox.push(1, event), Ok(last + index as u32));
    }
    let vertical = |amount| InputEvent::Scroll { axis: Axis::Vertical, amount };
    let horizontal = |amount| InputEvent::Scroll { axis: Axis::Horizontal, amount };
    // Motion is merged past pads, a pad past the other.
    (0..3).for_each(|index| assert_eq!(outbox.push(1, pad(2, 0, index)), Ok(last + 3 + index as u32)));
    assert_eq!(outbox.push(1, motion(7)), Ok(last));
    assert_eq!(outbox.push(1, pad(0, a, 9)), Ok(last + 1));
    assert_eq!(outbox.push(1, pad(1, 0, 8)), Ok(last + 2));
    // Other buttons are a press or a release, and a scroll belongs to where the pointer is.
    assert_eq!(outbox.push(1, pad(0, 0, 9)), Err(Full));
    assert_eq!(outbox.push(1, pad(3, 0, 0)), Err(Full));
    assert_eq!(outbox.push(1, vertical(120)), Err(Full));
    assert_eq!(outbox.push(1, InputEvent::Button { button: Button::Left, pressed: true }), Err(Full));
    assert_eq!(outbox.push(1, motion(MAX_MOTION)), Err(Full));
    assert_eq!((outbox.counts().merged, outbox.counts().refused), (3, 7));

    poll(&mut outbox, 2);
    outbox.acknowledge(3, &ack(WINDOW as u32, 2)).unwrap();
    let sent = poll(&mut outbox, 3);
    let first = sent[0].0;
    let events: Vec<_> = sent.into_iter().flat_map(|(_, events)| events).collect();
    assert!(events.contains(&motion(12)) && events.contains(&pad(0, a, 9)) && events.contains(&pad(1, 0, 8)));
    assert!(first as usize >= WINDOW - REPEATED);

    // The two axes of a wheel pass each other, and a position replaces the one before.
    let mut outbox = full();
    outbox.acknowledge(1, &ack(3, 1)).unwrap();
    assert_eq!(outbox.push(1, vertical(1)), Ok(last));
    assert_eq!(outbox.push(1, horizontal(2)), Ok(last + 1));
    assert_eq!(outbox.push(1, InputEvent::Position { x: 1, y: 1 }), Ok(last + 2));
    assert_eq!(outbox.push(1, InputEvent::Position { x: 2, y: 1 }), Ok(last + 2));
    assert_eq!(outbox.push(1, vertical(1)), Err(Full));
}

#[test]
fn what_was_sent_is_never_merged_into() {
    let mut outbox = Outbox::new();
    for _ in 0..CAPACITY {
        outbox.push(0, motion(1)).unwrap();
    }
    let seq = outbox.push(0, motion(1)).unwrap();
    assert_eq!(seq as usize, CAPACITY - 1);
    poll(&mut outbox, 0);
    assert_eq!(outbox.sent, WINDOW);
    assert!(outbox.push(0, motion(1)).unwrap() as usize >= WINDOW);
    assert!(outbox.queue.iter().take(WINDOW).all(|entry| entry.event == motion(1)));
}

#[test]
fn a_host_that_answers_but_takes_nothing_is_not_flooded() {
    let (mut outbox, mut out, mut datagrams, mut bytes) = (Outbox::new(), Vec::new(), 0, 0);
    // Ten seconds of 1 kHz.
    for ms in 1..=10_000 {
        let _ = outbox.push(ms * MS, motion(1));
        while outbox.poll(ms * MS, &mut out) {
            datagrams += 1;
            bytes += out.len();
            let client_ns = Datagram::parse(&out).unwrap().client_ns;
            outbox.acknowledge(ms * MS + 1, &ack(0, client_ns)).unwrap();
        }
    }
    assert!(outbox.unacknowledged() <= CAPACITY);
    // Its own 768, and a window of nine or ten datagrams, a tenth of a second apart at the most.
    assert!(datagrams < 768 + 12 * 110, "{datagrams}");
    assert!(bytes < 2_000_000, "{bytes}");
}

#[test]
fn numbers_wrap() {
    let (mut outbox, mut inbox, mut out) = (Outbox::at(u32::MAX - 50), Inbox::at(u32::MAX - 50), Vec::new());
    let mut seen = Vec::new();
    for number in 0..1000 {
        let now_ns = number as u64 * MS;
        outbox.push(now_ns, motion(number)).unwrap();
        while outbox.poll(now_ns, &mut out) {
            // Every third is lost.
            if outbox.counts().datagrams % 3 == 0 {
                continue;
            }
            let datagram = Datagram::parse(&out).unwrap();
            for numbered in datagram.events() {
                match inbox.offer(numbered.seq) {
                    Order::Duplicate => continue,
                    Order::Gap => break,
                    Order::Next => seen.push(numbered.event.unwrap()),
                }
                inbox.accept();
            }
            let mut answer = Vec::new();
            inbox.ack(datagram.client_ns, &mut answer);
            outbox.acknowledge(now_ns, &answer).unwrap();
        }
    }
    assert!(seen.len() > 990);
    assert!(seen.iter().enumerate().all(|(number, event)| *event == motion(number as i32)));
}

proptest! {
    /// A hostile host may say what it likes; the outbox stays within its bounds and keeps its own order.
    #[test]
    fn no_answers_break_it(
        steps in proptest::collection::vec((0u8..4, any::<u32>(), any::<u64>(), 0u64..50), 1..300),
    ) {
        let (mut outbox, mut out, mut now_ns) = (Outbox::at(u32::MAX - 5), Vec::new(), 1);
        for (what, next, client_ns, wait_ms) in steps {
            match what {
                0 => { let _ = outbox.push(now_ns, motion(1)); }
                1 => now_ns += wait_ms * MS,
                2 => {
                    let near = outbox.first.wrapping_add(next % 8).wrapping_sub(2);
                    let _ = outbox.acknowledge(now_ns, &ack(near, client_ns % (now_ns + 2)));
                }
                _ => { let _ = outbox.acknowledge(now_ns, &ack(next, client_ns)); }
            }
            let mut polled = 0;
            while outbox.poll(now_ns, &mut out) {
                polled += 1;
                prop_assert!(polled < 100);
                prop_assert!(Datagram::parse(&out).is_ok());
            }
            prop_assert!(outbox.cursor <= outbox.sent && outbox.sent <= outbox.queue.len().min(WINDOW));
            prop_assert!(outbox.unacknowledged() == 0 || outbox.deadline().is_some());
        }
    }
}
