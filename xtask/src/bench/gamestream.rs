//! A Moonlight client's share: what it would show as host latency, on a real compositor.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::binaries::Encoder;
use xtask::host::{Desktop, Host, free_base_port};
use xtask::process::{Running, wait_until};
use xtask::stage::Stage;

use super::figure::{Figures, Target};
use super::sample::Sample;
use super::stream::number;
use super::{Effort, name};
use crate::demo::in_mid_stream;

const PIN: &str = "2468";

/// Stages of the ledger, and what their medians are called here.
const STAGES: [(&str, &str); 5] = [
    ("capture_wait", "captured to taken p50"),
    ("convert", "conversion p50"),
    ("encode", "encoding p50"),
    ("first", "captured to first packet p50"),
    ("total", "captured to last packet p50"),
];

/// 720p60 on headless sway with an animated window, to a GameStream client that decodes, everything encrypted.
pub fn measure(stage: &Stage, encoder: Encoder, effort: Effort, figures: &mut Figures) -> Result<()> {
    let case = format!("GameStream, sway 720p60, {}", name(encoder));
    let mut runs = Runs::default();
    for run in 0..effort.runs {
        eprintln!("{case}: run {} of {}", run + 1, effort.runs);
        runs.add(&stream(stage, effort)?)?;
    }
    runs.report(&case, encoder, figures);
    Ok(())
}

/// What one run saw.
struct Run {
    report: Value,
    /// Of the compositor's frames, those that encode never took.
    skipped: f64,
    /// The ledger, in microseconds.
    stages: Value,
    sample: Sample,
}

fn stream(stage: &Stage, effort: Effort) -> Result<Run> {
    let base = free_base_port()?;
    let scene = stage.program("scene");
    let config =
        format!("[desktop]\nexec = \"{}\"\n[gamestream]\nbase_port = {base}\nbind = \"127.0.0.1\"", scene.display());
    let host = Host::start(stage, Desktop::Sway, &config)?;
    pair(stage, &host, base)?;
    let report = stage.out("guest.json");
    let seconds = effort.seconds.to_string();
    let child = guest(stage, base)
        .args(["stream", "--seconds", &seconds])
        .stdout(File::create(&report)?)
        .stderr(File::create(stage.out("guest.err"))?)
        .spawn()?;
    let mut client = Running::new("guest", child);
    host.status_where(Duration::from_secs(10), in_mid_stream)?;
    let sample = Sample::take(&host, Duration::from_secs(u64::from(effort.seconds) - 5))?;
    let mut session = host.status()?["sessions"][0].take();
    let (skipped, stages) = (number(&session["frames"]["skipped"])?, session["latency_us"].take());
    let status = client.wait(Duration::from_secs(60))?;
    let said = std::fs::read_to_string(stage.out("guest.err")).unwrap_or_default();
    ensure!(status.success(), "the client failed: {}", said.trim());
    let report: Value = serde_json::from_str(&std::fs::read_to_string(report)?)?;
    let faults = &report["faults"];
    ensure!(faults["count"] == 0, "the host breaks the rules of the wire: {faults}");
    Ok(Run { report, skipped, stages, sample })
}

/// Pairs the client as a person would.
fn pair(stage: &Stage, host: &Host<'_>, base: u16) -> Result<()> {
    let child = guest(stage, base).args(["pair", PIN]).stdout(Stdio::null()).spawn()?;
    let mut client = Running::new("guest", child);
    wait_until(Duration::from_secs(10), || {
        let status = host.status().ok()?;
        (!status["pairings"].as_array()?.is_empty()).then_some(())
    })
    .context("the client does not begin to pair")?;
    host.must(&["pair", PIN])?;
    let status = client.wait(Duration::from_secs(10))?;
    ensure!(status.success(), "the client is not paired");
    Ok(())
}

/// The test client, with an identity of its own for this host.
fn guest(stage: &Stage, base: u16) -> Command {
    let mut command = stage.command("guest");
    command
        .arg("--directory")
        .arg(stage.path().join("home").join(format!("guest-{base}")))
        .args(["--base", &base.to_string()])
        .stdin(Stdio::null());
    command
}

/// One value a run and metric.
#[derive(Default)]
struct Runs {
    lost: Vec<f64>,
    skipped: Vec<f64>,
    delivered: Vec<f64>,
    fps: Vec<f64>,
    average: Vec<f64>,
    p99: Vec<f64>,
    longest: Vec<f64>,
    stages: [Vec<f64>; STAGES.len()],
    last_p99: Vec<f64>,
    cpu: Vec<f64>,
}

impl Runs {
    fn add(&mut self, run: &Run) -> Result<()> {
        let (frames, latency) = (&run.report["frames"], &run.report["host_latency_ms"]);
        self.lost.push(number(&frames["lost"])? + number(&frames["undecoded"])?);
        self.skipped.push(run.skipped);
        let (read, missing) = (number(&run.report["stamps"]["read"])?, number(&run.report["stamps"]["missing"])?);
        self.delivered.push(read / (read + missing).max(1.0) * 100.0);
        self.fps.push(number(&frames["fps"])?);
        self.average.push(number(&latency["avg"])?);
        self.p99.push(number(&latency["p99"])?);
        self.longest.push(number(&latency["max"])?);
        for (values, (stage, _)) in self.stages.iter_mut().zip(STAGES) {
            values.push(number(&run.stages[stage]["p50"])? / 1000.0);
        }
        self.last_p99.push(number(&run.stages["total"]["p99"])? / 1000.0);
        self.cpu.push(run.sample.cpu_percent);
        Ok(())
    }

    fn report(&self, case: &str, encoder: Encoder, figures: &mut Figures) {
        let x264 = encoder == Encoder::X264;
        let only = |limit| if x264 { Target::AtMost(limit) } else { Target::None };
        figures.median(case, "frames lost or not decoded", &self.lost, "frames", Target::AtMost(0.0));
        figures.median(case, "frames of the compositor not encoded", &self.skipped, "frames", Target::None);
        figures.median(case, "drawn frames delivered", &self.delivered, "%", Target::AtLeast(98.0));
        figures.median(case, "rate", &self.fps, "fps", Target::None);
        let average = if x264 { 3.5 } else { 6.0 };
        figures.median(case, "host latency, average", &self.average, "ms", Target::AtMost(average));
        figures.median(case, "host latency p99", &self.p99, "ms", only(6.0));
        figures.median(case, "host latency, longest", &self.longest, "ms", Target::None);
        for (values, (_, figure)) in self.stages.iter().zip(STAGES) {
            figures.median(case, figure, values, "ms", Target::None);
        }
        figures.median(case, "captured to last packet p99", &self.last_p99, "ms", Target::None);
        figures.median(case, "CPU of all planes in motion", &self.cpu, "% of a core", only(30.0));
    }
}
