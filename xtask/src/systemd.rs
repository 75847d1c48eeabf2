//! `cargo xtask systemd`: what systemd says of the units, and what it does with them.
//!
//! Reading them takes a second and no rights. `--boot` starts systemd as the first process of a container and installs Lumen
//! in it, which takes root and half a minute.

mod apart;
mod enforced;
mod guest;
mod heir;
mod lint;
mod machine;
mod reset;
mod trial;

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use xtask::binaries::{cargo, run, target};
use xtask::deps;

use self::machine::{Groups, Machine};

/// What is installed, and who watches.
const PROGRAMS: &[&str] =
    &["lumend", "lumen-capture", "lumen-encode", "lumen-net", "lumen-input", "lumen-audio", "lumen-client"];

/// Brings the units in line with the table of system calls, reads them, and boots them.
pub fn run_task(write: bool, boot: bool) -> Result<()> {
    if write {
        run(Command::new("cargo")
            .args(["test", "--quiet", "-p", "ipc", "--test", "units"])
            .env("LUMEN_WRITE_UNITS", "1"))?;
    }
    deps::ensure()?;
    lint::lint()?;
    if boot {
        let packages = PROGRAMS.iter().flat_map(|package| ["-p", package]);
        cargo(&["build", "--quiet"].into_iter().chain(packages).collect::<Vec<_>>())?;
        self::boot()?;
    }
    Ok(())
}

/// What `cargo xtask test` does of it.
pub fn test() -> Result<()> {
    lint::lint()?;
    if nix::unistd::geteuid().is_root() {
        return boot();
    }
    println!("   systemd as the first process of a container needs root; for that: sudo -E cargo xtask systemd --boot");
    Ok(())
}

/// The installed thing, run by systemd: for the machine and for a person.
pub fn boot() -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("systemd as the first process of a container needs root; run: sudo -E cargo xtask systemd --boot");
    }
    let [main, others @ ..] = Groups::here() else { bail!("no control groups") };
    on(*main, trial::run)?;
    // What holds there is of interest, as most machines have it so; the rest would only be the same again.
    others.iter().try_for_each(|groups| on(*groups, |_| Ok(())))
}

fn on(groups: Groups, work: impl FnOnce(&Machine) -> Result<()>) -> Result<()> {
    let start = Instant::now();
    let machine = Machine::boot(&target().join("debug"), groups)?;
    println!("   {groups}: systemd runs after {} ms", start.elapsed().as_millis());
    let ended = enforced::check(&machine, groups).and_then(|()| work(&machine));
    if ended.is_err() {
        eprintln!("{}", machine.journal(200));
    }
    ended
}
