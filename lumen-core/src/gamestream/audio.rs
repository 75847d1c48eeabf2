//! GameStream sound: Opus packets to RTP with parity, encrypted if the client says so. docs/gamestream.md §8.

use std::fmt;

use aws_lc_rs::cipher::{AES_128, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;

use crate::audio::{MAX_PACKET, PacketTime};
use crate::fec::Shards;
use crate::fec::kernels::Kernel;

/// Data packets of a block.
const BLOCK_DATA: u32 = 4;
/// Parity packets of a block.
const BLOCK_PARITY: usize = 2;
/// Parity of a block, a row for each packet: fixed, and not the matrix of video (moonlight-common-c, RtpAudioQueue.c).
const ROWS: [u8; BLOCK_PARITY * BLOCK_DATA as usize] = [0x77, 0x40, 0x38, 0x0e, 0xc7, 0xa7, 0x0d, 0x6c];

const RTP_HEADER: usize = 12;
const RTP_FLAGS: u8 = 0x80;
const TYPE_DATA: u8 = 97;
const TYPE_PARITY: u8 = 127;
/// Of all packets; there is nothing it could be told apart from.
const SOURCE: u32 = 0;
/// Bytes of a parity packet between RTP's header and the parity.
const PARITY_HEADER: usize = 12;
const CIPHER_BLOCK: usize = 16;

/// Most bytes of a UDP payload: one of parity over the longest packets, padded by encryption.
pub const MAX_DATAGRAM: usize = RTP_HEADER + PARITY_HEADER + MAX_PACKET + CIPHER_BLOCK;

/// What a session's sound is sent with.
#[derive(Clone, Copy)]
pub struct AudioConfig {
    /// How much sound every packet holds.
    pub packet: PacketTime,
    /// The session's key and its `rikeyid`, if sound is to be encrypted.
    pub key: Option<([u8; 16], i32)>,
}

impl fmt::Debug for AudioConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encrypted = self.key.is_some();
        f.debug_struct("AudioConfig").field("packet", &self.packet).field("encrypted", &encrypted).finish()
    }
}

/// What was made since construction.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct AudioCounters {
    pub data: u64,
    pub parity: u64,
    /// Opus packets that were empty or longer than [`MAX_PACKET`], and were not sent.
    pub refused: u64,
    /// Blocks that were left unfinished, because a packet of another length came.
    pub restarts: u64,
}

/// Makes the sound packets of one session.
pub struct AudioPacketizer {
    /// Milliseconds of each packet.
    packet_ms: u32,
    cipher: Option<Cipher>,
    kernel: Kernel,
    counters: AudioCounters,
    /// Number of the packet that is sent next. The lower 16 bits travel; a block begins at every multiple of four.
    next: u32,
    /// The payloads of the block so far, one after the other.
    block: Vec<u8>,
    /// Bytes of each of them; clients give up parity for good if one differs.
    length: usize,
    parity: Vec<u8>,
    scratch: Vec<u64>,
    sealed: Vec<u8>,
    datagram: Vec<u8>,
}

impl AudioPacketizer {
    pub fn new(config: AudioConfig) -> Self {
        let longest = MAX_PACKET + CIPHER_BLOCK;
        Self {
            packet_ms: (config.packet.ns() / 1_000_000) as u32,
            cipher: config.key.map(|(key, id)| Cipher::new(&key, id)),
            kernel: Kernel::best(),
            counters: AudioCounters::default(),
            next: 0,
            block: Vec::with_capacity(BLOCK_DATA as usize * longest),
            length: 0,
            parity: Vec::with_capacity(BLOCK_PARITY * longest),
            scratch: Vec::with_capacity(ROWS.len()),
            sealed: Vec::with_capacity(longest),
            datagram: Vec::with_capacity(MAX_DATAGRAM),
        }
    }

    pub fn counters(&self) -> AudioCounters {
        self.counters
    }

    /// Hands the datagrams of one Opus packet to `out`: its own, and two of parity after every fourth.
    ///
    /// The encoder is set to packets of one length, because parity is over packets of one length. Where one differs
    /// nevertheless, the block is left as it is, and the packet begins the next one: to the client it is a loss of up
    /// to three packets, where a block with two lengths would end parity for the session.
    pub fn packet(&mut self, opus: &[u8], mut out: impl FnMut(&[u8])) {
        if opus.is_empty() || opus.len() > MAX_PACKET {
            self.counters.refused += 1;
            return;
        }
        let sequence = self.next_sequence(self.cipher.as_ref().map_or(opus.len(), |_| Cipher::sealed_len(opus.len())));
        let payload = match &self.cipher {
            Some(cipher) => {
                self.sealed.clear();
                self.sealed.extend_from_slice(opus);
                if cipher.seal(sequence, &mut self.sealed).is_err() {
                    self.counters.refused += 1;
                    return;
                }
                &self.sealed
            }
            None => opus,
        };
        self.datagram.clear();
        rtp_header(TYPE_DATA, sequence, self.next.wrapping_mul(self.packet_ms), &mut self.datagram);
        self.datagram.extend_from_slice(payload);
        self.block.extend_from_slice(payload);
        self.next = self.next.wrapping_add(1);
        self.counters.data += 1;
        out(&self.datagram);
        if self.next.is_multiple_of(BLOCK_DATA) {
            self.finish_block(out);
        }
    }

    /// The number of a packet whose payload has so many bytes: the first of the next block, if it does not fit the one
    /// begun.
    fn next_sequence(&mut self, length: usize) -> u16 {
        if !self.block.is_empty() && length != self.length {
            self.counters.restarts += 1;
            self.next = (self.next | (BLOCK_DATA - 1)).wrapping_add(1);
            self.block.clear();
        }
        self.length = length;
        self.next as u16
    }

    fn finish_block(&mut self, mut out: impl FnMut(&[u8])) {
        let first = self.next.wrapping_sub(BLOCK_DATA);
        let (sequence, time) = (first as u16, first.wrapping_mul(self.packet_ms));
        let starts: [usize; BLOCK_DATA as usize] = std::array::from_fn(|index| index * self.length);
        self.parity.clear();
        self.parity.resize(BLOCK_PARITY * self.length, 0);
        if let Some(data) = Shards::new(&self.block, &starts, self.length) {
            self.kernel.combine(&ROWS, data, &mut self.parity, &mut self.scratch);
        }
        for (index, parity) in self.parity.chunks_exact(self.length).enumerate() {
            self.datagram.clear();
            rtp_header(TYPE_PARITY, sequence, time, &mut self.datagram);
            // The block's own header: which row this is, and what its data packets' headers begin with.
            self.datagram.extend_from_slice(&[index as u8, TYPE_DATA]);
            self.datagram.extend_from_slice(&sequence.to_be_bytes());
            self.datagram.extend_from_slice(&time.to_be_bytes());
            self.datagram.extend_from_slice(&SOURCE.to_be_bytes());
            self.datagram.extend_from_slice(parity);
            self.counters.parity += 1;
            out(&self.datagram);
        }
        self.block.clear();
    }
}

fn rtp_header(kind: u8, sequence: u16, time: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[RTP_FLAGS, kind]);
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&time.to_be_bytes());
    out.extend_from_slice(&SOURCE.to_be_bytes());
}

/// AES-128-CBC as clients expect it; it hides what is said, and authenticates nothing.
struct Cipher {
    key: PaddedBlockEncryptingKey,
    id: u32,
}

impl Cipher {
    fn new(key: &[u8; 16], id: i32) -> Self {
        let key = UnboundCipherKey::new(&AES_128, key).and_then(PaddedBlockEncryptingKey::cbc_pkcs7);
        let Ok(key) = key else { unreachable!("16 bytes are AES-128's key length") };
        Self { key, id: id.cast_unsigned() }
    }

    /// Bytes of so many once encrypted: padding is at least one.
    fn sealed_len(bytes: usize) -> usize {
        (bytes + 1).next_multiple_of(CIPHER_BLOCK)
    }

    /// Encrypts `payload` in place and pads it.
    fn seal(&self, sequence: u16, payload: &mut Vec<u8>) -> Result<(), Unspecified> {
        let mut iv = [0; 16];
        iv[..4].copy_from_slice(&self.id.wrapping_add(u32::from(sequence)).to_be_bytes());
        let iv = EncryptionContext::Iv128(FixedLength::from(iv));
        self.key.less_safe_encrypt(payload, iv).map(drop)
    }
}

#[cfg(test)]
mod tests;
