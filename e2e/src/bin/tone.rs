//! Plays known sound into the default sink, as any program of a desktop would.

use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use e2e::tone::{Melody, Player};

/// Plays a tone, one tone a channel, or pulses, until it is stopped.
#[derive(Parser)]
struct Arguments {
    /// Frequency of the first channel's tone.
    #[arg(long, default_value_t = 440.0)]
    hz: f32,
    /// Each further channel is this much higher; 0: the same everywhere.
    #[arg(long, default_value_t = 0.0)]
    step_hz: f32,
    /// 2 or 6 (FL FR FC LFE RL RR).
    #[arg(long, default_value_t = 2)]
    channels: u32,
    /// Amplitude, 0 to 1.
    #[arg(long, default_value_t = 0.5)]
    level: f32,
    /// Instead of a lasting tone, 5 ms of it every half second; writes a line a pulse: the CLOCK_MONOTONIC nanoseconds
    /// at which it was handed to PipeWire, and the samples of that cycle, which is PipeWire's quantum.
    #[arg(long)]
    pulses: Option<PathBuf>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let pulses = arguments.pulses.as_deref().map(File::create).transpose().context("the pulses' log")?;
    let melody = Melody { hz: arguments.hz, step_hz: arguments.step_hz, level: arguments.level };
    Player::open(melody, arguments.channels, pulses)?.play()
}
