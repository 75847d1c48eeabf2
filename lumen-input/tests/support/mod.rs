//! The real plane binary on a real link, as lumend would start it, and net's ends of its rings.
#![allow(dead_code)] // Each test program uses its part.

pub mod log;
pub mod sway;

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ipc::event::{Event, now_ns};
use ipc::link::{Link, LinkError};
use ipc::ring::{ChunkFlags, ChunkHeader, Ring, RingConsumer, RingProducer};
use ipc::shm::{Mapping, sealed_memfd};
use ipc::{
    FromInput, Generation, Hands, InputBackends, InputStats, InputWiring, Keymap, RingFds, RingGeometry, STATE_BYTES,
    SessionId, ToInput,
};
use lumen_core::input::{Axis, Button, Held, KeyCode, MAX_EVENT, Text};
use lumen_core::{InputEvent, Permissions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sway::Sway;
use xkbcommon::xkb;

/// Long enough for the busiest machine; nothing waits this long unless it is broken.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running input plane.
pub struct Plane {
    pub link: Link,
    child: Child,
}

impl Plane {
    /// Starts one and reads its `Hello`.
    pub fn start() -> Self {
        let (link, theirs) = Link::pair().unwrap();
        let theirs = theirs.into_fd();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumen-input"));
        command.env_clear();
        let raw = theirs.as_raw_fd();
        // SAFETY: between fork and exec only async-signal-safe calls: dup2, or fcntl where the number is right already.
        unsafe {
            command.pre_exec(move || {
                let failed = if raw == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(raw, 3) } < 0;
                if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let child = command.spawn().unwrap();
        drop(theirs);
        let plane = Self { link, child };
        match plane.next() {
            FromInput::Hello(hello) => assert_eq!(hello.build, ipc::BUILD),
            other => panic!("the first message is {other:?}"),
        }
        plane
    }

    /// The next message, whatever it is.
    pub fn next(&self) -> FromInput {
        self.try_next().expect("the plane ended")
    }

    fn try_next(&self) -> Result<FromInput, LinkError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(received) = self.link.recv::<FromInput>()? {
                return Ok(received.message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the plane says nothing");
            self.link.wait_readable(left).unwrap();
        }
    }

    /// The next message that is not `Stats`.
    pub fn answer(&self) -> FromInput {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next() {
                FromInput::Stats { .. } => assert!(Instant::now() < deadline, "the plane does not answer"),
                other => return other,
            }
        }
    }

    /// Numbers that fulfil a condition, which must come to be.
    pub fn stats(&self, good: impl Fn(&InputStats) -> bool) -> InputStats {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.next() {
                FromInput::Stats { stats, .. } if good(&stats) => return stats,
                other => assert!(Instant::now() < deadline, "{other:?}"),
            }
        }
    }

    /// Asks whether the plane is still there; whatever was sent before has been dealt with when this returns.
    pub fn ping(&self) {
        self.link.send(ToInput::<OwnedFd>::Ping(77)).unwrap();
        match self.answer() {
            FromInput::Pong(77) => {}
            other => panic!("instead of Pong: {other:?}"),
        }
    }

    pub fn permit(&self, permissions: Permissions) {
        self.link.send(ToInput::<OwnedFd>::Permit(permissions)).unwrap();
        self.ping();
    }

    /// Wires it; the answer is the caller's to read.
    pub fn wire(&self, hands: Hands<OwnedFd>, state: &OwnedFd) -> Net {
        self.wire_after(hands, state, Vec::new())
    }

    /// As [`Plane::wire`], for the heir of those that had these rings.
    pub fn wire_after(&self, hands: Hands<OwnedFd>, state: &OwnedFd, before: Vec<RingFds<OwnedFd>>) -> Net {
        let (mut net, events, haptics) = Net::new();
        net.theirs = Some(copy(&events));
        let wiring = InputWiring {
            session: SessionId(1),
            generation: Generation(1),
            permissions: Permissions::ALL,
            hands,
            uinput: false,
            events,
            before,
            haptics,
            state: state.try_clone().unwrap(),
            kept: Vec::new(),
        };
        self.link.send(ToInput::Wire(wiring)).unwrap();
        net
    }

    /// Wires it to hands that must work.
    pub fn wired(&self, hands: Hands<OwnedFd>, state: &OwnedFd) -> (Net, InputBackends) {
        let net = self.wire(hands, state);
        match self.answer() {
            FromInput::Wired { generation: Generation(1), backends, .. } => (net, backends),
            other => panic!("instead of Wired: {other:?}"),
        }
    }

    /// Gives it the rings of another network plane; how far it is with the client's events.
    pub fn rewired(&self, generation: u32) -> (Net, u32) {
        let net = self.rewire(generation);
        match self.answer() {
            FromInput::Wired { generation: wired, next, .. } if wired.0 == generation => (net, next),
            other => panic!("instead of Wired: {other:?}"),
        }
    }

    /// As [`Plane::rewired`]; the answer is the caller's to read.
    pub fn rewire(&self, generation: u32) -> Net {
        let (net, events, haptics) = Net::new();
        self.link.send(ToInput::Rings { generation: Generation(generation), events, haptics }).unwrap();
        net
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// As a crash would: no warning, no last word.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes the link, which is the order to stop.
    pub fn stop(self) -> ExitStatus {
        let Self { link, child } = self;
        drop(link);
        ended(child)
    }

    /// Waits for the plane to end by itself.
    pub fn end(self) -> ExitStatus {
        ended(self.child)
    }
}

fn ended(mut child: Child) -> ExitStatus {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait()));
    receiver.recv_timeout(PATIENCE).expect("the plane does not end").unwrap()
}

/// Net's ends of a generation.
pub struct Net {
    events: RingProducer,
    pub haptics: RingConsumer,
    /// The client's number of the next event.
    pub sent: u32,
    /// What lumend keeps of the plane's end of the ring of events.
    pub theirs: Option<RingFds<OwnedFd>>,
}

pub fn copy(ring: &RingFds<OwnedFd>) -> RingFds<OwnedFd> {
    let [memory, data, credit] = [&ring.memory, &ring.data, &ring.credit].map(|fd| fd.try_clone().unwrap());
    RingFds { memory, data, credit, geometry: ring.geometry }
}

impl Net {
    /// Those, and the plane's.
    pub fn new() -> (Self, RingFds<OwnedFd>, RingFds<OwnedFd>) {
        let ring = |geometry: RingGeometry| {
            let memory = sealed_memfd("ring", Ring::memory_size(&geometry)).unwrap();
            let (data, credit) = (Event::new().unwrap(), Event::new().unwrap());
            let ours = (memory.try_clone().unwrap(), data.try_clone().unwrap(), credit.try_clone().unwrap(), geometry);
            (ours, RingFds { memory, data: data.into_fd(), credit: credit.into_fd(), geometry })
        };
        let ((memory, data, credit, geometry), events) = ring(RingGeometry::INPUT);
        let producer = RingProducer::attach(memory.as_fd(), data, credit, geometry).unwrap();
        let ((memory, data, credit, geometry), haptics) = ring(RingGeometry::HAPTICS);
        let consumer = RingConsumer::attach(memory.as_fd(), data, credit, geometry).unwrap();
        (Self { events: producer, haptics: consumer, sent: 0, theirs: None }, events, haptics)
    }

    /// Hands over bytes, in the place of an event.
    pub fn send_raw(&mut self, payload: &[u8]) {
        while !self.events.ready() {
            assert!(self.events.credit().wait(Some(PATIENCE)).unwrap(), "the plane takes nothing");
            self.events.credit().drain();
        }
        let header = ChunkHeader {
            generation: 1,
            frame: self.sent,
            flags: ChunkFlags::LAST,
            captured_ns: now_ns(),
            ..ChunkHeader::default()
        };
        self.events.reserve().unwrap().commit(header, payload).unwrap();
        self.sent = self.sent.wrapping_add(1);
    }

    pub fn send(&mut self, event: InputEvent) {
        let mut bytes = [0; MAX_EVENT];
        let length = event.encode(&mut bytes);
        self.send_raw(&bytes[..length]);
    }

    pub fn send_all(&mut self, events: impl IntoIterator<Item = InputEvent>) {
        events.into_iter().for_each(|event| self.send(event));
    }
}

/// Fresh memory for a session's state.
pub fn state() -> OwnedFd {
    sealed_memfd("state", STATE_BYTES).unwrap()
}

/// Hands on a seat and an output of a sway.
pub fn hands(sway: &Sway, seat: &str, output: &str, focus_key: Option<u32>) -> Hands<OwnedFd> {
    let (seat, output) = (seat.to_owned(), output.to_owned());
    Hands::Wlroots { socket: sway.connect(), inherited: false, output, seat, focus_key, keymap: keymap() }
}

/// The keymap of a US keyboard.
pub fn keymap() -> Keymap<OwnedFd> {
    let context = xkb::Context::new(xkb::CONTEXT_NO_FLAGS);
    let keymap = xkb::Keymap::new_from_names(&context, "", "pc105", "us", "", None, xkb::KEYMAP_COMPILE_NO_FLAGS)
        .expect("xkb-data is needed for this test; `cargo xtask deps` installs it");
    let text = keymap.get_as_string(xkb::KEYMAP_FORMAT_TEXT_V1);
    let bytes = text.len() + 1;
    let memory = sealed_memfd("keymap", bytes).unwrap();
    let mut mapping = Mapping::read_write(memory.as_fd(), bytes).unwrap();
    mapping.as_mut_slice().unwrap()[..text.len()].copy_from_slice(text.as_bytes());
    Keymap { memory, bytes: u32::try_from(bytes).unwrap() }
}

pub fn key(code: u16, pressed: bool) -> InputEvent {
    InputEvent::Key { code: KeyCode::new(code).unwrap(), pressed }
}

/// A key pressed and released.
pub fn tap(code: u16) -> [InputEvent; 2] {
    [key(code, true), key(code, false)]
}

pub fn text(text: &str) -> InputEvent {
    InputEvent::Text(Text::new(text).unwrap())
}

pub fn button(button: Button, pressed: bool) -> InputEvent {
    InputEvent::Button { button, pressed }
}

pub fn scroll(axis: Axis, amount: i32) -> InputEvent {
    InputEvent::Scroll { axis, amount }
}

/// Everything held that is named.
pub fn held(keys: &[u16], buttons: u8) -> InputEvent {
    InputEvent::Held(Held::new(keys.iter().filter_map(|&code| KeyCode::new(code)), buttons, 0))
}

/// A position in thousandths of the output.
pub fn position(x: u32, y: u32) -> InputEvent {
    let part = |thousandths: u32| (thousandths * 65535 / 1000) as u16;
    InputEvent::Position { x: part(x), y: part(y) }
}
