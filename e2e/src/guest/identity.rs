//! What a Moonlight client is known by: RSA-2048, self-signed, serial number 0, no extensions, and the same subject as
//! every other Moonlight client's.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use lumen_core::Fingerprint;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_RSA_SHA256, SerialNumber};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

const KEY: &str = "key.der";
const CERTIFICATE: &str = "cert.pem";
const SUBJECT: &str = "NVIDIA GameStream Client";

/// A client's certificate and key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    pkcs8: Vec<u8>,
    key: RsaKeyPair,
}

impl Identity {
    /// Makes one.
    pub fn new() -> Result<Self> {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| anyhow!("no RSA key was made"))?;
        let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&key)
            .map_err(|_| anyhow!("the key has no PKCS#8 form"))?
            .as_ref()
            .to_vec();
        let certificate = certificate(&pkcs8)?;
        Ok(Self { certificate, pkcs8, key })
    }

    /// The one kept in a directory, made when it is first asked for.
    pub fn open(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let (key, certificate) = (directory.join(KEY), directory.join(CERTIFICATE));
        if !certificate.exists() {
            let identity = Self::new()?;
            fs::write(&key, &identity.pkcs8)?;
            fs::write(&certificate, identity.pem())?;
            return Ok(identity);
        }
        let pkcs8 = fs::read(&key)?;
        let certificate = CertificateDer::from_pem_slice(&fs::read(&certificate)?)?;
        let key = RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| anyhow!("{KEY} is no RSA key"))?;
        Ok(Self { certificate, pkcs8, key })
    }

    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.pkcs8.clone()).into()
    }

    /// As clients send it in pairing.
    pub fn pem(&self) -> String {
        pem(&self.certificate)
    }

    /// As `lumend status` names the client.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// PKCS #1 v1.5 with SHA-256.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| anyhow!("the key does not sign"))?;
        Ok(signature)
    }
}

fn certificate(pkcs8: &[u8]) -> Result<CertificateDer<'static>> {
    let key = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), &PKCS_RSA_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, SUBJECT);
    params.serial_number = Some(SerialNumber::from(0));
    Ok(params.self_signed(&key)?.der().clone())
}

/// A certificate as PEM.
pub fn pem(certificate: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in base64(certificate).as_bytes().chunks(64) {
        let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place)) as usize % 64];
            text.push(if place <= group.len() { digit as char } else { '=' });
        }
    }
    text
}

/// The bytes of a certificate's own signature, which pairing hashes.
pub fn signature_of(certificate: &[u8]) -> Result<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).context("not a certificate")?;
    Ok(parsed.signature_value.data.to_vec())
}

/// Whether the key in a certificate signed this, by RSA PKCS #1 v1.5 with SHA-256.
pub fn signed_by(certificate: &[u8], message: &[u8], signature: &[u8]) -> Result<bool> {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).context("not a certificate")?;
    let key = parsed.public_key().subject_public_key.data.to_vec();
    Ok(UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(message, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_as_moonlight_makes_them() {
        let identity = Identity::new().unwrap();
        let (rest, parsed) = x509_parser::parse_x509_certificate(identity.certificate()).unwrap();
        assert!(rest.is_empty());
        assert_eq!(parsed.raw_serial(), [0]);
        assert_eq!(parsed.subject().to_string(), format!("CN={SUBJECT}"));
        assert_eq!(parsed.issuer(), parsed.subject());
        assert!(parsed.extensions().is_empty());
        assert_eq!(CertificateDer::from_pem_slice(identity.pem().as_bytes()).unwrap(), *identity.certificate());
        let signature = identity.sign(b"secret").unwrap();
        assert!(signed_by(identity.certificate(), b"secret", &signature).unwrap());
        assert!(!signed_by(identity.certificate(), b"secrets", &signature).unwrap());
    }
}
