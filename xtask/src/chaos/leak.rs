//! What a host has, before and after.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use serde_json::Value;

use crate::host::{Desktop, Host};
use crate::process::{fds, private_bytes, wait_until};
use crate::stage::Stage;

/// How long a host may take to put away what a session had.
const SETTLED_WITHIN: Duration = Duration::from_secs(8);

/// A host in which nothing has changed for so long has settled.
const STILL_FOR: Duration = Duration::from_millis(150);

/// What a host without a session has.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Census {
    /// lumend's descriptors, sockets among them.
    pub fds: usize,
    /// Sockets among all descriptors of the stage's processes.
    pub sockets: usize,
    /// Anonymous files that any process of the stage holds, each once.
    pub memfds: usize,
    /// Outputs of the compositor.
    pub outputs: usize,
    /// Everything that runs on the stage: planes, the desktop with its programs, the sound server.
    pub processes: usize,
    /// lumend's private memory.
    pub private_bytes: u64,
}

/// What there is more of than before.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Leaked {
    pub fds: usize,
    pub sockets: usize,
    pub memfds: usize,
    pub outputs: usize,
    pub processes: usize,
    /// May be less than before.
    pub private_bytes: i64,
}

impl Leaked {
    /// Whatever an allocator does with its memory.
    pub const fn is_nothing(&self) -> bool {
        self.fds + self.sockets + self.memfds + self.outputs + self.processes == 0
    }

    /// The worse of two, each by each.
    pub fn worse(self, other: Self) -> Self {
        Self {
            fds: self.fds.max(other.fds),
            sockets: self.sockets.max(other.sockets),
            memfds: self.memfds.max(other.memfds),
            outputs: self.outputs.max(other.outputs),
            processes: self.processes.max(other.processes),
            private_bytes: self.private_bytes.max(other.private_bytes),
        }
    }
}

impl Census {
    /// Counts everything now.
    pub fn take(stage: &Stage, host: &Host, desktop: Desktop) -> Result<Self> {
        let (mut memfds, mut sockets) = (BTreeSet::new(), 0);
        let processes = processes(stage)?;
        for pid in &processes {
            // A process may end while it is looked at.
            for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
                let Ok(target) = fs::read_link(entry.path()) else { continue };
                let target = target.as_os_str().as_bytes();
                sockets += usize::from(target.starts_with(b"socket:"));
                if target.starts_with(b"/memfd:")
                    && let Ok(file) = fs::metadata(entry.path())
                {
                    memfds.insert((file.dev(), file.ino()));
                }
            }
        }
        Ok(Self {
            fds: fds(host.pid())?,
            sockets,
            memfds: memfds.len(),
            outputs: if desktop == Desktop::Sway { outputs(stage, host)? } else { 0 },
            processes: processes.len(),
            private_bytes: private_bytes(host.pid())?,
        })
    }

    /// Counts everything once nothing changes any more: a desktop that has just come up is still starting programs.
    pub fn settled(stage: &Stage, host: &Host, desktop: Desktop) -> Result<Self> {
        let deadline = Instant::now() + SETTLED_WITHIN;
        let mut last: Option<Self> = None;
        loop {
            let now = Self::take(stage, host, desktop);
            let late = Instant::now() > deadline;
            match (last, now) {
                (Some(last), Ok(now)) if late || last.is_as(&now) => return Ok(now),
                (_, Err(error)) if late => return Err(error),
                // A compositor that has just died cannot be asked yet.
                (_, now) => last = now.ok(),
            }
            // The time over which nothing may change.
            std::thread::sleep(STILL_FOR);
        }
    }

    fn is_as(&self, other: &Self) -> bool {
        self.until(other).is_nothing() && other.until(self).is_nothing()
    }

    /// What there is more of now than in `self`, once everything that goes has gone.
    pub fn leaked(&self, stage: &Stage, host: &Host, desktop: Desktop) -> Result<(Self, Leaked)> {
        let mut last = None;
        let settled = || match Self::take(stage, host, desktop) {
            Ok(now) => {
                last = Some(now);
                self.until(&now).is_nothing().then_some(())
            }
            Err(_) => None,
        };
        // What is left after that time is what has leaked.
        let _ = wait_until(SETTLED_WITHIN, settled);
        let now = last.context("the host cannot be looked at")?;
        Ok((now, self.until(&now)))
    }

    /// What a later census has more.
    pub fn until(&self, later: &Self) -> Leaked {
        Leaked {
            fds: later.fds.saturating_sub(self.fds),
            sockets: later.sockets.saturating_sub(self.sockets),
            memfds: later.memfds.saturating_sub(self.memfds),
            outputs: later.outputs.saturating_sub(self.outputs),
            processes: later.processes.saturating_sub(self.processes),
            private_bytes: later.private_bytes.cast_signed() - self.private_bytes.cast_signed(),
        }
    }

    /// What a fresh host would have if it had done what another one of its kind has done between two counts.
    pub fn plus(&self, more: &Leaked) -> Self {
        Self {
            fds: self.fds + more.fds,
            sockets: self.sockets + more.sockets,
            memfds: self.memfds + more.memfds,
            outputs: self.outputs + more.outputs,
            processes: self.processes + more.processes,
            private_bytes: self.private_bytes.saturating_add_signed(more.private_bytes),
        }
    }
}

/// Every process that runs a program of the stage or has the stage in its environment.
fn processes(stage: &Stage) -> Result<Vec<i32>> {
    let root = stage.path();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let Some(pid) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        let runs = fs::read_link(path.join("exe")).is_ok_and(|program| program.starts_with(root));
        if runs || is_mentioned(root, &path.join("environ")) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn is_mentioned(root: &Path, environment: &Path) -> bool {
    let root = root.as_os_str().as_bytes();
    fs::read(environment).is_ok_and(|text| text.windows(root.len()).any(|part| part == root))
}

/// Outputs of the host's own desktop.
fn outputs(stage: &Stage, host: &Host) -> Result<usize> {
    let mut command = Command::new("swaymsg");
    command.args(["-t", "get_outputs", "--raw", "-s"]).arg(host.runtime().join("desktop/sway.sock"));
    if geteuid().is_root() {
        command.uid(stage.uid()).gid(stage.gid());
    }
    let output = command.env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null()).output()?;
    ensure!(output.status.success(), "swaymsg: {}", String::from_utf8_lossy(&output.stderr).trim());
    let outputs: Value = serde_json::from_slice(&output.stdout)?;
    Ok(outputs.as_array().context("sway tells no outputs")?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_leaked_and_less_is_not() {
        let before = Census { fds: 30, sockets: 9, memfds: 4, outputs: 1, processes: 8, private_bytes: 1 << 21 };
        let after = Census { fds: 32, memfds: 3, private_bytes: 1 << 20, ..before };
        let leaked = before.until(&after);
        assert_eq!(leaked, Leaked { fds: 2, private_bytes: -(1 << 20), ..Leaked::default() });
        assert!(!leaked.is_nothing() && before.until(&before).is_nothing());
        assert_eq!(before.plus(&leaked).fds, 32);
        assert_eq!(leaked.worse(Leaked { memfds: 3, ..Leaked::default() }).memfds, 3);
    }

    #[test]
    fn a_program_of_a_stage_is_seen() {
        let stage = Stage::new(&["/bin/sleep".into()]).unwrap();
        let child = stage.command("sleep").arg("60").spawn().unwrap();
        let mut child = crate::process::Running::new("sleep", child);
        let pid = child.pid();
        wait_until(Duration::from_secs(5), || processes(&stage).unwrap().contains(&pid).then_some(())).unwrap();
        child.stop().unwrap();
        assert!(!processes(&stage).unwrap().contains(&pid));
    }
}
