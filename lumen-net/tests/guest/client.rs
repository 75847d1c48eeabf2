//! The test's GameStream client: RTSP, a control stream over the ENet library, and a socket for sound. It says what
//! Moonlight clients say, in their order.
#![allow(dead_code, reason = "each of the tests that share this needs a part of it")]

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use lumen_core::gamestream::Origin;
use lumen_core::gamestream::control::{ControlCipher, ControlVersion, FromGuest, MAX_MESSAGE, ToGuest};
use lumen_core::gamestream::input::Packet;
use lumen_core::gamestream::rtsp::{Frame, RtspCipher};
use rusty_enet::{EventNoRef, Host, HostSettings, PeerID};

/// Longer than anything here takes, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Channels that clients ask for.
const CHANNELS: usize = 0x30;

/// Between two pings of the control stream.
const PING: Duration = Duration::from_millis(100);

/// What the host has told in RTSP.
#[derive(Default, Clone, Debug)]
pub struct Streams {
    pub session: String,
    pub audio: SocketPort,
    pub video: SocketPort,
    pub control: u16,
    pub connect_data: u32,
}

/// A stream's port and the payload of its pings.
#[derive(Default, Clone, Debug)]
pub struct SocketPort {
    pub port: u16,
    pub ping: String,
}

/// One client's RTSP.
pub struct Rtsp {
    host: SocketAddr,
    cipher: Option<RtspCipher>,
    cseq: u32,
}

impl Rtsp {
    /// `key`: of a session whose RTSP is sealed.
    pub fn new(host: SocketAddr, key: Option<[u8; 16]>) -> Self {
        Self { host, cipher: key.map(|key| RtspCipher::new(&key, Origin::Client)), cseq: 0 }
    }

    /// Sends bytes on a connection of their own, and reads to the end.
    fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        read(&mut stream)
    }

    /// The same, and no more is to be expected of the client.
    pub fn all(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.host).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The host may have had enough before this is written.
        let _ = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
        read(&mut stream)
    }
    /// Asks, and gives back status and text; none if the host has nothing to say to this client.
    pub fn ask(&mut self, method: &str, target: &str, headers: &str, body: &str) -> Option<(u16, String)> {
        self.cseq += 1;
        let cseq = self.cseq;
        let length = if body.is_empty() { String::new() } else { format!("Content-length: {}\r\n", body.len()) };
        let text = format!(
            "{method} {target} RTSP/1.0\r\nCSeq: {cseq}\r\nX-GS-ClientVersion: 14\r\n{headers}{length}\r\n{body}"
        );
        let answer = match &mut self.cipher {
            Some(cipher) => {
                let sealed = cipher.seal(text.as_bytes()).unwrap();
                let answer = self.raw(&sealed);
                let (frame, length) = Frame::parse(&answer).unwrap()?;
                assert_eq!(length, answer.len(), "the client wants nothing behind the frame");
                self.cipher.as_ref().unwrap().open(&frame).expect("sealed by this session's host")
            }
            None => self.raw(text.as_bytes()),
        };
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.strip_prefix("RTSP/1.0 ")?.split(' ').next()?.parse().ok()?;
        assert!(answer.contains(&format!("\r\nCSeq: {cseq}\r\n")), "{answer}");
        Some((status, answer))
    }

    fn ok(&mut self, method: &str, target: &str, headers: &str, body: &str) -> String {
        let (status, answer) = self.ask(method, target, headers, body).expect("the host answers its client");
        assert_eq!(status, 200, "{method} {target}: {answer}");
        answer
    }

    /// Everything up to ANNOUNCE.
    pub fn set_up(&mut self) -> Streams {
        self.ok("OPTIONS", "rtsp://0.0.0.0:48010", "", "");
        let offer = self.ok("DESCRIBE", "rtsp://0.0.0.0:48010", "Accept: application/sdp\r\n", "");
        assert!(offer.contains("surround-params=21101"), "{offer}");
        let transport = "Transport: unicast;X-GS-ClientPort=50000-50001\r\n";
        let audio = self.ok("SETUP", "streamid=audio/0/0", transport, "");
        let session = header(&audio, "Session").split(';').next().unwrap().to_owned();
        let named = format!("Session: {session}\r\n{transport}");
        let video = self.ok("SETUP", "streamid=video/0/0", &named, "");
        let control = self.ok("SETUP", "streamid=control/13/0", &named, "");
        let stream = |text: &str| SocketPort { port: port(text), ping: header(text, "X-SS-Ping-Payload").to_owned() };
        let connect_data = header(&control, "X-SS-Connect-Data").parse().unwrap();
        Streams { session, audio: stream(&audio), video: stream(&video), control: port(&control), connect_data }
    }

    /// ANNOUNCE with these attributes, and PLAY.
    pub fn announce(&mut self, streams: &Streams, attributes: &[(&str, u32)]) {
        let session = format!("Session: {}\r\n", streams.session);
        let headers = format!("{session}Content-type: application/sdp\r\n");
        self.ok("ANNOUNCE", "streamid=control/13/0", &headers, &sdp(attributes));
        self.ok("PLAY", "/", &session, "");
    }
}

fn read(stream: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// An ANNOUNCE's body as clients write it: with a space before each line's end.
pub fn sdp(attributes: &[(&str, u32)]) -> String {
    let lines: String = attributes.iter().map(|(name, value)| format!("a={name}:{value} \r\n")).collect();
    format!("v=0\r\no=android 0 14 IN IPv4 127.0.0.1\r\ns=NVIDIA Streaming Client\r\n{lines}t=0 0\r\n")
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    let line = answer.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    line.unwrap_or_else(|| panic!("no {name} in {answer}"))
}

fn port(answer: &str) -> u16 {
    header(answer, "Transport").strip_prefix("server_port=").unwrap().parse().unwrap()
}

/// One client's control stream.
pub struct Control {
    pub host: Host<UdpSocket>,
    peer: PeerID,
    cipher: ControlCipher,
    /// Messages of the host that nobody has asked for yet.
    heard: Vec<ToGuest>,
    pub connected: bool,
    pub disconnected: bool,
    pinged: Instant,
}

impl Control {
    /// Begins to connect.
    pub fn new(to: SocketAddr, connect_data: u32, key: &[u8; 16], version: ControlVersion) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let settings = HostSettings { peer_limit: 1, channel_limit: CHANNELS, ..HostSettings::default() };
        let mut host = Host::new(socket, settings).unwrap();
        host.set_mtu(900).unwrap();
        let peer = host.connect(to, CHANNELS, connect_data).unwrap().id();
        let cipher = ControlCipher::new(key, version, Origin::Client);
        Self { host, peer, cipher, heard: Vec::new(), connected: false, disconnected: false, pinged: Instant::now() }
    }

    /// The same, and waits until the host has let it in.
    pub fn connect(to: SocketAddr, connect_data: u32, key: &[u8; 16], version: ControlVersion) -> Self {
        let mut control = Self::new(to, connect_data, key, version);
        control.until("it is connected", |control| control.connected);
        assert_eq!(control.host.peer(control.peer).channel_count(), CHANNELS);
        control
    }

    /// Does what the network has brought.
    pub fn service(&mut self) {
        while let Some(event) = self.host.service().unwrap().map(|event| event.no_ref()) {
            match event {
                EventNoRef::Connect { .. } => self.connected = true,
                EventNoRef::Disconnect { .. } => self.disconnected = true,
                EventNoRef::Receive { packet, .. } => {
                    let mut out = [0; MAX_MESSAGE];
                    let message = self.cipher.open(packet.data(), &mut out).expect("sealed by this session's host");
                    self.heard.push(ToGuest::parse(message).unwrap());
                }
            }
        }
    }

    /// Serves the connection until `enough`.
    pub fn until(&mut self, what: &str, mut enough: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !enough(self) {
            assert!(
                Instant::now() < deadline,
                "it never came to pass that {what}: {:?}",
                self.host.peer(self.peer).state()
            );
            self.pause();
        }
    }

    /// Serves the connection for a moment, and says now and then that the client is there.
    pub fn pause(&mut self) {
        self.service();
        if self.connected && !self.disconnected && self.pinged.elapsed() > PING {
            self.pinged = Instant::now();
            self.say(0, &FromGuest::Ping);
        }
        std::thread::sleep(Duration::from_millis(1));
    }

    /// Serves the connection for this long.
    pub fn idle(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.pause();
        }
    }

    pub fn say(&mut self, channel: u8, message: &FromGuest) {
        let mut plain = Vec::new();
        message.encode(&mut plain);
        let mut sealed = Vec::new();
        self.cipher.seal(&plain, &mut sealed).unwrap();
        self.send(channel, &sealed);
    }

    /// Sends bytes that are sealed, or not.
    pub fn send(&mut self, channel: u8, bytes: &[u8]) {
        let packet = rusty_enet::Packet::reliable(bytes);
        self.host.peer_mut(self.peer).send(channel, &packet).unwrap();
        self.service();
    }

    pub fn input(&mut self, channel: u8, packet: Packet) {
        self.say(channel, &FromGuest::Input(packet));
    }

    /// Both halves of "start".
    pub fn start(&mut self) {
        self.say(0, &FromGuest::RequestIdr);
        self.say(0, &FromGuest::StartB);
    }

    /// The host's next message.
    pub fn hear(&mut self) -> ToGuest {
        self.until("the host says something", |control| !control.heard.is_empty());
        self.heard.remove(0)
    }

    pub fn has_heard(&self) -> bool {
        !self.heard.is_empty()
    }

    /// Says goodbye, and waits for the host's.
    pub fn leave(mut self) {
        self.connected = false;
        self.host.peer_mut(self.peer).disconnect(0);
        self.until("the host lets it go", |control| control.disconnected);
    }
}

/// A client's socket for sound.
pub struct Audio {
    pub socket: UdpSocket,
    host: SocketAddr,
    ping: Vec<u8>,
    /// How many there have been.
    pub pings: u32,
}

impl Audio {
    pub fn new(host: SocketAddr, ping: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, host, ping: ping.as_bytes().to_vec(), pings: 0 }
    }

    pub fn ping(&mut self) {
        self.pings += 1;
        let ping = [&self.ping[..], &self.pings.to_be_bytes()].concat();
        self.socket.send_to(&ping, self.host).unwrap();
    }

    /// The next RTP packet.
    pub fn packet(&self) -> Vec<u8> {
        let mut bytes = [0; 2048];
        let length = self.socket.recv(&mut bytes).expect("a packet of sound");
        bytes[..length].to_vec()
    }
}
