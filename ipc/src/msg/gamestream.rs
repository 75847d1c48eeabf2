//! What lumend and the network plane say to each other about GameStream clients: apps, pairing, and what a session is
//! to be.

use std::fmt;
use std::net::IpAddr;

use lumen_core::audio::PacketTime;
use lumen_core::{AudioLayout, Encryption};
use serde::{Deserialize, Serialize};

/// The protocol that a client speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Face {
    /// lumen/1.
    Lumen,
    GameStream,
}

impl Face {
    /// "lumen", "gamestream".
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lumen => "lumen",
            Self::GameStream => "gamestream",
        }
    }
}

/// Names an app to clients, which keep it: 1 to 2^31 - 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct AppId(u32);

impl AppId {
    pub const fn new(id: u32) -> Option<Self> {
        if id >= 1 && id <= i32::MAX as u32 { Some(Self(id)) } else { None }
    }

    pub const fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for AppId {
    type Error = &'static str;

    fn try_from(id: u32) -> Result<Self, Self::Error> {
        Self::new(id).ok_or("an app's id is 1 to 2147483647")
    }
}

impl From<AppId> for u32 {
    fn from(id: AppId) -> u32 {
        id.0
    }
}

/// One start of an app. Never reused while lumend lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct RunId(pub u32);

/// One attempt of a client to pair. Chosen by net, never reused while it lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct PairingId(pub u32);

/// Four decimal digits, as ASCII. Not printed.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[u8; 4]", into = "[u8; 4]")]
pub struct Pin([u8; 4]);

impl Pin {
    /// None unless these are four digits.
    pub fn new(text: &str) -> Option<Self> {
        Self::try_from(<[u8; 4]>::try_from(text.as_bytes()).ok()?).ok()
    }

    pub const fn digits(&self) -> &[u8; 4] {
        &self.0
    }
}

impl TryFrom<[u8; 4]> for Pin {
    type Error = &'static str;

    fn try_from(digits: [u8; 4]) -> Result<Self, Self::Error> {
        if digits.iter().all(u8::is_ascii_digit) { Ok(Self(digits)) } else { Err("a PIN is four digits") }
    }
}

impl From<Pin> for [u8; 4] {
    fn from(pin: Pin) -> Self {
        pin.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin")
    }
}

/// Matrix coefficients of the picture (ITU-T H.273).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Matrix {
    Bt601,
    Bt709,
}

/// How RGB becomes YCbCr.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Colour {
    pub matrix: Matrix,
    pub full_range: bool,
}

/// All that a GameStream client says only after its launch was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tuning {
    pub bitrate_kbps: u32,
    pub colour: Colour,
    /// Most bytes of an access unit that the client's protocol can carry with parity.
    pub frame_bytes: u32,
    pub audio: AudioLayout,
    pub audio_packet: PacketTime,
}

/// The sockets of GameStream, all on one address, and what is said on them. TCP sockets listen already.
#[derive(Debug, Serialize, Deserialize)]
pub struct GameStreamListen<F> {
    pub http: F,
    pub https: F,
    pub rtsp: F,
    pub video: F,
    pub control: F,
    pub audio: F,
    /// Of HTTP. The others: HTTPS -5, RTSP +21, video +9, control +10, audio +11.
    pub base_port: u16,
    /// DER of the host's RSA certificate.
    pub certificate: Vec<u8>,
    /// The host, to clients: stable.
    pub unique_id: [u8; 16],
    pub host_name: String,
    pub encryption: Encryption,
}

/// One entry of the app list.
#[derive(Debug, Serialize, Deserialize)]
pub struct App<F> {
    pub app: AppId,
    pub title: String,
    pub image: Option<Image<F>>,
}

/// A PNG in a sealed memfd.
#[derive(Debug, Serialize, Deserialize)]
pub struct Image<F> {
    pub memory: F,
    pub bytes: u32,
}

/// What mDNS tells, and where.
#[derive(Debug, Serialize, Deserialize)]
pub struct Announce<F> {
    /// One DNS label, without ".local".
    pub host: String,
    pub services: Vec<Service>,
    pub interfaces: Vec<Interface<F>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Service {
    /// GameStream: `_nvstream._tcp`, lumen/1: `_lumen._udp`.
    pub face: Face,
    pub port: u16,
}

/// One interface, with a socket on port 5353 that has joined the multicast group there and sends to it there; one of
/// each family it has.
#[derive(Debug, Serialize, Deserialize)]
pub struct Interface<F> {
    pub v4: Option<F>,
    pub v6: Option<F>,
    pub addresses: Vec<IpAddr>,
}

impl<F> GameStreamListen<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<GameStreamListen<G>, E> {
        Ok(GameStreamListen {
            http: map(self.http)?,
            https: map(self.https)?,
            rtsp: map(self.rtsp)?,
            video: map(self.video)?,
            control: map(self.control)?,
            audio: map(self.audio)?,
            base_port: self.base_port,
            certificate: self.certificate,
            unique_id: self.unique_id,
            host_name: self.host_name,
            encryption: self.encryption,
        })
    }
}

impl<F> App<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<App<G>, E> {
        let image = match self.image {
            Some(image) => Some(Image { memory: map(image.memory)?, bytes: image.bytes }),
            None => None,
        };
        Ok(App { app: self.app, title: self.title, image })
    }
}

impl<F> Announce<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<Announce<G>, E> {
        let interface = |interface: Interface<F>| {
            Ok(Interface {
                v4: interface.v4.map(&mut *map).transpose()?,
                v6: interface.v6.map(&mut *map).transpose()?,
                addresses: interface.addresses,
            })
        };
        let interfaces = self.interfaces.into_iter().map(interface).collect::<Result<_, E>>()?;
        Ok(Announce { host: self.host, services: self.services, interfaces })
    }
}
