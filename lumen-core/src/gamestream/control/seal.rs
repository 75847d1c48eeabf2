//! `u16 LE 1`, `u16 LE length of all that follows`, `u32 LE sequence`, tag, ciphertext (moonlight-common-c,
//! ControlStream.c, encryptControlMessage): AES-128-GCM with the session's key and no associated data.

use std::fmt;

use super::v1::V1Key;
use super::window::Window;
use super::{HEADER_BYTES, MAX_MESSAGE};
use crate::gamestream::gcm::{self, Origin, Stream, TAG_BYTES};

/// The type of every sealed message.
const SEALED: u16 = 1;
const SEALED_HEADER_BYTES: usize = 2 + 2 + 4;
/// Bytes that sealing adds to a message.
pub const SEALED_OVERHEAD: usize = SEALED_HEADER_BYTES + TAG_BYTES;
/// Most bytes of a sealed message.
pub const MAX_SEALED: usize = SEALED_OVERHEAD + MAX_MESSAGE;

/// How nonces are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlVersion {
    /// From the lowest byte of the sequence number alone, the same for both sides: what old clients have. A nonce
    /// repeats after 256 messages, so this hides nothing from, and proves nothing to, whoever listens for long.
    V1,
    /// From the whole number, and from who seals.
    V2,
}

/// All numbers have been used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this session has sealed as many control messages as it may")]
pub struct Exhausted;

/// Why a message was not opened. Counted, not logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejected {
    #[error("not a sealed message")]
    Malformed,
    #[error("opened before, or too old to tell")]
    Replayed,
    #[error("authentication failed")]
    Forged,
}

enum Key {
    V1(Box<V1Key>),
    V2(gcm::Key),
}

/// Seals and opens one session's control messages. There must be only one for a key and an origin: it counts the nonces.
pub struct ControlCipher {
    key: Key,
    origin: Origin,
    /// Of the next message, unless all have been used.
    next: Option<u32>,
    window: Window,
}

impl ControlCipher {
    /// Of the host's side, or of a client's.
    pub fn new(key: &[u8; 16], version: ControlVersion, origin: Origin) -> Self {
        let key = match version {
            ControlVersion::V1 => Key::V1(Box::new(V1Key::new(key))),
            ControlVersion::V2 => Key::V2(gcm::Key::new(key)),
        };
        Self { key, origin, next: Some(0), window: Window::default() }
    }

    /// Appends `message`, sealed.
    ///
    /// # Panics
    /// If the message is longer than [`MAX_MESSAGE`]: a programming error of the sender.
    pub fn seal(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Exhausted> {
        assert!(message.len() <= MAX_MESSAGE, "a control message of {} bytes", message.len());
        let sequence = self.next.ok_or(Exhausted)?;
        self.next = sequence.checked_add(1);
        out.extend_from_slice(&SEALED.to_le_bytes());
        out.extend_from_slice(&((4 + TAG_BYTES + message.len()) as u16).to_le_bytes());
        out.extend_from_slice(&sequence.to_le_bytes());
        let tag_at = out.len();
        out.extend_from_slice(&[0; TAG_BYTES]);
        let body_at = out.len();
        out.extend_from_slice(message);
        let tag = match &self.key {
            Key::V1(key) => key.seal(sequence, &mut out[body_at..]),
            Key::V2(key) => key.seal(&gcm::nonce(sequence, self.origin, Stream::Control), &mut out[body_at..]),
        };
        out[tag_at..body_at].copy_from_slice(&tag);
        Ok(())
    }

    /// Opens what the other side sealed and returns the message, which is in `out`. By version 2 each is opened once, in
    /// whatever order they come; version 1 has nothing by which to tell.
    pub fn open<'a>(&mut self, sealed: &[u8], out: &'a mut [u8; MAX_MESSAGE]) -> Result<&'a [u8], Rejected> {
        let (head, rest) = sealed.split_first_chunk::<SEALED_HEADER_BYTES>().ok_or(Rejected::Malformed)?;
        let &[kind, kind_high, length, length_high, s0, s1, s2, s3] = head;
        let sequence = u32::from_le_bytes([s0, s1, s2, s3]);
        let (tag, body) = rest.split_first_chunk::<TAG_BYTES>().ok_or(Rejected::Malformed)?;
        let length = usize::from(u16::from_le_bytes([length, length_high]));
        if u16::from_le_bytes([kind, kind_high]) != SEALED
            || length != 4 + TAG_BYTES + body.len()
            || body.len() < HEADER_BYTES
        {
            return Err(Rejected::Malformed);
        }
        let out = out.get_mut(..body.len()).ok_or(Rejected::Malformed)?;
        match &self.key {
            Key::V1(key) => {
                if !key.open(sequence, body, tag, out) {
                    return Err(Rejected::Forged);
                }
            }
            Key::V2(key) => {
                if !self.window.fresh(sequence) {
                    return Err(Rejected::Replayed);
                }
                let nonce = gcm::nonce(sequence, self.origin.other(), Stream::Control);
                if !key.open(&nonce, body, tag, out) {
                    return Err(Rejected::Forged);
                }
                self.window.accept(sequence);
            }
        }
        Ok(out)
    }
}

impl fmt::Debug for ControlCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlCipher").field("origin", &self.origin).finish_non_exhaustive()
    }
}
