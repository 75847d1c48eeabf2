//! What a peer that scribbles over shared memory can achieve: a violation, or spoilt data of its own; nothing else.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ipc::RingGeometry;
use ipc::event::Event;
use ipc::mailbox::{FrameMeta, Mailbox, MailboxReader, MailboxWriter};
use ipc::ring::{CONTROL_BYTES, ChunkFlags, ChunkHeader, Ring, RingConsumer, RingProducer, TooLarge};
use ipc::shm::{Mapping, ShmError, sealed_memfd};

/// Values at and around every bound there is.
const NASTY: [u64; 14] = [0, 1, 2, 3, 4, 5, 32, 33, 63, 64, 65, 1 << 63, u64::MAX - 1, u64::MAX];

/// Where the protocols' words lie, as `mailbox/core.rs` and `ring/core.rs` lay them out.
const LATEST: u64 = 0;
const RETURNED: u64 = 128;
const META: u64 = 256;
const TAIL: u64 = 0;
const HEAD: u64 = 256;

/// The hostile process: it writes through the file, as nothing keeps it from.
struct Peer(File);

impl Peer {
    fn of(memory: &OwnedFd) -> Self {
        Self(File::from(memory.try_clone().unwrap()))
    }

    fn poke(&self, offset: u64, value: u64) {
        self.0.write_all_at(&value.to_ne_bytes(), offset).unwrap();
    }
}

fn mailbox() -> (Peer, MailboxWriter, MailboxReader) {
    let memory = sealed_memfd("mailbox", Mailbox::memory_size()).unwrap();
    let wake = Event::new().unwrap();
    let writer = MailboxWriter::attach(memory.as_fd(), wake.try_clone().unwrap(), 4).unwrap();
    let reader = MailboxReader::attach(memory.as_fd(), wake, 4).unwrap();
    (Peer::of(&memory), writer, reader)
}

fn meta(sequence: u64) -> FrameMeta {
    FrameMeta { sequence, captured_ns: 0 }
}

const GEOMETRY: RingGeometry = RingGeometry { capacity: 65_536, frame_bytes: 20_000, frame_chunks: 3 };

fn ring() -> (Peer, RingProducer, RingConsumer) {
    let memory = sealed_memfd("ring", Ring::memory_size(&GEOMETRY)).unwrap();
    let (data, credit) = (Event::new().unwrap(), Event::new().unwrap());
    let (data2, credit2) = (data.try_clone().unwrap(), credit.try_clone().unwrap());
    let producer = RingProducer::attach(memory.as_fd(), data, credit, GEOMETRY).unwrap();
    let consumer = RingConsumer::attach(memory.as_fd(), data2, credit2, GEOMETRY).unwrap();
    (Peer::of(&memory), producer, consumer)
}

#[test]
fn mailbox_reader_refuses_indices_it_was_not_given() {
    for value in NASTY.into_iter().filter(|value| !(0..=4).contains(value)) {
        let (peer, _writer, mut reader) = mailbox();
        peer.poke(LATEST, value);
        assert!(reader.take().is_err(), "{value:#x}");
    }
    let (peer, mut writer, mut reader) = mailbox();
    let index = writer.acquire().unwrap().unwrap();
    writer.publish(index, meta(1));
    assert_eq!(reader.take().unwrap().unwrap().0, index);
    peer.poke(LATEST, u64::from(index) + 1);
    assert!(reader.take().is_err(), "published while the reader holds it");
}

#[test]
fn mailbox_reader_refuses_frames_that_go_back_in_time() {
    let (peer, mut writer, mut reader) = mailbox();
    for (sequence, good) in [(5, true), (6, true), (6, false)] {
        let index = writer.acquire().unwrap().unwrap();
        writer.publish(index, meta(7));
        peer.poke(META + 16 * u64::from(index), sequence);
        assert_eq!(reader.take().is_ok(), good, "{sequence}");
    }
}

#[test]
fn mailbox_writer_refuses_returns_of_what_the_reader_never_had() {
    for value in NASTY.into_iter().filter(|value| *value != 0) {
        let (peer, mut writer, _reader) = mailbox();
        peer.poke(RETURNED, value);
        assert!(writer.acquire().is_err(), "{value:#x}");
    }
    let (peer, mut writer, _reader) = mailbox();
    let index = writer.acquire().unwrap().unwrap();
    peer.poke(RETURNED, 1 << index);
    assert!(writer.acquire().is_err(), "returned while the writer draws");
}

#[test]
fn mailbox_writer_refuses_a_swapped_slot() {
    for value in NASTY.into_iter().filter(|value| *value != 0) {
        let (peer, mut writer, _reader) = mailbox();
        let index = writer.acquire().unwrap().unwrap();
        peer.poke(LATEST, value);
        writer.publish(index, meta(1));
        assert!(writer.acquire().is_err(), "{value:#x}");
        assert!(writer.acquire().is_err(), "a violation stays");
    }
}

#[test]
fn mailbox_ignores_what_its_own_side_does_not_own() {
    let (_peer, mut writer, mut reader) = mailbox();
    for index in [0, 4, 31, 32, 64, u32::MAX] {
        writer.cancel(index);
        reader.release(index);
    }
    let held: Vec<_> = (0..4).map(|_| writer.acquire().unwrap().unwrap()).collect();
    assert_eq!(held, [0, 1, 2, 3]);
    assert_eq!(writer.acquire(), Ok(None));
    writer.cancel(2);
    assert_eq!(writer.acquire(), Ok(Some(2)));
    writer.publish(9, meta(1));
    assert!(writer.acquire().is_err(), "publishing what was not acquired is a bug that must not pass");
}

#[test]
fn newest_frame_wins_and_wakes_once() {
    let (_peer, mut writer, mut reader) = mailbox();
    assert_eq!(reader.take(), Ok(None));
    for sequence in 1..=10 {
        let index = writer.acquire().unwrap().unwrap();
        writer.publish(index, meta(sequence));
    }
    assert_eq!((writer.published(), writer.skipped()), (10, 9));
    assert!(reader.wake().drain());
    let (index, taken) = reader.take().unwrap().unwrap();
    assert_eq!(taken.sequence, 10);
    assert_eq!(reader.take(), Ok(None));
    let next = writer.acquire().unwrap().unwrap();
    assert_ne!(next, index, "the reader still holds it");
    writer.publish(next, meta(11));
    assert!(reader.wake().drain(), "the mailbox was empty");
    reader.release(index);
    reader.release(index);
    assert_eq!(reader.take().unwrap().unwrap().1.sequence, 11);
}

#[test]
fn ring_consumer_refuses_impossible_positions() {
    for value in [65_537, 131_072, 1 << 63, u64::MAX, 1, 16, 47] {
        let (peer, _producer, mut consumer) = ring();
        peer.poke(TAIL, value);
        assert!(consumer.peek().is_err(), "{value}");
    }
    let (peer, mut producer, mut consumer) = ring();
    producer.reserve().unwrap().commit(ChunkHeader::default(), b"x").unwrap();
    while consumer.peek().unwrap().is_some() {
        consumer.release();
    }
    peer.poke(TAIL, 0);
    assert!(consumer.peek().is_err(), "the tail went back");
}

/// A consumer that has died is the hostile process here.
#[test]
fn ring_consumers_heir_goes_on_behind_what_was_released_or_finds_nonsense() {
    let memory = sealed_memfd("ring", Ring::memory_size(&GEOMETRY)).unwrap();
    let event = || Event::new().unwrap();
    let mut producer = RingProducer::attach(memory.as_fd(), event(), event(), GEOMETRY).unwrap();
    let mut dead = RingConsumer::attach(memory.as_fd(), event(), event(), GEOMETRY).unwrap();
    for byte in 0..5_u32 {
        let header = ChunkHeader { frame: byte, flags: ChunkFlags::LAST, ..ChunkHeader::default() };
        producer.reserve().unwrap().commit(header, &[byte as u8]).unwrap();
    }
    for _ in 0..2 {
        dead.peek().unwrap();
        dead.release();
    }
    // Looked at, and not released.
    dead.peek().unwrap();
    drop(dead);
    let resume = || RingConsumer::resume(memory.as_fd(), event(), event(), GEOMETRY).unwrap();
    let mut heir = resume().unwrap();
    for frame in 2..5 {
        assert_eq!(heir.peek().unwrap().unwrap().header().frame, frame);
        heir.release();
    }
    assert!(heir.peek().unwrap().is_none() && producer.ready());
    for value in [1, 8, 1 << 63, u64::MAX, u64::MAX - 15, 5 * 64 + 16] {
        Peer::of(&memory).poke(HEAD, value);
        assert!(resume().is_err(), "{value:#x}");
    }
    Peer::of(&memory).poke(HEAD, 16);
    assert!(resume().is_ok_and(|mut heir| heir.peek().is_err()), "no chunk begins there");
}

#[test]
fn ring_producer_refuses_impossible_positions() {
    for value in [1 << 20, u64::MAX, 1 << 63] {
        let (peer, mut producer, _consumer) = ring();
        peer.poke(HEAD, value);
        while producer.check().is_ok() {
            let Some(mut frame) = producer.reserve() else { continue };
            let _ = frame.commit(ChunkHeader { flags: ChunkFlags::LAST, ..Default::default() }, &[0; 20_000]);
        }
        assert!(producer.reserve().is_none());
    }
}

/// A frame of two chunks, as the producer makes it, with one word of the second header changed.
fn with_second_header(change: impl Fn(&Peer, u64)) -> Result<(), ipc::shm::Violation> {
    let (peer, mut producer, mut consumer) = ring();
    let mut frame = producer.reserve().unwrap();
    frame.commit(ChunkHeader::default(), &[7; 100]).unwrap();
    frame.commit(ChunkHeader { flags: ChunkFlags::LAST, ..Default::default() }, &[8; 100]).unwrap();
    drop(frame);
    assert_eq!(consumer.peek().unwrap().unwrap().header().flags, ChunkFlags::FIRST);
    consumer.release();
    change(&peer, CONTROL_BYTES as u64 + 160);
    consumer.peek().map(|chunk| assert!(chunk.is_some()))
}

#[test]
fn ring_consumer_refuses_impossible_headers() {
    const SHAPE: u64 = 8;
    let shape = |flags: u32, len: u32| u64::from(flags) | u64::from(len) << 32;
    assert_eq!(with_second_header(|peer, header| peer.poke(header + SHAPE, shape(2, 100))), Ok(()));
    for (flags, len) in [(2, 113), (2, 65_536), (2, 19_901), (2, u32::MAX), (3, 100), (32, 100), (1 << 31, 100)] {
        let seen = with_second_header(|peer, header| peer.poke(header + SHAPE, shape(flags, len)));
        assert!(seen.is_err(), "flags {flags:#x}, len {len}");
    }
}

#[test]
fn ring_holds_frames_to_their_credit() {
    let (_peer, mut producer, mut consumer) = ring();
    let mut frame = producer.reserve().unwrap();
    assert_eq!(frame.commit(ChunkHeader::default(), &[0; 20_001]), Err(TooLarge));
    for _ in 0..3 {
        frame.commit(ChunkHeader::default(), &[1; 10]).unwrap();
    }
    assert_eq!(frame.commit(ChunkHeader::default(), &[1]), Err(TooLarge), "a fourth chunk");
    let abort = ChunkHeader { flags: ChunkFlags::ABORTED, ..Default::default() };
    frame.commit(abort, &[]).expect("there is always room to abort");
    assert_eq!(frame.commit(abort, &[]), Err(TooLarge), "the frame has ended");
    drop(frame);
    let mut flags = Vec::new();
    while let Some(chunk) = consumer.peek().unwrap() {
        flags.push(chunk.header().flags);
        consumer.release();
    }
    assert_eq!(flags, [ChunkFlags::FIRST, ChunkFlags::NONE, ChunkFlags::NONE, ChunkFlags::ABORTED]);
}

#[test]
fn an_unfinished_frame_is_aborted() {
    let (_peer, mut producer, mut consumer) = ring();
    drop(producer.reserve().unwrap());
    assert!(consumer.peek().unwrap().is_none(), "nothing was begun");
    let header = ChunkHeader { generation: 4, frame: 9, flags: ChunkFlags::IDR, ..Default::default() };
    producer.reserve().unwrap().commit(header, b"slice").unwrap();
    consumer.release();
    assert!(consumer.peek().unwrap().unwrap().header().flags.contains(ChunkFlags::FIRST | ChunkFlags::IDR));
    consumer.release();
    let end = *consumer.peek().unwrap().unwrap().header();
    assert_eq!((end.generation, end.frame, end.flags, end.len), (4, 9, ChunkFlags::ABORTED, 0));
}

#[test]
fn credit_runs_out_and_comes_back() {
    let (_peer, mut producer, mut consumer) = ring();
    let last = ChunkHeader { flags: ChunkFlags::LAST, ..Default::default() };
    let mut frames = 0;
    while let Some(mut frame) = producer.reserve() {
        frame.commit(last, &[frames; 20_000]).unwrap();
        frames += 1;
    }
    assert_eq!(frames, 3);
    assert!(!producer.credit().drain());
    let mut small = Vec::with_capacity(100);
    let mut out = Vec::with_capacity(20_000);
    for expected in 0..frames {
        let chunk = consumer.peek().unwrap().unwrap();
        assert_eq!(chunk.read(&mut small), Err(TooLarge));
        out.clear();
        chunk.read(&mut out).unwrap();
        assert!(out.len() == 20_000 && out.iter().all(|byte| *byte == expected));
        consumer.release();
        assert_eq!(producer.credit().drain(), expected == 0, "one wake-up, by the release that freed enough");
    }
    assert!(producer.reserve().is_some());
}

#[test]
fn memory_of_another_size_or_unsealed_is_refused() {
    let good = sealed_memfd("good", 8192).unwrap();
    assert_eq!(Mapping::read_only(good.as_fd(), 8192).unwrap().len(), 8192);
    assert_eq!(Mapping::read_only(good.as_fd(), 4097).unwrap().as_slice().len(), 4097);
    assert!(Mapping::read_only(good.as_fd(), 8192).unwrap().as_mut_slice().is_none());
    for len in [0, 4096, 8193, usize::MAX] {
        let refused = Mapping::read_write(good.as_fd(), len);
        assert!(matches!(refused, Err(ShmError::Size { .. } | ShmError::Geometry(_))), "{len}");
    }
    assert!(File::from(good).set_len(0).is_err(), "sealed");
    let name = c"plain";
    let plain = nix::sys::memfd::memfd_create(name, nix::sys::memfd::MFdFlags::MFD_ALLOW_SEALING).unwrap();
    File::from(plain.try_clone().unwrap()).set_len(8192).unwrap();
    assert!(matches!(Mapping::read_only(plain.as_fd(), 8192), Err(ShmError::NotSealed)));
    let event = Event::new().unwrap();
    assert!(matches!(Mapping::read_only(event.as_fd(), 8192), Err(ShmError::NotSealed)));
    let memory = sealed_memfd("mailbox", Mailbox::memory_size()).unwrap();
    for buffers in [0, 1, 33, u32::MAX] {
        let refused = MailboxReader::attach(memory.as_fd(), Event::new().unwrap(), buffers);
        assert!(matches!(refused, Err(ShmError::Geometry(_))), "{buffers}");
    }
}

/// A generator of the attacker's and the victim's moves; the seed makes a failure repeatable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn value(&mut self) -> u64 {
        match self.roll() % 4 {
            0 => NASTY[(self.roll() % NASTY.len() as u64) as usize],
            1 => self.roll() % 200_000,
            2 => self.roll() % 200 * 16,
            _ => self.roll(),
        }
    }
}

#[test]
fn scribbling_over_a_live_ring_breaks_nothing_else() {
    let mut dice = Dice(0x5eed);
    let mut violations = 0;
    // On a busy machine the two threads may hardly meet: then there are more rounds.
    for round in 0..100 * 200 {
        if round >= 200 && violations > 0 {
            break;
        }
        let (peer, mut producer, mut consumer) = ring();
        let (stop, met) = (AtomicBool::new(false), Barrier::new(2));
        thread::scope(|scope| {
            let seed = dice.roll();
            let (stop, met) = (&stop, &met);
            scope.spawn(move || {
                let mut dice = Dice(seed);
                met.wait();
                while !stop.load(Ordering::Relaxed) {
                    let offset = match dice.roll() % 8 {
                        0 => [TAIL, 128, HEAD][(dice.roll() % 3) as usize],
                        _ => CONTROL_BYTES as u64 + dice.roll() % (65_536 / 8) * 8,
                    };
                    let value = dice.value();
                    peer.poke(offset, value);
                }
            });
            met.wait();
            let mut out = Vec::with_capacity(GEOMETRY.frame_bytes as usize);
            for _ in 0..200 {
                if let Some(mut frame) = producer.reserve() {
                    let payload = vec![3; (dice.roll() % 20_000) as usize];
                    let _ = frame.commit(ChunkHeader { flags: ChunkFlags::LAST, ..Default::default() }, &payload);
                }
                match consumer.peek() {
                    Ok(Some(chunk)) => {
                        out.clear();
                        chunk.read(&mut out).expect("no chunk is longer than a frame");
                        assert_eq!(out.len(), chunk.header().len as usize);
                        consumer.release();
                    }
                    Ok(None) => {}
                    Err(_) => {
                        violations += 1;
                        break;
                    }
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
    assert!(violations > 0, "the scribbler never hit anything");
}

#[test]
fn scribbling_over_a_live_mailbox_breaks_nothing_else() {
    let mut dice = Dice(0xbad5eed);
    let mut violations = 0;
    for _ in 0..5000 {
        let (peer, mut writer, mut reader) = mailbox();
        for sequence in 1..100 {
            let word = dice.roll() % (Mailbox::memory_size() as u64 / 8);
            let offset = [LATEST, RETURNED, META, word * 8][(dice.roll() % 4) as usize];
            let value = dice.value();
            let poke = || peer.poke(offset, value);
            let order = dice.roll() % 3;
            if order == 0 {
                poke();
            }
            let Ok(index) = writer.acquire() else { break };
            if order == 1 {
                poke();
            }
            if let Some(index) = index {
                assert!(index < 4);
                writer.publish(index, meta(sequence));
            }
            if order == 2 {
                poke();
            }
            match reader.take() {
                Ok(Some((index, _))) => {
                    assert!(index < 4);
                    reader.release(index);
                }
                Ok(None) => {}
                Err(_) => {
                    violations += 1;
                    break;
                }
            }
        }
    }
    assert!(violations > 0, "the scribbler never hit anything");
}
