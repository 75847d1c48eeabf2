//! An animated full-screen Wayland client whose pixels carry a frame number and the time they were drawn.

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use e2e::wayland::scene::{self, Pace};
use wayland_client::Connection;

const USAGE: &str = "scene [--seconds N] [--json FILE] [--rate HZ | --still] [--log FILE]";

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("usage: {USAGE}");
        return ExitCode::from(2);
    };
    match options.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scene: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    length: Duration,
    json: Option<PathBuf>,
    pace: Pace,
    /// What hands do to the window, a JSON line each; see `listener`.
    log: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self { length: Duration::from_secs(3600), json: None, pace: Pace::Compositor, log: None };
        while let Some(name) = arguments.next() {
            match name.as_str() {
                "--seconds" => options.length = Duration::try_from_secs_f64(arguments.next()?.parse().ok()?).ok()?,
                "--json" => options.json = Some(arguments.next()?.into()),
                "--rate" => {
                    let hertz: f64 = arguments.next()?.parse().ok()?;
                    options.pace = Pace::AtMost { refresh_mhz: (hertz * 1000.0) as u32 };
                }
                "--log" => options.log = Some(arguments.next()?.into()),
                "--still" => options.pace = Pace::Still,
                _ => return None,
            }
        }
        Some(options)
    }

    fn run(&self) -> anyhow::Result<()> {
        let compositor = Connection::connect_to_env().context("no compositor; set WAYLAND_DISPLAY")?;
        let log = self.log.as_ref().map(File::create).transpose().context("cannot write the log")?;
        let report = scene::run(compositor, self.pace, self.length, "lumen scene", log)?.json();
        match &self.json {
            Some(file) => {
                std::fs::write(file, format!("{report}\n")).with_context(|| format!("cannot write {}", file.display()))
            }
            None => {
                println!("{report}");
                Ok(())
            }
        }
    }
}
