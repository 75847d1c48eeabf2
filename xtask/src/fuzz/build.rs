//! Builds the program that libFuzzer drives.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;
use xtask::binaries::{root, run, target};

use super::work;

/// How it is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Build {
    /// Beside what tests are made of: only this project's own crates are compiled once more, with counters
    Quick,
    /// Optimised, and libFuzzer sees into the libraries too; takes minutes at first
    Thorough,
}

/// Flags for rustc: libFuzzer steers by which edges were taken how often, and by what was compared with what.
const COVERAGE: &str = "fuzz/sancov.args";
/// Gives them to the project's own crates alone.
const WRAPPER: &str = "fuzz/rustc-counted.sh";

/// The flags themselves: with the file's path among them, every other checkout's libraries would be others.
fn coverage() -> Result<String> {
    let path = root().join(COVERAGE);
    let flags = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(flags.split_whitespace().collect::<Vec<_>>().join(" "))
}

pub fn build(build: Build) -> Result<PathBuf> {
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    match build {
        Build::Quick => {
            // The same choice of packages as for the tests' programs: with another one some libraries would have other
            // features, and be compiled once more.
            run(cargo()
                .args(["build", "--quiet", "--workspace", "--exclude", "xtask"])
                .args(["--bin", "fuzz", "--features", "fuzz/libfuzzer"])
                .env("RUSTC_WORKSPACE_WRAPPER", root().join(WRAPPER)))?;
            Ok(target().join("debug/fuzz"))
        }
        Build::Thorough => {
            // Named, so that the flags are not for build scripts and macros too.
            let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
            run(cargo()
                .args(["build", "--package", "fuzz", "--bin", "fuzz", "--features", "libfuzzer", "--profile", "fuzz"])
                .args(["--target", &triple, "--target-dir"])
                .arg(work())
                .env("RUSTFLAGS", coverage()?))?;
            Ok(work().join(triple).join("fuzz/fuzz"))
        }
    }
}
