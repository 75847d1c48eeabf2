//! The test suites.

use std::process::Command;
use std::time::Instant;

use anyhow::Result;
use xtask::binaries::{Encoder, Profile, build, cargo, run, target};
use xtask::deps;

use crate::fuzz::{self, Build, Order};

/// For each target: enough to see that all of them still work.
const FUZZ_SECONDS: u32 = 5;

/// Everything that must hold before a change lands.
pub fn test() -> Result<()> {
    deps::ensure()?;
    step("format", || cargo(&["fmt", "--all", "--check"]))?;
    step("lint", || {
        cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
        let x264 = ["-p", "lumen-encode", "--features", "x264"];
        cargo(&[&["clippy", "--quiet", "--all-targets"], &x264[..], &["--", "-D", "warnings"]].concat())
    })?;
    step("build", || build(Profile::Dev, Encoder::OpenH264).map(drop))?;
    step("unit and property tests", || cargo(&["test", "--workspace", "--exclude", "e2e"]))?;
    step("fuzzing", || {
        let order = Order { targets: &[], seconds: FUZZ_SECONDS, build: Build::Quick, keep: false, json: None };
        fuzz::fuzz(&order)
    })?;
    step("unit tests of the x264 encoder", || cargo(&["test", "-p", "lumen-encode", "--features", "x264"]))?;
    step("model checks", loom)?;
    step("devices of a real kernel, in a virtual machine", crate::vm::test)?;
    step("system calls that the planes need", || crate::syscalls::report(None))?;
    step("units, in a container whose first process is systemd", crate::systemd::test)?;
    // One at a time: each of them runs a desktop, an encoder and a decoder.
    step("end-to-end tests", || cargo(&["test", "-p", "e2e", "--", "--test-threads=1"]))
}

/// Mailbox and ring under every interleaving that loom can reach.
fn loom() -> Result<()> {
    run(Command::new("cargo")
        .args(["test", "-p", "ipc", "--release", "--test", "loom"])
        .env("RUSTFLAGS", "--cfg loom")
        .env("CARGO_TARGET_DIR", target().join("loom")))
}

/// Does one part of a suite, and says which and how long it took.
pub fn step(name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("── {name}");
    let start = Instant::now();
    work()?;
    println!("── {name}: {} s", start.elapsed().as_secs());
    Ok(())
}
