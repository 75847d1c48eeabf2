//! The encoder: 5 or 10 ms of sound in, one packet of always the same size out.

use lumen_core::AudioLayout;
use lumen_core::audio::{MAX_PACKET, PacketTime, SAMPLE_RATE};
use opus::{Application, Bitrate, MSEncoder};

/// Bounds of the bit rate of one channel, in kbit/s: below, hard CBR has no room for a frame of every stream; above,
/// more is not heard.
const KBPS_PER_CHANNEL: (u32, u32) = (16, 128);
/// Equal packets of silence after which encoder and decoder have nothing left to remember: at least 100 ms. The filters'
/// tails have died away before the first of them.
const SILENT_PACKETS: u32 = 20;

/// Encodes one layout at one bit rate.
pub struct Encoder {
    codec: MSEncoder,
    samples: usize,
    packet: [u8; MAX_PACKET],
    before: [u8; MAX_PACKET],
    len: usize,
    /// Equal packets of digital silence in a row.
    silent: u32,
}

impl Encoder {
    /// Low delay, hard constant bit rate; `kbps` is for all channels together and kept within reason, and within what a
    /// packet can hold.
    pub fn new(layout: AudioLayout, packet: PacketTime, kbps: u32) -> Result<Self, opus::Error> {
        let channels = layout.channels();
        let mut codec =
            MSEncoder::new(SAMPLE_RATE, layout.streams(), layout.coupled(), layout.mapping(), Application::LowDelay)?;
        let (least, most) = KBPS_PER_CHANNEL;
        let room = MAX_PACKET as u64 * 8 * 1_000_000 / packet.ns();
        let kbps = kbps.clamp(least * channels as u32, most * channels as u32).min(room as u32);
        codec.set_bitrate(Bitrate::Bits((kbps * 1000) as i32))?;
        codec.set_vbr(false)?;
        Ok(Self {
            codec,
            samples: packet.samples() * channels,
            packet: [0; MAX_PACKET],
            before: [0; MAX_PACKET],
            len: 0,
            silent: 0,
        })
    }

    /// Interleaved samples that [`encode`](Self::encode) takes.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The next packet. `silent` promises that all samples are zero.
    ///
    /// # Errors
    /// The codec fails, which it does for a wrong number of samples only.
    pub fn encode(&mut self, samples: &[f32], silent: bool) -> Result<&[u8], opus::Error> {
        // In lasting silence every packet is the last one again: both ends have arrived at a state that silence does
        // not change. Most desktops are silent most of the time, and this makes that nearly free.
        if silent && self.silent >= SILENT_PACKETS {
            return Ok(&self.packet[..self.len]);
        }
        std::mem::swap(&mut self.packet, &mut self.before);
        let len = self.codec.encode_float(samples, &mut self.packet)?;
        let again = silent && len == self.len && self.packet[..len] == self.before[..len];
        self.silent = if again { self.silent + 1 } else { 0 };
        self.len = len;
        Ok(&self.packet[..self.len])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opus::MSDecoder;

    const TIMES: [PacketTime; 2] = [PacketTime::Five, PacketTime::Ten];

    fn tone(layout: AudioLayout, time: PacketTime, packet: usize) -> Vec<f32> {
        let frames = time.samples();
        let sample = |at: usize| ((packet * frames + at) as f32 * 440.0 / 48_000.0 * std::f32::consts::TAU).sin();
        (0..frames).flat_map(|at| std::iter::repeat_n(sample(at) * 0.5, layout.channels())).collect()
    }

    #[test]
    fn packets_are_equal_in_size_and_within_the_ring() {
        for (layout, time) in AudioLayout::ALL.into_iter().flat_map(|layout| TIMES.map(|time| (layout, time))) {
            for kbps in [0, layout.bitrate_kbps(), u32::MAX] {
                let mut encoder = Encoder::new(layout, time, kbps).unwrap();
                let silence = vec![0.0; encoder.samples()];
                let first = encoder.encode(&silence, true).unwrap().len();
                let usual = (u64::from(kbps) * time.ns() / 8_000_000) as usize;
                let most = if kbps == layout.bitrate_kbps() { usual } else { MAX_PACKET };
                assert!(first > 0 && first <= most, "{layout:?} {time:?} {kbps}: {first}");
                for packet in 0..100 {
                    let silent = packet % 50 < 25;
                    let samples = if silent { silence.clone() } else { tone(layout, time, packet) };
                    assert_eq!(encoder.encode(&samples, silent).unwrap().len(), first);
                }
            }
        }
    }

    #[test]
    fn sound_after_repeated_silence_decodes_as_it_should() {
        TIMES.into_iter().for_each(sound_after_repeated_silence);
    }

    fn sound_after_repeated_silence(time: PacketTime) {
        let layout = AudioLayout::Stereo;
        let mut encoder = Encoder::new(layout, time, 128).unwrap();
        let mut decoder = MSDecoder::new(SAMPLE_RATE, 1, 1, layout.mapping()).unwrap();
        let mut out = vec![0.0; encoder.samples()];
        for packet in 0..20 {
            let bytes = encoder.encode(&tone(layout, time, packet), false).unwrap();
            decoder.decode_float(bytes, &mut out, false).unwrap();
        }
        let silence = vec![0.0; encoder.samples()];
        for packet in 0..300 {
            decoder.decode_float(encoder.encode(&silence, true).unwrap(), &mut out, false).unwrap();
            let loudest = out.iter().fold(0.0f32, |most, sample| most.max(sample.abs()));
            assert!(packet < 100 || loudest < 1e-6, "{packet}: {loudest}");
        }
        let mut loudest = 0.0f32;
        for packet in 0..40 {
            decoder.decode_float(encoder.encode(&tone(layout, time, packet), false).unwrap(), &mut out, false).unwrap();
            if packet >= 4 {
                loudest = out.iter().fold(loudest, |most, sample| most.max(sample.abs()));
            }
        }
        assert!((0.45..0.55).contains(&loudest), "{loudest}");
    }
}
