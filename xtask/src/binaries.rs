//! Builds the programs that a stage needs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};

/// Which encoder lumen-encode is built with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoder {
    /// The default build.
    OpenH264,
    /// With `--features x264` (GPL), into a target directory of its own.
    X264,
}

/// Tests run what `cargo test` builds anyway; demos and measurements run what users run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    const fn directory(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Every program a host and its tests run.
const PROGRAMS: &[&str] =
    &["lumend", "lumen-capture", "lumen-encode", "lumen-net", "lumen-input", "lumen-audio", "lumen-client"];
const INSTRUMENTS: &[&str] = &["scene", "floor", "baseline", "tone", "listener", "guest", "judge"];

/// In the environment of tests that `cargo xtask test` runs: everything is built.
pub const BUILT: &str = "LUMEN_BUILT";
static ALL_BUILT: AtomicBool = AtomicBool::new(false);

/// From now on this process takes the programs that tests use as they are.
pub fn all_built() {
    ALL_BUILT.store(true, Ordering::Relaxed);
}

fn is_all_built() -> bool {
    std::env::var_os(BUILT).is_some() || ALL_BUILT.load(Ordering::Relaxed)
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace")
}

/// The target directory in use.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Builds every program, unless `cargo xtask test` has just built what tests use; returns their paths.
pub fn build(profile: Profile, encoder: Encoder) -> Result<Vec<PathBuf>> {
    if profile == Profile::Release || !is_all_built() {
        build_into(profile, &["--workspace", "--bins", "--exclude", "xtask"], &target())?;
    }
    let mut paths: Vec<PathBuf> =
        PROGRAMS.iter().chain(INSTRUMENTS).map(|name| target().join(profile.directory()).join(name)).collect();
    if encoder == Encoder::X264 {
        // A directory of its own, so that the default build stays free of GPL code.
        let other = target().join("x264");
        build_into(profile, &["-p", "lumen-encode", "-p", "e2e", "--bins", "--features", "lumen-encode/x264"], &other)?;
        for path in &mut paths {
            if path.ends_with("lumen-encode") || path.ends_with("baseline") {
                let name = path.file_name().context("a program has a name")?.to_owned();
                *path = other.join(profile.directory()).join(name);
            }
        }
    }
    Ok(paths)
}

fn build_into(profile: Profile, what: &[&str], target: &Path) -> Result<()> {
    let mut arguments = vec!["build", "--quiet"];
    if profile == Profile::Release {
        arguments.push("--release");
    }
    arguments.extend(what);
    arguments.extend(["--target-dir", target.to_str().context("the target directory's name is not UTF-8")?]);
    cargo(&arguments)
}

/// Runs cargo in the repository's root.
pub fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args(arguments))
}

/// Runs a command in the repository's root and fails with its name if it fails.
pub fn run(command: &mut Command) -> Result<()> {
    if is_all_built() {
        command.env(BUILT, "1");
    }
    let status = command.current_dir(root()).status().with_context(|| format!("{command:?} does not run"))?;
    if !status.success() {
        bail!("failed: {command:?}");
    }
    Ok(())
}
