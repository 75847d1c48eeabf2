//! What the end-to-end tests begin with and look at.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::binaries::{Encoder, Profile, build};
use xtask::client::{Client, Report, allow};
use xtask::host::Host;
use xtask::stage::Stage;

/// The mode of most tests: small enough for a loaded machine with unoptimised builds.
pub const MODE: &str = "640x360x60";

/// A stage with freshly built programs.
pub fn stage() -> Result<Stage> {
    Stage::new(&build(Profile::Dev, Encoder::OpenH264)?)
}

/// A stage for hosts whose desktop shows the animated scene.
pub fn scene(stage: &Stage, arguments: &str) -> String {
    format!("[desktop]\nexec = \"{} {arguments}\"", stage.program("scene").display())
}

/// One line of a client's `--trace`: one delivered frame.
#[derive(Clone, Debug)]
pub struct Traced {
    pub generation: u64,
    pub number: u64,
    pub idr: bool,
    pub recovered: bool,
    /// By the host's clock.
    pub captured_ns: u64,
    pub reassembled_ns: u64,
    pub decoded_ns: Option<u64>,
    /// The number in the pixels.
    pub stamp: Option<u64>,
}

/// Starts an allowed client that decodes and traces.
pub fn watch<'a>(stage: &'a Stage, host: &Host, identity: &str, seconds: u32, more: &[&str]) -> Result<Client<'a>> {
    allow(stage, host, identity)?;
    let seconds = seconds.to_string();
    let trace = stage.out(&format!("{identity}.trace"));
    let trace = trace.to_str().context("the stage's name is not UTF-8")?;
    let arguments = ["--mode", MODE, "--decode", "--seconds", &seconds, "--trace", trace];
    Client::connect(stage, identity, &host.address(), &[&arguments[..], more].concat())
}

/// The trace that a client left.
pub fn trace(stage: &Stage, identity: &str) -> Result<Vec<Traced>> {
    let text = std::fs::read_to_string(stage.out(&format!("{identity}.trace")))?;
    text.lines().map(|line| traced(&serde_json::from_str(line)?)).collect()
}

fn traced(line: &Value) -> Result<Traced> {
    let number = |key: &str| line[key].as_u64().with_context(|| format!("no {key} in the trace line {line}"));
    Ok(Traced {
        generation: number("generation")?,
        number: number("number")?,
        idr: line["idr"].as_bool().context("no idr")?,
        recovered: line["recovered"].as_bool().context("no recovered")?,
        captured_ns: number("captured_ns")?,
        reassembled_ns: number("reassembled_ns")?,
        decoded_ns: line["decoded_ns"].as_u64(),
        stamp: line["stamp"]["number"].as_u64(),
    })
}

/// Every delivered frame decoded, each generation began with an IDR and went on without a hole or a step back.
pub fn sound(frames: &[Traced]) -> Result<()> {
    ensure!(!frames.is_empty(), "no frames");
    let mut last: Option<&Traced> = None;
    for frame in frames {
        ensure!(frame.decoded_ns.is_some(), "frame {}/{} was not decoded", frame.generation, frame.number);
        match last {
            Some(before) if before.generation == frame.generation => {
                ensure!(frame.number > before.number, "{frame:?} after {before:?}");
                ensure!(frame.idr || frame.number == before.number + 1, "an undecodable {frame:?} after {before:?}");
            }
            Some(before) => {
                ensure!(frame.generation > before.generation && frame.idr, "{frame:?} after {before:?}");
            }
            None => ensure!(frame.idr, "the first frame is no IDR: {frame:?}"),
        }
        last = Some(frame);
    }
    Ok(())
}

/// Milliseconds from the last good frame of a generation to the first of the next, for each change.
pub fn hiccups(frames: &[Traced]) -> Vec<f64> {
    let pairs = frames.iter().zip(frames.iter().skip(1));
    let changes = pairs.filter(|(before, after)| before.generation != after.generation);
    changes.map(|(before, after)| (after.reassembled_ns - before.reassembled_ns) as f64 / 1e6).collect()
}

/// Pid of every running plane by `plane/session`.
pub fn pids(host: &Host) -> Result<BTreeMap<String, i64>> {
    let status = host.status()?;
    let planes = status["planes"].as_array().context("status has no planes")?;
    Ok(planes
        .iter()
        .filter_map(|plane| {
            let name = format!("{}/{}", plane["plane"].as_str()?, plane["session"]);
            Some((name, plane["pid"].as_i64()?))
        })
        .collect())
}

/// Waits until another process runs in the place of `pid`, and asserts that every other plane kept its own.
pub fn only_replaced(host: &Host, plane: &str, pid: i32, before: &BTreeMap<String, i64>) -> Result<()> {
    let after = host.status_where(Duration::from_secs(5), |status| {
        let planes = status["planes"].as_array().map(Vec::as_slice).unwrap_or_default();
        planes
            .iter()
            .any(|entry| entry["plane"] == plane && entry["pid"] != i64::from(pid) && entry["state"] == "running")
    })?;
    for entry in after["planes"].as_array().context("status has no planes")? {
        let name = format!("{}/{}", entry["plane"].as_str().unwrap_or("?"), entry["session"]);
        let kept = before.get(&name).is_some_and(|pid| entry["pid"] == *pid);
        ensure!(kept == (entry["plane"] != plane), "{name}: {before:?} then {after:#}");
    }
    Ok(())
}

/// The pid of a descendant by its name, however deep.
pub fn child_named(pid: i32, name: &str) -> Result<i32> {
    child_running(pid, name, "")
}

/// The same, of one whose command line contains this.
pub fn child_running(pid: i32, name: &str, argument: &str) -> Result<i32> {
    let named = |child: &i32| {
        let read = |file: &str| std::fs::read(format!("/proc/{child}/{file}")).unwrap_or_default();
        let (comm, line) = (read("comm"), read("cmdline"));
        String::from_utf8_lossy(&comm).trim() == name && String::from_utf8_lossy(&line).contains(argument)
    };
    descendants(pid).into_iter().find(named).with_context(|| format!("no {name} {argument} runs below {pid}"))
}

/// The pids of all descendants.
pub fn descendants(pid: i32) -> Vec<i32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|word| word.parse::<i32>().ok()));
        next += 1;
    }
    found.split_off(1)
}

/// Waits until some session has sent this many frames in all.
pub fn wait_for_frames(host: &Host, frames: u64) -> Result<Value> {
    host.status_where(Duration::from_secs(20), |status| {
        status["sessions"][0]["frames"]["sent"].as_u64().unwrap_or(0) >= frames
    })
}

/// Waits until no session and no plane but net is left.
pub fn wait_for_nothing(host: &Host, limit: Duration) -> Result<()> {
    host.status_where(limit, |status| {
        let sessions = status["sessions"].as_array().is_some_and(Vec::is_empty);
        let planes = status["planes"].as_array();
        sessions && planes.is_some_and(|planes| planes.iter().all(|plane| plane["plane"] == "net"))
    })
    .map(drop)
}

/// The exit code of a client and the one line it said.
pub fn refusal(report: &Report) -> (Option<i32>, String) {
    (report.status.code(), report.stderr.trim().to_string())
}
