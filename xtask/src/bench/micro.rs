//! The micro-benchmarks, run by criterion and read from what it leaves behind.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::Value;
use xtask::binaries::{cargo, target};

use super::figure::{Figures, Target};

/// Criterion's name of a case, the figure's name, and its target in microseconds.
const CASES: &[(&str, &str, Target)] = &[
    ("wire/send 80 kB", "packetise, protect and seal an 80 kB frame", Target::AtMost(60.0)),
    ("wire/receive 80 kB", "open and reassemble it without loss", Target::AtMost(60.0)),
    ("wire/recover 80 kB", "open and reassemble it with 20 % lost", Target::AtMost(250.0)),
    ("handover/eventfd", "bare eventfd there and back", Target::None),
    ("handover/mailbox", "mailbox hand-over there and back", Target::None),
    ("handover/ring", "ring hand-over there and back", Target::None),
];

pub fn measure(figures: &mut Figures) -> Result<()> {
    cargo(&["bench", "-p", "lumen-core", "--bench", "wire", "--", "--noplot", "--quiet"])?;
    cargo(&["bench", "-p", "ipc", "--bench", "handover", "--", "--noplot", "--quiet"])?;
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
