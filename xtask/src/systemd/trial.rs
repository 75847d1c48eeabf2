//! Lumen installed, run and harmed, under a systemd that is as real as it gets: units, sockets, users, watchdogs, journal.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use xtask::process::wait_until;

use super::guest::{self, Client, Host, PERSON, Runs, Scope};
use super::machine::Machine;

const CONFIGURATION: &str = "[desktop]\nkind = \"pattern\"\n";
/// Where `cargo xtask` has put what was built.
const BUILT: &str = "/mnt/programs/lumend";
/// From the death of lumend to its clients' next picture.
const BACK_WITHIN: Duration = Duration::from_secs(2);

pub fn run(machine: &Machine) -> Result<()> {
    guest::settle(machine)?;
    system(machine).context("installed for the machine")?;
    person(machine).context("installed for a person")
}

/// As root would.
fn system(machine: &Machine) -> Result<()> {
    machine.write("/etc/lumen/lumen.toml", CONFIGURATION)?;
    let said = machine.must(&[BUILT, "install", "--system"])?;
    ensure!(said.ends_with("next: systemctl enable --now lumend"), "install says: {said}");
    let again = machine.must(&["lumend", "install", "--system"])?;
    ensure!(again.lines().rev().skip(1).all(|line| line.starts_with("as it was")), "install says again: {again}");
    let host = Host { machine, scope: Scope::System, lumend: "lumend" };
    host.systemctl(&["enable", "--now", "--quiet", "lumend"])?;

    let client = Client::connect(&host, "first")?;
    host.streams()?;
    users(&host)?;
    for kind in ["encode", "capture", "audio", "net"] {
        let (exit, before, after, took) = host.strike(kind, "KILL").with_context(|| format!("{kind} killed"))?;
        ensure!(exit == "SIGKILL", "{kind} was killed, and its end is told as {exit:?}");
        one_replaced(kind, &before, &after)?;
        println!("   system: {kind} killed, another after {} ms", took.as_millis());
    }
    let (_, before, after, took) = host.strike("encode", "STOP").context("encode stopped")?;
    one_replaced("encode", &before, &after)?;
    let journal = machine.must(&["journalctl", "--no-pager", "--unit", "lumen-encode@*"])?;
    ensure!(journal.contains("Watchdog timeout"), "a stopped plane ended, but not by its unit's watchdog:\n{journal}");
    println!("   system: encode stopped, another after {} ms", took.as_millis());
    lumend_killed(&host)?;
    let report = client.finish()?;
    picture_is_whole(&report)?;
    fields(machine)?;

    machine.must(&["lumend", "uninstall", "--system"])?;
    let left = machine.must(&["systemctl", "list-unit-files", "--no-legend", "lumen*"]).unwrap_or_default();
    ensure!(left.is_empty() && !machine.path("/usr/local/lib/lumen").exists(), "left by uninstall: {left}");
    Ok(())
}

/// As somebody without rights would, on a machine where an administrator has done nothing for them.
fn person(machine: &Machine) -> Result<()> {
    // What user@.service is, without the rest of a login.
    let unit = format!(
        "[Service]\nType=notify\nUser={PERSON}\nEnvironment=XDG_RUNTIME_DIR=/run/user/{PERSON}\nDelegate=yes\n\
         KillMode=mixed\nTasksMax=infinity\nExecStart=/lib/systemd/systemd --user --unit=basic.target\n"
    );
    machine.write("/etc/systemd/system/person.service", &unit)?;
    machine.must(&["systemctl", "daemon-reload"])?;
    machine.must(&["systemctl", "start", "person.service"])?;
    let lumend = "/home/person/.local/bin/lumend";
    let host = Host { machine, scope: Scope::Person, lumend };
    host.run(
        "sh",
        &["-c", &format!("mkdir -p ~/.config/lumen && printf '{CONFIGURATION}' > ~/.config/lumen/lumen.toml")],
    )?;
    let said = host.run(BUILT, &["install", "--prefix", "/home/person/.local"])?;
    ensure!(said.ends_with("next: systemctl --user enable --now lumend"), "install says: {said}");
    host.systemctl(&["enable", "--now", "--quiet", "lumend"])?;

    let client = Client::connect(&host, "second")?;
    host.streams()?;
    walls(&host)?;
    for kind in ["encode", "net"] {
        let (_, before, after, took) = host.strike(kind, "KILL").with_context(|| format!("{kind} killed"))?;
        one_replaced(kind, &before, &after)?;
        println!("   person: {kind} killed, another after {} ms", took.as_millis());
    }
    picture_is_whole(&client.finish()?)?;
    host.ctl(&["uninstall"])?;
    let left = host.run("find", &["/home/person/.config/systemd", "/home/person/.local/lib", "-type", "f"]);
    ensure!(left.as_deref().unwrap_or_default().is_empty(), "left by uninstall: {left:?}");
    Ok(())
}

/// Of all units exactly one of this kind has ended, and exactly one has begun.
fn one_replaced(kind: &str, before: &Runs, after: &Runs) -> Result<()> {
    let missing = |from: &Runs, of: &Runs| -> Vec<String> {
        of.iter().filter(|(unit, run)| from.get(*unit) != Some(run)).map(|(unit, _)| unit.clone()).collect()
    };
    let (ended, begun) = (missing(after, before), missing(before, after));
    let one = |units: &[String]| matches!(units, [unit] if unit.starts_with(&format!("lumen-{kind}@")));
    ensure!(one(&ended) && one(&begun), "one {kind} was to be replaced; ended: {ended:?}; begun: {begun:?}");
    Ok(())
}

/// Every plane is a user of its own, and none is lumend's or root.
fn users(host: &Host<'_>) -> Result<()> {
    let status = host.status()?;
    let mut pids: Vec<i64> = planes(&status)?;
    pids.push(host.show("lumend.service", "MainPID")?.parse()?);
    let mut uids = Vec::new();
    for pid in pids {
        uids.push(host.machine.must(&["stat", "--format=%u", &format!("/proc/{pid}")])?);
    }
    let count = uids.len();
    uids.sort();
    uids.dedup();
    ensure!(
        count >= 5 && uids.len() == count && !uids.contains(&"0".to_owned()),
        "users of planes and lumend: {uids:?}"
    );
    Ok(())
}

/// Every plane of a person's has namespaces of its own, although nobody had rights to give.
fn walls(host: &Host<'_>) -> Result<()> {
    let of = |pid: i64, name: &str| host.machine.must(&["readlink", &format!("/proc/{pid}/ns/{name}")]);
    for pid in planes(&host.status()?)? {
        for name in ["user", "mnt", "net"] {
            ensure!(of(pid, name)? != of(1, name)?, "process {pid} has no {name} namespace of its own");
        }
    }
    Ok(())
}

fn planes(status: &Value) -> Result<Vec<i64>> {
    let planes = status["planes"].as_array().context("a status has planes")?;
    Ok(planes.iter().filter_map(|plane| plane["pid"].as_i64()).collect())
}

/// Its clients are back in time, on the same sockets, which systemd has kept.
fn lumend_killed(host: &Host<'_>) -> Result<()> {
    let socket = bound(host)?;
    let mut gaps = Vec::new();
    for _ in 0..3 {
        let pid = host.show("lumend.service", "MainPID")?;
        host.machine.must(&["kill", "-s", "KILL", &pid])?;
        let start = Instant::now();
        wait_until(Duration::from_secs(10), || {
            let new = host.show("lumend.service", "MainPID").ok()?;
            (new != pid && new != "0").then_some(())
        })
        .context("systemd does not start lumend again")?;
        host.streams().context("after lumend was killed")?;
        gaps.push(start.elapsed());
    }
    gaps.sort();
    let median = gaps[1];
    ensure!(median <= BACK_WITHIN, "after lumend was killed clients were back after {gaps:?}");
    ensure!(bound(host)? == socket, "lumend has bound other sockets than those that systemd keeps for it");
    println!("   system: lumend killed, its client is back after {} ms, on the same sockets", median.as_millis());
    Ok(())
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

fn picture_is_whole(report: &Value) -> Result<()> {
    let count = |name: &str| report["frames"][name].as_u64().unwrap_or(u64::MAX);
    ensure!(count("decoded") > 60 && count("decode_errors") == 0, "what the client saw: {}", report["frames"]);
    Ok(())
}

/// What lumend says is in the journal with its priority and what it is about.
fn fields(machine: &Machine) -> Result<()> {
    let entries = machine.must(&["journalctl", "--output=json", "--unit=lumend.service", "LUMEN_SESSION=1"])?;
    let entries = entries.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    let about = |entry: &&Value| entry["LUMEN_GENERATION"].is_string() && entry["PRIORITY"].is_string();
    ensure!(entries.iter().any(|entry| about(&entry)), "no entry of the journal has a session and a generation");
    Ok(())
}
