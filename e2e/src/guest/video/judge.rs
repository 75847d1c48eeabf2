//! Holds decoded pictures of the synthetic desktop against what they should show: it is drawn again from the number and
//! the time in the pixels, and compared in blocks of 16x16, whose means an encoder keeps.

use ipc::{FrameFormat, PixelFormat};
use lumen_capture::pattern::Pattern;
use lumen_core::stamp::Stamp;

/// Pixels of a block's side.
const BLOCK: usize = 16;

/// The worst blocks of a picture: by how much their means are off, in steps of 255.
#[derive(Clone, Copy, Default, Debug)]
pub struct Errors {
    pub luma: f32,
    pub chroma: f32,
}

/// Planes of a picture: each with its stride.
pub struct Planes<'a> {
    pub y: (&'a [u8], usize),
    pub u: (&'a [u8], usize),
    pub v: (&'a [u8], usize),
}

/// Knows what a stream's pictures should be.
pub struct Judge {
    width: usize,
    height: usize,
    /// Weights of red and blue in luma.
    red: f32,
    blue: f32,
    full_range: bool,
    pattern: Pattern,
    pixels: Vec<u8>,
    /// Left and top of the worst block of the last picture.
    place: (usize, usize),
}

impl Judge {
    /// For a mode and a colour as ANNOUNCE has it: BT.601 (0) or BT.709 (1) shifted left, and 1 for full range.
    pub fn new(width: u16, height: u16, csc: u32) -> Self {
        let stride = u32::from(width) * 4;
        let format = FrameFormat { pixels: PixelFormat::Bgrx, width, height, stride };
        let (red, blue) = if csc >> 1 == 0 { (0.299, 0.114) } else { (0.2126, 0.0722) };
        Self {
            width: width.into(),
            height: height.into(),
            red,
            blue,
            full_range: csc & 1 == 1,
            pattern: Pattern::new(format),
            pixels: vec![0; format.size()],
            place: (0, 0),
        }
    }

    /// How far a picture is from what its stamp says that it shows.
    pub fn errors(&mut self, stamp: Stamp, planes: &Planes<'_>) -> Errors {
        self.errors_from(stamp.number, stamp, planes)
    }

    /// How far it is from the picture of this number, with that stamp in its corner.
    pub fn errors_from(&mut self, number: u32, stamp: Stamp, planes: &Planes<'_>) -> Errors {
        self.pattern.draw(0, &mut self.pixels, number);
        self.pattern.stamp(&mut self.pixels, stamp.number, stamp.time_ns);
        let mut worst = Errors::default();
        for top in (0..self.height / BLOCK).map(|row| row * BLOCK) {
            for left in (0..self.width / BLOCK).map(|column| column * BLOCK) {
                let wanted = self.wanted(left, top);
                let found = [
                    mean(planes.y, left, top, BLOCK),
                    mean(planes.u, left / 2, top / 2, BLOCK / 2),
                    mean(planes.v, left / 2, top / 2, BLOCK / 2),
                ];
                let [luma, u, v] = [0, 1, 2].map(|plane| (found[plane] - wanted[plane]).abs());
                if luma.max(u).max(v) > worst.luma.max(worst.chroma) {
                    self.place = (left, top);
                }
                worst.luma = worst.luma.max(luma);
                worst.chroma = worst.chroma.max(u).max(v);
            }
        }
        worst
    }

    /// Left and top of the worst block of the picture that was looked at last, in pixels.
    pub const fn place(&self) -> (usize, usize) {
        self.place
    }

    /// Means of luma and chroma of a block as drawn: conversion is linear, so the means may be converted.
    fn wanted(&self, left: usize, top: usize) -> [f32; 3] {
        let mut sums = [0_u32; 3];
        for y in top..top + BLOCK {
            let from = (y * self.width + left) * 4;
            for pixel in self.pixels[from..from + BLOCK * 4].chunks_exact(4) {
                sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += u32::from(value));
            }
        }
        let [blue, green, red] = sums.map(|sum| sum as f32 / (BLOCK * BLOCK) as f32);
        let luma = self.red * red + (1.0 - self.red - self.blue) * green + self.blue * blue;
        let (u, v) = ((blue - luma) / (2.0 * (1.0 - self.blue)), (red - luma) / (2.0 * (1.0 - self.red)));
        match self.full_range {
            true => [luma, u + 128.0, v + 128.0],
            false => [luma * 219.0 / 255.0 + 16.0, u * 224.0 / 255.0 + 128.0, v * 224.0 / 255.0 + 128.0],
        }
    }
}

fn mean((plane, stride): (&[u8], usize), left: usize, top: usize, side: usize) -> f32 {
    let lines = (top..top + side).map(|y| &plane[y * stride + left..][..side]);
    lines.flatten().map(|&value| u32::from(value)).sum::<u32>() as f32 / (side * side) as f32
}

#[cfg(test)]
mod tests {
    use ipc::{Colour, Matrix};
    use lumen_core::Mode;
    use lumen_encode::{Converter, I420};

    use super::*;

    /// A picture as the host converts it, held against each colour that it may have.
    #[test]
    fn a_picture_is_right_in_its_own_colour_alone_and_with_its_own_number_alone() {
        let stamp = Stamp { number: 1234, time_ns: 5678 };
        let mode = Mode::new(640, 360, 60_000).unwrap();
        let format = FrameFormat { pixels: PixelFormat::Bgrx, width: 640, height: 360, stride: 2560 };
        let mut pattern = Pattern::new(format);
        let mut pixels = vec![0; format.size()];
        pattern.draw(0, &mut pixels, stamp.number);
        pattern.stamp(&mut pixels, stamp.number, stamp.time_ns);
        for csc in 0..4 {
            let matrix = if csc >> 1 == 0 { Matrix::Bt601 } else { Matrix::Bt709 };
            let colour = Colour { matrix, full_range: csc & 1 == 1 };
            let mut picture = I420::new(mode);
            Converter::new(format, mode, colour).unwrap().convert(&pixels, &mut picture).unwrap();
            let [y, u, v] = picture.planes();
            let stride = picture.stride();
            let planes = Planes { y: (y, stride), u: (u, stride / 2), v: (v, stride / 2) };
            for other in 0..4 {
                let errors = Judge::new(640, 360, other).errors(stamp, &planes);
                let is_right = errors.luma < 1.5 && errors.chroma < 1.5;
                let is_wrong = errors.luma > 6.0 || errors.chroma > 6.0;
                assert!(if csc == other { is_right } else { is_wrong }, "{csc} as {other}: {errors:?}");
            }
            let errors = Judge::new(640, 360, csc).errors(Stamp { number: 1233, ..stamp }, &planes);
            assert!(errors.luma > 6.0, "the picture before is another: {errors:?}");
        }
    }
}
