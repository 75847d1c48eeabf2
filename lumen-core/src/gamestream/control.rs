//! The control stream's messages (moonlight-common-c, ControlStream.c), which travel sealed over ENet: parsed, built,
//! sealed and opened.

mod from_guest;
mod seal;
mod to_guest;
mod v1;
mod window;

pub use from_guest::{FecStatus, FromGuest, LossStats};
pub use seal::{ControlCipher, ControlVersion, Exhausted, MAX_SEALED, Rejected, SEALED_OVERHEAD};
pub use to_guest::{Hdr, Sensor, Termination, ToGuest, Triggers};

/// ENet channels that clients ask for; with fewer, all goes over channel 0 (Limelight-internal.h, CTRL_CHANNEL_*).
pub const CHANNELS: usize = 0x30;
/// Most bytes of a message before it is sealed. Clients' longest have some seventy.
pub const MAX_MESSAGE: usize = 512;
/// Type and payload length.
const HEADER_BYTES: usize = 4;

/// The bytes are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a control message")]
pub struct Malformed;

impl From<crate::cursor::Malformed> for Malformed {
    fn from(_: crate::cursor::Malformed) -> Self {
        Self
    }
}

/// Splits `u16 LE type, u16 LE length, payload`; the length must be that of the payload.
fn split(message: &[u8]) -> Result<(u16, &[u8]), Malformed> {
    let (&[kind, kind_high, length, length_high], payload) =
        message.split_first_chunk::<HEADER_BYTES>().ok_or(Malformed)?;
    let length = u16::from_le_bytes([length, length_high]);
    let whole = usize::from(length) == payload.len() && message.len() <= MAX_MESSAGE;
    if whole { Ok((u16::from_le_bytes([kind, kind_high]), payload)) } else { Err(Malformed) }
}

/// Appends a message whose payload `fill` appends.
fn join(kind: u16, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    let start = out.len();
    fill(out);
    // No message of ours comes near MAX_MESSAGE.
    let length = (out.len() - start) as u16;
    out[start - 2..start].copy_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
#[path = "control/tests.rs"]
mod tests;
