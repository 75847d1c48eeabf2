//! The kernel's devices: gamepads always, and keyboard, mouse and touch screen where no compositor offers a protocol.
//!
//! This plane never opens /dev/uinput. It asks lumend for a descriptor ([`Request::Want`]), makes the device of it, and
//! lumend keeps a copy: the device outlives this process, and the heir finds it where it was. lumend forgets it when
//! told so ([`Request::Dropped`]), or with the session.

pub mod codes;
mod device;
mod hands;
pub mod node;
mod pad;

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc::{DeviceId, Kept, SessionId};
use lumen_core::InputEvent;
use lumen_core::input::{MAX_PADS, PadIndex, PadState, Rumble};

use self::device::{Device, NoDevice};
use self::hands::{KeyboardKind, Mouse, MouseKind, Touch, TouchKind};
use self::pad::{Pad, PadKind};
use crate::inject::{Inject, InjectError, Injected};
use crate::state::PadsState;

/// A pad that went may come back under its number after this long: making and removing a device is work for the whole
/// desktop, and a client may ask for it as fast as it can send.
const COOL_NS: u64 = 250_000_000;

/// What lumend is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// [`ipc::FromInput::Want`]
    Want(DeviceId),
    /// [`ipc::FromInput::Dropped`]
    Dropped(DeviceId),
}

/// A device on its way: asked for, made, or refused.
#[derive(Debug)]
enum Slot<T> {
    Unwanted,
    Asked,
    Refused,
    Live(T),
}

impl<T> Slot<T> {
    fn live(&mut self) -> Option<&mut T> {
        if let Self::Live(device) = self { Some(device) } else { None }
    }

    fn is_asked(&self) -> bool {
        matches!(self, Self::Asked)
    }
}

/// One of the sixteen places for a pad.
#[derive(Debug)]
enum Socket {
    /// Nothing before this time.
    Empty {
        cool_ns: u64,
    },
    /// There was no device for it: it is not asked for again, but by a client that says that it arrives. Not before this
    /// time.
    Refused {
        cool_ns: u64,
    },
    /// It has arrived and its device will be asked for at this time.
    Cooling {
        until_ns: u64,
        state: PadState,
    },
    /// The newest state waits for the device.
    Asked {
        state: PadState,
    },
    /// It was removed before its device came.
    Abandoned,
    Live(Box<Pad>),
}

/// The backend.
#[derive(Debug)]
pub struct Uinput {
    session: SessionId,
    keyboard: Slot<Device>,
    mouse: Slot<Mouse>,
    touch: Slot<Touch>,
    /// A plane before this one has made the keyboard, the mouse, and may hold something down on them.
    inherited: (bool, bool),
    pads: [Socket; MAX_PADS as usize],
    state: PadsState,
    requests: VecDeque<Request>,
    rumbles: VecDeque<Rumble>,
    failed: Option<String>,
}

impl Uinput {
    /// Takes over the devices that a plane before this one has made, and asks for those that are missing: with
    /// `hands`, keyboard, mouse and touch screen; pads when they arrive.
    pub fn new(session: SessionId, kept: Vec<Kept<OwnedFd>>, state: PadsState, hands: bool, now_ns: u64) -> Self {
        let mut uinput = Self {
            session,
            keyboard: if hands { Slot::Asked } else { Slot::Unwanted },
            mouse: if hands { Slot::Asked } else { Slot::Unwanted },
            touch: if hands { Slot::Asked } else { Slot::Unwanted },
            inherited: (false, false),
            pads: std::array::from_fn(|_| Socket::Empty { cool_ns: 0 }),
            state,
            requests: VecDeque::new(),
            rumbles: VecDeque::new(),
            failed: None,
        };
        for Kept { device, fd } in kept {
            if let DeviceId::Pad(pad) = device {
                let state = uinput.state.held(pad);
                *uinput.socket(pad) = Socket::Asked { state };
            }
            uinput.device(device, Some(fd), now_ns);
        }
        let wanted = [
            (uinput.keyboard.is_asked(), DeviceId::Keyboard),
            (uinput.mouse.is_asked(), DeviceId::Mouse),
            (uinput.touch.is_asked(), DeviceId::Touch),
        ];
        uinput.requests.extend(wanted.into_iter().filter(|(asked, _)| *asked).map(|(_, device)| Request::Want(device)));
        uinput
    }

    /// lumend's answer to a [`Request::Want`].
    pub fn device(&mut self, device: DeviceId, fd: Option<OwnedFd>, now_ns: u64) {
        match (fd, self.expects(device)) {
            (Some(fd), true) => {
                if let Err(error) = self.plug(device, fd, now_ns) {
                    self.refuse(device, error.to_string(), now_ns);
                    self.requests.push_back(Request::Dropped(device));
                }
            }
            (None, true) => {
                let reason = format!("there is no /dev/uinput for the {device}; lumend's log says why");
                self.refuse(device, reason, now_ns);
            }
            (fd, false) => {
                if fd.is_some() {
                    self.requests.push_back(Request::Dropped(device));
                }
                if let DeviceId::Pad(pad) = device
                    && matches!(self.socket(pad), Socket::Abandoned)
                {
                    *self.socket(pad) = Socket::Empty { cool_ns: now_ns.saturating_add(COOL_NS) };
                }
            }
        }
    }

    fn expects(&mut self, device: DeviceId) -> bool {
        match device {
            DeviceId::Keyboard => self.keyboard.is_asked(),
            DeviceId::Mouse => self.mouse.is_asked(),
            DeviceId::Touch => self.touch.is_asked(),
            DeviceId::Pad(pad) => matches!(self.socket(pad), Socket::Asked { .. }),
        }
    }

    fn plug(&mut self, device: DeviceId, fd: OwnedFd, now_ns: u64) -> Result<(), NoDevice> {
        let session = self.session;
        match device {
            DeviceId::Keyboard => {
                let (made, inherited) = Device::open::<KeyboardKind>(fd, session, device)?;
                self.keyboard = Slot::Live(made);
                self.inherited.0 = inherited;
            }
            DeviceId::Mouse => {
                let (made, inherited) = Device::open::<MouseKind>(fd, session, device)?;
                self.mouse = Slot::Live(Mouse::new(made));
                self.inherited.1 = inherited;
            }
            DeviceId::Touch => {
                let (made, inherited) = Device::open::<TouchKind>(fd, session, device)?;
                self.touch = Slot::Live(Touch::new(made, inherited));
            }
            DeviceId::Pad(index) => {
                let (made, inherited) = Device::open::<PadKind>(fd, session, device)?;
                let mut pad = Pad::new(made, index, inherited, &mut self.state, now_ns);
                if let Socket::Asked { state } = *self.socket(index) {
                    // A new pad's memory has just been cleared.
                    self.state.hold(index, &state);
                    // The kernel passes on what an inherited one has not yet.
                    if inherited || state != PadState::default() {
                        pad.set(&state);
                    }
                }
                *self.socket(index) = Socket::Live(Box::new(pad));
            }
        }
        Ok(())
    }

    fn refuse(&mut self, device: DeviceId, reason: String, now_ns: u64) {
        match device {
            DeviceId::Keyboard => self.keyboard = Slot::Refused,
            DeviceId::Mouse => self.mouse = Slot::Refused,
            DeviceId::Touch => self.touch = Slot::Refused,
            DeviceId::Pad(pad) => *self.socket(pad) = Socket::Refused { cool_ns: now_ns.saturating_add(COOL_NS) },
        }
        if matches!(device, DeviceId::Keyboard | DeviceId::Mouse) {
            self.failed = Some(reason);
        }
    }

    /// What to send to lumend now, in this order.
    pub fn requests(&mut self) -> impl Iterator<Item = Request> + '_ {
        self.requests.drain(..)
    }

    /// True once there is a touch screen.
    pub fn has_touch(&self) -> bool {
        matches!(self.touch, Slot::Live(_))
    }

    /// Pads that are plugged in.
    pub fn pads(&self) -> u32 {
        self.pads.iter().filter(|socket| matches!(socket, Socket::Live(_))).count() as u32
    }

    /// What clients are to be told of motors now: changes, and the same once more.
    pub fn rumbles(&mut self) -> impl Iterator<Item = Rumble> + '_ {
        self.rumbles.drain(..)
    }

    /// Lets go of every pad's buttons and sticks: the client may not use pads any more.
    pub fn rest(&mut self) {
        self.state.rest();
        for socket in &mut self.pads {
            match socket {
                Socket::Live(pad) => pad.set(&PadState::default()),
                Socket::Asked { state } | Socket::Cooling { state, .. } => *state = PadState::default(),
                Socket::Empty { .. } | Socket::Refused { .. } | Socket::Abandoned => {}
            }
        }
    }

    /// Stops every motor: the session ends. [`Uinput::rumbles`] has what clients are to be told.
    pub fn hush(&mut self) {
        for socket in &mut self.pads {
            if let Socket::Live(pad) = socket {
                self.rumbles.extend(pad.hush());
            }
        }
    }

    fn socket(&mut self, pad: PadIndex) -> &mut Socket {
        // A PadIndex is below MAX_PADS.
        &mut self.pads[usize::from(pad.get())]
    }

    fn arrive(&mut self, index: PadIndex, now_ns: u64) -> Injected {
        match *self.socket(index) {
            Socket::Empty { cool_ns } | Socket::Refused { cool_ns } if now_ns < cool_ns => {
                *self.socket(index) = Socket::Cooling { until_ns: cool_ns, state: PadState::default() };
            }
            Socket::Empty { .. } | Socket::Refused { .. } => self.ask(index, PadState::default()),
            // Its device is still on its way.
            Socket::Abandoned => *self.socket(index) = Socket::Asked { state: PadState::default() },
            // Already there: a client that joins again says so again.
            Socket::Cooling { .. } | Socket::Asked { .. } | Socket::Live(_) => {}
        }
        Injected::Done
    }

    fn ask(&mut self, index: PadIndex, state: PadState) {
        *self.socket(index) = Socket::Asked { state };
        self.requests.push_back(Request::Want(DeviceId::Pad(index)));
    }

    fn remove(&mut self, index: PadIndex, now_ns: u64) -> Injected {
        self.state.clear(index);
        let empty = Socket::Empty { cool_ns: now_ns.saturating_add(COOL_NS) };
        match std::mem::replace(self.socket(index), empty) {
            Socket::Empty { cool_ns } | Socket::Refused { cool_ns } => {
                *self.socket(index) = Socket::Empty { cool_ns };
                return Injected::Unsupported;
            }
            Socket::Asked { .. } | Socket::Abandoned => *self.socket(index) = Socket::Abandoned,
            Socket::Cooling { until_ns, .. } => *self.socket(index) = Socket::Empty { cool_ns: until_ns },
            Socket::Live(mut pad) => {
                self.rumbles.extend(pad.hush());
                // If it could not be destroyed, it goes with lumend's copy of the descriptor.
                let _ = pad.destroy();
                self.requests.push_back(Request::Dropped(DeviceId::Pad(index)));
            }
        }
        Injected::Done
    }

    fn pad_state(&mut self, index: PadIndex, new: PadState, now_ns: u64) -> Injected {
        if matches!(self.socket(index), Socket::Refused { .. }) {
            return Injected::Unsupported;
        }
        // One that has not arrived does so now; or has, and its plane died before the device was there.
        self.arrive(index, now_ns);
        self.state.hold(index, &new);
        // An index is below MAX_PADS.
        let socket = &mut self.pads[usize::from(index.get())];
        match socket {
            Socket::Live(pad) => pad.set(&new),
            Socket::Asked { state } | Socket::Cooling { state, .. } => *state = new,
            Socket::Empty { .. } | Socket::Refused { .. } | Socket::Abandoned => {}
        }
        Injected::Done
    }
}

impl Inject for Uinput {
    fn inject(&mut self, event: &InputEvent, now_ns: u64) -> Injected {
        let done = match *event {
            InputEvent::PadArrived { pad, .. } => return self.arrive(pad, now_ns),
            InputEvent::PadRemoved { pad } => return self.remove(pad, now_ns),
            InputEvent::PadState { pad, state } => return self.pad_state(pad, state, now_ns),
            InputEvent::Key { code, pressed } => {
                self.keyboard.live().is_some_and(|keyboard| hands::key(keyboard, code, pressed))
            }
            InputEvent::Touch { contact, phase, x, y, pressure } => {
                self.touch.live().is_some_and(|touch| touch.contact(contact, phase, (x, y), pressure))
            }
            InputEvent::Motion { dx, dy } => self.mouse.live().map(|mouse| mouse.step(dx, dy)).is_some(),
            InputEvent::Position { x, y } => self.mouse.live().map(|mouse| mouse.go(x, y)).is_some(),
            InputEvent::Button { button, pressed } => {
                self.mouse.live().map(|mouse| mouse.button(button, pressed)).is_some()
            }
            InputEvent::Scroll { axis, amount } => self.mouse.live().map(|mouse| mouse.scroll(axis, amount)).is_some(),
            // A keyboard of the kernel's has keys and no letters: those are the desktop's keymap's.
            InputEvent::Text(_) | InputEvent::Held(_) => false,
        };
        if done { Injected::Done } else { Injected::Unsupported }
    }

    /// Every event is a report of its own, which the kernel has when `inject` returns.
    fn flush(&mut self, _now_ns: u64) {}

    /// What is down on a device that stays is down still. One that is not a plane's to hold, a key that its keyboard has
    /// not, was never pressed.
    fn adopt(&mut self, release: &InputEvent) -> bool {
        match *release {
            InputEvent::Key { .. } => self.inherited.0,
            InputEvent::Button { .. } => self.inherited.1,
            InputEvent::Touch { contact, .. } => self.touch.live().is_some_and(|touch| touch.adopt(contact)),
            _ => false,
        }
    }

    fn fds<'a>(&'a self, fds: &mut Vec<BorrowedFd<'a>>) {
        // Nobody has anything to say to keyboard, mouse and touch screen.
        fds.extend(self.pads.iter().filter_map(|socket| match socket {
            Socket::Live(pad) => Some(pad.as_fd()),
            _ => None,
        }));
    }

    fn deadline(&self) -> Option<u64> {
        let each = self.pads.iter().filter_map(|socket| match socket {
            Socket::Live(pad) => Some(pad.deadline()),
            Socket::Cooling { until_ns, .. } => Some(*until_ns),
            _ => None,
        });
        each.min()
    }

    fn dispatch(&mut self, now_ns: u64) -> Result<(), InjectError> {
        for index in (0..MAX_PADS).filter_map(PadIndex::new) {
            match &mut self.pads[usize::from(index.get())] {
                Socket::Live(pad) => match pad.dispatch(&mut self.state, now_ns) {
                    Ok(rumble) => self.rumbles.extend(rumble),
                    // Somebody has taken the device away; the client may plug in another.
                    Err(_) => drop(self.remove(index, now_ns)),
                },
                Socket::Cooling { until_ns, state } if *until_ns <= now_ns => {
                    let state = *state;
                    self.ask(index, state);
                }
                _ => {}
            }
        }
        self.failed.take().map_or(Ok(()), |reason| Err(InjectError::Failed(reason)))
    }

    /// False until lumend has answered for keyboard, mouse and touch screen.
    fn ready(&self) -> bool {
        !self.keyboard.is_asked() && !self.mouse.is_asked() && !self.touch.is_asked()
    }
}
