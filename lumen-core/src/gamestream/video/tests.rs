mod client;

use client::{Client, Frame};
use proptest::prelude::*;

use super::*;

const KEY: [u8; 16] = [9; 16];
const MS: u64 = 1_000_000;

fn config(packet_size: u32, key: Option<[u8; 16]>) -> VideoConfig {
    VideoConfig { packet_size: PacketSize::new(packet_size).unwrap(), min_parity: 2, key }
}

/// Reproducible bytes without a zero, so that padding shows.
fn noise(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (seed.wrapping_mul(31) ^ at.wrapping_mul(2_654_435_761) >> 7) as u8 | 1).collect()
}

fn send(host: &mut VideoPacketizer, bytes: &[u8]) -> PacketBatch {
    let mut batch = PacketBatch::default();
    host.begin(false, Some(1));
    host.slice(bytes, true, 2, &mut batch).unwrap();
    batch
}

fn receive(client: &mut Client, batch: &PacketBatch) -> Vec<Frame> {
    batch.iter().filter_map(|packet| client.push(packet)).collect()
}

#[test]
fn packet_sizes_are_bounded() {
    for bytes in [256, 1024, 1360, 1392] {
        assert_eq!(PacketSize::new(bytes).map(PacketSize::get), Some(bytes as u16));
    }
    for bytes in [0, 240, 255, 257, 1391, 1393, 1408, 65_792, u32::MAX] {
        assert_eq!(PacketSize::new(bytes), None);
    }
    assert_eq!(PacketSize::new(1360).unwrap().datagram(true), 1408);
    assert_eq!(PacketSize::new(1392).unwrap().datagram(false), 1408);
}

/// The first packets of a session, byte for byte.
#[test]
fn a_small_frame_on_the_wire() {
    let mut host = VideoPacketizer::new(config(256, None));
    let mut batch = PacketBatch::default();
    host.begin(true, Some(10 * MS));
    host.slice(&[0, 0, 0, 1, 0x65], false, 11 * MS, &mut batch).unwrap();
    assert!(batch.is_empty(), "nothing leaves before the frame is known");
    host.slice(&[0x88], true, 13 * MS, &mut batch).unwrap();
    let packets: Vec<&[u8]> = batch.iter().collect();
    #[rustfmt::skip]
    let first = [
        0x90, 96, 0, 0, /* time */ 0, 0, 0, 1, /* source */ 0, 0, 0, 0, /* extension */ 0, 0, 0, 0,
        /* stream */ 0, 0, 0, 0, /* frame */ 1, 0, 0, 0, /* first, last, picture */ 7, 0, 0x10, 0,
        /* 1 data packet, this is 0, 101 % */ 0x50, 0x06, 0x40, 0x00,
        /* frame header: 3 ms, IDR, 14 bytes in the last packet */ 1, 30, 0, 2, 14, 0, 0, 0,
        0, 0, 0, 1, 0x65, 0x88,
    ];
    assert_eq!(packets[0], first);
    assert_eq!(packets.len(), 3);
    assert!(packets[1..].iter().all(|packet| packet.len() == 272));
    assert_eq!(packets[1][..16], [0x90, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(packets[1][20..24], [1, 0, 0, 0]);
    assert_eq!(packets[1][26..32], [0x10, 0, 0x50, 0x16, 0x40, 0x00]);
    assert_eq!(packets[2][26..32], [0x10, 0, 0x50, 0x26, 0x40, 0x00]);
    // The parity of one packet is that packet times the inverses of 2 and of 3.
    let double = |byte: u8| byte << 1 ^ if byte & 0x80 == 0 { 0 } else { 0x1d };
    for (at, &byte) in first.iter().enumerate().skip(32) {
        assert_eq!(double(packets[1][at]), byte);
        assert_eq!(packets[2][at] ^ double(packets[2][at]), byte);
    }

    let frame = receive(&mut Client::new(256, None), &batch).remove(0);
    assert_eq!((frame.index, frame.kind, frame.latency, frame.time), (1, 2, 30, 1));
    assert_eq!(frame.bytes, [0, 0, 0, 1, 0x65, 0x88]);
}

#[test]
fn what_was_given_up_leaves_no_trace() {
    let mut host = VideoPacketizer::new(config(256, None));
    let mut client = Client::new(256, None);
    let mut batch = PacketBatch::default();
    assert_eq!(host.slice(&[1], true, 0, &mut batch), Err(VideoError::NoFrame));
    assert_eq!(receive(&mut client, &send(&mut host, &noise(1, 3_000)))[0].bytes, noise(1, 3_000));
    assert_eq!(host.frame_index(), 2);
    let before = (host.counters(), host.sequence, host.stream);

    host.begin(true, None);
    host.slice(&noise(2, 700), false, 0, &mut batch).unwrap();
    host.abort();
    assert_eq!(host.slice(&[1], true, 0, &mut batch), Err(VideoError::NoFrame));
    host.begin(true, None);
    host.slice(&noise(3, 700), false, 0, &mut batch).unwrap();
    host.begin(true, None);
    assert_eq!(host.slice(&[], true, 0, &mut batch), Err(VideoError::Empty));
    host.begin(true, None);
    host.slice(&noise(4, 100_000), false, 0, &mut batch).unwrap();
    assert_eq!(host.slice(&noise(4, 200_000), false, 0, &mut batch), Err(VideoError::TooLarge));
    assert_eq!(host.slice(&[1], true, 0, &mut batch), Err(VideoError::NoFrame));
    assert!(batch.is_empty() && host.frame_index() == 2);
    assert_eq!((host.counters(), host.sequence, host.stream), before);

    let frame = receive(&mut client, &send(&mut host, &noise(5, 50))).remove(0);
    assert_eq!((frame.index, frame.bytes), (2, noise(5, 50)));
}

#[test]
fn the_largest_frames_are_protected_too() {
    for packet_size in [256, 1024, 1392] {
        let config = config(packet_size, None);
        let (mut host, mut client) = (VideoPacketizer::new(config), Client::new(packet_size as u16, None));
        let memory = (host.packets.capacity(), host.packets.as_ptr());
        let promised = frame_bytes(config.packet_size) as usize;
        let most = 4 * 252 * (packet_size as usize - 16) - 8;
        for (round, bytes) in [promised, most].into_iter().enumerate() {
            let batch = send(&mut host, &noise(round, bytes));
            let blocks: Vec<_> = batch.iter().map(|packet| client.parse(packet).block).collect();
            assert!(blocks.iter().all(|block| block.last == 3));
            let least = if round == 0 { 24 } else { 3 };
            assert!(blocks.iter().all(|block| block.parity >= least && block.parity + block.data == 255));
            // As many as can be lost, of every block, at its beginning.
            let lossy = batch.iter().filter(|packet| client.parse(packet).index >= least);
            let frame = lossy.map(<[u8]>::to_vec).collect::<Vec<_>>();
            let frames: Vec<_> = frame.iter().filter_map(|packet| client.push(packet)).collect();
            assert!(frames.len() == 1 && frames[0].bytes == noise(round, bytes));
            assert_eq!(frames[0].recovered, 4 * least);
        }
        assert_eq!(host.counters().lessened, 2);
        assert_eq!(memory, (host.packets.capacity(), host.packets.as_ptr()), "all memory is taken at construction");
        let mut batch = PacketBatch::default();
        host.begin(false, None);
        assert_eq!(host.slice(&noise(0, most + 1), true, 0, &mut batch), Err(VideoError::TooLarge));
    }
}

#[test]
fn parity_has_a_floor_and_follows_the_loss() {
    let mut host = VideoPacketizer::new(VideoConfig { min_parity: 5, ..config(1392, None) });
    let mut client = Client::new(1392, None);
    let mut parity = |host: &mut VideoPacketizer, bytes: usize| {
        let batch = send(host, &noise(1, bytes));
        let block = client.parse(batch.iter().next().unwrap()).block;
        assert_eq!(receive(&mut client, &batch)[0].bytes, noise(1, bytes));
        (block.data, block.parity)
    };
    assert_eq!(parity(&mut host, 80_000), (59, 12));
    assert_eq!(parity(&mut host, 10_000), (8, 5), "the client's wish");
    assert_eq!(parity(&mut host, 100), (1, 3), "no percentage says more");
    host.set_loss(100);
    assert_eq!(parity(&mut host, 80_000), (59, 21));
    // One block holds 207 and what they need; 211 make two.
    assert_eq!(parity(&mut host, 284_000), (207, 48));
    assert_eq!(parity(&mut host, 290_000), (106, 31));
    host.set_loss(0);
    assert_eq!(parity(&mut host, 80_000), (59, 12));
    assert_eq!(host.counters().lessened, 0);

    let mut wishing = VideoPacketizer::new(VideoConfig { min_parity: 255, ..config(1392, None) });
    let batch = send(&mut wishing, &noise(1, 80_000));
    assert_eq!(batch.packets(), 59 + usize::from(MOST_WISHED_PARITY));
    let counters = VideoCounters { frames: 1, data: 59, parity: 16, lessened: 0 };
    assert_eq!(wishing.counters(), counters);
}

#[test]
fn numbers_wrap() {
    let mut host = VideoPacketizer::new(config(256, None));
    (host.sequence, host.stream, host.frame) = (65_500, 0x00ff_fffa, u32::MAX - 1);
    let mut at = host.sequence;
    let mut streams = Vec::new();
    for round in 0..4 {
        let batch = send(&mut host, &noise(round, 2_500));
        let client = Client::new(256, None);
        for packet in batch.iter() {
            assert_eq!(u16::from_be_bytes([packet[2], packet[3]]), at);
            at = at.wrapping_add(1);
            let packet_of = client.parse(packet);
            assert_eq!(packet_of.block.frame, (u32::MAX - 1).wrapping_add(round as u32));
            if packet_of.index < packet_of.block.data {
                streams.push(u32::from_le_bytes(packet[16..20].try_into().unwrap()));
            }
        }
    }
    assert!(at < 65_500);
    assert_eq!(streams[..7], [0xffff_fa00, 0xffff_fb00, 0xffff_fc00, 0xffff_fd00, 0xffff_fe00, 0xffff_ff00, 0]);
}

#[test]
fn sealed_packets_are_one_run_and_end_with_the_key() {
    let mut host = VideoPacketizer::new(config(1360, Some(KEY)));
    let batch = send(&mut host, &noise(1, 5 * 1344 - 8));
    let runs: Vec<_> = batch.runs().map(|(bytes, segment)| (bytes.len(), segment)).collect();
    assert_eq!(runs, [(7 * 1408, 1408)]);
    let mut client = Client::new(1360, Some(KEY));
    assert_eq!(receive(&mut client, &batch).len(), 1);
    // A second session of a client that brings the same key: no nonce comes again.
    let again = send(&mut VideoPacketizer::new(config(1360, Some(KEY))), &noise(1, 50_000));
    again.iter().for_each(|packet| drop(client.open(packet)));

    if let Some(sealer) = &mut host.sealer {
        sealer.spend(sealer.left() - 1_019);
    }
    let mut batch = PacketBatch::default();
    host.begin(true, None);
    assert_eq!(host.slice(&[1], true, 0, &mut batch), Err(VideoError::Exhausted));
    assert!(batch.is_empty());
}

/// Any frames in any slices, at any reported loss, with any packets lost that parity can replace, and any order within
/// a block.
#[derive(Clone, Debug)]
struct Journey {
    packet_size: u32,
    key: Option<[u8; 16]>,
    min_parity: u8,
    frames: Vec<(usize, usize, bool, u32)>,
    seed: u64,
}

fn journey() -> impl Strategy<Value = Journey> {
    let size =
        prop_oneof![Just(256u32), Just(1024), Just(992), Just(1360), Just(1392), (16u32..=87).prop_map(|n| n * 16)];
    let bytes = prop_oneof![4 => 1usize..3_000, 4 => 1usize..60_000, 1 => 1usize..240_000];
    let frames = prop::collection::vec((bytes, 1usize..6, any::<bool>(), 0u32..300), 1..5);
    (size, prop::option::of(any::<[u8; 16]>()), any::<u8>(), frames, any::<u64>())
        .prop_map(|(packet_size, key, min_parity, frames, seed)| Journey { packet_size, key, min_parity, frames, seed })
}

proptest! {
    #[test]
    fn frames_arrive_whole(journey in journey()) {
        let config = VideoConfig { min_parity: journey.min_parity, ..config(journey.packet_size, journey.key) };
        let mut host = VideoPacketizer::new(config);
        let mut client = Client::new(journey.packet_size as u16, journey.key);
        // The oracle that only looks at headers, with a memory of nonces of its own.
        let mut looker = Client::new(journey.packet_size as u16, journey.key);
        let mut random = below(journey.seed);
        for (number, &(bytes, slices, idr, loss)) in journey.frames.iter().enumerate() {
            let most = 4 * 252 * (journey.packet_size as usize - 16) - 8;
            let picture = noise(number, bytes.min(most));
            let mut batch = PacketBatch::default();
            host.set_loss(loss);
            let start = number as u64 * 16 * MS;
            host.begin(idr, (loss % 2 == 0).then_some(start));
            for (at, slice) in picture.chunks(picture.len().div_ceil(slices)).enumerate() {
                let last = (at + 1) * picture.len().div_ceil(slices) >= picture.len();
                host.slice(slice, last, start + 3 * MS, &mut batch).unwrap();
            }
            // By block; each loses as many packets as it may, and is shuffled.
            let mut blocks: Vec<(usize, Vec<&[u8]>)> = Vec::new();
            for packet in batch.iter() {
                let clear = looker.open(packet);
                prop_assert!(packet.len() <= usize::from(config.packet_size.datagram(journey.key.is_some())));
                let block = looker.parse(&clear).block;
                if usize::from(block.number) == blocks.len() {
                    blocks.push((block.parity, Vec::new()));
                }
                blocks[usize::from(block.number)].1.push(packet);
            }
            let mut arrived = Vec::new();
            for (parity, packets) in &mut blocks {
                for place in (1..packets.len()).rev() {
                    packets.swap(place, random(place + 1));
                }
                packets.truncate(packets.len() - random(*parity + 1));
                arrived.extend(packets.iter().filter_map(|packet| client.push(packet)));
            }
            prop_assert_eq!(arrived.len(), 1);
            let frame = arrived.remove(0);
            prop_assert_eq!(frame.index as usize, number + 1);
            prop_assert_eq!(frame.kind, if idr { 2 } else { 1 });
            prop_assert_eq!(frame.latency, if loss % 2 == 0 { 30 } else { 0 });
            prop_assert!(frame.bytes == picture);
            prop_assert_eq!(client.next_base, host.sequence, "numbers go on without a gap");
        }
    }
}

/// A number below the argument, each time.
fn below(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as usize % below
    }
}
