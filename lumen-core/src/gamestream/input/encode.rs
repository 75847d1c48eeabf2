//! From packets to bytes: what a client does.

use super::{Packet, Point, magic};
use crate::input::{Axis, Button};

/// The right and bottom edge of a picture 32767 pixels wide, in which clients of ours count.
const EDGE: i16 = i16::MAX;

impl Packet {
    /// Appends the packet, with its size.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        self.body(out);
        let size = (out.len() - start - 4) as u32;
        out[start..start + 4].copy_from_slice(&size.to_be_bytes());
    }

    fn body(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u32, bytes: &[u8]| {
            out.extend_from_slice(&kind.to_le_bytes());
            out.extend_from_slice(bytes);
        };
        match *self {
            Self::Key { vk, pressed, normalised } => {
                let kind = if pressed { magic::KEY_DOWN } else { magic::KEY_UP };
                put(kind, &[u8::from(!normalised), vk, 0x80, 0, 0, 0]);
            }
            Self::Text(text) => put(magic::TEXT, text.as_str().as_bytes()),
            Self::Motion { dx, dy } => put(magic::MOTION, &big([dx, dy])),
            Self::Position { x, y } => {
                let most = i64::from(u16::MAX);
                let at = |place: u16| ((i64::from(place) * i64::from(EDGE) + most / 2) / most) as i16;
                put(magic::POSITION, &big([at(x.0), at(y.0), 0, EDGE, EDGE]));
            }
            Self::Button { button, pressed } => {
                let kind = if pressed { magic::BUTTON_DOWN } else { magic::BUTTON_UP };
                let number = match button {
                    Button::Left => 1,
                    Button::Middle => 2,
                    Button::Right => 3,
                    Button::Side => 4,
                    Button::Extra => 5,
                };
                put(kind, &[number]);
            }
            Self::Scroll { axis: Axis::Vertical, amount } => put(magic::SCROLL, &big([amount, amount, 0])),
            Self::Scroll { axis: Axis::Horizontal, amount } => put(magic::HSCROLL, &big([amount])),
            Self::Pad { pad, present, state } => {
                let bits = state.buttons.bits();
                let mut bytes = little([0x1A, pad.get().into(), present, 0x14, bits as u16]);
                bytes.extend_from_slice(&[state.left_trigger, state.right_trigger]);
                for (x, y) in [state.left_stick, state.right_stick] {
                    bytes.extend_from_slice(&little([x as u16, y as u16]));
                }
                bytes.extend_from_slice(&little([0x9C, (bits >> 16) as u16, 0x55]));
                put(magic::PAD, &bytes);
            }
            Self::Haptics(on) => put(magic::HAPTICS, &little([u16::from(on)])),
            Self::Touch { id, contact, point } => {
                // No rotation is known.
                let mut bytes = vec![contact as u8, 0, 0xFF, 0xFF];
                bytes.extend_from_slice(&id.to_le_bytes());
                bytes.extend_from_slice(&floats(point));
                bytes.extend_from_slice(&[0; 8]);
                put(magic::TOUCH, &bytes);
            }
            Self::Pen { contact, tool, buttons, point } => {
                let mut bytes = vec![contact as u8, tool as u8, buttons, 0];
                bytes.extend_from_slice(&floats(point));
                // Nor are rotation, tilt and contact area.
                bytes.extend_from_slice(&[0xFF, 0xFF, 0xFF, 0]);
                bytes.extend_from_slice(&[0; 8]);
                put(magic::PEN, &bytes);
            }
            Self::PadArrived { pad, kind, capabilities, buttons } => {
                let mut bytes = vec![pad.get(), kind as u8];
                bytes.extend_from_slice(&capabilities.to_le_bytes());
                bytes.extend_from_slice(&buttons.to_le_bytes());
                put(magic::PAD_ARRIVED, &bytes);
            }
            Self::PadTouch { pad, touchpad, id, contact, point } => {
                let mut bytes = vec![pad.get(), contact as u8, 0, touchpad];
                bytes.extend_from_slice(&id.to_le_bytes());
                bytes.extend_from_slice(&floats(point));
                put(magic::PAD_TOUCH, &bytes);
            }
            Self::PadMotion { pad, sensor, axes } => {
                let mut bytes = vec![pad.get(), sensor as u8, 0, 0];
                axes.iter().for_each(|axis| bytes.extend_from_slice(&axis.to_le_bytes()));
                put(magic::PAD_MOTION, &bytes);
            }
            Self::PadBattery { pad, state, percent } => put(magic::PAD_BATTERY, &[pad.get(), state, percent, 0]),
            Self::Unknown(kind) => put(kind, &[]),
        }
    }
}

fn big<const N: usize>(words: [i16; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn little<const N: usize>(words: [u16; N]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn floats(point: Point) -> Vec<u8> {
    [point.x, point.y, point.pressure].iter().flat_map(|fraction| fraction.get().to_le_bytes()).collect()
}
