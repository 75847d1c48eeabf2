//! The test's client: QUIC with a certificate of its own, and a plain UDP socket for media.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ipc::Fingerprint;
use ipc::event::now_ns;
use lumen_core::hello::{
    ALPN, CODEC_H264, ClientHello, ClientMessage, ControlMessage, FrameReader, HostMessage, VERSION, Welcome,
};
use lumen_core::packet::{Flags, HEADER_BYTES, Header, Kind, PROBE_BYTES, Probe, TAG_BYTES};
use lumen_core::reassemble::{Event, Frame, Pushed, Reassembler, ReassemblerConfig};
use lumen_core::seal::{Direction, MediaSecret, Sealer};
use lumen_core::{AudioLayout, RawMode};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::Runtime;

use super::host::{Host, PATIENCE};
use super::pinned::PinnedHost;

/// A client's certificate and key.
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: rcgen::KeyPair,
}

impl Identity {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["client".into()]).unwrap().self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), key }
    }

    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// This certificate with a key that is not its own.
    pub fn with_stolen_certificate() -> Self {
        Self { key: Self::new().key, ..Self::new() }
    }
}

/// A connected client.
pub struct Client {
    runtime: Runtime,
    _endpoint: Endpoint,
    pub connection: Connection,
}

/// The conversation.
pub struct Stream {
    send: SendStream,
    recv: RecvStream,
    frames: FrameReader,
}

pub fn hello() -> ClientHello {
    ClientHello {
        version: VERSION,
        boot_id: [0; 16],
        mode: RawMode { width: 1280, height: 720, refresh_mhz: 60_000 },
        bitrate_kbps: 20_000,
        codecs: CODEC_H264,
        fec_schemes: 6,
        audio: Some(AudioLayout::Surround51),
        own_sink: true,
        input: true,
        resume: None,
        name: "test".into(),
    }
}

impl Client {
    /// Connects and checks that the host holds the key of the certificate that it was given.
    pub fn connect(host: &Host, identity: Option<&Identity>) -> Result<Self, ConnectionError> {
        let provider = lumen_net::tls::crypto_provider();
        let pin = Arc::new(PinnedHost { certificate: host.certificate.clone() });
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(pin);
        let mut tls = match identity {
            Some(identity) => {
                let key = PrivateKeyDer::try_from(identity.key.serialize_der()).unwrap();
                // The resolver does not compare certificate and key, as a forger would not.
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
                let certified = rustls::sign::CertifiedKey::new(vec![identity.certificate.clone()], key);
                builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![ALPN.to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (endpoint, connection) = runtime.block_on(async {
            let mut endpoint = Endpoint::client(any_port(host.quic)).unwrap();
            endpoint.set_default_client_config(config);
            let connection = endpoint.connect(host.quic, "lumen").unwrap().await;
            (endpoint, connection)
        });
        Ok(Self { runtime, _endpoint: endpoint, connection: connection? })
    }

    /// Opens the stream and sends bytes on it.
    pub fn open(&self, first: &[u8]) -> Stream {
        self.runtime.block_on(async {
            let (mut send, recv) = self.connection.open_bi().await.unwrap();
            // The host may close while this is under way; what it says is then what counts.
            let _ = send.write_all(first).await;
            Stream { send, recv, frames: FrameReader::default() }
        })
    }

    pub fn say(&self, stream: &mut Stream, message: &ClientMessage) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.runtime.block_on(stream.send.write_all(&bytes)).unwrap();
    }

    /// The host's next message.
    pub fn hear(&self, stream: &mut Stream) -> HostMessage {
        let read = async {
            loop {
                if let Some(message) = stream.frames.poll().unwrap() {
                    return message;
                }
                let mut bytes = [0; 1024];
                let count = stream.recv.read(&mut bytes).await.unwrap().expect("the host finished the stream");
                stream.frames.push(&bytes[..count]);
            }
        };
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, read).await }).unwrap()
    }

    /// Sends a datagram on the connection; false if QUIC will not take it.
    pub fn send_datagram(&self, datagram: &[u8]) -> bool {
        self.connection.send_datagram(datagram.to_vec().into()).is_ok()
    }

    /// Sends datagrams as fast as QUIC takes them, until told to stop or none is left; how many it took.
    pub fn flood(&self, stop: &AtomicBool, datagrams: impl Iterator<Item = Vec<u8>>) -> u64 {
        self.runtime.block_on(async {
            let mut sent = 0;
            for datagram in datagrams.take_while(|_| !stop.load(Ordering::Relaxed)) {
                if self.connection.send_datagram_wait(datagram.into()).await.is_err() {
                    break;
                }
                sent += 1;
            }
            sent
        })
    }

    /// The host's next datagram that begins with this byte; others are passed over. None if none comes in this time.
    pub fn datagram_within(&self, kind: u8, patience: Duration) -> Option<Vec<u8>> {
        let read = async {
            loop {
                let datagram = self.connection.read_datagram().await.ok()?;
                if datagram.first() == Some(&kind) {
                    return Some(datagram.to_vec());
                }
            }
        };
        self.runtime.block_on(async { tokio::time::timeout(patience, read).await.ok().flatten() })
    }

    pub fn datagram(&self, kind: u8) -> Vec<u8> {
        self.datagram_within(kind, PATIENCE).expect("no datagram of this kind came")
    }

    /// Falls silent without a word: the runtime goes first, and nothing is left that could send the close.
    pub fn vanish(self) {
        let Self { runtime, _endpoint, connection } = self;
        runtime.shutdown_background();
        drop((connection, _endpoint));
    }

    /// How the host closes the connection: code and reason.
    pub fn closed(&self) -> (u64, String) {
        let closed = async { tokio::time::timeout(PATIENCE, self.connection.closed()).await };
        match self.runtime.block_on(closed).unwrap() {
            ConnectionError::ApplicationClosed(close) => {
                (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
            }
            other => panic!("closed without a reason: {other}"),
        }
    }

    /// Whether the connection is ended by a stateless reset.
    pub fn is_reset(&self) -> bool {
        let closed = async { tokio::time::timeout(PATIENCE, self.connection.closed()).await };
        matches!(self.runtime.block_on(closed), Ok(ConnectionError::Reset))
    }

    /// Whether the connection, taken for good at first, fails on the host's verdict.
    pub fn ends_in_error(&self) -> bool {
        let closed = async { tokio::time::timeout(PATIENCE, self.connection.closed()).await };
        matches!(self.runtime.block_on(closed), Ok(ConnectionError::ConnectionClosed(_)))
    }

    /// Says `Hello`, lets the host wire generation 1, and comes back with the welcome.
    pub fn begin(&self, host: &mut Host, session: u32) -> (Stream, Box<Welcome>, super::host::Encoder) {
        let mut stream = self.open(&bytes(&ClientMessage::Hello(hello())));
        let (ask, _, wish) = host.expect_ask();
        assert_eq!((wish.mode, wish.bitrate_kbps), (Some(hello().mode), 20_000));
        assert_eq!((wish.audio, wish.own_sink, wish.input), (Some(AudioLayout::Surround51), true, true));
        let encoder = host.wire(session, 1, Some(ask));
        match self.hear(&mut stream) {
            HostMessage::Welcome(welcome) => (stream, Box::new(welcome), encoder),
            other => panic!("{other:?} instead of a welcome"),
        }
    }
}

/// An address of one's own on the interface that reaches `host`.
fn any_port(host: SocketAddr) -> SocketAddr {
    SocketAddr::new(host.ip(), 0)
}

pub fn bytes(message: &ClientMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

/// A client's media socket.
pub struct Media {
    pub socket: UdpSocket,
    pub host: SocketAddr,
    session: u32,
    secret: MediaSecret,
    sealer: Sealer,
    pub reassembler: Reassembler,
    buffer: Vec<u8>,
}

impl Media {
    pub fn new(host: &Host, welcome: &Welcome) -> Self {
        let mut address = host.media;
        address.set_port(welcome.media_port);
        let config = ReassemblerConfig {
            session: welcome.session,
            generation: welcome.generation,
            secret: welcome.secret.clone(),
            shard_size: welcome.shard_size,
            reorder_wait_ns: 16_000_000,
        };
        Self::with(address, config)
    }

    /// Of a session that needed no handshake.
    pub fn with(address: SocketAddr, config: ReassemblerConfig) -> Self {
        let socket = UdpSocket::bind(any_port(address)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let (session, secret, generation) = (config.session, config.secret.clone(), config.generation);
        Self {
            socket,
            host: address,
            session,
            sealer: Sealer::new(&secret, generation, Direction::ClientToHost),
            secret,
            reassembler: Reassembler::new(config),
            buffer: vec![0; 65_536],
        }
    }

    /// A sealed probe, not yet sent, of the generation that the client has seen.
    pub fn probe(&mut self, probe: &Probe) -> Vec<u8> {
        if self.sealer.generation() != self.reassembler.generation() {
            self.sealer = Sealer::new(&self.secret, self.reassembler.generation(), Direction::ClientToHost);
        }
        let (kind, flags, session) = (Kind::Probe, Flags::default(), self.session);
        let header = Header { kind, flags, index: 0, session, generation: 0, frame: 0, counter: 0 };
        let mut packet = vec![0; HEADER_BYTES + PROBE_BYTES + TAG_BYTES];
        packet[HEADER_BYTES..][..PROBE_BYTES].copy_from_slice(&probe.encode());
        self.sealer.seal(header, &mut packet).unwrap();
        packet
    }

    /// Seals and sends what the reassembler has to say.
    pub fn send_probe(&mut self) {
        let probe = self.reassembler.probe(now_ns());
        let packet = self.probe(&probe);
        self.send(&packet);
    }

    pub fn send(&self, packet: &[u8]) {
        self.socket.send_to(packet, self.host).unwrap();
    }

    /// Takes in one datagram, if one comes within a moment: its kind, and what the reassembler made of it.
    pub fn receive(&mut self) -> Option<(Kind, Pushed)> {
        let count = self.socket.recv(&mut self.buffer).ok()?;
        let header = Header::decode(&self.buffer[..count]).expect("the host sends whole packets");
        Some((header.kind, self.reassembler.push(now_ns(), &self.buffer[..count])))
    }

    /// Waits for an authentic packet of this kind.
    pub fn expect(&mut self, kind: Kind) -> Pushed {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.receive() {
                Some((found, pushed)) if found == kind && pushed != Pushed::Rejected => return pushed,
                _ => {}
            }
        }
        panic!("no {kind:?} packet came");
    }

    /// Waits for the next whole frame, whatever is lost before it; none if there is none in this time.
    pub fn next_frame_within(&mut self, patience: Duration) -> Option<Frame> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.reassembler.poll(now_ns()) {
                Some(Event::Frame(frame)) => return Some(frame),
                Some(_) => {}
                None => drop(self.receive()),
            }
        }
        None
    }

    /// Waits for the next whole frame, which must be this one.
    pub fn expect_frame(&mut self, number: u32, payload: &[u8]) -> Frame {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.reassembler.poll(now_ns()) {
                Some(Event::Frame(frame)) => {
                    assert_eq!((frame.number, frame.data.len()), (number, payload.len()));
                    assert!(frame.data == payload, "frame {number} is not what was encoded");
                    return frame;
                }
                Some(other) => panic!("{other:?} while waiting for frame {number}"),
                None => drop(self.receive()),
            }
        }
        panic!("frame {number} did not come");
    }
}
