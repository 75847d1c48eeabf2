//! Shared memory of which the plane at the other end is in bad hands: it writes what it likes, wherever it can write, at
//! any moment between two calls of this side.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use ipc::RingGeometry;
use ipc::event::Event;
use ipc::mailbox::{FrameMeta, MAX_BUFFERS, Mailbox, MailboxReader, MailboxWriter};
use ipc::ring::{CONTROL_BYTES, ChunkFlags, ChunkHeader, Ring, RingConsumer, RingProducer};
use ipc::shm::{Mapping, sealed_memfd};

use crate::script::Script;

/// One that is small, so that scripts come around its end.
const TWO_FRAMES: RingGeometry = RingGeometry { capacity: 64 * 1024, frame_bytes: 30_000, frame_chunks: 4 };
const RINGS: [RingGeometry; 5] =
    [TWO_FRAMES, RingGeometry::FEEDBACK, RingGeometry::AUDIO, RingGeometry::INPUT, RingGeometry::HAPTICS];

/// Where the ring has its positions: of the producer, of a producer that waits, of the consumer.
const POSITIONS: [usize; 3] = [0, 128, 256];
/// Where the mailbox has the newest frame, what was returned, and what travels with the pictures.
const LATEST: usize = 0;
const RETURNED: usize = 128;
const META: usize = 256;
const META_BYTES: usize = 16;

/// The other side's view of the memory.
struct Peer(Mapping);

impl Peer {
    fn get(&self, at: usize) -> u64 {
        let word = self.0.as_slice().get(at..at + 8).and_then(|word| word.try_into().ok());
        word.map_or(0, u64::from_le_bytes)
    }

    fn set(&mut self, at: usize, value: u64) {
        self.write(at, &value.to_le_bytes());
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.0.as_mut_slice().and_then(|all| all.get_mut(at..at + bytes.len())) {
            place.copy_from_slice(bytes);
        }
    }
}

/// Fresh memory, and the other side's view of it.
fn memory(bytes: usize) -> (std::os::fd::OwnedFd, Peer) {
    let memory = sealed_memfd("fuzz", bytes).expect("there is memory");
    let peer = Mapping::read_write(memory.as_fd(), bytes).expect("it can be mapped");
    (memory, Peer(peer))
}

fn event() -> Event {
    Event::new().expect("there are descriptors")
}

/// Bytes of a chunk's header in the ring.
const HEADER: usize = 48;

/// The consumer's end: of each frame it hands on no more than the credit, from its first chunk to its last.
pub fn ring_reader(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let geometry = RINGS[usize::from(script.u8()) % RINGS.len()];
    let capacity = geometry.capacity as usize;
    let (memory, mut peer) = memory(Ring::memory_size(&geometry));
    let ring = RingConsumer::attach(memory.as_fd(), event(), event(), geometry);
    let mut ring = ring.expect("a ring of this geometry");
    // Where an honest producer would go on.
    let mut tail = 0;
    let mut payload = Vec::with_capacity(geometry.frame_bytes as usize);
    // Chunks and bytes of the frame under way.
    let mut frame = None;
    while let Some(step) = script.step() {
        match step % 8 {
            0 => {
                let at = POSITIONS[usize::from(script.u8()) % POSITIONS.len()];
                let value = script.near(peer.get(at));
                peer.set(at, value);
            }
            1 => {
                let at = usize::from(script.u16()) * 8 % capacity;
                let word = script.u64();
                peer.set(CONTROL_BYTES + at, word);
            }
            2 | 3 => {
                // A chunk as it should be, or nearly.
                let (flags, length) = (u32::from(script.u8()), u32::from(script.u16()) & 0x7FFF);
                let at = CONTROL_BYTES + tail as usize % capacity;
                peer.set(at, u64::from(script.u16()));
                peer.set(at + 8, u64::from(flags) | u64::from(length) << 32);
                tail += (HEADER as u64 + u64::from(length)).next_multiple_of(16);
                peer.set(POSITIONS[0], tail);
            }
            4..=6 => {
                let Ok(Some(chunk)) = ring.peek() else { continue };
                let header = *chunk.header();
                assert!(header.len <= geometry.frame_bytes);
                // What the other side changes after the first look does not matter.
                if step & 0x80 != 0 {
                    peer.write(CONTROL_BYTES + usize::from(script.u16()) % capacity, &[step; HEADER]);
                }
                payload.clear();
                assert!(chunk.read(&mut payload).is_ok() && payload.len() == header.len as usize);
                assert!(chunk.read(&mut Vec::new()).is_ok() == (header.len == 0));
                match ring.peek() {
                    Ok(Some(again)) => assert_eq!(*again.header(), header),
                    other => panic!("a chunk that was seen is gone: {other:?}"),
                }
                if step % 8 < 6 {
                    frame = Some(of_frame(frame, &header, &geometry)).filter(|_| !header.flags.ends_frame());
                    ring.release();
                }
            }
            _ => ring.release(),
        }
        // A release that peeked at nothing new ends no frame; one that did is told apart by the next first chunk.
        if step % 8 == 7 {
            frame = None;
        }
    }
}

/// The chunks and bytes of a frame, with one chunk more.
fn of_frame(frame: Option<(u32, u32)>, header: &ChunkHeader, geometry: &RingGeometry) -> (u32, u32) {
    let first = header.flags.contains(ChunkFlags::FIRST);
    let (chunks, bytes) = frame.filter(|_| !first).unwrap_or((0, 0));
    let (chunks, bytes) = (chunks + 1, bytes + header.len);
    assert!(chunks <= geometry.frame_chunks + 1 && bytes <= geometry.frame_bytes);
    (chunks, bytes)
}

/// The producer's end: it takes no credit that nobody can have given, and a violation is for good.
pub fn ring_writer(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let geometry = RINGS[usize::from(script.u8()) % RINGS.len()];
    let (memory, mut peer) = memory(Ring::memory_size(&geometry));
    let ring = RingProducer::attach(memory.as_fd(), event(), event(), geometry);
    let mut ring = ring.expect("a ring of this geometry");
    let payload = vec![0xA5; geometry.frame_bytes as usize + 1];
    let mut broken = false;
    // Bytes committed, and the furthest that a consumer can have been.
    let (mut tail, mut head) = (0, 0);
    let seen = |peer: &Peer, tail| Some(peer.get(POSITIONS[2])).filter(|head| *head <= tail).unwrap_or(0);
    while let Some(step) = script.step() {
        match step % 4 {
            0 => {
                let at = POSITIONS[usize::from(script.u8()) % POSITIONS.len()];
                let value = script.near(peer.get(at));
                peer.set(at, value);
            }
            1 => peer.set(POSITIONS[2], tail),
            _ => {
                head = seen(&peer, tail).max(head);
                let ready = ring.ready();
                assert!(!(broken && ready), "goes on after a violation");
                let Some(mut writer) = ring.reserve() else { continue };
                let end = tail + u64::from(geometry.frame_bytes);
                assert!(end <= head + u64::from(geometry.capacity), "writes over what was not read");
                let mut open = false;
                for _ in 0..script.u8() % 8 {
                    let (flags, length) = (script.u8(), usize::from(script.u16()) % payload.len());
                    let left = writer.bytes_left() as usize;
                    let flags = ChunkFlags::from_bits(u32::from(flags) % 32).unwrap_or_default();
                    let header = ChunkHeader { flags, ..ChunkHeader::default() };
                    if writer.commit(header, &payload[..length]).is_ok() {
                        assert!(length <= left);
                        tail += ((HEADER + length) as u64).next_multiple_of(16);
                        assert_eq!(peer.get(POSITIONS[0]), tail);
                        open = !flags.ends_frame();
                    }
                    head = seen(&peer, tail).max(head);
                    if script.u8().is_multiple_of(4) {
                        let value = script.near(peer.get(POSITIONS[2]));
                        peer.set(POSITIONS[2], value);
                        head = seen(&peer, tail).max(head);
                    }
                }
                // What is dropped unfinished is aborted.
                drop(writer);
                tail += if open { HEADER as u64 } else { 0 };
            }
        }
        broken |= ring.check().is_err();
        assert_eq!(broken, ring.check().is_err());
    }
}

/// Encode's end: each buffer that it is handed exists, is not held yet, and has a newer frame.
pub fn mailbox_reader(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let buffers = 2 + u32::from(script.u8()) % (MAX_BUFFERS - 1);
    let (memory, mut peer) = memory(Mailbox::memory_size());
    let mut reader = MailboxReader::attach(memory.as_fd(), event(), buffers).expect("a mailbox");
    let (mut held, mut newest) = (BTreeSet::new(), None);
    while let Some(step) = script.step() {
        match step % 4 {
            0 => scribble(&mut script, &mut peer),
            1 => {
                // A frame as it should be, or nearly.
                let index = u64::from(script.u8()) % u64::from(buffers);
                let sequence = script.near(newest.unwrap_or(0));
                peer.set(META + index as usize * META_BYTES, sequence);
                peer.set(LATEST, index + 1);
            }
            2 => {
                let Ok(Some((index, meta))) = reader.take() else { continue };
                assert!(index < buffers && held.insert(index) && newest < Some(meta.sequence));
                newest = Some(meta.sequence);
                assert_eq!(peer.get(LATEST), 0);
            }
            _ => {
                let index = u32::from(script.u8()) % 40;
                let before = peer.get(RETURNED);
                reader.release(index);
                let returned = if held.remove(&index) { 1 << index } else { 0 };
                assert_eq!(peer.get(RETURNED), before | returned, "gives back what it does not hold");
            }
        }
    }
}

/// Capture's end: it never draws into a buffer that the reader may be reading, nor twice into one.
pub fn mailbox_writer(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let buffers = 2 + u32::from(script.u8()) % (MAX_BUFFERS - 1);
    let (memory, mut peer) = memory(Mailbox::memory_size());
    let mut writer = MailboxWriter::attach(memory.as_fd(), event(), buffers).expect("a mailbox");
    let (mut drawing, mut out, mut broken) = (BTreeSet::new(), BTreeSet::new(), false);
    while let Some(step) = script.step() {
        match step % 8 {
            0 => scribble(&mut script, &mut peer),
            1 => {
                // Taken as it should be, and given back.
                let taken = peer.get(LATEST);
                peer.set(LATEST, 0);
                let returned = peer.get(RETURNED) | 1u64.checked_shl(taken.wrapping_sub(1) as u32).unwrap_or(0);
                peer.set(RETURNED, returned);
            }
            2..=4 => match writer.acquire() {
                Ok(Some(index)) => {
                    assert!(!broken, "goes on after a violation");
                    assert!(index < buffers && drawing.insert(index), "is drawn into already");
                    out.remove(&index);
                }
                Ok(None) => assert!(!broken && drawing.len() + out.len() >= buffers as usize),
                Err(_) => {}
            },
            5 | 6 => {
                let index = u32::from(script.u8()) % 40;
                writer.publish(index, FrameMeta { sequence: 1, captured_ns: 2 });
                match drawing.remove(&index) {
                    true => drop(out.insert(index)),
                    false => broken = true,
                }
            }
            _ => {
                let index = u32::from(script.u8()) % 40;
                writer.cancel(index);
                drawing.remove(&index);
            }
        }
    }
    assert!(writer.skipped() <= writer.published());
}

fn scribble(script: &mut Script<'_>, peer: &mut Peer) {
    let places = [LATEST, RETURNED, META + usize::from(script.u8()) % 64 * 8];
    let at = places[usize::from(script.u8()) % places.len()];
    let value = match script.u8() {
        wild @ 0xF0.. => script.u64() << (wild % 64),
        small => small.into(),
    };
    peer.set(at, value);
}
