//! Sealing of the data plane: AES-128-GCM with one key per generation and direction, and the anti-replay window.
//!
//! PROTOCOL.md §5. A key and a nonce never meet twice: the counter belongs to the [`Sealer`], which is not `Clone`, and
//! every session and every resume has a fresh secret.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::packet::{HEADER_BYTES, Header, TAG_BYTES};

/// Packets that one key may seal: 79 days at 10 000 a second. At 91 blocks a packet an attacker's advantage over
/// AES-GCM then is still below 2^-42.
pub const MAX_PACKETS: u64 = 1 << 36;

/// The secret of one session, told to the client in `Welcome`. Its bytes are never printed, and wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct MediaSecret(pub [u8; 32]);

impl Drop for MediaSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl ZeroizeOnDrop for MediaSecret {}

impl fmt::Debug for MediaSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MediaSecret(..)")
    }
}

/// Who seals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    HostToClient = 0,
    ClientToHost = 1,
}

/// A key cannot seal any more; the session needs a new generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("this generation has sent as many packets as its key may seal")]
pub struct Exhausted;

/// Why a packet was not opened. None of these is worth a log line: they are counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Rejected {
    #[error("too short, too long, or of another generation")]
    Malformed,
    #[error("seen before, or older than the window")]
    Replayed,
    #[error("authentication failed")]
    Forged,
}

struct Key {
    key: LessSafeKey,
    salt: [u8; 12],
}

struct Material;

impl KeyType for Material {
    fn len(&self) -> usize {
        16 + 12
    }
}

impl Key {
    /// HKDF-SHA256 (RFC 5869) expand of the secret, itself uniformly random and so used as the PRK, with info
    /// "lumen/1 media" ‖ generation (u32 LE) ‖ direction: 16 bytes of key, 12 of salt.
    fn derive(secret: &MediaSecret, generation: u32, direction: Direction) -> Self {
        let prk = Prk::new_less_safe(HKDF_SHA256, &secret.0);
        let generation = generation.to_le_bytes();
        let info = [&b"lumen/1 media"[..], &generation, &[direction as u8]];
        let mut material = [0; 28];
        let filled = prk.expand(&info, Material).and_then(|okm| okm.fill(&mut material));
        let key = UnboundKey::new(&AES_128_GCM, &material[..16]);
        let (Ok(()), Ok(key)) = (filled, key) else {
            unreachable!("28 bytes are within HKDF's limit and 16 are AES-128's key length");
        };
        let mut salt = [0; 12];
        salt.copy_from_slice(&material[16..]);
        material.zeroize();
        Self { key: LessSafeKey::new(key), salt }
    }

    /// Salt xor the counter, right-aligned and big-endian.
    fn nonce(&self, counter: u64) -> Nonce {
        let mut nonce = self.salt;
        for (byte, count) in nonce[4..].iter_mut().zip(counter.to_be_bytes()) {
            *byte ^= count;
        }
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Seals the packets of one generation and direction. There must be only one for each, ever.
pub struct Sealer {
    key: Key,
    generation: u32,
    next: u64,
}

impl Sealer {
    pub fn new(secret: &MediaSecret, generation: u32, direction: Direction) -> Self {
        Self { key: Key::derive(secret, generation, direction), generation, next: 1 }
    }

    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Packets sealed so far.
    pub fn sealed(&self) -> u64 {
        self.next - 1
    }

    /// Seals one packet in place: `packet` is 24 bytes for the header, the body, and 16 bytes for the tag. The header's
    /// counter and generation are the sealer's own, whatever `header` says. Returns the counter used.
    ///
    /// # Panics
    /// If `packet` is shorter than a header and a tag: a programming error of the sender.
    pub fn seal(&mut self, header: Header, packet: &mut [u8]) -> Result<u64, Exhausted> {
        let counter = self.next;
        if counter > MAX_PACKETS {
            return Err(Exhausted);
        }
        self.next += 1;
        let header = Header { counter, generation: self.generation, ..header }.encode();
        let (head, rest) = packet.split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&header);
        let body = rest.len() - TAG_BYTES;
        let (body, tag) = rest.split_at_mut(body);
        let sealed = self.key.key.seal_in_place_separate_tag(self.key.nonce(counter), Aad::from(header), body);
        // Fails only for bodies beyond 64 GiB.
        tag.copy_from_slice(sealed.map_err(|_| Exhausted)?.as_ref());
        Ok(counter)
    }
}

/// Opens the packets of one generation and direction, each at most once.
pub struct Opener {
    key: Key,
    generation: u32,
    window: ReplayWindow,
    received: u64,
}

impl Opener {
    pub fn new(secret: &MediaSecret, generation: u32, direction: Direction) -> Self {
        Self {
            key: Key::derive(secret, generation, direction),
            generation,
            window: ReplayWindow::default(),
            received: 0,
        }
    }

    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Highest counter opened, 0 for none.
    pub fn highest(&self) -> u64 {
        self.window.highest
    }

    /// Packets opened.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Opens a datagram whose `header` was decoded from it, into `out`, and returns the body. `datagram` keeps its
    /// sealed bytes. A replayed packet is refused before any cryptography; the window moves only for what is authentic.
    pub fn open<'a>(&mut self, header: &Header, datagram: &[u8], out: &'a mut [u8]) -> Result<&'a [u8], Rejected> {
        let (aad, sealed) = datagram.split_first_chunk::<HEADER_BYTES>().ok_or(Rejected::Malformed)?;
        let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(Rejected::Malformed)?;
        if header.generation != self.generation {
            return Err(Rejected::Malformed);
        }
        let out = out.get_mut(..body.len()).ok_or(Rejected::Malformed)?;
        if !self.window.fresh(header.counter) {
            return Err(Rejected::Replayed);
        }
        let nonce = self.key.nonce(header.counter);
        let opened = self.key.key.open_separate_gather(nonce, Aad::from(*aad), body, tag, out);
        opened.map_err(|_| Rejected::Forged)?;
        self.window.accept(header.counter);
        self.received += 1;
        Ok(out)
    }
}

/// Which of the last 2048 counters have been seen.
pub struct ReplayWindow {
    highest: u64,
    /// A ring of twice the window, so that clearing ahead of `highest` never touches what is still inside.
    seen: [u64; Self::WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { highest: 0, seen: [0; Self::WORDS] }
    }
}

impl ReplayWindow {
    /// Counters remembered.
    pub const SIZE: u64 = 2048;
    const WORDS: usize = (Self::SIZE as usize * 2) / 64;

    fn place(counter: u64) -> (usize, u64) {
        ((counter / 64) as usize % Self::WORDS, 1 << (counter % 64))
    }

    /// Whether a packet with this counter may be opened. Counters begin at 1.
    pub fn fresh(&self, counter: u64) -> bool {
        if counter == 0 || counter > MAX_PACKETS {
            return false;
        }
        if counter > self.highest {
            return true;
        }
        let (word, bit) = Self::place(counter);
        self.highest - counter < Self::SIZE && self.seen[word] & bit == 0
    }

    /// Marks an authenticated counter as seen.
    pub fn accept(&mut self, counter: u64) {
        if counter > self.highest {
            let skipped = (counter / 64 - self.highest / 64).min(Self::WORDS as u64);
            for ahead in 0..skipped {
                self.seen[Self::place(counter - ahead * 64).0] = 0;
            }
            self.highest = counter;
        }
        let (word, bit) = Self::place(counter);
        self.seen[word] |= bit;
    }
}

#[cfg(test)]
#[path = "seal/tests.rs"]
mod tests;
