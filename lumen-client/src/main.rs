//! `lumen-client`: parse, run, map the outcome to an exit code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use lumen_client::cli::Cli;
use lumen_client::run::run;

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("lumen-client: {failure}");
            failure.exit_code()
        }
    }
}
