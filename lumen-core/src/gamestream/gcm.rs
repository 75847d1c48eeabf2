//! AES-128-GCM with a session's one key (`rikey`), and the nonces that keep its users apart: a counter, who sealed, and
//! in which stream (moonlight-common-c, RtspConnection.c and ControlStream.c). Video's nonces end in a byte of their own.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

pub(super) const TAG_BYTES: usize = 16;

/// Who sealed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    Client,
    Host,
}

impl Origin {
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Host,
            Self::Host => Self::Client,
        }
    }

    const fn letter(self) -> u8 {
        match self {
            Self::Client => b'C',
            Self::Host => b'H',
        }
    }
}

/// In which of the streams that count nonces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stream {
    Rtsp,
    Control,
}

/// `u32 LE counter`, six zeros, who, where.
pub(super) fn nonce(counter: u32, origin: Origin, stream: Stream) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&counter.to_le_bytes());
    nonce[10] = origin.letter();
    nonce[11] = match stream {
        Stream::Rtsp => b'R',
        Stream::Control => b'C',
    };
    nonce
}

pub(super) struct Key(LessSafeKey);

impl Key {
    pub(super) fn new(key: &[u8; 16]) -> Self {
        let Ok(key) = UnboundKey::new(&AES_128_GCM, key) else { unreachable!("16 bytes are AES-128's key length") };
        Self(LessSafeKey::new(key))
    }

    /// Seals in place. A key must never see a nonce twice.
    pub(super) fn seal(&self, nonce: &[u8; 12], body: &mut [u8]) -> [u8; TAG_BYTES] {
        let sealed = self.0.seal_in_place_separate_tag(Nonce::assume_unique_for_key(*nonce), Aad::empty(), body);
        let mut tag = [0; TAG_BYTES];
        match sealed {
            Ok(sealed) => tag.copy_from_slice(sealed.as_ref()),
            Err(_) => unreachable!("fails for bodies beyond 64 GiB alone"),
        }
        tag
    }

    /// Opens `body` into `out`, which must be as long. False if it is not authentic.
    pub(super) fn open(&self, nonce: &[u8; 12], body: &[u8], tag: &[u8; TAG_BYTES], out: &mut [u8]) -> bool {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        body.len() == out.len() && self.0.open_separate_gather(nonce, Aad::empty(), body, tag, out).is_ok()
    }
}
