//! One attempt to pair, as types: each phase is a value that only the phase before can make, and that the next one
//! uses up. What is random is an argument; nothing here waits, sends or remembers (docs/gamestream.md §3).

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256};
use ipc::Pin;
use rustls::SignatureScheme;

use crate::gamestream::certificate::Certificate;

type Hash = [u8; 32];

/// The PIN has been entered; the client's challenge comes next.
pub struct Keyed {
    key: Key,
}

/// The challenge has been answered; the client's response comes next.
pub struct Challenged {
    key: Key,
    host_secret: [u8; 16],
    host_challenge: [u8; 16],
}

/// The response is known; the secret of which it was made comes next.
pub struct Answered {
    host_challenge: [u8; 16],
    response: Hash,
}

/// The client does not know the PIN, or is not who its certificate says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wrong;

impl Keyed {
    pub fn new(salt: &[u8; 16], pin: &Pin) -> Option<Self> {
        let digest = hash(&[salt, pin.digits()]);
        Some(Self { key: Key::new(digest.first_chunk()?) })
    }

    /// Answers the client's challenge: `challengeresponse`. `host_signature` is the one in the host's certificate.
    pub fn challenge(
        self,
        challenge: [u8; 16],
        host_signature: &[u8],
        host_secret: [u8; 16],
        host_challenge: [u8; 16],
    ) -> Option<(Challenged, [u8; 48])> {
        let mut challenge = challenge;
        self.key.decipher(&mut challenge)?;
        let mut answer = [0; 48];
        answer[..32].copy_from_slice(&hash(&[&challenge, host_signature, &host_secret]));
        answer[32..].copy_from_slice(&host_challenge);
        self.key.encipher(&mut answer)?;
        Some((Challenged { key: self.key, host_secret, host_challenge }, answer))
    }
}

impl Challenged {
    /// What lumend has to sign, and what the client is told with the signature.
    pub fn secret(&self) -> [u8; 16] {
        self.host_secret
    }

    /// Takes the client's response: from here on it cannot choose another secret.
    pub fn respond(self, response: [u8; 32]) -> Option<Answered> {
        let mut response = response;
        self.key.decipher(&mut response)?;
        Some(Answered { host_challenge: self.host_challenge, response })
    }
}

impl Answered {
    /// Whether the client that holds the certificate's key has known the PIN.
    pub fn verify(self, secret: &[u8; 16], signature: &[u8], certificate: &Certificate) -> Result<(), Wrong> {
        let expected = hash(&[&self.host_challenge, &certificate.signature, secret]);
        let knows = verify_slices_are_equal(&expected, &self.response).is_ok();
        let signed = certificate.has_signed(SignatureScheme::RSA_PKCS1_SHA256, secret, signature);
        if knows && signed { Ok(()) } else { Err(Wrong) }
    }
}

/// AES-128 in single blocks, which is what the protocol has.
struct Key([u8; 16]);

impl Key {
    fn new(key: &[u8; 16]) -> Self {
        Self(*key)
    }

    fn unbound(&self) -> Option<UnboundCipherKey> {
        UnboundCipherKey::new(&AES_128, &self.0).ok()
    }

    fn encipher(&self, blocks: &mut [u8]) -> Option<()> {
        EncryptingKey::ecb(self.unbound()?).ok()?.encrypt(blocks).ok()?;
        Some(())
    }

    fn decipher(&self, blocks: &mut [u8]) -> Option<()> {
        DecryptingKey::ecb(self.unbound()?).ok()?.decrypt(blocks, DecryptionContext::None).ok()?;
        Some(())
    }
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
