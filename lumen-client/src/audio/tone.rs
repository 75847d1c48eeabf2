//! The strongest frequency of the last second: what a test hears.

use std::f64::consts::TAU;

use lumen_core::audio::SAMPLE_RATE;

/// Samples that are remembered: one second.
const REMEMBERED: usize = SAMPLE_RATE as usize;
/// Bins of the transform; the second is padded with zeros up to here, which puts a bin every 0.73 Hz.
const BINS: usize = 1 << 16;
/// Root mean square below which it is silence: -60 dB of full scale.
const SILENCE: f64 = 1e-3;
/// Fewer samples than these make no frequency: a tenth of a second.
const FEWEST: usize = REMEMBERED / 10;

/// The last second of one channel.
#[derive(Default)]
pub struct LastSecond {
    samples: Vec<f32>,
    /// Where the next sample goes once a second is there.
    at: usize,
}

impl LastSecond {
    pub fn push(&mut self, samples: impl IntoIterator<Item = f32>) {
        for sample in samples {
            if self.samples.len() < REMEMBERED {
                self.samples.push(sample);
            } else {
                self.samples[self.at] = sample;
                self.at = (self.at + 1) % REMEMBERED;
            }
        }
    }

    /// The strongest frequency in hertz, of a steady tone to a few hundredths; none if it was silent or too short.
    pub fn tone_hz(&self) -> Option<f64> {
        let count = self.samples.len();
        let (newer, older) = self.samples.split_at(self.at);
        let energy: f64 = self.samples.iter().map(|&sample| f64::from(sample) * f64::from(sample)).sum();
        if count < FEWEST || (energy / count as f64).sqrt() < SILENCE {
            return None;
        }
        // A Hann window, so that the ends of the second do not pose as a sound.
        let mut real: Vec<f64> = older.iter().chain(newer).map(|&sample| f64::from(sample)).collect();
        for (index, sample) in real.iter_mut().enumerate() {
            *sample *= 0.5 - 0.5 * (TAU * index as f64 / count as f64).cos();
        }
        real.resize(BINS, 0.0);
        let mut imaginary = vec![0.0; BINS];
        transform(&mut real, &mut imaginary);
        let power = |bin: usize| (real[bin].powi(2) + imaginary[bin].powi(2)).max(f64::MIN_POSITIVE).ln();
        let strongest = (1..BINS / 2).max_by(|&a, &b| power(a).total_cmp(&power(b)))?;
        // The top of the parabola through the three bins of the peak.
        let [before, peak, after] = [strongest - 1, strongest, strongest + 1].map(power);
        let bend = before - 2.0 * peak + after;
        let shift = if bend < 0.0 { (0.5 * (before - after) / bend).clamp(-0.5, 0.5) } else { 0.0 };
        Some((strongest as f64 + shift) * f64::from(SAMPLE_RATE) / BINS as f64)
    }
}

/// A discrete Fourier transform in place, of as many values as a power of two (Cooley and Tukey's).
fn transform(real: &mut [f64], imaginary: &mut [f64]) {
    let count = real.len();
    let shift = usize::BITS - count.ilog2();
    for index in 0..count {
        let mirrored = index.reverse_bits() >> shift;
        if index < mirrored {
            real.swap(index, mirrored);
            imaginary.swap(index, mirrored);
        }
    }
    let mut half = 1;
    while half < count {
        for pair in 0..half {
            let (sin, cos) = (-TAU * pair as f64 / (2 * half) as f64).sin_cos();
            for low in (pair..count).step_by(2 * half) {
                let high = low + half;
                let turned_real = real[high] * cos - imaginary[high] * sin;
                let turned_imaginary = real[high] * sin + imaginary[high] * cos;
                (real[high], imaginary[high]) = (real[low] - turned_real, imaginary[low] - turned_imaginary);
                real[low] += turned_real;
                imaginary[low] += turned_imaginary;
            }
        }
        half *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tone(hz: f64, level: f64, count: usize) -> impl Iterator<Item = f32> {
        (0..count).map(move |index| (level * (TAU * hz * index as f64 / f64::from(SAMPLE_RATE)).sin()) as f32)
    }

    #[test]
    fn names_a_tone() {
        for hz in [30.0, 440.0, 440.4, 1000.0, 15_000.7] {
            let mut heard = LastSecond::default();
            // Something else before, that a second later is forgotten, and something fainter beside.
            heard.push(tone(77.0, 1.0, 20_000));
            heard.push(tone(hz, 0.3, 60_000).zip(tone(3000.0, 0.1, 60_000)).map(|(a, b)| a + b));
            let found = heard.tone_hz().unwrap();
            assert!((found - hz).abs() < 0.05, "{found} for {hz}");
        }
    }

    #[test]
    fn silence_and_a_moment_have_no_frequency() {
        let mut heard = LastSecond::default();
        assert_eq!(heard.tone_hz(), None);
        heard.push(tone(440.0, 1.0, FEWEST - 1));
        assert_eq!(heard.tone_hz(), None, "too short");
        heard.push(tone(440.0, 0.5, 1000));
        assert!((heard.tone_hz().unwrap() - 440.0).abs() < 5.0);
        heard.push(std::iter::repeat_n(0.0, REMEMBERED));
        assert_eq!(heard.tone_hz(), None, "silent by now");
        heard.push(tone(440.0, 0.0005, REMEMBERED));
        assert_eq!(heard.tone_hz(), None, "too faint");
    }
}
