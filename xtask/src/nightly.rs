//! What takes too long for every change, and the document that tells its last result.

mod record;

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;
use xtask::binaries::{Profile, run, target};
use xtask::chaos::command::MODE;
use xtask::chaos::{self, Blow, Manner, Plane, Rig, Scene, Storm};

use crate::bench::{self, Files};
use crate::fuzz::{self, Build, Order};
use crate::suite::{self, step};
use record::Record;

/// Kills of each plane for the table, and of all together for the search for leaks.
pub const KILLS: usize = 100;
pub const STORM: usize = 1000;
/// Kills of each plane by every other signal.
const OTHERS: usize = 4;
/// Those whose end lumend has to find out, or to read from something else than SIGKILL.
const PLANES: [Plane; 5] = [Plane::Encode, Plane::Capture, Plane::Audio, Plane::Input, Plane::Net];
/// For each fuzz target.
pub const FUZZ_SECONDS: u32 = 60;
/// Of each property test.
pub const CASES: u32 = 20_000;

/// A part of the night.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Part {
    /// Everything that must hold before a change lands
    Test,
    /// The chaos table
    Chaos,
    /// The search for leaks
    Leaks,
    /// Ten minutes in which no process may grow
    Soak,
    /// Property tests with many cases
    Property,
    /// libFuzzer on every parser
    Fuzz,
    /// Every figure of docs/benchmarks.md, printed
    Bench,
}

/// How much of it.
#[derive(Clone, Debug)]
pub struct Effort {
    /// All, if empty.
    pub only: Vec<Part>,
    pub kills: usize,
    pub storm: usize,
    /// Of the stream in which nothing dies.
    pub soak_seconds: u32,
    /// Of each property test.
    pub cases: u32,
    /// For each target.
    pub fuzz_seconds: u32,
}

/// Runs the parts, one after the other, and writes what they have shown into docs/reliability.md. A missed target is
/// written down, not an error; a test that fails is one.
pub fn nightly(effort: &Effort) -> Result<()> {
    let wanted = |part| effort.only.is_empty() || effort.only.contains(&part);
    let record = Record::open()?;
    if wanted(Part::Test) {
        suite::test()?;
    }
    if wanted(Part::Chaos) {
        step("chaos", || table(effort.kills, &record))?;
    }
    if wanted(Part::Leaks) {
        step("leaks", || leaks(effort.storm, &record))?;
    }
    if wanted(Part::Soak) {
        step("soak", || soak(effort.soak_seconds, &record))?;
    }
    if wanted(Part::Property) {
        step("long property tests", || property(effort.cases, &record))?;
    }
    if wanted(Part::Fuzz) {
        step("fuzzing", || {
            let (seconds, build) = (effort.fuzz_seconds, Build::Thorough);
            fuzz::fuzz(&Order { targets: &[], seconds, build, keep: false, json: None })?;
            let text = format!("{} targets, {seconds} s each: nothing found.", fuzz::targets()?.len());
            record.write("fuzz", &text)
        })?;
    }
    if wanted(Part::Bench) {
        step("benchmarks", || bench::run(Files::default(), 3, bench::SECONDS, &[]))?;
    }
    Ok(())
}

fn table(kills: usize, record: &Record) -> Result<()> {
    let rig = Rig::new(Profile::Release, MODE, Vec::new())?;
    let seed = record.seed();
    let mut rows = chaos::run(&rig, &chaos::plan(&[], Scene::Moving, kills), Manner { blow: Blow::Kill, seed });
    for blow in [Blow::Stop, Blow::Segv] {
        rows.extend(chaos::run(&rig, &chaos::plan(&PLANES, Scene::Moving, OTHERS.min(kills)), Manner { blow, seed }));
    }
    chaos::print(&rows);
    std::fs::write(target().join("chaos.json"), serde_json::to_string_pretty(&chaos::json(&rows))?)?;
    record.write("chaos", &chaos::markdown(&rows))
}

fn leaks(kills: usize, record: &Record) -> Result<()> {
    let rig = Rig::new(Profile::Release, MODE, Vec::new())?;
    let storm: Storm = chaos::storm(&rig, Scene::Moving, kills, record.seed())?;
    println!("{}", storm.line());
    let lost = storm.lost.iter().map(|why| format!("\n* session lost {why}"));
    record.write("leaks", &format!("{}.{}", storm.line(), lost.collect::<String>()))
}

fn soak(seconds: u32, record: &Record) -> Result<()> {
    let file = target().join("soak.md");
    bench::soak::run(Files { json: None, markdown: Some(&file) }, seconds)?;
    record.write("soak", &std::fs::read_to_string(&file)?)
}

fn property(cases: u32, record: &Record) -> Result<()> {
    let mut tests = Command::new("cargo");
    run(tests.args(["test", "--workspace", "--exclude", "e2e"]).env("PROPTEST_CASES", cases.to_string()))?;
    record.write("property", &format!("{cases} cases of each: none failed."))
}
