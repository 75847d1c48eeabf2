//! Sound: from a program of the desktop's to the client's decoded samples, and what the audio plane costs.

mod pulses;

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::client::{Client, allow};
use xtask::host::{Desktop, Host};
use xtask::sound::{Sound, Speakers};
use xtask::stage::Stage;

use super::Effort;
use super::figure::{Figures, Target};
use super::sample::cpu_percent;
use super::stream::number;

const CASE: &str = "sound, stereo";
/// Of each stretch of CPU time that is measured.
const STRETCH: Duration = Duration::from_secs(8);

/// Pulses that are timed, then a tone and silence whose cost is measured; beside a stream of 720p60 each.
pub fn measure(stage: &Stage, effort: Effort, figures: &mut Figures) -> Result<()> {
    let sound = Sound::start(stage, Speakers::Stereo)?;
    let mut runs = Runs::default();
    for run in 0..effort.runs {
        eprintln!("{CASE}: run {} of {}", run + 1, effort.runs);
        let host = Host::start_named(stage, "host", Some(Desktop::Pattern), &sound.environment(), "")?;
        allow(stage, &host, "bench")?;
        runs.pulses(stage, &host, &sound, effort)?;
        let tone = sound.play(stage, &["--step-hz", "220"])?;
        runs.cpu.push(cost(stage, &host)?);
        drop(tone);
        runs.cpu_silent.push(cost(stage, &host)?);
    }
    runs.report(figures);
    Ok(())
}

/// CPU of the audio plane in percent of a core, with whatever is played now.
fn cost(stage: &Stage, host: &Host) -> Result<f64> {
    let seconds = (STRETCH.as_secs() + 4).to_string();
    let arguments = ["--mode", "1280x720x60", "--seconds", &seconds];
    let client = Client::connect(stage, "bench", &host.address(), &arguments)?;
    let pids = sounding(host)?;
    let percent = cpu_percent(&pids, STRETCH)?;
    client.succeed(STRETCH + Duration::from_secs(30))?;
    host.status_where(Duration::from_secs(10), |status| status["sessions"].as_array().is_some_and(Vec::is_empty))?;
    Ok(percent)
}

/// Waits until a session's sound flows; returns the pids of its audio plane.
fn sounding(host: &Host) -> Result<Vec<i32>> {
    let flows = |status: &Value| status["sessions"][0]["audio"]["packets"].as_u64().unwrap_or(0) > 100;
    host.status_where(Duration::from_secs(20), flows).context("no sound flows")?;
    host.planes("audio")
}

/// One value a run and metric.
#[derive(Default)]
struct Runs {
    quantum: Vec<f64>,
    heard: Vec<f64>,
    missed: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    captured_p50: Vec<f64>,
    captured_p99: Vec<f64>,
    jitter_p50: Vec<f64>,
    jitter_p99: Vec<f64>,
    lost: Vec<f64>,
    cpu: Vec<f64>,
    cpu_silent: Vec<f64>,
}

impl Runs {
    fn pulses(&mut self, stage: &Stage, host: &Host, sound: &Sound, effort: Effort) -> Result<()> {
        let (played, trace) = (stage.out("pulses"), stage.out("sound.jsonl"));
        let text = |path: &std::path::Path| path.to_str().map(str::to_owned).context("the stage's name is not UTF-8");
        let tone = sound.play(stage, &["--pulses", &text(&played)?])?;
        let (seconds, traced) = (effort.seconds.to_string(), text(&trace)?);
        let arguments = ["--mode", "1280x720x60", "--seconds", &seconds, "--audio-trace", &traced];
        let client = Client::connect(stage, "bench", &host.address(), &arguments)?;
        let report = client.succeed(Duration::from_secs(u64::from(effort.seconds) + 30))?;
        drop(tone);
        let heard = pulses::read(&played, &trace)?;
        self.quantum.push(heard.quantum_ms);
        self.heard.push(heard.latency_ms.len() as f64);
        self.missed.push(heard.missed as f64);
        self.p50.push(heard.quantile(500)?);
        self.p99.push(heard.quantile(990)?);
        let audio = &report["audio"];
        self.captured_p50.push(number(&audio["capture_to_decoded_us"]["p50"])? / 1e3);
        self.captured_p99.push(number(&audio["capture_to_decoded_us"]["p99"])? / 1e3);
        self.jitter_p50.push(number(&audio["jitter_ms"]["p50"])?);
        self.jitter_p99.push(number(&audio["jitter_ms"]["p99"])?);
        self.lost.push(number(&audio["lost"])? + number(&audio["late"])?);
        Ok(())
    }

    fn report(&self, figures: &mut Figures) {
        figures.median(CASE, "PipeWire's quantum", &self.quantum, "ms", Target::None);
        figures.median(CASE, "pulses heard", &self.heard, "pulses", Target::None);
        figures.median(CASE, "pulses not heard", &self.missed, "pulses", Target::AtMost(0.0));
        figures.median(CASE, "packets lost or late", &self.lost, "packets", Target::AtMost(0.0));
        figures.median(CASE, "played to decoded p50", &self.p50, "ms", Target::AtMost(25.0));
        figures.median(CASE, "played to decoded p99", &self.p99, "ms", Target::None);
        figures.median(CASE, "captured to decoded p50", &self.captured_p50, "ms", Target::None);
        figures.median(CASE, "captured to decoded p99", &self.captured_p99, "ms", Target::None);
        figures.median(CASE, "jitter p50", &self.jitter_p50, "ms", Target::None);
        figures.median(CASE, "jitter p99", &self.jitter_p99, "ms", Target::AtMost(5.0));
        figures.median(CASE, "CPU of lumen-audio", &self.cpu, "% of a core", Target::AtMost(4.0));
        figures.median(CASE, "CPU of lumen-audio in silence", &self.cpu_silent, "% of a core", Target::AtMost(2.0));
    }
}
