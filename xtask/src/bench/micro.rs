//! The micro-benchmarks, run by criterion and read from what it leaves behind.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::binaries::{run, target};

use super::figure::{Figures, Target};

/// Criterion's name of a case, the figure's name, and its target in microseconds.
const CASES: &[(&str, &str, Target)] = &[
    ("wire/packetise, protect and seal 80 kB", "packetise, protect and seal an 80 kB frame", Target::AtMost(60.0)),
    ("wire/open and reassemble 80 kB", "open and reassemble it without loss", Target::AtMost(60.0)),
    ("wire/open, recover and reassemble 80 kB with 20 % lost", "open, recover and reassemble it, 20 % lost", RECOVER),
    ("parity/of 80 kB, the best kernel", "parity of an 80 kB frame for a Moonlight client", Target::AtMost(10.0)),
    ("gamestream/packetise and protect 80 kB, in clear", "packetise and protect it", Target::None),
    ("gamestream/packetise and protect 80 kB, encrypted", "packetise, protect and encrypt it", Target::None),
    ("handover/eventfd_processes", "bare eventfd between two processes", Target::None),
    ("handover/mailbox_processes", "mailbox between two processes", Target::None),
    ("handover/ring_processes", "ring between two processes", Target::None),
    ("handover/eventfd_uncontended", "bare eventfd in one process", Target::None),
    ("handover/mailbox_uncontended", "mailbox in one process", Target::None),
    ("handover/ring_uncontended", "ring in one process", Target::None),
];

const RECOVER: Target = Target::AtMost(250.0);

pub fn measure(figures: &mut Figures) -> Result<()> {
    for (package, bench) in [("lumen-core", "wire"), ("ipc", "handover")] {
        eprintln!("micro-benchmarks of {package}");
        let effort = ["--noplot", "--warm-up-time", "1", "--measurement-time", "3"];
        let mut command = Command::new("cargo");
        command.args(["bench", "--quiet", "-p", package, "--bench", bench, "--"]).args(effort);
        run(command.stdout(Stdio::null()).stderr(Stdio::null()))?;
    }
    for (case, metric, target) in CASES {
        let microseconds = median_ns(case)? / 1000.0;
        figures.median("micro", metric, &[microseconds], "µs", *target);
    }
    Ok(())
}

/// Criterion's median of a case, in nanoseconds.
fn median_ns(case: &str) -> Result<f64> {
    let (group, name) = case.split_once('/').context("a case is GROUP/NAME")?;
    let directory: PathBuf = target().join("criterion").join(group).join(name);
    let file = directory.join("new/estimates.json");
    let text = fs::read_to_string(&file).with_context(|| format!("criterion left no {}", file.display()))?;
    let estimates: Value = serde_json::from_str(&text)?;
    estimates["median"]["point_estimate"].as_f64().context("criterion's estimates have no median")
}
