//! The reference client, run as a user would run it.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::host::Host;
use crate::process::{Running, describe};
use crate::stage::Stage;

/// A running `lumen-client connect`.
pub struct Client<'a> {
    stage: &'a Stage,
    name: String,
    running: Running,
}

/// What a client left behind.
pub struct Report {
    pub status: ExitStatus,
    /// Its `--json` report; null where it wrote none.
    pub json: Value,
    pub stderr: String,
}

/// The SHA-256 of the certificate of the client that keeps its identity under this name.
pub fn fingerprint(stage: &Stage, identity: &str) -> Result<String> {
    let output = stage
        .command("lumen-client")
        .arg("fingerprint")
        .arg("--config")
        .arg(stage.path().join("home").join(identity))
        .output()
        .context("lumen-client does not run")?;
    ensure!(output.status.success(), "lumen-client: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(String::from_utf8(output.stdout)?.trim().to_string())
}

/// Makes an identity and allows it on the host.
pub fn allow(stage: &Stage, host: &Host, identity: &str) -> Result<()> {
    host.must(&["allow", &fingerprint(stage, identity)?]).map(drop)
}

impl<'a> Client<'a> {
    /// Connects the client `identity` with these further arguments.
    pub fn connect(stage: &'a Stage, identity: &str, address: &str, arguments: &[&str]) -> Result<Self> {
        let stderr = std::fs::File::create(stage.out(&format!("{identity}.err")))?;
        let _ = std::fs::remove_file(stage.out(&format!("{identity}.json")));
        let child = stage
            .command("lumen-client")
            .args(["connect", address])
            .args(arguments)
            .arg("--config")
            .arg(stage.path().join("home").join(identity))
            .arg("--json")
            .arg(stage.out(&format!("{identity}.json")))
            .stdin(Stdio::null())
            .stderr(stderr)
            .spawn()
            .context("lumen-client does not start")?;
        Ok(Self { stage, name: identity.to_string(), running: Running::new("lumen-client", child) })
    }

    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// A file of this client's in the stage's `out` directory.
    pub fn file(&self, extension: &str) -> PathBuf {
        self.stage.out(&format!("{}.{extension}", self.name))
    }

    /// Waits for the end of its time and reads its report.
    pub fn finish(mut self, limit: Duration) -> Result<Report> {
        let status = self.running.wait(limit)?;
        let stderr = std::fs::read_to_string(self.file("err")).unwrap_or_default();
        let json = match std::fs::read_to_string(self.file("json")) {
            Ok(text) => serde_json::from_str(&text)?,
            Err(_) => Value::Null,
        };
        Ok(Report { status, json, stderr })
    }

    /// Lets it go before its time is over, which is as good: what was to be seen has been seen. How long that takes is then
    /// the machine's affair, and nobody waits for the rest.
    pub fn leave(self, limit: Duration) -> Result<Value> {
        self.running.signal(Signal::SIGTERM)?;
        self.succeed(limit)
    }

    /// As [`Client::finish`], where anything but success is an error.
    pub fn succeed(self, limit: Duration) -> Result<Value> {
        let report = self.finish(limit)?;
        ensure!(report.status.success(), "the client ended with {}: {}", describe(report.status), report.stderr.trim());
        Ok(report.json)
    }
}
