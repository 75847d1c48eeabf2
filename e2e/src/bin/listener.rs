//! A full-screen Wayland client that logs every event it receives. Its picture stands still.

use std::fs::File;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use e2e::wayland::scene::{self, Pace};
use wayland_client::Connection;

/// Writes every pointer, keyboard and touch event of every seat, one JSON line each: ns (CLOCK_MONOTONIC when it was
/// received), seat, event, and what belongs to it.
#[derive(Parser)]
struct Arguments {
    /// Where the lines go.
    log: PathBuf,
    #[arg(long, default_value_t = 3600.0)]
    seconds: f64,
    /// The window's title, by which a test finds it.
    #[arg(long, default_value = "lumen listener")]
    title: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let log = File::create(&arguments.log).with_context(|| arguments.log.display().to_string())?;
    let compositor = Connection::connect_to_env().context("no compositor; set WAYLAND_DISPLAY")?;
    let length = Duration::try_from_secs_f64(arguments.seconds)?;
    scene::run(compositor, Pace::Still, length, &arguments.title, Some(log)).map(drop)
}
