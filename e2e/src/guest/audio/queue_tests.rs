//! The host's packets, read by the client that was written apart from them.

use lumen_core::audio::PacketTime;
use lumen_core::gamestream::audio::{AudioConfig, AudioPacketizer};

use super::queue::{Event, Queue};
use crate::guest::chance::Chance;
use crate::guest::seal::open_sound;

const KEY: [u8; 16] = [9; 16];

fn packets(count: u32, key: Option<([u8; 16], i32)>) -> Vec<Vec<u8>> {
    let mut host = AudioPacketizer::new(AudioConfig { packet: PacketTime::Five, key });
    let mut packets = Vec::new();
    for number in 0..count {
        host.packet(&payload(number), |packet| packets.push(packet.to_vec()));
    }
    packets
}

fn payload(number: u32) -> Vec<u8> {
    (0..60).map(|at| (number * 31 + at * 7) as u8).collect()
}

#[test]
fn every_packet_comes_out_once_and_in_order() {
    let mut queue = Queue::new(5).unwrap();
    let mut events = Vec::new();
    // More than the number on the wire can count.
    let sent = packets(70_000, None);
    sent.iter().for_each(|packet| queue.push(packet, &mut events));
    assert_eq!(queue.counts.faults, 0, "{:?}", queue.counts.told);
    assert!(events.len() > 69_990);
    for (event, number) in events.iter().zip(4..) {
        assert_eq!(*event, Event::Packet(number as u16, payload(number)));
    }
    assert!(queue.counts.parity_judged > 34_000);
}

#[test]
fn what_parity_can_give_back_comes_back() {
    let (id, mut chance) = (-5, Chance::new(50, 3));
    let mut queue = Queue::new(5).unwrap();
    let mut events = Vec::new();
    let sent = packets(4000, Some((KEY, id)));
    sent.iter().filter(|_| !chance.strikes()).for_each(|packet| queue.push(packet, &mut events));
    assert_eq!(queue.counts.faults, 0, "{:?}", queue.counts.told);
    for (event, number) in events.iter().zip(4..) {
        if let Event::Packet(found, sealed) = event {
            assert_eq!(*found, number as u16);
            assert_eq!(open_sound(&KEY, id, *found, sealed).unwrap(), payload(number));
        }
    }
    // Of six packets any two may be missing: three or more are, once in 400 blocks or so.
    assert!(queue.counts.recovered > 100 && queue.counts.lost < 15, "{:?}", queue.counts);
}

#[test]
fn a_lie_anywhere_is_a_fault() {
    for (packet, byte) in [(9, 0), (9, 1), (9, 5), (10, 12), (11, 12), (11, 14), (11, 20), (11, 30), (7, 13)] {
        let mut lying = packets(60, None);
        lying[packet][byte] ^= 0x40;
        let (mut queue, mut events) = (Queue::new(5).unwrap(), Vec::new());
        lying.iter().for_each(|packet| queue.push(packet, &mut events));
        assert!(queue.counts.faults > 0, "byte {byte} of packet {packet}");
    }
}
