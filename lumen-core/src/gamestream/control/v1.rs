//! AES-128-GCM with nonces of sixteen bytes, which the project's usual library does not have.

use aes_gcm::aead::consts::U16;
use aes_gcm::aes::Aes128;
use aes_gcm::{AeadInOut, KeyInit, Nonce};

use crate::gamestream::gcm::TAG_BYTES;

type Cipher = aes_gcm::AesGcm<Aes128, U16>;

pub(super) struct V1Key(Cipher);

/// The lowest byte of the number, and fifteen zeros (moonlight-common-c, ControlStream.c).
fn nonce(sequence: u32) -> Nonce<U16> {
    let mut nonce = Nonce::<U16>::default();
    nonce[0] = sequence as u8;
    nonce
}

impl V1Key {
    pub(super) fn new(key: &[u8; 16]) -> Self {
        Self(Cipher::new(key.into()))
    }

    pub(super) fn seal(&self, sequence: u32, body: &mut [u8]) -> [u8; TAG_BYTES] {
        match self.0.encrypt_inout_detached(&nonce(sequence), &[], body.into()) {
            Ok(tag) => tag.into(),
            Err(_) => unreachable!("fails for bodies beyond 64 GiB alone"),
        }
    }

    /// Opens `body` into `out`, which is as long. False if it is not authentic.
    pub(super) fn open(&self, sequence: u32, body: &[u8], tag: &[u8; TAG_BYTES], out: &mut [u8]) -> bool {
        out.copy_from_slice(body);
        self.0.decrypt_inout_detached(&nonce(sequence), &[], out.into(), tag.into()).is_ok()
    }
}
