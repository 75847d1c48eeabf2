use super::*;
use crate::seal::{Direction, MediaSecret, Opener};

const SECRET: MediaSecret = MediaSecret([3; 32]);

fn packetizer() -> Packetizer {
    let config = PacketizerConfig { session: 5, scheme: Scheme::Leopard, parity_floor_percent: 20, shard_size: 1200 };
    Packetizer::new(config, Sealer::new(&SECRET, 1, Direction::HostToClient))
}

fn header() -> FrameHeader {
    FrameHeader { still: false, captured_ns: 9, taken: 1, converted: 2, first_slice: 3, previous: None }
}

fn opened(batch: &PacketBatch) -> Vec<(Header, Vec<u8>)> {
    let mut opener = Opener::new(&SECRET, 1, Direction::HostToClient);
    batch
        .iter()
        .map(|packet| {
            let header = Header::decode(packet).unwrap();
            (header, opener.open(&header, packet, &mut [0; 2048]).unwrap().to_vec())
        })
        .collect()
}

#[test]
fn slices_leave_at_once_and_parity_follows_the_last() {
    let (mut packetizer, mut batch) = (packetizer(), PacketBatch::with_capacity(64, 1200));
    packetizer.begin(7, true, &header());
    packetizer.slice(&[1; 3000], false, &mut batch).unwrap();
    assert_eq!(batch.packets(), 3);
    packetizer.slice(&[2; 100], true, &mut batch).unwrap();
    assert_eq!(batch.packets(), 4 + 2);

    let packets = opened(&batch);
    let kinds: Vec<_> = packets.iter().map(|(header, _)| (header.kind, header.flags.0, header.index)).collect();
    let (data, parity) = (Kind::Data, Kind::Parity);
    assert_eq!(kinds, [(data, 1, 0), (data, 1, 1), (data, 5, 2), (data, 7, 3), (parity, 1, 0), (parity, 1, 1)]);
    assert!(packets.iter().all(|(header, _)| (header.session, header.frame) == (5, 7)));
    assert!(packets.iter().map(|(header, _)| header.counter).eq(1..=6));
    let stream: Vec<u8> = packets[..4].iter().flat_map(|(_, body)| &body[2..]).copied().collect();
    assert_eq!(stream[..FRAME_HEADER_BYTES], header().encode());
    assert_eq!(stream[FRAME_HEADER_BYTES..], [vec![1; 3000], vec![2; 100]].concat());
    let (shape, _) = ParityHeader::decode(&packets[4].1).unwrap();
    assert_eq!(shape, ParityHeader { k: 4, m: 2, scheme: 1, len: 1152 });
    // Full data packets, the slice's short one, the next slice's; parity is the longest.
    let runs: Vec<_> = batch.runs().map(|(bytes, segment)| (bytes.len(), segment)).collect();
    assert_eq!(runs, [(1192 * 2 + 782, 1192), (142, 142), (2400, 1200)]);
}

#[test]
fn runs_are_bounded() {
    let (mut packetizer, mut batch) = (packetizer(), PacketBatch::with_capacity(64, 1200));
    packetizer.begin(0, true, &header());
    packetizer.slice(&vec![1; 80_000], true, &mut batch).unwrap();
    assert_eq!(batch.packets(), 70 + 14);
    assert!(batch.runs().all(|(bytes, segment)| bytes.len() <= PacketBatch::RUN_PACKETS * segment));
    assert_eq!(batch.runs().map(|(bytes, _)| bytes.len()).sum::<usize>(), batch.bytes());
    assert_eq!(batch.iter().count(), batch.packets());
    batch.clear();
    assert!(batch.is_empty() && batch.packets() == 0);
}

#[test]
fn idle_names_the_frame_that_comes_next() {
    let (mut packetizer, mut batch) = (packetizer(), PacketBatch::default());
    packetizer.idle(&mut batch).unwrap();
    packetizer.begin(0, true, &header());
    packetizer.slice(&[1; 10], false, &mut batch).unwrap();
    packetizer.idle(&mut batch).unwrap();
    packetizer.slice(&[1; 10], true, &mut batch).unwrap();
    packetizer.idle(&mut batch).unwrap();
    packetizer.pong(Pong { client_ns: 1, host_received_ns: 2, host_sent_ns: 3 }, &mut batch).unwrap();
    let idles: Vec<_> = opened(&batch)
        .iter()
        .filter(|(header, _)| matches!(header.kind, Kind::Idle | Kind::Pong))
        .map(|(header, body)| (header.frame, body.len()))
        .collect();
    assert_eq!(idles, [(0, 0), (0, 0), (1, 0), (0, 24)]);
}

#[test]
fn a_frame_without_end_is_refused() {
    let (mut packetizer, mut batch) = (packetizer(), PacketBatch::default());
    assert_eq!(packetizer.slice(&[1], true, &mut batch), Err(PacketizeError::NoFrame));
    packetizer.begin(0, true, &header());
    let slice = vec![0; 1150 * 1024];
    for _ in 0..7 {
        packetizer.slice(&slice, false, &mut batch).unwrap();
        batch.clear();
    }
    assert_eq!(packetizer.slice(&slice, false, &mut batch), Err(PacketizeError::TooLarge));
    assert_eq!(packetizer.slice(&[1], true, &mut batch), Err(PacketizeError::NoFrame), "it is given up");
    packetizer.begin(1, true, &header());
    packetizer.slice(&[], true, &mut batch).unwrap();
}

#[test]
fn a_warm_packetizer_allocates_nothing() {
    let (mut packetizer, mut batch) = (packetizer(), PacketBatch::with_capacity(200, 1200));
    let frame = vec![1; 80_000];
    let send = |packetizer: &mut Packetizer, batch: &mut PacketBatch, number| {
        batch.clear();
        packetizer.begin(number, false, &header());
        packetizer.slice(&frame, true, batch).unwrap();
    };
    send(&mut packetizer, &mut batch, 0);
    let memory = |packetizer: &Packetizer, batch: &PacketBatch| {
        [
            packetizer.shards.capacity(),
            packetizer.starts.capacity(),
            packetizer.parity.capacity(),
            batch.bytes.capacity(),
            batch.runs.capacity(),
        ]
    };
    let before = memory(&packetizer, &batch);
    (1..20).for_each(|number| send(&mut packetizer, &mut batch, number));
    assert_eq!(memory(&packetizer, &batch), before);
}
