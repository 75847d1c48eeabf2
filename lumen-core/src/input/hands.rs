//! What is down: the client tells it in [`Held`], the host lifts by it. PROTOCOL.md §16.4.

use super::{Button, Held, InputEvent, KeyCode, MAX_CONTACTS, TouchPhase};

/// Bits of 64 that reach the highest [`KeyCode`], 0x2FF.
const WORDS: usize = 0x300 / 64;

/// Keys, buttons and touch contacts that a stream of events has put down and not lifted.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Hands {
    keys: [u64; WORDS],
    /// Bit `n`: [`Button::from_wire`]`(n)`.
    buttons: u8,
    /// Bit `n`: contact `n`.
    contacts: u16,
    /// Where each contact was last.
    places: [(u16, u16); MAX_CONTACTS as usize],
}

impl Hands {
    /// Follows an event. [`InputEvent::Held`] changes nothing by itself: see [`Self::lift`].
    pub fn apply(&mut self, event: &InputEvent) {
        match *event {
            InputEvent::Key { code, pressed } => {
                let (word, bit) = place(code);
                set(&mut self.keys[word], bit, pressed);
            }
            InputEvent::Button { button, pressed } => set(&mut self.buttons, 1 << button as u8, pressed),
            InputEvent::Touch { contact, phase, x, y, .. } => {
                // A contact beyond the last is nobody's: the codec lets none through.
                let Some(place) = self.places.get_mut(usize::from(contact)) else { return };
                match phase {
                    TouchPhase::Down => {
                        *place = (x, y);
                        self.contacts |= 1 << contact;
                    }
                    TouchPhase::Move => *place = (x, y),
                    TouchPhase::Up | TouchPhase::Cancel => self.contacts &= !(1 << contact),
                }
            }
            _ => {}
        }
    }

    /// What is down now. Of more than [`MAX_HELD`](super::MAX_HELD) keys only the first are named.
    pub fn held(&self) -> Held {
        Held::new(self.keys(), self.buttons, self.contacts)
    }

    /// The events that put down what is down: for a host that may have lifted it. One that has not changes nothing by
    /// them.
    pub fn presses(&self) -> impl Iterator<Item = InputEvent> + use<> {
        let keys = self.keys().map(|code| InputEvent::Key { code, pressed: true });
        let buttons = Button::ALL.into_iter().filter(|&button| self.is_button_down(button));
        let buttons = buttons.map(|button| InputEvent::Button { button, pressed: true });
        let contacts = (0..MAX_CONTACTS).filter(|&contact| self.is_contact_down(contact)).map(|contact| {
            let (x, y) = self.places[usize::from(contact)];
            InputEvent::Touch { contact, phase: TouchPhase::Down, x, y, pressure: 0 }
        });
        keys.chain(buttons).chain(contacts).collect::<Vec<_>>().into_iter()
    }

    /// Whether nothing is down.
    pub fn is_empty(&self) -> bool {
        self.keys == [0; WORDS] && self.buttons == 0 && self.contacts == 0
    }

    pub fn is_key_down(&self, code: KeyCode) -> bool {
        let (word, bit) = place(code);
        self.keys[word] & bit != 0
    }

    pub fn is_button_down(&self, button: Button) -> bool {
        self.buttons & 1 << button as u8 != 0
    }

    pub fn is_contact_down(&self, contact: u8) -> bool {
        contact < MAX_CONTACTS && self.contacts & 1 << contact != 0
    }

    /// The keys that are down, lowest code first.
    pub fn keys(&self) -> impl Iterator<Item = KeyCode> + '_ {
        (0..WORDS as u16 * 64).filter_map(KeyCode::new).filter(|&code| self.is_key_down(code))
    }

    /// Takes up everything that is down here and that `held` does not name, and gives the events that do so: releases of
    /// buttons and keys, cancellations of contacts.
    pub fn lift(&mut self, held: &Held) -> impl Iterator<Item = InputEvent> + use<> {
        let mut named = Self { buttons: held.buttons, contacts: held.contacts, ..Self::default() };
        held.keys().for_each(|code| named.apply(&InputEvent::Key { code, pressed: true }));
        let mut events = Vec::new();
        for contact in (0..MAX_CONTACTS).filter(|&contact| self.is_contact_down(contact)) {
            if !named.is_contact_down(contact) {
                let (x, y) = self.places[usize::from(contact)];
                events.push(InputEvent::Touch { contact, phase: TouchPhase::Cancel, x, y, pressure: 0 });
            }
        }
        for button in Button::ALL {
            if self.is_button_down(button) && !named.is_button_down(button) {
                events.push(InputEvent::Button { button, pressed: false });
            }
        }
        for code in self.keys().filter(|&code| !named.is_key_down(code)) {
            events.push(InputEvent::Key { code, pressed: false });
        }
        events.iter().for_each(|event| self.apply(event));
        events.into_iter()
    }

    /// Takes up everything.
    pub fn lift_all(&mut self) -> impl Iterator<Item = InputEvent> + use<> {
        self.lift(&Held::NOTHING)
    }
}

fn place(code: KeyCode) -> (usize, u64) {
    (usize::from(code.get()) / 64, 1 << (code.get() % 64))
}

fn set<T>(bits: &mut T, bit: T, on: bool)
where
    T: Copy + std::ops::BitOr<Output = T> + std::ops::BitAnd<Output = T> + std::ops::Not<Output = T>,
{
    *bits = if on { *bits | bit } else { *bits & !bit };
}

#[cfg(test)]
#[path = "hands/tests.rs"]
mod tests;
