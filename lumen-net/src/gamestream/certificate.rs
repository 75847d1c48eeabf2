//! Clients' certificates, read leniently and compared exactly: Moonlight's are self-signed, with serial number 0 and one
//! subject for all, so that nothing in them tells one client from another but their bytes as a whole.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, UnparsedPublicKey,
};
use ipc::Fingerprint;
use rustls::SignatureScheme;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::prelude::FromDer;

/// Longest certificate that is read, in bytes of DER. Moonlight's have about 750.
const LONGEST: usize = 4096;

/// The signatures of a client's handshake that are understood, in no particular order.
pub const SCHEMES: [SignatureScheme; 6] = [
    SignatureScheme::RSA_PSS_SHA256,
    SignatureScheme::RSA_PSS_SHA384,
    SignatureScheme::RSA_PSS_SHA512,
    SignatureScheme::RSA_PKCS1_SHA256,
    SignatureScheme::RSA_PKCS1_SHA384,
    SignatureScheme::RSA_PKCS1_SHA512,
];

/// What of an RSA certificate matters here.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub fingerprint: Fingerprint,
    /// The signature in the certificate, which goes into pairing's hashes.
    pub signature: Vec<u8>,
    /// The RSA key: PKCS #1.
    key: Vec<u8>,
    /// Seconds since 1970.
    not_after: i64,
}

impl Certificate {
    /// None unless this is exactly one RSA certificate.
    pub fn from_der(der: &[u8]) -> Option<Self> {
        if der.len() > LONGEST {
            return None;
        }
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        let key = &certificate.tbs_certificate.subject_pki;
        if !rest.is_empty() || key.algorithm.algorithm != OID_PKCS1_RSAENCRYPTION {
            return None;
        }
        Some(Self {
            fingerprint: Fingerprint::of(der),
            signature: certificate.signature_value.data.to_vec(),
            key: key.subject_public_key.data.to_vec(),
            not_after: certificate.tbs_certificate.validity.not_after.timestamp(),
        })
    }

    /// The same, in PEM.
    pub fn from_pem(pem: &[u8]) -> Option<Self> {
        let pem = pem::parse(pem).ok()?;
        (pem.tag() == "CERTIFICATE").then(|| Self::from_der(pem.contents())).flatten()
    }

    /// Whether its time is over.
    pub fn expired(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        i64::try_from(now).is_ok_and(|now| now > self.not_after)
    }

    /// Whether the holder of the certificate's key has signed `message` in this way.
    #[must_use]
    pub fn has_signed(&self, scheme: SignatureScheme, message: &[u8], signature: &[u8]) -> bool {
        parameters(scheme)
            .is_some_and(|parameters| UnparsedPublicKey::new(parameters, &self.key).verify(message, signature).is_ok())
    }
}

fn parameters(scheme: SignatureScheme) -> Option<&'static RsaParameters> {
    Some(match scheme {
        SignatureScheme::RSA_PSS_SHA256 => &RSA_PSS_2048_8192_SHA256,
        SignatureScheme::RSA_PSS_SHA384 => &RSA_PSS_2048_8192_SHA384,
        SignatureScheme::RSA_PSS_SHA512 => &RSA_PSS_2048_8192_SHA512,
        SignatureScheme::RSA_PKCS1_SHA256 => &RSA_PKCS1_2048_8192_SHA256,
        SignatureScheme::RSA_PKCS1_SHA384 => &RSA_PKCS1_2048_8192_SHA384,
        SignatureScheme::RSA_PKCS1_SHA512 => &RSA_PKCS1_2048_8192_SHA512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::gamestream::moonlight::Identity;

    #[test]
    fn moonlights_certificates_are_read_as_they_are() {
        let (one, other, old) = (Identity::new(), Identity::new(), Identity::new().in_version_1());
        for identity in [&one, &other, &old] {
            let certificate = Certificate::from_der(&identity.certificate).unwrap();
            assert_eq!(certificate.fingerprint, identity.fingerprint());
            assert_eq!(certificate.signature, identity.signature());
            let from_pem = Certificate::from_pem(identity.pem().as_bytes()).unwrap();
            assert_eq!(from_pem.fingerprint, identity.fingerprint());
            let signature = identity.sign(b"text");
            assert!(certificate.has_signed(SignatureScheme::RSA_PKCS1_SHA256, b"text", &signature));
            assert!(!certificate.has_signed(SignatureScheme::RSA_PKCS1_SHA256, b"next", &signature));
            assert!(!certificate.has_signed(SignatureScheme::RSA_PSS_SHA256, b"text", &signature));
            assert!(!certificate.has_signed(SignatureScheme::ECDSA_NISTP256_SHA256, b"text", &signature));
        }
        assert_ne!(one.fingerprint(), other.fingerprint());
    }

    #[test]
    fn what_is_not_exactly_one_certificate_is_none() {
        let good = Identity::new();
        assert!(Certificate::from_der(&[&good.certificate[..], &[0]].concat()).is_none());
        assert!(Certificate::from_der(&good.certificate[..good.certificate.len() - 1]).is_none());
        assert!(Certificate::from_pem(good.pem().replace("CERTIFICATE", "PRIVATE KEY").as_bytes()).is_none());
        assert!(Certificate::from_pem(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n").is_none());
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let ecdsa = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        assert!(Certificate::from_der(ecdsa.der()).is_none());
    }

    #[test]
    fn a_certificate_is_good_until_its_last_day() {
        let certificate = Certificate::from_der(&Identity::valid(1999, 2001).certificate).unwrap();
        let year = |years: u64| UNIX_EPOCH + Duration::from_secs(years * 31_557_600);
        assert!(!certificate.expired(year(20)), "a host without a clock believes that it is 1970");
        assert!(!certificate.expired(year(30)));
        assert!(certificate.expired(year(32)));
    }

    proptest! {
        #[test]
        fn whatever_a_client_shows_is_a_certificate_or_not(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Certificate::from_der(&bytes);
            let _ = Certificate::from_pem(&bytes);
        }

        #[test]
        fn a_scribbled_certificate_is_another_or_none(at in 0_usize..700, bits in 1_u8..) {
            static GOOD: std::sync::LazyLock<Identity> = std::sync::LazyLock::new(Identity::new);
            let mut bytes = GOOD.certificate.clone();
            let at = at % bytes.len();
            bytes[at] ^= bits;
            let read = Certificate::from_der(&bytes);
            prop_assert!(read.is_none_or(|read| read.fingerprint != GOOD.fingerprint()));
        }
    }
}
