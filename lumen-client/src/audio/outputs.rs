//! Where decoded sound goes.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, PoisonError};

use lumen_core::AudioLayout;
use serde::Serialize;

use super::jitter::{JitterBuffer, PlayCounts};
use super::wav::Wav;

/// What to do with sound besides counting it.
#[derive(Default)]
pub struct SoundOutputs {
    /// Becomes a WAV file.
    pub wav: Option<File>,
    /// One JSON line a packet.
    pub trace: Option<BufWriter<File>>,
    /// What a sound card takes from.
    pub playback: Option<Arc<Mutex<JitterBuffer>>>,
}

impl SoundOutputs {
    /// Completes the files of a session that has no sound.
    pub fn discard(self, layout: AudioLayout) -> Result<(), String> {
        Open::new(self, layout)?.close()
    }
}

/// One line of the trace; times in nanoseconds, `pts_ns` by the host's clock, the others by ours.
#[derive(Debug, Serialize)]
pub struct TraceLine<'a> {
    pub seq: u32,
    pub pts_ns: u64,
    pub received_ns: u64,
    pub decoded_ns: u64,
    /// The largest sample of each channel, by amount; 1.0 is full scale.
    pub peak: &'a [f32],
    /// Packets lost between the one played before and this one.
    pub lost_before: u64,
}

/// [`SoundOutputs`] in use.
pub(super) struct Open {
    wav: Option<Wav>,
    trace: Option<BufWriter<File>>,
    playback: Option<Arc<Mutex<JitterBuffer>>>,
}

impl Open {
    pub(super) fn new(outputs: SoundOutputs, layout: AudioLayout) -> Result<Self, String> {
        let SoundOutputs { wav, trace, playback } = outputs;
        let wav = wav.map(|file| Wav::new(file, layout)).transpose().map_err(sound)?;
        Ok(Self { wav, trace, playback })
    }

    /// The next interleaved samples, heard or guessed.
    pub(super) fn samples(&mut self, samples: &[f32]) -> Result<(), String> {
        if let Some(playback) = &self.playback {
            playback.lock().unwrap_or_else(PoisonError::into_inner).push(samples);
        }
        self.wav.as_mut().map_or(Ok(()), |wav| wav.write(samples)).map_err(sound)
    }

    pub(super) fn line(&mut self, line: &TraceLine<'_>) -> Result<(), String> {
        let Some(trace) = &mut self.trace else { return Ok(()) };
        let written = serde_json::to_writer(&mut *trace, line).map_err(io::Error::from);
        written.and_then(|()| trace.write_all(b"\n")).map_err(traced)
    }

    pub(super) fn tracing(&self) -> bool {
        self.trace.is_some()
    }

    pub(super) fn played(&self) -> Option<PlayCounts> {
        self.playback.as_ref().map(|playback| playback.lock().unwrap_or_else(PoisonError::into_inner).counts())
    }

    /// Completes the files.
    pub(super) fn close(self) -> Result<(), String> {
        self.trace.map_or(Ok(()), |mut trace| trace.flush()).map_err(traced)?;
        self.wav.map_or(Ok(()), Wav::finish).map_err(sound)
    }
}

fn sound(error: io::Error) -> String {
    format!("cannot write the sound: {error}")
}

fn traced(error: io::Error) -> String {
    format!("cannot write the trace of the sound: {error}")
}
