//! A number and a time written into a picture's corner, in cells large enough to survive H.264 at a low bit rate.
//!
//! 128 black or white cells: frame number (32 bits), time (64), CRC-32 of both (32), most significant bit first. Cells
//! are square, 16 pixels wide where that leaves most of the picture alone, else 8; both sides derive the layout from
//! the picture's size.

/// What a picture says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    pub number: u32,
    /// CLOCK_MONOTONIC of who drew it.
    pub time_ns: u64,
}

const CELLS: usize = 128;

/// Where the cells are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    /// Pixels.
    cell: usize,
    /// A power of two.
    per_row: usize,
}

impl Layout {
    /// The largest cells whose strip is at most a third of the picture's height, else the smallest; `None` for a
    /// picture below 128x64.
    fn of(width: usize, height: usize) -> Option<Self> {
        let with = |cell: usize| {
            let fit = (width / cell).min(64);
            (fit > 0).then(|| Self { cell, per_row: 1 << fit.ilog2() })
        };
        let strip = |layout: &Self| CELLS / layout.per_row * layout.cell;
        with(16)
            .filter(|layout| strip(layout) <= height / 3)
            .or_else(|| with(8).filter(|layout| width >= 128 && strip(layout) <= height))
    }

    /// Top-left pixel of a cell.
    fn place(self, index: usize) -> (usize, usize) {
        (index % self.per_row * self.cell, index / self.per_row * self.cell)
    }
}

/// CRC-32 (IEEE 802.3), bit by bit: 12 bytes a picture need no table.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

impl Stamp {
    fn bits(self) -> u128 {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.number.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.time_ns.to_be_bytes());
        let crc = crc32(&bytes[..12]);
        bytes[12..].copy_from_slice(&crc.to_be_bytes());
        u128::from_be_bytes(bytes)
    }

    fn from_bits(bits: u128) -> Option<Self> {
        let stamp = Self { number: (bits >> 96) as u32, time_ns: (bits >> 32) as u64 };
        (stamp.bits() == bits).then_some(stamp)
    }
}

/// Writes the stamp into a picture of four-byte pixels (every byte of a pixel is set alike, so their order does not
/// matter). `stride` is bytes from row to row. Returns false and draws nothing if the picture is below 128x64 or
/// `pixels` is too short for it.
pub fn draw(pixels: &mut [u8], stride: usize, width: usize, height: usize, stamp: Stamp) -> bool {
    let fits = stride >= width * 4 && height > 0 && pixels.len() >= stride * (height - 1) + width * 4;
    let Some(layout) = Layout::of(width, height).filter(|_| fits) else { return false };
    let bits = stamp.bits();
    let line = layout.per_row * layout.cell * 4;
    for row in 0..CELLS / layout.per_row {
        let top = row * layout.cell * stride;
        for column in 0..layout.per_row {
            let index = row * layout.per_row + column;
            let white = bits >> (CELLS - 1 - index) & 1 == 1;
            let left = top + column * layout.cell * 4;
            pixels[left..left + layout.cell * 4].fill(if white { 0xff } else { 0 });
        }
        // The cells of a row are the same on each of its lines.
        for y in 1..layout.cell {
            pixels.copy_within(top..top + line, top + y * stride);
        }
    }
    true
}

/// Reads a stamp out of a luma plane; `None` if there is none, or it did not survive.
pub fn read(luma: &[u8], stride: usize, width: usize, height: usize) -> Option<Stamp> {
    let layout = Layout::of(width, height)?;
    if stride < width || luma.len() < stride * (height - 1) + width {
        return None;
    }
    // Compression smears across cell borders; the middle half of a cell is what counts.
    let (from, to) = (layout.cell / 4, layout.cell - layout.cell / 4);
    let mut bits = 0u128;
    for index in 0..CELLS {
        let (x, y) = layout.place(index);
        let mut sum = 0u32;
        for line in y + from..y + to {
            let start = line * stride + x;
            sum += luma[start + from..start + to].iter().map(|&value| u32::from(value)).sum::<u32>();
        }
        let mean = sum / ((to - from) * (to - from)) as u32;
        bits = bits << 1 | u128::from(mean > 125);
    }
    Stamp::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The luma of a drawn picture in limited range, as a decoder would give it, spoilt by `noise` of up to ±`depth`.
    fn luma(pixels: &[u8], mut noise: u32, depth: i32) -> Vec<u8> {
        let spoil = |value: u8| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let limited = 16 + i32::from(value) * 219 / 255;
            (limited + (noise >> 16) as i32 % (depth * 2 + 1) - depth).clamp(0, 255) as u8
        };
        pixels.iter().step_by(4).copied().map(spoil).collect()
    }

    #[test]
    fn fits_every_mode_from_the_smallest() {
        for (width, height, expected) in
            [(128, 96, 8), (256, 144, 8), (640, 360, 16), (1280, 720, 16), (4096, 2304, 16)]
        {
            let layout = Layout::of(width, height).unwrap();
            assert_eq!(layout.cell, expected, "{width}x{height}");
            let (x, y) = layout.place(CELLS - 1);
            assert!(x + layout.cell <= width && y + layout.cell <= height);
        }
        assert_eq!(Layout::of(127, 1000), None);
        assert_eq!(Layout::of(128, 63), None);
    }

    #[test]
    fn a_plain_picture_has_no_stamp() {
        for value in [0, 16, 128, 235] {
            assert_eq!(read(&vec![value; 1280 * 720], 1280, 1280, 720), None);
        }
        assert_eq!(read(&[], 1280, 1280, 720), None);
        assert!(!draw(&mut [0; 100], 512, 128, 96, Stamp { number: 1, time_ns: 2 }));
    }

    proptest! {
        #[test]
        fn stamps_survive_noise(number: u32, time_ns: u64, noise: u32, size in 0usize..3) {
            let (width, height) = [(128, 96), (320, 240), (1280, 720)][size];
            let mut pixels = vec![0x77; width * height * 4];
            let stamp = Stamp { number, time_ns };
            prop_assert!(draw(&mut pixels, width * 4, width, height, stamp));
            let luma = luma(&pixels, noise, 90);
            prop_assert_eq!(read(&luma, width, width, height), Some(stamp));
        }

        #[test]
        fn any_luma_is_read_without_panic(luma in proptest::collection::vec(any::<u8>(), 0..20_000), stride in 0usize..200, height in 0usize..200) {
            let _ = read(&luma, stride, 128, height);
        }
    }
}
