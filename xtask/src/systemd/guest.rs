//! An installed host in the container, and who watches it there.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::process::wait_until;

use super::machine::{Machine, child_of, said};

/// A user of the container's with no rights, who watches, and in one of the tests is the host too.
pub const PERSON: u32 = 64556;
const HOME: &str = "/home/person";
const RUNTIME: &str = "/run/user/64556";

/// Whose service manager runs the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    System,
    Person,
}

/// Makes the person.
pub fn settle(machine: &Machine) -> Result<()> {
    for (file, line) in [
        ("/etc/passwd", format!("person:x:{PERSON}:{PERSON}::{HOME}:/bin/sh\n")),
        ("/etc/group", format!("person:x:{PERSON}:\n")),
    ] {
        let text = std::fs::read_to_string(machine.path(file))?;
        machine.write(file, &(text + &line))?;
    }
    machine.directory_of(HOME, PERSON)?;
    machine.directory_of(RUNTIME, PERSON)?;
    machine.must(&["chmod", "700", RUNTIME]).map(drop)
}

pub fn as_person(machine: &Machine, program: &str) -> Command {
    let mut command = machine.command("setpriv");
    let id = PERSON.to_string();
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", program]);
    command.env("HOME", HOME).env("XDG_RUNTIME_DIR", RUNTIME).env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command
}

/// A host, by its units.
pub struct Host<'a> {
    pub machine: &'a Machine,
    pub scope: Scope,
    /// Of the command.
    pub lumend: &'static str,
}

/// A unit's name, and what tells one run of it from another.
pub type Runs = BTreeMap<String, String>;

impl Host<'_> {
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = match self.scope {
            Scope::System => self.machine.command(program),
            Scope::Person => as_person(self.machine, program),
        };
        let words = [&[program], arguments].concat();
        said(&words, &command.args(arguments).output().context("nsenter does not run")?)
    }

    pub fn systemctl(&self, arguments: &[&str]) -> Result<String> {
        let user: &[&str] = if self.scope == Scope::Person { &["--user"] } else { &[] };
        self.run("systemctl", &[user, arguments].concat())
    }

    /// At the first try: ports that a network plane of before still has are waited for. The manager counts its own restarts
    /// anew when somebody restarts a unit, so one that it counts has been needed by this one.
    pub fn restart(&self) -> Result<()> {
        self.systemctl(&["restart", "lumend"])?;
        let state = [self.show("lumend.service", "ActiveState")?, self.show("lumend.service", "NRestarts")?];
        ensure!(state == ["active", "0"], "restarted, lumend is {state:?}");
        Ok(())
    }

    /// Writes lumen.toml where this host looks for it.
    pub fn configure(&self, text: &str) -> Result<()> {
        match self.scope {
            Scope::System => self.machine.write("/etc/lumen/lumen.toml", text),
            Scope::Person => {
                self.machine.directory_of(&format!("{HOME}/.config"), PERSON)?;
                self.machine.write(&format!("{HOME}/.config/lumen/lumen.toml"), text)
            }
        }
    }

    /// For what is printed.
    pub const fn name(&self) -> &'static str {
        match self.scope {
            Scope::System => "system",
            Scope::Person => "person",
        }
    }

    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        self.run(self.lumend, arguments)
    }

    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.ctl(&["status", "--json"])?)?)
    }

    /// The property of a unit.
    pub fn show(&self, unit: &str, property: &str) -> Result<String> {
        self.systemctl(&["show", "--value", "--property", property, unit])
    }

    /// All that run now.
    pub fn runs(&self) -> Result<Runs> {
        let shown = self.systemctl(&["show", "--property=Id,InvocationID,SubState", "lumen*.service"])?;
        let units = shown.split("\n\n").filter_map(|unit| {
            let property = |name| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            let runs = property("SubState")? == "running";
            runs.then(|| Some((property("Id")?.to_owned(), property("InvocationID")?.to_owned()))).flatten()
        });
        Ok(units.collect())
    }

    /// The pid of the only plane of a kind that serves now, as the container counts, and how its predecessor ended.
    pub fn plane(&self, kind: &str) -> Result<Option<(i64, String)>> {
        let status = self.status()?;
        let planes = status["planes"].as_array().context("a status has planes")?;
        let found: Vec<_> =
            planes.iter().filter(|plane| plane["plane"] == kind && plane["state"] == "running").collect();
        ensure!(found.len() < 2, "two {kind} planes where one session is: {found:?}");
        let pid = |plane: &Value| Some((plane["pid"].as_i64()?, plane["last_exit"].as_str().unwrap_or("").to_owned()));
        Ok(found.first().and_then(|plane| pid(plane)))
    }

    /// Frames that the session has sent since it began or was wired last; none while it does not stream.
    fn sent(&self) -> Option<u64> {
        let status = self.status().ok()?;
        let session = status["sessions"].as_array()?.first()?;
        (session["state"] == "streaming").then(|| session["frames"]["sent"].as_u64()).flatten()
    }

    /// Waits until the stream is seen to go on.
    pub fn streams(&self) -> Result<()> {
        let mut before = None;
        wait_until(Duration::from_secs(10), || {
            let sent = self.sent()?;
            // Counters may begin anew; then they have to be seen to grow again.
            let first = *before.get_or_insert(sent);
            if sent < first {
                before = Some(sent);
            }
            (sent >= first + 20).then_some(())
        })
        .with_context(|| format!("the stream does not go on: {:?}", self.ctl(&["status"])))
    }

    /// Sends a signal to a plane and waits for the one that takes its place; returns how the first one ended, what ran
    /// before and after, and how long it took until the new one was there.
    pub fn strike(&self, kind: &str, signal: &str) -> Result<(String, Runs, Runs, Duration)> {
        let (pid, _) = self.plane(kind)?.with_context(|| format!("no {kind} plane"))?;
        let before = self.runs()?;
        self.machine.must(&["kill", "-s", signal, &pid.to_string()])?;
        let start = Instant::now();
        let exit = wait_until(Duration::from_secs(8), || match self.plane(kind) {
            Ok(Some((new, exit))) if new != pid => Some(exit),
            _ => None,
        })
        .with_context(|| format!("no new {kind} plane: {:?}", self.ctl(&["status"])))?;
        let took = start.elapsed();
        self.streams()?;
        // A stopped process stays until its unit has ended it.
        let old = wait_until(Duration::from_secs(8), || {
            let now = self.runs().ok()?;
            let left = now.iter().filter(|(unit, _)| unit.starts_with(&format!("lumen-{kind}@"))).count();
            (left <= 1).then_some(now)
        });
        Ok((exit, before, old.with_context(|| format!("the old {kind} plane does not end"))?, took))
    }
}

/// A client of the person's.
pub struct Client<'a> {
    machine: &'a Machine,
    child: Child,
    report: String,
}

impl<'a> Client<'a> {
    /// Lets it in and connects it; it may ask for a pointer and a keyboard too.
    pub fn connect(host: &Host<'a>, name: &str, hands: bool) -> Result<Self> {
        let machine = host.machine;
        let name = format!("{name}-of-{}", host.name());
        let (keys, report) = (format!("{HOME}/{name}"), format!("{HOME}/{name}.json"));
        let client = "/mnt/programs/lumen-client";
        let output = as_person(machine, client).args(["fingerprint", "--config", &keys]).output()?;
        host.ctl(&["allow", &said(&[client, "fingerprint"], &output)?])?;
        // Which move once, and later than anybody waits.
        let script = format!("{HOME}/{name}.hands");
        machine.write(&script, "0 move 1 1\n600000 move 1 1\n")?;
        let hands: &[&str] = if hands { &["--input-script", &script] } else { &[] };
        let child = as_person(machine, client)
            .args([
                "connect",
                "127.0.0.1:47800",
                "--decode",
                "--own-sink",
                "--quiet",
                "--config",
                &keys,
                "--json",
                &report,
            ])
            .args(hands)
            .stdout(Stdio::null())
            .spawn()
            .context("nsenter does not run")?;
        Ok(Self { machine, child, report })
    }

    /// Has it say goodbye; its report.
    pub fn finish(mut self) -> Result<Value> {
        if let Some(status) = self.child.try_wait()? {
            bail!("the client has ended by itself: {status}");
        }
        // nsenter passes no signals on.
        let pid = child_of(self.child.id()).context("nsenter has no child")?;
        kill(pid, Signal::SIGINT)?;
        let ended = wait_until(Duration::from_secs(10), || self.child.try_wait().transpose())??;
        ensure!(ended.success(), "the client ended with {ended}");
        Ok(serde_json::from_str(&std::fs::read_to_string(self.machine.path(&self.report))?)?)
    }
}

impl Drop for Client<'_> {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            if let Some(pid) = child_of(self.child.id()) {
                let _ = kill(Pid::from_raw(pid.as_raw()), Signal::SIGKILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
