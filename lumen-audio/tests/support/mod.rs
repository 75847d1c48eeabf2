//! The real plane binary on a real link, as lumend would start it, and the reading end of its ring.
#![allow(dead_code)] // Each test program uses its part.

pub mod player;
pub mod server;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use ipc::event::Event;
use ipc::link::{Link, LinkError};
use ipc::ring::{ChunkFlags, ChunkHeader, Ring, RingConsumer};
use ipc::shm::sealed_memfd;
use ipc::{
    AudioStats, AudioWiring, DefaultSink, FromAudio, Generation, RingFds, RingGeometry, SessionId, SinkChoice, ToAudio,
};
use lumen_core::AudioLayout;
use lumen_core::audio::{PacketTime, SAMPLE_RATE};
use opus::MSDecoder;

use self::server::Server;

/// Long enough for the busiest machine; nothing waits this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running audio plane.
pub struct Plane {
    pub link: Link,
    pub child: Child,
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Plane {
    /// Starts one and reads its `Hello`.
    pub fn start() -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_lumen-audio")))
    }

    /// Starts one whose every system call is written to `trace`.
    pub fn traced(trace: &Path) -> Self {
        let mut command = Command::new("strace");
        command.args(["-f", "-o"]).arg(trace).arg(env!("CARGO_BIN_EXE_lumen-audio"));
        Self::run(command)
    }

    fn run(mut command: Command) -> Self {
        let (link, theirs) = Link::pair().unwrap();
        let theirs = theirs.into_fd();
        command.env_clear();
        let raw = theirs.as_raw_fd();
        // SAFETY: between fork and exec only async-signal-safe calls: dup2, or fcntl where the number is right already.
        unsafe {
            command.pre_exec(move || {
                let failed = if raw == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(raw, 3) } < 0;
                if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let program = command.get_program().to_owned();
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        drop(theirs);
        let plane = Self { link, child };
        match plane.next() {
            FromAudio::Hello(hello) => assert_eq!(hello.build, ipc::BUILD),
            other => panic!("the first message is {other:?}"),
        }
        plane
    }

    /// Starts one and wires it to `server`.
    pub fn wired(server: &Server, layout: AudioLayout, sink: SinkChoice) -> (Self, Listener) {
        let plane = Self::start();
        let listener = plane.wire(server, layout, sink);
        (plane, listener)
    }

    /// Wires it to `server`.
    pub fn wire(&self, server: &Server, layout: AudioLayout, sink: SinkChoice) -> Listener {
        let (listener, wiring) = wiring(server, layout, sink);
        self.link.send(ToAudio::Wire(wiring)).unwrap();
        listener
    }

    /// The next message, whatever it is.
    pub fn next(&self) -> FromAudio {
        self.try_next().expect("the plane ended")
    }

    pub fn try_next(&self) -> Result<FromAudio, LinkError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(received) = self.link.recv::<FromAudio>()? {
                return Ok(received.message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the plane says nothing");
            self.link.wait_readable(left).unwrap();
        }
    }

    /// The next message that is not `Stats`.
    pub fn answer(&self) -> FromAudio {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next() {
                FromAudio::Stats { .. } => assert!(Instant::now() < deadline, "the plane has nothing to say"),
                other => return other,
            }
        }
    }

    /// Waits for `Wired`; returns what the sink is called.
    pub fn sink(&self) -> String {
        match self.answer() {
            FromAudio::Wired { generation: Generation(1), backend, sink } => {
                assert!(backend.starts_with("pipewire "), "{backend}");
                sink
            }
            other => panic!("not wired: {other:?}"),
        }
    }

    /// Waits for the record of a change, and lets it happen.
    pub fn grant(&self) -> DefaultSink {
        match self.answer() {
            FromAudio::Record(record) => {
                self.link.send(ToAudio::Recorded { previous: record.previous.clone() }).unwrap();
                record
            }
            other => panic!("no record: {other:?}"),
        }
    }

    pub fn undone(&self) -> String {
        match self.answer() {
            FromAudio::Undone(ours) => ours,
            other => panic!("not undone: {other:?}"),
        }
    }

    pub fn stats(&self) -> AudioStats {
        loop {
            if let FromAudio::Stats { stats, .. } = self.next() {
                return stats;
            }
        }
    }

    pub fn retire(&self) {
        self.link.send(ToAudio::<OwnedFd>::Retire { generation: Generation(1) }).unwrap();
    }

    /// How it ends, by itself or because the link closes.
    pub fn ended(mut self) -> ExitStatus {
        let (other, _) = Link::pair().unwrap();
        drop(std::mem::replace(&mut self.link, other));
        self.child.wait().unwrap()
    }

    /// How it ends by itself.
    pub fn outcome(mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        while self.try_next().is_ok() {
            assert!(Instant::now() < deadline, "the plane does not end");
        }
        self.child.wait().unwrap()
    }

    /// `kill -9`.
    pub fn kill(self) {}
}

/// An audio ring: net's end, and the plane's.
fn ring() -> (RingConsumer, RingFds<OwnedFd>) {
    let geometry = RingGeometry::AUDIO;
    let memory = sealed_memfd("audio", Ring::memory_size(&geometry)).unwrap();
    let (data, credit) = (Event::new().unwrap(), Event::new().unwrap());
    let ring = RingFds {
        memory: memory.try_clone().unwrap(),
        data: data.try_clone().unwrap().into_fd(),
        credit: credit.try_clone().unwrap().into_fd(),
        geometry,
    };
    (RingConsumer::attach(memory.as_fd(), data, credit, geometry).unwrap(), ring)
}

/// A wiring, and net's end of it.
pub fn wiring(server: &Server, layout: AudioLayout, sink: SinkChoice) -> (Listener, AudioWiring<OwnedFd>) {
    let (ring_out, ring) = ring();
    let wiring = AudioWiring {
        packet: PacketTime::Five,
        session: SessionId(1),
        generation: Generation(1),
        layout,
        bitrate_kbps: layout.bitrate_kbps(),
        gain_decibels_tenths: 0,
        sink,
        pipewire: server.connect(),
        ring,
        undo: Vec::new(),
    };
    let decoder = MSDecoder::new(SAMPLE_RATE, layout.streams(), layout.coupled(), layout.mapping()).unwrap();
    (
        Listener {
            ring: ring_out,
            decoder,
            channels: layout.channels(),
            time: PacketTime::Five,
            generation: 1,
            next: 0,
        },
        wiring,
    )
}

/// What a client would hear.
pub struct Listener {
    ring: RingConsumer,
    decoder: MSDecoder,
    channels: usize,
    /// That every packet must have.
    pub time: PacketTime,
    generation: u32,
    next: u32,
}

/// One packet, decoded.
#[derive(Clone)]
pub struct Packet {
    pub header: ChunkHeader,
    pub bytes: Vec<u8>,
    /// Interleaved.
    pub samples: Vec<f32>,
    /// When it was found in the ring, in CLOCK_MONOTONIC nanoseconds.
    pub found_ns: u64,
}

impl Listener {
    /// Gives the plane the ring of another network plane, and listens to that.
    pub fn move_to(&mut self, plane: &Plane, generation: u32) {
        let (ours, ring) = ring();
        plane.link.send(ToAudio::Ring { generation: Generation(generation), ring }).unwrap();
        (self.ring, self.generation, self.next) = (ours, generation, 0);
    }

    /// The next packet. Panics when none comes, or not the one after the last.
    pub fn packet(&mut self) -> Packet {
        let (header, bytes) = loop {
            let Some(chunk) = self.ring.peek().unwrap() else {
                assert!(self.ring.data().wait(Some(PATIENCE)).unwrap(), "no packet comes");
                self.ring.data().drain();
                continue;
            };
            let header = *chunk.header();
            let mut bytes = Vec::with_capacity(header.len as usize);
            chunk.read(&mut bytes).unwrap();
            self.ring.release();
            break (header, bytes);
        };
        let found_ns = ipc::event::now_ns();
        assert_eq!((header.generation, header.frame), (self.generation, self.next));
        assert!(header.flags.contains(ChunkFlags::FIRST) && header.flags.contains(ChunkFlags::LAST));
        self.next += 1;
        let frames = self.time.samples();
        // With room for more, or a longer packet would be an error of the decoder.
        let mut samples = vec![0.0; 2 * frames * self.channels];
        assert_eq!(self.decoder.decode_float(&bytes, &mut samples, false).unwrap(), frames);
        samples.truncate(frames * self.channels);
        Packet { header, bytes, samples, found_ns }
    }

    pub fn packets(&mut self, count: usize) -> Vec<Packet> {
        (0..count).map(|_| self.packet()).collect()
    }

    /// Waits for sound that is louder than `level` on any channel.
    pub fn wait_for_sound(&mut self, level: f32) -> Packet {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let packet = self.packet();
            if packet.samples.iter().any(|sample| sample.abs() > level) {
                return packet;
            }
            assert!(Instant::now() < deadline, "nothing is heard");
        }
    }
}

/// One channel of packets that follow each other.
pub fn channel(packets: &[Packet], channel: usize, channels: usize) -> Vec<f32> {
    packets.iter().flat_map(|packet| packet.samples.iter().skip(channel).step_by(channels).copied()).collect()
}

/// Largest amplitude of any sample.
pub fn loudest(packet: &Packet) -> f32 {
    packet.samples.iter().fold(0.0, |most, sample| most.max(sample.abs()))
}

/// Amplitude of one frequency in a signal of 48 kHz (Goertzel).
pub fn amplitude(signal: &[f32], hertz: f32) -> f32 {
    let step = f64::from(hertz) / f64::from(SAMPLE_RATE) * std::f64::consts::TAU;
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (at, sample) in signal.iter().enumerate() {
        let (sine, cosine) = (step * at as f64).sin_cos();
        real += f64::from(*sample) * cosine;
        imaginary += f64::from(*sample) * sine;
    }
    (real.hypot(imaginary) * 2.0 / signal.len() as f64) as f32
}
