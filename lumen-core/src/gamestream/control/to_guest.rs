//! What the host says.

use super::{Malformed, join, split};
use crate::cursor::Reader;
use crate::input::{PadIndex, Rumble};

const RUMBLE: u16 = 0x010b;
const TERMINATION: u16 = 0x0109;
const HDR: u16 = 0x010e;
const TRIGGER_RUMBLE: u16 = 0x5500;
const MOTION: u16 = 0x5501;
const LED: u16 = 0x5502;
const TRIGGERS: u16 = 0x5503;

/// Which of a pad's motion sensors (Limelight.h, LI_MOTION_TYPE_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Sensor {
    /// In m/s².
    Accelerometer = 1,
    /// In degrees a second.
    Gyroscope = 2,
}

impl Sensor {
    pub(in crate::gamestream) fn from_wire(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Accelerometer),
            2 => Some(Self::Gyroscope),
            _ => None,
        }
    }
}

/// Resistance of a DualSense's triggers: opaque to all but the pad (ControlStream.c).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Triggers {
    pub pad: PadIndex,
    /// 4 the right one is meant, 8 the left one.
    pub which: u8,
    pub left_type: u8,
    pub right_type: u8,
    pub left: [u8; 10],
    pub right: [u8; 10],
}

/// What a bright picture's screen is like (Limelight.h, SS_HDR_METADATA).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Hdr {
    /// Red, green, blue: x and y in 1/50 000.
    pub primaries: [(u16, u16); 3],
    pub white: (u16, u16),
    /// Nits.
    pub max_luminance: u16,
    /// 1/10 000 nits.
    pub min_luminance: u16,
    /// Nits, 0 for unknown.
    pub max_content: u16,
    /// Nits, 0 for unknown.
    pub max_frame_average: u16,
    /// Nits, 0 for unknown.
    pub max_full_frame: u16,
}

/// Why a session ends, as the client tells its person (ControlStream.c).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Termination {
    /// As it should be: no message is shown, if a picture ever was.
    Graceful = 0x8003_0023,
    ProtectedContent = 0x800e_9302,
    /// The pictures could not be encoded.
    Encoder = 0x800e_9403,
}

/// One message of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ToGuest {
    Rumble(Rumble),
    /// Motors in the triggers, 0 to 65535.
    TriggerRumble {
        pad: PadIndex,
        left: u16,
        right: u16,
    },
    /// From now on so many reports a second of this sensor; 0 for none.
    Motion {
        pad: PadIndex,
        rate_hz: u16,
        sensor: Sensor,
    },
    Led {
        pad: PadIndex,
        red: u8,
        green: u8,
        blue: u8,
    },
    Triggers(Triggers),
    /// The pictures to come are HDR, or not.
    Hdr(Option<Hdr>),
    /// It is over. The client goes at once.
    Termination(Termination),
}

impl ToGuest {
    /// Appends the message, not sealed yet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Rumble(rumble) => join(RUMBLE, out, |out| {
                out.extend_from_slice(&[0; 4]);
                words(out, [rumble.pad.get().into(), rumble.low, rumble.high]);
            }),
            Self::TriggerRumble { pad, left, right } => {
                join(TRIGGER_RUMBLE, out, |out| words(out, [pad.get().into(), *left, *right]));
            }
            Self::Motion { pad, rate_hz, sensor } => join(MOTION, out, |out| {
                words(out, [pad.get().into(), *rate_hz]);
                out.push(*sensor as u8);
            }),
            Self::Led { pad, red, green, blue } => join(LED, out, |out| {
                words(out, [pad.get().into()]);
                out.extend_from_slice(&[*red, *green, *blue]);
            }),
            Self::Triggers(triggers) => join(TRIGGERS, out, |out| {
                words(out, [triggers.pad.get().into()]);
                out.extend_from_slice(&[triggers.which, triggers.left_type, triggers.right_type]);
                out.extend_from_slice(&triggers.left);
                out.extend_from_slice(&triggers.right);
            }),
            Self::Hdr(hdr) => join(HDR, out, |out| {
                out.push(u8::from(hdr.is_some()));
                let hdr = hdr.unwrap_or_default();
                hdr.primaries.iter().chain([&hdr.white]).for_each(|&(x, y)| words(out, [x, y]));
                words(out, [hdr.max_luminance, hdr.min_luminance]);
                words(out, [hdr.max_content, hdr.max_frame_average, hdr.max_full_frame]);
            }),
            Self::Termination(reason) => {
                join(TERMINATION, out, |out| out.extend_from_slice(&(*reason as u32).to_be_bytes()));
            }
        }
    }

    /// The message that exactly these bytes are, opened already: what a client does.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let (kind, payload) = split(message)?;
        let mut reader = Reader::new(payload);
        let message = match kind {
            RUMBLE => {
                reader.u32()?;
                Self::Rumble(Rumble { pad: pad(&mut reader)?, low: reader.u16()?, high: reader.u16()? })
            }
            TRIGGER_RUMBLE => Self::TriggerRumble { pad: pad(&mut reader)?, left: reader.u16()?, right: reader.u16()? },
            MOTION => Self::Motion {
                pad: pad(&mut reader)?,
                rate_hz: reader.u16()?,
                sensor: Sensor::from_wire(reader.u8()?).ok_or(Malformed)?,
            },
            LED => Self::Led { pad: pad(&mut reader)?, red: reader.u8()?, green: reader.u8()?, blue: reader.u8()? },
            TRIGGERS => Self::Triggers(Triggers {
                pad: pad(&mut reader)?,
                which: reader.u8()?,
                left_type: reader.u8()?,
                right_type: reader.u8()?,
                left: reader.array()?,
                right: reader.array()?,
            }),
            HDR => hdr(&mut reader)?,
            TERMINATION => {
                let code = u32::from_be_bytes(reader.array()?);
                let known = [Termination::Graceful, Termination::ProtectedContent, Termination::Encoder];
                Self::Termination(known.into_iter().find(|&reason| reason as u32 == code).ok_or(Malformed)?)
            }
            _ => return Err(Malformed),
        };
        reader.end()?;
        Ok(message)
    }
}

fn words<const N: usize>(out: &mut Vec<u8>, words: [u16; N]) {
    words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
}

fn pad(reader: &mut Reader<'_>) -> Result<PadIndex, Malformed> {
    u8::try_from(reader.u16()?).ok().and_then(PadIndex::new).ok_or(Malformed)
}

fn hdr(reader: &mut Reader<'_>) -> Result<ToGuest, Malformed> {
    let on = reader.u8()? != 0;
    let mut place = || Ok::<_, Malformed>((reader.u16()?, reader.u16()?));
    let (primaries, white) = ([place()?, place()?, place()?], place()?);
    let hdr = Hdr {
        primaries,
        white,
        max_luminance: reader.u16()?,
        min_luminance: reader.u16()?,
        max_content: reader.u16()?,
        max_frame_average: reader.u16()?,
        max_full_frame: reader.u16()?,
    };
    Ok(ToGuest::Hdr(on.then_some(hdr)))
}
