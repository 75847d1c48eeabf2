//! What the planes cost is judged against this: the same frames drawn, converted and encoded in one process.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use ipc::event::now_ns;
use ipc::{Backend, Colour, FrameFormat, Matrix, PixelFormat};
use lumen_capture::pattern::Pattern;
use lumen_core::{Mode, RawMode};
use lumen_encode::encoder::{self, Coding};
use lumen_encode::{Converter, I420, Settings};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, ClockNanosleepFlags, clock_gettime, clock_nanosleep};
use serde_json::json;

/// Buffers of a frame pool; the same number as lumend makes.
const BUFFERS: usize = 4;

const USAGE: &str = "usage: baseline --mode WIDTHxHEIGHTxHZ --frames N [--bitrate KBPS]";

struct Task {
    mode: Mode,
    frames: u32,
    bitrate_kbps: u32,
}

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)).and_then(|task| run(&task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baseline: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Task> {
    let mut task = Task { mode: Mode::new(1280, 720, 60_000)?, frames: 600, bitrate_kbps: 0 };
    while let Some(word) = words.next() {
        let value = words.next().context(USAGE)?;
        match word.as_str() {
            "--mode" => task.mode = value.parse::<RawMode>()?.try_into()?,
            "--frames" => task.frames = value.parse().context(USAGE)?,
            "--bitrate" => task.bitrate_kbps = value.parse().context(USAGE)?,
            _ => bail!(USAGE),
        }
    }
    Ok(task)
}

fn run(task: &Task) -> Result<()> {
    let mode = task.mode;
    let format = FrameFormat {
        pixels: PixelFormat::Bgrx,
        width: mode.width(),
        height: mode.height(),
        stride: u32::from(mode.width()) * 4,
    };
    let mut pattern = Pattern::new(format);
    let mut buffers = vec![vec![0; format.size()]; BUFFERS];
    let mut picture = I420::new(mode);
    let colour = Colour { matrix: Matrix::Bt709, full_range: false };
    let converter = Converter::new(format, mode, colour)?;
    let settings = Settings { mode, bitrate_kbps: task.bitrate_kbps, colour };
    let mut encoder = encoder::open(Backend::Auto, settings)?;

    let mut bytes = 0_u64;
    let start = now_ns();
    let cpu_start = cpu_ns()?;
    for number in 0..task.frames {
        // At the stream's own pace: a processor that never rests would be judged at another clock and cache.
        sleep_until(start + u64::from(number) * mode.frame_interval_ns())?;
        let index = number as usize % BUFFERS;
        pattern.draw(index, &mut buffers[index], number);
        pattern.stamp(&mut buffers[index], number, now_ns());
        converter.convert(&buffers[index], &mut picture)?;
        let coding = if number == 0 { Coding::Idr } else { Coding::Delta };
        encoder.encode(&picture, coding, &mut |slice| bytes += slice.bytes.len() as u64)?;
    }
    let cpu_ms = (cpu_ns()? - cpu_start) as f64 / 1e6 / f64::from(task.frames.max(1));
    println!(
        "{}",
        json!({ "encoder": encoder.name(), "frames": task.frames, "cpu_ms_per_frame": cpu_ms, "bytes": bytes })
    );
    Ok(())
}

fn cpu_ns() -> Result<u64> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID)?.num_nanoseconds() as u64)
}

fn sleep_until(deadline_ns: u64) -> Result<()> {
    let deadline = nix::sys::time::TimeSpec::nanoseconds(deadline_ns as i64);
    clock_nanosleep(ClockId::CLOCK_MONOTONIC, ClockNanosleepFlags::TIMER_ABSTIME, &deadline)?;
    Ok(())
}
