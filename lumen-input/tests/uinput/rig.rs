//! The world around an input plane: lumend's end of its link, and net's ends of its rings.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ipc::event::{Event, now_ns};
use ipc::link::Link;
use ipc::ring::{ChunkFlags, ChunkHeader, Ring, RingConsumer, RingProducer};
use ipc::shm::sealed_memfd;
use ipc::{
    BUILD, DeviceId, FromInput, Generation, Hands, InputBackends, InputStats, InputWiring, Kept, RingFds, RingGeometry,
    STATE_BYTES, SessionId, ToInput,
};
use lumen_core::input::{MAX_EVENT, PadIndex, PadKind, PadState, Rumble};
use lumen_core::{InputEvent, Permissions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, write};

use crate::reader;

/// Long enough for an emulated machine; only a test that fails waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How often the link is served while a test waits for something else.
const TICK: Duration = Duration::from_millis(2);

/// A session as lumend has it: what is kept while planes come and go, and the plane that is there now.
pub struct Rig {
    session: SessionId,
    on_kernel: bool,
    pub permissions: Permissions,
    /// False: lumend has no /dev/uinput to give.
    pub supply: bool,
    state: OwnedFd,
    kept: BTreeMap<DeviceId, OwnedFd>,
    plane: Plane,
    generation: u32,
    /// Everything that planes have asked for and given back, in order.
    pub wants: Vec<DeviceId>,
    pub drops: Vec<DeviceId>,
    pub wired: Option<InputBackends>,
    pub failed: Option<String>,
    pub stats: InputStats,
}

struct Plane {
    link: Link,
    process: Process,
    events: RingProducer,
    haptics: RingConsumer,
}

impl Rig {
    /// Starts a plane and wires it; `on_kernel`: keyboard, mouse and touch screen are the kernel's too.
    pub fn start(session: u32, on_kernel: bool, permissions: Permissions) -> Self {
        let mut rig = Self::unwired(session, on_kernel, permissions, true);
        rig.wait("the plane is wired", |rig| rig.wired);
        rig
    }

    /// The same without waiting for the plane's answer.
    pub fn unwired(session: u32, on_kernel: bool, permissions: Permissions, supply: bool) -> Self {
        let session = SessionId(session);
        let state = sealed_memfd("state", STATE_BYTES).unwrap();
        let plane = Plane::start(session, Generation(1), on_kernel, permissions, &state, &BTreeMap::new());
        Self {
            session,
            on_kernel,
            permissions,
            supply,
            state,
            kept: BTreeMap::new(),
            plane,
            generation: 1,
            wants: Vec::new(),
            drops: Vec::new(),
            wired: None,
            failed: None,
            stats: InputStats::default(),
        }
    }

    /// Puts an event into the ring, as net does.
    pub fn send(&mut self, event: InputEvent) {
        let mut bytes = [0; MAX_EVENT];
        let len = event.encode(&mut bytes);
        let header = ChunkHeader {
            generation: self.generation,
            captured_ns: now_ns(),
            flags: ChunkFlags::LAST,
            ..ChunkHeader::default()
        };
        self.plane.events.reserve().expect("room in the ring").commit(header, &bytes[..len]).unwrap();
    }

    pub fn permit(&mut self, permissions: Permissions) {
        self.permissions = permissions;
        self.plane.link.send(ToInput::<OwnedFd>::Permit(permissions)).unwrap();
    }

    pub fn retire(&mut self) {
        let generation = Generation(self.generation);
        self.plane.link.send(ToInput::<OwnedFd>::Retire { generation }).unwrap();
    }

    /// Serves the plane until `ready` answers. Panics with `what` when it does not.
    pub fn wait<T>(&mut self, what: &str, mut ready: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.serve();
            if let Some(found) = ready(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            self.plane.link.wait_readable(TICK).unwrap();
        }
    }

    /// Answers the plane as lumend does.
    fn serve(&mut self) {
        while let Ok(Some(received)) = self.plane.link.recv::<FromInput>() {
            match received.message {
                FromInput::Hello(hello) => assert!(hello.build == BUILD && hello.landlock_abi > 0),
                FromInput::Pong(_) | FromInput::Leaving(_) => {}
                FromInput::Wired { generation, backends, .. } => {
                    assert_eq!(generation, Generation(self.generation));
                    self.wired = Some(backends);
                }
                FromInput::Want(device) => {
                    self.wants.push(device);
                    let fd = self.supply.then(open_uinput);
                    if let Some(fd) = &fd {
                        self.kept.insert(device, fd.try_clone().unwrap());
                    }
                    self.plane.link.send(ToInput::Device { device, fd }).unwrap();
                }
                FromInput::Dropped(device) => {
                    self.drops.push(device);
                    self.kept.remove(&device);
                }
                FromInput::Failed { reason, .. } => self.failed = Some(reason),
                FromInput::Stats { stats, .. } => self.stats = stats,
            }
        }
    }

    /// The descriptor that lumend keeps of a device.
    pub fn kept(&self, device: DeviceId) -> &OwnedFd {
        &self.kept[&device]
    }

    /// What planes leave each other.
    pub fn memory(&self) -> BorrowedFd<'_> {
        self.state.as_fd()
    }

    /// Plugs a pad in and waits for its event node.
    pub fn plug(&mut self, pad: u8) -> PathBuf {
        self.send(InputEvent::PadArrived { pad: index(pad), kind: PadKind::Xbox });
        let node = self.node(&format!("pad-{pad}"));
        // The node appears a moment before the kernel takes the device for made, and refuses effects in between. An
        // event through lumend's descriptor, which says nothing, is refused as long.
        self.wait("the device is made", |rig| write(&rig.kept[&DeviceId::Pad(index(pad))], &[0; 24]).ok());
        node
    }

    pub fn state(&mut self, pad: u8, state: PadState) {
        self.send(InputEvent::PadState { pad: index(pad), state });
    }

    /// Waits for the event node of one of the session's devices.
    pub fn node(&mut self, place: &str) -> PathBuf {
        let phys = self.phys(place);
        self.wait(&phys, |_| reader::find(&phys))
    }

    /// Where a device of this session says it is.
    pub fn phys(&self, place: &str) -> String {
        format!("lumen/session-{}/{place}", self.session.0)
    }

    /// The next rumble and when the plane told it; waits for it.
    pub fn rumble(&mut self) -> (Rumble, u64) {
        self.wait("a rumble", |rig| rig.plane.next_rumble())
    }

    /// Reads rumbles until one is this.
    pub fn rumble_is(&mut self, expected: Rumble) {
        self.wait(&format!("{expected:?}"), |rig| {
            let mut told = std::iter::from_fn(|| rig.plane.next_rumble()).inspect(|told| println!("{told:?}"));
            told.any(|(rumble, _)| rumble == expected).then_some(())
        });
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.plane.process.0.id() as i32), signal).unwrap();
    }

    /// SIGKILL, and an heir, which gets what lumend has kept.
    pub fn replace(&mut self) {
        self.signal(Signal::SIGKILL);
        assert_eq!(self.plane.process.0.wait().unwrap().signal(), Some(libc::SIGKILL));
        self.generation += 1;
        self.wired = None;
        let generation = Generation(self.generation);
        self.plane = Plane::start(self.session, generation, self.on_kernel, self.permissions, &self.state, &self.kept);
    }

    /// Closes the link, which is the order to stop, and keeps the session and net's ends for a look at the rest.
    pub fn close(self) -> (RingConsumer, i32) {
        let Plane { link, mut process, haptics, .. } = self.plane;
        drop(link);
        (haptics, process.0.wait().unwrap().code().expect("an exit of its own"))
    }
}

impl Plane {
    /// The real program, as lumend starts it: its link is fd 3.
    fn start(
        session: SessionId,
        generation: Generation,
        on_kernel: bool,
        permissions: Permissions,
        state: &OwnedFd,
        kept: &BTreeMap<DeviceId, OwnedFd>,
    ) -> Self {
        let (link, theirs) = Link::pair().unwrap();
        let script = "exec \"$0\" 3<&0 </dev/null";
        let child = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_lumen-input")])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .stdin(Stdio::from(theirs.into_fd()))
            .spawn()
            .unwrap();
        let (ours, events) = ring("events", RingGeometry::INPUT);
        let producer = RingProducer::attach(
            ours.memory.as_fd(),
            Event::from_fd(ours.data),
            Event::from_fd(ours.credit),
            ours.geometry,
        );
        let (ours, haptics) = ring("haptics", RingGeometry::HAPTICS);
        let consumer = RingConsumer::attach(
            ours.memory.as_fd(),
            Event::from_fd(ours.data),
            Event::from_fd(ours.credit),
            ours.geometry,
        );
        let kept = kept.iter().map(|(device, fd)| Kept { device: *device, fd: fd.try_clone().unwrap() }).collect();
        let wiring = InputWiring {
            session,
            generation,
            permissions,
            hands: if on_kernel { Hands::Uinput } else { Hands::None },
            uinput: true,
            events,
            before: Vec::new(),
            haptics,
            state: state.try_clone().unwrap(),
            kept,
        };
        link.send(ToInput::Wire(wiring)).unwrap();
        Self { link, process: Process(child), events: producer.unwrap(), haptics: consumer.unwrap() }
    }

    fn next_rumble(&mut self) -> Option<(Rumble, u64)> {
        next_rumble(&mut self.haptics)
    }
}

/// A child that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then both fail.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The oldest rumble that net has not taken yet, and when the plane told it.
pub fn next_rumble(haptics: &mut RingConsumer) -> Option<(Rumble, u64)> {
    haptics.data().drain();
    let chunk = haptics.peek().unwrap()?;
    let told_ns = chunk.header().captured_ns;
    let mut bytes = Vec::with_capacity(16);
    chunk.read(&mut bytes).unwrap();
    haptics.release();
    Some((Rumble::decode(&bytes).expect("a rumble"), told_ns))
}

pub fn index(pad: u8) -> PadIndex {
    PadIndex::new(pad).unwrap()
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

fn open_uinput() -> OwnedFd {
    let flags = libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file: File = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/dev/uinput")
        .expect("/dev/uinput: run `cargo xtask test-vm`");
    file.into()
}
