//! One generation's work: events from net's ring to the backends, rumble back, and what is told of it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc::event::{Event as Wake, now_ns};
use ipc::link::Link;
use ipc::plane::PlaneError;
use ipc::ring::RingProducer;
use ipc::{
    DeviceId, FromInput, Generation, Hands, HandsBackend, InputBackends, InputStats, InputWiring, PadsBackend,
    PlaneKind, RingFds, TouchBackend,
};
use lumen_core::histogram::WindowedHistogram;
use lumen_core::input::MAX_EVENT;
use lumen_core::{InputEvent, Permissions};

use crate::haptics::Haptics;
use crate::inflow::Inflow;
use crate::inject::{Inject, InjectError, Injected};
use crate::route::{Route, Verdict};
use crate::state::{DeskState, HeldState, PadsState};
use crate::uinput::{Request, Uinput};
use crate::wlr::{Pages, Place, Wlr};

/// Between two `Stats`.
const STATS_INTERVAL_NS: u64 = 1_000_000_000;
/// Events injected in one turn, about what the ring holds: net may put in more as fast as they are taken out, and the
/// link is to be heard in between.
const PER_TURN: usize = 640;

/// Why a generation ends.
#[derive(Debug, thiserror::Error)]
pub enum WiredError {
    #[error(transparent)]
    Plane(#[from] PlaneError),
    #[error(transparent)]
    Inject(#[from] InjectError),
}

/// A generation and everything that it was given.
pub struct Wired {
    generation: Generation,
    inflow: Inflow,
    haptics: Haptics,
    route: Route,
    held: HeldState,
    backends: Backends,
    kinds: InputBackends,
    /// What a dead plane held has been lifted.
    healed: bool,
    /// Everything that had been put into the ring before has been taken. Its last may still come.
    caught_up: bool,
    /// `Wired` has been said.
    told: bool,
    stats: InputStats,
    stats_at: u64,
    wait: WindowedHistogram,
    /// What the route wants injected; empty between events.
    steps: Vec<InputEvent>,
    /// The last turn has left events in the ring that can be injected at once.
    more: bool,
}

/// Where events become real.
struct Backends {
    /// Pointer and keyboard of a compositor.
    desk: Option<Box<dyn Inject>>,
    /// Pads, and where there is no compositor everything else.
    kernel: Option<Uinput>,
}

impl Backends {
    /// The backend that an event belongs to.
    fn of(&mut self, event: &InputEvent) -> Option<&mut dyn Inject> {
        match (event, &mut self.desk, &mut self.kernel) {
            (
                InputEvent::PadArrived { .. } | InputEvent::PadRemoved { .. } | InputEvent::PadState { .. },
                _,
                kernel,
            ) => kernel.as_mut().map(|kernel| kernel as &mut dyn Inject),
            (_, Some(desk), _) => Some(desk.as_mut()),
            (_, None, kernel) => kernel.as_mut().map(|kernel| kernel as &mut dyn Inject),
        }
    }

    fn all(&self) -> impl Iterator<Item = &dyn Inject> {
        let kernel = self.kernel.as_ref().map(|kernel| kernel as &dyn Inject);
        self.desk.as_deref().into_iter().chain(kernel)
    }

    fn each(&mut self, mut act: impl FnMut(&mut dyn Inject) -> Result<(), InjectError>) -> Result<(), InjectError> {
        if let Some(desk) = &mut self.desk {
            act(desk.as_mut())?;
        }
        self.kernel.as_mut().map_or(Ok(()), |kernel| act(kernel))
    }
}

impl Wired {
    /// Takes a wiring. `pages` are for text.
    ///
    /// # Errors
    /// `Inject` if the backend cannot be used at all; `Plane` for rings that are none.
    pub fn new(wiring: InputWiring<OwnedFd>, pages: Pages, now_ns: u64) -> Result<Self, WiredError> {
        let InputWiring { session, generation, permissions, hands, uinput, events, before, haptics, state, kept } =
            wiring;
        let inflow = Inflow::new(events, before).map_err(|error| unusable(&error))?;
        let haptics = rumbles(haptics)?;
        let held = HeldState::attach(state.as_fd()).map_err(|error| unusable(&error))?;
        let mut pads = PadsState::attach(state.as_fd()).map_err(|error| unusable(&error))?;
        // The client may have lost the permission since.
        if !permissions.has(Permissions::GAMEPAD) {
            pads.rest();
        }

        let on_kernel = uinput && matches!(hands, Hands::Uinput);
        let desk: Option<Box<dyn Inject>> = match hands {
            Hands::None | Hands::Uinput => None,
            Hands::Wlroots { socket, inherited, output, seat, focus_key, keymap } => {
                let place = Place { output, seat, focus_key };
                let desk = DeskState::attach(state.as_fd()).map_err(|error| unusable(&error))?;
                Some(Box::new(Wlr::open((socket, inherited), place, keymap, pages, desk, now_ns)?))
            }
        };
        let kinds = match (&desk, on_kernel) {
            // A kernel's touch screen would belong to the compositor's first seat, if it looked at the kernel at all.
            (Some(_), _) => (HandsBackend::Wlroots, TouchBackend::Emulated),
            (None, true) => (HandsBackend::Uinput, TouchBackend::Native),
            (None, false) => (HandsBackend::None, TouchBackend::None),
        };
        let pads_backend = if uinput { PadsBackend::Uinput } else { PadsBackend::None };
        let kinds = InputBackends { hands: kinds.0, touch: kinds.1, pads: pads_backend };
        Ok(Self {
            generation,
            inflow,
            haptics: Haptics::new(haptics, generation),
            route: Route::new(permissions, kinds.touch == TouchBackend::Emulated),
            held,
            backends: Backends { desk, kernel: uinput.then(|| Uinput::new(session, kept, pads, on_kernel, now_ns)) },
            kinds,
            healed: false,
            caught_up: false,
            told: false,
            stats: InputStats::default(),
            stats_at: now_ns + STATS_INTERVAL_NS,
            wait: WindowedHistogram::default(),
            steps: Vec::with_capacity(64),
            more: false,
        })
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// What to wait for: the ring of events, those before it, and the backends.
    pub fn fds<'a>(&'a self, fds: &mut Vec<BorrowedFd<'a>>) {
        self.inflow.fds(fds);
        for backend in self.backends.all() {
            backend.fds(fds);
        }
    }

    /// When to take a turn although nothing became readable.
    pub fn deadline(&self) -> Option<u64> {
        let at_once = self.more.then_some(0);
        self.backends.all().filter_map(Inject::deadline).chain([self.stats_at]).chain(at_once).min()
    }

    /// Goes on with the rings of another network plane, once what the one before has left is taken.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn move_to(
        &mut self,
        generation: Generation,
        events: RingFds<OwnedFd>,
        haptics: RingFds<OwnedFd>,
        link: &Link,
        now_ns: u64,
    ) -> Result<(), PlaneError> {
        let haptics = rumbles(haptics)?;
        self.inflow.move_to(events).map_err(|error| unusable(&error))?;
        self.report(link, now_ns)?;
        self.stats = InputStats::default();
        self.haptics.move_to(haptics, generation);
        (self.generation, self.caught_up, self.told) = (generation, false, false);
        Ok(())
    }

    /// Lifts everything, and goes on.
    pub fn rest(&mut self, now_ns: u64) {
        self.route.let_go(&mut self.steps);
        self.inject(now_ns);
        self.flush(now_ns);
        if let Some(kernel) = &mut self.backends.kernel {
            kernel.rest();
        }
    }

    pub fn permit(&mut self, permissions: Permissions, now_ns: u64) {
        self.route.permit(permissions, &mut self.steps);
        self.inject(now_ns);
        self.flush(now_ns);
        // The route knows only the pads that have arrived since this plane began; an heir has others.
        if !permissions.has(Permissions::GAMEPAD)
            && let Some(kernel) = &mut self.backends.kernel
        {
            kernel.rest();
        }
    }

    /// The answer to a `Want`.
    pub fn device(&mut self, device: DeviceId, fd: Option<OwnedFd>, now_ns: u64) {
        if let Some(kernel) = &mut self.backends.kernel {
            kernel.device(device, fd, now_ns);
        }
    }

    /// Lifts everything, and waits until that has arrived. What cannot be known to have is left to an heir to lift.
    pub fn let_go(mut self, now_ns: u64) {
        let mut steps = std::mem::take(&mut self.steps);
        self.route.let_go(&mut steps);
        for step in &steps {
            self.backends.of(step).map(|to| to.inject(step, now_ns));
        }
        if let Some(kernel) = &mut self.backends.kernel {
            kernel.rest();
        }
        let mut arrived = true;
        // There is nobody left to tell of an error.
        let _ = self.backends.each(|backend| {
            arrived &= backend.finish(now_ns);
            Ok(())
        });
        if arrived {
            steps.iter().for_each(|step| self.held.after(step));
        }
        if let Some(kernel) = &mut self.backends.kernel {
            kernel.hush();
            kernel.rumbles().for_each(|rumble| self.haptics.send(rumble, now_ns));
        }
    }

    /// Everything there is to do now; `rung`: the ring's wake-up is to be drained.
    ///
    /// # Errors
    /// The end of a backend; net breaking the rules.
    pub fn turn(&mut self, link: &Link, rung: bool) -> Result<(), WiredError> {
        let now = now_ns();
        self.inflow.drain(rung);
        self.backends.each(|backend| backend.dispatch(now))?;
        self.more = false;
        if self.ready() {
            if !std::mem::replace(&mut self.healed, true) {
                self.heal(now);
            }
            self.pump()?;
            if !self.told && self.caught_up {
                self.told = true;
                let (generation, backends) = (self.generation, self.kinds);
                let told = FromInput::Wired { generation, backends, next: self.held.next() };
                link.send(told).map_err(PlaneError::from)?;
            }
        }
        self.tell(link, now)?;
        Ok(())
    }

    fn ready(&self) -> bool {
        self.backends.all().all(Inject::ready)
    }

    /// Goes on with what a dead plane held where that is still down, and lifts it where it may be. The client may have
    /// lost a permission in between.
    fn heal(&mut self, now_ns: u64) {
        let acting = self.held.acting();
        for release in self.held.lift() {
            match self.backends.of(&release).is_some_and(|to| to.adopt(&release)) {
                true => self.route.adopt(&release, acting),
                false => self.steps.push(release),
            }
        }
        self.route.permit(self.route.permissions(), &mut self.steps);
        self.stats.healed += self.steps.len() as u64;
        self.inject(now_ns);
        self.flush(now_ns);
    }

    /// Injects what the rings hold, as long as the backends take it. Each event is on its way before the next is looked
    /// at: a plane that is killed takes one with it, and no more. One that says what is held leaves its ring when it is on
    /// its way, so that an heir has it again rather than never: a release that is lost is a key that stays down, and one
    /// that comes twice is nothing.
    fn pump(&mut self) -> Result<(), WiredError> {
        let mut bytes = Vec::with_capacity(MAX_EVENT);
        for injected in 0.. {
            self.more = injected == PER_TURN;
            if self.more || !self.ready() {
                break;
            }
            let Some(ring) = self.inflow.ring().map_err(PlaneError::by(PlaneKind::Net))? else {
                self.caught_up = true;
                break;
            };
            let Some(chunk) = ring.peek().map_err(PlaneError::by(PlaneKind::Net))? else { break };
            let header = *chunk.header();
            bytes.clear();
            let event = chunk.read(&mut bytes).ok().and_then(|()| InputEvent::decode(&bytes));
            let again = event.as_ref().is_some_and(may_come_twice);
            if !again {
                ring.release();
            }
            let Some(event) = event else {
                // What is dead may have left anything.
                if self.inflow.give_up_oldest() {
                    continue;
                }
                return Err(PlaneError::by(PlaneKind::Net)("a malformed input event").into());
            };
            self.held.take(header.frame);
            self.event(&event, now_ns());
            if again && let Some(ring) = self.inflow.ring().map_err(PlaneError::by(PlaneKind::Net))? {
                ring.release();
            }
            let now = now_ns();
            self.wait.record(now, now.saturating_sub(header.captured_ns));
        }
        Ok(())
    }

    fn event(&mut self, event: &InputEvent, now_ns: u64) {
        match self.route.event(event, &mut self.steps) {
            Verdict::Passed => self.stats.events += 1,
            Verdict::Forbidden => self.stats.forbidden += 1,
            Verdict::TooMany => self.stats.unsupported += 1,
            Verdict::Healed(lifted) => self.stats.healed += lifted,
        }
        self.held.set_acting(self.route.acting());
        self.inject(now_ns);
    }

    /// Injects what the route wants, and notes what is released when it is on its way. An event counts as unsupported once,
    /// whatever became of its parts.
    fn inject(&mut self, now_ns: u64) {
        let mut unsupported = false;
        let mut steps = std::mem::take(&mut self.steps);
        for step in &steps {
            self.held.before(step);
            let injected = self.backends.of(step).map_or(Injected::Unsupported, |to| to.inject(step, now_ns));
            unsupported |= injected == Injected::Unsupported;
        }
        self.flush(now_ns);
        steps.drain(..).for_each(|step| self.held.after(&step));
        self.steps = steps;
        self.stats.unsupported += u64::from(unsupported);
    }

    fn flush(&mut self, now_ns: u64) {
        // Flushing has no errors; they come with the next dispatch.
        let _ = self.backends.each(|backend| {
            backend.flush(now_ns);
            Ok(())
        });
    }

    /// Says what there is to say: devices, rumble, numbers.
    fn tell(&mut self, link: &Link, now: u64) -> Result<(), PlaneError> {
        if let Some(kernel) = &mut self.backends.kernel {
            for request in kernel.requests() {
                link.send(match request {
                    Request::Want(device) => FromInput::Want(device),
                    Request::Dropped(device) => FromInput::Dropped(device),
                })?;
            }
            for rumble in kernel.rumbles() {
                self.haptics.send(rumble, now);
            }
            self.stats.pads = kernel.pads();
            self.haptics.check().map_err(PlaneError::by(PlaneKind::Net))?;
        }
        if now >= self.stats_at {
            self.report(link, now)?;
        }
        Ok(())
    }

    fn report(&mut self, link: &Link, now: u64) -> Result<(), PlaneError> {
        self.stats_at = now + STATS_INTERVAL_NS;
        let wait = self.wait.summary(now);
        self.stats.rumbles = self.haptics.sent();
        (self.stats.wait_p50_us, self.stats.wait_p99_us) = (wait.p50, wait.p99);
        Ok(link.send(FromInput::Stats { generation: self.generation, stats: self.stats })?)
    }
}

fn rumbles(haptics: RingFds<OwnedFd>) -> Result<RingProducer, PlaneError> {
    let RingFds { memory, data, credit, geometry } = haptics;
    let ring = RingProducer::attach(memory.as_fd(), Wake::from_fd(data), Wake::from_fd(credit), geometry);
    ring.map_err(|error| unusable(&error))
}

fn unusable(error: &ipc::shm::ShmError) -> PlaneError {
    PlaneError::failed(format!("the wiring cannot be used: {error}"))
}

/// Whether the route makes nothing of it if it comes a second time: it says what is down or there, and not what
/// happened.
const fn may_come_twice(event: &InputEvent) -> bool {
    use InputEvent::{Button, Held, Key, PadArrived, PadRemoved, PadState, Touch};
    matches!(
        event,
        Key { .. } | Button { .. } | Touch { .. } | PadArrived { .. } | PadRemoved { .. } | PadState { .. } | Held(_)
    )
}
