//! This client's own certificate: P-256, self-signed, made on first use and kept.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::config_dir::{ConfigError, LockedDir};
use lumen_core::Fingerprint;

const KEY: &str = "client-key.pem";
const CERTIFICATE: &str = "client-cert.pem";

/// Certificate and private key that this client shows to hosts.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Identity {
    /// Reads the identity in `dir`, or makes one there.
    ///
    /// Both files are PEM with mode 0600. The key is written first: a key without a certificate gets a new certificate,
    /// so that a crash between the two costs nothing but that.
    pub fn load_or_create(dir: &Path) -> Result<Self, ConfigError> {
        let dir = LockedDir::open(dir)?;
        let key_path = dir.file(KEY);
        let key = match dir.read(KEY)? {
            Some(pem) => {
                let mode = fs::metadata(&key_path).map_err(ConfigError::io(&key_path))?.permissions().mode();
                if mode & 0o077 != 0 {
                    return Err(ConfigError::Exposed { path: key_path });
                }
                KeyPair::from_pkcs8_pem_and_sign_algo(&pem, &PKCS_ECDSA_P256_SHA256)
                    .map_err(|_| ConfigError::malformed(&key_path, "not a P-256 private key in PKCS#8 PEM: restore it, or remove it and be allowed anew on the hosts"))?
            }
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
                    .map_err(|error| ConfigError::malformed(&key_path, format!("cannot make a key: {error}")))?;
                dir.write(KEY, &key.serialize_pem())?;
                key
            }
        };
        let certificate_path = dir.file(CERTIFICATE);
        let certificate = match dir.read(CERTIFICATE)? {
            Some(pem) => {
                let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| {
                    ConfigError::malformed(&certificate_path, "not a PEM certificate: remove it to have it made anew")
                })?;
                let point = key.public_key_raw();
                // A certificate of another key would only fail later, on the host, and without a reason.
                der.windows(point.len()).any(|window| window == point).then_some(der.into_owned())
            }
            None => None,
        };
        let certificate = match certificate {
            Some(der) => der,
            None => {
                let made = certify(&key).map_err(|error| {
                    ConfigError::malformed(&certificate_path, format!("cannot make a certificate: {error}"))
                })?;
                dir.write(CERTIFICATE, &made.pem())?;
                made.der().clone()
            }
        };
        Ok(Self { certificate, key: PrivatePkcs8KeyDer::from(key.serialize_der()) })
    }

    /// What a host's `lumend allow` wants to be told.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.certificate.clone()
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from(self.key.clone_key())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint())
    }
}

fn certify(key: &KeyPair) -> Result<rcgen::Certificate, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["lumen-client".to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, "lumen-client");
    params.self_signed(key)
}
