//! A decoded picture as a PNG.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use openh264::formats::YUVSource;

/// A copy of a decoded I420 picture; the buffers are reused from one copy to the next.
#[derive(Debug, Default)]
pub struct Picture {
    width: usize,
    height: usize,
    /// Luma, `width` bytes a row.
    luma: Vec<u8>,
    /// Chroma, half of `width` rounded up a row.
    chroma: [Vec<u8>; 2],
}

impl Picture {
    /// Copies a picture out of the decoder's own memory.
    pub fn copy(&mut self, from: &impl YUVSource) {
        (self.width, self.height) = from.dimensions();
        let (luma_stride, u_stride, v_stride) = from.strides();
        let (half_width, half_height) = (self.width.div_ceil(2), self.height.div_ceil(2));
        copy_plane(&mut self.luma, from.y(), luma_stride, self.width, self.height);
        copy_plane(&mut self.chroma[0], from.u(), u_stride, half_width, half_height);
        copy_plane(&mut self.chroma[1], from.v(), v_stride, half_width, half_height);
    }

    pub fn is_empty(&self) -> bool {
        self.luma.is_empty()
    }

    /// RGB, 3 bytes a pixel, by BT.709 with limited range: what the hosts signal by default.
    pub fn rgb(&self) -> Vec<u8> {
        let mut rgb = Vec::with_capacity(self.luma.len() * 3);
        let half = self.width.div_ceil(2);
        for (y, row) in self.luma.chunks_exact(self.width.max(1)).enumerate() {
            for (x, luma) in row.iter().enumerate() {
                let chroma = y / 2 * half + x / 2;
                let (u, v) = (i32::from(self.chroma[0][chroma]) - 128, i32::from(self.chroma[1][chroma]) - 128);
                // Coefficients of BT.709 (Kr 0.2126, Kb 0.0722) in 1/65536, scaled from 16..235 and 16..240.
                let luma = 76_309 * (i32::from(*luma) - 16) + 32_768;
                let clamp = |value: i32| (value >> 16).clamp(0, 255) as u8;
                rgb.extend([
                    clamp(luma + 117_489 * v),
                    clamp(luma - 13_975 * u - 34_925 * v),
                    clamp(luma + 138_438 * u),
                ]);
            }
        }
        rgb
    }

    /// Writes the picture as a PNG.
    pub fn write_png(&self, path: &Path) -> io::Result<()> {
        let mut encoder = png::Encoder::new(BufWriter::new(File::create(path)?), self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.rgb())?;
        writer.finish()?;
        Ok(())
    }
}

fn copy_plane(to: &mut Vec<u8>, from: &[u8], stride: usize, width: usize, height: usize) {
    to.clear();
    for row in from.chunks(stride).take(height) {
        to.extend_from_slice(&row[..width]);
    }
}

#[cfg(test)]
mod tests {
    use openh264::formats::YUVBuffer;

    use super::*;

    fn colour(y: u8, u: u8, v: u8) -> Vec<u8> {
        let mut planes = vec![y; 16];
        planes.extend([u; 4]);
        planes.extend([v; 4]);
        let mut picture = Picture::default();
        picture.copy(&YUVBuffer::from_vec(planes, 4, 4));
        picture.rgb()[..3].to_vec()
    }

    #[test]
    fn converts_bt709_limited_range() {
        assert_eq!(colour(16, 128, 128), [0, 0, 0]);
        assert_eq!(colour(235, 128, 128), [255, 255, 255]);
        // Pure red, green and blue of BT.709 come back within one step.
        for (yuv, rgb) in [((63, 102, 240), [255, 0, 0]), ((173, 42, 26), [0, 255, 0]), ((32, 240, 118), [0, 0, 255])] {
            let got = colour(yuv.0, yuv.1, yuv.2);
            assert!(got.iter().zip(rgb).all(|(a, b): (&u8, u8)| a.abs_diff(b) <= 2), "{got:?} is not {rgb:?}");
        }
    }
}
