//! Which lines of the sandbox's table the planes need, by tracing them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use xtask::binaries::{Encoder, Profile, build, run, target};

/// Prints the report. Fails if a line of the table is neither needed nor excused.
pub fn report(json: Option<&Path>) -> Result<()> {
    build(Profile::Dev, Encoder::OpenH264)?;
    let mut command = Command::new(target().join("debug/syscalls"));
    if let Some(path) = json {
        command.arg("--json").arg(std::path::absolute(path).context("no such place")?);
    }
    run(&mut command)
}
