//! From bytes to packets: `u32 BE size of what follows, u32 LE magic, body`. Mice speak big-endian, all else little.

use super::{Contact, Fraction, Malformed, Packet, Point, Sensor, Tool, Utf8, magic};
use crate::cursor::Reader;
use crate::input::{Axis, Button, PadButtons, PadIndex, PadKind, PadState};

impl Packet {
    /// The packet that exactly these bytes are. A body may be longer than what is known of it, as newer clients' are.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let (size, rest) = bytes.split_first_chunk::<4>().ok_or(Malformed)?;
        if usize::try_from(u32::from_be_bytes(*size)) != Ok(rest.len()) {
            return Err(Malformed);
        }
        let mut body = Reader::new(rest);
        let kind = body.u32()?;
        Ok(match kind {
            magic::KEY_DOWN | magic::KEY_UP => key(&mut body, kind == magic::KEY_DOWN)?,
            magic::TEXT => {
                let text = std::str::from_utf8(body.rest()).map_err(|_| Malformed)?;
                Self::Text(Utf8::new(text).ok_or(Malformed)?)
            }
            magic::MOTION => Self::Motion { dx: big(&mut body)?, dy: big(&mut body)? },
            magic::POSITION => position(&mut body)?,
            magic::BUTTON_DOWN | magic::BUTTON_UP => {
                let button = match body.u8()? {
                    1 => Button::Left,
                    2 => Button::Middle,
                    3 => Button::Right,
                    4 => Button::Side,
                    5 => Button::Extra,
                    _ => return Err(Malformed),
                };
                Self::Button { button, pressed: kind == magic::BUTTON_DOWN }
            }
            // The amount is there twice.
            magic::SCROLL => Self::Scroll { axis: Axis::Vertical, amount: big(&mut body)? },
            magic::HSCROLL => Self::Scroll { axis: Axis::Horizontal, amount: big(&mut body)? },
            magic::PAD => pad_state(&mut body)?,
            magic::HAPTICS => Self::Haptics(body.u16()? != 0),
            magic::TOUCH => {
                let contact = contact(&mut body)?;
                let _rotation = (body.u8()?, body.u16()?);
                Self::Touch { contact, id: body.u32()?, point: point(&mut body)? }
            }
            magic::PEN => pen(&mut body)?,
            magic::PAD_ARRIVED => Self::PadArrived {
                pad: pad(body.u8()?.into())?,
                kind: kind_of_pad(body.u8()?),
                capabilities: body.u16()?,
                buttons: body.u32()?,
            },
            magic::PAD_TOUCH => {
                let (pad, contact) = (pad(body.u8()?.into())?, contact(&mut body)?);
                let [_, touchpad] = body.array()?;
                Self::PadTouch { pad, touchpad, contact, id: body.u32()?, point: point(&mut body)? }
            }
            magic::PAD_MOTION => {
                let (pad, sensor) = (pad(body.u8()?.into())?, Sensor::from_wire(body.u8()?).ok_or(Malformed)?);
                body.u16()?;
                let axes = [float(&mut body)?, float(&mut body)?, float(&mut body)?];
                if axes.iter().any(|axis| !axis.is_finite()) {
                    return Err(Malformed);
                }
                Self::PadMotion { pad, sensor, axes }
            }
            magic::PAD_BATTERY => {
                Self::PadBattery { pad: pad(body.u8()?.into())?, state: body.u8()?, percent: body.u8()? }
            }
            unknown => Self::Unknown(unknown),
        })
    }
}

fn key(body: &mut Reader<'_>, pressed: bool) -> Result<Packet, Malformed> {
    // SS_KBE_FLAG_NON_NORMALIZED (Limelight.h).
    let normalised = body.u8()? & 1 == 0;
    // Most clients set the highest bit (moonlight-qt, keyboard.cpp); the lowest byte is the key.
    let [vk, _] = body.array()?;
    // Which modifiers the client believes to be down: their own keys say so too.
    body.u8()?;
    Ok(Packet::Key { vk, pressed, normalised })
}

fn position(body: &mut Reader<'_>) -> Result<Packet, Malformed> {
    let (x, y, _) = (big(body)?, big(body)?, big(body)?);
    let (right, bottom) = (big(body)?, big(body)?);
    if right < 1 || bottom < 1 {
        return Err(Malformed);
    }
    let place = |at: i16, most: i16| {
        let at = i64::from(at.clamp(0, most));
        Fraction((at * i64::from(u16::MAX) / i64::from(most)) as u16)
    };
    Ok(Packet::Position { x: place(x, right), y: place(y, bottom) })
}

fn pad_state(body: &mut Reader<'_>) -> Result<Packet, Malformed> {
    let (_, number, present, _) = (body.u16()?, body.u16()?, body.u16()?, body.u16()?);
    let low = body.u16()?;
    let (left_trigger, right_trigger) = (body.u8()?, body.u8()?);
    let mut stick = || Ok::<_, Malformed>((little(body)?, little(body)?));
    let (left_stick, right_stick) = (stick()?, stick()?);
    let (_, high) = (body.u16()?, body.u16()?);
    let buttons = PadButtons::new(u32::from(low) | u32::from(high) << 16);
    let state = PadState { buttons, left_trigger, right_trigger, left_stick, right_stick };
    Ok(Packet::Pad { pad: pad(number)?, present, state })
}

fn pen(body: &mut Reader<'_>) -> Result<Packet, Malformed> {
    let contact = contact(body)?;
    let tool = match body.u8()? {
        1 => Tool::Pen,
        2 => Tool::Eraser,
        _ => Tool::Unknown,
    };
    let [buttons, _] = body.array()?;
    Ok(Packet::Pen { contact, tool, buttons, point: point(body)? })
}

fn contact(body: &mut Reader<'_>) -> Result<Contact, Malformed> {
    Contact::from_wire(body.u8()?).ok_or(Malformed)
}

fn point(body: &mut Reader<'_>) -> Result<Point, Malformed> {
    let mut fraction = || float(body).map(Fraction::new);
    Ok(Point { x: fraction()?, y: fraction()?, pressure: fraction()? })
}

fn pad(number: u16) -> Result<PadIndex, Malformed> {
    u8::try_from(number).ok().and_then(PadIndex::new).ok_or(Malformed)
}

/// `LI_CTYPE_*` (Limelight.h). A Steam controller has the layout of an Xbox's.
fn kind_of_pad(kind: u8) -> PadKind {
    match kind {
        1 | 4 => PadKind::Xbox,
        2 => PadKind::PlayStation,
        3 => PadKind::Nintendo,
        _ => PadKind::Unknown,
    }
}

fn big(body: &mut Reader<'_>) -> Result<i16, Malformed> {
    Ok(i16::from_be_bytes(body.array()?))
}

fn little(body: &mut Reader<'_>) -> Result<i16, Malformed> {
    Ok(i16::from_le_bytes(body.array()?))
}

fn float(body: &mut Reader<'_>) -> Result<f32, Malformed> {
    Ok(f32::from_le_bytes(body.array()?))
}
