//! What the host says in DESCRIBE. The client looks for words in it, not for lines (moonlight-common-c,
//! RtspConnection.c, performRtspHandshake).

use std::fmt::Write;

use super::EncryptionBits;
use crate::audio::AudioLayout;

/// Words that the client looks for (RtspConnection.c).
pub(super) const HEVC: &str = "sprop-parameter-sets=AAAAAU";
const AV1: &str = "a=rtpmap:98 AV1/90000";
/// `LI_FF_PEN_TOUCH_EVENTS` and `LI_FF_CONTROLLER_TOUCH_EVENTS` (Limelight.h).
const TOUCH: u32 = 1;
const PAD_SENSORS: u32 = 2;

/// What the host can do: never more than its planes really can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Beside H.264, which is always offered.
    pub hevc: bool,
    pub av1: bool,
    /// The encoder can go on without frames that a client has lost.
    pub invalidation: bool,
    /// Touch and pen as such; otherwise clients make a mouse of them.
    pub touch: bool,
    /// Touch pads and motion sensors of pads.
    pub pad_sensors: bool,
    pub encryption: EncryptionBits,
    /// What of it clients are asked to use even if they would not by themselves.
    pub encryption_wanted: EncryptionBits,
}

impl Offer {
    /// The body of the answer to DESCRIBE.
    pub fn body(&self) -> String {
        let mut body = String::with_capacity(512);
        let mut line = |text: std::fmt::Arguments<'_>| {
            // A String takes everything.
            let _ = write!(body, "{text}\r\n");
        };
        let features = u32::from(self.touch) * TOUCH + u32::from(self.pad_sensors) * PAD_SENSORS;
        line(format_args!("a=x-ss-general.featureFlags:{features}"));
        line(format_args!("a=x-ss-general.encryptionSupported:{}", self.encryption.bits()));
        line(format_args!("a=x-ss-general.encryptionRequested:{}", self.encryption_wanted.bits()));
        if self.invalidation {
            line(format_args!("a=x-nv-video[0].refPicInvalidation:1"));
        }
        if self.hevc {
            line(format_args!("{HEVC}"));
        }
        if self.av1 {
            line(format_args!("{AV1}"));
        }
        // Only one line for each layout: a second would be taken for one without coupled streams.
        for layout in AudioLayout::ALL {
            line(format_args!("a=fmtp:97 surround-params={}", surround(layout)));
        }
        body
    }
}

/// Channels, streams, coupled streams and the mapping, a digit each. The client takes the last channel to be the LFE
/// and moves it behind the third (RtspConnection.c, parseOpusConfigurations), so that is where it is put.
fn surround(layout: AudioLayout) -> String {
    let mut mapping = layout.mapping().to_vec();
    if mapping.len() > 3 {
        mapping[3..].rotate_left(1);
    }
    let counts = [layout.channels() as u8, layout.streams(), layout.coupled()];
    counts.into_iter().chain(mapping).map(|digit| char::from(b'0' + digit)).collect()
}
