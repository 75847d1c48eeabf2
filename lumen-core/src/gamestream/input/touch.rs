//! Fingers and pens as the contacts that the input plane knows.

use super::{Contact, Point};
use crate::InputEvent;
use crate::input::{MAX_CONTACTS, TouchPhase};

/// Who touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pointer {
    /// By the number that the client gave it.
    Finger(u32),
    Pen,
}

/// Which contact each pointer on the surface is.
#[derive(Default)]
pub(super) struct Contacts {
    slots: [Option<(Pointer, Point)>; MAX_CONTACTS as usize],
}

impl Contacts {
    /// Appends what a pointer's event means. False if one contact too many was put down.
    pub(super) fn event(
        &mut self,
        pointer: Pointer,
        contact: Contact,
        point: Point,
        out: &mut Vec<InputEvent>,
    ) -> bool {
        let known = self.slots.iter().position(|slot| slot.is_some_and(|(holder, _)| holder == pointer));
        match (contact, known) {
            (Contact::Down, None) => {
                let Some(free) = self.slots.iter().position(Option::is_none) else { return false };
                self.say(free, pointer, TouchPhase::Down, point, out);
            }
            // What is down already only moves; a move of what is not is late.
            (Contact::Down | Contact::Move, Some(slot)) => self.say(slot, pointer, TouchPhase::Move, point, out),
            // Near the surface is not on it.
            (Contact::Up | Contact::Hover | Contact::Leave, Some(slot)) => {
                self.say(slot, pointer, TouchPhase::Up, point, out);
                self.slots[slot] = None;
            }
            // Only the number is valid in it (Limelight.h).
            (Contact::Cancel, Some(slot)) => self.cancel(slot, out),
            (Contact::CancelAll, _) => match pointer {
                Pointer::Finger(_) => self.cancel_all(|holder| holder != Pointer::Pen, out),
                Pointer::Pen => self.cancel_all(|holder| holder == Pointer::Pen, out),
            },
            (Contact::Buttons, _) | (_, None) => {}
        }
        true
    }

    /// Whether this pointer is on the surface.
    pub(super) fn is_down(&self, pointer: Pointer) -> bool {
        self.slots.iter().flatten().any(|&(holder, _)| holder == pointer)
    }

    fn say(&mut self, slot: usize, pointer: Pointer, phase: TouchPhase, point: Point, out: &mut Vec<InputEvent>) {
        self.slots[slot] = Some((pointer, point));
        // A lifted finger does not press, and what a hovering one says of pressure is its distance.
        let pressure = if phase == TouchPhase::Up { 0 } else { point.pressure.0 };
        out.push(InputEvent::Touch { contact: slot as u8, phase, x: point.x.0, y: point.y.0, pressure });
    }

    fn cancel(&mut self, slot: usize, out: &mut Vec<InputEvent>) {
        if let Some((_, point)) = self.slots[slot].take() {
            let (x, y) = (point.x.0, point.y.0);
            out.push(InputEvent::Touch { contact: slot as u8, phase: TouchPhase::Cancel, x, y, pressure: 0 });
        }
    }

    fn cancel_all(&mut self, which: impl Fn(Pointer) -> bool, out: &mut Vec<InputEvent>) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].is_some_and(|(holder, _)| which(holder)) {
                self.cancel(slot, out);
            }
        }
    }
}
