//! The synthetic desktop: what the planes cost and lose when nothing else is in the way.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::binaries::Encoder;
use xtask::client::{Client, allow};
use xtask::host::{Desktop, Host};
use xtask::stage::Stage;

use super::figure::{Figures, Target};
use super::sample::Sample;
use super::{Effort, name};
use crate::demo::in_mid_stream;

/// 720p60, pattern, loopback: loss, rate, overhead of the planes, CPU and memory.
pub fn measure(stage: &Stage, encoder: Encoder, effort: Effort, figures: &mut Figures) -> Result<()> {
    let case = format!("pattern 720p60, {}", name(encoder));
    let mut runs = Runs::default();
    for run in 0..effort.runs {
        eprintln!("{case}: run {} of {}", run + 1, effort.runs);
        let host = Host::start(stage, Desktop::Pattern, "")?;
        runs.idle.push(Sample::take(&host, Duration::from_secs(4))?.cpu_percent);
        allow(stage, &host, "bench")?;
        let seconds = effort.seconds.to_string();
        let arguments = ["--mode", "1280x720x60", "--decode", "--seconds", &seconds];
        let client = Client::connect(stage, "bench", &host.address(), &arguments)?;
        let status = host.status_where(Duration::from_secs(10), in_mid_stream)?;
        let sample = Sample::take(&host, Duration::from_secs(u64::from(effort.seconds) - 5))?;
        let report = client.succeed(Duration::from_secs(u64::from(effort.seconds) + 30))?;
        let bitrate = number(&status["sessions"][0]["target_kbps"])?;
        runs.add(&report, sample, baseline(stage, effort, bitrate)?)?;
    }
    runs.report(&case, encoder, figures);
    Ok(())
}

/// One value a run and metric.
#[derive(Default)]
struct Runs {
    idle: Vec<f64>,
    lost: Vec<f64>,
    undecoded: Vec<f64>,
    disorder: Vec<f64>,
    fps: Vec<f64>,
    overhead_p50: Vec<f64>,
    overhead_p99: Vec<f64>,
    total_p50: Vec<f64>,
    total_p99: Vec<f64>,
    cpu: Vec<f64>,
    memory: Vec<f64>,
    ratio: Vec<f64>,
}

impl Runs {
    fn add(&mut self, report: &Value, sample: Sample, baseline_ms: f64) -> Result<()> {
        let frames = &report["frames"];
        let fps = number(&report["fps"])?;
        self.lost.push(number(&frames["lost"])?);
        self.undecoded.push(number(&frames["received"])? - number(&frames["decoded"])?);
        self.disorder.push(number(&frames["out_of_order"])?);
        self.fps.push(fps);
        let latency = &report["latency_us"];
        self.overhead_p50.push(number(&latency["overhead"]["p50"])? / 1000.0);
        self.overhead_p99.push(number(&latency["overhead"]["p99"])? / 1000.0);
        self.total_p50.push(number(&latency["capture_to_reassembled"]["p50"])? / 1000.0);
        self.total_p99.push(number(&latency["capture_to_reassembled"]["p99"])? / 1000.0);
        self.cpu.push(sample.cpu_percent);
        self.memory.push(sample.private_mib);
        // percent of a core over frames a second: 10 ms of CPU time per percent and second.
        self.ratio.push(sample.cpu_percent * 10.0 / fps / baseline_ms);
        Ok(())
    }

    fn report(&self, case: &str, encoder: Encoder, figures: &mut Figures) {
        let cpu_limit = if encoder == Encoder::X264 { 30.0 } else { 38.0 };
        figures.median(case, "frames lost", &self.lost, "frames", Target::AtMost(0.0));
        figures.median(case, "frames received but not decoded", &self.undecoded, "frames", Target::AtMost(0.0));
        figures.median(case, "frames out of order", &self.disorder, "frames", Target::AtMost(0.0));
        figures.median(case, "rate", &self.fps, "fps", Target::AtLeast(59.9));
        figures.median(case, "overhead of the planes p50", &self.overhead_p50, "ms", Target::AtMost(0.5));
        figures.median(case, "overhead of the planes p99", &self.overhead_p99, "ms", Target::AtMost(3.0));
        figures.median(case, "captured to reassembled p50", &self.total_p50, "ms", Target::None);
        figures.median(case, "captured to reassembled p99", &self.total_p99, "ms", Target::None);
        figures.median(case, "CPU of all planes in motion", &self.cpu, "% of a core", Target::AtMost(cpu_limit));
        figures.median(case, "CPU a frame over one process", &self.ratio, "ratio", Target::AtMost(1.30));
        figures.median(case, "private memory of all planes", &self.memory, "MiB", Target::AtMost(150.0));
        figures.median(case, "CPU without a session", &self.idle, "% of a core", Target::AtMost(0.5));
    }
}

/// CPU milliseconds a frame of drawing, converting and encoding the same frames at the same bitrate in one process.
fn baseline(stage: &Stage, effort: Effort, bitrate_kbps: f64) -> Result<f64> {
    let (frames, bitrate) = ((effort.seconds * 30).to_string(), bitrate_kbps.to_string());
    let arguments = ["--mode", "1280x720x60", "--frames", &frames, "--bitrate", &bitrate];
    let output = stage.command("baseline").args(arguments).output()?;
    ensure!(output.status.success(), "baseline: {}", String::from_utf8_lossy(&output.stderr).trim());
    let report: Value = serde_json::from_slice(&output.stdout)?;
    number(&report["cpu_ms_per_frame"])
}

/// A number that a report must have.
pub fn number(value: &Value) -> Result<f64> {
    value.as_f64().context("a figure is missing from a report")
}
