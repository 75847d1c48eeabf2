//! Events and rumble as bytes. PROTOCOL.md §16.2 and §17.

use super::{
    Axis, Button, Held, InputEvent, KeyCode, MAX_CONTACTS, MAX_EVENT, MAX_HELD, MAX_MOTION, MAX_SCROLL, PadButtons,
    PadIndex, PadKind, PadState, RUMBLE_BYTES, RUMBLE_DATAGRAM, Rumble, Text, TouchPhase,
};
use crate::cursor::{Malformed, Reader};

const KEY: u8 = 1;
const TEXT: u8 = 2;
const MOTION: u8 = 3;
const POSITION: u8 = 4;
const BUTTON: u8 = 5;
const SCROLL: u8 = 6;
const TOUCH: u8 = 7;
const PAD_ARRIVED: u8 = 8;
const PAD_REMOVED: u8 = 9;
const PAD_STATE: u8 = 10;
const HELD: u8 = 11;

/// Fills a fixed buffer from the front. [`MAX_EVENT`] is what the longest event needs, so it never runs over.
struct Writer<'a> {
    out: &'a mut [u8; MAX_EVENT],
    at: usize,
}

impl Writer<'_> {
    fn put<const N: usize>(&mut self, bytes: [u8; N]) -> &mut Self {
        self.slice(&bytes)
    }

    fn slice(&mut self, bytes: &[u8]) -> &mut Self {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }
}

impl InputEvent {
    /// Writes the event to the front of `out` and returns how many bytes it has. Motion and scroll beyond
    /// [`MAX_MOTION`] and [`MAX_SCROLL`] are cut to them.
    pub fn encode(&self, out: &mut [u8; MAX_EVENT]) -> usize {
        let mut writer = Writer { out, at: 0 };
        match *self {
            Self::Key { code, pressed } => {
                writer.put([KEY]).put(code.get().to_le_bytes()).put([u8::from(pressed)]);
            }
            Self::Text(text) => {
                writer.put([TEXT]).slice(text.as_str().as_bytes());
            }
            Self::Motion { dx, dy } => {
                let cut = |value: i32| value.clamp(-MAX_MOTION, MAX_MOTION).to_le_bytes();
                writer.put([MOTION]).put(cut(dx)).put(cut(dy));
            }
            Self::Position { x, y } => {
                writer.put([POSITION]).put(x.to_le_bytes()).put(y.to_le_bytes());
            }
            Self::Button { button, pressed } => {
                writer.put([BUTTON, button as u8, u8::from(pressed)]);
            }
            Self::Scroll { axis, amount } => {
                writer.put([SCROLL, axis as u8]).put(amount.clamp(-MAX_SCROLL, MAX_SCROLL).to_le_bytes());
            }
            Self::Touch { contact, phase, x, y, pressure } => {
                writer.put([TOUCH, contact, phase as u8]);
                writer.put(x.to_le_bytes()).put(y.to_le_bytes()).put(pressure.to_le_bytes());
            }
            Self::PadArrived { pad, kind } => {
                writer.put([PAD_ARRIVED, pad.get(), kind as u8]);
            }
            Self::PadRemoved { pad } => {
                writer.put([PAD_REMOVED, pad.get()]);
            }
            Self::PadState { pad, state } => {
                writer.put([PAD_STATE, pad.get()]).put(state.buttons.bits().to_le_bytes());
                writer.put([state.left_trigger, state.right_trigger]);
                for (x, y) in [state.left_stick, state.right_stick] {
                    writer.put(x.to_le_bytes()).put(y.to_le_bytes());
                }
            }
            Self::Held(held) => {
                writer.put([HELD, held.count]);
                for code in held.keys() {
                    writer.put(code.get().to_le_bytes());
                }
                writer.put([held.buttons & Held::BUTTONS]).put(held.contacts.to_le_bytes());
            }
        }
        writer.at
    }

    /// The event that exactly these bytes are; `None` if they are none, or one whose values are out of bounds.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let event = decode(&mut reader).ok()?;
        reader.end().ok()?;
        Some(event)
    }
}

fn decode(reader: &mut Reader<'_>) -> Result<InputEvent, Malformed> {
    Ok(match reader.u8()? {
        KEY => InputEvent::Key { code: key(reader)?, pressed: boolean(reader)? },
        TEXT => {
            let text = std::str::from_utf8(reader.rest()).map_err(|_| Malformed)?;
            InputEvent::Text(Text::new(text).ok_or(Malformed)?)
        }
        MOTION => InputEvent::Motion { dx: within(reader, MAX_MOTION)?, dy: within(reader, MAX_MOTION)? },
        POSITION => InputEvent::Position { x: reader.u16()?, y: reader.u16()? },
        BUTTON => {
            let button = Button::from_wire(reader.u8()?).ok_or(Malformed)?;
            InputEvent::Button { button, pressed: boolean(reader)? }
        }
        SCROLL => {
            let axis = match reader.u8()? {
                0 => Axis::Vertical,
                1 => Axis::Horizontal,
                _ => return Err(Malformed),
            };
            InputEvent::Scroll { axis, amount: within(reader, MAX_SCROLL)? }
        }
        TOUCH => InputEvent::Touch {
            contact: Some(reader.u8()?).filter(|&contact| contact < MAX_CONTACTS).ok_or(Malformed)?,
            phase: match reader.u8()? {
                0 => TouchPhase::Down,
                1 => TouchPhase::Move,
                2 => TouchPhase::Up,
                3 => TouchPhase::Cancel,
                _ => return Err(Malformed),
            },
            x: reader.u16()?,
            y: reader.u16()?,
            pressure: reader.u16()?,
        },
        PAD_ARRIVED => InputEvent::PadArrived {
            pad: pad(reader)?,
            kind: match reader.u8()? {
                0 => PadKind::Unknown,
                1 => PadKind::Xbox,
                2 => PadKind::PlayStation,
                3 => PadKind::Nintendo,
                _ => return Err(Malformed),
            },
        },
        PAD_REMOVED => InputEvent::PadRemoved { pad: pad(reader)? },
        PAD_STATE => InputEvent::PadState {
            pad: pad(reader)?,
            state: PadState {
                buttons: PadButtons::new(reader.u32()?),
                left_trigger: reader.u8()?,
                right_trigger: reader.u8()?,
                left_stick: (signed(reader)?, signed(reader)?),
                right_stick: (signed(reader)?, signed(reader)?),
            },
        },
        HELD => held(reader)?,
        _ => return Err(Malformed),
    })
}

fn held(reader: &mut Reader<'_>) -> Result<InputEvent, Malformed> {
    let count = usize::from(reader.u8()?);
    if count > MAX_HELD {
        return Err(Malformed);
    }
    let mut held = Held { count: count as u8, ..Held::NOTHING };
    for slot in &mut held.keys[..count] {
        *slot = key(reader)?.get();
    }
    (held.buttons, held.contacts) = (reader.u8()?, reader.u16()?);
    if held.buttons & !Held::BUTTONS != 0 {
        return Err(Malformed);
    }
    Ok(InputEvent::Held(held))
}

fn key(reader: &mut Reader<'_>) -> Result<KeyCode, Malformed> {
    KeyCode::new(reader.u16()?).ok_or(Malformed)
}

fn pad(reader: &mut Reader<'_>) -> Result<PadIndex, Malformed> {
    PadIndex::new(reader.u8()?).ok_or(Malformed)
}

fn boolean(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn signed(reader: &mut Reader<'_>) -> Result<i16, Malformed> {
    reader.array().map(i16::from_le_bytes)
}

fn within(reader: &mut Reader<'_>, most: i32) -> Result<i32, Malformed> {
    let value = reader.array().map(i32::from_le_bytes)?;
    if (-most..=most).contains(&value) { Ok(value) } else { Err(Malformed) }
}

impl Rumble {
    /// The pad and both motors: what a [`RUMBLE_DATAGRAM`](super::RUMBLE_DATAGRAM) byte stands before on the wire.
    pub fn encode(&self) -> [u8; RUMBLE_BYTES] {
        let ([low, low_high], [high, high_high]) = (self.low.to_le_bytes(), self.high.to_le_bytes());
        [self.pad.get(), low, low_high, high, high_high]
    }

    /// The rumble that exactly these bytes are, without the datagram's first.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let &[pad, low, low_high, high, high_high] = bytes else { return None };
        let pad = PadIndex::new(pad)?;
        Some(Self { pad, low: u16::from_le_bytes([low, low_high]), high: u16::from_le_bytes([high, high_high]) })
    }

    /// The whole datagram from host to client.
    pub fn datagram(&self) -> [u8; 1 + RUMBLE_BYTES] {
        let mut datagram = [RUMBLE_DATAGRAM; 1 + RUMBLE_BYTES];
        datagram[1..].copy_from_slice(&self.encode());
        datagram
    }

    /// The rumble of a whole datagram.
    pub fn from_datagram(datagram: &[u8]) -> Option<Self> {
        Self::decode(datagram.strip_prefix(&[RUMBLE_DATAGRAM])?)
    }
}

#[cfg(test)]
#[path = "codec/tests.rs"]
mod tests;
