//! The host's identities, whose keys never leave this process: P-256 for lumen/1, and RSA-2048 for GameStream, as
//! Moonlight clients want it. Each is a key and a self-signed certificate in the state directory, made once and kept,
//! since clients pin the certificate. What the keys sign is in `signer.rs`.

mod gamestream;

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use ipc::Fingerprint;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

pub use self::gamestream::GameStreamIdentity;
use crate::durable;

/// Names of files in the state directory.
#[derive(Clone, Copy, Debug)]
pub struct Files {
    pub key: &'static str,
    pub certificate: &'static str,
}

pub const LUMEN: Files = Files { key: "host-key.pem", certificate: "host-cert.pem" };
pub const GAMESTREAM: Files = Files { key: "gamestream-key.pem", certificate: "gamestream-cert.pem" };

/// Why there is no identity. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot use the state directory {}: {error}; make it writable or name another with --state", path.display())]
    State { path: PathBuf, error: io::Error },
    #[error("{} can be read by others; run: chmod 600 {0}", path.display())]
    Exposed { path: PathBuf },
    #[error(
        "{} is damaged; restore it, or remove {} and {} to begin a new identity",
        path.display(), files.key, files.certificate
    )]
    Damaged { path: PathBuf, files: Files },
    #[error("{} does not belong to the key beside it; restore the pair, or remove both to begin a new identity", path.display())]
    Mismatch { path: PathBuf },
    #[error("the host's key cannot be made: {0}")]
    Crypto(String),
}

/// The key and the certificate that native clients pin.
pub struct Identity {
    key: EcdsaKeyPair,
    certificate: Vec<u8>,
    fingerprint: Fingerprint,
    network_keys: NetworkKeys,
}

/// Keys of the network plane's that are the same for as long as the identity is: any network plane, also that of another
/// lumend, resets at once what clients still believe to be a connection. The identity's own key does not follow from
/// them. Wiped when dropped.
#[derive(Clone)]
pub struct NetworkKeys {
    pub reset: [u8; 32],
    pub token: [u8; 32],
    pub connection_id: u64,
}

impl NetworkKeys {
    fn of(key: &[u8]) -> Option<Self> {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lumen network plane").extract(key);
        let mut keys = Self { reset: [0; 32], token: [0; 32], connection_id: 0 };
        let mut connection_id = [0; 32];
        for (label, out) in
            [(&b"reset"[..], &mut keys.reset), (b"token", &mut keys.token), (b"connection id", &mut connection_id)]
        {
            salt.expand(&[label], hkdf::HKDF_SHA256).ok()?.fill(out).ok()?;
        }
        keys.connection_id = connection_id[..8].iter().fold(0, |key, &byte| key << 8 | u64::from(byte));
        connection_id.zeroize();
        Some(keys)
    }
}

impl Drop for NetworkKeys {
    fn drop(&mut self) {
        let Self { reset, token, connection_id } = self;
        reset.zeroize();
        token.zeroize();
        connection_id.zeroize();
    }
}

impl ZeroizeOnDrop for NetworkKeys {}

impl std::fmt::Debug for NetworkKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NetworkKeys(..)")
    }
}

impl Identity {
    /// Reads the identity in `state`, or makes it on the first run.
    pub fn load_or_create(state: &Path) -> Result<Self, IdentityError> {
        let stored = Stored::load_or_create(state, LUMEN, KeyPair::generate, CertificateParams::default())?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &stored.key)
            .map_err(|_| stored.damaged_key(state))?;
        stored.check(state, key.public_key().as_ref())?;
        let fingerprint = Fingerprint::of(&stored.certificate);
        let network_keys = NetworkKeys::of(&stored.key).ok_or_else(|| stored.damaged_key(state))?;
        Ok(Self { key, certificate: stored.certificate, fingerprint, network_keys })
    }

    pub fn key(&self) -> &EcdsaKeyPair {
        &self.key
    }

    /// DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub fn network_keys(&self) -> NetworkKeys {
        self.network_keys.clone()
    }

    /// SHA-256 of [`Self::certificate`].
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

/// What the two files of an identity hold.
struct Stored {
    files: Files,
    /// PKCS #8; like every copy of it that is made here, wiped when dropped.
    key: Zeroizing<Vec<u8>>,
    /// DER.
    certificate: Vec<u8>,
}

impl Stored {
    fn load_or_create(
        state: &Path,
        files: Files,
        make: impl FnOnce() -> Result<KeyPair, rcgen::Error>,
        params: CertificateParams,
    ) -> Result<Self, IdentityError> {
        let failed = |error| IdentityError::State { path: state.to_owned(), error };
        durable::private_directory(state).map_err(failed)?;
        let key_path = state.join(files.key);
        let certificate_path = state.join(files.certificate);
        let key = match read(&key_path).map_err(failed)? {
            Some(text) => {
                check_private(&key_path)?;
                key_pair(text).ok_or(IdentityError::Damaged { path: key_path, files })?
            }
            // A certificate alone is one whose key was lost: a new key would silently become a new identity.
            None if certificate_path.exists() => return Err(IdentityError::Mismatch { path: certificate_path }),
            None => {
                let key = Zeroizing::new(make().map_err(|error| IdentityError::Crypto(error.to_string()))?);
                let text = Zeroizing::new(key.serialize_pem());
                durable::write(&key_path, text.as_bytes()).map_err(failed)?;
                key
            }
        };
        let certificate = match read(&certificate_path).map_err(failed)? {
            Some(text) => {
                certificate_der(&text).ok_or(IdentityError::Damaged { path: certificate_path.clone(), files })?
            }
            // A first run that was cut short after the key: nobody has seen a certificate yet.
            None => {
                let (pem, der) = self_sign(&key, params)?;
                durable::write(&certificate_path, pem.as_bytes()).map_err(failed)?;
                der
            }
        };
        Ok(Self { files, key: Zeroizing::new(key.serialize_der()), certificate })
    }

    fn damaged_key(&self, state: &Path) -> IdentityError {
        IdentityError::Damaged { path: state.join(self.files.key), files: self.files }
    }

    /// The public key stands in the certificate byte for byte: an EC point, or an RSAPublicKey.
    fn check(&self, state: &Path, public: &[u8]) -> Result<(), IdentityError> {
        if self.certificate.windows(public.len()).any(|window| window == public) {
            return Ok(());
        }
        Err(IdentityError::Mismatch { path: state.join(self.files.certificate) })
    }
}

/// The key in a file's text. All that is made of it on the way is wiped.
fn key_pair(text: String) -> Option<Zeroizing<KeyPair>> {
    let text = Zeroizing::new(text);
    let bytes = Zeroizing::new(pem::parse(text.as_bytes()).ok()?.into_contents());
    KeyPair::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

fn self_sign(key: &KeyPair, mut params: CertificateParams) -> Result<(String, Vec<u8>), IdentityError> {
    let failed = |error: rcgen::Error| IdentityError::Crypto(error.to_string());
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
        let mode = fs::metadata(state.join(LUMEN.key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // A first run cut short after the key goes on with that key.
        fs::remove_file(state.join(LUMEN.certificate)).unwrap();
        let third = Identity::load_or_create(&state).unwrap();
        assert_eq!(first.key.public_key().as_ref(), third.key.public_key().as_ref());
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn the_network_planes_keys_stay_with_the_identity_and_differ() {
        let [one, other] = ["keys", "others"].map(state);
        let keys = |state: &Path| Identity::load_or_create(state).unwrap().network_keys();
        let (first, again) = (keys(&one), keys(&one));
        assert_eq!((first.reset, first.token, first.connection_id), (again.reset, again.token, again.connection_id));
        let stranger = keys(&other);
        assert!(first.reset != stranger.reset && first.connection_id != stranger.connection_id);
        assert!(first.reset != first.token && first.reset[..8] != first.connection_id.to_be_bytes());
        assert_eq!(format!("{first:?}"), "NetworkKeys(..)");
        [one, other].into_iter().for_each(|state| fs::remove_dir_all(state).unwrap());
    }

    #[test]
    fn a_damaged_exposed_or_halved_identity_is_an_error() {
        let state = state("damaged");
        Identity::load_or_create(&state).unwrap();
        let key_path = state.join(LUMEN.key);
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
}
