//! The host's identity: a P-256 key that never leaves this process, its self-signed certificate, and the one thing the
//! key does: TLS 1.3 server signatures over a prefix that is rebuilt here.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use ipc::{Fingerprint, SignReply, SignRequest};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use crate::durable;
use crate::rate::Rate;

pub const KEY_FILE: &str = "host-key.pem";
pub const CERTIFICATE_FILE: &str = "host-cert.pem";

/// Why there is no identity. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot use the state directory {}: {error}; make it writable or name another with --state", path.display())]
    State { path: PathBuf, error: io::Error },
    #[error("{} can be read by others; run: chmod 600 {0}", path.display())]
    Exposed { path: PathBuf },
    #[error("{} is damaged; restore it, or remove it and {CERTIFICATE_FILE} to begin a new identity", path.display())]
    Damaged { path: PathBuf },
    #[error("{} does not belong to the key beside it; restore the pair, or remove both to begin a new identity", path.display())]
    Mismatch { path: PathBuf },
    #[error("the host's key cannot be made: {0}")]
    Crypto(String),
}

/// The key and the certificate that clients pin.
pub struct Identity {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// Reads the identity in `state`, or makes it on the first run.
    pub fn load_or_create(state: &Path) -> Result<Self, IdentityError> {
        let failed = |error| IdentityError::State { path: state.to_owned(), error };
        durable::private_directory(state).map_err(failed)?;
        let key_path = state.join(KEY_FILE);
        let certificate_path = state.join(CERTIFICATE_FILE);
        let key = match read(&key_path).map_err(failed)? {
            Some(text) => {
                check_private(&key_path)?;
                KeyPair::from_pem(&text).map_err(|_| IdentityError::Damaged { path: key_path.clone() })?
            }
            // A certificate alone is one whose key was lost: a new key would silently become a new identity.
            None if certificate_path.exists() => return Err(IdentityError::Mismatch { path: certificate_path }),
            None => {
                let key = KeyPair::generate().map_err(|error| IdentityError::Crypto(error.to_string()))?;
                durable::write(&key_path, key.serialize_pem().as_bytes()).map_err(failed)?;
                key
            }
        };
        let certificate = match read(&certificate_path).map_err(failed)? {
            Some(text) => certificate_der(&text).ok_or(IdentityError::Damaged { path: certificate_path.clone() })?,
            // A first run that was cut short after the key: nobody has seen a certificate yet.
            None => {
                let (pem, der) = self_sign(&key)?;
                durable::write(&certificate_path, pem.as_bytes()).map_err(failed)?;
                der
            }
        };
        let damaged = |_| IdentityError::Damaged { path: key_path.clone() };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &key.serialize_der()).map_err(damaged)?;
        // The public point stands in the certificate byte for byte.
        let point = key.public_key().as_ref();
        if !certificate.windows(point.len()).any(|window| window == point) {
            return Err(IdentityError::Mismatch { path: certificate_path });
        }
        let fingerprint = Fingerprint::of(&certificate);
        Ok(Self { key, certificate, fingerprint })
    }

    /// DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// SHA-256 of [`Self::certificate`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// Answers the network plane's requests for signatures, and no more than twenty a second of them.
pub struct Signer {
    identity: Identity,
    rate: Rate,
}

impl Signer {
    /// `now` in nanoseconds of the clock that [`Signer::sign`] is told.
    pub fn new(identity: Identity, now: u64) -> Self {
        Self { identity, rate: Rate::new(now, SIGNATURES_PER_SECOND, SIGNATURES_PER_SECOND) }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Signs what the request names; the prefix that gives the signature its meaning is built here.
    pub fn sign(&mut self, now: u64, request: &SignRequest) -> SignReply {
        if !self.rate.take(now) {
            return SignReply::Refused;
        }
        let message = match request {
            SignRequest::Tls13 { transcript } => tls13_server_message(transcript),
            SignRequest::Tls13Rsa { .. } | SignRequest::Tls12Rsa { .. } | SignRequest::Pairing { .. } => {
                return SignReply::Refused;
            }
        };
        match self.identity.key.sign(&SystemRandom::new(), &message) {
            Ok(signature) => SignReply::Signed(signature.as_ref().to_vec()),
            Err(_) => SignReply::Refused,
        }
    }
}

/// RFC 8446 §4.4.3: 64 spaces, the context string, a zero byte, the transcript hash.
fn tls13_server_message(transcript: &[u8; 32]) -> Vec<u8> {
    let mut message = vec![b' '; 64];
    message.extend_from_slice(b"TLS 1.3, server CertificateVerify\0");
    message.extend_from_slice(transcript);
    message
}

const SIGNATURES_PER_SECOND: u32 = 20;

fn self_sign(key: &KeyPair) -> Result<(String, Vec<u8>), IdentityError> {
    let failed = |error: rcgen::Error| IdentityError::Crypto(error.to_string());
    let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "Lumen host");
    let certificate = params.self_signed(key).map_err(failed)?;
    Ok((certificate.pem(), certificate.der().to_vec()))
}

fn certificate_der(text: &str) -> Option<Vec<u8>> {
    let parsed = pem::parse(text).ok()?;
    (parsed.tag() == "CERTIFICATE").then(|| parsed.into_contents())
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn check_private(path: &Path) -> Result<(), IdentityError> {
    let failed = |error| IdentityError::State { path: path.to_owned(), error };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    if mode & 0o077 == 0 { Ok(()) } else { Err(IdentityError::Exposed { path: path.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

    fn state(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lumen-identity-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let state = state("kept");
        let first = Identity::load_or_create(&state).unwrap();
        let second = Identity::load_or_create(&state).unwrap();
        assert_eq!(first.certificate(), second.certificate());
        assert_eq!(first.fingerprint(), second.fingerprint());
        let mode = fs::metadata(state.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // A first run cut short after the key goes on with that key.
        fs::remove_file(state.join(CERTIFICATE_FILE)).unwrap();
        let third = Identity::load_or_create(&state).unwrap();
        assert_eq!(first.key.public_key().as_ref(), third.key.public_key().as_ref());
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn a_damaged_exposed_or_halved_identity_is_an_error() {
        let state = state("damaged");
        Identity::load_or_create(&state).unwrap();
        let key_path = state.join(KEY_FILE);
        let key = fs::read(&key_path).unwrap();

        fs::set_permissions(&key_path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Identity::load_or_create(&state), Err(IdentityError::Exposed { .. })));
        durable::write(&key_path, &key[..key.len() / 2]).unwrap();
        assert!(matches!(Identity::load_or_create(&state), Err(IdentityError::Damaged { .. })));
        durable::write(&key_path, KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap();
        assert!(matches!(Identity::load_or_create(&state), Err(IdentityError::Mismatch { .. })));
        fs::remove_file(&key_path).unwrap();
        assert!(matches!(Identity::load_or_create(&state), Err(IdentityError::Mismatch { .. })));
        durable::write(&key_path, &key).unwrap();
        assert!(Identity::load_or_create(&state).is_ok());
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn signatures_verify_as_tls_1_3_and_as_nothing_else() {
        let state = state("signs");
        let identity = Identity::load_or_create(&state).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, identity.key.public_key().as_ref().to_vec());
        let mut signer = Signer::new(identity, 0);
        let transcript = [7; 32];
        let SignReply::Signed(signature) = signer.sign(0, &SignRequest::Tls13 { transcript }) else {
            panic!("refused");
        };
        let expected = [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify", &[0], &transcript].concat();
        assert!(public.verify(&expected, &signature).is_ok());
        assert!(public.verify(&transcript, &signature).is_err());
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn twenty_signatures_a_second() {
        let state = state("rate");
        let mut signer = Signer::new(Identity::load_or_create(&state).unwrap(), 0);
        let request = SignRequest::Tls13 { transcript: [7; 32] };
        let mut signed = |now| (0..100).filter(|_| signer.sign(now, &request) != SignReply::Refused).count();
        assert_eq!([signed(0), signed(500_000_000), signed(100_000_000_000)], [20, 10, 20]);
        assert_eq!(signed(50_000_000_000), 0, "a clock that steps back grants nothing");
        fs::remove_dir_all(state).unwrap();
    }
}
