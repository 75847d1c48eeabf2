//! The supervisor of Lumen and its command line. See ARCHITECTURE.md for the processes and who holds what.
//!
//! `unsafe` lives in `reach.rs` and `launcher/compositor.rs` alone.
#![deny(unsafe_code)]

mod book;
mod cli;
mod clients;
mod commands;
mod config;
mod daemon;
mod desktop;
mod door;
mod durable;
mod failure;
mod host;
mod identity;
mod launcher;
mod machine;
mod outputs;
mod places;
mod plumb;
mod reach;
mod run;
mod sockets;
mod status;
mod swayipc;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use cli::{Cli, Command};
use failure::Failure;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("lumend: {failure}");
            ExitCode::from(failure.exit)
        }
    }
}

fn start(cli: Cli) -> Result<ExitCode, Failure> {
    let (runtime, state) = (places::runtime(cli.runtime), places::state(cli.state));
    match cli.command {
        Command::Run { spawn: _, desktop, config } => {
            let filter = EnvFilter::try_from_env("LUMEN_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
            run::run(config, desktop.map(Into::into), &runtime, &state)?;
        }
        Command::Launcher { exec } => return Ok(launcher::run(&runtime, &exec)),
        command => commands::run(&command, &runtime, &state)?,
    }
    Ok(ExitCode::SUCCESS)
}
