//! HTTPS as GameStream clients expect it: an RSA certificate whose key lumend holds, and any client certificate at all,
//! as long as its owner proves that it holds the key. Who is let in is decided by the certificate's bytes, later.

use std::sync::Arc;
use std::time::SystemTime;

use ipc::{Fingerprint, SignRequest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{self, CertifiedKey, SigningKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, ServerConfig, ServerConnection,
    SignatureAlgorithm, SignatureScheme,
};

use super::certificate::{Certificate, SCHEMES};
use crate::tls::{OneCertificate, Signer, transcript_of};

/// RFC 8422 §5.4: a named curve (3), P-256 (23), and the 65 bytes of an uncompressed point (4, x, y).
const P256_POINT: [u8; 5] = [3, 0, 23, 65, 4];

/// One suite of each version, both with SHA-256, and the one curve that lumend's signatures know.
fn crypto_provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            provider::cipher_suite::TLS13_AES_128_GCM_SHA256,
            provider::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: vec![provider::kx_group::SECP256R1],
        ..provider::default_provider()
    }
}

/// The server's half of the handshake: `certificate` (DER) is shown, `signer` asks lumend to sign.
pub fn server_config(certificate: Vec<u8>, signer: Signer) -> Result<ServerConfig, Error> {
    let key = Arc::new(RemoteRsa { signer });
    let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(certificate)], key));
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto_provider()))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(AnyGuest))
        .with_cert_resolver(Arc::new(OneCertificate(certified)));
    // In a resumed session nobody would prove anything.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Whose key has been proven in this handshake: none without a certificate, or with one that has expired.
pub fn identity(connection: &ServerConnection) -> Option<Fingerprint> {
    let certificate = Certificate::from_der(connection.peer_certificates()?.first()?)?;
    (!certificate.expired(SystemTime::now())).then_some(certificate.fingerprint)
}

/// The host's key, as far as net has it.
#[derive(Clone, Debug)]
struct RemoteRsa {
    signer: Signer,
}

/// Signatures of one TLS version.
#[derive(Debug)]
struct OneVersion {
    signer: Signer,
    scheme: SignatureScheme,
}

impl SigningKey for RemoteRsa {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn sign::Signer>> {
        // PKCS #1 v1.5 is not offered to us in TLS 1.3, which has no use for it, and lumend gives it in 1.2 only.
        let ours = [SignatureScheme::RSA_PKCS1_SHA256, SignatureScheme::RSA_PSS_SHA256];
        let scheme = ours.into_iter().find(|scheme| offered.contains(scheme))?;
        Some(Box::new(OneVersion { signer: self.signer.clone(), scheme }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl sign::Signer for OneVersion {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let request = match self.scheme {
            SignatureScheme::RSA_PSS_SHA256 => {
                transcript_of(message).map(|transcript| SignRequest::Tls13Rsa { transcript })
            }
            _ => key_exchange_of(message),
        };
        self.signer.sign(request.ok_or_else(|| Error::General("asked to sign something that is no handshake".into()))?)
    }

    fn scheme(&self) -> SignatureScheme {
        self.scheme
    }
}

/// The parts of a TLS 1.2 server key exchange, if `message` is what is signed of exactly that: both randoms, then the
/// parameters.
fn key_exchange_of(message: &[u8]) -> Option<SignRequest> {
    let (client_random, rest) = message.split_first_chunk()?;
    let (server_random, rest) = rest.split_first_chunk()?;
    let (x, y) = rest.strip_prefix(&P256_POINT)?.split_first_chunk()?;
    Some(SignRequest::Tls12Rsa {
        client_random: *client_random,
        server_random: *server_random,
        x: *x,
        y: y.try_into().ok()?,
    })
}

/// Takes any RSA certificate, or none, and always has its owner prove that it holds the key.
#[derive(Debug)]
struct AnyGuest;

impl AnyGuest {
    fn verify(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let certificate = Certificate::from_der(certificate).ok_or(CertificateError::BadEncoding)?;
        match certificate.has_signed(signed.scheme, message, signed.signature()) {
            true => Ok(HandshakeSignatureValid::assertion()),
            false => Err(CertificateError::BadSignature.into()),
        }
    }
}

impl ClientCertVerifier for AnyGuest {
    /// Clients without one are told in words that they have to pair.
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // One self-signed certificate is the whole chain; more would only be bytes to carry.
        if !intermediates.is_empty() || Certificate::from_der(end_entity).is_none() {
            return Err(CertificateError::BadEncoding.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::verify(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // RFC 8446 §4.2.3: the older signatures may stand in certificates only.
        let ours = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PSS_SHA384, SignatureScheme::RSA_PSS_SHA512];
        if !ours.contains(&signed.scheme) {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        Self::verify(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        SCHEMES.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(client: &[u8], server: &[u8], prefix: &[u8], point: &[u8]) -> Vec<u8> {
        [client, server, prefix, point].concat()
    }

    #[test]
    fn only_a_key_exchange_on_p256_is_one() {
        let good = signed(&[1; 32], &[2; 32], &P256_POINT, &[3; 64]);
        let expected = SignRequest::Tls12Rsa { client_random: [1; 32], server_random: [2; 32], x: [3; 32], y: [3; 32] };
        assert_eq!(key_exchange_of(&good), Some(expected));
        assert_eq!(key_exchange_of(&good[..good.len() - 1]), None);
        assert_eq!(key_exchange_of(&[&good[..], &[0]].concat()), None);
        for (at, other) in [(0, 1), (2, 24), (3, 33), (4, 2)] {
            let mut prefix = P256_POINT;
            prefix[at] = other;
            assert_eq!(key_exchange_of(&signed(&[1; 32], &[2; 32], &prefix, &[3; 64])), None);
        }
        assert_eq!(key_exchange_of(b""), None);
    }

    #[test]
    fn each_version_has_its_own_kind_of_signature() {
        let (ours, _theirs) = ipc::link::Link::pair().unwrap();
        let key = RemoteRsa { signer: Signer::new(ours.into_fd()).unwrap() };
        let scheme = |offered: &[SignatureScheme]| key.choose_scheme(offered).map(|signer| signer.scheme());
        let (pss, pkcs1) = (SignatureScheme::RSA_PSS_SHA256, SignatureScheme::RSA_PKCS1_SHA256);
        assert_eq!(scheme(&[pss, pkcs1]), Some(pkcs1), "TLS 1.2");
        assert_eq!(scheme(&[pss]), Some(pss), "TLS 1.3");
        assert_eq!(scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]), None);
        // What is signed in the one is not signed in the other.
        let signer = key.choose_scheme(&[pss]).unwrap();
        assert!(signer.sign(&signed(&[1; 32], &[2; 32], &P256_POINT, &[3; 64])).is_err());
    }
}
