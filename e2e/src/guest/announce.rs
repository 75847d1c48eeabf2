//! ANNOUNCE's body: what a client of generation 7 says of itself and its stream (moonlight-common-c, SdpGenerator.c).

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::rtsp::Offer;
use super::wish::Wish;

/// What is encrypted of what was wished and offered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Agreed {
    pub control_v2: bool,
    pub video: bool,
    pub audio: bool,
}

impl Agreed {
    pub const fn of(wish: &Wish, offer: &Offer) -> Self {
        let (supported, requested) = (offer.encryption_supported, offer.encryption_requested);
        Self {
            control_v2: supported & 1 != 0 && wish.secrecy.modern,
            video: supported & 2 != 0 && wish.secrecy.video || requested & 2 != 0,
            // On this the client decides alone.
            audio: wish.secrecy.audio || requested & 4 != 0,
        }
    }

    const fn bits(self, offer: &Offer) -> u32 {
        let audio = self.audio && (offer.encryption_supported | offer.encryption_requested) & 4 != 0;
        self.control_v2 as u32 | (self.video as u32) << 1 | (audio as u32) << 2
    }
}

/// The whole body.
pub fn description(wish: &Wish, offer: &Offer, agreed: Agreed, host: SocketAddr, video_port: u16) -> String {
    let family = if host.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut text = format!("v=0\r\no=android 0 14 IN {family} {}\r\ns=NVIDIA Streaming Client\r\n", host.ip());
    let surround = wish.speakers.channels() > 2;
    let kbps = wish.kbps * 8 / 10;
    let lines: [(&str, u32); 37] = [
        ("x-ml-general.featureFlags", 3),
        ("x-ss-general.encryptionEnabled", agreed.bits(offer)),
        ("x-ss-video[0].chromaSamplingType", 0),
        ("x-nv-video[0].clientViewportWd", wish.width),
        ("x-nv-video[0].clientViewportHt", wish.height),
        ("x-nv-video[0].maxFPS", wish.fps),
        ("x-nv-video[0].packetSize", wish.announced_packet_size(agreed.video)),
        ("x-nv-video[0].rateControlMode", 4),
        ("x-nv-video[0].timeoutLengthMs", 7000),
        ("x-nv-video[0].framesWithInvalidRefThreshold", 0),
        ("x-nv-video[0].initialBitrateKbps", kbps),
        ("x-nv-video[0].initialPeakBitrateKbps", kbps),
        ("x-nv-vqos[0].bw.minimumBitrateKbps", kbps),
        ("x-nv-vqos[0].bw.maximumBitrateKbps", kbps),
        ("x-ml-video.configuredBitrateKbps", wish.kbps),
        ("x-nv-vqos[0].fec.enable", 1),
        ("x-nv-vqos[0].videoQualityScoreUpdateTime", 5000),
        ("x-nv-vqos[0].qosTrafficType", 5),
        ("x-nv-aqos.qosTrafficType", 4),
        ("x-nv-general.featureFlags", if agreed.audio { 0x07 | 0x80 | 0x20 } else { 0x07 | 0x80 }),
        ("x-nv-general.useReliableUdp", 13),
        ("x-nv-vqos[0].fec.minRequiredFecPackets", 2),
        ("x-nv-vqos[0].bllFec.enable", 0),
        ("x-nv-vqos[0].drc.enable", 0),
        ("x-nv-general.enableRecoveryMode", 0),
        ("x-nv-video[0].videoEncoderSlicesPerFrame", 1),
        ("x-nv-clientSupportHevc", 0),
        ("x-nv-vqos[0].bitStreamFormat", 0),
        ("x-nv-video[0].dynamicRangeMode", 0),
        ("x-nv-video[0].maxNumReferenceFrames", 1),
        ("x-nv-video[0].clientRefreshRateX100", 6000),
        ("x-nv-audio.surround.numChannels", wish.speakers.channels()),
        ("x-nv-audio.surround.channelMask", wish.speakers.mask()),
        ("x-nv-audio.surround.enable", surround as u32),
        ("x-nv-audio.surround.AudioQuality", 0),
        ("x-nv-aqos.packetDuration", wish.packet_ms),
        ("x-nv-video[0].encoderCscMode", wish.csc),
    ];
    for (name, value) in lines {
        // With the space before the line's end that they all write.
        let _ = write!(text, "a={name}:{value} \r\n");
    }
    let _ = write!(text, "t=0 0\r\nm=video {video_port}  \r\n");
    text
}
