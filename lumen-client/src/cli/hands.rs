//! Options of input.

use std::path::PathBuf;

use clap::Args;

#[derive(Args, Debug)]
#[command(next_help_heading = "Input")]
pub struct HandsArgs {
    /// Move, click, scroll, type, touch and use a gamepad, each a little, for about two seconds
    #[arg(long, group = "hands")]
    pub input_test: bool,
    /// Do what a file says; see the examples below
    #[arg(long, value_name = "FILE", group = "hands")]
    pub input_script: Option<PathBuf>,
    /// Write one JSON line per event sent
    #[arg(long, value_name = "FILE", requires = "hands")]
    pub input_log: Option<PathBuf>,
}

impl HandsArgs {
    /// Whether hands are asked for.
    pub fn wanted(&self) -> bool {
        self.input_test || self.input_script.is_some()
    }
}
