//! H.264 frames to pictures, refusing what cannot be right rather than showing it.

use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig};
use openh264::formats::YUVSource;

/// What became of a frame.
pub enum Decoded<'a> {
    Picture(DecodedYUV<'a>),
    /// The decoder refused it, or made no picture of it. Until the next IDR nothing will be decoded.
    Failed,
    /// Not tried: it builds on a frame that failed.
    Skipped,
}

/// One decoder, replaced at each generation: an encoder that has been replaced shares no state with its successor.
#[derive(Default)]
pub struct VideoDecoder {
    current: Option<(u32, Decoder)>,
    /// The reference picture is there: nothing has failed since the last IDR.
    sound: bool,
}

impl VideoDecoder {
    /// Decodes one frame (an Annex-B access unit) of `generation`.
    pub fn decode(&mut self, generation: u32, idr: bool, access_unit: &[u8]) -> Decoded<'_> {
        if !idr && !self.sound {
            return Decoded::Skipped;
        }
        if self.current.as_ref().is_none_or(|(current, _)| *current != generation) {
            self.sound = false;
            // Concealment stays off: a damaged frame must be an error, not a guess.
            match Decoder::with_api_config(OpenH264API::from_source(), DecoderConfig::new()) {
                Ok(decoder) => self.current = Some((generation, decoder)),
                Err(_) => return Decoded::Failed,
            }
            if !idr {
                return Decoded::Skipped;
            }
        }
        self.sound = false;
        let Some((_, decoder)) = &mut self.current else { return Decoded::Failed };
        match decoder.decode(access_unit) {
            Ok(Some(picture)) => {
                self.sound = true;
                Decoded::Picture(picture)
            }
            Ok(None) | Err(_) => Decoded::Failed,
        }
    }
}

/// The luma plane and its stride and size, as the stamp reader wants it.
pub fn luma<'a>(picture: &'a DecodedYUV<'_>) -> (&'a [u8], usize, usize, usize) {
    let (width, height) = picture.dimensions();
    (picture.y(), picture.strides().0, width, height)
}

#[cfg(test)]
mod tests {
    use openh264::encoder::Encoder;
    use openh264::formats::YUVBuffer;

    use super::*;

    fn stream(frames: usize) -> Vec<Vec<u8>> {
        let mut encoder = Encoder::new().unwrap();
        let encode = |index: usize| {
            let mut planes: Vec<u8> = (0..128 * 96).map(|i| (i * (index + 3) % 251) as u8).collect();
            planes.extend(vec![128; 128 * 96 / 2]);
            encoder.encode(&YUVBuffer::from_vec(planes, 128, 96)).unwrap().to_vec()
        };
        (0..frames).map(encode).collect()
    }

    #[test]
    fn after_a_failure_only_an_idr_is_decoded() {
        let frames = stream(4);
        let mut decoder = VideoDecoder::default();
        assert!(matches!(decoder.decode(1, false, &frames[1]), Decoded::Skipped));
        assert!(matches!(decoder.decode(1, true, &frames[0]), Decoded::Picture(_)));
        assert!(matches!(decoder.decode(1, false, &frames[1]), Decoded::Picture(_)));
        assert!(matches!(decoder.decode(1, false, &frames[2][..frames[2].len() / 3]), Decoded::Failed));
        assert!(matches!(decoder.decode(1, false, &frames[3]), Decoded::Skipped));
        assert!(matches!(decoder.decode(1, true, &frames[0]), Decoded::Picture(_)));
    }

    #[test]
    fn a_new_generation_starts_with_an_idr() {
        let frames = stream(2);
        let mut decoder = VideoDecoder::default();
        assert!(matches!(decoder.decode(1, true, &frames[0]), Decoded::Picture(_)));
        assert!(matches!(decoder.decode(2, false, &frames[1]), Decoded::Skipped));
        assert!(matches!(decoder.decode(2, true, &frames[0]), Decoded::Picture(_)));
        assert!(matches!(decoder.decode(2, false, &frames[1]), Decoded::Picture(_)));
    }

    #[test]
    fn garbage_is_a_failure() {
        let mut decoder = VideoDecoder::default();
        assert!(matches!(decoder.decode(1, true, &[]), Decoded::Failed));
        assert!(matches!(decoder.decode(1, true, &[0, 0, 0, 1, 0x65, 1, 2, 3, 4]), Decoded::Failed));
    }
}
