//! GET, once a connection, in the clear or over TLS with a client certificate and a pinned host.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use rustls::{StreamOwned, SupportedProtocolVersion};

use super::identity::Identity;
use super::xml::Xml;

/// Longer than any answer but those that wait for a person.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    fn parse(bytes: &[u8]) -> Result<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").context("no end of an HTTP header")?;
        let head = String::from_utf8(bytes[..end].to_vec())?;
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).context("no HTTP/1.1 answer")?;
        let body = bytes[end + 4..].to_vec();
        let told = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        ensure!(told.is_none_or(|told| told == body.len()), "{} bytes of body, but {head}", body.len());
        Ok(Self { status: status.parse()?, head, body })
    }

    /// Its XML. Hosts answer with HTTP status 200 whatever happens; anything else is a dead host to clients.
    pub fn xml(&self) -> Result<Xml> {
        ensure!(self.status == 200, "HTTP status {}", self.status);
        Xml::parse(&self.body)
    }
}

fn request(host: SocketAddr, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: Mozilla/5.0\r\nConnection: close\r\nAccept: */*\r\n\r\n"
    )
}

/// GET in the clear.
pub fn get(host: SocketAddr, path: &str, patience: Duration) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&host, PATIENCE).context("no connection")?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(request(host, path).as_bytes())?;
    Answer::parse(&read_all(&mut stream)?)
}

/// GET over TLS.
pub fn get_tls(host: SocketAddr, tls: &Arc<ClientConfig>, path: &str, patience: Duration) -> Result<Answer> {
    let stream = TcpStream::connect_timeout(&host, PATIENCE).context("no connection")?;
    stream.set_read_timeout(Some(patience))?;
    // An address makes no SNI.
    let mut stream = StreamOwned::new(ClientConnection::new(Arc::clone(tls), host.ip().into())?, stream);
    stream.write_all(request(host, path).as_bytes()).context("no TLS")?;
    Answer::parse(&read_all(&mut stream)?)
}

fn read_all(stream: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset || bytes.is_empty() => {
            Err(error).context("no whole answer")
        }
        _ => Ok(bytes),
    }
}

/// TLS of a client: its own certificate if it is to show one, and the host that was pinned in pairing.
pub fn tls(
    identity: Option<&Identity>,
    host: CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { host, algorithms }));
    Ok(Arc::new(match identity {
        Some(identity) => {
            builder.with_client_auth_cert(vec![identity.certificate().clone()], identity.private_key())?
        }
        None => builder.with_no_client_auth(),
    }))
}

/// TLS of a thief: the certificate of one client and the key of another.
pub fn tls_as(
    shown: &CertificateDer<'static>,
    thief: &Identity,
    host: CertificateDer<'static>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = provider.key_provider.load_private_key(thief.private_key())?;
    // Unlike the usual way, this does not look whether the two belong together.
    let stolen = Arc::new(CertifiedKey::new(vec![shown.clone()], key));
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { host, algorithms }))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(stolen)));
    Ok(Arc::new(config))
}

/// Accepts one certificate, whatever it says of itself; the host must hold its key.
#[derive(Debug)]
struct Pinned {
    host: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *end_entity == self.host {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
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
        self.algorithms.supported_schemes()
    }
}
