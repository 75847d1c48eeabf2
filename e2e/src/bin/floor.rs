//! The compositor's own latency: a bare screencopy loop over the pictures of `scene`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use e2e::wayland::floor;

const USAGE: &str = "floor --output NAME [--seconds N] [--json FILE]";

fn main() -> ExitCode {
    let Some(options) = Options::parse(std::env::args().skip(1)) else {
        eprintln!("usage: {USAGE}");
        return ExitCode::from(2);
    };
    match options.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("floor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    output: String,
    length: Duration,
    json: Option<PathBuf>,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self { output: String::new(), length: Duration::from_secs(10), json: None };
        while let Some(name) = arguments.next() {
            let value = arguments.next()?;
            match name.as_str() {
                "--output" => options.output = value,
                "--seconds" => options.length = Duration::try_from_secs_f64(value.parse().ok()?).ok()?,
                "--json" => options.json = Some(value.into()),
                _ => return None,
            }
        }
        (!options.output.is_empty()).then_some(options)
    }

    fn run(&self) -> anyhow::Result<()> {
        let report = floor::run(floor::connect()?, &self.output, self.length)?.json();
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
