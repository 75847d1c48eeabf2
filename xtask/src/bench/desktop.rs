//! A real compositor with an animated full-screen client, and the same desktop when it is still.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::binaries::Encoder;
use xtask::client::{Client, allow};
use xtask::host::{Desktop, Host};
use xtask::process::wait_until;
use xtask::stage::Stage;
use xtask::sway::Sway;

use super::figure::{Figures, Target};
use super::sample::Sample;
use super::stream::number;
use super::{Effort, name};
use crate::demo::in_mid_stream;

/// 720p60 on headless sway: delivery, the path from drawing to decoding beside the compositor's own, stillness.
pub fn measure(stage: &Stage, encoder: Encoder, effort: Effort, figures: &mut Figures) -> Result<()> {
    let case = format!("sway 720p60, {}", name(encoder));
    let mut runs = Runs::default();
    for run in 0..effort.runs {
        eprintln!("{case}: run {} of {}", run + 1, effort.runs);
        runs.add(moving(stage, 1, effort)?)?;
        runs.still.push(still(stage)?);
    }
    runs.report(&case, encoder, figures);
    Ok(())
}

/// The same on an output that is refreshed twice as often as it is streamed, beside the same floor: that of 60 Hz.
pub fn measure_doubled(stage: &Stage, encoder: Encoder, effort: Effort, figures: &mut Figures) -> Result<()> {
    let case = format!("sway 720p60 at refresh_multiple 2, {}", name(encoder));
    let mut runs = Runs::default();
    for run in 0..effort.runs {
        eprintln!("{case}: run {} of {}", run + 1, effort.runs);
        runs.add(moving(stage, 2, effort)?)?;
    }
    runs.report_doubled(&case, figures);
    Ok(())
}

/// What one run on a moving desktop saw.
struct Moving {
    report: Value,
    floor: Value,
    sample: Sample,
}

fn moving(stage: &Stage, multiple: u32, effort: Effort) -> Result<Moving> {
    let scene = stage.program("scene");
    let config = format!("[desktop]\nexec = \"{}\"\n[display]\nrefresh_multiple = {multiple}", scene.display());
    let host = Host::start(stage, Desktop::Sway, &config)?;
    allow(stage, &host, "bench")?;
    let seconds = effort.seconds.to_string();
    let arguments = ["--mode", "1280x720x60", "--decode", "--seconds", &seconds];
    let client = Client::connect(stage, "bench", &host.address(), &arguments)?;
    host.status_where(Duration::from_secs(10), in_mid_stream)?;
    let sample = Sample::take(&host, Duration::from_secs(u64::from(effort.seconds) - 5))?;
    let report = client.succeed(Duration::from_secs(u64::from(effort.seconds) + 30))?;
    drop(host);
    Ok(Moving { report, floor: floor(stage, effort)?, sample })
}

/// The compositor's own time from drawing to a readable buffer: the same scene on a sway of its own, read by a bare
/// screencopy loop.
fn floor(stage: &Stage, effort: Effort) -> Result<Value> {
    let scene = stage.program("scene");
    let sway = Sway::start(stage, "1280x720@60Hz", scene.to_str().context("the stage's name is not UTF-8")?)?;
    let output = stage
        .command("floor")
        .envs(sway.environment())
        .args(["--output", "HEADLESS-1", "--seconds", &(effort.seconds / 2).to_string()])
        .output()?;
    ensure!(output.status.success(), "floor: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// CPU of all planes, in percent of a core, while the desktop shows one unmoving window.
fn still(stage: &Stage) -> Result<f64> {
    let scene = format!("[desktop]\nexec = \"{} --still\"", stage.program("scene").display());
    let host = Host::start(stage, Desktop::Sway, &scene)?;
    allow(stage, &host, "bench")?;
    let client = Client::connect(stage, "bench", &host.address(), &["--mode", "1280x720x60", "--seconds", "14"])?;
    wait_until(Duration::from_secs(12), || {
        let status = host.status().ok()?;
        (status["sessions"][0]["frames"]["sent"].as_u64()? >= 20).then_some(())
    })
    .context("the still desktop sends no frames")?;
    let sample = Sample::take(&host, Duration::from_secs(8))?;
    client.succeed(Duration::from_secs(30))?;
    Ok(sample.cpu_percent)
}

/// One value a run and metric.
#[derive(Default)]
struct Runs {
    delivered: Vec<f64>,
    fps: Vec<f64>,
    floor_p50: Vec<f64>,
    floor_p99: Vec<f64>,
    drawn_p50: Vec<f64>,
    drawn_p99: Vec<f64>,
    added_p50: Vec<f64>,
    added_p99: Vec<f64>,
    cpu: Vec<f64>,
    still: Vec<f64>,
}

impl Runs {
    fn add(&mut self, run: Moving) -> Result<()> {
        let stamps = &run.report["stamps"];
        let (read, missing) = (number(&stamps["read"])?, number(&stamps["missing"])?);
        self.delivered.push(read / (read + missing).max(1.0) * 100.0);
        self.fps.push(number(&run.report["fps"])?);
        let drawn = &run.report["latency_us"]["drawn_to_decoded"];
        let floor = &run.floor["drawn_to_readable_us"];
        let milliseconds = |value: &Value| number(value).map(|microseconds| microseconds / 1000.0);
        let (floor_p50, floor_p99) = (milliseconds(&floor["p50"])?, milliseconds(&floor["p99"])?);
        let (drawn_p50, drawn_p99) = (milliseconds(&drawn["p50"])?, milliseconds(&drawn["p99"])?);
        self.floor_p50.push(floor_p50);
        self.floor_p99.push(floor_p99);
        self.drawn_p50.push(drawn_p50);
        self.drawn_p99.push(drawn_p99);
        self.added_p50.push(drawn_p50 - floor_p50);
        self.added_p99.push(drawn_p99 - floor_p99);
        self.cpu.push(run.sample.cpu_percent);
        Ok(())
    }

    fn report(&self, case: &str, encoder: Encoder, figures: &mut Figures) {
        let (p50, p99, cpu) = if encoder == Encoder::X264 { (5.0, 10.0, 30.0) } else { (7.0, 12.0, 38.0) };
        figures.median(case, "drawn frames delivered", &self.delivered, "%", Target::AtLeast(98.0));
        figures.median(case, "rate", &self.fps, "fps", Target::None);
        figures.median(case, "compositor's floor p50", &self.floor_p50, "ms", Target::None);
        figures.median(case, "compositor's floor p99", &self.floor_p99, "ms", Target::None);
        figures.median(case, "drawn to decoded p50", &self.drawn_p50, "ms", Target::None);
        figures.median(case, "drawn to decoded p99", &self.drawn_p99, "ms", Target::None);
        figures.median(case, "above the floor p50", &self.added_p50, "ms", Target::AtMost(p50));
        figures.median(case, "above the floor p99", &self.added_p99, "ms", Target::AtMost(p99));
        figures.median(case, "CPU of all planes in motion", &self.cpu, "% of a core", Target::AtMost(cpu));
        figures.median(case, "CPU of all planes, still desktop", &self.still, "% of a core", Target::AtMost(10.0));
    }
    /// Half of what is drawn is never meant to be seen, so the frames delivered say nothing here.
    fn report_doubled(&self, case: &str, figures: &mut Figures) {
        figures.median(case, "rate", &self.fps, "fps", Target::None);
        figures.median(case, "compositor's floor at 60 Hz p50", &self.floor_p50, "ms", Target::None);
        figures.median(case, "compositor's floor at 60 Hz p99", &self.floor_p99, "ms", Target::None);
        figures.median(case, "drawn to decoded p50", &self.drawn_p50, "ms", Target::None);
        figures.median(case, "drawn to decoded p99", &self.drawn_p99, "ms", Target::None);
        figures.median(case, "above the floor p50", &self.added_p50, "ms", Target::None);
        figures.median(case, "above the floor p99", &self.added_p99, "ms", Target::None);
        figures.median(case, "CPU of all planes in motion", &self.cpu, "% of a core", Target::None);
    }
}
