//! The prepared pictures of the synthetic desktop, and where its parts are at a given frame.

use ipc::{FrameFormat, PixelFormat};

/// A place on the screen, in pixels; always inside it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Rect {
    pub x: usize,
    pub y: usize,
    pub width: usize,
    pub height: usize,
}

/// Pixels the line of blocks moves each frame: four, so that motion search has an honest, findable vector.
const SCROLL_STEP: usize = 4;

/// A picture in memory, rows without padding.
struct Picture {
    width: usize,
    bytes: Vec<u8>,
}

impl Picture {
    fn new(format: FrameFormat, width: usize, height: usize, mut colour: impl FnMut(usize, usize) -> [u8; 3]) -> Self {
        let mut bytes = Vec::with_capacity(width * height * 4);
        for y in 0..height {
            for x in 0..width {
                let [r, g, b] = colour(x, y);
                bytes.extend(match format.pixels {
                    PixelFormat::Bgrx => [b, g, r, 255],
                    PixelFormat::Rgbx => [r, g, b, 255],
                });
            }
        }
        Self { width, bytes }
    }

    fn row(&self, x: usize, y: usize, width: usize) -> &[u8] {
        let start = (y * self.width + x) * 4;
        &self.bytes[start..start + width * 4]
    }
}

pub(super) struct Scenery {
    stride: usize,
    screen: Rect,
    wallpaper: Picture,
    /// One period wider than the screen, so that every offset is one copy a row.
    ticker: Picture,
    ticker_place: Rect,
    period: usize,
    windows: Vec<Picture>,
}

impl Scenery {
    pub(super) fn new(format: FrameFormat) -> Self {
        let (width, height) = (usize::from(format.width), usize::from(format.height));
        let wallpaper = Picture::new(format, width, height, |x, y| {
            let weave = ((x / 8 + y / 8) % 2 * 6) as u8;
            [24 + (x * 56 / width) as u8 + weave, 48 + (y * 72 / height) as u8 + weave, 104 + (x * 40 / width) as u8]
        });
        let period = (width / 4).max(64) / SCROLL_STEP * SCROLL_STEP;
        let ticker_height = (height / 8).max(1);
        let ticker = Picture::new(format, width + period, ticker_height, |x, y| text(x % period, y, [232; 3], 3));
        let window_size = (width / 8, height / 6);
        let windows = (0..super::WINDOWS)
            .map(|window| {
                let tint = [[250, 240, 220], [220, 245, 230], [225, 230, 250], [250, 225, 235], [240, 240, 240]];
                let (w, h) = window_size;
                Picture::new(format, w, h, |x, y| match y {
                    _ if x < 2 || y < 2 || x + 2 >= w || y + 2 >= h => [20, 20, 24],
                    0..12 => [60, 90, 160],
                    _ => text(x, y, tint[window % tint.len()], window),
                })
            })
            .collect();
        Self {
            stride: format.stride as usize,
            screen: Rect { x: 0, y: 0, width, height },
            wallpaper,
            ticker,
            ticker_place: Rect { x: 0, y: height * 3 / 4, width, height: ticker_height },
            period,
            windows,
        }
    }

    /// Where a window is at a frame: on a straight path that bounces off the edges, each with a speed of its own.
    pub(super) fn place(&self, window: usize, number: u32) -> Rect {
        let (width, height) = (self.screen.width / 8, self.screen.height / 6);
        // The top of the screen stays free, so that no edge passes right beside the stamp.
        let top = self.screen.height / 6;
        let step = number as usize;
        Rect {
            x: bounce(window * self.screen.width / 7 + step * (3 + window), self.screen.width - width),
            y: top + bounce(window * self.screen.height / 9 + step * (5 - window), self.screen.height - height - top),
            width,
            height,
        }
    }

    pub(super) fn restore_all(&self, pixels: &mut [u8]) {
        self.restore(pixels, self.screen);
    }

    /// Puts the wallpaper back.
    pub(super) fn restore(&self, pixels: &mut [u8], rect: Rect) {
        self.copy(pixels, rect, |y| self.wallpaper.row(rect.x, rect.y + y, rect.width));
    }

    pub(super) fn scroll(&self, pixels: &mut [u8], number: u32) {
        let offset = number as usize * SCROLL_STEP % self.period;
        self.copy(pixels, self.ticker_place, |y| self.ticker.row(offset, y, self.screen.width));
    }

    pub(super) fn window(&self, pixels: &mut [u8], window: usize, rect: Rect) {
        self.copy(pixels, rect, |y| self.windows[window].row(0, y, rect.width));
    }

    fn copy<'a>(&self, pixels: &mut [u8], rect: Rect, row: impl Fn(usize) -> &'a [u8]) {
        let lines = pixels.chunks_mut(self.stride).skip(rect.y).take(rect.height);
        for (y, line) in lines.enumerate() {
            line[rect.x * 4..(rect.x + rect.width) * 4].copy_from_slice(row(y));
        }
    }
}

/// A triangle wave: there and back between 0 and `range`.
fn bounce(position: usize, range: usize) -> usize {
    if range == 0 {
        return 0;
    }
    let turn = position % (2 * range);
    if turn < range { turn } else { 2 * range - turn }
}

/// Something with the look, and the cost to an encoder, of lines of text on paper.
fn text(x: usize, y: usize, paper: [u8; 3], seed: usize) -> [u8; 3] {
    let (column, line) = (x / 3, y / 12);
    let mut glyph =
        (column.wrapping_mul(0x9E37_79B9) ^ line.wrapping_mul(0x85EB_CA6B) ^ seed.wrapping_mul(0xC2B2_AE35))
            & 0xFFFF_FFFF;
    glyph ^= glyph >> 15;
    let ink = y % 12 >= 3 && (glyph >> (y % 12)) & 3 == 0 && !column.is_multiple_of(7);
    if ink { [40, 40, 48] } else { paper }
}
