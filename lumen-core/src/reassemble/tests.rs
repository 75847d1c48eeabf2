use proptest::prelude::*;

use super::*;
use crate::fec::Scheme;
use crate::packet::{Flags, FrameHeader, HEADER_BYTES, MAX_DATA_SHARDS, ParityHeader, TAG_BYTES};
use crate::packetize::{PacketBatch, Packetizer, PacketizerConfig};
use crate::seal::{MediaSecret, Sealer};

const SECRET: MediaSecret = MediaSecret([1; 32]);
const WAIT: u64 = 16_000_000;

fn sealer(generation: u32) -> Sealer {
    Sealer::new(&SECRET, generation, Direction::HostToClient)
}

fn reassembler() -> Reassembler {
    Reassembler::new(ReassemblerConfig {
        session: 5,
        generation: 1,
        secret: SECRET,
        shard_size: 1200,
        reorder_wait_ns: WAIT,
    })
}

fn packetizer(scheme: Scheme) -> Packetizer {
    Packetizer::new(PacketizerConfig { session: 5, scheme, parity_floor_percent: 20, shard_size: 1200 }, sealer(1))
}

fn frame_bytes(number: u32, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u32).wrapping_mul(2_654_435_761).wrapping_add(number.wrapping_mul(97)) as u8).collect()
}

fn packets(packetizer: &mut Packetizer, number: u32, idr: bool, len: usize) -> Vec<Vec<u8>> {
    let mut batch = PacketBatch::default();
    let header = FrameHeader {
        still: false,
        captured_ns: u64::from(number),
        taken: 1,
        converted: 2,
        first_slice: 3,
        previous: None,
    };
    packetizer.begin(number, idr, &header);
    let bytes = frame_bytes(number, len);
    packetizer.slice(&bytes[..len / 2], false, &mut batch).unwrap();
    packetizer.slice(&bytes[len / 2..], true, &mut batch).unwrap();
    batch.iter().map(<[u8]>::to_vec).collect()
}

fn drain(reassembler: &mut Reassembler, now: u64) -> Vec<Event> {
    std::iter::from_fn(|| reassembler.poll(now)).collect()
}

/// The numbers of the frames handed on, each checked to be bit-exact.
fn delivered(events: &[Event], len: usize) -> Vec<u32> {
    let frames = events.iter().filter_map(|event| if let Event::Frame(frame) = event { Some(frame) } else { None });
    frames
        .map(|frame| {
            assert!(frame.data == frame_bytes(frame.number, len) && frame.header.captured_ns == frame.number.into());
            frame.number
        })
        .collect()
}

#[test]
fn a_resumed_session_begins_with_an_idr_under_its_new_secret_and_counts_on() {
    let (mut host, mut client) = (packetizer(Scheme::Cauchy), reassembler());
    for packet in packets(&mut host, 0, true, 3000) {
        client.push(0, &packet);
    }
    assert_eq!(delivered(&drain(&mut client, 0), 3000), [0]);
    // Of the next frame something is missing when the host falls silent.
    client.push(1, &packets(&mut host, 1, false, 3000)[0]);
    let secret = MediaSecret([2; 32]);
    let config = |generation| ReassemblerConfig {
        session: 5,
        generation,
        secret: secret.clone(),
        shard_size: 1200,
        reorder_wait_ns: WAIT,
    };
    client.resume(config(2));
    assert_eq!(client.push(2, &packets(&mut host, 2, true, 3000)[0]), Pushed::Rejected, "what is left of before");
    let sealer = Sealer::new(&secret, 2, Direction::HostToClient);
    let mut host = Packetizer::new(
        PacketizerConfig { session: 5, scheme: Scheme::Cauchy, parity_floor_percent: 20, shard_size: 1200 },
        sealer,
    );
    for packet in packets(&mut host, 0, true, 3000) {
        client.push(3, &packet);
    }
    assert_eq!(delivered(&drain(&mut client, 3), 3000), [0]);
    assert_eq!((client.counters().frames, client.generation(), client.keyframe_wanted()), (2, 2, None));
}

#[test]
fn a_frame_is_whole_before_its_parity_comes() {
    let (mut host, mut client) = (packetizer(Scheme::Leopard), reassembler());
    let sent = packets(&mut host, 0, true, 5000);
    for packet in &sent[..6] {
        assert_eq!(drain(&mut client, 0), []);
        assert_eq!(client.push(7, packet), Pushed::Media);
    }
    let events = drain(&mut client, 7);
    assert_eq!(delivered(&events, 5000), [0]);
    assert!(matches!(&events[0], Event::Frame(frame) if frame.idr && !frame.recovered && frame.reassembled_ns == 7));
    sent[6..].iter().for_each(|packet| assert_eq!(client.push(8, packet), Pushed::Media));
    assert_eq!(client.counters().surplus, 2);
    assert_eq!(client.push(9, &sent[0]), Pushed::Rejected);
    assert_eq!((client.counters().duplicates, client.pool.in_use()), (1, 0));
}

#[test]
fn after_a_loss_nothing_but_an_idr_is_handed_on() {
    let (mut host, mut client) = (packetizer(Scheme::Leopard), reassembler());
    let mut push = |client: &mut Reassembler, number, idr, now, skip| {
        packets(&mut host, number, idr, 5000)[skip..].iter().for_each(|packet| {
            client.push(now, packet);
        });
        drain(client, now)
    };
    assert_eq!(delivered(&push(&mut client, 0, true, 0, 0), 5000), [0]);
    // Three of eight are lost: one too many. The last parity packet says so, and this path has never reordered.
    assert_eq!(push(&mut client, 1, false, 10, 3), [Event::WantKeyframe { after: 1 }]);
    assert_eq!(client.probe(10).keyframe_wanted, Some(1));
    assert_eq!(client.next_deadline(10), Some(10 + WAIT));
    assert_eq!(push(&mut client, 2, false, 20, 0), [], "frame 1 may still come");
    assert_eq!(drain(&mut client, 10 + WAIT), [Event::Lost { first: 1, count: 1 }]);
    assert_eq!(push(&mut client, 3, false, 11 + WAIT, 0), [], "its base is missing");
    assert_eq!(delivered(&push(&mut client, 4, true, 12 + WAIT, 2), 5000), [4], "an IDR, recovered");
    assert_eq!(delivered(&push(&mut client, 5, false, 13 + WAIT, 0), 5000), [5]);
    let counters = client.counters();
    assert_eq!(
        (counters.frames, counters.frames_lost, counters.frames_skipped, counters.frames_recovered),
        (3, 1, 2, 1)
    );
    assert_eq!((client.keyframe_wanted(), client.pool.in_use()), (None, 0));
    assert_eq!(client.packets_lost(), 5);
}

#[test]
fn a_lost_idr_is_wished_for_again() {
    let (mut host, mut client) = (packetizer(Scheme::Leopard), reassembler());
    let frames: Vec<_> = (0..8).map(|number| packets(&mut host, number, matches!(number, 0 | 3 | 6), 3000)).collect();
    let push = |client: &mut Reassembler, number: usize, now| {
        frames[number].iter().for_each(|packet| {
            client.push(now, packet);
        });
        drain(client, now)
    };
    push(&mut client, 0, 0);
    // All of 1, then all of 3, which was the answer, are lost.
    assert_eq!(push(&mut client, 2, 10), [Event::WantKeyframe { after: 1 }]);
    assert_eq!(drain(&mut client, 10 + WAIT), [Event::Lost { first: 1, count: 1 }]);
    assert_eq!(push(&mut client, 4, 11 + WAIT), [Event::WantKeyframe { after: 3 }]);
    assert_eq!(push(&mut client, 5, 12 + 2 * WAIT), [Event::Lost { first: 3, count: 1 }]);
    assert_eq!(delivered(&push(&mut client, 6, 13 + 2 * WAIT), 3000), [6]);
}

#[test]
fn a_client_may_join_late_and_host_may_jump() {
    let (mut host, mut client) = (packetizer(Scheme::Leopard), reassembler());
    let late = packets(&mut host, 9, true, 3000);
    late.iter().for_each(|packet| assert_eq!(client.push(0, packet), Pushed::Media));
    let events = drain(&mut client, 0);
    assert_eq!(events[0], Event::Lost { first: 0, count: 9 });
    assert_eq!(delivered(&events, 3000), [9]);
    let far = packets(&mut host, 4_000_000_000, false, 3000);
    client.push(1, &far[0]);
    assert_eq!(client.poll(1), Some(Event::Lost { first: 10, count: 4_000_000_000 - 10 }));
    assert_eq!(client.poll(1), Some(Event::WantKeyframe { after: 3_999_999_999 }));
    assert_eq!(client.poll(1), None);
    let end = packets(&mut host, u32::MAX - 1, true, 3000);
    end.iter().for_each(|packet| assert_eq!(client.push(2, packet), Pushed::Media));
    assert_eq!(delivered(&drain(&mut client, 2), 3000), [u32::MAX - 1]);
}

#[test]
fn a_batch_of_many_frames_loses_none_of_them() {
    let (mut host, mut client) = (packetizer(Scheme::Leopard), reassembler());
    for number in (0..200).filter(|&number| number != 150) {
        packets(&mut host, number, matches!(number, 0 | 180), 300).iter().for_each(|packet| {
            client.push(0, packet);
        });
    }
    let events = drain(&mut client, 0);
    let expected: Vec<_> = (0..150).chain(180..200).collect();
    assert_eq!(delivered(&events, 300), expected);
    assert_eq!(client.queued_bytes, 0);
    let counters = client.counters();
    assert_eq!((counters.frames_lost, counters.frames_skipped, client.keyframe_wanted()), (1, 29, None));
}

#[test]
fn only_an_authentic_packet_moves_the_generation() {
    let (mut host, mut client) = (packetizer(Scheme::Leopard), reassembler());
    let old = packets(&mut host, 0, true, 3000);
    client.push(0, &old[0]);
    let mut forged = old[1].clone();
    forged[8..12].copy_from_slice(&2u32.to_le_bytes());
    assert_eq!(client.push(1, &forged), Pushed::Rejected);
    assert_eq!((client.generation(), client.counters().rejected), (1, 1));
    host.set_generation(sealer(3));
    let new = packets(&mut host, 0, true, 3000);
    new.iter().for_each(|packet| assert_eq!(client.push(2, packet), Pushed::Media));
    assert_eq!(client.generation(), 3);
    assert_eq!(delivered(&drain(&mut client, 2), 3000), [0]);
    assert_eq!(client.push(3, &old[1]), Pushed::Rejected);
    assert_eq!(client.counters().stale, 1);
    client.move_to(2);
    assert_eq!(client.generation(), 3, "never back");
    client.move_to(4);
    assert_eq!((client.generation(), client.probe(4).highest), (4, 0));
}

/// One authentic packet with any body, as only a host gone mad would send.
fn authentic(sealer: &mut Sealer, kind: Kind, flags: u8, index: u16, frame: u32, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER_BYTES];
    packet.extend_from_slice(body);
    packet.resize(packet.len() + TAG_BYTES, 0);
    let header = Header { kind, flags: Flags(flags), index, session: 5, generation: 0, frame, counter: 0 };
    sealer.seal(header, &mut packet).unwrap();
    packet
}

#[test]
fn contradictions_spoil_a_frame_and_nothing_else() {
    let (mut sealer, mut client) = (sealer(1), reassembler());
    let parity = ParityHeader { k: 2, m: 2, scheme: 1, len: 50 }.encode();
    let parity = [&parity[..], &[0xee; 50]].concat();
    let shard = [&48u16.to_le_bytes()[..], &[0; 48]].concat();
    for (kind, index, body) in [(Kind::Data, 0, &shard), (Kind::Parity, 0, &parity)] {
        client.push(0, &authentic(&mut sealer, kind, 1, index, 0, body));
    }
    // The recovered shard's length makes no sense, and so the frame is lost, not guessed at.
    let events = drain(&mut client, 0);
    assert_eq!(events, [Event::Lost { first: 0, count: 1 }, Event::WantKeyframe { after: 0 }]);
    assert_eq!(client.pool.in_use(), 0);
}

#[test]
fn a_mad_host_gets_only_so_much_memory() {
    let (mut sealer, mut client) = (sealer(1), reassembler());
    let shard = [&1150u16.to_le_bytes()[..], &[0; 1150]].concat();
    for number in 0..WINDOW {
        for index in (0..MAX_DATA_SHARDS as u16).rev().step_by(8) {
            client.push(0, &authentic(&mut sealer, Kind::Data, 0, index, number, &shard));
        }
    }
    assert!(client.counters().overflow > 0);
    assert!(client.pool.bytes().len() <= 20_000 * 1152);
    drain(&mut client, WAIT);
    client.push(WAIT, &authentic(&mut sealer, Kind::Idle, 0, 0, 100, &[]));
    assert_eq!(client.pool.in_use(), 0);
}

fn any_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Data), Just(Kind::Parity), Just(Kind::Idle), Just(Kind::Pong), Just(Kind::Probe)]
}

/// Bodies that get past the first checks, and some that do not.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    let shard = (0usize..40).prop_map(|len| [&(len as u16).to_le_bytes()[..], &vec![0; len]].concat());
    let parity = (0u16..5, 0u16..5, 0u8..4, 0usize..20, any::<u8>()).prop_map(|(k, m, scheme, half, fill)| {
        let len = half * 2;
        [&ParityHeader { k, m, scheme, len: len as u16 }.encode()[..], &vec![fill; len]].concat()
    });
    prop_oneof![shard, parity, proptest::collection::vec(any::<u8>(), 0..60)]
}

proptest! {
    #[test]
    fn no_datagram_panics(datagrams in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20)) {
        let mut client = reassembler();
        for (now, mut datagram) in datagrams.into_iter().enumerate() {
            client.push(now as u64, &datagram);
            // And with a plausible header.
            if datagram.len() >= 12 {
                datagram[0] = 1 + datagram[0] % 5;
                datagram[1] %= 8;
                datagram[4..8].copy_from_slice(&5u32.to_le_bytes());
            }
            client.push(now as u64, &datagram);
            prop_assert_eq!(client.poll(now as u64), None);
        }
        prop_assert_eq!(client.counters().packets, 0);
    }

    #[test]
    fn no_authentic_packet_panics(
        packets in proptest::collection::vec((any_kind(), 0u8..8, 0u16..6, prop_oneof![0u32..6, any::<u32>(), u32::MAX - 2..=u32::MAX], any_body(), 0u64..5_000_000), 0..60),
    ) {
        let (mut sealer, mut client, mut now) = (sealer(1), reassembler(), 0);
        for (kind, flags, index, frame, body, wait) in packets {
            now += wait;
            client.push(now, &authentic(&mut sealer, kind, flags, index, frame, &body));
            drain(&mut client, now);
            prop_assert!(client.next_deadline(now).is_none_or(|deadline| deadline > now));
        }
    }

    /// With at most `m` packets of a frame lost, in any order and with some twice, it comes back bit-exact and at once.
    #[test]
    fn a_frame_survives_as_many_losses_as_it_has_parity(
        len in 1usize..60_000, scheme in 1u8..3, loss in 0u32..300, lose in 0usize..100, order: u64, twice in 0usize..10,
    ) {
        let (mut host, mut client) = (packetizer(Scheme::from_wire(scheme).unwrap()), reassembler());
        host.set_loss(loss);
        let mut sent = packets(&mut host, 0, true, len);
        let m = host.counters().parity as usize;
        let mut state = order | 1;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as usize % below
        };
        for last in (1..sent.len()).rev() {
            sent.swap(last, random(last + 1));
        }
        sent.truncate(sent.len() - lose.min(m));
        for _ in 0..twice {
            let again = sent[random(sent.len())].clone();
            sent.push(again);
        }
        for packet in &sent {
            client.push(0, packet);
        }
        prop_assert_eq!(delivered(&drain(&mut client, 0), len), [0]);
        prop_assert_eq!(client.pool.in_use(), 0);
    }
}
