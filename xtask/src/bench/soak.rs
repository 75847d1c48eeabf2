//! A long session with picture, sound and hands: nothing in any process may grow.

mod growth;
mod plot;

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xtask::binaries::{Encoder, Profile, build, target};
use xtask::client::{Client, allow};
use xtask::deps;
use xtask::host::{Desktop, Host};
use xtask::process::{fds, private_bytes, threads, wait_until};
use xtask::sound::{Sound, Speakers};
use xtask::stage::Stage;

use super::{Files, write};
use crate::demo::in_mid_stream;
use growth::{FLAT_BYTES, Growth};

/// Ten minutes.
pub const SECONDS: u32 = 600;
const SHORTEST: u32 = 20;
/// Processes are looked at so often.
const EVERY: Duration = Duration::from_secs(3);

/// One process at one time.
pub struct Sample {
    pub seconds: f64,
    /// `lumend`, `client`, or a plane's name.
    pub process: String,
    pub pid: i32,
    pub private_bytes: u64,
    pub fds: usize,
    pub threads: usize,
}

/// Runs it, prints the table, draws the picture and writes the files. A process that grew is reported, not an error.
pub fn run(files: Files<'_>, seconds: u32) -> Result<()> {
    deps::ensure()?;
    let seconds = seconds.max(SHORTEST);
    let stage = Stage::new(&build(Profile::Release, Encoder::OpenH264)?)?;
    let sound = Sound::start(&stage, Speakers::Stereo)?;
    let _tone = sound.play(&stage, &["--step-hz", "220"])?;
    let config = format!("[desktop]\nexec = \"{}\"", stage.program("scene").display());
    let host = Host::start_named(&stage, "host", Some(Desktop::Sway), &sound.environment(), &config)?;
    allow(&stage, &host, "soak")?;
    let (samples, report) = stream(&stage, &host, seconds)?;
    drop(host);

    let growths = growth::of(&samples);
    growth::print(&growths, &report);
    let picture = draw(&samples)?;
    println!("wrote {}", picture.display());
    let whole = json!({
        "seconds": seconds,
        "flat": growths.iter().all(Growth::is_flat),
        "bounds": { "private_bytes": FLAT_BYTES, "fds": 0, "threads": 0 },
        "processes": growths.iter().map(Growth::json).collect::<Vec<_>>(),
        "samples": samples.iter().map(Sample::json).collect::<Vec<_>>(),
        "client": report,
    });
    write(files.json, serde_json::to_string_pretty(&whole)?)?;
    write(files.markdown, growth::markdown(&growths))
}

/// The session: what was sampled in it, and the client's report.
fn stream(stage: &Stage, host: &Host, seconds: u32) -> Result<(Vec<Sample>, Value)> {
    let script = stage.write("soak.script", &script(seconds))?;
    let (length, script) = (seconds.to_string(), script.to_str().context("the stage's name is not UTF-8")?);
    let arguments = ["--mode", "1280x720x60", "--seconds", &length, "--decode", "--input-script", script];
    let mut client = Client::connect(stage, "soak", &host.address(), &arguments)?;
    host.status_where(Duration::from_secs(20), |status| in_mid_stream(status) && is_whole(status))?;
    let (start, length) = (Instant::now(), Duration::from_secs(u64::from(seconds)));
    let mut samples = Vec::new();
    let mut due = Duration::ZERO;
    // The client ends the session; what is sampled ends some seconds before.
    while due + 2 * EVERY < length {
        let left = due.saturating_sub(start.elapsed());
        // A measured stretch of time, not a wait for something.
        std::thread::sleep(left);
        let at = start.elapsed().as_secs_f64();
        for (process, pid) in processes(host, client.running().pid())? {
            samples.push(Sample::take(at, process, pid).with_context(|| host.log())?);
        }
        eprint!("\r{at:.0} of {seconds} s ");
        due += EVERY;
    }
    eprintln!();
    let report = client.succeed(length + Duration::from_secs(30))?;
    Ok((samples, report))
}

/// Picture, sound and hands all flow.
fn is_whole(status: &Value) -> bool {
    let session = &status["sessions"][0];
    let flows = |value: &Value| value.as_u64().unwrap_or(0) > 50;
    flows(&session["audio"]["packets"]) && flows(&session["input"]["events"])
}

/// Every process of Lumen's by name.
fn processes(host: &Host, client: i32) -> Result<Vec<(String, i32)>> {
    let whole = || {
        let status = host.status().ok()?;
        let planes = status["planes"].as_array()?;
        let named =
            planes.iter().map(|plane| Some((plane["plane"].as_str()?.to_owned(), plane["pid"].as_i64()? as i32)));
        named.collect::<Option<Vec<_>>>()
    };
    // A plane that is being replaced has no pid for a moment.
    let mut all = wait_until(Duration::from_secs(5), whole).context("a plane does not come back")?;
    ensure!(!all.is_empty(), "the host has no planes");
    all.insert(0, ("lumend".into(), host.pid()));
    all.push(("client".into(), client));
    Ok(all)
}

/// The processes sampled, in the order in which they were first seen.
fn names(samples: &[Sample]) -> Vec<&str> {
    let mut names = Vec::new();
    for sample in samples {
        if !names.contains(&sample.process.as_str()) {
            names.push(sample.process.as_str());
        }
    }
    names
}

/// What hands do every fifth of a second, 10 ms apart: all that they can but gamepads, whose kernel device few machines
/// let a test make.
const ROUND: [&str; 20] = [
    "key a down",
    "key a up",
    "key leftshift down",
    "key b down",
    "key b up",
    "key leftshift up",
    "button left down",
    "button left up",
    "scroll 120",
    "scroll -120",
    "hscroll 15",
    "hscroll -15",
    "at 0.25 0.75",
    "move 3 0",
    "move 0 -3",
    "touch 0 down 0.2 0.3",
    "touch 0 move 0.3 0.3",
    "touch 0 up",
    "text ü",
    "text 京",
];

/// A hundred events a second until shortly before the end.
fn script(seconds: u32) -> String {
    let mut script = String::new();
    for round in 0..(seconds - 2) * 5 {
        for (at, event) in (round * 200..).step_by(10).zip(ROUND) {
            let _ = writeln!(script, "{at} {event}");
        }
    }
    script
}

/// Writes the picture to `target/soak`.
fn draw(samples: &[Sample]) -> Result<PathBuf> {
    let directory = target().join("soak");
    fs::create_dir_all(&directory)?;
    let file = directory.join("soak.svg");
    fs::write(&file, plot::memory(samples)).with_context(|| file.display().to_string())?;
    Ok(file)
}

impl Sample {
    fn take(seconds: f64, process: String, pid: i32) -> Result<Self> {
        let gone = || format!("{process} {pid} went away");
        let private_bytes = private_bytes(pid).with_context(gone)?;
        let (fds, threads) = (fds(pid).with_context(gone)?, threads(pid).with_context(gone)?);
        Ok(Self { seconds, process, pid, private_bytes, fds, threads })
    }

    fn json(&self) -> Value {
        json!({
            "seconds": (self.seconds * 10.0).round() / 10.0, "process": self.process, "pid": self.pid,
            "private_bytes": self.private_bytes, "fds": self.fds, "threads": self.threads,
        })
    }
}
