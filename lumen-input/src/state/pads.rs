//! What outlives the plane of gamepads. Any bytes at all are a state of a pad, so that there is nothing in them to be refused.

use std::os::fd::BorrowedFd;

use ipc::STATE_BYTES;
use ipc::shm::ShmError;
use lumen_core::input::{MAX_PADS, PadButtons, PadIndex, PadState};

use super::{Memory, PAD_BYTES, PADS};

const GAIN_TOLD: usize = 0;
const GAIN: usize = 2;
const SLOT: usize = 8;
/// Of the first state, and from there to the second.
const STATES: usize = 16;
const EFFECTS: usize = 64;

/// Effects that a pad stores.
pub const MAX_EFFECTS: usize = 16;
/// Bytes of one effect in the kept memory.
pub const EFFECT_BYTES: usize = 64;
/// Bytes of a state.
const STATE: usize = 14;

const _: () = assert!(PADS + MAX_PADS as usize * PAD_BYTES <= STATE_BYTES);
const _: () = assert!(STATES + 2 * STATES <= EFFECTS && STATE <= STATES);
const _: () = assert!(EFFECTS + MAX_EFFECTS * EFFECT_BYTES <= PAD_BYTES);

/// Pads: how they were left, and what their readers have uploaded and started of force feedback.
#[derive(Debug)]
pub struct PadsState(Memory);

impl PadsState {
    /// As [`HeldState::attach`](super::HeldState::attach); both may be had of the same memory.
    ///
    /// # Errors
    /// The memory is not what lumend makes.
    pub fn attach(state: BorrowedFd<'_>) -> Result<Self, ShmError> {
        Memory::attach(state).map(Self)
    }

    /// The gain that was told, if one was.
    pub fn gain(&self, pad: PadIndex) -> Option<u16> {
        let [told] = self.0.get(base(pad) + GAIN_TOLD);
        (told == 1).then(|| u16::from_le_bytes(self.0.get(base(pad) + GAIN)))
    }

    pub fn set_gain(&mut self, pad: PadIndex, gain: u16) {
        self.0.set(base(pad) + GAIN, &gain.to_le_bytes());
        self.0.set(base(pad) + GAIN_TOLD, &[1]);
    }

    /// The record of an effect; its meaning is [`crate::haptics::effect`]'s.
    pub fn effect(&self, pad: PadIndex, effect: usize) -> [u8; EFFECT_BYTES] {
        if effect < MAX_EFFECTS { self.0.get(base(pad) + EFFECTS + effect * EFFECT_BYTES) } else { [0; EFFECT_BYTES] }
    }

    /// Writes a record so that a plane killed on the way leaves none rather than half a one: its first byte says
    /// whether it counts.
    pub fn set_effect(&mut self, pad: PadIndex, effect: usize, record: &[u8; EFFECT_BYTES]) {
        if effect < MAX_EFFECTS {
            let at = base(pad) + EFFECTS + effect * EFFECT_BYTES;
            self.0.set(at, &[0]);
            super::order();
            self.0.set(at + 1, &record[1..]);
            super::order();
            self.0.set(at, &record[..1]);
        }
    }

    /// What is down and where sticks and triggers are.
    pub fn held(&self, pad: PadIndex) -> PadState {
        let [slot] = self.0.get(base(pad) + SLOT);
        match slot {
            1 | 2 => decode(self.0.get(slot_at(pad, slot))),
            _ => PadState::default(),
        }
    }

    /// Notes a state, all of it or nothing. Call it before the state is injected: an heir then sets it, whether that had
    /// been done or not.
    pub fn hold(&mut self, pad: PadIndex, state: &PadState) {
        let [slot] = self.0.get(base(pad) + SLOT);
        let other = if slot == 1 { 2 } else { 1 };
        self.0.set(slot_at(pad, other), &encode(state));
        super::order();
        self.0.set(base(pad) + SLOT, &[other]);
    }

    /// Notes that all pads rest.
    pub fn rest(&mut self) {
        (0..MAX_PADS).filter_map(PadIndex::new).for_each(|pad| self.hold(pad, &PadState::default()));
    }

    /// Forgets a pad.
    pub fn clear(&mut self, pad: PadIndex) {
        self.0.set(base(pad), &[0; PAD_BYTES]);
    }
}

fn base(pad: PadIndex) -> usize {
    PADS + usize::from(pad.get()) * PAD_BYTES
}

/// `slot`: 1 or 2.
fn slot_at(pad: PadIndex, slot: u8) -> usize {
    base(pad) + STATES * usize::from(slot)
}

fn encode(state: &PadState) -> [u8; STATE] {
    let ((x, y), (rx, ry)) = (state.left_stick, state.right_stick);
    let ([a, b, c, d], [x0, x1], [y0, y1]) = (state.buttons.bits().to_le_bytes(), x.to_le_bytes(), y.to_le_bytes());
    let ([rx0, rx1], [ry0, ry1]) = (rx.to_le_bytes(), ry.to_le_bytes());
    [a, b, c, d, state.left_trigger, state.right_trigger, x0, x1, y0, y1, rx0, rx1, ry0, ry1]
}

fn decode(bytes: [u8; STATE]) -> PadState {
    let [a, b, c, d, left_trigger, right_trigger, x0, x1, y0, y1, rx0, rx1, ry0, ry1] = bytes;
    let stick = |x, y| (i16::from_le_bytes(x), i16::from_le_bytes(y));
    PadState {
        buttons: PadButtons::new(u32::from_le_bytes([a, b, c, d])),
        left_trigger,
        right_trigger,
        left_stick: stick([x0, x1], [y0, y1]),
        right_stick: stick([rx0, rx1], [ry0, ry1]),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use ipc::shm::{Mapping, sealed_memfd};

    use super::super::HeldState;
    use super::*;

    #[test]
    fn pads_do_not_touch_each_other() {
        let memory = sealed_memfd("state", STATE_BYTES).unwrap();
        let mut state = PadsState::attach(memory.as_fd()).unwrap();
        let pads = || (0..MAX_PADS).filter_map(PadIndex::new);
        for pad in pads() {
            assert_eq!(state.gain(pad), None);
            state.set_gain(pad, pad.get().into());
            state.set_effect(pad, MAX_EFFECTS - 1, &[pad.get() + 1; EFFECT_BYTES]);
            state.set_effect(pad, MAX_EFFECTS, &[0xEE; EFFECT_BYTES]);
        }
        let heir = PadsState::attach(memory.as_fd()).unwrap();
        for pad in pads() {
            assert_eq!(heir.gain(pad), Some(pad.get().into()));
            assert_eq!(heir.effect(pad, MAX_EFFECTS - 1), [pad.get() + 1; EFFECT_BYTES]);
            assert_eq!(heir.effect(pad, 0), [0; EFFECT_BYTES]);
        }
        state.clear(PadIndex::new(3).unwrap());
        assert_eq!(heir.gain(PadIndex::new(3).unwrap()), None);
        assert_eq!(heir.gain(PadIndex::new(4).unwrap()), Some(4));
        assert!(HeldState::attach(memory.as_fd()).unwrap().lift().is_empty());
    }

    #[test]
    fn an_heir_finds_each_pad_as_it_was_left() {
        let memory = sealed_memfd("state", STATE_BYTES).unwrap();
        let mut state = PadsState::attach(memory.as_fd()).unwrap();
        let (first, last) = (PadIndex::new(0).unwrap(), PadIndex::new(MAX_PADS - 1).unwrap());
        assert_eq!(state.held(first), PadState::default());
        let held = |trigger| PadState {
            buttons: PadButtons::new(PadButtons::KNOWN),
            left_trigger: trigger,
            right_trigger: 2,
            left_stick: (i16::MIN, 3),
            right_stick: (-4, i16::MAX),
        };
        for trigger in 1..=3 {
            state.hold(last, &held(trigger));
            state.set_effect(last, 0, &[1; EFFECT_BYTES]);
            let heir = PadsState::attach(memory.as_fd()).unwrap();
            assert_eq!((heir.held(last), heir.held(first)), (held(trigger), PadState::default()));
            assert_eq!(heir.effect(last, 0), [1; EFFECT_BYTES]);
        }
        state.rest();
        assert_eq!(state.held(last), PadState::default());
        state.hold(last, &held(1));
        state.clear(last);
        assert_eq!(state.held(last), PadState::default());
    }

    /// A plane that dies while it notes a state has written some first part of it, and leaves the one before.
    #[test]
    fn half_a_state_is_none() {
        let memory = sealed_memfd("state", STATE_BYTES).unwrap();
        let mut state = PadsState::attach(memory.as_fd()).unwrap();
        let pad = PadIndex::new(5).unwrap();
        let mut raw = Mapping::read_write(memory.as_fd(), STATE_BYTES).unwrap();
        let all = |state: &mut Mapping| state.as_mut_slice().unwrap().to_vec();
        let states = [1, 2, 3].map(|left_trigger| PadState { left_trigger, right_trigger: 9, ..PadState::default() });
        for (before, after) in states.iter().zip(&states[1..]) {
            state.hold(pad, before);
            let old = all(&mut raw);
            state.hold(pad, after);
            let slot = base(pad) + SLOT;
            let changed: Vec<_> = (0..STATE_BYTES).filter(|&at| old[at] != all(&mut raw)[at] && at != slot).collect();
            for count in 0..=changed.len() {
                let new = all(&mut raw);
                raw.as_mut_slice().unwrap()[slot] = old[slot];
                changed[count..].iter().for_each(|&at| raw.as_mut_slice().unwrap()[at] = old[at]);
                assert_eq!(state.held(pad), *before);
                raw.as_mut_slice().unwrap().copy_from_slice(&new);
            }
            assert_eq!(state.held(pad), *after);
        }
    }

    #[test]
    fn nonsense_is_a_state_or_rest() {
        let memory = sealed_memfd("state", STATE_BYTES).unwrap();
        let state = PadsState::attach(memory.as_fd()).unwrap();
        let pad = PadIndex::new(0).unwrap();
        let mut raw = Mapping::read_write(memory.as_fd(), STATE_BYTES).unwrap();
        raw.as_mut_slice().unwrap()[8..].fill(0xFF);
        assert_eq!(state.held(pad), PadState::default());
        for slot in [1, 2] {
            raw.as_mut_slice().unwrap()[base(pad) + SLOT] = slot;
            assert_eq!(state.held(pad).buttons.bits(), PadButtons::KNOWN);
        }
    }
}
