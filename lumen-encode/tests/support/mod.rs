//! What the encoder tests share: a moving picture, a measure of likeness and a reader of sequence parameter sets.

#![allow(dead_code, reason = "each test binary uses its own part")]

use ipc::{FrameFormat, PixelFormat};
use lumen_core::Mode;
use lumen_encode::I420;
use openh264::decoder::{DecodedYUV, Decoder};
use openh264::formats::YUVSource;

pub fn mode(width: u16, height: u16) -> Mode {
    Mode::new(width, height, 60_000).unwrap()
}

pub fn format(mode: Mode) -> FrameFormat {
    let (width, height) = (mode.width(), mode.height());
    FrameFormat { pixels: PixelFormat::Bgrx, width, height, stride: u32::from(width) * 4 }
}

/// Frame `number` of a scene: a gradient that scrolls, with a bright box that crosses it.
pub fn scene(mode: Mode, number: usize, pixels: &mut [u8]) {
    let (width, height) = (usize::from(mode.width()), usize::from(mode.height()));
    for (y, row) in pixels.chunks_exact_mut(width * 4).take(height).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(4).enumerate() {
            let boxed = (x + width - number * 5 % width) % width < 64 && (40..80).contains(&y);
            let wave = ((x + number * 3) / 2 + y / 3) as u8;
            let value = if boxed { [20, 230, 240] } else { [wave, wave / 2 + 40, 200 - wave / 2] };
            pixel[..3].copy_from_slice(&value);
        }
    }
}

/// Pixels that no encoder can predict, different for each `seed`.
pub fn noise(seed: u64, pixels: &mut [u8]) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for chunk in pixels.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
}

/// Likeness of a decoded picture's luma to the original's, in dB.
pub fn psnr(original: &I420, decoded: &DecodedYUV<'_>) -> f64 {
    let (width, height) = (original.width(), original.height());
    assert_eq!(decoded.dimensions(), (width, height));
    let stride = decoded.strides().0;
    let mut squares = 0u64;
    for row in 0..height {
        let want = &original.planes()[0][row * original.stride()..][..width];
        let got = &decoded.y()[row * stride..][..width];
        squares += want.iter().zip(got).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum::<u64>();
    }
    let mean = squares as f64 / (width * height) as f64;
    10.0 * (255.0 * 255.0 / mean.max(1e-9)).log10()
}

/// Decodes one access unit that must yield one picture, and compares.
pub fn decode(decoder: &mut Decoder, unit: &[u8], original: &I420) -> f64 {
    let decoded = decoder.decode(unit).unwrap().expect("an access unit decodes to a picture at once");
    psnr(original, &decoded)
}

/// The types of an Annex B stream's NAL units.
pub fn nal_types(unit: &[u8]) -> Vec<u8> {
    nals(unit).iter().map(|nal| nal[0] & 31).collect()
}

/// Where the picture's slices begin, in macroblocks, as their headers say it (ITU-T H.264 7.3.3).
pub fn first_macroblocks(unit: &[u8]) -> Vec<usize> {
    let nals = nals(unit);
    let slices = nals.iter().filter(|nal| matches!(nal[0] & 31, 1 | 5));
    slices.map(|nal| Bits::new(&nal[1..nal.len().min(16)]).golomb() as usize).collect()
}

/// NAL units without their start codes. Panics unless the stream begins with one.
pub fn nals(unit: &[u8]) -> Vec<&[u8]> {
    let starts: Vec<usize> = (0..unit.len().saturating_sub(3)).filter(|&at| unit[at..at + 3] == [0, 0, 1]).collect();
    assert!(matches!(starts.first(), Some(0 | 1)), "no start code at the beginning: {:?}", &unit[..unit.len().min(8)]);
    let ends = starts[1..].iter().copied().chain([unit.len()]);
    starts.iter().zip(ends).map(|(&start, end)| &unit[start + 3..end]).collect()
}

/// Lays grain over a picture, up to `depth` either way: hard to predict, but not hopeless as noise is.
pub fn grain(seed: u64, depth: u8, pixels: &mut [u8]) {
    let mut grain = vec![0; pixels.len()];
    noise(seed, &mut grain);
    for (pixel, grain) in pixels.iter_mut().zip(grain) {
        *pixel = pixel.saturating_add(grain % depth).saturating_sub(depth / 2);
    }
}

/// What a sequence parameter set says about colour: full range, primaries, transfer, matrix.
#[derive(PartialEq, Eq, Debug)]
pub struct Signalled {
    pub full_range: bool,
    pub description: [u32; 3],
}

/// Reads the colour of the first sequence parameter set (ITU-T H.264 7.3.2.1.1 and E.1.1); none if it has no such part.
pub fn colour(unit: &[u8]) -> Option<Signalled> {
    let nals = nals(unit);
    let sps = nals.iter().find(|nal| nal[0] & 31 == 7)?;
    let mut bits = Bits::new(&sps[1..]);
    let profile = bits.take(8);
    bits.take(16);
    bits.golomb();
    assert!(matches!(profile, 66 | 77), "the reader knows no other profile: {profile}");
    bits.golomb();
    let order_type = bits.golomb();
    match order_type {
        0 => _ = bits.golomb(),
        1 => panic!("no encoder here uses picture order count type 1"),
        _ => {}
    }
    bits.golomb();
    bits.take(1);
    bits.golomb();
    bits.golomb();
    assert_eq!(bits.take(1), 1, "frames only");
    bits.take(1);
    if bits.take(1) == 1 {
        (0..4).for_each(|_| _ = bits.golomb());
    }
    if bits.take(1) == 0 {
        return None;
    }
    if bits.take(1) == 1 && bits.take(8) == 255 {
        bits.take(32);
    }
    if bits.take(1) == 1 {
        bits.take(1);
    }
    if bits.take(1) == 0 {
        return None;
    }
    bits.take(3);
    let full_range = bits.take(1) == 1;
    let described = bits.take(1) == 1;
    described.then(|| Signalled { full_range, description: [bits.take(8), bits.take(8), bits.take(8)] })
}

struct Bits {
    bytes: Vec<u8>,
    at: usize,
}

impl Bits {
    /// Drops emulation prevention bytes.
    fn new(nal: &[u8]) -> Self {
        let mut bytes = Vec::new();
        for (at, &byte) in nal.iter().enumerate() {
            if !(byte == 3 && at >= 2 && nal[at - 2..at] == [0, 0]) {
                bytes.push(byte);
            }
        }
        Self { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> u32 {
        (0..count).fold(0, |value, _| {
            let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
            self.at += 1;
            value << 1 | u32::from(bit)
        })
    }

    fn golomb(&mut self) -> u32 {
        let zeros = (0..32).take_while(|_| self.take(1) == 0).count();
        (1 << zeros) - 1 + self.take(zeros)
    }
}
