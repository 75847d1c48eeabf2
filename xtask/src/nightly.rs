//! What takes too long for every change, and the document that tells its last result.

mod night;
mod property;
mod record;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;
use xtask::binaries::{Profile, target};
use xtask::chaos::command::MODE;
use xtask::chaos::{self, Blow, Manner, Plane, Rig, Scene, Storm};

use crate::bench::{self, Files};
use crate::fuzz::{self, Build, Order};
use crate::suite;
use night::{Night, Shown};
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
/// A soak that is shorter cannot tell growth from a process that is still warming up: what it shows is no failure.
const SOAK_THAT_TELLS: u32 = 180;
/// Of each case of the benchmark.
const BENCH_RUNS: usize = 3;

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

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Test => "test",
            Self::Chaos => "chaos",
            Self::Leaks => "leaks",
            Self::Soak => "soak",
            Self::Property => "property",
            Self::Fuzz => "fuzz",
            Self::Bench => "bench",
        }
    }

    /// It has a place of its own in docs/reliability.md, under its name.
    const fn has_a_place(self) -> bool {
        !matches!(self, Self::Test | Self::Bench)
    }

    /// The command that does the same again.
    fn command(self, effort: &Effort) -> String {
        let much = match self {
            Self::Test | Self::Bench => String::new(),
            Self::Chaos => format!(" --kills {}", effort.kills),
            Self::Leaks => format!(" --storm {}", effort.storm),
            Self::Soak => format!(" --soak-seconds {}", effort.soak_seconds),
            Self::Property => format!(" --cases {}", effort.cases),
            Self::Fuzz => format!(" --fuzz-seconds {}", effort.fuzz_seconds),
        };
        format!("cargo xtask nightly --only {}{much}", self.name())
    }

    fn play(self, effort: &Effort, seed: u64) -> Result<Shown> {
        match self {
            Self::Test => suite::test().map(|()| Shown::right("")),
            Self::Chaos => table(effort.kills, seed),
            Self::Leaks => leaks(effort.storm, seed),
            Self::Soak => soak(effort.soak_seconds),
            Self::Property => property::run(effort.cases),
            Self::Fuzz => fuzzing(effort.fuzz_seconds),
            Self::Bench => bench::run(Files::default(), BENCH_RUNS, bench::SECONDS, &[])
                .map(|()| Shown::right("printed, not judged")),
        }
    }
}

/// Runs the parts, one after the other, each whatever came of those before, and writes what each has shown into
/// docs/reliability.md as soon as it is over.
///
/// # Errors
/// At the end, in one line: the parts that could not be done, and what was not as it must be in the others; a missed target
/// of the chaos table too.
pub fn nightly(effort: &Effort) -> Result<()> {
    let mut night = Night::new(Record::open()?);
    for part in Part::value_variants() {
        if effort.only.is_empty() || effort.only.contains(part) {
            night.part(*part, effort, |seed| part.play(effort, seed));
        }
    }
    night.end(effort.only.is_empty())
}

fn table(kills: usize, seed: u64) -> Result<Shown> {
    let rig = Rig::new(Profile::Release, MODE, Vec::new())?;
    let mut rows = chaos::run(&rig, &chaos::plan(&[], Scene::Moving, kills), Manner { blow: Blow::Kill, seed });
    for blow in [Blow::Stop, Blow::Segv] {
        rows.extend(chaos::run(&rig, &chaos::plan(&PLANES, Scene::Moving, OTHERS.min(kills)), Manner { blow, seed }));
    }
    chaos::print(&rows);
    std::fs::write(target().join("chaos.json"), serde_json::to_string_pretty(&chaos::json(&rows))?)?;
    Ok(Shown { text: chaos::markdown(&rows), wrong: rows.iter().filter_map(chaos::Row::failure).collect() })
}

fn leaks(kills: usize, seed: u64) -> Result<Shown> {
    let rig = Rig::new(Profile::Release, MODE, Vec::new())?;
    let storm: Storm = chaos::storm(&rig, Scene::Moving, kills, seed)?;
    println!("{}", storm.line());
    let lost: String = storm.lost.iter().map(|why| format!("\n* session lost {why}")).collect();
    let wrong = (!storm.is_sound()).then(|| "the storm has left something behind, or sessions were lost".to_owned());
    Ok(Shown { text: format!("{}.{lost}", storm.line()), wrong: wrong.into_iter().collect() })
}

fn soak(seconds: u32) -> Result<Shown> {
    let [markdown, json] = ["soak.md", "soak.json"].map(|name| target().join(name));
    bench::soak::run(Files { json: Some(&json), markdown: Some(&markdown) }, seconds)?;
    let whole: Value = serde_json::from_str(&std::fs::read_to_string(&json)?)?;
    let flat = whole["flat"].as_bool().context("the soak does not say whether anything grew")?;
    let mut text = std::fs::read_to_string(&markdown)?;
    let tells = seconds >= SOAK_THAT_TELLS;
    if !tells {
        text += "\nToo short to tell growth from a process that is still warming up.\n";
    }
    let wrong = (!flat && tells).then(|| "a process has grown".to_owned());
    Ok(Shown { text, wrong: wrong.into_iter().collect() })
}

fn fuzzing(seconds: u32) -> Result<Shown> {
    let build = Build::Thorough;
    fuzz::fuzz(&Order { targets: &[], seconds, build, keep: false, json: None })?;
    Ok(Shown::right(&format!("{} targets, {seconds} s each: nothing found.", fuzz::targets()?.len())))
}
