//! A wlroots compositor: `zwlr_virtual_pointer_v1` and `zwp_virtual_keyboard_v1` on the session's own seat and output.
//!
//! The Wayland socket is handed over connected; nothing here opens anything. The compositor lifts the keys of a virtual
//! keyboard that goes away, but not the buttons of a pointer: those are released on its successor.

mod keyboard;
mod pointer;
mod protocol;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ipc::Keymap;
use ipc::event as clock;
use ipc::shm::Mapping;
use lumen_core::InputEvent;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use wayland_client::backend::WaylandError;
use wayland_client::{Connection, DispatchError, EventQueue};

use crate::inject::{Inject, InjectError, Injected};
use crate::keymap::Keys;
use keyboard::{Keyboard, Typist};
use pointer::Pointer;
use protocol::{Named, State};

pub use keyboard::Pages;

/// How long the compositor may take to list its outputs and seats and to make the devices.
const OPEN_NS: u64 = 2_000_000_000;
/// When to try again to hand requests to a compositor whose socket is full.
const FLUSH_PAUSE_NS: u64 = 2_000_000;
/// How long the end may wait for the compositor to take what was said last.
const FINISH_NS: u64 = 200_000_000;
/// Text goes no faster than this for each character: a window that has no time to read is disconnected by its compositor.
/// Nobody types as fast, and what was pasted may take a moment.
const CHARACTER_NS: u64 = 250_000;
/// Texts that the compositor may have before it: one that stood still would hand them all to the window at once.
const TEXTS_UNDER_WAY: u64 = 2;
/// Largest keymap text that is believed; xkeyboard-config's with four layouts has 100 KB.
const MAX_KEYMAP: u32 = 1 << 20;

/// A connection to a compositor with devices on one seat.
pub struct Wlr {
    connection: Connection,
    queue: EventQueue<State>,
    state: State,
    place: Place,
    stage: Stage,
    /// When opening has taken too long.
    open_by: u64,
    /// Number of the last `sync` sent.
    synced: u64,
    /// The socket was full; flush again at this time.
    flush_at: Option<u64>,
    /// Nothing is injected before this, so that a window can read what was typed.
    rest_until: Option<u64>,
    /// What `inject` could not report.
    broken: Option<InjectError>,
}

/// Where in the compositor the devices act.
pub struct Place {
    pub output: String,
    /// Empty: the compositor's first.
    pub seat: String,
    /// See [`ipc::Hands::Wlroots`].
    pub focus_key: Option<u32>,
}

enum Stage {
    /// Waiting for the names of outputs and seats.
    Looking {
        keys: Keys,
        keymap: Keymap<OwnedFd>,
        pages: Pages,
    },
    /// Devices are made; the compositor may still refuse them.
    Making {
        devices: Devices,
        made: u64,
    },
    Ready(Devices),
    Failed,
}

struct Devices {
    pointer: Pointer,
    keyboard: Keyboard,
    typist: Typist,
}

impl Wlr {
    /// Begins to make devices at `place` over a connected Wayland `socket` that nobody has spoken on.
    /// [`Inject::ready`] is true when they are made.
    ///
    /// # Errors
    /// `Failed` if the socket or the keymap cannot be used at all.
    pub fn open(
        socket: OwnedFd,
        place: Place,
        keymap: Keymap<OwnedFd>,
        pages: Pages,
        now_ns: u64,
    ) -> Result<Self, InjectError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| InjectError::Failed(format!("{what}: {error}"));
        if keymap.bytes > MAX_KEYMAP {
            return Err(failed("the keymap cannot be used", &"it is larger than 1 MiB"));
        }
        let text = Mapping::read_only(keymap.memory.as_fd(), keymap.bytes as usize)
            .map_err(|error| failed("the keymap cannot be used", &error))?;
        let keys = Keys::new(text.as_slice()).map_err(|error| InjectError::Failed(error.to_string()))?;
        let connection = Connection::from_socket(UnixStream::from(socket))
            .map_err(|error| failed("the Wayland socket cannot be used", &error))?;
        let queue = connection.new_event_queue();
        connection.display().get_registry(&queue.handle(), ());
        let mut this = Self {
            connection,
            queue,
            state: State::default(),
            place,
            stage: Stage::Looking { keys, keymap, pages },
            open_by: now_ns + OPEN_NS,
            synced: 0,
            flush_at: None,
            rest_until: None,
            broken: None,
        };
        this.sync();
        this.flush(now_ns);
        Ok(this)
    }

    /// Asks the compositor to say when it has come this far.
    fn sync(&mut self) -> u64 {
        self.synced += 1;
        self.connection.display().sync(&self.queue.handle(), self.synced);
        self.synced
    }

    /// Reads what the compositor has sent, without waiting.
    fn read(&mut self) -> Result<(), InjectError> {
        self.queue.dispatch_pending(&mut self.state).map_err(broken)?;
        if let Some(guard) = self.connection.prepare_read() {
            match guard.read() {
                Ok(_) => {}
                Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(broken(DispatchError::Backend(error))),
            }
        }
        self.queue.dispatch_pending(&mut self.state).map_err(broken)?;
        Ok(())
    }

    /// The globals that are missing for good, once all are listed.
    fn check_globals(&self) -> Result<(), InjectError> {
        let lacks = |what: &str| {
            Err(InjectError::Failed(format!(
                "the compositor does not offer {what}; sway 1.7 and newer do, and [input] backend = \"uinput\" needs \
                 neither"
            )))
        };
        match (&self.state.pointers, &self.state.keyboards) {
            _ if self.state.answered == 0 => Ok(()),
            (None, _) => lacks("zwlr_virtual_pointer_v1 version 2"),
            (_, None) => lacks("zwp_virtual_keyboard_v1"),
            _ => Ok(()),
        }
    }

    /// Makes the devices once output and seat are known; true if that moved things on.
    fn advance(&mut self, now_ns: u64) -> Result<(), InjectError> {
        self.check_globals()?;
        let late = now_ns >= self.open_by;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Failed) {
            Stage::Looking { keys, keymap, pages } => {
                let (Some(output), Some(seat)) = (self.output(late)?, self.seat(late)?) else {
                    self.stage = Stage::Looking { keys, keymap, pages };
                    return Ok(());
                };
                let (Some(pointers), Some(keyboards)) = (&self.state.pointers, &self.state.keyboards) else {
                    return Err(InjectError::Failed("the compositor does not answer".into()));
                };
                let handle = self.queue.handle();
                let pointer =
                    pointers.create_virtual_pointer_with_output(Some(&seat.proxy), Some(&output.proxy), &handle, ());
                let keyboard = keyboards.create_virtual_keyboard(&seat.proxy, &handle, ());
                let text = keyboards.create_virtual_keyboard(&seat.proxy, &handle, ());
                let devices = Devices {
                    pointer: Pointer::new(pointer),
                    keyboard: Keyboard::new(keyboard, keys, &keymap.memory, keymap.bytes),
                    typist: Typist::new(text, pages, self.place.focus_key, self.synced + 1)?,
                };
                let made = self.sync();
                Stage::Making { devices, made }
            }
            Stage::Making { devices, made } if self.state.answered >= made => Stage::Ready(devices),
            Stage::Making { .. } if late => {
                return Err(InjectError::Failed("the compositor makes no virtual devices".into()));
            }
            stage => stage,
        };
        Ok(())
    }

    fn output(&self, late: bool) -> Result<Option<&Named<wayland_client::protocol::wl_output::WlOutput>>, InjectError> {
        let mut all = self.state.outputs.iter().filter(|output| !output.gone);
        let found = all.clone().find(|output| output.name.as_deref() == Some(&self.place.output));
        match found {
            None if late => Err(missing("output", &self.place.output, all.by_ref().map(|output| &output.name))),
            found => Ok(found),
        }
    }

    fn seat(&self, late: bool) -> Result<Option<&Named<wayland_client::protocol::wl_seat::WlSeat>>, InjectError> {
        let mut all = self.state.seats.iter().filter(|seat| !seat.gone);
        let wanted = |seat: &&Named<_>| self.place.seat.is_empty() || seat.name.as_deref() == Some(&self.place.seat);
        match all.clone().find(wanted) {
            None if late => Err(missing("seat", &self.place.seat, all.by_ref().map(|seat| &seat.name))),
            found => Ok(found),
        }
    }

    /// An output or seat that goes away takes the devices' meaning along.
    fn check_places(&self) -> Result<(), InjectError> {
        if matches!(self.stage, Stage::Looking { .. }) {
            return Ok(());
        }
        for (what, name, there) in [
            ("output", &self.place.output, self.output(false)?.is_some()),
            ("seat", &self.place.seat, self.seat(false)?.is_some()),
        ] {
            if !there {
                return Err(InjectError::Failed(format!("{what} {name} has been removed")));
            }
        }
        Ok(())
    }
}

impl Inject for Wlr {
    fn inject(&mut self, event: &InputEvent, now_ns: u64) -> Injected {
        let Stage::Ready(devices) = &mut self.stage else { return Injected::Unsupported };
        let time_ms = milliseconds(now_ns);
        if let InputEvent::Key { pressed: true, .. }
        | InputEvent::Text(_)
        | InputEvent::Button { pressed: true, .. }
        | InputEvent::Scroll { .. } = event
        {
            devices.typist.call_focus(time_ms);
        }
        match *event {
            InputEvent::Key { code, pressed } => return devices.keyboard.key(time_ms, code, pressed),
            InputEvent::Text(text) => {
                let typed = devices.typist.text(now_ns, text.as_str(), self.state.answered, self.synced + 1);
                return match typed {
                    Ok(injected) => {
                        self.sync();
                        self.rest_until = Some(now_ns + text.as_str().chars().count() as u64 * CHARACTER_NS);
                        injected
                    }
                    Err(error) => {
                        self.broken = Some(error);
                        Injected::Unsupported
                    }
                };
            }
            InputEvent::Motion { dx, dy } => devices.pointer.motion(time_ms, dx, dy),
            InputEvent::Position { x, y } => devices.pointer.position(time_ms, x, y),
            InputEvent::Button { button, pressed } => devices.pointer.button(time_ms, button, pressed),
            InputEvent::Scroll { axis, amount } => devices.pointer.scroll(time_ms, axis, amount),
            InputEvent::Touch { .. }
            | InputEvent::PadArrived { .. }
            | InputEvent::PadRemoved { .. }
            | InputEvent::PadState { .. }
            | InputEvent::Held(_) => return Injected::Unsupported,
        }
        Injected::Done
    }

    /// A full socket is tried again later; a dead one is noticed by the next read, which also knows why it died.
    fn flush(&mut self, now_ns: u64) {
        let full = matches!(self.connection.flush(), Err(WaylandError::Io(error))
            if error.kind() == std::io::ErrorKind::WouldBlock);
        self.flush_at = full.then(|| now_ns + FLUSH_PAUSE_NS);
    }

    /// A compositor that sees a connection hang up does not read what was last said on it.
    fn finish(&mut self, now_ns: u64) -> bool {
        let (last, until) = (self.sync(), now_ns + FINISH_NS);
        loop {
            let now = clock::now_ns();
            self.flush(now);
            let alive = self.read().is_ok();
            let arrived = self.state.answered >= last;
            if !alive || arrived || now >= until {
                return arrived;
            }
            let left = TimeSpec::from_duration(Duration::from_nanos((until - now).min(FLUSH_PAUSE_NS)));
            let readable = PollFd::new(self.connection.as_fd(), PollFlags::POLLIN);
            if !matches!(ppoll(&mut [readable], Some(left), None), Ok(_) | Err(Errno::EINTR)) {
                return false;
            }
        }
    }

    fn fds<'a>(&'a self, fds: &mut Vec<BorrowedFd<'a>>) {
        fds.push(self.connection.as_fd());
    }

    fn deadline(&self) -> Option<u64> {
        let opening = matches!(self.stage, Stage::Looking { .. } | Stage::Making { .. }).then_some(self.open_by);
        [opening, self.flush_at, self.rest_until].into_iter().flatten().min()
    }

    fn dispatch(&mut self, now_ns: u64) -> Result<(), InjectError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        self.rest_until = self.rest_until.filter(|&until| now_ns < until);
        self.read()?;
        self.advance(now_ns)?;
        self.check_places()?;
        self.flush(now_ns);
        Ok(())
    }

    fn ready(&self) -> bool {
        match &self.stage {
            Stage::Ready(devices) => {
                let calm = self.flush_at.is_none() && self.rest_until.is_none();
                let heard = self.synced.saturating_sub(self.state.answered) <= TEXTS_UNDER_WAY;
                calm && heard && devices.typist.ready(self.state.answered)
            }
            _ => false,
        }
    }
}

/// Wayland's times are in milliseconds and wrap.
fn milliseconds(now_ns: u64) -> u32 {
    (now_ns / 1_000_000) as u32
}

fn missing<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a Option<String>>) -> InjectError {
    let known: Vec<_> = known.filter_map(|name| name.as_deref()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    InjectError::Failed(format!("the compositor has no {what} named {name}; it has: {known}"))
}

fn broken(error: DispatchError) -> InjectError {
    match error {
        DispatchError::Backend(WaylandError::Io(error)) => {
            InjectError::Gone(format!("the compositor closed the connection ({error})"))
        }
        DispatchError::Backend(WaylandError::Protocol(error)) => {
            InjectError::Failed(format!("the compositor refused a request: {error}"))
        }
        DispatchError::BadMessage { interface, .. } => {
            InjectError::Failed(format!("the compositor sent a malformed {interface} event"))
        }
    }
}
