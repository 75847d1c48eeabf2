//! What happens to samples between PipeWire and the encoder.

/// Below this, -120 dB, a sample is taken for silence.
const SILENCE: f32 = 1e-6;

/// A factor for every sample.
#[derive(Clone, Copy, Debug)]
pub struct Gain(f32);

impl Gain {
    /// From tenths of a decibel.
    pub fn from_tenths(tenths: i16) -> Self {
        Self(10f32.powf(f32::from(tenths) / 200.0))
    }

    /// Applies the factor, keeps everything within full scale and makes what is not a number silent. True if all of
    /// it is silence, which is then exactly zero.
    pub fn apply(self, samples: &mut [f32]) -> bool {
        let mut loudest = 0.0f32;
        for sample in samples.iter_mut() {
            let louder = *sample * self.0;
            *sample = if louder.is_finite() { louder.clamp(-1.0, 1.0) } else { 0.0 };
            loudest = loudest.max(sample.abs());
        }
        let silent = loudest < SILENCE;
        if silent {
            samples.fill(0.0);
        }
        silent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_decibels_are_a_factor_of_two() {
        let mut samples = [0.25, -0.25, 0.9];
        assert!(!Gain::from_tenths(60).apply(&mut samples));
        assert!((samples[0] - 0.5).abs() < 2e-3 && (samples[1] + 0.5).abs() < 2e-3);
        assert_eq!(samples[2], 1.0);
    }

    #[test]
    fn what_is_no_number_becomes_silence() {
        let mut samples = [f32::NAN, f32::INFINITY, -f32::INFINITY, 1e-7];
        assert!(Gain::from_tenths(0).apply(&mut samples));
        assert_eq!(samples, [0.0; 4]);
    }
}
