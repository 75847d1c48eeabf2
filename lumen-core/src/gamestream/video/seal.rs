//! Encryption of video packets: AES-128-GCM over the whole packet, behind a prefix that names the nonce.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rand;

use super::VideoError;
use crate::packetize::PacketBatch;
use crate::seal::MAX_PACKETS;

/// Bytes in front of a sealed packet: nonce, frame's index (`u32` little-endian), tag.
pub(super) const PREFIX: usize = NONCE + 4 + TAG;
const NONCE: usize = 12;
const TAG: usize = 16;
/// Ends every nonce: those of RTSP end in "CR" and "HR", those of control in "CC" and "HC", with the same key.
const PURPOSE: u8 = b'V';

/// Seals the video of one session.
pub(super) struct VideoSealer {
    key: LessSafeKey,
    /// Of the next packet; 88 bits of it travel.
    counter: u128,
    sealed: u64,
}

impl VideoSealer {
    pub(super) fn new(key: &[u8; 16]) -> Self {
        let Ok(key) = UnboundKey::new(&AES_128_GCM, key) else {
            unreachable!("16 bytes are AES-128's key length");
        };
        // The client chose the key. One that chooses the same for two sessions must not get two packets under one
        // nonce, so that counting begins anywhere. Without randomness it begins at 0: unique in this session at least.
        let mut start = [0; NONCE - 1];
        if rand::fill(&mut start).is_err() {
            start.fill(0);
        }
        let counter = start.iter().fold(0, |counter, &byte| counter << 8 | u128::from(byte));
        Self { key: LessSafeKey::new(key), counter, sealed: 0 }
    }

    /// Packets that the key may still seal.
    pub(super) fn left(&self) -> u64 {
        MAX_PACKETS - self.sealed
    }

    #[cfg(test)]
    pub(super) fn spend(&mut self, packets: u64) {
        self.sealed += packets;
    }

    /// Appends a packet of `frame`, sealed.
    pub(super) fn push(&mut self, frame: u32, packet: &[u8], out: &mut PacketBatch) -> Result<(), VideoError> {
        let mut nonce = [PURPOSE; NONCE];
        nonce[..NONCE - 1].copy_from_slice(&self.counter.to_le_bytes()[..NONCE - 1]);
        self.counter = self.counter.wrapping_add(1);
        self.sealed += 1;
        out.push(&[&nonce, &frame.to_le_bytes(), &[0; TAG], packet], |bytes| {
            let (prefix, body) = bytes.split_at_mut(PREFIX);
            let nonce = Nonce::assume_unique_for_key(nonce);
            // Fails only for bodies beyond 64 GiB.
            let tag = self.key.seal_in_place_separate_tag(nonce, Aad::empty(), body);
            prefix[NONCE + 4..].copy_from_slice(tag.map_err(|_| VideoError::Exhausted)?.as_ref());
            Ok(())
        })
    }
}
