//! A container whose first process is systemd: this machine's own files, in which nothing that is written lasts.

use std::fmt;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::process::wait_until;

const GROUPS: &str = "/sys/fs/cgroup";
const SCRIPT: &str = include_str!("boot.sh");

/// How control groups are mounted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Groups {
    /// The new hierarchy alone, as on today's machines.
    Unified,
    /// Beside it the old ones, which have the controllers on this machine.
    Hybrid,
}

impl Groups {
    /// What can be had on this machine; in the first every rule of the units can be enforced.
    pub fn here() -> &'static [Self] {
        if Path::new(GROUPS).join("unified/cgroup.procs").exists() {
            &[Self::Hybrid, Self::Unified]
        } else {
            &[Self::Unified]
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Unified => "v2",
            Self::Hybrid => "hybrid",
        }
    }

    /// The roots of the hierarchies that it takes.
    fn roots(self) -> Vec<PathBuf> {
        let old = ["unified", "systemd", "memory", "pids", "devices"].map(|name| Path::new(GROUPS).join(name));
        match (self, Self::here()) {
            (Self::Hybrid, _) => old.to_vec(),
            (Self::Unified, [Self::Hybrid, ..]) => vec![Path::new(GROUPS).join("unified")],
            (Self::Unified, _) => vec![GROUPS.into()],
        }
    }

    /// Whether limits of memory and processes hold. (Those of devices and addresses always can.)
    pub fn has_controllers(self) -> bool {
        let there = fs::read_to_string(Path::new(GROUPS).join("cgroup.subtree_control")).unwrap_or_default();
        self == Self::Hybrid || ["memory", "pids"].iter().all(|name| there.split_whitespace().any(|word| word == *name))
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unified => "control groups: the new hierarchy",
            Self::Hybrid => "control groups: the old hierarchies and the new one",
        })
    }
}

/// Ends with everything in it when dropped.
pub struct Machine {
    child: Child,
    /// Of systemd, as this machine counts.
    pid: Pid,
    groups: Vec<PathBuf>,
    directory: PathBuf,
}

impl Machine {
    /// Boots; `programs` is to be found at /mnt/programs.
    pub fn boot(programs: &Path, groups: Groups) -> Result<Self> {
        let name = format!("lumen-systemd-{}-{}", std::process::id(), groups.name());
        let directory = std::env::temp_dir().join(&name);
        fs::create_dir_all(&directory)?;
        let own: Vec<_> = groups.roots().iter().map(|root| root.join(&name)).collect();
        for group in &own {
            fs::create_dir_all(group).with_context(|| format!("cannot make {}", group.display()))?;
        }
        // In the groups before there is a namespace of groups, so that they are its roots.
        let enter = "for group; do case $group in --) shift; break;; *) echo $$ > $group/cgroup.procs; shift;; esac; done; \
                     exec \"$@\"";
        let namespaces = ["--mount", "--propagation=private", "--pid", "--uts", "--ipc", "--net", "--cgroup"];
        let child = Command::new("sh")
            .args(["-c", enter, "sh"])
            .args(&own)
            .args(["--", "unshare", "--fork", "--kill-child=KILL"])
            .args(namespaces)
            .args(["sh", "-c", SCRIPT, "boot.sh"])
            .args([&directory, programs])
            .arg(groups.name())
            .stdin(Stdio::null())
            .spawn()
            .context("unshare does not run; install util-linux")?;
        let mut machine = Self { child, pid: Pid::from_raw(0), groups: own, directory };
        machine.pid = machine.first_process()?;
        machine.wait_for_systemd()?;
        Ok(machine)
    }

    fn first_process(&mut self) -> Result<Pid> {
        let of_unshare = self.child.id();
        wait_until(Duration::from_secs(10), || child_of(of_unshare)).context("no container was made; see above")
    }

    fn wait_for_systemd(&mut self) -> Result<()> {
        let up = wait_until(Duration::from_secs(30), || {
            if self.child.try_wait().ok().flatten().is_some() {
                return Some(false);
            }
            // Before that, the process is a shell that mounts things, in which nothing can be run.
            let name = fs::read_to_string(format!("/proc/{}/comm", self.pid)).unwrap_or_default();
            let state = || self.run(&["systemctl", "is-system-running"]).ok();
            let state = (name.trim() == "systemd").then(state).flatten()?;
            let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
            ["running", "degraded"].contains(&state.as_str()).then_some(true)
        });
        ensure!(up.context("systemd does not come up in the container")?, "the container ended at once; see above");
        Ok(())
    }

    /// A program in the container, as root.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string()]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--", program]);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("HOME", "/root");
        command.stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Result<Output> {
        let [program, arguments @ ..] = words else { bail!("a command has a name") };
        self.command(program).args(arguments).output().context("nsenter does not run; install util-linux")
    }

    /// As [`Self::run`], which must succeed; returns what was printed.
    pub fn must(&self, words: &[&str]) -> Result<String> {
        said(words, &self.run(words)?)
    }

    /// A file of the container, as this process sees it.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid))
    }

    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().context("a file lies in a directory")?)?;
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The first process with this name, as the container counts.
    pub fn process(&self, name: &str) -> Option<u32> {
        fs::read_dir(self.path("/proc")).ok()?.flatten().find_map(|entry| {
            let comm = fs::read_to_string(entry.path().join("comm")).ok()?;
            (comm.trim() == name).then(|| entry.file_name().to_str()?.parse().ok()).flatten()
        })
    }

    /// A directory of this user's.
    pub fn directory_of(&self, path: &str, uid: u32) -> Result<()> {
        let path = self.path(path);
        fs::create_dir_all(&path)?;
        Ok(chown(&path, Some(uid), Some(uid))?)
    }

    /// The end of its journal.
    pub fn journal(&self, lines: u32) -> String {
        self.must(&["journalctl", "--no-pager", "--output=short-precise", "--lines", &lines.to_string()])
            .unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.pid.as_raw() > 0 {
            // All that is in its namespace of processes goes with it.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for group in &self.groups {
            // The kernel takes a moment to empty them.
            if wait_until(Duration::from_secs(5), || remove_group(group).ok()).is_err() {
                eprintln!("cannot remove {}", group.display());
            }
        }
        let _ = fs::remove_dir(&self.directory);
    }
}

/// With the groups in it.
fn remove_group(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

/// The first child of a process that makes one.
pub fn child_of(pid: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
}

/// What a command has printed, if it succeeded.
pub fn said(words: &[&str], output: &Output) -> Result<String> {
    let text = |bytes| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        bail!("{}: {} {}", words.join(" "), text(&output.stderr), text(&output.stdout));
    }
    Ok(text(&output.stdout))
}
