use aws_lc_rs::cipher::{DecryptionContext, PaddedBlockDecryptingKey};
use proptest::prelude::*;

use super::*;

const KEY: [u8; 16] = *b"sixteen bytes of";

/// One datagram's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Header {
    Data { sequence: u16, time: u32 },
    Parity { index: usize, base: u16, base_time: u32 },
}

/// Reads a datagram as clients do, and takes nothing that they would not.
fn parse(datagram: &[u8]) -> (Header, &[u8]) {
    let u16_at = |at: usize| u16::from_be_bytes(datagram[at..at + 2].try_into().unwrap());
    let u32_at = |at: usize| u32::from_be_bytes(datagram[at..at + 4].try_into().unwrap());
    assert_eq!(datagram[0], 0x80);
    assert!(datagram.len() <= 1400 && datagram.len() <= MAX_DATAGRAM);
    match datagram[1] {
        97 => (Header::Data { sequence: u16_at(2), time: u32_at(4) }, &datagram[12..]),
        127 => {
            assert_eq!((datagram[13], u32_at(20)), (97, u32_at(8)));
            let header = Header::Parity { index: datagram[12].into(), base: u16_at(14), base_time: u32_at(16) };
            (header, &datagram[24..])
        }
        other => panic!("type {other}"),
    }
}

/// Schoolbook multiplication over GF(2^8) modulo 0x11D.
fn mul(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0, |product: u8, bit| {
        let doubled = product << 1 ^ if product & 0x80 == 0 { 0 } else { 0x1d };
        doubled ^ if b >> bit & 1 == 1 { a } else { 0 }
    })
}

fn inverse(a: u8) -> u8 {
    (1..=255).find(|&b| mul(a, b) == 1).unwrap()
}

const MATRIX: [[u8; 4]; 2] = [[0x77, 0x40, 0x38, 0x0e], [0xc7, 0xa7, 0x0d, 0x6c]];

/// Gives back what is missing of four payloads, from two of parity, if it can be given back: one equation for each.
fn recover(data: &mut [Option<Vec<u8>>; 4], parity: &[Option<Vec<u8>>; 2]) -> Option<()> {
    let missing: Vec<usize> = (0..4).filter(|&index| data[index].is_none()).collect();
    let rows: Vec<usize> = (0..2).filter(|&row| parity[row].is_some()).collect();
    let rest = |row: usize| {
        let mut sum = parity[row].clone().unwrap();
        for (index, payload) in data.iter().enumerate() {
            for (sum, &byte) in sum.iter_mut().zip(payload.iter().flatten()) {
                *sum ^= mul(MATRIX[row][index], byte);
            }
        }
        sum
    };
    match (missing[..].as_ref(), rows[..].as_ref()) {
        ([], _) => {}
        (&[lost], &[row, ..]) => {
            let factor = inverse(MATRIX[row][lost]);
            data[lost] = Some(rest(row).iter().map(|&byte| mul(factor, byte)).collect());
        }
        (&[a, b], &[0, 1]) => {
            let [[p, q], [r, s]] = MATRIX.map(|row| [row[a], row[b]]);
            let factor = inverse(mul(p, s) ^ mul(q, r));
            let (first, second) = (rest(0), rest(1));
            let solve = |x: u8, y: u8| {
                let both = first.iter().zip(&second);
                Some(both.map(|(&one, &two)| mul(factor, mul(x, one) ^ mul(y, two))).collect())
            };
            (data[a], data[b]) = (solve(s, q), solve(r, p));
        }
        _ => return None,
    }
    Some(())
}

fn decrypt(id: i32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let key = UnboundCipherKey::new(&AES_128, &KEY).unwrap();
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(key).unwrap();
    let mut iv = [0; 16];
    iv[..4].copy_from_slice(&(id as u32).wrapping_add(u32::from(sequence)).to_be_bytes());
    let mut bytes = payload.to_vec();
    key.decrypt(&mut bytes, DecryptionContext::Iv128(FixedLength::from(iv))).unwrap().to_vec()
}

fn packetizer(packet: PacketTime, id: Option<i32>) -> AudioPacketizer {
    AudioPacketizer::new(AudioConfig { packet, key: id.map(|id| (KEY, id)) })
}

fn send(host: &mut AudioPacketizer, opus: &[u8]) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    host.packet(opus, |datagram| datagrams.push(datagram.to_vec()));
    datagrams
}

/// The first block of a session, byte for byte.
#[test]
fn a_block_on_the_wire() {
    let mut host = packetizer(PacketTime::Five, None);
    let mut all = Vec::new();
    for number in 0..4u8 {
        let sent = send(&mut host, &[0xfc, number]);
        assert_eq!(sent.len(), if number == 3 { 3 } else { 1 });
        all.extend(sent);
    }
    assert_eq!(all[0], [0x80, 97, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfc, 0]);
    assert_eq!(all[3], [0x80, 97, 0, 3, 0, 0, 0, 15, 0, 0, 0, 0, 0xfc, 3]);
    let sum = |row: [u8; 4], bytes: [u8; 4]| row.into_iter().zip(bytes).fold(0, |sum, (a, b)| sum ^ mul(a, b));
    for (index, row) in MATRIX.into_iter().enumerate() {
        let mut expected = vec![0x80, 127, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        expected.extend_from_slice(&[index as u8, 97, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[sum(row, [0xfc; 4]), sum(row, [0, 1, 2, 3])]);
        assert_eq!(all[4 + index], expected);
    }
    assert_eq!(host.counters(), AudioCounters { data: 4, parity: 2, ..AudioCounters::default() });
}

#[test]
fn ten_milliseconds_are_ten_of_time() {
    let mut host = packetizer(PacketTime::Ten, None);
    for number in 0..9u32 {
        let sent = send(&mut host, &[1; 100]);
        assert_eq!(parse(&sent[0]).0, Header::Data { sequence: number as u16, time: number * 10 });
        if let Some(parity) = sent.get(2) {
            let base = number - 3;
            let expected = Header::Parity { index: 1, base: base as u16, base_time: base * 10 };
            assert_eq!(parse(parity).0, expected);
        }
    }
}

#[test]
fn another_length_begins_another_block() {
    let mut host = packetizer(PacketTime::Five, None);
    send(&mut host, &[1; 80]);
    send(&mut host, &[2; 80]);
    let other = send(&mut host, &[3; 81]);
    assert_eq!(parse(&other[0]).0, Header::Data { sequence: 4, time: 20 });
    let rest: Vec<_> = (0..3).flat_map(|_| send(&mut host, &[4; 81])).collect();
    assert_eq!(rest.len(), 3 + 2);
    assert_eq!(parse(&rest[3]).0, Header::Parity { index: 0, base: 4, base_time: 20 });
    // Between blocks a length may change without a loss.
    assert_eq!(parse(&send(&mut host, &[5; 10])[0]).0, Header::Data { sequence: 8, time: 40 });
    assert_eq!(host.counters(), AudioCounters { data: 7, parity: 2, refused: 0, restarts: 1 });

    // Encryption hides what its padding swallows.
    let mut host = packetizer(PacketTime::Five, Some(-1));
    for length in [81, 95, 85, 88] {
        send(&mut host, &vec![1; length]);
    }
    assert_eq!(host.counters(), AudioCounters { data: 4, parity: 2, refused: 0, restarts: 0 });
}

#[test]
fn what_is_no_packet_is_not_sent() {
    let mut host = packetizer(PacketTime::Five, Some(3));
    assert!(send(&mut host, &[]).is_empty());
    assert!(send(&mut host, &[0; MAX_PACKET + 1]).is_empty());
    assert_eq!(host.counters(), AudioCounters { refused: 2, ..AudioCounters::default() });
    for _ in 0..4 {
        for datagram in send(&mut host, &[7; MAX_PACKET]) {
            parse(&datagram);
        }
    }
}

#[test]
fn numbers_and_vectors_wrap() {
    for id in [0, -1, i32::MIN, i32::MAX, -65_000] {
        let mut host = packetizer(PacketTime::Five, Some(id));
        host.next = 65_532;
        for number in 65_532..65_544u32 {
            let sent = send(&mut host, &[number as u8; 60]);
            let (header, payload) = parse(&sent[0]);
            assert_eq!(header, Header::Data { sequence: number as u16, time: number * 5 });
            assert_eq!(payload.len(), 64);
            assert_eq!(decrypt(id, number as u16, payload), [number as u8; 60]);
        }
    }
    let mut host = packetizer(PacketTime::Ten, None);
    host.next = u32::MAX - 2;
    send(&mut host, &[1; 60]);
    assert_eq!(parse(&send(&mut host, &[1; 61])[0]).0, Header::Data { sequence: 0, time: 0 });
}

proptest! {
    /// Any two packets of a block's six can be lost.
    #[test]
    fn sound_arrives_whole(
        id in prop::option::of(any::<i32>()),
        blocks in prop::collection::vec((1usize..=MAX_PACKET, 0usize..6, 0usize..6), 1..6),
        start in 0u32..20_000,
    ) {
        let mut host = packetizer(PacketTime::Five, id);
        host.next = start * 4;
        for (round, (length, lost, also)) in blocks.into_iter().enumerate() {
            let base = (start + round as u32) * 4;
            let opus = |index: usize| (0..length).map(|at| (at * 7 + index * 31 + round) as u8).collect::<Vec<_>>();
            let sent: Vec<_> = (0..4).flat_map(|index| send(&mut host, &opus(index))).collect();
            prop_assert_eq!(sent.len(), 6);
            let (mut data, mut parity) = ([const { None }; 4], [const { None }; 2]);
            for (number, datagram) in sent.iter().enumerate() {
                let (header, payload) = parse(datagram);
                let (slot, expected) = match header {
                    Header::Data { sequence, .. } => {
                        let time = base.wrapping_add(number as u32) * 5;
                        (&mut data[usize::from(sequence % 4)], Header::Data { sequence: (base + number as u32) as u16, time })
                    }
                    Header::Parity { index, .. } => {
                        (&mut parity[index], Header::Parity { index: number - 4, base: base as u16, base_time: base * 5 })
                    }
                };
                prop_assert_eq!(header, expected);
                *slot = (number != lost && number != also).then(|| payload.to_vec());
            }
            prop_assert!(recover(&mut data, &parity).is_some());
            for (index, payload) in data.iter().enumerate() {
                let payload = payload.as_deref().unwrap();
                let clear = id.map_or_else(|| payload.to_vec(), |id| decrypt(id, (base + index as u32) as u16, payload));
                prop_assert_eq!(clear, opus(index));
            }
        }
    }
}
