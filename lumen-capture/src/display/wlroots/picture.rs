//! One picture as the compositor describes it: its pixels, which way up it is, when it came to be.

use std::time::Duration;

use ipc::PixelFormat;
use wayland_client::WEnum;
use wayland_client::protocol::wl_shm::Format;

use crate::display::DisplayError;

/// The compositor's time of a picture is believed if it is no older than this.
const BELIEVED_AGE: Duration = Duration::from_millis(100);

/// Exchanges the first row with the last and so on.
pub(super) fn turn_over(pixels: &mut [u8], stride: usize) {
    let mut rows = pixels.chunks_exact_mut(stride);
    while let (Some(top), Some(bottom)) = (rows.next(), rows.next_back()) {
        top.swap_with_slice(bottom);
    }
}

/// The format that a compositor's pixels are, or a line on what would help.
pub(super) fn pixel_format(format: WEnum<Format>) -> Result<PixelFormat, DisplayError> {
    match format {
        WEnum::Value(Format::Xrgb8888 | Format::Argb8888) => Ok(PixelFormat::Bgrx),
        WEnum::Value(Format::Xbgr8888 | Format::Abgr8888) => Ok(PixelFormat::Rgbx),
        other => {
            let code = u32::from(other);
            Err(DisplayError::Failed(format!(
                "the compositor offers pixels as {code:#010x} only; four bytes a pixel in XRGB8888 or XBGR8888 order \
                 are needed (for sway, WLR_RENDERER=pixman or gles2 gives that)"
            )))
        }
    }
}

/// The compositor's time of a picture if it can be one, else now; see the module's documentation.
pub(super) fn believed(seconds: u64, nanoseconds: u32, now_ns: u64) -> u64 {
    let told = seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(u64::from(nanoseconds)));
    let age = told.and_then(|told| now_ns.checked_sub(told));
    match age {
        Some(age) if nanoseconds < 1_000_000_000 && age <= BELIEVED_AGE.as_nanos() as u64 => now_ns - age,
        _ => now_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_turned_over() {
        let mut rows = [1, 1, 2, 2, 3, 3];
        turn_over(&mut rows, 2);
        assert_eq!(rows, [3, 3, 2, 2, 1, 1]);
    }

    #[test]
    fn only_a_plausible_time_is_believed() {
        let now = 5_050_000_000;
        assert_eq!(believed(5, 49_000_000, now), 5_049_000_000);
        assert_eq!(believed(4, 950_000_000, now), 4_950_000_000, "100 ms old");
        for (seconds, nanoseconds) in [(4, 949_999_999), (5, 50_000_001), (4, 1_000_000_000), (0, 0), (u64::MAX, 0)] {
            assert_eq!(believed(seconds, nanoseconds, now), now, "{seconds}.{nanoseconds}");
        }
    }

    #[test]
    fn formats_with_other_layouts_are_refused_with_their_code() {
        assert_eq!(pixel_format(WEnum::Value(Format::Abgr8888)).ok(), Some(PixelFormat::Rgbx));
        let refused = pixel_format(WEnum::Value(Format::Rgb888)).unwrap_err().to_string();
        assert!(refused.contains("0x34324752"), "{refused}");
        assert!(pixel_format(WEnum::Unknown(7)).is_err());
    }
}
