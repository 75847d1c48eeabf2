//! One-way hand-over between two processes, mailbox and ring beside the bare eventfd that each ends in.
//!
//! Every figure is half a round trip: this process hands over and waits until the other has handed back over the same
//! kind of channel. The other process is this program run again, with the link as its standard input. `…/uncontended`
//! is the protocol alone, both ends on one thread and nobody asleep.

use std::hint::black_box;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use ipc::event::Event;
use ipc::link::Link;
use ipc::mailbox::{FrameMeta, Mailbox, MailboxReader, MailboxWriter};
use ipc::ring::{ChunkFlags, ChunkHeader, Ring, RingConsumer, RingProducer};
use ipc::shm::sealed_memfd;
use ipc::*;

const BUFFERS: usize = 4;
const GEOMETRY: RingGeometry = RingGeometry { capacity: 1 << 20, frame_bytes: 100_000, frame_chunks: 16 };
/// A slice of a 720p frame at 10 Mbit/s.
const CHUNK: [u8; 5000] = [7; 5000];
const LAST: ChunkHeader = ChunkHeader {
    generation: 1,
    frame: 0,
    flags: ChunkFlags::LAST,
    len: 0,
    captured_ns: 0,
    taken_ns: 0,
    converted_ns: 0,
    sliced_ns: 0,
};

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--child") {
        return echo();
    }
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("handover");
    bench_between_processes(&mut group);
    bench_uncontended(&mut group);
    group.finish();
    criterion.final_summary();
}

/// Both directions of everything, as one side holds them.
struct Channels {
    wake: (Event, Event),
    frames: (MailboxWriter, MailboxReader),
    chunks: (RingProducer, RingConsumer),
}

/// One direction's descriptors; `ToEncode::Wire` happens to hold one mailbox and two rings.
struct Direction {
    mailbox: OwnedFd,
    wake: OwnedFd,
    ring: RingFds<OwnedFd>,
}

impl Direction {
    fn new() -> io::Result<Self> {
        let ring = RingFds {
            memory: sealed_memfd("ring", Ring::memory_size(&GEOMETRY))?,
            data: Event::new()?.into_fd(),
            credit: Event::new()?.into_fd(),
            geometry: GEOMETRY,
        };
        let mailbox = sealed_memfd("mailbox", Mailbox::memory_size())?;
        Ok(Self { mailbox, wake: Event::new()?.into_fd(), ring })
    }

    fn try_clone(&self) -> io::Result<Self> {
        let ring = RingFds {
            memory: self.ring.memory.try_clone()?,
            data: self.ring.data.try_clone()?,
            credit: self.ring.credit.try_clone()?,
            geometry: GEOMETRY,
        };
        Ok(Self { mailbox: self.mailbox.try_clone()?, wake: self.wake.try_clone()?, ring })
    }

    /// As one more message that only this program sends: a pool without buffers.
    fn send(self, link: &Link) {
        let format = FrameFormat { pixels: PixelFormat::Bgrx, width: 16, height: 16, stride: 64 };
        let pool = Pool { format, buffers: vec![], mailbox: self.mailbox, wake: self.wake };
        let mode = lumen_core::Mode::new(128, 96, 60_000).unwrap();
        let settings = EncodeSettings {
            backend: Backend::Auto,
            bitrate_kbps: 1,
            colour: Colour { matrix: Matrix::Bt709, full_range: false },
        };
        let spare = Direction::new().unwrap().ring;
        let (session, generation) = (SessionId(1), Generation(1));
        let wiring = EncodeWiring { session, generation, mode, settings, pool, video: self.ring, feedback: spare };
        link.send(ToEncode::Wire(wiring)).unwrap();
    }

    fn recv(link: &Link) -> Self {
        assert!(link.wait_readable(Duration::from_secs(10)).unwrap());
        let ToEncode::Wire(wiring) = link.recv::<ToEncode<OwnedFd>>().unwrap().unwrap().message else {
            panic!("not wired")
        };
        Self { mailbox: wiring.pool.mailbox, wake: wiring.pool.wake, ring: wiring.video }
    }
}

impl Channels {
    fn new(out: Direction, back: Direction) -> Self {
        let event = |fd: &OwnedFd| Event::from_fd(fd.try_clone().unwrap());
        let frames = (
            MailboxWriter::attach(out.mailbox.as_fd(), event(&out.wake), BUFFERS as u32).unwrap(),
            MailboxReader::attach(back.mailbox.as_fd(), event(&back.wake), BUFFERS as u32).unwrap(),
        );
        let ends = |ring: &RingFds<OwnedFd>| (event(&ring.data), event(&ring.credit));
        let ((data, credit), (data2, credit2)) = (ends(&out.ring), ends(&back.ring));
        let chunks = (
            RingProducer::attach(out.ring.memory.as_fd(), data, credit, GEOMETRY).unwrap(),
            RingConsumer::attach(back.ring.memory.as_fd(), data2, credit2, GEOMETRY).unwrap(),
        );
        Self { wake: (event(&out.ring.credit), event(&back.ring.credit)), frames, chunks }
    }

    fn send(&mut self, what: What, sequence: u64) {
        match what {
            What::Event => self.wake.0.signal(),
            What::Frame => {
                let index = self.frames.0.acquire().unwrap().unwrap();
                self.frames.0.publish(index, FrameMeta { sequence, captured_ns: 0 });
            }
            What::Chunk => self.chunks.0.reserve().unwrap().commit(LAST, &CHUNK).unwrap(),
        }
    }

    fn recv(&mut self, what: What, payload: &mut Vec<u8>) -> bool {
        match what {
            What::Event => self.wake.1.drain(),
            What::Frame => match self.frames.1.take().unwrap() {
                Some((index, _)) => {
                    self.frames.1.release(index);
                    true
                }
                None => false,
            },
            What::Chunk => match self.chunks.1.peek().unwrap() {
                Some(chunk) => {
                    payload.clear();
                    chunk.read(payload).unwrap();
                    self.chunks.1.release();
                    true
                }
                None => false,
            },
        }
    }

    /// Waits on the eventfd, as a plane does; false if the other side is gone.
    fn await_one(&mut self, what: What, payload: &mut Vec<u8>) -> bool {
        loop {
            let event = match what {
                What::Event => &self.wake.1,
                What::Frame => self.frames.1.wake(),
                What::Chunk => self.chunks.1.data(),
            };
            if !event.wait(Some(Duration::from_secs(5))).unwrap() {
                return false;
            }
            if !matches!(what, What::Event) {
                event.drain();
            }
            if self.recv(what, payload) {
                return true;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum What {
    Event = 0,
    Frame = 1,
    Chunk = 2,
}

const ALL: [(What, &str); 3] = [(What::Event, "eventfd"), (What::Frame, "mailbox"), (What::Chunk, "ring")];

/// The other process: hands everything back until the link closes. `Ping` says what comes next.
fn echo() {
    let link = Link::from_fd(io::stdin().as_fd().try_clone_to_owned().unwrap()).unwrap();
    let back = Direction::recv(&link);
    let out = Direction::recv(&link);
    let mut channels = Channels::new(out, back);
    let mut payload = Vec::with_capacity(CHUNK.len());
    let mut sequence = 0;
    while link.wait_readable(Duration::from_secs(60)).unwrap() {
        let Ok(Some(order)) = link.recv::<ToEncode<OwnedFd>>() else { return };
        let ToEncode::Ping(order) = order.message else { panic!("not an order") };
        let what = ALL[(order % 4) as usize].0;
        for _ in 0..order / 4 {
            assert!(channels.await_one(what, &mut payload), "the bench stopped in mid-run");
            sequence += 1;
            channels.send(what, sequence);
        }
    }
}

struct Echo {
    child: Child,
    link: Option<Link>,
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Closing the link is the order to stop.
        drop(self.link.take());
        let _ = self.child.wait();
    }
}

fn bench_between_processes(group: &mut BenchmarkGroup<'_, WallTime>) {
    let (link, theirs) = Link::pair().unwrap();
    let program = std::env::current_exe().unwrap();
    let child = Command::new(program).arg("--child").stdin(Stdio::from(theirs.into_fd())).spawn().unwrap();
    let (out, back) = (Direction::new().unwrap(), Direction::new().unwrap());
    out.try_clone().unwrap().send(&link);
    back.try_clone().unwrap().send(&link);
    let mut channels = Channels::new(out, back);
    let echo = Echo { child, link: Some(link) };
    let mut payload = Vec::with_capacity(CHUNK.len());
    let mut sequence = 0;
    for (what, name) in ALL {
        group.bench_function(format!("{name}/processes"), |bencher| {
            bencher.iter_custom(|rounds| {
                let order = ToEncode::<OwnedFd>::Ping(rounds * 4 + what as u64);
                echo.link.as_ref().unwrap().send(order).unwrap();
                let began = Instant::now();
                for _ in 0..rounds {
                    sequence += 1;
                    channels.send(what, sequence);
                    assert!(channels.await_one(what, &mut payload), "the other process is gone");
                }
                began.elapsed() / 2
            });
        });
    }
}

fn bench_uncontended(group: &mut BenchmarkGroup<'_, WallTime>) {
    let direction = Direction::new().unwrap();
    let mut channels = Channels::new(direction.try_clone().unwrap(), direction);
    let mut payload = Vec::with_capacity(CHUNK.len());
    let mut sequence = 0;
    for (what, name) in ALL {
        group.bench_function(format!("{name}/uncontended"), |bencher| {
            bencher.iter(|| {
                sequence += 1;
                channels.send(what, sequence);
                black_box(channels.recv(what, &mut payload))
            });
        });
    }
}
