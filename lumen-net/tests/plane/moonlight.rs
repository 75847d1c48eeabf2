//! A Moonlight client's identity and its side of pairing, for the tests of HTTP: bytes only. Written from
//! docs/gamestream.md §3, apart from the host's side.
#![allow(dead_code, reason = "each of the tests that share this needs a part of it")]

use std::fmt::Write;
use std::sync::LazyLock;

use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, RsaKeyPair, UnparsedPublicKey,
};
use ipc::Fingerprint;
use rcgen::{CertificateParams, DistinguishedName, DnType, PKCS_RSA_SHA256, RsaKeySize, SerialNumber};

/// Who the host is to Moonlight clients.
pub static RSA: LazyLock<Identity> = LazyLock::new(Identity::new);

/// An RSA key of 2048 bits signs with this many bytes, and a certificate ends with its signature.
const SIGNATURE: usize = 256;

/// An RSA key and its self-signed certificate, as moonlight-embedded makes them: version 3, serial number 0, no
/// extensions, one subject for all.
pub struct Identity {
    pub key: rcgen::KeyPair,
    pub certificate: Vec<u8>,
}

impl Identity {
    pub fn new() -> Self {
        Self::valid(2026, 2046)
    }

    /// Its certificate is valid from the beginning of one year to that of another.
    pub fn valid(from: i32, to: i32) -> Self {
        let key = rcgen::KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "NVIDIA GameStream Client");
        params.serial_number = Some(SerialNumber::from_slice(&[0]));
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        let certificate = params.self_signed(&key).unwrap().der().to_vec();
        Self { key, certificate }
    }

    /// The certificate as old tools make it: version 1, which has no field for the version.
    pub fn in_version_1(mut self) -> Self {
        let (outer, rest) = element(&self.certificate);
        assert_eq!((outer[0], rest.len()), (0x30, 0));
        let (to_be_signed, algorithm_and_signature) = element(content(outer));
        let (version, fields) = element(content(to_be_signed));
        assert_eq!(version, [0xa0, 3, 2, 1, 2], "version 3");
        let to_be_signed = sequence(fields);
        let signature = self.sign(&to_be_signed);
        let (algorithm, _) = element(algorithm_and_signature);
        let signature = [&[3, 0x82, 1, 1, 0][..], &signature].concat();
        self.certificate = sequence(&[&to_be_signed[..], algorithm, &signature].concat());
        self
    }

    /// This certificate with another's key.
    pub fn with_key_of(self, other: Self) -> Self {
        Self { key: other.key, ..self }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// The signature in the certificate.
    pub fn signature(&self) -> &[u8] {
        &self.certificate[self.certificate.len() - SIGNATURE..]
    }

    pub fn pem(&self) -> String {
        pem::encode(&pem::Pem::new("CERTIFICATE", self.certificate.clone()))
    }

    /// RSA PKCS #1 v1.5 with SHA-256.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.sign_with(&RSA_PKCS1_SHA256, message)
    }

    /// RSA-PSS with SHA-256.
    pub fn sign_pss(&self, message: &[u8]) -> Vec<u8> {
        self.sign_with(&RSA_PSS_SHA256, message)
    }

    fn sign_with(&self, padding: &'static dyn RsaEncoding, message: &[u8]) -> Vec<u8> {
        let key = RsaKeyPair::from_pkcs8(self.key.serialized_der()).unwrap();
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(padding, &SystemRandom::new(), message, &mut signature).unwrap();
        signature
    }

    pub fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = RsaKeyPair::from_pkcs8(self.key.serialized_der()).unwrap();
        let key = aws_lc_rs::signature::KeyPair::public_key(&key).as_ref().to_vec();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(message, signature).is_ok()
    }
}

/// The first DER element, and what follows it.
fn element(der: &[u8]) -> (&[u8], &[u8]) {
    let (header, len) = header(der);
    der.split_at(header + len)
}

fn content(element: &[u8]) -> &[u8] {
    &element[header(element).0..]
}

/// Bytes of an element's header, and of its content.
fn header(der: &[u8]) -> (usize, usize) {
    match der[1] {
        0x81 => (3, usize::from(der[2])),
        0x82 => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
        short => (2, usize::from(short)),
    }
}

fn sequence(content: &[u8]) -> Vec<u8> {
    assert!((256..65_536).contains(&content.len()));
    [&[0x30, 0x82, (content.len() >> 8) as u8, content.len() as u8][..], content].concat()
}

/// An attempt to pair, from the client's side. Queries come without the path and without `uniqueid`.
pub struct Attempt<'a> {
    who: &'a Identity,
    salt: [u8; 16],
    key: [u8; 16],
    challenge: [u8; 16],
    secret: [u8; 16],
    /// What the host has answered in phase 2, deciphered.
    answered: Vec<u8>,
}

impl<'a> Attempt<'a> {
    /// `pin` is what the client shows to its user.
    pub fn new(who: &'a Identity, pin: &str) -> Self {
        let salt: [u8; 16] = random();
        let key = digest(&SHA256, &[&salt, pin.as_bytes()].concat()).as_ref()[..16].try_into().unwrap();
        Self { who, salt, key, challenge: random(), secret: random(), answered: Vec::new() }
    }

    pub fn begin(&self) -> String {
        let certificate = hex(self.who.pem().as_bytes());
        format!("devicename=roth&updateState=1&phrase=getservercert&salt={}&clientcert={certificate}", hex(&self.salt))
    }

    pub fn challenge(&self) -> String {
        format!("devicename=roth&updateState=1&clientchallenge={}", hex(&self.cipher(&self.challenge, true)))
    }

    /// Phase 3, after the host's `challengeresponse`.
    pub fn response(&mut self, challenge_response: &str) -> String {
        self.answered = self.cipher(&unhex(challenge_response), false);
        let hash = digest(&SHA256, &[&self.answered[32..48], self.who.signature(), &self.secret].concat());
        format!("devicename=roth&updateState=1&serverchallengeresp={}", hex(&self.cipher(hash.as_ref(), true)))
    }

    /// Whether the host, in phases 2 and 3, has proven that it has the key of its certificate and the same PIN.
    pub fn host_is(&self, host: &Identity, pairing_secret: &str) -> (bool, bool) {
        let told = unhex(pairing_secret);
        let (secret, signature) = told.split_at(16);
        let hash = digest(&SHA256, &[&self.challenge, host.signature(), secret].concat());
        (host.has_signed(secret, signature), hash.as_ref() == &self.answered[..32])
    }

    /// Phase 4.
    pub fn secret(&self) -> String {
        self.secret_signed_by(self.who)
    }

    pub fn secret_signed_by(&self, signer: &Identity) -> String {
        let (secret, signature) = (hex(&self.secret), hex(&signer.sign(&self.secret)));
        format!("devicename=roth&updateState=1&clientpairingsecret={secret}{signature}")
    }

    fn cipher(&self, blocks: &[u8], encrypt: bool) -> Vec<u8> {
        let (key, mut blocks) = (UnboundCipherKey::new(&AES_128, &self.key).unwrap(), blocks.to_vec());
        match encrypt {
            true => drop(EncryptingKey::ecb(key).unwrap().encrypt(&mut blocks).unwrap()),
            false => drop(DecryptingKey::ecb(key).unwrap().decrypt(&mut blocks, DecryptionContext::None).unwrap()),
        }
        blocks
    }
}

/// The text of the first element of this name.
pub fn text_of<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    bytes
}
