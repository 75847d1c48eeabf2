//! The session descriptions of both sides: what the host offers in DESCRIBE ([`Offer`]) and what the client announces
//! ([`Announcement`]). Names and meanings are those of moonlight-common-c, SdpGenerator.c and RtspConnection.c.

mod attributes;
mod offer;

use attributes::Attributes;
pub use offer::Offer;

use crate::audio::{AudioLayout, PacketTime};

/// Most bytes of an ANNOUNCE that are looked at.
pub const MAX_ANNOUNCE: usize = super::rtsp::MAX_REQUEST;

/// How pictures are compressed (`x-nv-vqos[0].bitStreamFormat`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VideoCodec {
    H264,
    Hevc,
    Av1,
}

/// Matrix of the picture (`x-nv-video[0].encoderCscMode` without its lowest bit; Limelight.h, COLORSPACE_*).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Space {
    Rec601,
    Rec709,
    Rec2020,
}

/// What is encrypted beside RTSP (Limelight-internal.h, SS_ENC_*).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct EncryptionBits {
    /// The control stream by version 2, with nonces that do not repeat; otherwise by version 1.
    pub control_v2: bool,
    pub video: bool,
    pub audio: bool,
}

impl EncryptionBits {
    pub const NONE: Self = Self { control_v2: false, video: false, audio: false };
    pub const ALL: Self = Self { control_v2: true, video: true, audio: true };

    pub const fn bits(self) -> u32 {
        self.control_v2 as u32 | (self.video as u32) << 1 | (self.audio as u32) << 2
    }

    /// Bits of a newer client are dropped: it cannot mean something that it was not offered.
    pub const fn from_bits(bits: u32) -> Self {
        Self { control_v2: bits & 1 != 0, video: bits & 2 != 0, audio: bits & 4 != 0 }
    }
}

/// What a client wants of its stream. Every value is one that the host can work with; whether it was offered, and
/// whether it is what the launch asked for, is for the session to judge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Announcement {
    /// Pixels, 1 to 16384. The mode was settled at the launch already.
    pub width: u16,
    pub height: u16,
    /// Frames a second that the client wants, in hundredths.
    pub fps_x100: u32,
    /// Of the client's screen, in hundredths of a hertz, if it knows.
    pub refresh_x100: Option<u32>,
    /// Bytes of a video packet after its first sixteen: a multiple of 16, 256 to 1392. Lessened by the encryption's
    /// overhead already.
    pub packet_size: u16,
    /// All that the client wants to receive of video, parity included: 500 to 800 000.
    pub bitrate_kbps: u32,
    pub space: Space,
    pub full_range: bool,
    pub codec: VideoCodec,
    /// `x-nv-video[0].dynamicRangeMode`.
    pub hdr: bool,
    /// `x-ss-video[0].chromaSamplingType`.
    pub yuv444: bool,
    /// 1 to 32.
    pub slices: u8,
    /// No picture may refer to any but the one before it (`maxNumReferenceFrames` of 1).
    pub single_reference: bool,
    /// Least parity packets of a block: 2 to 32.
    pub min_parity: u8,
    pub audio: AudioLayout,
    /// `x-nv-audio.surround.AudioQuality`: separate streams, which no [`Offer`] has.
    pub audio_high_quality: bool,
    pub audio_packet: PacketTime,
    /// `x-ss-general.encryptionEnabled`.
    pub encryption: EncryptionBits,
    /// Sound is to be encrypted: bit 0x20 of `x-nv-general.featureFlags`, on which the client decides alone.
    pub audio_encrypted: bool,
    /// The client sends [`FecStatus`](super::control::FecStatus) messages.
    pub tells_fec: bool,
    /// The client's pings carry the payload it was given, and its connect the data; otherwise "PING" and 0.
    pub tells_session: bool,
    /// Its network may be told which packets are urgent (`x-nv-vqos[0].qosTrafficType`).
    pub qos: bool,
}

/// What is wrong with an ANNOUNCE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AnnounceError {
    #[error("it is no session description")]
    Malformed,
    #[error("{0} has a value that this host does not know")]
    Value(&'static str),
}

/// `NVFF_AUDIO_ENCRYPTION` (SdpGenerator.c).
const NVFF_AUDIO_ENCRYPTION: u32 = 0x20;
/// `ML_FF_FEC_STATUS` (Limelight-internal.h).
const ML_FF_FEC_STATUS: u32 = 0x01;
/// `ML_FF_SESSION_ID_V1` (Limelight-internal.h).
const ML_FF_SESSION_ID_V1: u32 = 0x02;
/// What a client gets that does not say: what Moonlight has for 720p at 60 Hz.
const DEFAULT_KBPS: u32 = 10_000;
/// What clients say when they are not at home.
const DEFAULT_PACKET: u32 = 1024;

impl Announcement {
    /// Parses the body of an ANNOUNCE. What is absent has a default; what is there must make sense.
    pub fn parse(body: &[u8]) -> Result<Self, AnnounceError> {
        let attributes = Attributes::parse(body)?;
        let one_of = |name: &'static str, default: u32, most: u32| {
            let value = attributes.number(name)?.unwrap_or(default);
            if value <= most { Ok(value) } else { Err(AnnounceError::Value(name)) }
        };
        let clamped = |name: &'static str, default: u32, least: u32, most: u32| {
            Ok::<_, AnnounceError>(attributes.number(name)?.unwrap_or(default).clamp(least, most))
        };
        let csc = one_of("x-nv-video[0].encoderCscMode", 0, 5)?;
        let nv_flags = attributes.number("x-nv-general.featureFlags")?.unwrap_or(0);
        let ml_flags = attributes.number("x-ml-general.featureFlags")?.unwrap_or(0);
        Ok(Self {
            width: clamped("x-nv-video[0].clientViewportWd", 1280, 1, 16384)? as u16,
            height: clamped("x-nv-video[0].clientViewportHt", 720, 1, 16384)? as u16,
            fps_x100: clamped("x-nv-video[0].maxFPS", 60, 1, 1000)? * 100,
            refresh_x100: attributes.number("x-nv-video[0].clientRefreshRateX100")?.filter(|&rate| rate > 0),
            packet_size: packet_size(&attributes)?,
            bitrate_kbps: bitrate(&attributes)?.clamp(500, 800_000),
            space: match csc >> 1 {
                0 => Space::Rec601,
                1 => Space::Rec709,
                _ => Space::Rec2020,
            },
            full_range: csc & 1 != 0,
            codec: match one_of("x-nv-vqos[0].bitStreamFormat", 0, 2)? {
                0 => VideoCodec::H264,
                1 => VideoCodec::Hevc,
                _ => VideoCodec::Av1,
            },
            hdr: one_of("x-nv-video[0].dynamicRangeMode", 0, 1)? == 1,
            yuv444: one_of("x-ss-video[0].chromaSamplingType", 0, 1)? == 1,
            slices: clamped("x-nv-video[0].videoEncoderSlicesPerFrame", 1, 1, 32)? as u8,
            single_reference: attributes.number("x-nv-video[0].maxNumReferenceFrames")?.unwrap_or(1) == 1,
            min_parity: clamped("x-nv-vqos[0].fec.minRequiredFecPackets", 2, 2, 32)? as u8,
            audio: layout(&attributes)?,
            audio_high_quality: one_of("x-nv-audio.surround.AudioQuality", 0, 1)? == 1,
            audio_packet: match attributes.number("x-nv-aqos.packetDuration")? {
                None | Some(5) => PacketTime::Five,
                Some(10) => PacketTime::Ten,
                Some(_) => return Err(AnnounceError::Value("x-nv-aqos.packetDuration")),
            },
            encryption: EncryptionBits::from_bits(attributes.number("x-ss-general.encryptionEnabled")?.unwrap_or(0)),
            audio_encrypted: nv_flags & NVFF_AUDIO_ENCRYPTION != 0,
            tells_fec: ml_flags & ML_FF_FEC_STATUS != 0,
            tells_session: ml_flags & ML_FF_SESSION_ID_V1 != 0,
            qos: attributes.number("x-nv-vqos[0].qosTrafficType")?.unwrap_or(0) != 0,
        })
    }

    /// What is left for the encoder when a fifth of the bits are kept for parity, as clients reckon (SdpGenerator.c).
    pub const fn video_kbps(&self) -> u32 {
        self.bitrate_kbps / 5 * 4
    }
}

fn packet_size(attributes: &Attributes<'_>) -> Result<u16, AnnounceError> {
    let name = "x-nv-video[0].packetSize";
    let size = attributes.number(name)?.unwrap_or(DEFAULT_PACKET);
    // Every packet of a frame but its last has exactly this size, so another cannot be given instead.
    let known = (256..=1392).contains(&size) && size.is_multiple_of(16);
    if known { Ok(size as u16) } else { Err(AnnounceError::Value(name)) }
}

/// In kbit/s, with the share of parity.
fn bitrate(attributes: &Attributes<'_>) -> Result<u32, AnnounceError> {
    if let Some(set) = attributes.number("x-ml-video.configuredBitrateKbps")? {
        return Ok(set);
    }
    // Four fifths of what the person has set.
    let initial = attributes.number("x-nv-video[0].initialBitrateKbps")?;
    let most = attributes.number("x-nv-vqos[0].bw.maximumBitrateKbps")?;
    Ok(initial.or(most).map_or(DEFAULT_KBPS, |video| (video / 4).saturating_mul(5)))
}

fn layout(attributes: &Attributes<'_>) -> Result<AudioLayout, AnnounceError> {
    let name = "x-nv-audio.surround.numChannels";
    let channels = attributes.number(name)?.unwrap_or(2);
    u8::try_from(channels).ok().and_then(AudioLayout::from_channels).ok_or(AnnounceError::Value(name))
}

#[cfg(test)]
#[path = "sdp/tests.rs"]
mod tests;
