//! `cargo xtask`: everything one does to this repository, as a command.

#![forbid(unsafe_code)]

mod bench;
mod demo;
mod fuzz;
mod suite;
mod systemd;
mod table;
mod vm;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use bench::Files;
use clap::{Parser, Subcommand, ValueEnum};
use xtask::deps;
use xtask::host::Desktop;

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
    /// Format, lint, unit, property and loom tests, tests in a virtual machine, end-to-end tests
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
    /// Feed the parsers of what strangers send with libFuzzer's inputs (needs a C++ compiler)
    Fuzz {
        /// All, unless named; they are the directories of fuzz/corpus
        targets: Vec<String>,
        /// For each target
        #[arg(long, default_value_t = fuzz::SECONDS)]
        seconds: u32,
        /// Add what reaches new code to the corpora in the tree, which the tests replay
        #[arg(long)]
        keep: bool,
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
    /// What takes too long for every change: the benchmark, fuzzing and long runs of the property tests
    Nightly,
}

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
        Task::Fuzz { targets, seconds, keep } => fuzz::fuzz(&targets, seconds, keep),
        Task::Systemd { write, boot } => systemd::run_task(write, boot),
        Task::Nightly => suite::nightly(),
    }
}
