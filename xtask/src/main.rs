//! `cargo xtask`: everything one does to this repository, as a command.

#![forbid(unsafe_code)]

mod bench;
mod demo;
mod fuzz;
mod nightly;
mod suite;
mod syscalls;
mod systemd;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bench::Files;
use clap::{Parser, Subcommand, ValueEnum};
use xtask::binaries::Profile;
use xtask::chaos::command::Command;
use xtask::chaos::{Blow, Plane, Scene, Setting};
use xtask::host::Desktop;
use xtask::{deps, table};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Set up, show, test and measure Lumen", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// List the Debian packages Lumen needs; as root, install what is missing
    Deps,
    /// Stream a real desktop to the reference client on this machine and print where the time goes
    Demo {
        /// `sway`: a headless compositor with an animated window. `pattern`: the synthetic desktop
        #[arg(long, value_enum, default_value = "sway")]
        desktop: Show,
        #[arg(long, default_value_t = 10)]
        seconds: u32,
        /// Write client report and host status as JSON
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Format, lint, unit, property and loom tests, fuzzing, a virtual machine, units in a container, end-to-end tests
    Test,
    /// Boot a stock Debian kernel in a virtual machine and test gamepads, touch screen, mouse and keyboard on it
    TestVm,
    /// Measure every figure of docs/benchmarks.md
    Bench {
        /// Instead: one long session with picture, sound and hands, in which no process may grow
        #[arg(long, conflicts_with_all = ["runs", "only"])]
        soak: bool,
        /// Write the figures as JSON
        #[arg(long)]
        json: Option<PathBuf>,
        /// Write the tables of docs/benchmarks.md
        #[arg(long)]
        markdown: Option<PathBuf>,
        /// Runs of each case, of which the median counts
        #[arg(long, default_value_t = 3)]
        runs: usize,
        /// Seconds of each stream [default: 30; with --soak 600]
        #[arg(long)]
        seconds: Option<u32>,
        /// Only this part; may be given several times
        #[arg(long, value_enum, value_name = "PART")]
        only: Vec<bench::Part>,
    },
    /// Feed libFuzzer's inputs to whatever reads bytes of strangers, clients or other planes (needs a C++ compiler)
    #[command(after_help = FUZZ)]
    Fuzz {
        /// All, unless named; they are the directories of fuzz/corpus
        targets: Vec<String>,
        /// For each target; as many run at a time as there are processors
        #[arg(long, default_value_t = fuzz::SECONDS)]
        seconds: u32,
        #[arg(long, value_enum, default_value = "thorough")]
        build: fuzz::Build,
        /// Add what reaches new code to the corpora in the tree, which the tests replay
        #[arg(long)]
        keep: bool,
        /// Write the table as JSON
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Kill planes of running sessions at random moments, and print what their clients noticed: the chaos table
    #[command(after_help = CHAOS)]
    Chaos {
        /// Whom to kill; may be given several times [default: every row of the table]
        #[arg(long, value_enum, value_name = "PLANE")]
        plane: Vec<Plane>,
        /// Kills of each
        #[arg(long, default_value_t = 20)]
        kills: usize,
        #[arg(long, value_enum, default_value = "KILL")]
        signal: Blow,
        /// `sway`: a headless compositor with an animated window. `pattern`: the synthetic desktop
        #[arg(long, value_enum, default_value = "sway")]
        desktop: Show,
        /// A window that stands still
        #[arg(long, conflicts_with = "desktop")]
        still: bool,
        /// Instead: so many kills in all, of whatever runs, as fast as it comes back; what is left behind is what counts
        #[arg(long, conflicts_with_all = ["plane", "signal"])]
        fast: bool,
        /// With the programs that tests use, which are built sooner and are slower
        #[arg(long)]
        debug: bool,
        /// Of the moments and the order of kills
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Write the table as JSON
        #[arg(long)]
        json: Option<PathBuf>,
        /// Write the table of docs/reliability.md
        #[arg(long)]
        markdown: Option<PathBuf>,
        /// A setting of the host's, for example encode.standby=true; may be given several times
        #[arg(long, value_name = "SECTION.KEY=VALUE")]
        config: Vec<Setting>,
    },
    /// Trace the planes through sessions of every kind, and report which lines of the sandbox's table they need
    Syscalls {
        /// Write the report as JSON
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Ask systemd what it says of the units: that it understands each line, and how far each unit is exposed
    Systemd {
        /// First bring the units in line with the planes' table of system calls
        #[arg(long)]
        write: bool,
        /// Then boot systemd in a container, install Lumen in it, stream, and kill every plane and lumend; needs root
        #[arg(long)]
        boot: bool,
    },
    /// What takes too long for every change: tests, a hundred kills a plane, a thousand in search of leaks, a soak,
    /// fuzzing, long property tests, the benchmark; the last result stands in docs/reliability.md
    Nightly {
        /// Only this part; may be given several times
        #[arg(long, value_enum, value_name = "PART")]
        only: Vec<nightly::Part>,
        /// Kills of each plane for the chaos table
        #[arg(long, default_value_t = nightly::KILLS)]
        kills: usize,
        /// Kills in search of leaks
        #[arg(long, default_value_t = nightly::STORM)]
        storm: usize,
        /// Seconds of the soak
        #[arg(long, default_value_t = bench::soak::SECONDS)]
        soak_seconds: u32,
        /// Cases of each property test
        #[arg(long, default_value_t = nightly::CASES)]
        cases: u32,
        /// Seconds for each fuzz target
        #[arg(long, default_value_t = nightly::FUZZ_SECONDS)]
        fuzz_seconds: u32,
    },
}

const FUZZ: &str = "\
Examples:
  cargo xtask fuzz --seconds 5 --build quick
      what `cargo xtask test` does
  cargo xtask fuzz --seconds 3600 --keep ring_reader mailbox_reader
      an hour for each of the two, and new inputs into fuzz/corpus

What breaks a target is in target/fuzz/broken; the last lines say how it becomes a regression test. Exit code 1: there is
such a thing.";

const CHAOS: &str = "\
Examples:
  cargo xtask chaos --plane encode --kills 100 --json chaos.json
      what a client misses when the encoder dies
  cargo xtask chaos --plane capture --still
      the same of capture, on a desktop that stands still
  cargo xtask chaos --plane encode --signal STOP
      an encoder that hangs
  cargo xtask chaos --fast --kills 1000
      whether anything is left behind

Gaps are milliseconds without a new picture (audio: sound, input: keys at a window) beyond the regular interval.
A missed target is reported; exit code 1 means that a session was lost, a picture was wrong, or something leaked.";

#[derive(Clone, Copy, ValueEnum)]
enum Show {
    Sway,
    Pattern,
}

impl From<Show> for Desktop {
    fn from(show: Show) -> Self {
        match show {
            Show::Sway => Self::Sway,
            Show::Pattern => Self::Pattern,
        }
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Deps => {
            deps::list();
            deps::ensure()
        }
        Task::Demo { desktop, seconds, json } => demo::run(desktop.into(), seconds, json.as_deref()),
        Task::Test => suite::test(),
        Task::TestVm => vm::test(),
        Task::Bench { soak: true, json, markdown, seconds, .. } => {
            let files = Files { json: json.as_deref(), markdown: markdown.as_deref() };
            bench::soak::run(files, seconds.unwrap_or(bench::soak::SECONDS))
        }
        Task::Bench { json, markdown, runs, seconds, only, .. } => {
            let files = Files { json: json.as_deref(), markdown: markdown.as_deref() };
            bench::run(files, runs, seconds.unwrap_or(bench::SECONDS), &only)
        }
        Task::Fuzz { targets, seconds, build, keep, json } => {
            fuzz::fuzz(&fuzz::Order { targets: &targets, seconds, build, keep, json: json.as_deref() })
        }
        Task::Chaos { plane, kills, signal, desktop, still, fast, debug, seed, json, markdown, config } => {
            let scene = match desktop {
                Show::Sway if still => Scene::Still,
                Show::Sway => Scene::Moving,
                Show::Pattern => Scene::Pattern,
            };
            let planes = plane;
            let (json, markdown) = (json.as_deref(), markdown.as_deref());
            let profile = if debug { Profile::Dev } else { Profile::Release };
            Command { profile, planes, kills, blow: signal, scene, fast, seed, settings: config, json, markdown }.run()
        }
        Task::Syscalls { json } => syscalls::report(json.as_deref()),
        Task::Systemd { write, boot } => systemd::run_task(write, boot),
        Task::Nightly { only, kills, storm, soak_seconds, cases, fuzz_seconds } => {
            nightly::nightly(&nightly::Effort { only, kills, storm, soak_seconds, cases, fuzz_seconds })
        }
    }
}
