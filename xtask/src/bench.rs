//! Every figure that Lumen claims, measured on this machine in one run.

mod audio;
mod desktop;
mod figure;
mod gamestream;
mod input;
mod micro;
mod sample;
pub mod soak;
mod stream;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use xtask::binaries::{Encoder, Profile, build};
use xtask::deps;
use xtask::process::steal_ticks;
use xtask::stage::Stage;

use figure::Figures;

/// Of each stream, unless told otherwise.
pub const SECONDS: u32 = 30;
/// Seconds of a stream below which there is nothing to measure between its begin and its end.
const SHORTEST: u32 = 10;

/// How often and how long each case runs.
#[derive(Clone, Copy)]
struct Effort {
    runs: usize,
    seconds: u32,
}

/// Where figures go beside the table on the screen.
#[derive(Clone, Copy, Default)]
pub struct Files<'a> {
    pub json: Option<&'a Path>,
    /// The tables of docs/benchmarks.md.
    pub markdown: Option<&'a Path>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Packets and hand-overs, without processes around them
    Micro,
    /// The synthetic desktop
    Pattern,
    /// A real compositor with an animated window
    Sway,
    /// The same with its output refreshed twice as often as it is streamed
    Refresh,
    /// The same to a Moonlight client: what it would show as host latency
    Gamestream,
    /// From the client's hands to a window
    Input,
    /// From a program's sound to the client's decoder
    Audio,
}

/// Measures everything, or the parts named; prints the table, writes the files. A missed target is reported, not an
/// error.
pub fn run(files: Files<'_>, runs: usize, seconds: u32, only: &[Part]) -> Result<()> {
    deps::ensure()?;
    let effort = Effort { runs: runs.max(1), seconds: seconds.max(SHORTEST) };
    let wanted = |part| only.is_empty() || only.contains(&part);
    let mut figures = Figures::default();
    let (steal_before, all_before) = steal_ticks()?;

    if wanted(Part::Micro) {
        micro::measure(&mut figures)?;
    }
    for encoder in [Encoder::OpenH264, Encoder::X264] {
        let default = encoder == Encoder::OpenH264;
        let both = [Part::Pattern, Part::Sway, Part::Gamestream].into_iter().any(wanted);
        let once = [Part::Refresh, Part::Input, Part::Audio].into_iter().any(wanted);
        if !(both || default && once) {
            continue;
        }
        eprintln!("building with {}", name(encoder));
        let stage = Stage::new(&build(Profile::Release, encoder)?)?;
        if wanted(Part::Pattern) {
            stream::measure(&stage, encoder, effort, &mut figures)?;
        }
        if wanted(Part::Sway) {
            desktop::measure(&stage, encoder, effort, &mut figures)?;
        }
        if wanted(Part::Gamestream) {
            gamestream::measure(&stage, encoder, effort, &mut figures)?;
        }
        // What does not depend on the encoder is measured with the one that users get.
        if default && wanted(Part::Refresh) {
            desktop::measure_doubled(&stage, encoder, effort, &mut figures)?;
        }
        if default && wanted(Part::Input) {
            input::measure(&stage, effort, &mut figures)?;
        }
        if default && wanted(Part::Audio) {
            audio::measure(&stage, effort, &mut figures)?;
        }
    }

    let (steal_after, all_after) = steal_ticks()?;
    let steal = (steal_after - steal_before) as f64 / (all_after - all_before).max(1) as f64;
    figures.note("machine", "steal", steal * 100.0, "%");
    figures.print();
    write(files.json, figures.to_json()?)?;
    write(files.markdown, figures.to_markdown())
}

/// Writes one of the files asked for.
fn write(file: Option<&Path>, text: String) -> Result<()> {
    if let Some(file) = file {
        fs::write(file, text).with_context(|| file.display().to_string())?;
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
