//! The wire's cost for one frame of 80 kB: `cargo bench -p lumen-core --bench wire`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use lumen_core::fec::kernels::Kernel;
use lumen_core::fec::{Encoder, Scheme, Shape, Shards};
use lumen_core::gamestream::video::{PacketSize, VideoConfig, VideoPacketizer};
use lumen_core::packet::FrameHeader;
use lumen_core::packetize::{PacketBatch, Packetizer, PacketizerConfig};
use lumen_core::reassemble::{Event, Reassembler, ReassemblerConfig};
use lumen_core::seal::{Direction, MediaSecret, Sealer};

const SECRET: MediaSecret = MediaSecret([7; 32]);
const FRAME: usize = 80_000;
const HEADER: FrameHeader =
    FrameHeader { still: false, captured_ns: 1, taken: 2, converted: 3, first_slice: 4, previous: None };

fn packetizer() -> Packetizer {
    let config = PacketizerConfig { session: 1, scheme: Scheme::Leopard, parity_floor_percent: 20, shard_size: 1200 };
    let mut packetizer = Packetizer::new(config, Sealer::new(&SECRET, 1, Direction::HostToClient));
    // Parity for exactly a fifth of all shards: 70 + 18.
    packetizer.set_loss(69);
    packetizer
}

fn reassembler() -> Reassembler {
    Reassembler::new(ReassemblerConfig {
        session: 1,
        generation: 1,
        secret: SECRET,
        shard_size: 1200,
        reorder_wait_ns: 16_000_000,
    })
}

/// In four slices, as an encoder gives them.
fn send(packetizer: &mut Packetizer, number: u32, frame: &[u8], batch: &mut PacketBatch) {
    batch.clear();
    packetizer.begin(number, number == 0, &HEADER);
    for (index, slice) in frame.chunks(FRAME / 4).enumerate() {
        packetizer.slice(slice, index == 3, batch).expect("a frame of 80 kB fits");
    }
}

/// One frame's packets at a time, made outside the measurement; `keep` says which of them arrive.
fn receive(c: &mut Criterion, name: &str, keep: impl Fn(usize) -> bool, recovered: bool) {
    let (mut host, mut client) = (packetizer(), reassembler());
    let (mut batch, mut number) = (PacketBatch::with_capacity(128, 1200), 0);
    let frame: Vec<u8> = (0..FRAME).map(|at| ((at * 31) >> 3) as u8).collect();
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Bytes(FRAME as u64));
    group.bench_function(name, |b| {
        b.iter_batched_ref(
            || {
                send(&mut host, number, &frame, &mut batch);
                number += 1;
                let packets = batch.iter().enumerate().filter(|(index, _)| keep(*index));
                packets.map(|(_, packet)| packet.to_vec()).collect::<Vec<_>>()
            },
            |packets| {
                for packet in packets.iter() {
                    client.push(1, packet);
                }
                let Some(Event::Frame(got)) = client.poll(1) else { panic!("the frame did not come back") };
                assert!(got.recovered == recovered && got.data.len() == FRAME);
                client.recycle(black_box(got).data);
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn wire(c: &mut Criterion) {
    let frame = vec![0x5a; FRAME];
    let (mut host, mut batch, mut number) = (packetizer(), PacketBatch::with_capacity(128, 1200), 0);
    let mut group = c.benchmark_group("wire");
    group.throughput(Throughput::Bytes(FRAME as u64));
    group.bench_function("packetise, protect and seal 80 kB", |b| {
        b.iter(|| {
            send(&mut host, number, black_box(&frame), &mut batch);
            number += 1;
            black_box(batch.bytes());
        });
    });
    group.finish();
    receive(c, "open and reassemble 80 kB", |_| true, false);
    receive(c, "open, recover and reassemble 80 kB with 20 % lost", |index| index % 5 != 2, true);
}

/// The parity that a Moonlight client of a wired network gets for the frame, by each kernel: 59 + 12 packets.
fn parity(c: &mut Criterion) {
    const PACKET: usize = 1408;
    let shape = Shape::new(Scheme::Cauchy, 59, 12, PACKET).expect("a shape of scheme 1");
    let frame: Vec<u8> = (0..59 * PACKET).map(|at| ((at * 31) >> 3) as u8).collect();
    let starts: Vec<usize> = (0..59).map(|index| index * PACKET).collect();
    let data = Shards::new(&frame, &starts, PACKET).expect("the shards lie in the frame");
    let mut parity = vec![0; 12 * PACKET];
    let mut group = c.benchmark_group("parity");
    group.throughput(Throughput::Bytes(FRAME as u64));
    for kernel in Kernel::available() {
        let mut encoder = Encoder::new(kernel);
        let name = if kernel.name() == Kernel::best().name() { "the best kernel" } else { kernel.name() };
        group.bench_function(format!("of 80 kB, {name}"), |b| {
            b.iter(|| {
                encoder.encode(shape, black_box(data), &mut parity);
                black_box(&parity);
            });
        });
    }
    group.finish();
}

/// The same frame for a Moonlight client, in clear and encrypted.
fn gamestream(c: &mut Criterion) {
    let frame = vec![0x5a; FRAME];
    let mut group = c.benchmark_group("gamestream");
    group.throughput(Throughput::Bytes(FRAME as u64));
    for (name, packet_size, key) in [("in clear", 1392, None), ("encrypted", 1360, Some([7; 16]))] {
        let packet_size = PacketSize::new(packet_size).expect("a size that clients have");
        let mut host = VideoPacketizer::new(VideoConfig { packet_size, min_parity: 2, key });
        let mut batch = PacketBatch::with_capacity(128, packet_size.datagram(true));
        group.bench_function(format!("packetise and protect 80 kB, {name}"), |b| {
            b.iter(|| {
                batch.clear();
                host.begin(false, Some(1));
                for (index, slice) in black_box(&frame).chunks(FRAME / 4).enumerate() {
                    host.slice(slice, index == 3, 2, &mut batch).expect("a frame of 80 kB fits");
                }
                black_box(batch.bytes());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, wire, parity, gamestream);
criterion_main!(benches);
