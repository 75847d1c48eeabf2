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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(what: &str) -> Vec<u8> {
        let mut lines = include_str!("recorded.txt").lines();
        let hex = lines.find_map(|line| line.strip_prefix(what)?.strip_prefix(' ')).expect(what);
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..][..2], 16).unwrap()).collect()
    }

    #[test]
    fn a_recorded_pairing_comes_out_the_same() {
        let pin = Pin::new("1234").unwrap();
        let keyed = || Keyed::new(&said("salt").try_into().unwrap(), &pin).unwrap();
        let host = Certificate::from_pem(&said("plaincert")).unwrap();
        let client = Certificate::from_pem(&said("clientcert")).unwrap();
        // What was random then.
        let mut answer = said("challengeresponse");
        keyed().key.decipher(&mut answer).unwrap();
        let host_challenge = answer[32..].try_into().unwrap();
        let host_secret = said("pairingsecret")[..16].try_into().unwrap();

        let challenge = said("clientchallenge").try_into().unwrap();
        let (challenged, answer) = keyed().challenge(challenge, &host.signature, host_secret, host_challenge).unwrap();
        assert_eq!(answer[..], said("challengeresponse"));
        let signed = &said("pairingsecret")[16..];
        assert!(host.has_signed(SignatureScheme::RSA_PKCS1_SHA256, &challenged.secret(), signed));
        let answered = challenged.respond(said("serverchallengeresp").try_into().unwrap()).unwrap();
        let proof = said("clientpairingsecret");
        let (secret, signature) = proof.split_first_chunk::<16>().unwrap();
        assert_eq!(answered.verify(secret, signature, &client), Ok(()));
    }

    #[test]
    fn with_another_pin_the_recorded_client_is_not_believed() {
        let keyed = Keyed::new(&said("salt").try_into().unwrap(), &Pin::new("1235").unwrap()).unwrap();
        let client = Certificate::from_pem(&said("clientcert")).unwrap();
        let (challenged, _) =
            keyed.challenge(said("clientchallenge").try_into().unwrap(), &[], [1; 16], [2; 16]).unwrap();
        let answered = challenged.respond(said("serverchallengeresp").try_into().unwrap()).unwrap();
        let proof = said("clientpairingsecret");
        let (secret, signature) = proof.split_first_chunk::<16>().unwrap();
        assert_eq!(answered.verify(secret, signature, &client), Err(Wrong));
    }
}
