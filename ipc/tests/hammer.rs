//! Millions of hand-overs between two real processes, through memory and wake-ups that crossed a real link.
//!
//! The test runs itself again as the reading process, whose standard input is the link. Each side waits on eventfds
//! alone, so a lost wake-up shows as a wait that runs into [`PATIENCE`]; a torn or stale frame shows in its contents.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use ipc::event::{Event, now_ns};
use ipc::feedback::Feedback;
use ipc::link::Link;
use ipc::mailbox::{FrameMeta, Mailbox, MailboxReader, MailboxWriter};
use ipc::ring::{ChunkFlags, ChunkHeader, Ring, RingConsumer, RingProducer};
use ipc::shm::{Mapping, sealed_memfd};
use ipc::*;
use lumen_core::Mode;

const BUFFERS: usize = 4;
const MAILBOX_FRAMES: u64 = 2_000_000;
const RING_FRAMES: u32 = 1_000_000;
/// Small, so that the ring is full and empty many thousands of times.
const VIDEO: RingGeometry = RingGeometry { capacity: 65_536, frame_bytes: 12_000, frame_chunks: 4 };
const FORMAT: FrameFormat = FrameFormat { pixels: PixelFormat::Bgrx, width: 16, height: 16, stride: 64 };
/// Far beyond any scheduling delay: only a wake-up that never comes takes this long.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|argument| argument == "--child") {
        read_all();
        return ExitCode::SUCCESS;
    }
    // Named test filters of `cargo test` come here too.
    let mut filters = arguments.filter(|argument| !argument.starts_with('-')).peekable();
    if filters.peek().is_none() || filters.any(|filter| "hammer".contains(&filter)) {
        write_all();
    }
    ExitCode::SUCCESS
}

/// Small unpredictable numbers, so that the two sides meet in every phase of each other.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn dawdle(&mut self) {
        for _ in 0..self.roll(300) {
            std::hint::spin_loop();
        }
    }
}

fn wait(event: &Event, what: &str) {
    assert!(event.wait(Some(PATIENCE)).unwrap(), "lost wake-up: {what}");
    event.drain();
}

/// A descriptor twice: one to send, one to keep.
fn twice(fd: io::Result<OwnedFd>) -> (OwnedFd, OwnedFd) {
    let fd = fd.unwrap();
    (fd.try_clone().unwrap(), fd)
}

fn ring_fds(geometry: RingGeometry) -> (RingFds<OwnedFd>, RingFds<OwnedFd>) {
    let memory = twice(sealed_memfd("ring", Ring::memory_size(&geometry)));
    let data = twice(Event::new().map(Event::into_fd));
    let credit = twice(Event::new().map(Event::into_fd));
    let fds = |memory, data, credit| RingFds { memory, data, credit, geometry };
    (fds(memory.0, data.0, credit.0), fds(memory.1, data.1, credit.1))
}

fn consumer(ring: RingFds<OwnedFd>) -> RingConsumer {
    let (data, credit) = (Event::from_fd(ring.data), Event::from_fd(ring.credit));
    RingConsumer::attach(ring.memory.as_fd(), data, credit, ring.geometry).unwrap()
}

fn producer(ring: RingFds<OwnedFd>) -> RingProducer {
    let (data, credit) = (Event::from_fd(ring.data), Event::from_fd(ring.credit));
    RingProducer::attach(ring.memory.as_fd(), data, credit, ring.geometry).unwrap()
}

/// The parent: capture's end of the mailbox, encode's end of the video ring, and the listener for acknowledgements.
fn write_all() {
    let (link, theirs) = Link::pair().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--child")
        .stdin(Stdio::from(theirs.into_fd()))
        .spawn()
        .unwrap();
    let (their_buffers, buffers): (Vec<_>, Vec<_>) =
        (0..BUFFERS).map(|_| twice(sealed_memfd("frame", FORMAT.size()))).unzip();
    let (their_mailbox, mailbox) = twice(sealed_memfd("mailbox", Mailbox::memory_size()));
    let (their_wake, wake) = twice(Event::new().map(Event::into_fd));
    let (their_video, video) = ring_fds(VIDEO);
    let (their_feedback, feedback) = ring_fds(RingGeometry::FEEDBACK);
    let wiring = EncodeWiring {
        session: SessionId(1),
        generation: Generation(1),
        mode: Mode::new(128, 96, 60_000).unwrap(),
        settings: EncodeSettings {
            backend: Backend::Auto,
            bitrate_kbps: 1,
            colour: Colour { matrix: Matrix::Bt709, full_range: false },
        },
        pool: Pool { format: FORMAT, buffers: their_buffers, mailbox: their_mailbox, wake: their_wake },
        video: their_video,
        feedback: their_feedback,
    };
    link.send(ToEncode::Wire(wiring)).unwrap();
    let mut acks = consumer(feedback);
    let mut frames = MailboxWriter::attach(mailbox.as_fd(), Event::from_fd(wake), BUFFERS as u32).unwrap();
    let mut pictures: Vec<_> =
        buffers.iter().map(|fd| Mapping::read_write(fd.as_fd(), FORMAT.size()).unwrap()).collect();

    let began = now_ns();
    let waits = write_frames(&mut frames, &mut pictures, &mut acks);
    let taken = frames.published() - frames.skipped();
    println!("mailbox: {MAILBOX_FRAMES} published, {taken} taken, {waits} awaited, {} ms", millis_since(began));
    assert!(taken >= waits, "every awaited frame was taken");

    let began = now_ns();
    let (chunks, waits) = write_chunks(&mut producer(video));
    println!("ring: {RING_FRAMES} frames, {chunks} chunks, {waits} waits for credit, {} ms", millis_since(began));
    await_ack(&mut acks, RING_FRAMES);
    drop(link);
    assert!(child.wait().unwrap().success(), "the reading process failed");
}

fn millis_since(began_ns: u64) -> u64 {
    (now_ns() - began_ns) / 1_000_000
}

/// Publishes every frame; every so often waits until the reader has acknowledged one, so that the mailbox also runs
/// empty. The last frame is always awaited.
fn write_frames(frames: &mut MailboxWriter, pictures: &mut [Mapping], acks: &mut RingConsumer) -> u64 {
    let mut dice = Dice(1);
    let mut waits = 0;
    for sequence in 1..=MAILBOX_FRAMES {
        let index = frames.acquire().unwrap().expect("four buffers never run out");
        let picture = pictures[index as usize].as_mut_slice().unwrap();
        for word in picture.chunks_exact_mut(8) {
            word.copy_from_slice(&sequence.to_ne_bytes());
        }
        frames.publish(index, FrameMeta { sequence, captured_ns: sequence ^ 0xabcd });
        if dice.roll(32) == 0 || sequence == MAILBOX_FRAMES {
            await_ack(acks, sequence as u32);
            waits += 1;
        }
        if dice.roll(4) == 0 {
            dice.dawdle();
        }
    }
    waits
}

/// Waits until the reader has acknowledged `number`; everything it acknowledged before must be smaller, and in order.
fn await_ack(acks: &mut RingConsumer, number: u32) {
    let mut newest = 0;
    loop {
        while let Some(chunk) = acks.peek().unwrap() {
            let mut payload = Vec::with_capacity(8);
            chunk.read(&mut payload).unwrap();
            acks.release();
            let Some(Feedback::BitrateKbps(ack)) = Feedback::decode(&payload) else { panic!("torn: {payload:?}") };
            assert!(ack > newest && ack <= number, "acknowledged {ack} after {newest}, awaiting {number}");
            newest = ack;
        }
        if newest == number {
            return;
        }
        wait(acks.data(), "acknowledgement");
    }
}

/// The payload of a chunk: bytes that follow from frame, chunk and place.
fn pattern(frame: u32, chunk: u32, len: usize) -> impl Iterator<Item = u8> {
    let start = frame.wrapping_mul(31).wrapping_add(chunk * 7) as u8;
    (0..len).map(move |place| start.wrapping_add(place as u8))
}

/// Chunks of a frame, and the length of each: now and then large enough to fill the ring.
fn shape(frame: u32) -> impl Iterator<Item = (u32, usize)> {
    let mut dice = Dice(u64::from(frame) + 1);
    let chunks = 1 + (dice.roll(97) % u64::from(VIDEO.frame_chunks)) as u32;
    let most = if frame % 64 < 4 { VIDEO.frame_bytes / VIDEO.frame_chunks } else { 60 };
    (0..chunks).map(move |chunk| (chunk, dice.roll(u64::from(most) + 1) as usize))
}

fn write_chunks(ring: &mut RingProducer) -> (u64, u64) {
    let mut dice = Dice(2);
    let (mut written, mut waits) = (0, 0);
    let mut payload = Vec::new();
    for frame in 0..RING_FRAMES {
        while !ring.ready() {
            ring.check().unwrap();
            wait(ring.credit(), "credit");
            waits += 1;
        }
        let mut writer = ring.reserve().expect("credit does not vanish");
        let mut chunks = shape(frame).peekable();
        while let Some((chunk, len)) = chunks.next() {
            payload.clear();
            payload.extend(pattern(frame, chunk, len));
            let flags = if chunks.peek().is_none() { ChunkFlags::LAST } else { ChunkFlags::NONE };
            let header =
                ChunkHeader { generation: 1, frame, flags, captured_ns: u64::from(chunk), ..Default::default() };
            writer.commit(header, &payload).unwrap();
            written += 1;
        }
        if dice.roll(64) == 0 {
            dice.dawdle();
        }
    }
    (written, waits)
}

/// The child: encode's end of the mailbox, net's end of the video ring.
fn read_all() {
    let link = Link::from_fd(io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
    assert!(link.wait_readable(PATIENCE).unwrap());
    let wired = link.recv::<ToEncode<OwnedFd>>().unwrap().unwrap();
    assert_eq!(wired.sender.pid, std::os::unix::process::parent_id() as i32);
    let ToEncode::Wire(wiring) = wired.message else { panic!("not wired") };
    let mut acks = producer(wiring.feedback);
    read_frames(wiring.pool, &mut acks);
    read_chunks(&mut consumer(wiring.video));
    acknowledge(&mut acks, RING_FRAMES);
    assert!(link.wait_readable(PATIENCE).unwrap(), "the parent closes the link at the end");
}

fn acknowledge(acks: &mut RingProducer, number: u32) {
    let header = ChunkHeader { flags: ChunkFlags::LAST, ..Default::default() };
    loop {
        if let Some(mut frame) = acks.reserve() {
            return frame.commit(header, &Feedback::BitrateKbps(number).encode()).unwrap();
        }
        acks.check().unwrap();
        wait(acks.credit(), "credit for an acknowledgement");
    }
}

fn read_frames(pool: Pool<OwnedFd>, acks: &mut RingProducer) {
    let pictures: Vec<_> =
        pool.buffers.iter().map(|fd| Mapping::read_only(fd.as_fd(), FORMAT.size()).unwrap()).collect();
    let mut frames = MailboxReader::attach(pool.mailbox.as_fd(), Event::from_fd(pool.wake), BUFFERS as u32).unwrap();
    let mut dice = Dice(3);
    let mut newest = 0;
    while newest < MAILBOX_FRAMES {
        let Some((index, meta)) = frames.take().unwrap() else {
            wait(frames.wake(), "frame");
            continue;
        };
        assert!(meta.sequence > newest && meta.captured_ns == meta.sequence ^ 0xabcd, "{meta:?} after {newest}");
        newest = meta.sequence;
        let picture = pictures[index as usize].as_slice();
        for _ in 0..2 {
            let whole = picture.chunks_exact(8).all(|word| word == newest.to_ne_bytes());
            assert!(whole, "frame {newest} is torn or was drawn over while it was read");
            dice.dawdle();
        }
        frames.release(index);
        acknowledge(acks, newest as u32);
    }
}

fn read_chunks(ring: &mut RingConsumer) {
    let mut dice = Dice(4);
    let mut payload = Vec::with_capacity(VIDEO.frame_bytes as usize);
    for frame in 0..RING_FRAMES {
        for (chunk, len) in shape(frame) {
            let header = loop {
                if let Some(peeked) = ring.peek().unwrap() {
                    payload.clear();
                    peeked.read(&mut payload).unwrap();
                    break *peeked.header();
                }
                wait(ring.data(), "chunk");
            };
            ring.release();
            assert_eq!((header.frame, header.captured_ns, payload.len()), (frame, u64::from(chunk), len));
            assert!(payload.iter().copied().eq(pattern(frame, chunk, len)), "chunk {chunk} of frame {frame} is torn");
        }
        if dice.roll(256) == 0 {
            dice.dawdle();
        }
    }
    assert!(ring.peek().unwrap().is_none());
}
