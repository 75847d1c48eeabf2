//! The supervisor of Lumen and its command line. See ARCHITECTURE.md for the processes and who holds what.
//!
//! `unsafe` lives in `reach/child.rs`, `reach/pidfd.rs`, `uinput.rs` and `launcher/compositor.rs` alone.
#![deny(unsafe_code)]

mod apps;
mod book;
mod cli;
mod clients;
mod commands;
mod config;
mod daemon;
mod desktop;
mod discovery;
mod door;
mod durable;
mod failure;
mod gamestream;
mod grumbles;
mod host;
mod identity;
mod input_test;
mod install;
mod keep;
mod keymap;
mod launcher;
mod log;
mod machine;
mod notify;
mod outputs;
mod pairing;
mod permit;
mod places;
mod plumb;
mod rate;
mod reach;
mod run;
mod security;
mod signer;
mod sockets;
mod sound;
mod status;
mod swayipc;
mod uinput;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use cli::{Cli, Command};
use failure::Failure;
use sockets::Kept;

fn main() -> ExitCode {
    match parse().and_then(start) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("lumend: {failure}");
            ExitCode::from(failure.exit)
        }
    }
}

/// Help and versions are printed as they are; an error is one line, like all of lumend's.
fn parse() -> Result<Cli, Failure> {
    Cli::try_parse().map_err(|error| {
        if !error.use_stderr() {
            error.exit();
        }
        if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
            return Failure::new(2, "name a command, such as `lumend run --spawn`; see `lumend --help`");
        }
        let text = error.to_string();
        let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
        let what = lines.filter(|line| !line.is_empty() && !line.starts_with("For more")).collect::<Vec<_>>().join(" ");
        Failure::new(2, format!("{}; see `lumend --help`", what.trim_start_matches("error: ")))
    })
}

fn start(cli: Cli) -> Result<ExitCode, Failure> {
    let (runtime, state) = (places::runtime(cli.runtime), places::state(cli.state));
    match cli.command {
        Command::Run { spawn, desktop, config, desktops, undo } => {
            // Before anything is opened.
            let kept = Kept::new(ipc::inherited::kept());
            log::begin();
            let desktops = desktops.unwrap_or_else(|| runtime.clone());
            let undo = undo.unwrap_or_else(|| state.join(run::UNDO));
            let places = run::Places { runtime: &runtime, state: &state, desktops: &desktops, undo: &undo };
            run::run(config, desktop.map(Into::into), spawn, places, kept)?;
        }
        Command::InputTest { json, config } => input_test::run(config, &runtime, json)?,
        Command::Launcher { exec: None, .. } => return launcher::run_served(&runtime, &state),
        Command::Launcher { exec: Some(exec), seats, number, bare, undo, apps } => {
            let place = if bare { launcher::Place::Bare } else { launcher::Place::Own };
            let setup = launcher::Setup { place, exec: &exec, seats, number, undo: undo.as_deref() };
            return Ok(launcher::run(&runtime, setup, &apps));
        }
        Command::Status { json, security: true } => return security::run(&runtime, json),
        Command::Install { place } => install::install(&place.into(), &state)?,
        Command::Uninstall { place } => install::uninstall(&place.into(), &state)?,
        command => commands::run(&command, &runtime, &state)?,
    }
    Ok(ExitCode::SUCCESS)
}
