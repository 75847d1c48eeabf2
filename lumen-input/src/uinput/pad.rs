//! A gamepad of the kernel's: what the xpad driver makes of an Xbox 360 pad, so that every game knows it.

use std::os::fd::{AsFd, BorrowedFd};

use lumen_core::input::{PadButtons, PadIndex, PadState, Rumble};
use nix::errno::Errno;

use super::codes::*;
use super::device::{Device, Kind};
use super::node::{Bit, Event, Identity, Node, REQUESTS};
use crate::haptics::Effects;
use crate::state::{MAX_EFFECTS, PadsState};

/// How often requests that never reached this plane are looked for: the kernel queues sixteen messages to the owner of
/// a pad and forgets the older ones, while the game behind a forgotten request waits.
const SWEEP_NS: u64 = 500_000_000;

pub struct PadKind;

/// GameStream's bits and their buttons. Paddles, touchpad and the extra button are not on this pad.
const BUTTONS: [(u32, u16); 11] = [
    (PadButtons::A, BTN_A),
    (PadButtons::B, BTN_B),
    (PadButtons::X, BTN_X),
    (PadButtons::Y, BTN_Y),
    (PadButtons::LEFT_BUMPER, BTN_TL),
    (PadButtons::RIGHT_BUMPER, BTN_TR),
    (PadButtons::BACK, BTN_SELECT),
    (PadButtons::START, BTN_START),
    (PadButtons::GUIDE, BTN_MODE),
    (PadButtons::LEFT_STICK, BTN_THUMBL),
    (PadButtons::RIGHT_STICK, BTN_THUMBR),
];

const FORCES: [u16; 9] =
    [FF_RUMBLE, FF_PERIODIC, FF_CONSTANT, FF_SQUARE, FF_TRIANGLE, FF_SINE, FF_SAW_UP, FF_SAW_DOWN, FF_GAIN];

impl Kind for PadKind {
    /// As the xpad driver of a wired pad has it: games choose their button maps by these numbers.
    const IDENTITY: Identity =
        Identity { bus: BUS_USB, vendor: 0x045e, product: 0x028e, version: 0x0110, name: "Microsoft X-Box 360 pad" };
    const EFFECTS: u32 = MAX_EFFECTS as u32;

    fn declare(node: &Node) -> Result<(), Errno> {
        for kind in [EV_KEY, EV_ABS, EV_FF] {
            node.set(Bit::Event, kind)?;
        }
        BUTTONS.into_iter().try_for_each(|(_, button)| node.set(Bit::Key, button))?;
        // No fuzz: the client's own driver has smoothed the sticks already, and states arrive as they were sent.
        for stick in [ABS_X, ABS_Y, ABS_RX, ABS_RY] {
            node.axis(stick, i16::MIN.into(), i16::MAX.into(), 128)?;
        }
        for trigger in [ABS_Z, ABS_RZ] {
            node.axis(trigger, 0, u8::MAX.into(), 0)?;
        }
        for hat in [ABS_HAT0X, ABS_HAT0Y] {
            node.axis(hat, -1, 1, 0)?;
        }
        FORCES.into_iter().try_for_each(|force| node.set(Bit::Force, force))
    }
}

#[derive(Debug)]
pub struct Pad {
    device: Device,
    effects: Effects,
    sweep_ns: u64,
    heard: Vec<Event>,
}

impl Pad {
    /// How an `inherited` one was left is still to be set.
    pub fn new(device: Device, pad: PadIndex, inherited: bool, state: &mut PadsState, now_ns: u64) -> Self {
        let effects = if inherited { Effects::inherited(pad, state, now_ns) } else { Effects::fresh(pad, state) };
        // An heir sweeps at once: a game may wait for an answer that its predecessor owed.
        Self { device, effects, sweep_ns: now_ns, heard: Vec::new() }
    }

    /// The whole state in one report; the kernel passes on what has changed.
    pub fn set(&mut self, state: &PadState) {
        let buttons = state.buttons;
        for (bit, button) in BUTTONS {
            self.device.put(EV_KEY, button, buttons.has(bit).into());
        }
        let hat = |less, more| i32::from(buttons.has(more)) - i32::from(buttons.has(less));
        let ((x, y), (rx, ry)) = (state.left_stick, state.right_stick);
        let axes = [
            (ABS_X, x.into()),
            (ABS_Y, down(y)),
            (ABS_RX, rx.into()),
            (ABS_RY, down(ry)),
            (ABS_Z, state.left_trigger.into()),
            (ABS_RZ, state.right_trigger.into()),
            (ABS_HAT0X, hat(PadButtons::LEFT, PadButtons::RIGHT)),
            (ABS_HAT0Y, hat(PadButtons::UP, PadButtons::DOWN)),
        ];
        for (axis, value) in axes {
            self.device.put(EV_ABS, axis, value);
        }
        self.device.report();
    }

    /// When [`Pad::dispatch`] has something to do.
    pub fn deadline(&self) -> u64 {
        self.effects.deadline().map_or(self.sweep_ns, |due| due.min(self.sweep_ns))
    }

    /// Hears what games want of the pad, answers, and says what the motors now do if that is to be told.
    pub fn dispatch(&mut self, state: &mut PadsState, now_ns: u64) -> Result<Option<Rumble>, Errno> {
        let mut heard = std::mem::take(&mut self.heard);
        let read = self.device.node().read(&mut heard);
        for event in heard.drain(..) {
            self.hear(event, state, now_ns);
        }
        self.heard = heard;
        read?;
        if self.sweep_ns <= now_ns {
            (0..REQUESTS).for_each(|request| {
                self.upload(request, state, now_ns);
                self.erase(request, state, now_ns);
            });
            self.sweep_ns = now_ns.saturating_add(SWEEP_NS);
        }
        Ok(self.effects.tell(now_ns))
    }

    fn hear(&mut self, event: Event, state: &mut PadsState, now_ns: u64) {
        match (event.kind, event.code) {
            (EV_UINPUT, UI_FF_UPLOAD) => self.upload(event.value as u32, state, now_ns),
            (EV_UINPUT, UI_FF_ERASE) => self.erase(event.value as u32, state, now_ns),
            (EV_FF, FF_GAIN) => self.effects.gain(event.value, state, now_ns),
            (EV_FF, effect) => self.effects.play(effect.into(), event.value, state, now_ns),
            _ => {}
        }
    }

    /// Answers an upload, if one of this number waits: a request may have been answered already, by a sweep.
    fn upload(&mut self, request: u32, state: &mut PadsState, now_ns: u64) {
        if let Ok(upload) = self.device.node().begin_upload(request) {
            let stored = self.effects.upload(upload.effect(), state, now_ns);
            // It can only fail if nobody waits any more.
            let _ = self.device.node().end_upload(upload, stored);
        }
    }

    fn erase(&mut self, request: u32, state: &mut PadsState, now_ns: u64) {
        if let Ok(erase) = self.device.node().begin_erase(request) {
            self.effects.erase(erase.effect() as usize, state, now_ns);
            let _ = self.device.node().end_erase(erase);
        }
    }

    /// Stillness to tell, if the motors ran.
    pub fn hush(&mut self) -> Option<Rumble> {
        self.effects.hush()
    }

    /// Unplugs the pad: its readers see it go.
    pub fn destroy(self) -> Result<(), Errno> {
        self.device.node().destroy()
    }
}

impl AsFd for Pad {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// Up is positive for clients and negative for the kernel. Rest stays rest: the axis' longer end is cut instead.
fn down(y: i16) -> i32 {
    (-i32::from(y)).min(i16::MAX.into())
}
