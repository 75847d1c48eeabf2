//! Lumend itself dies or hangs: who starts it again, how soon its clients see something, and what it tells whoever asks systemd.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use xtask::process::wait_until;

use super::guest::{Client, Host};
use super::trial::picture_is_whole;

/// Of lumend, of which the median gap counts.
const KILLS: usize = 3;
/// From the last picture before the death of lumend to the first one after it, for its clients.
const BACK_WITHIN_MS: f64 = 2_000.0;
/// The same for the longest gap of several, since the machine does other things too.
const BACK_AT_LAST_MS: f64 = 4_000.0;

/// Its clients are back in time, on the same sockets, which systemd has kept; and no plane is left that was its, although one
/// hangs when it dies the first time.
pub fn killed(host: &Host<'_>) -> Result<()> {
    let client = Client::connect(host, "second", false)?;
    host.streams()?;
    let socket = bound(host)?;
    for kill in 0..KILLS {
        let hung = if kill == 0 { Some(hang(host, "net")?) } else { None };
        strike(host, "KILL")?;
        if let Some((pid, process)) = hung {
            ensure!(!process.exists(), "net, process {pid}, outlives the lumend that had it started");
        }
    }
    ensure!(bound(host)? == socket, "lumend has bound other sockets than those that systemd keeps for it");
    let report = client.finish()?;
    picture_is_whole(&report)?;
    let longest = report["gaps_ms"]["longest"].as_array().context("a report has gaps")?;
    let gaps: Vec<_> = longest.iter().filter_map(|gap| gap["ms"].as_f64()).take(KILLS).collect();
    let [most, median] = [0, KILLS / 2].map(|index| gaps.get(index).copied().context("fewer gaps than kills"));
    let (most, median) = (most?, median?);
    ensure!(
        median <= BACK_WITHIN_MS && most <= BACK_AT_LAST_MS,
        "when lumend was killed clients saw nothing for {gaps:.0?} ms"
    );
    println!("   system: lumend killed, its client sees nothing for {gaps:.0?} ms; on the same sockets");
    Ok(())
}

/// Stops a plane, of which systemd knows by then; where to see whether it is still there. Its unit's watchdog ends it too, but
/// later than lumend is to be back.
fn hang(host: &Host<'_>, kind: &str) -> Result<(i64, PathBuf)> {
    let (pid, _) = host.plane(kind)?.with_context(|| format!("no {kind} plane"))?;
    host.machine.must(&["kill", "-s", "STOP", &pid.to_string()])?;
    Ok((pid, host.machine.path(&format!("/proc/{pid}"))))
}

/// While it hangs the stream goes on without it; then systemd ends it, and its clients are back as soon.
pub fn hangs(host: &Host<'_>) -> Result<()> {
    let client = Client::connect(host, "third", false)?;
    host.streams()?;
    strike(host, "STOP")?;
    let report = client.finish()?;
    picture_is_whole(&report)?;
    let gap = report["gaps_ms"]["max"].as_f64().context("a report has gaps")?;
    println!("   system: lumend stopped, its client sees nothing for {gap:.0} ms");
    ensure!(gap <= BACK_AT_LAST_MS, "when lumend hung its client saw nothing for {gap:.0} ms");
    Ok(())
}

/// Waits until lumend's successor shows its clients what it did.
fn strike(host: &Host<'_>, signal: &str) -> Result<()> {
    let pid = host.show("lumend.service", "MainPID")?;
    host.machine.must(&["kill", "-s", signal, &pid])?;
    // One that hangs its watchdog ends.
    wait_until(Duration::from_secs(20), || {
        let new = host.show("lumend.service", "MainPID").ok()?;
        (new != pid && new != "0").then_some(())
    })
    .context("systemd does not start lumend again")?;
    host.streams()
}

/// The line of `systemctl status`, while one client watches.
pub fn tells(host: &Host<'_>) -> Result<()> {
    let text = || host.show("lumend.service", "StatusText");
    wait_until(Duration::from_secs(5), || {
        let text = text().ok()?;
        let (what, where_) = text.split_once("; listening on ")?;
        let fps: u32 = what.strip_prefix("1 session, ")?.strip_suffix(" fps")?.parse().ok()?;
        (fps > 0 && where_.ends_with(":47800")).then_some(())
    })
    .with_context(|| format!("of a lumend with one session systemd shows {:?}", text()))
}

/// The inode of the socket that QUIC clients reach.
fn bound(host: &Host<'_>) -> Result<String> {
    // 47800 in hexadecimal.
    let sockets = host.machine.must(&["cat", "/proc/net/udp", "/proc/net/udp6"])?;
    let mut inodes = sockets.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.nth(1)?.ends_with(":BAB8").then(|| words.nth(7)).flatten()
    });
    match (inodes.next(), inodes.next()) {
        (Some(inode), None) => Ok(inode.to_owned()),
        _ => bail!("not one socket on port 47800:\n{sockets}"),
    }
}
