//! A child that is always stopped, and what the kernel says about a process.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// A child process that does not outlive its owner: SIGTERM, ten seconds, SIGKILL.
pub struct Running {
    name: &'static str,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Running {
    pub fn new(name: &'static str, child: Child) -> Self {
        Self { name, child, ended: None }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.pid()), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Waits for the end of the child, at most `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let status = wait_until(limit, || self.child.try_wait().transpose())
            .with_context(|| format!("{} still runs after {limit:?}", self.name))??;
        self.ended = Some(status);
        Ok(status)
    }

    /// Asks the child to stop and waits for it.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if self.ended.is_none() && self.child.try_wait()?.is_none() {
            self.signal(Signal::SIGTERM)?;
        }
        self.wait(Duration::from_secs(10))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended.is_none() && self.stop().is_err() {
            eprintln!("{} had to be killed", self.name);
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Asks `probe` every 5 ms until it answers. For conditions of other processes that nothing announces.
pub fn wait_until<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe() {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("nothing within {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a shell would say of an exit: `code 3`, `signal 9`.
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".into(),
    }
}

/// CPU time of all threads of a process, in nanoseconds, from `/proc/PID/task/*/schedstat`.
///
/// A thread that ended takes its time with it: planes make their threads at start and keep them.
pub fn cpu_ns(pid: i32) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(entry?.path().join("schedstat")).unwrap_or_default();
        total += text.split_whitespace().next().and_then(|first| first.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(total)
}

/// Private memory of a process in bytes: what would come back if it ended. From `/proc/PID/smaps_rollup`.
pub fn private_bytes(pid: i32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let kilobytes: u64 = text
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum();
    Ok(kilobytes * 1024)
}

/// Open file descriptors of a process.
pub fn fds(pid: i32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// It runs, or may again: neither is it gone, nor a zombie that nobody has reaped yet.
pub fn is_alive(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the program's name, in which there may be anything.
    text.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// CLOCK_MONOTONIC in nanoseconds: the clock that every process of a machine has in common.
pub fn now_ns() -> u64 {
    // It cannot fail: the clock is there and the memory is ours.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |now| now.num_nanoseconds().cast_unsigned())
}

/// The first descendant of a process, however deep, whose command line, in words, contains this.
pub fn descendant(pid: i32, words: &str) -> Option<i32> {
    let mut family = vec![pid];
    while let Some(parent) = family.pop() {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|word| word.parse::<i32>().ok()) {
            let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if String::from_utf8_lossy(&line).replace('\0', " ").contains(words) {
                return Some(child);
            }
            family.push(child);
        }
    }
    None
}

/// Threads of a process.
pub fn threads(pid: i32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/task"))?.count())
}

/// Share of the machine's CPU time taken by other machines of the same host since boot: (steal, all), in ticks.
pub fn steal_ticks() -> Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat")?;
    let line = text.lines().next().context("/proc/stat is empty")?;
    let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
    Ok((ticks.get(7).copied().unwrap_or(0), ticks.iter().take(8).sum()))
}
