//! From an address to a `Welcome`: resolve, QUIC handshake, `Hello`.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use lumen_core::fec::Scheme;
use lumen_core::hello::{
    self, ClientHello, ClientMessage, Code, ControlMessage, DEFAULT_PORT, FrameReader, HostMessage, Welcome,
};
use lumen_core::{AudioLayout, RawMode, Resume};
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use quinn_proto::crypto::rustls::QuicClientConfig;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::boot_id;
use crate::error::{ConnectError, Refusal, refusal_in};
use crate::identity::Identity;
use crate::tls::{HostVerifier, client_config};
use lumen_core::Fingerprint;

/// Longest wait for a QUIC handshake with one address.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Longest wait for the host's answer: it may have a compositor to start.
const WELCOME: Duration = Duration::from_secs(20);
/// Silence after which either side takes the other for gone (PROTOCOL.md).
const IDLE: u32 = 4_000;
/// Between signs of life on a connection on which nothing else comes: a host whose network plane has been replaced answers
/// the next with a reset, which is known sooner than that it is silent.
const KEEP_ALIVE: Duration = Duration::from_millis(100);
/// Shorter round trips are not believed of a host that may be starting a process.
const LEAST_ROUND_TRIP: Duration = Duration::from_millis(10);
/// Bytes of datagrams that may wait here: some hundred packets of sound.
const DATAGRAMS_IN: usize = 64 << 10;
/// Bytes of input that may wait to leave. What a slow network pushes out is sent again when it has become known as lost.
const DATAGRAMS_OUT: usize = 64 << 10;

/// What to ask of which host.
#[derive(Clone, Debug)]
pub struct Options {
    /// `NAME:PORT`, `IP:PORT` or `[IPv6]:PORT`; without a port [`hello::DEFAULT_PORT`] is meant.
    pub host: String,
    /// Not checked here: a host refuses what it cannot make, with its own reason.
    pub mode: RawMode,
    /// 0: the host's choice.
    pub bitrate_kbps: u32,
    /// The only certificate to accept. Without one the known hosts decide.
    pub pin: Option<Fingerprint>,
    /// Where probes go and media is expected from, if not the host's address and its media port.
    pub media: Option<SocketAddr>,
    /// Sound to ask for; none for silence. What comes is [`crate::Session::sound`].
    pub sound: Option<AudioLayout>,
    /// Ask for a sink of the session's own, so that what the desktop plays does not sound at the host.
    pub own_sink: bool,
    /// Ask for hands: [`crate::Session::input`].
    pub input: bool,
    /// Come back to the session if the connection is lost, or its host's network plane, for ten seconds.
    pub resume: bool,
    /// How the host may call this client in its lists; at most 255 bytes of it travel.
    pub name: String,
}

/// A control connection on which the host has said `Welcome`.
pub(crate) struct Connected {
    pub runtime: Runtime,
    pub endpoint: Endpoint,
    pub connection: Connection,
    pub send: SendStream,
    pub recv: RecvStream,
    pub reader: FrameReader,
    pub welcome: Welcome,
    pub remote: SocketAddr,
    pub fingerprint: Fingerprint,
    /// How to connect once more; none where that is not wanted.
    pub again: Option<Again>,
}

/// What a client that lost its connection dials with.
pub(crate) struct Again {
    /// Accepts the host that was met, and no other.
    tls: Arc<QuicClientConfig>,
    hello: ClientHello,
    client: Fingerprint,
}

/// Adds the default port where `host` names none.
pub(crate) fn with_port(host: &str) -> String {
    let bare_v6 = host.parse::<Ipv6Addr>().is_ok();
    let has_port = !bare_v6 && host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (bare_v6, has_port) {
        (_, true) => host.to_owned(),
        (true, _) => format!("[{host}]:{DEFAULT_PORT}"),
        (false, false) => format!("{host}:{DEFAULT_PORT}"),
    }
}

/// Resolves a `NAME:PORT`.
pub fn resolve(host: &str) -> Result<Vec<SocketAddr>, ConnectError> {
    let error = |source| ConnectError::Resolve { host: host.to_owned(), source };
    let found: Vec<SocketAddr> = host.to_socket_addrs().map_err(error)?.collect();
    if found.is_empty() { Err(error(io::Error::other("the name has no address"))) } else { Ok(found) }
}

/// Which certificate a host may show.
#[derive(Clone, Debug)]
pub(crate) enum Expected {
    Pinned(Fingerprint),
    /// Remembered in the file named.
    Known(Fingerprint, PathBuf),
    /// Nobody has met this host before.
    Any,
}

impl Expected {
    fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::Pinned(fingerprint) | Self::Known(fingerprint, _) => Some(*fingerprint),
            Self::Any => None,
        }
    }

    /// The error of a host that has shown another certificate; none if it has not.
    fn mismatch(&self, host: &str, shown: Option<Fingerprint>) -> Option<ConnectError> {
        let shown = shown.filter(|shown| Some(*shown) != self.fingerprint())?;
        let host = host.to_owned();
        match self.clone() {
            Self::Pinned(expected) => Some(ConnectError::PinMismatch { host, expected, shown }),
            Self::Known(expected, known_hosts) => {
                Some(ConnectError::HostKeyChanged { host, expected, shown, known_hosts })
            }
            Self::Any => None,
        }
    }
}

/// Tries every address of the host in turn; the last failure is the one reported.
pub(crate) fn connect(identity: &Identity, options: &Options, expected: &Expected) -> Result<Connected, ConnectError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let host = with_port(&options.host);
    let mut failure = ConnectError::Local(io::Error::other("the name has no address"));
    for address in resolve(&host)? {
        let verifier = HostVerifier::new(expected.fingerprint());
        match runtime.block_on(dial(identity, options, verifier.clone(), address)) {
            Ok(dialled) => {
                let again = options.resume.then(|| Again::new(identity, options, dialled.fingerprint)).transpose()?;
                return Ok(dialled.with(runtime, address, again));
            }
            Err(error @ (ConnectError::Unreachable { .. } | ConnectError::Local(_))) => failure = error,
            Err(error) => return Err(expected.mismatch(&host, verifier.seen()).unwrap_or(error)),
        }
    }
    Err(failure)
}

struct Dialled {
    endpoint: Endpoint,
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    reader: FrameReader,
    welcome: Welcome,
    fingerprint: Fingerprint,
}

impl Dialled {
    fn with(self, runtime: Runtime, remote: SocketAddr, again: Option<Again>) -> Connected {
        let Self { endpoint, connection, send, recv, reader, welcome, fingerprint } = self;
        Connected { runtime, endpoint, connection, send, recv, reader, welcome, remote, fingerprint, again }
    }
}

async fn dial(
    identity: &Identity,
    options: &Options,
    verifier: Arc<HostVerifier>,
    address: SocketAddr,
) -> Result<Dialled, ConnectError> {
    let endpoint = endpoint(identity, verifier.clone(), address)?;
    let client = identity.fingerprint();
    let connecting = endpoint.connect(address, "lumen").map_err(|error| ConnectError::Protocol(error.to_string()))?;
    let connected = tokio::select! {
        connected = timeout(HANDSHAKE, connecting) => connected,
        () = refused(address) => return Err(ConnectError::Unreachable { address }),
    };
    let connection = match connected {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(handshake_error(error, &verifier, address, client)),
        Err(_) => return Err(ConnectError::Unreachable { address }),
    };
    let fingerprint = verifier.seen().ok_or_else(|| ConnectError::Protocol("it showed no certificate".to_owned()))?;
    let asked = timeout(WELCOME, ask(&connection, hello(options), client)).await;
    let Answer { send, recv, reader, welcome } =
        asked.map_err(|_| ConnectError::Silent { seconds: WELCOME.as_secs() })??;
    Ok(Dialled { endpoint, connection, send, recv, reader, welcome, fingerprint })
}

/// The unspecified address of the same family, for a socket that the kernel places.
pub(crate) fn any_like(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn endpoint(identity: &Identity, verifier: Arc<HostVerifier>, address: SocketAddr) -> Result<Endpoint, ConnectError> {
    let tls = client_config(identity, verifier).map_err(|error| ConnectError::Protocol(error.to_string()))?;
    let mut config = ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport()));
    let mut endpoint = Endpoint::client(any_like(address))?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(VarInt::from_u32(IDLE).into()))
        .keep_alive_interval(Some(KEEP_ALIVE))
        // A host answers on the one stream that the client opens, with small messages.
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(64 << 10))
        .receive_window(VarInt::from_u32(64 << 10))
        .datagram_receive_buffer_size(Some(DATAGRAMS_IN))
        .datagram_send_buffer_size(DATAGRAMS_OUT);
    transport
}

impl Again {
    fn new(identity: &Identity, options: &Options, host: Fingerprint) -> Result<Self, ConnectError> {
        let tls = client_config(identity, HostVerifier::new(Some(host)));
        let tls = tls.map_err(|error| ConnectError::Protocol(error.to_string()))?;
        Ok(Self { tls: Arc::new(tls), hello: hello(options), client: identity.fingerprint() })
    }

    /// Shakes hands once more. What gets lost leaves again after some of the `round_trip`s of the connection before,
    /// and not after a second, as where nothing is known of the way.
    pub(crate) async fn dial(
        &self,
        endpoint: &Endpoint,
        address: SocketAddr,
        round_trip: Duration,
    ) -> Result<Connection, ConnectionError> {
        let mut transport = transport();
        transport.initial_rtt(round_trip.max(LEAST_ROUND_TRIP));
        let mut config = ClientConfig::new(self.tls.clone());
        config.transport_config(Arc::new(transport));
        // An error is one of this machine's, and may pass.
        let connecting = endpoint.connect_with(config, address, "lumen").map_err(|_| ConnectionError::LocallyClosed)?;
        connecting.await
    }

    /// Asks for the session that `resume` stands for; one that is lost has the host make another.
    pub(crate) async fn ask(&self, connection: &Connection, resume: Option<Resume>) -> Result<Answer, ConnectError> {
        ask(connection, ClientHello { resume, ..self.hello.clone() }, self.client).await
    }
}

/// Ends when the machine at `address` says that nobody has this port, which QUIC by itself does not listen for: an
/// empty datagram, which every host ignores, from a connected socket, which is told. Else it does not end.
async fn refused(address: SocketAddr) {
    let listen = async || -> io::Result<()> {
        let socket = tokio::net::UdpSocket::bind(any_like(address)).await?;
        socket.connect(address).await?;
        socket.send(&[]).await?;
        socket.recv(&mut [0]).await.map(|_| ())
    };
    match listen().await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        // Whatever else happened here proves nothing about the host.
        _ => std::future::pending().await,
    }
}

fn handshake_error(
    error: ConnectionError,
    verifier: &HostVerifier,
    address: SocketAddr,
    client: Fingerprint,
) -> ConnectError {
    if let Some(refusal) = refusal_in(&error, client) {
        return ConnectError::Refused(refusal);
    }
    match error {
        // The certificate did not match; the caller knows what was expected and says so.
        ConnectionError::TransportError(ref detail) if verifier.seen().is_some() => {
            ConnectError::NotLumen { address, detail: detail.to_string() }
        }
        ConnectionError::ConnectionClosed(close) => ConnectError::NotLumen { address, detail: close.to_string() },
        ConnectionError::VersionMismatch => {
            ConnectError::NotLumen { address, detail: "no common QUIC version".to_owned() }
        }
        _ => ConnectError::Unreachable { address },
    }
}

/// A control stream on which the host has said `Welcome`.
pub(crate) struct Answer {
    pub send: SendStream,
    pub recv: RecvStream,
    pub reader: FrameReader,
    pub welcome: Welcome,
}

fn hello(options: &Options) -> ClientHello {
    ClientHello {
        version: hello::VERSION,
        boot_id: boot_id(),
        mode: options.mode,
        bitrate_kbps: options.bitrate_kbps,
        codecs: hello::CODEC_H264,
        fec_schemes: 1 << Scheme::Cauchy as u8 | 1 << Scheme::Leopard as u8,
        audio: options.sound,
        own_sink: options.own_sink,
        input: options.input,
        resume: None,
        name: options.name.clone(),
    }
}

/// Opens the control stream, says `Hello` and waits for the answer.
async fn ask(connection: &Connection, hello: ClientHello, client: Fingerprint) -> Result<Answer, ConnectError> {
    let ended = |error: ConnectionError| match refusal_in(&error, client) {
        Some(refusal) => ConnectError::Refused(refusal),
        None => ConnectError::Protocol(format!("it closed the connection: {error}")),
    };
    // A stream's own error hides why the connection ended; the connection knows.
    let why = || connection.close_reason().unwrap_or(ConnectionError::LocallyClosed);
    let (mut send, mut recv) = connection.open_bi().await.map_err(ended)?;
    let mut bytes = Vec::new();
    ClientMessage::Hello(hello).encode(&mut bytes);
    send.write_all(&bytes).await.map_err(|_| ended(why()))?;
    let mut reader = FrameReader::default();
    match next_message(&mut recv, &mut reader).await {
        Ok(Some(HostMessage::Welcome(welcome))) => Ok(Answer { send, recv, reader, welcome }),
        Ok(Some(HostMessage::Refused { code, reason } | HostMessage::End { code, reason })) => {
            Err(ConnectError::Refused(Refusal { code: Code::from_wire(code.into()), reason, client }))
        }
        Ok(Some(HostMessage::Reconfigure { .. })) => {
            Err(ConnectError::Protocol("it reconfigured before it said welcome".to_owned()))
        }
        Ok(None) => Err(ended(connection.closed().await)),
        Err(reason) => Err(ConnectError::Protocol(reason)),
    }
}

/// The next message of the host; none when the stream has ended, an error when what came is not a message.
pub(crate) async fn next_message(
    recv: &mut RecvStream,
    reader: &mut FrameReader,
) -> Result<Option<HostMessage>, String> {
    let mut buffer = [0; 2048];
    loop {
        if let Some(message) = reader.poll::<HostMessage>().map_err(|error| error.to_string())? {
            return Ok(Some(message));
        }
        match recv.read(&mut buffer).await {
            Ok(Some(count)) => reader.push(&buffer[..count]),
            Ok(None) | Err(_) => return Ok(None),
        }
    }
}
