//! The main job, shown: a desktop, through the planes, to a client that decodes every frame.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xtask::binaries::{Encoder, Profile, build, target};
use xtask::client::{Client, allow};
use xtask::deps;
use xtask::host::{Desktop, Host};
use xtask::stage::Stage;

use crate::table;

const MODE: &str = "1280x720x60";

pub fn run(desktop: Desktop, seconds: u32, json: Option<&Path>) -> Result<()> {
    deps::ensure()?;
    eprintln!("building (the first time takes some minutes)");
    let stage = Stage::new(&build(Profile::Release, Encoder::OpenH264)?)?;
    let host = Host::start(&stage, desktop, &scene_config(&stage))?;
    allow(&stage, &host, "demo")?;
    eprintln!("host {} up; streaming {MODE} for {seconds} s", host.address());

    let length = seconds.to_string();
    let (picture, stream) = (stage.out("demo.png"), stage.out("demo.h264"));
    let fingerprint = host.fingerprint()?;
    let arguments = ["--mode", MODE, "--seconds", &length, "--decode", "--pin", &fingerprint];
    let files = ["--png", path(&picture)?, "--out", path(&stream)?];
    let client = Client::connect(&stage, "demo", &host.address(), &[&arguments[..], &files[..]].concat())?;
    let status = host.status_where(Duration::from_secs(u64::from(seconds)), in_mid_stream)?;
    let report = client.succeed(Duration::from_secs(u64::from(seconds) + 30))?;
    drop(host);

    let artefacts = keep(&[&picture, &stream])?;
    print(&report, &status);
    for artefact in &artefacts {
        println!("wrote {}", artefact.display());
    }
    if let Some(file) = json {
        let whole = json!({ "client": report, "status": status, "artefacts": artefacts });
        fs::write(file, serde_json::to_string_pretty(&whole)?).with_context(|| file.display().to_string())?;
        println!("wrote {}", file.display());
    }
    let decoded = report["frames"]["decoded"].as_u64().unwrap_or(0);
    ensure!(decoded > 0, "the client decoded nothing");
    Ok(())
}

/// Configuration of a host whose own desktop shows the animated window for as long as it runs.
pub fn scene_config(stage: &Stage) -> String {
    format!("[desktop]\nexec = \"{}\"", stage.program("scene").display())
}

/// A session that has sent for two seconds or more: its quantiles are filled.
pub fn in_mid_stream(status: &Value) -> bool {
    status["sessions"][0]["frames"]["sent"].as_u64().unwrap_or(0) >= 120
}

/// Copies what a stage will take with it to `target/demo`.
fn keep(files: &[&Path]) -> Result<Vec<PathBuf>> {
    let directory = target().join("demo");
    fs::create_dir_all(&directory)?;
    let mut kept = Vec::new();
    for file in files {
        let copy = directory.join(file.file_name().context("an artefact has a name")?);
        fs::copy(file, &copy).with_context(|| format!("the client wrote no {}", file.display()))?;
        kept.push(copy);
    }
    Ok(kept)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("the stage's name is not UTF-8")
}

fn print(report: &Value, status: &Value) {
    let session = &status["sessions"][0];
    let (frames, packets) = (&report["frames"], &report["packets"]);
    println!(
        "\n{} {} by {}: {} frames decoded of {} received, {} lost, {} errors, {} packets lost, longest gap {} ms",
        session["protocol"].as_str().unwrap_or("?"),
        report["codec"].as_str().unwrap_or("?"),
        session["encoder"].as_str().unwrap_or("?"),
        frames["decoded"],
        frames["received"],
        frames["lost"],
        frames["decode_errors"],
        packets["lost"],
        report["gaps_ms"]["max"],
    );
    println!();
    let host = &session["latency_us"];
    let seen = &report["latency_us"];
    let rows = [
        ("captured → taken by encode", &host["capture_wait"]),
        ("converted to I420", &host["convert"]),
        ("encoded", &host["encode"]),
        ("protected and sent", &host["send"]),
        ("captured → last packet sent", &host["total"]),
        ("captured → reassembled by the client", &seen["capture_to_reassembled"]),
        ("drawn by the application → decoded", &seen["drawn_to_decoded"]),
    ];
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|(stage, quantiles)| {
            let mut row = vec![(*stage).to_string()];
            row.extend(["p50", "p95", "p99"].map(|key| milliseconds(&quantiles[key])));
            row
        })
        .collect();
    table::print(&["stage, ms", "p50", "p95", "p99"], &rows);
    println!();
}

/// Microseconds as milliseconds, or a dash where there is no such figure.
fn milliseconds(microseconds: &Value) -> String {
    microseconds.as_f64().map_or_else(|| "–".into(), |value| format!("{:.2}", value / 1000.0))
}
