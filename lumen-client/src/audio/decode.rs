//! Opus packets to samples, and a guess at the samples of packets that never came.

use lumen_core::AudioLayout;
use lumen_core::audio::{FRAME_SAMPLES, SAMPLE_RATE};
use opus::MSDecoder;

/// The packet is not Opus, or not 5 ms of the session's layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Undecodable;

/// The decoder of one session. All samples are interleaved in the order of the layout, 1.0 being full scale.
pub struct SoundDecoder {
    decoder: MSDecoder,
    samples: Vec<f32>,
}

impl SoundDecoder {
    pub fn new(layout: AudioLayout) -> Result<Self, opus::Error> {
        let decoder = MSDecoder::new(SAMPLE_RATE, layout.streams(), layout.coupled(), layout.mapping())?;
        Ok(Self { decoder, samples: vec![0.0; FRAME_SAMPLES * layout.channels()] })
    }

    /// The samples of one packet.
    pub fn decode(&mut self, packet: &[u8]) -> Result<&[f32], Undecodable> {
        // To the decoder an empty packet is an order to conceal.
        if packet.is_empty() {
            return Err(Undecodable);
        }
        match self.decoder.decode_float(packet, &mut self.samples, false) {
            Ok(FRAME_SAMPLES) => Ok(&self.samples),
            Ok(_) | Err(_) => Err(Undecodable),
        }
    }

    /// What the sound may have been for the length of one packet, going by what came before; it fades if repeated.
    pub fn conceal(&mut self) -> &[f32] {
        if self.decoder.decode_float(&[], &mut self.samples, false).is_err() {
            self.samples.fill(0.0);
        }
        &self.samples
    }
}

#[cfg(test)]
mod tests {
    use opus::{Application, MSEncoder};

    use super::*;

    /// 5 ms packets of a tone of its own on every channel.
    fn packets(layout: AudioLayout, count: usize) -> Vec<Vec<u8>> {
        let (streams, coupled, mapping) = (layout.streams(), layout.coupled(), layout.mapping());
        let mut encoder = MSEncoder::new(SAMPLE_RATE, streams, coupled, mapping, Application::LowDelay).unwrap();
        let mut samples = Vec::new();
        let encode = |number: usize| {
            samples.clear();
            for sample in number * FRAME_SAMPLES..(number + 1) * FRAME_SAMPLES {
                let time = sample as f32 / SAMPLE_RATE as f32;
                let tone = |channel| 0.5 * (time * (channel + 1) as f32 * 300.0 * std::f32::consts::TAU).sin();
                samples.extend((0..layout.channels()).map(tone));
            }
            encoder.encode_vec_float(&samples, 1000).unwrap()
        };
        (0..count).map(encode).collect()
    }

    #[test]
    fn what_is_no_packet_of_the_session_is_refused() {
        let mut decoder = SoundDecoder::new(AudioLayout::Stereo).unwrap();
        assert_eq!(decoder.decode(&[]), Err(Undecodable));
        // A packet of 20 ms, by its table-of-contents byte (RFC 6716 §3.1: CELT, fullband, 20 ms, mono).
        assert_eq!(decoder.decode(&[31 << 3, 0, 0, 0]), Err(Undecodable));
        // 2.5 ms.
        assert_eq!(decoder.decode(&[28 << 3, 0, 0, 0]), Err(Undecodable));
        // Code 3 with no frames.
        assert_eq!(decoder.decode(&[29 << 3 | 3, 0]), Err(Undecodable));
        let good = &packets(AudioLayout::Stereo, 1)[0];
        assert_eq!(decoder.decode(good).unwrap().len(), 2 * FRAME_SAMPLES, "the decoder is none the worse");
    }

    #[test]
    fn a_short_loss_goes_on_sounding_and_a_long_one_fades() {
        for layout in AudioLayout::ALL {
            let mut decoder = SoundDecoder::new(layout).unwrap();
            for packet in packets(layout, 40) {
                decoder.decode(&packet).unwrap();
            }
            // Without the LFE, which is made for less than most of these tones.
            let loudness = |samples: &[f32]| {
                let channels = samples.chunks_exact(layout.channels());
                channels.map(|frame| frame[0] * frame[0]).sum::<f32>() / FRAME_SAMPLES as f32
            };
            let first = loudness(decoder.conceal());
            assert!(first > 0.03, "{layout:?}: {first}");
            let last = (0..200).map(|_| loudness(decoder.conceal())).last().unwrap();
            assert!(last < first / 100.0, "{layout:?}: {last} after {first}");
        }
    }
}
