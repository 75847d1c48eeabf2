//! The WAV file of a session.

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::unix::fs::FileExt;

use hound::{SampleFormat, WavSpec, WavWriter};
use lumen_core::AudioLayout;
use lumen_core::audio::SAMPLE_RATE;

/// Bytes of samples after which the file is full: its header has 32 bits for them.
const MOST_BYTES: u64 = u32::MAX as u64 - (1 << 20);
const SAMPLE_BYTES: u64 = 2;
/// Where the speakers stand in the header of a file with more than two channels: after "RIFF", a length, "WAVE", "fmt ",
/// a length and 20 bytes of format (mmreg.h, WAVEFORMATEXTENSIBLE, dwChannelMask).
const MASK_OFFSET: u64 = 40;
/// FL FR FC LFE BL BR SL SR; the writer itself takes the first eight bits, which are other speakers.
const MASK_71: u32 = 0x63F;

/// 48 kHz, 16 bits, the channels of the layout in its order.
pub struct Wav {
    writer: WavWriter<BufWriter<File>>,
    /// The same file, for the part of its header that the writer gets wrong.
    file: File,
    layout: AudioLayout,
    bytes: u64,
}

impl Wav {
    /// Begins a file; it is made anew.
    pub fn new(file: File, layout: AudioLayout) -> io::Result<Self> {
        let spec = WavSpec {
            channels: layout.channels() as u16,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let writer = WavWriter::new(BufWriter::new(file.try_clone()?), spec).map_err(plain)?;
        Ok(Self { writer, file, layout, bytes: 0 })
    }

    /// Appends interleaved samples; what is beyond full scale is clipped.
    pub fn write(&mut self, samples: &[f32]) -> io::Result<()> {
        self.bytes += samples.len() as u64 * SAMPLE_BYTES;
        if self.bytes > MOST_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a WAV file ends at 4 GiB"));
        }
        for sample in samples {
            let scaled = (sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16;
            self.writer.write_sample(scaled).map_err(plain)?;
        }
        Ok(())
    }

    /// Completes the header.
    pub fn finish(self) -> io::Result<()> {
        self.writer.finalize().map_err(plain)?;
        if self.layout == AudioLayout::Surround71 {
            self.file.write_all_at(&MASK_71.to_le_bytes(), MASK_OFFSET)?;
        }
        Ok(())
    }
}

fn plain(error: hound::Error) -> io::Error {
    match error {
        hound::Error::IoError(error) => error,
        other => io::Error::other(other),
    }
}
