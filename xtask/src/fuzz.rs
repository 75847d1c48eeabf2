//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, on stable Rust.

mod build;
mod run;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread::{available_parallelism, scope};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use xtask::binaries::{root, target};

pub use self::build::Build;
use self::run::Outcome;
use crate::table;

/// Seconds for each target, unless asked otherwise.
pub const SECONDS: u32 = 60;

/// What to do.
pub struct Order<'a> {
    /// All, if none is named.
    pub targets: &'a [String],
    /// For each target.
    pub seconds: u32,
    pub build: Build,
    /// What was found goes into the corpora in the tree.
    pub keep: bool,
    /// Where to write the table as JSON.
    pub json: Option<&'a Path>,
}

/// Runs the targets, one on each processor at a time, and prints a table.
///
/// # Errors
/// Says of each target that something broke what it was, and how it becomes a regression test.
pub fn fuzz(order: &Order<'_>) -> Result<()> {
    let known = targets()?;
    for name in order.targets {
        ensure!(known.contains(name), "there is no target {name}; there are {}", known.join(", "));
    }
    let names = if order.targets.is_empty() { known } else { order.targets.to_vec() };
    let program = build::build(order.build)?;
    let outcomes = run_all(&program, &names, order)?;
    let cells = |outcome: &Outcome| {
        let kept = (outcome.kept.to_string(), outcome.new.to_string());
        let broken = outcome.broken.len().to_string();
        vec![outcome.target.clone(), outcome.runs.to_string(), outcome.edges.to_string(), kept.0, kept.1, broken]
    };
    table::print(
        &["target", "runs", "edges", "kept", "new", "broken"],
        &outcomes.iter().map(cells).collect::<Vec<_>>(),
    );
    if let Some(file) = order.json {
        let rows: Vec<Value> = outcomes.iter().map(|outcome| row(outcome, order.seconds)).collect();
        let text = serde_json::to_string_pretty(&rows)? + "\n";
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let broken: Vec<_> = outcomes.iter().filter(|outcome| !outcome.broken.is_empty()).collect();
    if !broken.is_empty() {
        let said: Vec<String> = broken.iter().map(|outcome| advice(outcome, &program)).collect();
        bail!("{} of {} targets broke\n{}", broken.len(), outcomes.len(), said.join("\n"));
    }
    Ok(())
}

/// Every target has a corpus of its name; a test of `fuzz` sees to it.
pub fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(corpora())? {
        names.push(entry?.file_name().into_string().ok().context("a corpus' name is not UTF-8")?);
    }
    names.sort();
    Ok(names)
}

fn corpora() -> PathBuf {
    root().join("fuzz/corpus")
}

/// Where everything lies that is not kept in the tree.
fn work() -> PathBuf {
    target().join("fuzz")
}

fn run_all(program: &Path, names: &[String], order: &Order<'_>) -> Result<Vec<Outcome>> {
    let left = Mutex::new(names.iter());
    let outcomes = Mutex::new(Vec::new());
    let next = || left.lock().ok()?.next();
    let work = || {
        while let Some(name) = next() {
            println!("── {name}: {} s", order.seconds);
            let outcome = run::one(program, name, order);
            if let Ok(mut outcomes) = outcomes.lock() {
                outcomes.push(outcome);
            }
        }
    };
    scope(|scope| {
        for _ in 0..available_parallelism().map_or(1, usize::from).min(names.len()) {
            scope.spawn(work);
        }
    });
    let outcomes = outcomes.into_inner().ok().context("a target was not run to its end")?;
    let mut outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    outcomes.sort_by(|one, other| one.target.cmp(&other.target));
    Ok(outcomes)
}

fn row(outcome: &Outcome, seconds: u32) -> Value {
    json!({
        "target": outcome.target,
        "seconds": seconds,
        "runs": outcome.runs,
        "edges": outcome.edges,
        "kept": outcome.kept,
        "new": outcome.new,
        "broken": outcome.broken,
    })
}

/// What broke a target, and what to do about it.
fn advice(outcome: &Outcome, program: &Path) -> String {
    let target = &outcome.target;
    let mut lines = vec![format!("{target}: {}", outcome.why)];
    for input in &outcome.broken {
        let name = input.file_name().unwrap_or_default().display();
        lines.push(format!("  once more:  LUMEN_FUZZ_TARGET={target} {} {}", program.display(), input.display()));
        lines.push("  kept as a regression test, which every `cargo test -p fuzz` replays, by".into());
        lines.push(format!("              cp {} fuzz/corpus/{target}/{name}", input.display()));
    }
    lines.join("\n")
}
