//! TLS 1.3 for lumen/1 with a key that lives in another process: the certificate is net's to show, the signature is
//! lumend's to give. Clients must present a certificate; whether they may stay is decided by its fingerprint, later.
//! GameStream's HTTPS has its signatures from the same [`Signer`].

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipc::link::{Link, LinkError};
use ipc::{SignReply, SignRequest};
use lumen_core::hello::ALPN;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs as provider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{self, CertifiedKey, SigningKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureAlgorithm,
    SignatureScheme,
};

/// How long a handshake waits for lumend's signature. The control thread waits with it, so it is short.
const SIGN_TIMEOUT: Duration = Duration::from_millis(250);

/// RFC 8446 §4.4.3: 64 spaces, the context string and a zero byte, then the transcript hash.
const SERVER_CONTEXT: &[u8] = b"TLS 1.3, server CertificateVerify\0";
const PAD: usize = 64;

/// The provider cut down to one suite and one curve. One suite means one transcript hash, SHA-256, which is all that
/// lumend will sign.
pub fn crypto_provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![provider::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![provider::kx_group::SECP256R1],
        ..provider::default_provider()
    }
}

/// The server's half of the handshake: `certificate` is shown, `signer` asks lumend to sign.
pub fn server_config(certificate: Vec<u8>, signer: Signer) -> Result<ServerConfig, Error> {
    let provider = Arc::new(crypto_provider());
    let verifier = Arc::new(AnyCertificate { algorithms: provider.signature_verification_algorithms });
    let key = Arc::new(RemoteKey { signer });
    let certified = Arc::new(CertifiedKey::new(vec![CertificateDer::from(certificate)], key));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(OneCertificate(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would show no certificate, and every session begins with a new secret anyway.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// Uses the library's random source and a curve once, so that what it sets up on first use exists before the plane is
/// sealed.
pub fn warm_up() -> Result<(), Error> {
    let failed = |_| Error::FailedToGetRandomBytes;
    aws_lc_rs::rand::fill(&mut [0; 32]).map_err(failed)?;
    provider::kx_group::SECP256R1.start()?;
    Ok(())
}

/// Shows the same certificate to everybody.
#[derive(Debug)]
pub(crate) struct OneCertificate(pub(crate) Arc<CertifiedKey>);

impl ResolvesServerCert for OneCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Where signatures come from: the link to lumend, shared by all who may need one.
#[derive(Clone)]
pub struct Signer(Arc<Mutex<RemoteSigner>>);

impl Signer {
    /// Takes over the signer link that came with `Listen`.
    pub fn new(fd: OwnedFd) -> Result<Self, LinkError> {
        Ok(Self(Arc::new(Mutex::new(RemoteSigner { link: Link::from_fd(fd)?, owed: 0 }))))
    }

    /// Has lumend sign, and waits for it for a quarter of a second at most.
    pub fn sign(&self, request: SignRequest) -> Result<Vec<u8>, Error> {
        self.0.lock().map_err(|_| Error::General("the signer is gone".into()))?.sign(request)
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

struct RemoteSigner {
    link: Link,
    /// Answers that came too late and must not be taken for the next request's.
    owed: u32,
}

impl RemoteSigner {
    fn sign(&mut self, request: SignRequest) -> Result<Vec<u8>, Error> {
        let failed = |text: &str| Error::General(text.into());
        self.link.send(request).map_err(|_| failed("the signer is gone"))?;
        self.owed += 1;
        let deadline = Instant::now() + SIGN_TIMEOUT;
        loop {
            match self.link.recv::<SignReply>() {
                Ok(Some(received)) => {
                    self.owed -= 1;
                    if self.owed > 0 {
                        continue;
                    }
                    return match received.message {
                        SignReply::Signed(signature) => Ok(signature),
                        SignReply::Refused => Err(failed("lumend refused to sign: too many handshakes")),
                    };
                }
                Ok(None) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || !self.link.wait_readable(left).unwrap_or(false) {
                        return Err(failed("lumend did not sign in time"));
                    }
                }
                Err(_) => return Err(failed("the signer is gone")),
            }
        }
    }
}

#[derive(Clone, Debug)]
struct RemoteKey {
    signer: Signer,
}

impl SigningKey for RemoteKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn sign::Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(self.clone()) as Box<dyn sign::Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl sign::Signer for RemoteKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let transcript = transcript_of(message)
            .ok_or_else(|| Error::General("asked to sign something that is no server CertificateVerify".into()))?;
        self.signer.sign(SignRequest::Tls13 { transcript })
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// The transcript hash inside the content of a server CertificateVerify, if `message` is exactly that.
pub(crate) fn transcript_of(message: &[u8]) -> Option<[u8; 32]> {
    let (pad, rest) = message.split_at_checked(PAD)?;
    if pad.iter().any(|&byte| byte != b' ') {
        return None;
    }
    rest.strip_prefix(SERVER_CONTEXT)?.try_into().ok()
}

/// Takes any end-entity certificate, because what counts is its fingerprint; but always makes the client prove that
/// it holds the key.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyCertificate {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // One self-signed certificate is the whole chain; more would only be bytes to carry.
        if !intermediates.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verify_content(context: &[u8], hash: &[u8]) -> Vec<u8> {
        [&[b' '; PAD][..], context, hash].concat()
    }

    #[test]
    fn only_a_server_certificate_verify_yields_a_transcript() {
        let good = verify_content(SERVER_CONTEXT, &[7; 32]);
        assert_eq!(transcript_of(&good), Some([7; 32]));
        assert_eq!(transcript_of(&verify_content(b"TLS 1.3, client CertificateVerify\0", &[7; 32])), None);
        assert_eq!(transcript_of(&verify_content(SERVER_CONTEXT, &[7; 48])), None);
        assert_eq!(transcript_of(&good[1..]), None);
        assert_eq!(transcript_of(&good[..good.len() - 1]), None);
        assert_eq!(transcript_of(&[]), None);
        let mut tabbed = good;
        tabbed[63] = b'\t';
        assert_eq!(transcript_of(&tabbed), None);
    }

    #[test]
    fn a_late_signature_is_not_taken_for_the_next_one() {
        let (ours, theirs) = Link::pair().unwrap();
        let mut signer = RemoteSigner { link: ours, owed: 0 };
        assert!(signer.sign(SignRequest::Tls13 { transcript: [1; 32] }).is_err(), "nobody answers");
        theirs.send(SignReply::Signed(vec![1])).unwrap();
        theirs.send(SignReply::Signed(vec![2])).unwrap();
        assert_eq!(signer.sign(SignRequest::Tls13 { transcript: [2; 32] }).unwrap(), vec![2]);
    }

    #[test]
    fn the_provider_has_one_suite_and_one_curve() {
        let provider = crypto_provider();
        assert_eq!(provider.cipher_suites.len(), 1);
        assert_eq!(provider.kx_groups.len(), 1);
    }
}
