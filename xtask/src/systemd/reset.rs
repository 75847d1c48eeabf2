//! A person begins anew, and deletes what lumend keeps.

use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, Result, bail, ensure};

use super::guest::Host;

const PARENT: &str = "/home/person/.local/state";
const STATE: &str = "/home/person/.local/state/lumen";

/// lumend begins with a new identity, although its walls do not let it make the directory; and where that cannot be had
/// it says so, once, and is not tried again. `install` is what installed it, and then finds the list of that again.
pub fn state_deleted(host: &Host<'_>, install: &[&str]) -> Result<()> {
    host.run("rm", &["-r", PARENT])?;
    host.restart().context("without its state directory")?;
    let key = host.machine.path(&format!("{STATE}/host-key.pem"));
    let mode = host.machine.path(STATE).metadata().context("it was not made again")?.permissions().mode() & 0o777;
    ensure!(key.exists() && mode == 0o700, "the new state directory has mode {mode:o}, a key: {}", key.exists());

    host.run("rm", &["-r", STATE])?;
    host.run("touch", &[STATE])?;
    ensure!(host.systemctl(&["restart", "lumend"]).is_err(), "lumend starts with a file for a state directory");
    let state = [host.show("lumend.service", "ActiveState")?, host.show("lumend.service", "NRestarts")?];
    ensure!(state == ["failed", "0"], "with a file for a state directory lumend is {state:?}");
    host.machine.must(&["journalctl", "--sync"])?;
    let journal = host.machine.must(&["journalctl", "--output=cat", "--identifier=lumend"])?;
    let complaint = format!("lumend: cannot use {STATE}: ");
    ensure!(journal.matches(&complaint).count() == 1, "without a state directory lumend says:\n{journal}");
    host.run("rm", &[STATE])?;
    let [program, arguments @ ..] = install else { bail!("a command has a name") };
    let said = host.run(program, arguments)?;
    ensure!(said.lines().rev().skip(1).all(|line| line.starts_with("as it was")), "install says again: {said}");
    host.restart()?;
    println!("   person: without a state directory lumend makes a new one, or says why it cannot and ends");
    Ok(())
}
