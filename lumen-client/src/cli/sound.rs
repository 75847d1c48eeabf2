//! Options of sound.

use std::path::PathBuf;

use clap::Args;
use lumen_core::AudioLayout;

#[derive(Args, Debug)]
#[command(next_help_heading = "Sound")]
pub struct SoundArgs {
    /// Speakers to ask sound for: stereo, 5.1 or 7.1; it is decoded and counted in any case
    #[arg(long, value_name = "LAYOUT", default_value = "stereo", value_parser = layout)]
    pub audio: AudioLayout,
    /// Ask for no sound
    #[arg(long, conflicts_with_all = ["audio", "own_sink", "audio_out", "audio_trace"])]
    pub no_audio: bool,
    /// Ask for a sink of the session's own, so that the host's speakers stay silent
    #[arg(long)]
    pub own_sink: bool,
    /// Write the sound as WAV: 48 kHz, 16 bits; what got lost is concealed, so that its length is the session's
    #[arg(long, value_name = "FILE.wav")]
    pub audio_out: Option<PathBuf>,
    /// Write one JSON line per packet of sound
    #[arg(long, value_name = "FILE")]
    pub audio_trace: Option<PathBuf>,
    /// Play the sound here, through PipeWire
    #[cfg(feature = "play")]
    #[arg(long, conflicts_with = "no_audio")]
    pub play: bool,
}

impl SoundArgs {
    /// The layout to ask for.
    pub fn layout(&self) -> Option<AudioLayout> {
        (!self.no_audio).then_some(self.audio)
    }
}

fn layout(text: &str) -> Result<AudioLayout, String> {
    match text {
        "stereo" => Ok(AudioLayout::Stereo),
        "5.1" => Ok(AudioLayout::Surround51),
        "7.1" => Ok(AudioLayout::Surround71),
        _ => Err("one of stereo, 5.1, 7.1".to_owned()),
    }
}
