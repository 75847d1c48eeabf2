//! Holds what a client has shown against what it should have shown; see `e2e::replay`.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Parser;
use e2e::replay::{Recording, lines};

/// Prints one JSON object: how many pictures were judged, their worst errors, and those that are not what they should be;
/// and `sees`: whether pictures would have been found that build on one that is missing, or on a still desktop pictures
/// that show something else (null if it has neither).
#[derive(Parser)]
struct Arguments {
    /// What the client wrote with --out
    stream: PathBuf,
    /// What it wrote with --trace in the same run
    trace: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let open = |path: &Path| File::open(path).map(BufReader::new).with_context(|| path.display().to_string());
    let trace = lines(open(&arguments.trace)?)?;
    let recording = Recording::read(open(&arguments.stream)?, trace)?;
    let mut verdict = recording.judge()?.json();
    verdict["sees"] = recording.sees().into();
    println!("{verdict}");
    Ok(())
}
