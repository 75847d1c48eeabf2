//! CPU time and memory of a host's processes over a stretch of a stream.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use xtask::host::Host;
use xtask::process::{cpu_ns, private_bytes};

/// What all planes and lumend used together.
#[derive(Clone, Copy)]
pub struct Sample {
    /// Percent of one core.
    pub cpu_percent: f64,
    /// Mebibytes of private memory of all planes, lumend left out.
    pub private_mib: f64,
}

impl Sample {
    /// Watches a host for `length`.
    pub fn take(host: &Host, length: Duration) -> Result<Self> {
        let pids = pids(host)?;
        let cpu_percent = cpu_percent(&pids, length)?;
        let mut private = 0;
        for pid in pids.iter().filter(|&&pid| pid != host.pid()) {
            private += private_bytes(*pid)?;
        }
        Ok(Self { cpu_percent, private_mib: private as f64 / (1024.0 * 1024.0) })
    }
}

/// CPU time of processes over `length`, in percent of one core.
pub fn cpu_percent(pids: &[i32], length: Duration) -> Result<f64> {
    let before = total(pids)?;
    let start = Instant::now();
    // A measured stretch of time, not a wait for something.
    std::thread::sleep(length);
    let used = total(pids)?.saturating_sub(before);
    Ok(used as f64 / start.elapsed().as_nanos() as f64 * 100.0)
}

fn pids(host: &Host) -> Result<Vec<i32>> {
    let status = host.status()?;
    let planes = status["planes"].as_array().context("status has no planes")?;
    let mut pids: Vec<i32> = planes.iter().filter_map(|plane| plane["pid"].as_i64()).map(|pid| pid as i32).collect();
    pids.push(host.pid());
    Ok(pids)
}

fn total(pids: &[i32]) -> Result<u64> {
    pids.iter().map(|&pid| cpu_ns(pid)).sum()
}
