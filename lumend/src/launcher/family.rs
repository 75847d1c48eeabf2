//! The processes below this one, by way of /proc. As a subreaper the launcher keeps them all, also those whose parents
//! have ended.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use ipc::RunId;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, getpid};

/// Rounds of killing what is left. Each round ends one level of a process tree.
const KILL_ROUNDS: usize = 64;

/// Set for everything that is started for a run, so that it is found again in whatever session and group it puts itself.
pub const RUN: &str = "LUMEN_RUN";

/// The children of this process, orphans that it adopted among them.
pub fn children() -> Vec<Pid> {
    children_of(nix::unistd::gettid().as_raw())
}

/// Kills and reaps everything below this process.
pub fn end() {
    for _ in 0..KILL_ROUNDS {
        let left = children();
        if left.is_empty() {
            break;
        }
        for pid in &left {
            // An error means that it has ended, which is what is wanted; the same below.
            let _ = kill(*pid, Signal::SIGKILL);
        }
        for pid in left {
            let _ = waitpid(pid, None);
        }
    }
}

/// Everything alive that was started for a run, and has not taken the mark off.
pub fn of(run: RunId) -> Vec<Pid> {
    let mark = format!("{RUN}={}", run.0);
    let has_mark = |pid: &Pid| {
        // A dead process that nobody has reaped has no environment any more.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|&byte| byte == 0).any(|line| line == mark.as_bytes())
    };
    descendants().into_iter().filter(has_mark).collect()
}

fn descendants() -> BTreeSet<Pid> {
    let mut all = BTreeSet::new();
    let mut fresh = vec![getpid()];
    while let Some(pid) = fresh.pop() {
        fresh.extend(threads(pid).flat_map(children_of).filter(|&child| all.insert(child)));
    }
    all
}

/// A child belongs to the thread that started it.
fn threads(pid: Pid) -> impl Iterator<Item = i32> {
    let tasks = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("task"));
    tasks.into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn children_of(thread: i32) -> Vec<Pid> {
    let list = fs::read_to_string(format!("/proc/{thread}/task/{thread}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect()
}
