//! Sound's part of the report.

use lumen_core::AudioLayout;
use serde::Serialize;

use crate::report::Quantiles;

/// What a session's sound amounted to. Names and meanings are an interface: add, never change.
#[derive(Debug, Serialize)]
pub struct SoundReport {
    pub channels: usize,
    /// Packets, each once.
    pub received: u64,
    /// Packets that never came.
    pub lost: u64,
    /// Packets that came after their turn; their place had been concealed.
    pub late: u64,
    pub duplicates: u64,
    /// Packets that the decoder refused; their place was concealed.
    pub decode_errors: u64,
    /// Packets that the decoder was too slow for.
    pub overrun: u64,
    /// Packets' worth of guessed sound.
    pub concealed: u64,
    /// Silence put where the host sent nothing, in milliseconds.
    pub filled_ms: f64,
    /// The strongest frequency of the left channel's last second; null if that was silent.
    pub tone_hz: Option<f64>,
    /// How far packets came from their even distance of 5 ms.
    pub jitter_ms: JitterMs,
    /// From a packet's first sample on the host to its decoded samples here; null where both have a clock of their own.
    pub capture_to_decoded_us: Option<Quantiles>,
    /// Null if the sound was not played.
    pub playback: Option<Playback>,
}

#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct JitterMs {
    pub p50: f64,
    pub p99: f64,
}

#[derive(Clone, Copy, Default, Debug, Serialize)]
pub struct Playback {
    /// Times the sound card found too little.
    pub underruns: u64,
    pub played_ms: f64,
    /// Thrown away to keep the delay low.
    pub skipped_ms: f64,
}

impl SoundReport {
    /// One line for a person.
    pub fn line(&self) -> String {
        let layout = match AudioLayout::ALL.into_iter().find(|layout| layout.channels() == self.channels) {
            Some(AudioLayout::Surround51) => "5.1",
            Some(AudioLayout::Surround71) => "7.1",
            _ => "stereo",
        };
        let tone = self.tone_hz.map_or_else(|| "silent at the end".to_owned(), |hz| format!("{hz:.1} Hz at the end"));
        let JitterMs { p50, p99 } = self.jitter_ms;
        let mut line = format!(
            "{layout}, {} received, {} lost, {} late, {} decode errors; jitter {p50:.2} ms p50, {p99:.2} ms p99; {tone}",
            self.received, self.lost, self.late, self.decode_errors,
        );
        if let Some(Playback { underruns, .. }) = self.playback {
            line += &format!("; {underruns} underruns");
        }
        line
    }
}
