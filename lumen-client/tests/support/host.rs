//! A host in a thread: speaks lumen/1 through quinn and lumen-core, and does what a test's script says.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use lumen_client::Fingerprint;
use lumen_core::fec::Scheme;
use lumen_core::hello::{
    self, ClientHello, ClientMessage, Code, Codec, ControlMessage, FrameReader, HostMessage, Welcome,
};
use lumen_core::seal::MediaSecret;
use lumen_core::{Mode, Permissions};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, SignatureScheme};

use super::hall::{Answered, Hall};
use super::stream::{Plan, Streamer};

/// What the host does with a client.
#[derive(Clone)]
pub enum Script {
    /// Answers `Hello` with `Refused`.
    Refuse(Code, &'static str),
    /// Closes the connection with a code instead of answering.
    Close(Code, &'static str),
    /// Rejects the client's certificate in the TLS handshake.
    RejectCertificate,
    /// Answers with bytes that are no message.
    Garbage,
    /// Streams.
    Stream(Plan),
    /// Streams, and uses datagrams.
    Perform(Plan, Box<Hall>),
}

/// What the host saw of the session, sent when the client has gone.
#[derive(Debug)]
pub struct Seen {
    pub hello: ClientHello,
    pub client: Fingerprint,
    pub bye: bool,
    pub answered: Answered,
}

/// A running host; it serves one client after the other until dropped.
pub struct Host {
    pub address: SocketAddr,
    pub fingerprint: Fingerprint,
    pub seen: Receiver<Seen>,
    /// A host that plays dead does so until this is dropped.
    hold: Option<Sender<()>>,
    stop: Arc<tokio::sync::Notify>,
    thread: Option<JoinHandle<()>>,
}

impl Host {
    pub fn start(script: Script) -> Self {
        Self::start_with(script, KeyPair::generate().unwrap())
    }

    pub fn start_with(script: Script, key: KeyPair) -> Self {
        let certificate = CertificateParams::new(vec!["host".to_owned()]).unwrap().self_signed(&key).unwrap();
        let fingerprint = Fingerprint::of(certificate.der());
        let config = server_config(certificate.der().clone(), &key, matches!(script, Script::RejectCertificate));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = {
            let _guard = runtime.enter();
            Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap()
        };
        let address = endpoint.local_addr().unwrap();
        let (tell, seen) = channel();
        let (hold, held) = channel();
        let stop = Arc::new(tokio::sync::Notify::new());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(&endpoint, script, tell, held) => {}
                    () = stopped.notified() => {}
                }
            });
        });
        Self { address, fingerprint, seen, hold: Some(hold), stop, thread: Some(thread) }
    }

    /// What the next session looked like from here.
    pub fn session(&self) -> Seen {
        self.seen.recv_timeout(Duration::from_secs(20)).expect("the host saw no session end")
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.notify_one();
        drop(self.hold.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(endpoint: &Endpoint, script: Script, tell: Sender<Seen>, hold: Receiver<()>) {
    while let Some(incoming) = endpoint.accept().await {
        if let Ok(connection) = incoming.await
            && let Some(seen) = session(&connection, &script, &hold).await
        {
            let _ = tell.send(seen);
        }
    }
}

async fn session(connection: &Connection, script: &Script, hold: &Receiver<()>) -> Option<Seen> {
    let certificates =
        connection.peer_identity()?.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok()?;
    let client = Fingerprint::of(&certificates[0]);
    let (mut send, mut recv) = connection.accept_bi().await.ok()?;
    let mut reader = FrameReader::default();
    let Some(ClientMessage::Hello(hello)) = next(&mut recv, &mut reader).await else { return None };
    let mut seen = Seen { hello, client, bye: false, answered: Answered::default() };
    match script {
        Script::Refuse(code, reason) => {
            say(&mut send, &HostMessage::Refused { code: *code as u16, reason: (*reason).to_owned() }).await;
            let _ = connection.closed().await;
        }
        Script::Close(code, reason) => connection.close(VarInt::from_u32(*code as u32), reason.as_bytes()),
        Script::RejectCertificate => unreachable!("the handshake fails"),
        Script::Garbage => {
            let _ = send.write_all(&[1, 0, 0, 0, 250]).await;
            let _ = connection.closed().await;
        }
        Script::Stream(_) | Script::Perform(..) => {
            let (plan, mut hall) = match script {
                Script::Perform(plan, hall) => (plan, hall.clone()),
                Script::Stream(plan) => (plan, Box::default()),
                _ => unreachable!("matched above"),
            };
            let mode = Mode::try_from(seen.hello.mode).unwrap();
            let secret = MediaSecret([0x5a; 32]);
            let streamer = Streamer::new(plan.clone(), mode, secret.clone());
            let welcome = Welcome {
                session: 7,
                generation: 1,
                mode,
                codec: Codec::H264,
                fec: Scheme::Leopard,
                parity_floor_percent: 20,
                shard_size: 1200,
                secret,
                media_port: streamer.port(),
                boot_id: if plan.other_machine { [9; 16] } else { seen.hello.boot_id },
                host_name: "test host".to_owned(),
                audio: hall.concert.as_ref().map(|concert| concert.layout),
                permissions: Permissions::ALL,
                resumed: false,
                resume: None,
            };
            say(&mut send, &HostMessage::Welcome(welcome)).await;
            assert_eq!(next(&mut recv, &mut reader).await, Some(ClientMessage::Start));
            let media = std::thread::spawn(move || streamer.run());
            if plan.vanish_after.is_some() {
                // Nothing of this host moves any more, as if it had been killed: the runtime is blocked here on purpose.
                media.join().unwrap();
                let _ = hold.recv();
                return Some(seen);
            }
            if let Some((code, reason)) = plan.end_with {
                media.join().unwrap();
                say(&mut send, &HostMessage::End { code: code as u16, reason: reason.to_owned() }).await;
                let _ = connection.closed().await;
                return Some(seen);
            }
            seen.bye = tokio::select! {
                said = next(&mut recv, &mut reader) => said == Some(ClientMessage::Bye),
                never = hall.perform(connection) => never,
            };
            seen.answered = hall.answered;
            plan.stop.store(true, std::sync::atomic::Ordering::Relaxed);
            media.join().unwrap();
            let _ = connection.closed().await;
        }
    }
    Some(seen)
}

pub async fn say(send: &mut SendStream, message: &HostMessage) {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    let _ = send.write_all(&bytes).await;
}

pub async fn next(recv: &mut RecvStream, reader: &mut FrameReader) -> Option<ClientMessage> {
    let mut buffer = [0; 512];
    loop {
        if let Some(message) = reader.poll::<ClientMessage>().unwrap() {
            return Some(message);
        }
        let count = recv.read(&mut buffer).await.ok()??;
        reader.push(&buffer[..count]);
    }
}

pub fn server_config(
    certificate: rustls::pki_types::CertificateDer<'static>,
    key: &KeyPair,
    reject: bool,
) -> ServerConfig {
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: vec![rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..rustls::crypto::aws_lc_rs::default_provider()
    };
    let verifier = Arc::new(AnyClient { reject, algorithms: provider.signature_verification_algorithms });
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate], PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .unwrap();
    tls.alpn_protocols = vec![hello::ALPN.to_vec()];
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(VarInt::from_u32(4_000).into()));
    config.transport_config(Arc::new(transport));
    config
}

/// Wants a client certificate and believes any, or none.
#[derive(Debug)]
struct AnyClient {
    reject: bool,
    algorithms: rustls::crypto::WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &rustls::pki_types::CertificateDer<'_>,
        _intermediates: &[rustls::pki_types::CertificateDer<'_>],
        _now: rustls::pki_types::UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.reject {
            return Err(rustls::Error::InvalidCertificate(rustls::CertificateError::ApplicationVerificationFailure));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &rustls::pki_types::CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls::pki_types::CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
