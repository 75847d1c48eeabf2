//! Packed 32-bit pixels into planar YUV 4:2:0.

use ipc::{Colour, FrameFormat, Matrix, PixelFormat};
use lumen_core::Mode;
use yuv::{BufferStoreMut, YuvConversionMode, YuvPlanarImageMut, YuvRange, YuvStandardMatrix};

/// Rows of a plane begin on a boundary that vector loads like.
const ALIGN: usize = 64;

/// Luma pixels, each way, that [`I420::flatten`] makes one colour.
const FLAT: usize = 32;

/// A picture in planar YUV 4:2:0: full-size luma, then the two chroma planes at half width and half height.
#[derive(Clone)]
pub struct I420 {
    width: usize,
    height: usize,
    stride: usize,
    samples: Vec<u8>,
}

impl I420 {
    /// A black picture, its pages already touched so that the first frame does not pay for them.
    pub fn new(mode: Mode) -> Self {
        let (width, height) = (usize::from(mode.width()), usize::from(mode.height()));
        let stride = width.next_multiple_of(ALIGN);
        let mut samples = vec![128; stride * height * 3 / 2];
        samples[..stride * height].fill(16);
        Self { width, height, stride, samples }
    }

    /// Luma pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Luma rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Bytes from one luma row to the next; chroma rows are half as far apart.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Luma, then Cb, then Cr.
    pub fn planes(&self) -> [&[u8]; 3] {
        let (luma, chroma) = self.samples.split_at(self.stride * self.height);
        let (cb, cr) = chroma.split_at(chroma.len() / 2);
        [luma, cb, cr]
    }

    /// Luma, then Cb, then Cr.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        let (luma, chroma) = self.samples.split_at_mut(self.stride * self.height);
        let half = chroma.len() / 2;
        let (cb, cr) = chroma.split_at_mut(half);
        [luma, cb, cr]
    }

    /// Gives each square of 32 by 32 pixels its mean colour. What is left fits into next to nothing, whatever it was.
    pub fn flatten(&mut self) {
        let (width, stride) = (self.width, self.stride);
        let [luma, cb, cr] = self.planes_mut();
        flatten(luma, stride, width, FLAT);
        flatten(cb, stride / 2, width / 2, FLAT / 2);
        flatten(cr, stride / 2, width / 2, FLAT / 2);
    }
}

/// [`I420::flatten`] of one plane.
fn flatten(plane: &mut [u8], stride: usize, width: usize, side: usize) {
    for rows in plane.chunks_mut(stride * side) {
        for left in (0..width).step_by(side) {
            let columns = left..(left + side).min(width);
            let samples = || rows.chunks(stride).flat_map(|row| &row[columns.clone()]);
            let sum: usize = samples().map(|&sample| usize::from(sample)).sum();
            let mean = (sum / samples().count().max(1)) as u8;
            rows.chunks_mut(stride).for_each(|row| row[columns.clone()].fill(mean));
        }
    }
}

/// Why buffers of a format cannot be encoded in a mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConvertError {
    #[error("the frame buffers are {width}x{height}, the mode is {mode}")]
    Size { width: u16, height: u16, mode: Mode },
    #[error("the frame buffers have {stride} bytes a row, which cannot hold {width} pixels of four bytes")]
    Stride { stride: u32, width: u16 },
    #[error("a frame buffer of {size} bytes was told, {got} are there")]
    Short { size: usize, got: usize },
    #[error("the converter refused the picture")]
    Refused,
}

/// Converts every picture of one pool. Holds no memory of its own.
#[derive(Clone, Copy, Debug)]
pub struct Converter {
    format: FrameFormat,
    range: YuvRange,
    matrix: YuvStandardMatrix,
}

impl Converter {
    /// Checks that pictures of `format` are pictures of `mode`.
    pub fn new(format: FrameFormat, mode: Mode, colour: Colour) -> Result<Self, ConvertError> {
        let FrameFormat { width, height, stride, .. } = format;
        if (width, height) != (mode.width(), mode.height()) {
            return Err(ConvertError::Size { width, height, mode });
        }
        // No compositor pads a row by more than a page; a bigger stride is a message made to make us map gigabytes.
        if !(u32::from(width) * 4..=u32::from(width) * 4 + 4096).contains(&stride) {
            return Err(ConvertError::Stride { stride, width });
        }
        let range = if colour.full_range { YuvRange::Full } else { YuvRange::Limited };
        let matrix = match colour.matrix {
            Matrix::Bt601 => YuvStandardMatrix::Bt601,
            Matrix::Bt709 => YuvStandardMatrix::Bt709,
        };
        Ok(Self { format, range, matrix })
    }

    /// Converts one buffer of at least [`FrameFormat::size`] bytes; `out` is a picture of the same mode.
    pub fn convert(&self, pixels: &[u8], out: &mut I420) -> Result<(), ConvertError> {
        let size = self.format.size();
        let pixels = pixels.get(..size).ok_or(ConvertError::Short { size, got: pixels.len() })?;
        let stride = out.stride as u32;
        let [y, u, v] = out.planes_mut();
        let mut planar = YuvPlanarImageMut {
            y_plane: BufferStoreMut::Borrowed(y),
            y_stride: stride,
            u_plane: BufferStoreMut::Borrowed(u),
            u_stride: stride / 2,
            v_plane: BufferStoreMut::Borrowed(v),
            v_stride: stride / 2,
            width: u32::from(self.format.width),
            height: u32::from(self.format.height),
        };
        let convert = match self.format.pixels {
            PixelFormat::Bgrx => yuv::bgra_to_yuv420,
            PixelFormat::Rgbx => yuv::rgba_to_yuv420,
        };
        let mode = YuvConversionMode::Balanced;
        convert(&mut planar, pixels, self.format.stride, self.range, self.matrix, mode)
            .map_err(|_| ConvertError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RED: [u8; 3] = [255, 0, 0];
    const BLUE: [u8; 3] = [0, 0, 255];

    fn mode(width: u16, height: u16) -> Mode {
        Mode::new(width, height, 60_000).unwrap()
    }

    fn format(pixels: PixelFormat) -> FrameFormat {
        FrameFormat { pixels, width: 130, height: 98, stride: 130 * 4 + 24 }
    }

    fn fill(format: FrameFormat, [r, g, b]: [u8; 3]) -> Vec<u8> {
        let pixel = match format.pixels {
            PixelFormat::Bgrx => [b, g, r, 0],
            PixelFormat::Rgbx => [r, g, b, 0],
        };
        pixel.iter().copied().cycle().take(format.size()).collect()
    }

    const LIMITED: Colour = Colour { matrix: Matrix::Bt709, full_range: false };

    fn convert(pixels: PixelFormat, rgb: [u8; 3], colour: Colour) -> [u8; 3] {
        let format = format(pixels);
        let mode = mode(130, 98);
        let mut out = I420::new(mode);
        Converter::new(format, mode, colour).unwrap().convert(&fill(format, rgb), &mut out).unwrap();
        let stride = out.stride();
        let [y, u, v] = out.planes();
        // The last sample of each plane: a conversion that stops short of the picture's edge shows here.
        [y[stride * 97 + 129], u[stride / 2 * 48 + 64], v[stride / 2 * 48 + 64]]
    }

    fn near(got: [u8; 3], want: [u8; 3]) -> bool {
        got.iter().zip(want).all(|(got, want)| got.abs_diff(want) <= 1)
    }

    #[test]
    fn colours_are_those_of_their_standard() {
        // Y' = Kr R' + (1 - Kr - Kb) G' + Kb B', quantised to 16..235 or to 0..255; ITU-R BT.709 has Kr = 0.2126 and
        // Kb = 0.0722, BT.601 has 0.299 and 0.114.
        let (old, new) = (Matrix::Bt601, Matrix::Bt709);
        for pixels in [PixelFormat::Bgrx, PixelFormat::Rgbx] {
            for (rgb, matrix, full_range, want) in [
                (RED, new, false, [63, 102, 240]),
                (RED, new, true, [54, 99, 255]),
                (RED, old, false, [81, 90, 240]),
                (RED, old, true, [76, 85, 255]),
                (BLUE, new, false, [32, 240, 118]),
                (BLUE, old, false, [41, 240, 110]),
                (BLUE, old, true, [29, 255, 107]),
                ([255, 255, 255], new, false, [235, 128, 128]),
                ([255, 255, 255], new, true, [255, 128, 128]),
                ([255, 255, 255], old, true, [255, 128, 128]),
                ([0, 0, 0], new, false, [16, 128, 128]),
                ([0, 0, 0], old, true, [0, 128, 128]),
            ] {
                let got = convert(pixels, rgb, Colour { matrix, full_range });
                assert!(near(got, want), "{pixels:?} {rgb:?} {matrix:?} full={full_range}: {got:?}, not {want:?}");
            }
        }
    }

    #[test]
    fn a_flat_picture_keeps_its_mean_colours_up_to_its_edges() {
        let mut picture = I420::new(mode(130, 98));
        let stride = picture.stride();
        let [luma, cb, _] = picture.planes_mut();
        for (index, sample) in luma.iter_mut().enumerate() {
            *sample = if (index % stride).is_multiple_of(2) { 0 } else { 200 };
        }
        cb.fill(77);
        luma[stride * 97 + 129] = 0;
        picture.flatten();
        let [luma, cb, cr] = picture.planes();
        assert!(luma[..130 - 2].iter().all(|&sample| sample == 100));
        // The square in the corner has two by two pixels, of which one is bright.
        assert_eq!(luma[stride * 96 + 128..stride * 96 + 130], [50; 2]);
        assert_eq!(luma[stride * 97 + 128..stride * 97 + 130], [50; 2]);
        assert!(cb.iter().all(|&sample| sample == 77) && cr.iter().all(|&sample| sample == 128));
    }

    #[test]
    fn a_format_that_does_not_fit_the_mode_is_refused() {
        let good = format(PixelFormat::Bgrx);
        assert!(matches!(Converter::new(good, mode(128, 98), LIMITED), Err(ConvertError::Size { .. })));
        for stride in [0, 130 * 4 - 1, u32::MAX] {
            let bad = FrameFormat { stride, ..good };
            assert!(
                matches!(Converter::new(bad, mode(130, 98), LIMITED), Err(ConvertError::Stride { .. })),
                "{stride}"
            );
        }
        let short = vec![0; good.size() - 1];
        let mut out = I420::new(mode(130, 98));
        let result = Converter::new(good, mode(130, 98), LIMITED).unwrap().convert(&short, &mut out);
        assert!(matches!(result, Err(ConvertError::Short { .. })));
    }
}
