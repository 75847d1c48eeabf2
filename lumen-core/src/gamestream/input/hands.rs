//! What a client's packets mean to the input plane.

use super::touch::{Contacts, Pointer};
use super::{Contact, Packet, Utf8};
use crate::InputEvent;
use crate::gamestream::keys;
use crate::input::{Held, KeyCode, MOTION_UNITS, PadIndex, PadKind, Text};

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is in the events, if it changed anything.
    Done,
    /// It is something that this host cannot do: a key it has no code for, a pad's sensors, an unknown packet.
    Unsupported,
    /// More contacts at a time than there may be.
    TooMany,
    /// The client wants rumble, or no longer does.
    Haptics(bool),
}

/// One client's hands, as far as they need memory: its pads and what touches its screen.
#[derive(Default)]
pub struct GuestHands {
    /// Bit `n`: pad `n` has arrived.
    pads: u16,
    contacts: Contacts,
}

impl GuestHands {
    /// Most events that one packet makes: [`MAX_UTF8`](super::MAX_UTF8) line ends, a press and a release each.
    pub const MAX_EVENTS: usize = 2 * super::MAX_UTF8;

    /// Appends the events that a packet means: at most [`Self::MAX_EVENTS`].
    pub fn to_events(&mut self, packet: &Packet, out: &mut Vec<InputEvent>) -> Verdict {
        match *packet {
            Packet::Key { vk, pressed, normalised } => {
                let Some(code) = keys::evdev(vk, normalised) else { return Verdict::Unsupported };
                out.push(InputEvent::Key { code, pressed });
            }
            Packet::Text(text) => type_out(&text, out),
            Packet::Motion { dx, dy } => {
                let (dx, dy) = (i32::from(dx) * MOTION_UNITS, i32::from(dy) * MOTION_UNITS);
                out.push(InputEvent::Motion { dx, dy });
            }
            Packet::Position { x, y } => out.push(InputEvent::Position { x: x.0, y: y.0 }),
            Packet::Button { button, pressed } => out.push(InputEvent::Button { button, pressed }),
            Packet::Scroll { axis, amount } => out.push(InputEvent::Scroll { axis, amount: amount.into() }),
            Packet::PadArrived { pad, kind, .. } => self.arrive(pad, kind, out),
            Packet::Pad { pad, present, state } => {
                if present & bit(pad) != 0 {
                    // Old clients do not say more of a pad than this.
                    self.arrive(pad, PadKind::Unknown, out);
                    out.push(InputEvent::PadState { pad, state });
                } else {
                    self.remove(pad, out);
                }
            }
            Packet::Touch { id, contact, point } => {
                if !self.contacts.event(Pointer::Finger(id), contact, point, out) {
                    return Verdict::TooMany;
                }
            }
            Packet::Pen { contact, point, .. } => {
                // A pen that hovers is where the pointer is; it is lifted first if it was on the surface.
                let hovers = contact == Contact::Hover && !self.contacts.is_down(Pointer::Pen);
                if hovers {
                    out.push(InputEvent::Position { x: point.x.0, y: point.y.0 });
                } else if !self.contacts.event(Pointer::Pen, contact, point, out) {
                    return Verdict::TooMany;
                }
            }
            Packet::Haptics(on) => return Verdict::Haptics(on),
            Packet::PadTouch { .. } | Packet::PadMotion { .. } | Packet::PadBattery { .. } | Packet::Unknown(_) => {
                return Verdict::Unsupported;
            }
        }
        Verdict::Done
    }

    /// Whether this pad has arrived, and so may rumble.
    pub fn has_pad(&self, pad: PadIndex) -> bool {
        self.pads & bit(pad) != 0
    }

    /// Appends what lets go of everything and unplugs every pad: the client has gone.
    pub fn let_go(&mut self, out: &mut Vec<InputEvent>) {
        self.contacts = Contacts::default();
        out.push(InputEvent::Held(Held::NOTHING));
        for pad in (0..16).filter_map(PadIndex::new) {
            self.remove(pad, out);
        }
    }

    fn arrive(&mut self, pad: PadIndex, kind: PadKind, out: &mut Vec<InputEvent>) {
        if self.pads & bit(pad) == 0 {
            self.pads |= bit(pad);
            out.push(InputEvent::PadArrived { pad, kind });
        }
    }

    fn remove(&mut self, pad: PadIndex, out: &mut Vec<InputEvent>) {
        if self.pads & bit(pad) != 0 {
            self.pads &= !bit(pad);
            out.push(InputEvent::PadRemoved { pad });
        }
    }
}

const fn bit(pad: PadIndex) -> u16 {
    1 << pad.get()
}

/// Text as text, its line ends and tabs as keys; other control characters mean nothing.
fn type_out(text: &Utf8, out: &mut Vec<InputEvent>) {
    for part in text.as_str().split_inclusive(char::is_control) {
        let printable = part.trim_end_matches(char::is_control);
        out.extend(Text::new(printable).map(InputEvent::Text));
        let key = match part[printable.len()..].chars().next() {
            Some('\n' | '\r') => keys::ENTER,
            Some('\t') => keys::TAB,
            _ => continue,
        };
        press(key, out);
    }
}

fn press(code: KeyCode, out: &mut Vec<InputEvent>) {
    out.extend([true, false].map(|pressed| InputEvent::Key { code, pressed }));
}
