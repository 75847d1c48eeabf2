//! The main job, shown: a desktop, its picture, sound and hands, through the planes, to a client that decodes it all.

mod print;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xtask::binaries::{Encoder, Profile, build, target};
use xtask::client::{Client, allow};
use xtask::deps;
use xtask::echo::Echo;
use xtask::host::{Desktop, Host};
use xtask::sound::{Sound, Speakers};
use xtask::stage::Stage;

const MODE: &str = "1280x720x60";
/// What is played: the client must hear this.
const TONE_HZ: &str = "440";
/// What hands did to the window.
const WINDOW_LOG: &str = "window.jsonl";

pub fn run(desktop: Desktop, seconds: u32, json: Option<&Path>) -> Result<()> {
    deps::ensure()?;
    eprintln!("building (the first time takes some minutes)");
    let stage = Stage::new(&build(Profile::Release, Encoder::OpenH264)?)?;
    let sound = Sound::start(&stage, Speakers::Stereo)?;
    let _tone = sound.play(&stage, &["--hz", TONE_HZ])?;
    let host = Host::start_named(&stage, "host", Some(desktop), &sound.environment(), &window(&stage))?;
    allow(&stage, &host, "demo")?;
    eprintln!("host {} up; streaming {MODE} for {seconds} s", host.address());

    let length = seconds.to_string();
    let [picture, stream, heard, sent] =
        ["demo.png", "demo.h264", "demo.wav", "sent.jsonl"].map(|name| stage.out(name));
    let fingerprint = host.fingerprint()?;
    let arguments = ["--mode", MODE, "--seconds", &length, "--decode", "--pin", &fingerprint, "--input-test"];
    let files = ["--png", path(&picture)?, "--out", path(&stream)?];
    let logs = ["--audio-out", path(&heard)?, "--input-log", path(&sent)?];
    let client = Client::connect(&stage, "demo", &host.address(), &[&arguments[..], &files, &logs].concat())?;
    let status = host.status_where(Duration::from_secs(u64::from(seconds)), in_mid_stream)?;
    let mut report = client.succeed(Duration::from_secs(u64::from(seconds) + 30))?;
    drop(host);
    let seen = match desktop {
        Desktop::Sway => Some(echo(&report, &status, &sent, &stage.out(WINDOW_LOG))?),
        Desktop::Pattern => None,
    };
    add(&mut report["input"], seen.as_ref());

    let artefacts = keep(&[&picture, &stream, &heard])?;
    print::all(&report, &status);
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

/// Configuration of a host whose own desktop shows the animated window, which logs what hands do to it.
fn window(stage: &Stage) -> String {
    let (scene, log) = (stage.program("scene"), stage.out(WINDOW_LOG));
    format!("[desktop]\nexec = \"{} --log {}\"", scene.display(), log.display())
}

/// A session that has sent for two seconds or more: its quantiles are filled.
pub fn in_mid_stream(status: &Value) -> bool {
    status["sessions"][0]["frames"]["sent"].as_u64().unwrap_or(0) >= 120
}

/// What the window saw of the events that the client sent.
fn echo(report: &Value, status: &Value, sent: &Path, window: &Path) -> Result<Echo> {
    let side = |key: &str| report["mode"][key].as_f64().context("the report has no mode");
    let emulated = status["sessions"][0]["input"]["touch"] == "emulated";
    Echo::read(sent, window, (side("width")?, side("height")?), emulated)
}

/// Puts it beside what the client itself counted; nulls where there was no window.
fn add(input: &mut Value, seen: Option<&Echo>) {
    input["visible"] = json!(seen.map(|echo| echo.visible));
    input["seen"] = json!(seen.map(|echo| echo.seen));
    input["duplicated"] = json!(seen.map(|echo| echo.duplicated));
    input["missed"] = json!(seen.map(|echo| &echo.missed));
    input["latency_us"] = latency(seen);
}

fn latency(seen: Option<&Echo>) -> Value {
    let quantile = |permille| json!(seen.map(|echo| echo.latency_us(permille)));
    json!({ "p50": quantile(500), "p95": quantile(950), "p99": quantile(990) })
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
