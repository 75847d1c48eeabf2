//! `cargo xtask fuzz`: libFuzzer on the targets of `fuzz/`, on stable Rust.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use xtask::binaries::{root, run, target};

use crate::table;

/// Seconds for each target, unless asked otherwise.
pub const SECONDS: u32 = 60;
/// No stranger's message is longer.
const MAX_LEN: usize = 8192;
/// What libFuzzer steers by: which edges were taken how often, and what was compared with what. The names are LLVM's.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];
/// Named, so that the flags are not for build scripts and macros too.
fn triple() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// Runs the named targets, or all. With `keep`, what was found goes into the corpora in the tree.
pub fn fuzz(names: &[String], seconds: u32, keep: bool) -> Result<()> {
    let known = targets()?;
    let chosen = if names.is_empty() { known.clone() } else { names.to_vec() };
    for name in &chosen {
        ensure!(known.contains(name), "there is no target {name}; there are {}", known.join(", "));
    }
    let program = build()?;
    let mut rows = Vec::new();
    for name in &chosen {
        println!("── {name}: {seconds} s");
        rows.push(one(&program, name, seconds, keep)?);
    }
    table::print(&["target", "runs", "kept", "new"], &rows);
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

fn build() -> Result<PathBuf> {
    let directory = target().join("fuzz");
    run(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--package", "fuzz", "--bin", "fuzz", "--features", "libfuzzer", "--profile", "fuzz"])
        .args(["--target", &triple(), "--target-dir"])
        .arg(&directory)
        .env("RUSTFLAGS", COVERAGE.join(" ")))?;
    Ok(directory.join(triple()).join("fuzz/fuzz"))
}

/// One row of the table: name, runs, inputs in the tree, inputs found now.
fn one(program: &Path, name: &str, seconds: u32, keep: bool) -> Result<Vec<String>> {
    let kept = corpora().join(name);
    let found = target().join("fuzz/found").join(name);
    let broken = target().join("fuzz/broken").join(name);
    let log = target().join("fuzz").join(format!("{name}.log"));
    for directory in [&found, &broken] {
        fs::create_dir_all(directory)?;
    }
    let before = count(&found)?;
    let mut command = Command::new(program);
    command
        .args([format!("-max_total_time={seconds}"), format!("-max_len={MAX_LEN}"), "-timeout=10".into()])
        .args([format!("-artifact_prefix={}/", broken.display()), "-print_final_stats=1".into()])
        // What it says is a line for each new input; only its end matters.
        .args([&found, &kept])
        .env("LUMEN_FUZZ_TARGET", name)
        .stderr(fs::File::create(&log)?);
    if run(&mut command).is_err() {
        bail!("{name}: see {}; what did it is in {}", log.display(), broken.display());
    }
    let runs = statistic(&fs::read_to_string(&log)?, "stat::number_of_executed_units:");
    let new = count(&found)? - before;
    if keep {
        // Few, and only what reaches code that nothing before it has: how often does not count.
        let mut merge = Command::new(program);
        merge
            .args(["-set_cover_merge=1", "-use_counters=0"])
            .args([&kept, &found])
            .env("LUMEN_FUZZ_TARGET", name)
            .stderr(fs::File::create(&log)?);
        run(&mut merge)?;
    }
    Ok(vec![name.into(), runs, count(&kept)?.to_string(), new.to_string()])
}

fn count(directory: &Path) -> Result<usize> {
    Ok(fs::read_dir(directory)?.count())
}

fn statistic(log: &str, name: &str) -> String {
    log.lines().find_map(|line| line.strip_prefix(name)).map_or_else(|| "?".into(), |value| value.trim().into())
}
