//! Judges a recording: which tone, how loud, with what holes.

use std::f64::consts::TAU;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use hound::SampleFormat;
use serde_json::Value;

/// A decoded WAV file, -1 to 1, by channel.
pub struct Recording {
    /// Samples a second.
    pub rate: u32,
    pub channels: Vec<Vec<f32>>,
}

impl Recording {
    /// Reads a file of 16-bit or float samples.
    pub fn read(path: &Path) -> Result<Self> {
        let mut file = hound::WavReader::open(path).with_context(|| path.display().to_string())?;
        let shape = file.spec();
        let samples: Vec<f32> = match shape.sample_format {
            SampleFormat::Float => file.samples::<f32>().collect::<Result<_, _>>()?,
            SampleFormat::Int => {
                let full = (1_i64 << (shape.bits_per_sample - 1)) as f32;
                file.samples::<i32>().map(|sample| sample.map(|value| value as f32 / full)).collect::<Result<_, _>>()?
            }
        };
        let width = usize::from(shape.channels);
        let channels = (0..width).map(|channel| samples.iter().skip(channel).step_by(width).copied().collect());
        Ok(Self { rate: shape.sample_rate, channels: channels.collect() })
    }

    pub fn seconds(&self) -> f64 {
        self.channels.first().map_or(0.0, |channel| channel.len() as f64 / f64::from(self.rate))
    }

    /// A channel from one second to another.
    pub fn part(&self, channel: usize, from: f64, to: f64) -> Result<&[f32]> {
        let at = |seconds: f64| (seconds * f64::from(self.rate)) as usize;
        let samples = self.channels.get(channel).with_context(|| format!("there is no channel {channel}"))?;
        samples
            .get(at(from)..at(to))
            .with_context(|| format!("{:.2} s are too short for {from} to {to}", self.seconds()))
    }
}

/// Strength of one frequency in samples under a Hann window, as the amplitude of a tone of it would be.
pub fn strength(samples: &[f32], hz: f64, rate: u32) -> f64 {
    let length = samples.len() as f64;
    let (mut real, mut imaginary) = (0.0, 0.0);
    for (time, &sample) in samples.iter().enumerate() {
        let window = 0.5 - 0.5 * (TAU * time as f64 / length).cos();
        let angle = TAU * hz * time as f64 / f64::from(rate);
        real += f64::from(sample) * window * angle.cos();
        imaginary += f64::from(sample) * window * angle.sin();
    }
    // The window passes half of a tone's amplitude, the sum half of that.
    4.0 * real.hypot(imaginary) / length
}

/// The frequency of the strongest tone from 20 Hz to 2 kHz, to 0.1 Hz; a second of samples resolves about 1 Hz.
pub fn frequency(samples: &[f32], rate: u32) -> f64 {
    let best = |from: f64, to: f64, step: f64| {
        let steps = ((to - from) / step) as usize;
        let tries = (0..=steps).map(|count| from + count as f64 * step);
        tries
            .map(|hz| (hz, strength(samples, hz, rate)))
            .fold((0.0, 0.0), |best, next| if next.1 > best.1 { next } else { best })
            .0
    };
    let coarse = best(20.0, 2000.0, 1.0);
    best(coarse - 1.5, coarse + 1.5, 0.1)
}

/// The longest stretch, in milliseconds, in which a tone of this amplitude was not to be heard: no sample above a
/// quarter of it.
pub fn longest_silence(samples: &[f32], amplitude: f32, rate: u32) -> f64 {
    let (mut longest, mut quiet) = (0_usize, 0_usize);
    for sample in samples {
        quiet = if sample.abs() < amplitude / 4.0 { quiet + 1 } else { 0 };
        longest = longest.max(quiet);
    }
    longest as f64 * 1000.0 / f64::from(rate)
}

/// One line of a client's `--audio-trace`: one packet.
#[derive(Clone, Debug)]
pub struct Packet {
    pub sequence: u64,
    /// When its first sample was captured.
    pub captured_ns: u64,
    pub received_ns: u64,
    pub decoded_ns: u64,
    /// The loudest sample of each channel.
    pub peak: Vec<f64>,
}

/// The audio trace that a client left.
pub fn packets(path: &Path) -> Result<Vec<Packet>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.lines().map(|line| packet(&serde_json::from_str(line)?)).collect()
}

fn packet(line: &Value) -> Result<Packet> {
    let number = |key: &str| line[key].as_u64().with_context(|| format!("no {key} in the trace line {line}"));
    Ok(Packet {
        sequence: number("seq")?,
        captured_ns: number("pts_ns")?,
        received_ns: number("received_ns")?,
        decoded_ns: number("decoded_ns")?,
        peak: line["peak"].as_array().context("no peak")?.iter().filter_map(Value::as_f64).collect(),
    })
}

/// The longest time between two packets' arrivals, in milliseconds.
pub fn longest_wait(packets: &[Packet]) -> Result<f64> {
    ensure!(packets.len() > 1, "{} packets", packets.len());
    let waits = packets.windows(2).map(|pair| pair[1].received_ns.saturating_sub(pair[0].received_ns));
    Ok(waits.max().unwrap_or(0) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, amplitude: f32) -> Vec<f32> {
        (0..48_000).map(|time| amplitude * (TAU * hz * f64::from(time) / 48_000.0).sin() as f32).collect()
    }

    #[test]
    fn a_tone_is_told_by_pitch_and_level() {
        let samples = tone(441.3, 0.5);
        assert!((frequency(&samples, 48_000) - 441.3).abs() < 0.11);
        assert!((strength(&samples, 441.3, 48_000) - 0.5).abs() < 0.001);
        assert!(strength(&samples, 550.0, 48_000) < 0.001);
    }

    #[test]
    fn a_hole_is_found() {
        let mut samples = tone(440.0, 0.5);
        assert!(longest_silence(&samples, 0.5, 48_000) < 1.0);
        samples[10_000..10_960].fill(0.0);
        let hole = longest_silence(&samples, 0.5, 48_000);
        assert!((20.0..21.0).contains(&hole), "{hole}");
    }
}
