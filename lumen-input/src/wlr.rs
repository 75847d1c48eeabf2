//! A wlroots compositor: `zwlr_virtual_pointer_v1` and `zwp_virtual_keyboard_v1` on the session's own seat and output.
//!
//! The Wayland socket is handed over connected; nothing here opens anything. lumend has it too, so that the compositor
//! does not notice when a plane dies: its heir goes on with the same devices ([`DeskState`]), and what they hold down
//! stays down. Where there is no such connection, the compositor has lifted the keys of the keyboard that went away, but
//! not the buttons of the pointer: those are released on its successor.

mod keyboard;
mod pointer;
mod protocol;
mod wire;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use ipc::Keymap;
use ipc::event as clock;
use ipc::shm::Mapping;
use lumen_core::InputEvent;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::inject::{Inject, InjectError, Injected};
use crate::keymap::Keys;
use crate::state::{DeskState, Objects};
use keyboard::{Keyboard, Typist};
use pointer::Pointer;
use protocol::{Named, State};
use wire::{Requests, Socket};

pub use keyboard::Pages;

/// How long the compositor may take to list its outputs and seats and to make the devices.
const OPEN_NS: u64 = 2_000_000_000;
/// When to try again to hand requests to a compositor whose socket is full.
const FLUSH_PAUSE_NS: u64 = 2_000_000;
/// When to look for the other half of a message.
const HALF_PAUSE_NS: u64 = 1_000_000;
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
    socket: Socket,
    requests: Requests,
    state: State,
    kept: DeskState,
    place: Place,
    stage: Stage,
    /// The connection was a dead plane's.
    inherited: bool,
    /// When opening has taken too long.
    open_by: u64,
    /// The socket was full; flush again at this time.
    flush_at: Option<u64>,
    /// Nothing is injected before this, so that a window can read what was typed.
    rest_until: Option<u64>,
    /// When to look for the other half of a message.
    half_until: Option<u64>,
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
        objects: Objects,
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
    /// Begins to make devices at `place` over a connected Wayland `socket` that nobody has spoken on, or goes on with
    /// those that a dead plane has made on an `inherited` one. [`Inject::ready`] is true when they are there.
    ///
    /// # Errors
    /// `Failed` if the keymap cannot be used at all; `Gone` if there are no devices to go on with.
    pub fn open(
        (socket, inherited): (OwnedFd, bool),
        place: Place,
        keymap: Keymap<OwnedFd>,
        pages: Pages,
        mut kept: DeskState,
        now_ns: u64,
    ) -> Result<Self, InjectError> {
        let failed = |what: &str, error: &dyn std::fmt::Display| InjectError::Failed(format!("{what}: {error}"));
        if keymap.bytes > MAX_KEYMAP {
            return Err(failed("the keymap cannot be used", &"it is larger than 1 MiB"));
        }
        let text = Mapping::read_only(keymap.memory.as_fd(), keymap.bytes as usize)
            .map_err(|error| failed("the keymap cannot be used", &error))?;
        let keys = Keys::new(text.as_slice()).map_err(|error| InjectError::Failed(error.to_string()))?;
        let mut requests = Requests::default();
        let (state, stage) = if inherited {
            let none = || InjectError::Gone("a dead plane has left no devices".into());
            let objects = kept.devices().ok_or_else(none)?;
            let state = State::inherit(objects, &place.output, &place.seat, &kept);
            if state.syncs.are_spent() {
                return Err(InjectError::Gone("too many planes have died on this connection".into()));
            }
            let devices = Devices {
                pointer: Pointer::new(objects.pointer),
                keyboard: Keyboard::inherit(objects.keyboard, keys, &kept),
                typist: Typist::inherit(objects.typist, pages, place.focus_key),
            };
            (state, Stage::Ready(devices))
        } else {
            (State::ask(&mut requests, &mut kept), Stage::Looking { keys, keymap, pages })
        };
        let mut this = Self {
            socket: Socket::new(socket),
            requests,
            state,
            kept,
            place,
            stage,
            inherited,
            open_by: now_ns + OPEN_NS,
            flush_at: None,
            rest_until: None,
            half_until: None,
            broken: None,
        };
        this.flush(now_ns);
        Ok(this)
    }

    /// Asks the compositor to say when it has come this far.
    fn sync(&mut self) -> u64 {
        self.state.syncs.ask(&mut self.requests, &mut self.kept)
    }

    /// Reads what the compositor has sent, without waiting. A connection that a dead plane has left in disorder is as
    /// good as gone.
    fn read(&mut self, now_ns: u64) -> Result<(), InjectError> {
        let (state, requests, kept) = (&mut self.state, &mut self.requests, &mut self.kept);
        self.socket.read(now_ns, |event| state.hear(event, requests, kept)).map_err(|error| match error {
            InjectError::Failed(reason) if self.inherited => InjectError::Gone(reason),
            error => error,
        })
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
            _ if self.state.syncs.numbers().1 == 0 || !matches!(self.stage, Stage::Looking { .. }) => Ok(()),
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
                let Some(objects) = self.state.make(&mut self.requests, seat, output) else {
                    return Err(InjectError::Failed("the compositor does not answer".into()));
                };
                let (requests, next_sync) = (&mut self.requests, self.state.syncs.numbers().0 + 1);
                let Keymap { memory, bytes } = keymap;
                let devices = Devices {
                    pointer: Pointer::new(objects.pointer),
                    keyboard: Keyboard::new(requests, objects.keyboard, keys, memory, bytes),
                    typist: Typist::new(requests, objects.typist, pages, self.place.focus_key, next_sync)?,
                };
                let made = self.sync();
                Stage::Making { devices, objects, made }
            }
            Stage::Making { devices, objects, made } if self.state.syncs.numbers().1 >= made => {
                self.kept.made(objects);
                Stage::Ready(devices)
            }
            Stage::Making { .. } if late => {
                return Err(InjectError::Failed("the compositor makes no virtual devices".into()));
            }
            stage => stage,
        };
        Ok(())
    }

    /// Where the output is in the list.
    fn output(&self, late: bool) -> Result<Option<usize>, InjectError> {
        let wanted = |output: &Named| !output.gone && output.name.as_deref() == Some(&self.place.output);
        match self.state.outputs.iter().position(wanted) {
            None if late => Err(missing("output", &self.place.output, &self.state.outputs)),
            found => Ok(found),
        }
    }

    fn seat(&self, late: bool) -> Result<Option<usize>, InjectError> {
        let name = &self.place.seat;
        let wanted = |seat: &Named| !seat.gone && (name.is_empty() || seat.name.as_ref() == Some(name));
        match self.state.seats.iter().position(wanted) {
            None if late => Err(missing("seat", name, &self.state.seats)),
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
        let (requests, time_ms) = (&mut self.requests, milliseconds(now_ns));
        if let InputEvent::Key { pressed: true, .. }
        | InputEvent::Text(_)
        | InputEvent::Button { pressed: true, .. }
        | InputEvent::Scroll { .. } = event
        {
            devices.typist.call_focus(requests, time_ms);
        }
        match *event {
            InputEvent::Key { code, pressed } => {
                return devices.keyboard.key(requests, &mut self.kept, time_ms, code, pressed);
            }
            InputEvent::Text(text) => {
                let (asked, answered) = self.state.syncs.numbers();
                let typed = devices.typist.text(requests, now_ns, text.as_str(), (answered, asked + 1));
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
            InputEvent::Motion { dx, dy } => devices.pointer.motion(requests, time_ms, dx, dy),
            InputEvent::Position { x, y } => devices.pointer.position(requests, time_ms, x, y),
            InputEvent::Button { button, pressed } => {
                devices.pointer.button(requests, time_ms, button, pressed);
            }
            InputEvent::Scroll { axis, amount } => devices.pointer.scroll(requests, time_ms, axis, amount),
            InputEvent::Touch { .. }
            | InputEvent::PadArrived { .. }
            | InputEvent::PadRemoved { .. }
            | InputEvent::PadState { .. }
            | InputEvent::Held(_) => return Injected::Unsupported,
        }
        Injected::Done
    }

    /// A full socket is tried again later.
    fn flush(&mut self, now_ns: u64) {
        self.flush_at = (!self.socket.flush(&mut self.requests)).then(|| now_ns + FLUSH_PAUSE_NS);
    }

    /// Keys stay down on a keyboard that stays, and so do buttons. Contacts are no business of this backend.
    fn adopt(&mut self, release: &InputEvent) -> bool {
        match (&mut self.stage, release) {
            (Stage::Ready(devices), InputEvent::Key { code, .. }) if self.inherited => devices.keyboard.adopt(*code),
            (Stage::Ready(_), InputEvent::Button { .. }) => self.inherited,
            _ => false,
        }
    }

    /// A compositor that sees a connection hang up does not read what was last said on it. The devices go as well,
    /// whoever else has the connection.
    fn finish(&mut self, now_ns: u64) -> bool {
        self.kept.forget();
        if let Stage::Ready(devices) | Stage::Making { devices, .. } = &self.stage {
            devices.pointer.destroy(&mut self.requests);
            devices.keyboard.destroy(&mut self.requests);
            devices.typist.destroy(&mut self.requests);
        }
        self.stage = Stage::Failed;
        let (last, until) = (self.sync(), now_ns + FINISH_NS);
        loop {
            let now = clock::now_ns();
            self.flush(now);
            let alive = self.read(now).is_ok();
            let arrived = self.state.syncs.numbers().1 >= last;
            if !alive || arrived || now >= until {
                return arrived;
            }
            let left = TimeSpec::from_duration(Duration::from_nanos((until - now).min(FLUSH_PAUSE_NS)));
            let readable = PollFd::new(self.socket.as_fd(), PollFlags::POLLIN);
            if !matches!(ppoll(&mut [readable], Some(left), None), Ok(_) | Err(Errno::EINTR)) {
                return false;
            }
        }
    }

    fn fds<'a>(&'a self, fds: &mut Vec<BorrowedFd<'a>>) {
        if self.half_until.is_none() {
            fds.push(self.socket.as_fd());
        }
    }

    fn deadline(&self) -> Option<u64> {
        let opening = matches!(self.stage, Stage::Looking { .. } | Stage::Making { .. }).then_some(self.open_by);
        [opening, self.flush_at, self.rest_until, self.half_until].into_iter().flatten().min()
    }

    fn dispatch(&mut self, now_ns: u64) -> Result<(), InjectError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        self.rest_until = self.rest_until.filter(|&until| now_ns < until);
        self.read(now_ns)?;
        self.half_until = self.socket.has_half().then(|| now_ns + HALF_PAUSE_NS);
        self.advance(now_ns)?;
        self.check_places()?;
        self.flush(now_ns);
        Ok(())
    }

    fn ready(&self) -> bool {
        match &self.stage {
            Stage::Ready(devices) => {
                let calm = self.flush_at.is_none() && self.rest_until.is_none();
                let (asked, answered) = self.state.syncs.numbers();
                calm && asked.saturating_sub(answered) <= TEXTS_UNDER_WAY && devices.typist.ready(answered)
            }
            _ => false,
        }
    }
}

/// Wayland's times are in milliseconds and wrap.
fn milliseconds(now_ns: u64) -> u32 {
    (now_ns / 1_000_000) as u32
}

fn missing(what: &str, name: &str, all: &[Named]) -> InjectError {
    let known: Vec<_> = all.iter().filter(|named| !named.gone).filter_map(|named| named.name.as_deref()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    InjectError::Failed(format!("the compositor has no {what} named {name}; it has: {known}"))
}
