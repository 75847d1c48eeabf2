use std::collections::HashSet;

use ipc::PixelFormat;

use super::*;

fn format(width: u16, height: u16, padding: u32) -> FrameFormat {
    FrameFormat { pixels: PixelFormat::Bgrx, width, height, stride: u32::from(width) * 4 + padding }
}

/// Green is near enough to luma for black and white cells.
fn green(pixels: &[u8], format: FrameFormat) -> Vec<u8> {
    let rows = pixels.chunks(format.stride as usize);
    rows.flat_map(|row| row[..usize::from(format.width) * 4].as_chunks::<4>().0.iter().map(|pixel| pixel[1])).collect()
}

#[test]
fn stamps_read_back() {
    for format in [format(128, 96, 0), format(640, 480, 64), format(1280, 720, 0)] {
        let mut pattern = Pattern::new(format);
        let mut pixels = vec![0; format.size()];
        for number in [0, 1, 59, 3_000_000_000] {
            let written = Stamp { number, time_ns: 7_000_000_000 + u64::from(number) };
            pattern.draw(0, &mut pixels, written.number);
            pattern.stamp(&mut pixels, written.number, written.time_ns);
            let width = usize::from(format.width);
            let read = stamp::read(&green(&pixels, format), width, width, usize::from(format.height));
            assert_eq!(read, Some(written), "{format:?}");
        }
    }
}

#[test]
fn drawing_what_moved_makes_the_same_picture_as_drawing_it_all() {
    let format = format(320, 192, 32);
    let mut pattern = Pattern::new(format);
    let mut buffers = vec![vec![0; format.size()]; 4];
    for number in 0..150 {
        // Buffers come back in any order, as from a mailbox.
        let buffer = (number as usize * 7 / 3) % buffers.len();
        pattern.draw(buffer, &mut buffers[buffer], number);
        let mut whole = vec![0; format.size()];
        Pattern::new(format).draw(0, &mut whole, number);
        assert!(buffers[buffer] == whole, "frame {number} in buffer {buffer}");
    }
}

#[test]
fn something_substantial_moves_in_every_frame() {
    let format = format(1280, 720, 0);
    let mut pattern = Pattern::new(format);
    let (mut before, mut after) = (vec![0; format.size()], vec![0; format.size()]);
    for number in 0..60 {
        pattern.draw(0, &mut before, number);
        pattern.draw(1, &mut after, number + 1);
        let pairs = before.as_chunks::<4>().0.iter().zip(after.as_chunks::<4>().0);
        let moved = pairs.filter(|(a, b)| a != b).count();
        assert!(moved > 1280 * 720 / 50, "only {moved} pixels changed after frame {number}");
    }
}

#[test]
fn frames_do_not_repeat_within_seconds() {
    let format = format(320, 240, 0);
    let mut pattern = Pattern::new(format);
    let mut pixels = vec![0; format.size()];
    let mut seen = HashSet::new();
    for number in 0..300 {
        pattern.draw(0, &mut pixels, number);
        assert!(seen.insert(pixels.clone()), "frame {number} looks like an earlier one");
    }
}

#[test]
fn forgotten_buffers_are_drawn_whole() {
    let format = format(320, 240, 0);
    let mut pattern = Pattern::new(format);
    let mut pixels = vec![0; format.size()];
    pattern.draw(0, &mut pixels, 8);
    let whole = pixels.clone();
    pattern.forget();
    let mut replaced = vec![0; format.size()];
    pattern.draw(0, &mut replaced, 8);
    assert!(replaced == whole);
}
