//! libFuzzer on one target, and what it said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use xtask::binaries::{root, run};

use super::{Order, corpora, work};

/// No message of anybody's is longer; scripts of what happens between calls need not be.
const MAX_LEN: usize = 8192;

/// What came of a target.
pub struct Outcome {
    pub target: String,
    pub runs: u64,
    /// Of the instrumented code, that were reached.
    pub edges: u64,
    /// Inputs in the tree.
    pub kept: usize,
    /// Inputs found now that are not.
    pub new: usize,
    /// Inputs that broke it, now.
    pub broken: Vec<PathBuf>,
    /// The first thing that was said about that.
    pub why: String,
}

/// Runs a target.
///
/// # Errors
/// libFuzzer ended without having found anything.
pub fn one(program: &Path, name: &str, order: &Order<'_>) -> Result<Outcome> {
    let kept = corpora().join(name);
    let (found, broken) = (work().join("found").join(name), work().join("broken").join(name));
    let log = work().join(format!("{name}.log"));
    for directory in [&found, &broken] {
        fs::create_dir_all(directory)?;
    }
    let (found_before, broken_before) = (files(&found)?, files(&broken)?);
    let status = Command::new(program)
        .args([format!("-max_total_time={}", order.seconds), format!("-max_len={MAX_LEN}"), "-timeout=10".into()])
        .args([format!("-artifact_prefix={}/", broken.display()), "-print_final_stats=1".into()])
        .args([&found, &kept])
        .env("LUMEN_FUZZ_TARGET", name)
        .current_dir(root())
        // What it says is a line for each new input; only its end matters.
        .stderr(fs::File::create(&log)?)
        .status()
        .with_context(|| format!("{} does not run", program.display()))?;
    let said = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
    let broken = files(&broken)?.into_iter().filter(|input| !broken_before.contains(input)).collect::<Vec<_>>();
    let again = files(&work().join("broken").join(name))?;
    // An input that broke it before has the same name again.
    let broken = if !status.success() && broken.is_empty() { again } else { broken };
    ensure!(status.success() || !broken.is_empty(), "{name}: {status}; see {}", log.display());
    if order.keep && broken.is_empty() {
        merge(program, name, &[&kept, &found], &log)?;
    }
    Ok(Outcome {
        target: name.into(),
        runs: statistic(&said, "stat::number_of_executed_units:"),
        edges: edges(&said),
        kept: files(&kept)?.len(),
        new: files(&found)?.len().saturating_sub(found_before.len()),
        broken,
        why: why(&said).unwrap_or_else(|| format!("see {}", log.display())),
    })
}

/// Into the first corpus goes what reaches code that nothing in it has reached: how often does not count.
fn merge(program: &Path, name: &str, corpora: &[&Path; 2], log: &Path) -> Result<()> {
    run(Command::new(program)
        .args(["-set_cover_merge=1", "-use_counters=0"])
        .args(corpora)
        .env("LUMEN_FUZZ_TARGET", name)
        .stderr(fs::File::create(log)?))
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect()
}

fn statistic(said: &str, name: &str) -> u64 {
    said.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0)
}

/// `cov:` in the last line that has it.
fn edges(said: &str) -> u64 {
    let after = said.rsplit_once(" cov: ").map_or("", |(_, after)| after);
    after.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// A panic and its message, or libFuzzer's own words.
fn why(said: &str) -> Option<String> {
    let mut lines = said.lines().skip_while(|line| !line.contains(" panicked at ") && !line.starts_with("==")).take(2);
    let first = lines.next()?;
    Some(format!("{first} {}", lines.next().unwrap_or_default()).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb
#100\tNEW    cov: 345 ft: 400 corp: 7/70b lim: 4 exec/s: 0 rss: 40Mb L: 3/3 MS: 1 ChangeBit-

thread '<unnamed>' (7) panicked at fuzz/src/shared.rs:9:5:
goes on after a violation
==7== ERROR: libFuzzer: deadly signal
stat::number_of_executed_units: 4711
";

    #[test]
    fn a_log_tells_how_far_it_came_and_what_broke() {
        assert_eq!((edges(LOG), statistic(LOG, "stat::number_of_executed_units:")), (345, 4711));
        let panic = "thread '<unnamed>' (7) panicked at fuzz/src/shared.rs:9:5: goes on after a violation";
        assert_eq!(why(LOG).as_deref(), Some(panic));
        assert_eq!(why("==7== ERROR: libFuzzer: timeout\n").as_deref(), Some("==7== ERROR: libFuzzer: timeout"));
        assert_eq!((edges(""), why("nothing")), (0, None));
    }
}
