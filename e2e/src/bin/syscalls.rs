//! Reports which lines of the sandbox's table the planes need; `cargo xtask syscalls` runs it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use e2e::needed::tracer::Tracer;
use e2e::needed::{sessions, verdict};
use e2e::trial::stage;

#[derive(Parser)]
struct Arguments {
    /// Write the report as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// Instead: watch this lumend until it ends, and write what its planes did
    #[arg(long, requires = "json")]
    trace: Option<i32>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("syscalls: lines that no plane needs; remove them from ipc/src/sandbox/table.rs, or say why not");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("syscalls: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True if every line is needed or excused.
fn run(arguments: &Arguments) -> Result<bool> {
    if let (Some(lumend), Some(file)) = (arguments.trace, &arguments.json) {
        let tally = Tracer::attach(lumend)?.run()?;
        std::fs::write(file, tally.to_json().to_string()).with_context(|| file.display().to_string())?;
        return Ok(true);
    }
    let program = std::env::current_exe()?;
    let stage = stage()?;
    let mut tally = sessions::desktop(&program, &stage)?;
    tally.merge(sessions::pattern(&program, &stage)?);
    print!("{}", verdict::people(&tally));
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&verdict::json(&tally))?)?;
    }
    Ok(verdict::entries(&tally).iter().all(|entry| !entry.is_needless()))
}
