//! What outlives the plane: the layout of the memory that lumend keeps.
//!
//! Only one plane writes it at a time, and its heir reads it. The predecessor may have been killed in the middle of a
//! store, or have been somebody else's by then, so that everything in it is checked like anything from outside: what
//! makes no sense is as if it had never been noted. Presses are noted before they are injected and releases after, so
//! that the heir lifts too much rather than too little.
//!
//! ```text
//!    0  u64       MAGIC; anything else: the whole memory is nothing
//!   64  96 bytes  keys that are down, a bit per evdev code
//!  160  u8        buttons, a bit each as on the wire
//!  162  u16       touch contacts, a bit each
//!  164  u32       number of the first event that no plane has taken
//!  168  u8        the contact that acts as the pointer, plus one; 0: none
//!  256  44 bytes  devices on a compositor: u32 1 if there are any, u32 objects (pointer, keyboard, text) and globals
//!                 (output, seat), u32 callbacks under way, a bit each, u32 modifiers (depressed, latched, locked, group)
//! 4096  16 × 2048 pads: 0 u8 1 if a gain was told, 2 u16 the gain, 8 u8 which of the two states holds (1 or 2; anything
//!                 else: rest), 16 and 32 those states: u32 buttons, u8 left and right trigger, i16 x and y of the left and of
//!                 the right stick; from 64 on 16 × 64 bytes of effects
//! ```

mod desk;
mod pads;

use std::os::fd::BorrowedFd;

use ipc::STATE_BYTES;
use ipc::shm::{Mapping, ShmError};
use lumen_core::InputEvent;
use lumen_core::input::{Button, KeyCode, MAX_CONTACTS, MAX_PADS, TouchPhase};

pub use self::desk::{DeskState, Objects};
pub use self::pads::{EFFECT_BYTES, MAX_EFFECTS, PadsState};

/// Changes with the layout, so that a plane of another build finds nothing rather than nonsense.
pub const MAGIC: u64 = u64::from_le_bytes(*b"LmnHand4");
const KEYS: usize = 64;
const KEY_BYTES: usize = 0x300 / 8;
const BUTTONS: usize = 160;
const CONTACTS: usize = 162;
const NEXT: usize = 164;
const ACTING: usize = 168;
const DESK: usize = 256;
const DESK_BYTES: usize = 44;
const PADS: usize = 4096;
const PAD_BYTES: usize = 2048;

const _: () = assert!(ACTING < DESK && DESK + DESK_BYTES <= PADS);
const _: () = assert!(KEYS + KEY_BYTES <= BUTTONS && PADS + MAX_PADS as usize * PAD_BYTES <= STATE_BYTES);

/// The kept memory, mapped and of a known layout.
#[derive(Debug)]
struct Memory(Mapping);

impl Memory {
    fn attach(state: BorrowedFd<'_>) -> Result<Self, ShmError> {
        let mut memory = Self(Mapping::read_write(state, STATE_BYTES)?);
        let bytes = memory.bytes();
        if bytes[..8] != MAGIC.to_le_bytes() {
            bytes.fill(0);
            bytes[..8].copy_from_slice(&MAGIC.to_le_bytes());
        }
        Ok(memory)
    }

    fn bytes(&mut self) -> &mut [u8] {
        // `attach` has mapped it for writing.
        self.0.as_mut_slice().unwrap_or_default()
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.as_slice().get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    fn set(&mut self, at: usize, value: &[u8]) {
        if let Some(bytes) = self.bytes().get_mut(at..at + value.len()) {
            bytes.copy_from_slice(value);
        }
    }
}

/// What is held down.
#[derive(Debug)]
pub struct HeldState(Memory);

impl HeldState {
    /// Maps the kept memory; fresh memory, and memory of another layout, holds nothing.
    ///
    /// # Errors
    /// The memory is not what lumend makes: [`STATE_BYTES`], sealed.
    pub fn attach(state: BorrowedFd<'_>) -> Result<Self, ShmError> {
        Memory::attach(state).map(Self)
    }

    /// Notes what an event presses. Call it before the event is injected.
    pub fn before(&mut self, event: &InputEvent) {
        match *event {
            InputEvent::Key { code, pressed: true } => self.key(code, true),
            InputEvent::Button { button, pressed: true } => self.button(button, true),
            InputEvent::Touch { contact, phase: TouchPhase::Down, .. } => self.contact(contact, true),
            _ => {}
        }
    }

    /// Notes what an event lifts. Call it after the event was injected.
    pub fn after(&mut self, event: &InputEvent) {
        match *event {
            InputEvent::Key { code, pressed: false } => self.key(code, false),
            InputEvent::Button { button, pressed: false } => self.button(button, false),
            InputEvent::Touch { contact, phase: TouchPhase::Up | TouchPhase::Cancel, .. } => {
                self.contact(contact, false);
            }
            _ => {}
        }
    }

    /// The events that lift everything noted, keys first. Nothing is forgotten by this: inject each, then say so with
    /// [`HeldState::after`].
    pub fn lift(&self) -> Vec<InputEvent> {
        let keys: [u8; KEY_BYTES] = self.0.get(KEYS);
        let [buttons] = self.0.get(BUTTONS);
        let contacts = u16::from_le_bytes(self.0.get(CONTACTS));
        let keys = (0..KEY_BYTES as u16 * 8)
            .filter(|&code| keys[usize::from(code / 8)] & 1 << (code % 8) != 0)
            .filter_map(KeyCode::new)
            .map(|code| InputEvent::Key { code, pressed: false });
        let buttons = Button::ALL
            .into_iter()
            .filter(|&button| buttons & 1 << button as u8 != 0)
            .map(|button| InputEvent::Button { button, pressed: false });
        let contacts = (0..MAX_CONTACTS)
            .filter(|&contact| contacts & 1 << contact != 0)
            .map(|contact| InputEvent::Touch { contact, phase: TouchPhase::Cancel, x: 0, y: 0, pressure: 0 });
        keys.chain(buttons).chain(contacts).collect()
    }

    /// Number of the first event that has not been taken, by this plane or one before.
    pub fn next(&self) -> u32 {
        u32::from_le_bytes(self.0.get(NEXT))
    }

    /// The event of this number is being taken. Call it before the event is injected: should the plane die in between,
    /// one event may be lost and none happens twice.
    pub fn take(&mut self, number: u32) {
        // What another device's events have overtaken does not turn the count back; numbers wrap.
        if number.wrapping_sub(self.next()) < 1 << 31 {
            self.0.set(NEXT, &number.wrapping_add(1).to_le_bytes());
        }
    }

    /// The touch contact that acts as the pointer, with its left button.
    pub fn acting(&self) -> Option<u8> {
        let [contact] = self.0.get(ACTING);
        contact.checked_sub(1).filter(|&contact| contact < MAX_CONTACTS)
    }

    pub fn set_acting(&mut self, contact: Option<u8>) {
        self.0.set(ACTING, &[contact.map_or(0, |contact| contact + 1)]);
    }

    fn key(&mut self, code: KeyCode, down: bool) {
        let at = KEYS + usize::from(code.get() / 8);
        let [byte] = self.0.get(at);
        self.0.set(at, &[with(byte.into(), (code.get() % 8) as u8, down) as u8]);
    }

    fn button(&mut self, button: Button, down: bool) {
        let [byte] = self.0.get(BUTTONS);
        self.0.set(BUTTONS, &[with(byte.into(), button as u8, down) as u8]);
    }

    fn contact(&mut self, contact: u8, down: bool) {
        if contact < MAX_CONTACTS {
            let bits = u16::from_le_bytes(self.0.get(CONTACTS));
            self.0.set(CONTACTS, &with(bits, contact, down).to_le_bytes());
        }
    }
}

const fn with(bits: u16, index: u8, set: bool) -> u16 {
    if set { bits | 1 << index } else { bits & !(1 << index) }
}

/// The stores before are made before those after: a process that is killed has made all or a first part of them.
fn order() {
    std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use ipc::shm::sealed_memfd;

    use super::*;

    fn key(code: u16, pressed: bool) -> InputEvent {
        InputEvent::Key { code: KeyCode::new(code).unwrap(), pressed }
    }

    fn touch(contact: u8, phase: TouchPhase) -> InputEvent {
        InputEvent::Touch { contact, phase, x: 1, y: 2, pressure: 3 }
    }

    #[test]
    fn an_heir_finds_what_was_pressed_and_not_lifted() {
        let memory = sealed_memfd("state", STATE_BYTES).unwrap();
        let mut state = HeldState::attach(memory.as_fd()).unwrap();
        assert!(state.lift().is_empty());
        let left = InputEvent::Button { button: Button::Left, pressed: true };
        for event in [key(1, true), key(30, true), key(0x2FF, true), left, touch(15, TouchPhase::Down)] {
            state.before(&event);
        }
        state.after(&key(30, false));
        drop(state);
        let mut heir = HeldState::attach(memory.as_fd()).unwrap();
        let lifted = heir.lift();
        let released = InputEvent::Button { button: Button::Left, pressed: false };
        let cancelled = InputEvent::Touch { contact: 15, phase: TouchPhase::Cancel, x: 0, y: 0, pressure: 0 };
        assert_eq!(lifted, [key(1, false), key(0x2FF, false), released, cancelled]);
        for event in &lifted {
            heir.after(event);
        }
        assert!(heir.lift().is_empty());
    }

    #[test]
    fn an_event_is_noted_on_the_safe_side_of_its_injection() {
        let memory = sealed_memfd("state", STATE_BYTES).unwrap();
        let mut state = HeldState::attach(memory.as_fd()).unwrap();
        state.after(&key(30, true));
        assert!(state.lift().is_empty());
        state.before(&key(30, true));
        state.before(&key(30, false));
        assert_eq!(state.lift(), [key(30, false)]);
    }

    #[test]
    fn memory_of_another_layout_holds_nothing_and_nonsense_lifts_only_what_exists() {
        let memory = sealed_memfd("state", STATE_BYTES).unwrap();
        let mut raw = Mapping::read_write(memory.as_fd(), STATE_BYTES).unwrap();
        raw.as_mut_slice().unwrap().fill(0xFF);
        assert!(HeldState::attach(memory.as_fd()).unwrap().lift().is_empty());
        raw.as_mut_slice().unwrap()[8..].fill(0xFF);
        let lifted = HeldState::attach(memory.as_fd()).unwrap().lift();
        // Every key that may be typed at all, five buttons, sixteen contacts.
        assert_eq!(lifted.len(), 0xFF + (0x300 - 0x160) + 5 + 16);
    }
}
