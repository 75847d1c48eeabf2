//! A running `lumend`, driven through its command line as a script would.

use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::process::{Running, wait_until};
use crate::stage::Stage;

/// What a host shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Desktop {
    Sway,
    Pattern,
}

/// What a host has of its own that only one host of a machine can have, or that speaks to the network: hosts under test
/// do without, unless the test names it itself. Each is a section of the configuration and what it says by default.
const QUIET: [(&str, &str); 2] = [("gamestream", "enabled = false"), ("discovery", "enabled = false")];

/// A host under test. Dropping it stops it and all its planes.
pub struct Host<'a> {
    stage: &'a Stage,
    name: String,
    port: u16,
    way: Way,
    running: Running,
}

/// How a host is started.
struct Way {
    desktop: Option<Desktop>,
    environment: Vec<(String, PathBuf)>,
    config: PathBuf,
}

impl Way {
    /// Starts lumend; returns it and the socket on which it says that it is ready.
    fn start(&self, stage: &Stage, name: &str) -> Result<(Running, UnixDatagram)> {
        let ready_path = stage.path().join(format!("run/{name}.ready"));
        let _ = std::fs::remove_file(&ready_path);
        let ready = UnixDatagram::bind(&ready_path)?;
        std::os::unix::fs::chown(&ready_path, Some(stage.uid()), Some(stage.gid()))?;
        let log = std::fs::File::create(stage.out(&format!("{name}.log")))?;
        let mut command = stage.command("lumend");
        command.arg("run");
        // Where somebody listens for connections to planes, it is they who start them.
        if !stage.path().join("run").join(name).join("planes").exists() {
            command.arg("--spawn");
        }
        match self.desktop {
            Some(Desktop::Sway) => command.args(["--desktop", "sway"]),
            Some(Desktop::Pattern) => command.args(["--desktop", "pattern"]),
            None => &mut command,
        };
        let child = command
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .arg("--config")
            .arg(&self.config)
            .arg("--state")
            .arg(stage.path().join("state").join(name))
            .arg("--runtime")
            .arg(stage.path().join("run").join(name))
            .env("NOTIFY_SOCKET", &ready_path)
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .context("lumend does not start")?;
        Ok((Running::new("lumend", child), ready))
    }
}

impl<'a> Host<'a> {
    /// Starts `lumend run --spawn` with this desktop and these further lines of configuration, and waits until it
    /// says that it is ready. It serves no Moonlight clients and announces nothing, unless those lines have sections
    /// `[gamestream]` or `[discovery]` of their own.
    pub fn start(stage: &'a Stage, desktop: Desktop, config: &str) -> Result<Self> {
        Self::start_named(stage, "host", Some(desktop), &[], config)
    }

    /// Starts it inside a session that is already there, which it finds by this environment.
    pub fn start_in(stage: &'a Stage, environment: &[(&str, PathBuf)], config: &str) -> Result<Self> {
        Self::start_named(stage, "host", None, environment, config)
    }

    /// As [`Host::start`], with directories of its own, for several hosts on one stage.
    pub fn start_named(
        stage: &'a Stage,
        name: &str,
        desktop: Option<Desktop>,
        environment: &[(&str, PathBuf)],
        config: &str,
    ) -> Result<Self> {
        let port = free_port_pair()?;
        let name = name.to_string();
        stage.directory(&format!("run/{name}"))?;
        stage.directory(&format!("state/{name}"))?;
        let config = format!("[listen]\naddress = \"127.0.0.1\"\nport = {port}\n\n{}{config}\n", quiet(config));
        let config = stage.write(&format!("{name}.toml"), &config)?;
        let environment = environment.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let way = Way { desktop, environment, config };
        let (running, ready) = way.start(stage, &name)?;
        let mut host = Self { stage, name, port, way, running };
        host.wait_ready(&ready)?;
        Ok(host)
    }

    /// Starts lumend again after it has died, on the same ports and directories, as a supervisor would: again and again
    /// until it comes up, since what the dead one held may not be free at once.
    pub fn revive(&mut self) -> Result<()> {
        self.running.wait(Duration::from_secs(5))?;
        wait_until(Duration::from_secs(15), || {
            let (running, ready) = self.way.start(self.stage, &self.name).ok()?;
            self.running = running;
            self.wait_ready(&ready).ok()
        })
        .with_context(|| format!("the host does not come up again; it said:\n{}", self.log()))
    }

    /// lumend announces itself as a systemd service does: a datagram `READY=1`.
    fn wait_ready(&mut self, ready: &UnixDatagram) -> Result<()> {
        ready.set_nonblocking(true)?;
        let mut datagram = [0; 4096];
        let running = &mut self.running;
        wait_until(Duration::from_secs(20), || match ready.recv(&mut datagram) {
            Ok(length) if datagram[..length].split(|&byte| byte == b'\n').any(|line| line == b"READY=1") => Some(true),
            _ => running.child().try_wait().ok().flatten().map(|_| false),
        })
        .and_then(|alive| {
            ensure!(alive, "lumend ended at once");
            Ok(())
        })
        .with_context(|| format!("the host does not come up; it said:\n{}", self.log()))
    }

    /// What it wrote to stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.stage.out(&format!("{}.log", self.name))).unwrap_or_default()
    }

    /// Its runtime directory: sockets, and those of its own desktops.
    pub fn runtime(&self) -> PathBuf {
        self.stage.path().join("run").join(&self.name)
    }

    /// `127.0.0.1:PORT`, where native clients connect.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub const fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> i32 {
        self.running.pid()
    }

    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Runs `lumend ARGUMENTS` against this host.
    pub fn ctl(&self, arguments: &[&str]) -> Result<Output> {
        self.stage
            .command("lumend")
            .args(arguments)
            .arg("--runtime")
            .arg(self.runtime())
            .stdin(Stdio::null())
            .output()
            .context("lumend does not run")
    }

    /// Runs `lumend ARGUMENTS`, which must succeed; returns its standard output.
    pub fn must(&self, arguments: &[&str]) -> Result<String> {
        let output = self.ctl(arguments)?;
        if !output.status.success() {
            bail!("lumend {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?.trim().to_string())
    }

    /// `lumend status --json`.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.must(&["status", "--json"])?)?)
    }

    /// Waits until the status satisfies `condition` and returns it.
    pub fn status_where(&self, limit: Duration, condition: impl Fn(&Value) -> bool) -> Result<Value> {
        wait_until(limit, || match self.status() {
            Ok(status) => condition(&status).then_some(Ok(status)),
            Err(error) => Some(Err(error)),
        })
        .with_context(|| format!("the host's status never got there: {:?}; its log:\n{}", self.status(), self.log()))?
    }

    /// Pids of the planes of one kind that are at work, by session; standbys wait.
    pub fn planes(&self, kind: &str) -> Result<Vec<i32>> {
        let status = self.status()?;
        let planes = status["planes"].as_array().context("status has no planes")?;
        Ok(planes
            .iter()
            .filter(|plane| plane["plane"] == kind && plane["state"] != "standby")
            .filter_map(|plane| plane["pid"].as_i64().map(|pid| pid as i32))
            .collect())
    }

    /// `kill -9` of the only plane of a kind; returns its pid.
    pub fn kill_plane(&self, kind: &str) -> Result<i32> {
        let pids = self.planes(kind)?;
        let [pid] = pids[..] else { bail!("expected one {kind} plane, found {pids:?}") };
        kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        Ok(pid)
    }

    pub fn fingerprint(&self) -> Result<String> {
        self.must(&["fingerprint"])
    }
}

/// The sections that these lines of configuration do not have themselves.
fn quiet(config: &str) -> String {
    let given = |section: &str| config.lines().any(|line| line.trim() == format!("[{section}]"));
    let missing = QUIET.iter().filter(|(section, _)| !given(section));
    missing.map(|(section, says)| format!("[{section}]\n{says}\n\n")).collect()
}

/// A base port whose six ports of GameStream are free on loopback now. Another program may take one before lumend does;
/// then lumend says so.
pub fn free_base_port() -> Result<u16> {
    for _ in 0..100 {
        let base = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let free = (6..=65514).contains(&base)
            && [base, base - 5, base + 21].iter().all(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
            && [base + 9, base + 10, base + 11].iter().all(|&port| UdpSocket::bind(("127.0.0.1", port)).is_ok());
        if free {
            return Ok(base);
        }
    }
    bail!("no six free ports for GameStream on this machine")
}

/// A free UDP port whose successor is free too. Another program may take it before lumend does; then lumend says so.
pub fn free_port_pair() -> Result<u16> {
    for _ in 0..100 {
        let first = UdpSocket::bind("127.0.0.1:0")?;
        let port = first.local_addr()?.port();
        if port < u16::MAX && UdpSocket::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no two free UDP ports side by side on this machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_names_a_section_has_it_to_itself() {
        assert_eq!(quiet("").matches("enabled = false").count(), 2);
        assert_eq!(quiet("[gamestream]\nbase_port = 5000"), "[discovery]\nenabled = false\n\n");
        assert_eq!(quiet("[discovery]\nenabled = true\n[gamestream]\n"), "");
    }
}
