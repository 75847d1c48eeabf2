//! The test suites.

mod lanes;
pub mod programs;
mod times;

use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};
use xtask::binaries::{all_built, cargo, run, target};
use xtask::deps;

use self::programs::Program;
use self::times::Times;
use crate::fuzz::{self, Build, Order};

/// For each target: enough to see that all of them still work.
const FUZZ_SECONDS: u32 = 5;
/// The encoder that is not built by default.
const X264: &[&str] = &["-p", "lumen-encode", "--features", "x264"];
/// Programs of unit tests that run at once; each runs as many of its tests at once as there are processors.
const UNIT_LANES: usize = 2;
/// Programs of end-to-end tests that run at once, each one test at a time. A host that streams 640x360 to a client that
/// decodes takes a quarter of a core.
const LANES: usize = 3;
/// End-to-end tests that have the machine to themselves: they are about how soon something is over, or about memory.
const ALONE: &[&str] = &["chaos", "hang"];
/// Those that take longest begin, so that no lane is left with one of them at the end.
const LONG: &[&str] =
    &["restart", "audio", "guest", "guest_restart", "guest_hostile", "guest_sound", "desktops", "input"];

/// Everything that must hold before a change lands.
pub fn test() -> Result<()> {
    let mut times = Times::default();
    deps::ensure()?;
    // The virtual machine's kernel comes from the network meanwhile.
    let kernel = thread::spawn(crate::vm::prepare);
    times.step("format", || cargo(&["fmt", "--all", "--check"]))?;
    times.step("lint", || {
        let lint =
            |what: &[&str]| cargo(&[&["clippy", "--quiet", "--all-targets"], what, &["--", "-D", "warnings"]].concat());
        lint(&["--workspace"])?;
        lint(X264)
    })?;
    let mut programs = Vec::new();
    times.step("build", || {
        programs = programs::build(&[])?;
        all_built();
        Ok(())
    })?;
    let (whole, unit): (Vec<&Program>, Vec<&Program>) = programs.iter().partition(|program| program.package == "e2e");
    times.step("unit and property tests", || {
        lanes::run(unit, UNIT_LANES, &[])?;
        cargo(&["test", "--quiet", "--workspace", "--doc"])
    })?;
    times.step("fuzzing", || {
        let order = Order { targets: &[], seconds: FUZZ_SECONDS, build: Build::Quick, keep: false, json: None };
        fuzz::fuzz(&order)
    })?;
    times.step("unit tests of the x264 encoder", x264)?;
    times.step("model checks", loom)?;
    times.step("devices of a real kernel, in a virtual machine", || {
        kernel.join().map_err(|_| anyhow!("nothing fetched a kernel"))??;
        crate::vm::test()
    })?;
    times.step("system calls that the planes need", || crate::syscalls::report(None))?;
    times.step("units, in a container whose first process is systemd", crate::systemd::test)?;
    let (alone, mut beside): (Vec<&Program>, Vec<&Program>) =
        whole.into_iter().partition(|program| ALONE.contains(&&*program.name));
    beside.sort_by_key(|program| LONG.iter().position(|name| *name == program.name).unwrap_or(LONG.len()));
    times.step("end-to-end tests, side by side", || lanes::run(beside, LANES, &["--test-threads=1"]))?;
    times.step("end-to-end tests, one at a time", || lanes::run(alone, 1, &["--test-threads=1"]))
}

/// The tests of lumen-encode once more, with the encoder that is not built by default.
fn x264() -> Result<()> {
    cargo(&[&["test"], X264].concat())?;
    // Back to the programs without code under the GPL.
    programs::build(&[]).map(drop)
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
