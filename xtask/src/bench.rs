//! Every figure that Lumen claims, measured on this machine in one run.

mod desktop;
mod figure;
mod micro;
mod sample;
mod stream;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use xtask::binaries::{Encoder, Profile, build};
use xtask::deps;
use xtask::process::steal_ticks;
use xtask::stage::Stage;

use figure::Figures;

/// How often and how long each case runs.
#[derive(Clone, Copy)]
struct Effort {
    runs: usize,
    seconds: u32,
}

/// Measures everything, prints the table, writes the JSON. A missed target is reported, not an error.
pub fn run(json: Option<&Path>, runs: usize, seconds: u32) -> Result<()> {
    deps::ensure()?;
    let effort = Effort { runs: runs.max(1), seconds: seconds.max(8) };
    let mut figures = Figures::default();
    let (steal_before, all_before) = steal_ticks()?;

    micro::measure(&mut figures)?;
    for encoder in [Encoder::OpenH264, Encoder::X264] {
        eprintln!("building with {}", name(encoder));
        let stage = Stage::new(&build(Profile::Release, encoder)?)?;
        stream::measure(&stage, encoder, effort, &mut figures)?;
        desktop::measure(&stage, encoder, effort, &mut figures)?;
    }

    let (steal_after, all_after) = steal_ticks()?;
    let steal = (steal_after - steal_before) as f64 / (all_after - all_before).max(1) as f64;
    figures.note("machine", "steal", steal * 100.0, "%");
    figures.print();
    if let Some(file) = json {
        fs::write(file, figures.to_json()?).with_context(|| file.display().to_string())?;
        println!("wrote {}", file.display());
    }
    Ok(())
}

const fn name(encoder: Encoder) -> &'static str {
    match encoder {
        Encoder::OpenH264 => "openh264",
        Encoder::X264 => "x264",
    }
}
