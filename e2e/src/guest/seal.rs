//! AES with a session's one key: GCM for RTSP, control and video, CBC for sound.

use aes_gcm::aead::array::Array;
use aes_gcm::aead::consts::U16;
use aes_gcm::aead::{AeadInOut, KeyInit};
use anyhow::{Result, anyhow, ensure};
use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};

/// Who sealed.
#[derive(Clone, Copy)]
pub enum Party {
    Client,
    Host,
}

/// In which stream.
#[derive(Clone, Copy)]
pub enum Place {
    Rtsp,
    Control,
}

impl Place {
    /// `u32 LE` number, six zeros, who, where.
    pub const fn nonce(self, number: u32, party: Party) -> [u8; 12] {
        let mut nonce = [0; 12];
        let bytes = number.to_le_bytes();
        nonce[0] = bytes[0];
        nonce[1] = bytes[1];
        nonce[2] = bytes[2];
        nonce[3] = bytes[3];
        nonce[10] = match party {
            Party::Client => b'C',
            Party::Host => b'H',
        };
        nonce[11] = match self {
            Self::Rtsp => b'R',
            Self::Control => b'C',
        };
        nonce
    }
}

pub struct Gcm(LessSafeKey);

impl Gcm {
    pub fn new(key: &[u8; 16]) -> Result<Self> {
        Ok(Self(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).map_err(|_| anyhow!("no AES"))?)))
    }

    /// Tag and ciphertext.
    pub fn seal(&self, nonce: [u8; 12], plain: &[u8]) -> Result<([u8; 16], Vec<u8>)> {
        let mut body = plain.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::empty(), &mut body).map_err(|_| anyhow!("no seal"))?;
        Ok((tag.as_ref().try_into()?, body))
    }

    pub fn open(&self, nonce: [u8; 12], sealed: &[u8], tag: &[u8; 16]) -> Result<Vec<u8>> {
        let mut out = vec![0; sealed.len()];
        let nonce = Nonce::assume_unique_for_key(nonce);
        let opened = self.0.open_separate_gather(nonce, Aad::empty(), sealed, tag, &mut out);
        opened.map(|()| out).map_err(|_| anyhow!("not authentic"))
    }
}

/// The control stream's cipher: its messages are numbered from 0 in each direction.
pub enum Control {
    /// A nonce of 16 bytes: the number's lowest, and zeros. Both directions have the same.
    One {
        key: Box<aes_gcm::AesGcm<aes_gcm::aes::Aes128, U16>>,
        next: u32,
    },
    Two {
        key: Gcm,
        next: u32,
    },
}

impl Control {
    pub fn new(key: &[u8; 16], version_2: bool) -> Result<Self> {
        if version_2 {
            return Ok(Self::Two { key: Gcm::new(key)?, next: 0 });
        }
        let key = aes_gcm::AesGcm::new_from_slice(key).map_err(|_| anyhow!("no AES"))?;
        Ok(Self::One { key: Box::new(key), next: 0 })
    }

    /// `u16 LE 1`, `u16 LE` length of the rest, `u32 LE` number, tag, ciphertext of `u16 LE` type, `u16 LE` length, body.
    pub fn seal(&mut self, kind: u16, body: &[u8]) -> Result<Vec<u8>> {
        let mut plain = kind.to_le_bytes().to_vec();
        plain.extend((body.len() as u16).to_le_bytes());
        plain.extend(body);
        let (number, tag, sealed) = match self {
            Self::One { key, next } => {
                let mut nonce = [0; 16];
                nonce[0] = *next as u8;
                let tag = key.encrypt_inout_detached(&Array(nonce), &[], plain.as_mut_slice().into());
                *next += 1;
                (*next - 1, tag.map_err(|_| anyhow!("no seal"))?.into(), plain)
            }
            Self::Two { key, next } => {
                let (tag, sealed) = key.seal(Place::Control.nonce(*next, Party::Client), &plain)?;
                *next += 1;
                (*next - 1, tag, sealed)
            }
        };
        let mut message = 1_u16.to_le_bytes().to_vec();
        message.extend((4 + 16 + sealed.len() as u16).to_le_bytes());
        message.extend(number.to_le_bytes());
        message.extend(tag);
        message.extend(sealed);
        Ok(message)
    }

    /// The host's type and body.
    pub fn open(&self, message: &[u8]) -> Result<(u16, Vec<u8>)> {
        ensure!(message.len() >= 28, "{} bytes are no message", message.len());
        let word = |at: usize| u16::from_le_bytes([message[at], message[at + 1]]);
        ensure!(word(0) == 1, "not encrypted: type {:#x}", word(0));
        ensure!(usize::from(word(2)) == message.len() - 4, "another length");
        let number = u32::from_le_bytes(message[4..8].try_into()?);
        let tag: [u8; 16] = message[8..24].try_into()?;
        let plain = match self {
            Self::One { key, .. } => {
                let mut nonce = [0; 16];
                nonce[0] = number as u8;
                let mut plain = message[24..].to_vec();
                key.decrypt_inout_detached(&Array(nonce), &[], plain.as_mut_slice().into(), &Array(tag))
                    .map_err(|_| anyhow!("not authentic"))?;
                plain
            }
            Self::Two { key, .. } => key.open(Place::Control.nonce(number, Party::Host), &message[24..], &tag)?,
        };
        let length = usize::from(u16::from_le_bytes([plain[2], plain[3]]));
        ensure!(length == plain.len() - 4, "{length} bytes announced, {} there", plain.len() - 4);
        Ok((u16::from_le_bytes([plain[0], plain[1]]), plain[4..].to_vec()))
    }
}

/// A packet of sound: CBC with PKCS #7; the IV is `u32 BE` rikeyid + number, and zeros.
pub fn open_sound(key: &[u8; 16], rikeyid: i32, number: u16, sealed: &[u8]) -> Result<Vec<u8>> {
    let mut iv = [0; 16];
    iv[..4].copy_from_slice(&(rikeyid as u32).wrapping_add(u32::from(number)).to_be_bytes());
    let unbound = UnboundCipherKey::new(&AES_128, key).map_err(|_| anyhow!("no AES"))?;
    let key = PaddedBlockDecryptingKey::cbc_pkcs7(unbound).map_err(|_| anyhow!("no CBC"))?;
    let mut bytes = sealed.to_vec();
    let iv = DecryptionContext::Iv128(iv.into());
    let plain = key.decrypt(&mut bytes, iv).map_err(|_| anyhow!("not CBC of this key"))?;
    Ok(plain.to_vec())
}
