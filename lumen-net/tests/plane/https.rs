//! The test's Moonlight client, as far as HTTP and HTTPS go: plain sockets, and TLS of either version with an RSA
//! certificate.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ipc::{App, AppId, AskId, Fingerprint, FromNet, GameStreamListen, PairingId, Pin, SessionId, ToNet};
use lumen_core::Encryption;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::aws_lc_rs as provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};
use socket2::{Domain, Socket, Type};

use super::host::{Host, PATIENCE, mode};
use super::moonlight::{Attempt, Identity, RSA, text_of, unhex};
use super::pinned::PinnedHost;

pub use rustls::version::{TLS12, TLS13};

/// What every client of these tests is called: moonlight-embedded has one name for all.
const NAME: &str = "0123456789ABCDEF";

/// Where a host listens for Moonlight clients.
pub struct Guesthouse {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub rtsp: SocketAddr,
}

/// A request that has been sent.
pub struct Pending(Box<dyn Read + Send>);

/// What a client is told.
#[derive(Debug)]
pub struct Told {
    pub kind: String,
    pub body: Vec<u8>,
}

impl Told {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn element(&self, name: &str) -> Option<&str> {
        text_of(self.text(), name)
    }

    /// `status_code` of the root.
    pub fn status(&self) -> u16 {
        let (_, rest) = self.text().split_once("<root status_code=\"").unwrap();
        rest.split_once('"').unwrap().0.parse().unwrap()
    }
}

impl Guesthouse {
    /// Has the plane listen on loopback.
    pub fn open(host: &Host) -> Self {
        let tcp = || {
            // As lumend makes them: a sealed plane may not change their flags.
            let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
            // As many as knock at once in a test: one that finds no room here tries again after a second.
            socket.listen(1024).unwrap();
            TcpListener::from(socket)
        };
        let udp = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            OwnedFd::from(socket)
        };
        let (http, https, rtsp) = (tcp(), tcp(), tcp());
        let open = Self {
            http: http.local_addr().unwrap(),
            https: https.local_addr().unwrap(),
            rtsp: rtsp.local_addr().unwrap(),
        };
        host.tell(ToNet::GameStream(GameStreamListen {
            http: http.into(),
            https: https.into(),
            rtsp: rtsp.into(),
            video: udp(),
            control: udp(),
            audio: udp(),
            // Clients are told of ports that follow from this one; the tests know better.
            base_port: 40_000,
            certificate: RSA.certificate.clone(),
            unique_id: [0xab; 16],
            host_name: "test host".into(),
            encryption: Encryption::Auto,
        }));
        for (app, title) in [(5, "Desktop"), (6, "Game & more")] {
            host.tell(ToNet::App(App { app: AppId::new(app).unwrap(), title: title.into(), image: None }));
        }
        open
    }

    /// Sends a request over HTTP.
    pub fn ask(&self, target: &str) -> Pending {
        ask(TcpStream::connect(self.http).unwrap(), target).unwrap()
    }

    pub fn get(&self, target: &str) -> Told {
        self.ask(target).told().unwrap()
    }

    /// Sends a request over HTTPS. An error if the handshake fails, which in TLS 1.3 shows only later.
    pub fn ask_as(
        &self,
        who: Option<&Identity>,
        version: &'static SupportedProtocolVersion,
        target: &str,
    ) -> io::Result<Pending> {
        let stream = TcpStream::connect(self.https).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::IpAddress(self.https.ip().into());
        let tls = ClientConnection::new(client_config(who, version), name).unwrap();
        ask(StreamOwned::new(tls, stream), target)
    }

    pub fn get_as(&self, who: &Identity, target: &str) -> Told {
        self.ask_as(Some(who), &TLS13, target).and_then(Pending::told).unwrap()
    }

    /// A phase of pairing.
    pub fn phase(&self, query: &str) -> Told {
        self.get(&pair(query))
    }

    /// Begins to pair; the request that is held, and what lumend is told.
    pub fn begin(&self, host: &mut Host, attempt: &Attempt<'_>) -> (Pending, PairingId, Fingerprint) {
        let held = self.ask(&pair(&attempt.begin()));
        let (pairing, client) = host.expect(|message| match message {
            FromNet::Pairing { pairing, client, .. } => Some((pairing, client)),
            _ => None,
        });
        (held, pairing, client)
    }

    /// Pairs up to phase 3, with this PIN entered at the host.
    pub fn meet(&self, host: &mut Host, attempt: &mut Attempt<'_>, pin: &str) -> (PairingId, String) {
        let (held, pairing, _) = self.begin(host, attempt);
        host.tell(ToNet::Pin { pairing, pin: Pin::new(pin).unwrap() });
        let told = held.told().unwrap();
        assert_eq!(told.element("paired"), Some("1"));
        let plain = pem::parse(unhex(told.element("plaincert").unwrap())).unwrap();
        assert_eq!(plain.contents(), RSA.certificate);
        let told = self.phase(&attempt.challenge());
        let told = self.phase(&attempt.response(told.element("challengeresponse").unwrap()));
        (pairing, told.element("pairingsecret").unwrap().to_owned())
    }

    /// A client that is paired, as after a restart of the plane.
    pub fn permit(&self, host: &Host, who: &Identity) {
        host.tell(ToNet::Permit { face: ipc::Face::GameStream, client: who.fingerprint(), allowed: true });
    }

    /// Launches an app with [`key`]; the granted session's URL.
    pub fn launch(&self, host: &mut Host, who: &Identity, session: u32) -> String {
        let launch = format!("/launch?appid=5&{}", with_key(LAUNCH, session));
        let pending = self.ask_as(Some(who), &TLS13, &launch).unwrap();
        let (ask, client, wish) = host.expect_ask();
        assert_eq!((client, wish.app), (who.fingerprint(), AppId::new(5)));
        self.grant(host, who, ask, session);
        pending.told().unwrap().element("sessionUrl0").unwrap().to_owned()
    }

    pub fn grant(&self, host: &Host, who: &Identity, ask: AskId, session: u32) {
        host.tell(ToNet::Running { client: who.fingerprint(), app: AppId::new(5) });
        host.tell(ToNet::Accepted { ask, session: SessionId(session), mode: mode() });
    }
}

/// What a launch says of its session.
pub const LAUNCH: &str = "mode=1280x720x60&additionalStates=1&sops=0&rikey=00112233445566778899aabbccddeeff&rikeyid=-7\
    &localAudioPlayMode=0&surroundAudioInfo=196610&remoteControllersBitmap=0&gcmap=0&corever=1";

/// `rikey` of a session's launch: no two may have the same.
pub fn key(session: u32) -> [u8; 16] {
    std::array::from_fn(|at| if at == 0 { session as u8 } else { 0x11 * at as u8 })
}

/// A launch with that session's key.
pub fn with_key(launch: &str, session: u32) -> String {
    launch.replace("rikey=00", &format!("rikey={session:02x}"))
}

pub fn pair(query: &str) -> String {
    format!("/pair?uniqueid={NAME}&uuid=00112233445566778899aabbccddeeff&{query}")
}

/// A connection from an address of loopback's network that is not the usual one.
pub fn connect_from(from: [u8; 4], to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(IpAddr::from(from), 0).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

pub fn ask(mut stream: impl Read + Write + Send + 'static, target: &str) -> io::Result<Pending> {
    write!(stream, "GET {target} HTTP/1.1\r\nHost: host\r\nUser-Agent: Mozilla/5.0\r\nAccept: */*\r\n\r\n")?;
    stream.flush()?;
    Ok(Pending(Box::new(stream)))
}

impl Pending {
    /// Waits for the answer, to the end of the connection.
    pub fn told(mut self) -> io::Result<Told> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes)?;
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        assert_eq!(lines.next(), Some("HTTP/1.1 200 OK"));
        let header = |name: &str| lines.clone().find_map(|line| line.strip_prefix(name)).unwrap();
        assert_eq!(header("Connection: "), "close");
        let body = bytes[end + 4..].to_vec();
        assert_eq!(header("Content-Length: ").parse(), Ok(body.len()));
        Ok(Told { kind: header("Content-Type: ").to_owned(), body })
    }
}

fn client_config(who: Option<&Identity>, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedHost { certificate: RSA.certificate.clone() }));
    let mut config = match who {
        Some(who) => {
            let key = PrivateKeyDer::try_from(who.key.serialize_der()).unwrap();
            let key = provider::sign::any_supported_type(&key).unwrap();
            // Not compared with the certificate, as a forger would not.
            let certified = CertifiedKey::new(vec![CertificateDer::from(who.certificate.clone())], key);
            let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(certified));
            builder.with_client_cert_resolver(resolver)
        }
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::disabled();
    Arc::new(config)
}
