//! The machine's installation has several users, and this is what that is for: who can harm whom, and who ends whom.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::process::wait_until;

use super::guest::Host;
use super::trial::{as_promised, one_replaced};

/// From its last breath to the end of a plane that hangs, which lumend brings about.
const HANGS_FOR: Duration = Duration::from_secs(3);

/// A unit that was told to run its planes as lumend's user is found out, and nothing else is.
pub fn not_as_promised(host: &Host<'_>) -> Result<()> {
    let machine = host.machine;
    let directory = "/etc/systemd/system/lumen-encode@.service.d";
    machine.write(&format!("{directory}/user.conf"), "[Service]\nDynamicUser=no\nUser=lumen\n")?;
    let renew = || {
        host.systemctl(&["daemon-reload"])?;
        host.ctl(&["restart", "encode"])?;
        host.streams()
    };
    renew()?;
    let look = machine.run(&["lumend", "status", "--security", "--json"])?;
    ensure!(look.status.code() == Some(1), "status --security ends with {}", look.status);
    let report: Value = serde_json::from_slice(&look.stdout)?;
    let rows = report["planes"].as_array().context("a report has planes")?;
    let wrong =
        rows.iter().flat_map(|row| row["checks"].as_array().into_iter().flatten().map(move |check| (row, check)));
    let wrong: Vec<_> =
        wrong.filter(|(_, check)| check["ok"] == false).map(|(row, check)| (&row["plane"], &check["what"])).collect();
    ensure!(matches!(wrong[..], [(plane, what)] if plane == "encode" && what == "uid"), "differences: {wrong:?}");
    machine.must(&["rm", "-r", directory])?;
    renew()?;
    as_promised(host)
}

/// It is lumend that ends it, although it is another user's and closing its link would not.
pub fn hangs(host: &Host<'_>, kind: &str) -> Result<()> {
    let (pid, _) = host.plane(kind)?.context("it is not there")?;
    let (process, before) = (host.machine.path(&format!("/proc/{pid}")), host.runs()?);
    let start = Instant::now();
    host.machine.must(&["kill", "-s", "STOP", &pid.to_string()])?;
    wait_until(HANGS_FOR, || (!process.exists()).then_some(())).context("it lives on")?;
    println!("   system: {kind} stopped, and killed after {} ms", start.elapsed().as_millis());
    host.streams()?;
    one_replaced(kind, &before, &host.runs()?)?;
    ensure!(host.status()?["abandoned"]["planes"].as_array().is_none_or(Vec::is_empty), "given up: {}", host.ctl(&["status"])?);
    let unit = format!("lumen-{kind}@*");
    let journal = host.machine.must(&["journalctl", "--no-pager", "--unit", &unit])?;
    ensure!(!journal.contains("Watchdog timeout"), "it was not lumend but its unit that ended it:\n{journal}");
    Ok(())
}
