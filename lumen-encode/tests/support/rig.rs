//! The world around an encode plane: lumend's end of its link, capture's end of its pool, net's ends of its rings.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use ipc::event::{Event, now_ns};
use ipc::feedback::Feedback;
use ipc::link::Link;
use ipc::mailbox::{FrameMeta, Mailbox, MailboxWriter};
use ipc::plane::{Exit, PlaneError};
use ipc::ring::{ChunkFlags, ChunkHeader, Ring, RingConsumer, RingProducer};
use ipc::shm::{Mapping, sealed_memfd};
use ipc::{
    Backend, Colour, EncodeSettings, EncodeStats, EncodeWiring, FromEncode, Generation, Matrix, Pool, RingFds,
    RingGeometry, SessionId, ToEncode,
};
use lumen_core::Mode;

use crate::support::format;

/// Long enough for a busy machine, short enough for a person: only a test that fails waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

const BUFFERS: u32 = 4;

/// A plane served by a thread of the test.
pub struct Threaded {
    pub link: Link,
    thread: JoinHandle<Result<Exit, PlaneError>>,
}

impl Threaded {
    pub fn start() -> Self {
        let (link, theirs) = Link::pair().unwrap();
        Self { link, thread: std::thread::spawn(move || lumen_encode::encode::serve(theirs)) }
    }

    /// How it ended, by itself.
    pub fn outcome(self) -> Result<Exit, PlaneError> {
        self.thread.join().unwrap()
    }

    /// Closes the link, which is the order to stop.
    pub fn stop(self) {
        drop(self.link);
        assert!(matches!(self.thread.join().unwrap(), Ok(Exit::Stopped)));
    }
}

/// The real program, as lumend starts it: its link is fd 3.
pub fn spawn() -> (Link, Child) {
    let (link, theirs) = Link::pair().unwrap();
    let script = "exec \"$0\" 3<&0 </dev/null";
    let child = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_lumen-encode")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::from(theirs.into_fd()))
        .spawn()
        .unwrap();
    (link, child)
}

/// The next message from the plane. Panics when none comes.
pub fn answer(link: &Link) -> FromEncode {
    loop {
        assert!(link.wait_readable(PATIENCE).unwrap(), "the plane says nothing");
        if let Some(received) = link.recv::<FromEncode>().unwrap() {
            return received.message;
        }
    }
}

/// The next statistics, whatever else the plane says before.
pub fn stats(link: &Link) -> EncodeStats {
    loop {
        if let FromEncode::Stats { stats, .. } = answer(link) {
            return stats;
        }
    }
}

/// What a wiring looks like from the other side.
pub struct Rig {
    pub mailbox: MailboxWriter,
    pub pool: Vec<Mapping>,
    pub video: RingConsumer,
    pub feedback: RingProducer,
    pub generation: u32,
    sequence: u64,
}

/// One access unit out of the video ring.
pub struct Frame {
    /// Of its first chunk.
    pub header: ChunkHeader,
    pub bytes: Vec<u8>,
    pub chunks: usize,
    pub aborted: bool,
}

impl Frame {
    pub fn is(&self, flag: ChunkFlags) -> bool {
        self.header.flags.contains(flag)
    }
}

pub fn settings(backend: Backend, bitrate_kbps: u32) -> EncodeSettings {
    EncodeSettings { backend, bitrate_kbps, colour: Colour { matrix: Matrix::Bt709, full_range: false } }
}

fn ring(name: &str, geometry: RingGeometry) -> (RingFds<OwnedFd>, RingFds<OwnedFd>) {
    let memory = sealed_memfd(name, Ring::memory_size(&geometry)).unwrap();
    let (data, credit) = (Event::new().unwrap(), Event::new().unwrap());
    let end = || RingFds {
        memory: memory.try_clone().unwrap(),
        data: data.try_clone().unwrap().into_fd(),
        credit: credit.try_clone().unwrap().into_fd(),
        geometry,
    };
    (end(), end())
}

impl Rig {
    /// Makes all that a wiring needs, as lumend does, and keeps the ends of capture and net.
    pub fn new(mode: Mode, settings: EncodeSettings, video: RingGeometry) -> (Self, EncodeWiring<OwnedFd>) {
        let format = format(mode);
        let buffers: Vec<OwnedFd> = (0..BUFFERS).map(|_| sealed_memfd("pool", format.size()).unwrap()).collect();
        let pool = buffers.iter().map(|fd| Mapping::read_write(fd.as_fd(), format.size()).unwrap()).collect();
        let memory = sealed_memfd("mailbox", Mailbox::memory_size()).unwrap();
        let wake = Event::new().unwrap();
        let mailbox = MailboxWriter::attach(memory.as_fd(), wake.try_clone().unwrap(), BUFFERS).unwrap();
        let (video, theirs) = ring("video", video);
        let RingFds { memory: bytes, data, credit, geometry } = video;
        let video =
            RingConsumer::attach(bytes.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry).unwrap();
        let (feedback, feedback_theirs) = ring("feedback", RingGeometry::FEEDBACK);
        let RingFds { memory: bytes, data, credit, geometry } = feedback;
        let feedback =
            RingProducer::attach(bytes.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry).unwrap();
        let wiring = EncodeWiring {
            session: SessionId(1),
            generation: Generation(1),
            mode,
            settings,
            pool: Pool { format, buffers, mailbox: memory, wake: wake.into_fd() },
            video: theirs,
            feedback: feedback_theirs,
        };
        (Self { mailbox, pool, video, feedback, generation: 1, sequence: 0 }, wiring)
    }

    /// Makes a wiring, sends it and waits until the plane runs it.
    pub fn wired(link: &Link, mode: Mode, settings: EncodeSettings, video: RingGeometry) -> Self {
        let (rig, wiring) = Self::new(mode, settings, video);
        link.send(ToEncode::Wire(wiring)).unwrap();
        match answer(link) {
            FromEncode::Wired { generation: Generation(1), encoder } => assert!(!encoder.is_empty()),
            other => panic!("not wired: {other:?}"),
        }
        rig
    }

    /// Publishes a picture as capture does.
    pub fn publish(&mut self, draw: impl FnOnce(&mut [u8])) {
        let index = self.mailbox.acquire().unwrap().expect("a pool of four never runs out");
        draw(self.pool[index as usize].as_mut_slice().unwrap());
        self.mailbox.publish(index, FrameMeta { sequence: self.sequence, captured_ns: now_ns() });
        self.sequence += 1;
    }

    pub fn tell(&mut self, payload: &[u8]) {
        let header = ChunkHeader { flags: ChunkFlags::LAST, ..ChunkHeader::default() };
        self.feedback.reserve().unwrap().commit(header, payload).unwrap();
    }

    pub fn wish(&mut self, feedback: Feedback) {
        self.tell(&feedback.encode());
    }

    /// The next access unit, aborted or whole. Panics when none comes.
    pub fn frame(&mut self) -> Frame {
        let mut frame: Option<Frame> = None;
        loop {
            let Some(chunk) = self.video.peek().unwrap() else {
                assert!(self.video.data().wait(Some(PATIENCE)).unwrap(), "no frame comes");
                self.video.data().drain();
                continue;
            };
            let header = *chunk.header();
            assert_eq!(header.generation, self.generation);
            assert!(header.captured_ns <= header.taken_ns && header.taken_ns <= header.converted_ns);
            assert!(header.converted_ns <= header.sliced_ns && header.sliced_ns <= now_ns());
            let frame = frame.get_or_insert(Frame { header, bytes: Vec::new(), chunks: 0, aborted: false });
            assert_eq!(frame.header.frame, header.frame);
            frame.bytes.reserve(header.len as usize);
            chunk.read(&mut frame.bytes).unwrap();
            frame.chunks += 1;
            frame.aborted = header.flags.contains(ChunkFlags::ABORTED);
            self.video.release();
            if header.flags.ends_frame() {
                return std::mem::replace(frame, Frame { header, bytes: Vec::new(), chunks: 0, aborted: false });
            }
        }
    }

    /// True if nothing waits in the video ring.
    pub fn is_drained(&mut self) -> bool {
        self.video.peek().unwrap().is_none()
    }
}
