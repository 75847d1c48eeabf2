//! Hands: from the client's call to the event at a window on headless sway.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::client::{Client, allow};
use xtask::echo::Echo;
use xtask::host::{Desktop, Host};
use xtask::stage::Stage;

use super::Effort;
use super::figure::{Figures, Target};
use super::sample::cpu_percent;

const SCREEN: (f64, f64) = (1280.0, 720.0);

/// 1000 events a second, half of them motions and half keys, onto a window that stands still and onto one that is
/// drawn 60 times a second. The second is for scale: while a compositor paints, it hands out no events.
pub fn measure(stage: &Stage, effort: Effort, figures: &mut Figures) -> Result<()> {
    for (case, window, limits) in [
        ("input at 1 kHz, still window", "listener", [Target::AtMost(1.0), Target::AtMost(4.0)]),
        ("input at 1 kHz, animated window", "scene --log", [Target::None, Target::None]),
    ] {
        let mut runs = Runs::default();
        for run in 0..effort.runs {
            eprintln!("{case}: run {} of {}", run + 1, effort.runs);
            runs.add(&drive(stage, window, effort)?)?;
        }
        runs.report(case, limits, figures);
    }
    Ok(())
}

/// What one run saw.
struct Driven {
    echo: Echo,
    cpu_percent: f64,
    report: Value,
}

fn drive(stage: &Stage, window: &str, effort: Effort) -> Result<Driven> {
    let (log, sent) = (stage.out("window.jsonl"), stage.out("sent.jsonl"));
    let exec = format!("{} {}", stage.program(window).display(), log.display());
    let host = Host::start(stage, Desktop::Sway, &format!("[desktop]\nexec = \"{exec}\""))?;
    allow(stage, &host, "bench")?;
    let script = stage.write("bench.script", &script(effort.seconds - 4))?;
    let text = |path: &std::path::Path| path.to_str().map(str::to_owned).context("the stage's name is not UTF-8");
    let (seconds, script, sent_text) = (effort.seconds.to_string(), text(&script)?, text(&sent)?);
    let arguments = ["--mode", "1280x720x60", "--seconds", &seconds, "--no-audio"];
    let hands = ["--input-script", &script, "--input-log", &sent_text];
    let client = Client::connect(stage, "bench", &host.address(), &[&arguments[..], &hands].concat())?;
    let moving = |status: &Value| status["sessions"][0]["input"]["events"].as_u64().unwrap_or(0) > 100;
    host.status_where(Duration::from_secs(10), moving).context("no input arrives")?;
    let cpu_percent = cpu_percent(&host.planes("input")?, Duration::from_secs(u64::from(effort.seconds) - 7))?;
    let report = client.succeed(Duration::from_secs(u64::from(effort.seconds) + 30))?;
    drop(host);
    let echo = Echo::read(&sent, &log, SCREEN, true)?;
    ensure!(echo.visible > 0, "the client sent nothing that a window can see");
    Ok(Driven { echo, cpu_percent, report })
}

/// To and fro, press and release, an event every millisecond.
fn script(seconds: u32) -> String {
    let mut script = String::from("0 at 0.5 0.5\n");
    for round in 0..seconds * 250 {
        let at = 100 + round * 4;
        let _ = writeln!(script, "{at} move 1 0\n{} key q down\n{} move -1 0\n{} key q up", at + 1, at + 2, at + 3);
    }
    script
}

/// One value a run and metric.
#[derive(Default)]
struct Runs {
    sent: Vec<f64>,
    missed: Vec<f64>,
    duplicated: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
    most: Vec<f64>,
    cpu: Vec<f64>,
    retransmitted: Vec<f64>,
}

impl Runs {
    fn add(&mut self, Driven { echo, cpu_percent, report }: &Driven) -> Result<()> {
        let milliseconds = |permille| super::stream::number(&echo.latency_us(permille)).map(|us| us / 1e3);
        self.sent.push(echo.visible as f64);
        self.missed.push((echo.visible - echo.seen) as f64);
        self.duplicated.push(echo.duplicated as f64);
        self.p50.push(milliseconds(500)?);
        self.p99.push(milliseconds(990)?);
        self.most.push(milliseconds(1000)?);
        self.cpu.push(*cpu_percent);
        self.retransmitted.push(super::stream::number(&report["input"]["retransmitted"])?);
        Ok(())
    }

    fn report(&self, case: &str, [p50, p99]: [Target; 2], figures: &mut Figures) {
        figures.median(case, "events sent", &self.sent, "events", Target::None);
        figures.median(case, "events not seen", &self.missed, "events", Target::AtMost(0.0));
        figures.median(case, "events seen twice", &self.duplicated, "events", Target::AtMost(0.0));
        figures.median(case, "events sent again", &self.retransmitted, "events", Target::None);
        figures.median(case, "sent to seen p50", &self.p50, "ms", p50);
        figures.median(case, "sent to seen p99", &self.p99, "ms", p99);
        figures.median(case, "sent to seen, longest", &self.most, "ms", Target::None);
        figures.median(case, "CPU of lumen-input", &self.cpu, "% of a core", Target::None);
    }
}
