//! The host's packets, read by the client that was written apart from them.

use lumen_core::gamestream::video::{PacketSize, VideoConfig, VideoPacketizer};
use lumen_core::packetize::PacketBatch;

use super::queue::{Event, Queue};
use crate::guest::chance::Chance;

const PACKET: u32 = 512;

/// An IDR of this many bytes, or a frame that is none.
fn frame(bytes: usize, idr: bool) -> Vec<u8> {
    let head: &[u8] = match idr {
        true => &[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 2, 0, 0, 0, 1, 0x65],
        false => &[0, 0, 0, 1, 0x41],
    };
    head.iter().copied().chain((0..bytes).map(|at| (at * 7 % 251) as u8 | 1)).collect()
}

/// What the host sends for frames of these sizes.
fn packets(sizes: &[usize]) -> Vec<Vec<Vec<u8>>> {
    let packet_size = PacketSize::new(PACKET).unwrap();
    let mut host = VideoPacketizer::new(VideoConfig { packet_size, min_parity: 2, key: None });
    let mut batch = PacketBatch::with_capacity(2000, packet_size.datagram(false));
    let send = |(index, size): (usize, &usize)| {
        batch.clear();
        host.begin(index == 0, Some(1_000_000));
        host.slice(&frame(*size, index == 0), true, 4_500_000, &mut batch).unwrap();
        batch.iter().map(<[u8]>::to_vec).collect()
    };
    sizes.iter().enumerate().map(send).collect()
}

fn receive(queue: &mut Queue, packets: &[Vec<u8>]) -> Vec<Event> {
    let mut events = Vec::new();
    packets.iter().for_each(|packet| queue.push(packet, &mut events));
    events
}

#[test]
fn frames_of_every_shape_come_out_as_they_went_in() {
    let sizes = [3000, 1, 487, 488, 489, 496, 20_000, 120_000, 300_000, 5];
    let mut queue = Queue::new(PACKET as usize);
    for (index, (packets, size)) in packets(&sizes).iter().zip(sizes).enumerate() {
        let events = receive(&mut queue, packets);
        let [Event::Frame(whole)] = &events[..] else { panic!("{events:?}") };
        assert_eq!(whole.bytes, frame(size, index == 0));
        assert_eq!((whole.idr, whole.host_latency), (index == 0, Some(35)));
    }
    assert_eq!(queue.counts.faults, 0, "{:?}", queue.counts.told);
    assert_eq!(queue.counts.blocked, 2, "two were too large for one block");
    assert!(queue.counts.parity_judged > 100);
}

#[test]
fn what_parity_can_give_back_comes_back_and_the_rest_is_told() {
    let sizes = [6000; 300];
    let mut queue = Queue::new(PACKET as usize);
    let mut chance = Chance::new(80, 5);
    let (mut whole, mut lost, mut told) = (0, 0, 0);
    for (index, packets) in packets(&sizes).iter().enumerate() {
        let kept: Vec<Vec<u8>> = packets.iter().filter(|_| !chance.strikes()).cloned().collect();
        for event in receive(&mut queue, &kept) {
            match event {
                Event::Frame(got) => {
                    assert_eq!(got.bytes, frame(6000, got.number == 1), "{index}");
                    whole += 1;
                }
                Event::Lost { frames } => lost += frames,
                Event::Status(body) => told += u32::from(body[..4] != [0; 4]),
            }
        }
    }
    assert_eq!(queue.counts.faults, 0, "{:?}", queue.counts.told);
    assert_eq!(whole + lost + u32::from(queue.counts.frames + u64::from(lost) < 300), 300);
    assert!(queue.counts.recovered_packets > 100 && told > 100, "{:?}", queue.counts);
    assert!(lost < 60, "{lost}");
}

#[test]
fn a_lie_anywhere_is_a_fault() {
    let honest = packets(&[3000, 3000]);
    let data = honest[1].len() - 2;
    // Byte, what is changed in it, and in which packet.
    let lies =
        [(0, 0x10, 0), (24, 2, 1), (25, 1, 1), (26, 1, 2), (2, 1, 0), (17, 1, 1), (28, 16, 0), (40, 1, data + 1)];
    for (byte, bits, packet) in lies {
        let mut lying = honest.clone();
        lying[1][packet][byte] ^= bits;
        let mut queue = Queue::new(PACKET as usize);
        for packets in &lying {
            receive(&mut queue, packets);
        }
        // Parity is judged when the next frame begins.
        receive(&mut queue, &packets(&[3000, 3000, 3000])[2]);
        assert!(queue.counts.faults > 0, "byte {byte} of packet {packet}");
    }
}
