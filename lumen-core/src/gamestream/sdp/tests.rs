use proptest::prelude::*;

use super::*;

/// What a client at home says that streams 1080p at 60 Hz with 5.1 channels, in the order and with the spaces of
/// SdpGenerator.c.
const ANNOUNCED: &str = "v=0\r\no=android 0 14 IN IPv4 10.0.0.2\r\ns=NVIDIA Streaming Client\r\n\
    a=x-ml-general.featureFlags:3 \r\n\
    a=x-ss-general.encryptionEnabled:1 \r\n\
    a=x-ss-video[0].chromaSamplingType:0 \r\n\
    a=x-nv-video[0].clientViewportWd:1920 \r\n\
    a=x-nv-video[0].clientViewportHt:1080 \r\n\
    a=x-nv-video[0].maxFPS:60 \r\n\
    a=x-nv-video[0].packetSize:1392 \r\n\
    a=x-nv-video[0].rateControlMode:4 \r\n\
    a=x-nv-video[0].timeoutLengthMs:7000 \r\n\
    a=x-nv-video[0].framesWithInvalidRefThreshold:0 \r\n\
    a=x-nv-video[0].initialBitrateKbps:16000 \r\n\
    a=x-nv-video[0].initialPeakBitrateKbps:16000 \r\n\
    a=x-nv-vqos[0].bw.minimumBitrateKbps:16000 \r\n\
    a=x-nv-vqos[0].bw.maximumBitrateKbps:16000 \r\n\
    a=x-ml-video.configuredBitrateKbps:20000 \r\n\
    a=x-nv-vqos[0].fec.enable:1 \r\n\
    a=x-nv-vqos[0].videoQualityScoreUpdateTime:5000 \r\n\
    a=x-nv-vqos[0].qosTrafficType:5 \r\n\
    a=x-nv-aqos.qosTrafficType:4 \r\n\
    a=x-nv-general.featureFlags:167 \r\n\
    a=x-nv-general.useReliableUdp:13 \r\n\
    a=x-nv-vqos[0].fec.minRequiredFecPackets:2 \r\n\
    a=x-nv-vqos[0].bllFec.enable:0 \r\n\
    a=x-nv-vqos[0].drc.enable:0 \r\n\
    a=x-nv-general.enableRecoveryMode:0 \r\n\
    a=x-nv-video[0].videoEncoderSlicesPerFrame:4 \r\n\
    a=x-nv-clientSupportHevc:0 \r\n\
    a=x-nv-vqos[0].bitStreamFormat:0 \r\n\
    a=x-nv-video[0].dynamicRangeMode:0 \r\n\
    a=x-nv-video[0].maxNumReferenceFrames:1 \r\n\
    a=x-nv-video[0].clientRefreshRateX100:5994 \r\n\
    a=x-nv-audio.surround.numChannels:6 \r\n\
    a=x-nv-audio.surround.channelMask:63 \r\n\
    a=x-nv-audio.surround.enable:1 \r\n\
    a=x-nv-audio.surround.AudioQuality:0 \r\n\
    a=x-nv-aqos.packetDuration:10 \r\n\
    a=x-nv-video[0].encoderCscMode:3 \r\n\
    t=0 0\r\nm=video 47998  \r\n";

const HOME: Announcement = Announcement {
    width: 1920,
    height: 1080,
    fps_x100: 6000,
    refresh_x100: Some(5994),
    packet_size: 1392,
    bitrate_kbps: 20_000,
    space: Space::Rec709,
    full_range: true,
    codec: VideoCodec::H264,
    hdr: false,
    yuv444: false,
    slices: 4,
    single_reference: true,
    min_parity: 2,
    audio: AudioLayout::Surround51,
    audio_high_quality: false,
    audio_packet: PacketTime::Ten,
    encryption: EncryptionBits { control_v2: true, video: false, audio: false },
    audio_encrypted: true,
    tells_fec: true,
    tells_session: true,
    qos: true,
};

/// The announcement with one attribute said otherwise.
fn with(name: &str, value: &str) -> Result<Announcement, AnnounceError> {
    assert!(ANNOUNCED.contains(&format!("a={name}:")), "{name}");
    Announcement::parse(format!("{ANNOUNCED}a={name}:{value} \r\n").as_bytes())
}

#[test]
fn what_clients_announce() {
    assert_eq!(Announcement::parse(ANNOUNCED.as_bytes()), Ok(HOME));
    assert_eq!(HOME.video_kbps(), 16_000);
}

#[test]
fn what_is_absent_has_a_default() {
    let silent = Announcement::parse(b"v=0\r\nt=0 0\r\n").unwrap();
    assert_eq!((silent.width, silent.height, silent.fps_x100), (1280, 720, 6000));
    assert_eq!((silent.packet_size, silent.bitrate_kbps, silent.min_parity), (1024, 10_000, 2));
    assert_eq!((silent.audio, silent.audio_packet), (AudioLayout::Stereo, PacketTime::Five));
    assert_eq!((silent.encryption, silent.audio_encrypted), (EncryptionBits::NONE, false));
    assert!(!silent.tells_session && !silent.full_range);
    // The share of parity is taken off before a client says its bit rate the old way.
    let old = ANNOUNCED.replace("a=x-ml-video.configuredBitrateKbps:20000 \r\n", "");
    assert_eq!(Announcement::parse(old.as_bytes()).unwrap().bitrate_kbps, 20_000);
}

#[test]
fn values_that_are_there_must_make_sense() {
    let numbers = ["", "x", "-1", "0x10", "1 2", "4294967296", "1.5", "+1"];
    for value in numbers {
        let name = "x-nv-video[0].maxFPS";
        assert_eq!(with(name, value), Err(AnnounceError::Value(name)), "{value:?}");
    }
    let wrong = [
        ("x-nv-video[0].packetSize", "240"),
        ("x-nv-video[0].packetSize", "1000"),
        ("x-nv-video[0].packetSize", "1408"),
        ("x-nv-vqos[0].bitStreamFormat", "3"),
        ("x-nv-video[0].dynamicRangeMode", "2"),
        ("x-nv-video[0].encoderCscMode", "6"),
        ("x-nv-audio.surround.numChannels", "4"),
        ("x-nv-audio.surround.numChannels", "258"),
        ("x-nv-aqos.packetDuration", "20"),
        ("x-nv-audio.surround.AudioQuality", "2"),
    ];
    for (name, value) in wrong {
        assert_eq!(with(name, value), Err(AnnounceError::Value(name)), "{value}");
    }
    assert_eq!(Announcement::parse(&[0xFF, 0xFE]), Err(AnnounceError::Malformed));
    assert_eq!(Announcement::parse(&vec![b'\n'; 600]), Err(AnnounceError::Malformed));
    assert_eq!(Announcement::parse(&vec![b'a'; MAX_ANNOUNCE + 1]), Err(AnnounceError::Malformed));
}

#[test]
fn other_values_mean_what_they_should() {
    assert_eq!(
        with("x-nv-video[0].encoderCscMode", "0").map(|it| (it.space, it.full_range)),
        Ok((Space::Rec601, false))
    );
    assert_eq!(
        with("x-nv-video[0].encoderCscMode", "5").map(|it| (it.space, it.full_range)),
        Ok((Space::Rec2020, true))
    );
    assert_eq!(with("x-nv-vqos[0].bitStreamFormat", "1").map(|it| it.codec), Ok(VideoCodec::Hevc));
    assert_eq!(with("x-nv-vqos[0].bitStreamFormat", "2").map(|it| it.codec), Ok(VideoCodec::Av1));
    assert_eq!(with("x-nv-general.featureFlags", "135").map(|it| it.audio_encrypted), Ok(false));
    assert_eq!(with("x-ss-general.encryptionEnabled", "7").map(|it| it.encryption), Ok(EncryptionBits::ALL));
    assert_eq!(with("x-nv-video[0].maxNumReferenceFrames", "0").map(|it| it.single_reference), Ok(false));
    assert_eq!(with("x-nv-video[0].clientRefreshRateX100", "0").map(|it| it.refresh_x100), Ok(None));
    assert_eq!(with("x-nv-vqos[0].qosTrafficType", "0").map(|it| it.qos), Ok(false));
    assert_eq!(with("x-ml-video.configuredBitrateKbps", "0").map(|it| it.bitrate_kbps), Ok(500));
    assert_eq!(with("x-nv-audio.surround.numChannels", "8").map(|it| it.audio), Ok(AudioLayout::Surround71));
    assert_eq!(with("x-nv-video[0].packetSize", "1360").map(|it| it.packet_size), Ok(1360));
}

/// What a client reads out of a DESCRIBE, by the rules of RtspConnection.c (parseOpusConfigurations): streams, coupled
/// streams and where each of its channels is, for the first and, if there is one, the second line of its layout.
fn opus_as_a_client(body: &str, channels: usize) -> Vec<(u8, u8, Vec<u8>)> {
    let prefix = format!("a=fmtp:97 surround-params={channels}");
    let digits = |rest: &str| rest.bytes().take(2 + channels).map(|byte| byte - b'0').collect::<Vec<u8>>();
    let mut found: Vec<_> = body.match_indices(&prefix).map(|(at, _)| digits(&body[at + prefix.len()..])).collect();
    if let Some(first) = found.first_mut().filter(|_| channels > 2) {
        first[5..].rotate_right(1);
    }
    found.into_iter().map(|digits| (digits[0], digits[1], digits[2..].to_vec())).collect()
}

#[test]
fn clients_find_what_is_offered() {
    let offer = Offer {
        hevc: false,
        av1: false,
        invalidation: false,
        touch: true,
        pad_sensors: false,
        encryption: EncryptionBits::ALL,
        encryption_wanted: EncryptionBits { control_v2: true, ..EncryptionBits::NONE },
    };
    let body = offer.body();
    for layout in AudioLayout::ALL {
        let channels = layout.channels();
        let expected = (layout.streams(), layout.coupled(), layout.mapping().to_vec());
        assert_eq!(opus_as_a_client(&body, channels), [expected], "{layout:?}");
    }
    for absent in [super::offer::HEVC, "AV1/90000", "x-nv-video[0].refPicInvalidation"] {
        assert!(!body.contains(absent), "{absent}");
    }
    for there in ["featureFlags:1\r\n", "encryptionSupported:7\r\n", "encryptionRequested:1\r\n"] {
        assert!(body.contains(&format!("a=x-ss-general.{there}")), "{body}");
    }
    let all = Offer { hevc: true, av1: true, invalidation: true, pad_sensors: true, ..offer }.body();
    for there in ["sprop-parameter-sets=AAAAAU", "AV1/90000", "x-nv-video[0].refPicInvalidation", "featureFlags:3\r\n"]
    {
        assert!(all.contains(there), "{there}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_an_announcement_or_not(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Announcement::parse(&bytes);
    }

    /// Whatever a client says of what is known, what comes out is within its bounds.
    #[test]
    fn what_is_taken_is_within_bounds(
        said in prop::collection::vec((0usize..64, prop_oneof![any::<u32>(), 0u32..2000, 0u32..12]), 0..12),
    ) {
        let names: Vec<_> = ANNOUNCED.lines().filter_map(|line| line.strip_prefix("a=")?.split(':').next()).collect();
        let mut body = String::new();
        for (name, value) in said {
            body.push_str(&format!("a={}:{value} \r\n", names[name % names.len()]));
        }
        let Ok(announced) = Announcement::parse(body.as_bytes()) else { return Ok(()) };
        prop_assert!((1..=16384).contains(&announced.width) && (1..=16384).contains(&announced.height));
        prop_assert!((100..=100_000).contains(&announced.fps_x100));
        prop_assert!((256..=1392).contains(&announced.packet_size) && announced.packet_size.is_multiple_of(16));
        prop_assert!((500..=800_000).contains(&announced.bitrate_kbps));
        prop_assert!((1..=32).contains(&announced.slices) && (2..=32).contains(&announced.min_parity));
        prop_assert_ne!(announced.refresh_x100, Some(0));
    }

    #[test]
    fn encryption_bits_are_kept(bits in any::<u32>()) {
        prop_assert_eq!(EncryptionBits::from_bits(bits).bits(), bits & 7);
    }
}
