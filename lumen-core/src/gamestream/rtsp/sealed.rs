//! The frame of `rtspenc`: `u32 BE 0x80000000 | length`, `u32 BE sequence`, tag, ciphertext; AES-128-GCM with the
//! session's key and no associated data (moonlight-common-c, RtspConnection.c, sealRtspMessage).

use std::fmt;

use super::{MAX_REQUEST, Malformed};
use crate::gamestream::gcm::{self, Origin, Stream};

/// Bytes before the ciphertext.
pub const SEALED_HEADER_BYTES: usize = 4 + 4 + gcm::TAG_BYTES;
/// Most bytes of a frame that is looked at.
pub const MAX_FRAME: usize = SEALED_HEADER_BYTES + MAX_REQUEST;
const SEALED: u32 = 1 << 31;

/// Whether a connection that begins with this byte holds a sealed frame. No method's name does.
pub const fn is_sealed(first: u8) -> bool {
    first & 0x80 != 0
}

/// What stands before the ciphertext.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHead {
    /// Counts what its sender has sealed with any key: clients begin at 1 and never again (RtspConnection.c).
    pub sequence: u32,
    /// Bytes of the ciphertext: 1 to [`MAX_REQUEST`].
    pub length: usize,
}

/// A whole frame, not opened yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    pub head: FrameHead,
    tag: [u8; gcm::TAG_BYTES],
    ciphertext: &'a [u8],
}

/// Not sealed with this key, or not by a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("authentication failed")]
pub struct Forged;

impl<'a> Frame<'a> {
    /// The frame at the front of `bytes` and how many bytes it has; `None` as long as there is more to come.
    pub fn parse(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, Malformed> {
        if bytes.first().is_some_and(|&first| !is_sealed(first)) {
            return Err(Malformed::RequestLine);
        }
        let Some((length, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
        let length = (u32::from_be_bytes(*length) & !SEALED) as usize;
        if length == 0 || length > MAX_REQUEST {
            return Err(Malformed::TooLong);
        }
        let Some((sequence, rest)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let Some((tag, rest)) = rest.split_first_chunk::<{ gcm::TAG_BYTES }>() else { return Ok(None) };
        let Some(ciphertext) = rest.get(..length) else { return Ok(None) };
        let head = FrameHead { sequence: u32::from_be_bytes(*sequence), length };
        Ok(Some((Self { head, tag: *tag, ciphertext }, SEALED_HEADER_BYTES + length)))
    }
}

/// Seals and opens with one session's key. There must be only one for a key and an origin: it counts the nonces.
pub struct RtspCipher {
    key: gcm::Key,
    origin: Origin,
    sealed: u32,
}

impl RtspCipher {
    /// Of the host's side, or of a client's.
    pub fn new(key: &[u8; 16], origin: Origin) -> Self {
        Self { key: gcm::Key::new(key), origin, sealed: 0 }
    }

    /// Opens what the other side sealed. Trying the keys of several sessions on one frame is how a connection finds its
    /// session.
    pub fn open(&self, frame: &Frame<'_>) -> Result<Vec<u8>, Forged> {
        let nonce = gcm::nonce(frame.head.sequence, self.origin.other(), Stream::Rtsp);
        let mut out = vec![0; frame.ciphertext.len()];
        if self.key.open(&nonce, frame.ciphertext, &frame.tag, &mut out) { Ok(out) } else { Err(Forged) }
    }

    /// One frame with this message; `None` once 2^32 - 1 have been sealed, or if it is longer than a frame may be.
    pub fn seal(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let length = u32::try_from(message.len()).ok().filter(|&length| length > 0 && length < SEALED)?;
        let sequence = self.sealed.checked_add(1)?;
        self.sealed = sequence;
        let mut frame = Vec::with_capacity(SEALED_HEADER_BYTES + message.len());
        frame.extend_from_slice(&(SEALED | length).to_be_bytes());
        frame.extend_from_slice(&sequence.to_be_bytes());
        frame.extend_from_slice(&[0; gcm::TAG_BYTES]);
        frame.extend_from_slice(message);
        let (head, body) = frame.split_at_mut(SEALED_HEADER_BYTES);
        let tag = self.key.seal(&gcm::nonce(sequence, self.origin, Stream::Rtsp), body);
        head[8..].copy_from_slice(&tag);
        Some(frame)
    }
}

impl fmt::Debug for RtspCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtspCipher").field("origin", &self.origin).finish_non_exhaustive()
    }
}
