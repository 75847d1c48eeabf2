//! What a client asks for at its launch, and the secret it brings.

use anyhow::{Result, anyhow};
use aws_lc_rs::rand;

/// The secret of one launch or resume.
#[derive(Clone, Copy, Debug)]
pub struct Keys {
    pub rikey: [u8; 16],
    pub rikeyid: i32,
}

impl Keys {
    pub fn new() -> Result<Self> {
        let (mut rikey, mut id) = ([0; 16], [0; 4]);
        rand::fill(&mut rikey).and_then(|()| rand::fill(&mut id)).map_err(|_| anyhow!("no random bytes"))?;
        Ok(Self { rikey, rikeyid: i32::from_ne_bytes(id) })
    }
}

/// Which streams the client wants encrypted. What hands do is in any case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Secrecy {
    /// RTSP, and the control stream by version 2: `corever=1`. Clients from before had neither.
    pub modern: bool,
    pub video: bool,
    pub audio: bool,
}

impl Secrecy {
    pub const NONE: Self = Self { modern: false, video: false, audio: false };
    pub const ALL: Self = Self { modern: true, video: true, audio: true };
}

/// Loudspeakers of the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speakers {
    Stereo,
    Surround51,
    Surround71,
}

impl Speakers {
    pub const fn channels(self) -> u32 {
        match self {
            Self::Stereo => 2,
            Self::Surround51 => 6,
            Self::Surround71 => 8,
        }
    }

    /// Limelight.h, AUDIO_CONFIGURATION_*.
    pub const fn mask(self) -> u32 {
        match self {
            Self::Stereo => 0x3,
            Self::Surround51 => 0x3f,
            Self::Surround71 => 0x63f,
        }
    }
}

/// A launch.
#[derive(Clone, Debug)]
pub struct Wish {
    pub app: u32,
    pub width: u32,
    pub height: u32,
    pub fps: u32,
    pub kbps: u32,
    /// Bytes of a video packet after its first sixteen, before encryption lessens it.
    pub packet_size: u32,
    pub speakers: Speakers,
    /// Milliseconds of a sound packet: 5 or 10.
    pub packet_ms: u32,
    /// Matrix (0: BT.601, 1: BT.709) shifted left, and 1 for full range. moonlight-qt: 601, full range.
    pub csc: u32,
    pub secrecy: Secrecy,
    /// The machine itself plays the sound too.
    pub loud_host: bool,
}

impl Wish {
    /// A mode as `WIDTHxHEIGHTxFPS` of a client in the same network, that wants everything encrypted.
    pub const fn new(app: u32, (width, height, fps): (u32, u32, u32)) -> Self {
        Self {
            app,
            width,
            height,
            fps,
            kbps: 10_000,
            packet_size: 1392,
            speakers: Speakers::Stereo,
            packet_ms: 5,
            csc: 2,
            secrecy: Secrecy::ALL,
            loud_host: true,
        }
    }

    /// Bytes of a video packet after its first sixteen, as announced (SdpGenerator.c).
    pub const fn announced_packet_size(&self, encrypted: bool) -> u32 {
        if encrypted { self.packet_size - 32 } else { self.packet_size }
    }

    /// The query of `/launch`.
    pub(super) fn query(&self, keys: &Keys) -> Vec<(&'static str, String)> {
        let surround = self.speakers.mask() << 16 | self.speakers.channels();
        let mut query = vec![
            ("appid", self.app.to_string()),
            ("mode", format!("{}x{}x{}", self.width, self.height, self.fps)),
            ("additionalStates", "1".to_owned()),
            ("sops", "0".to_owned()),
            ("rikey", super::pair::hex(&keys.rikey)),
            ("rikeyid", keys.rikeyid.to_string()),
            ("localAudioPlayMode", u32::from(self.loud_host).to_string()),
            ("surroundAudioInfo", surround.to_string()),
            ("remoteControllersBitmap", "1".to_owned()),
            ("gcmap", "1".to_owned()),
            ("gcpersist", "0".to_owned()),
        ];
        if self.secrecy.modern {
            query.push(("corever", "1".to_owned()));
        }
        query
    }
}
