//! Planes are apart from lumend, as other users or in other namespaces: who can harm whom, and who ends whom.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use xtask::process::wait_until;

use super::guest::{Client, Host};
use super::trial::{as_promised, one_replaced, picture_is_whole};

/// From its last breath to the end of a plane that hangs, which lumend brings about.
const HANGS_FOR: Duration = Duration::from_secs(3);
/// `WatchdogSec=` of the planes' units, and some for systemd, which rounds.
const WATCHDOG: Duration = Duration::from_secs(12);

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

/// It is lumend that ends it, although it is another user's, or of another namespace of users, and closing its link would not.
pub fn hangs(host: &Host<'_>, kind: &str) -> Result<()> {
    let (pid, _) = host.plane(kind)?.context("it is not there")?;
    let (process, before, barks) = (host.machine.path(&format!("/proc/{pid}")), host.runs()?, barks(host, kind)?);
    let start = Instant::now();
    host.machine.must(&["kill", "-s", "STOP", &pid.to_string()])?;
    wait_until(HANGS_FOR, || (!process.exists()).then_some(())).context("it lives on")?;
    println!("   {}: {kind} stopped, and killed after {} ms", host.name(), start.elapsed().as_millis());
    host.streams()?;
    one_replaced(kind, &before, &host.runs()?)?;
    ensure!(host.status()?["abandoned"]["planes"] == json!([]), "given up: {}", host.ctl(&["status"])?);
    ensure!(self::barks(host, kind)? == barks, "it was not lumend but its unit that ended it");
    Ok(())
}

/// How often the watchdogs of the units of this kind have ended somebody.
fn barks(host: &Host<'_>, kind: &str) -> Result<usize> {
    let journal = host.machine.must(&["journalctl", "--no-pager", "--output=cat"])?;
    let unit = format!("lumen-{kind}@");
    Ok(journal.lines().filter(|line| line.starts_with(&unit) && line.contains("Watchdog timeout")).count())
}

/// Where lumend may not end another user's plane, the stream goes on without it, and its unit's watchdog ends it.
pub fn outlived(host: &Host<'_>) -> Result<()> {
    let machine = host.machine;
    let directory = "/etc/systemd/system/lumend.service.d";
    machine.write(&format!("{directory}/kill.conf"), "[Service]\nCapabilityBoundingSet=\nAmbientCapabilities=\n")?;
    let renew = || {
        host.systemctl(&["daemon-reload"])?;
        host.restart()
    };
    renew()?;
    let client = Client::connect(host, "sixth", false)?;
    host.streams()?;
    let (pid, _) = host.plane("encode")?.context("it is not there")?;
    let (process, before, barks) = (machine.path(&format!("/proc/{pid}")), host.runs()?, barks(host, "encode")?);
    let start = Instant::now();
    machine.must(&["kill", "-s", "STOP", &pid.to_string()])?;
    let given_up = || host.status().ok().filter(|status| status["abandoned"]["planes"][0]["pid"] == pid);
    wait_until(WATCHDOG, given_up).context("it is not given up")?;
    println!(
        "   system: encode stopped, which lumend may not kill, and given up after {} ms",
        start.elapsed().as_millis()
    );
    host.streams()?;
    wait_until(WATCHDOG, || (!process.exists()).then_some(())).context("its watchdog does not end it")?;
    println!("   system: it was ended by its unit's watchdog after {} ms", start.elapsed().as_millis());
    ensure!(self::barks(host, "encode")? == barks + 1, "it was not the watchdog that ended it");
    host.streams()?;
    one_replaced("encode", &before, &host.runs()?)?;
    ensure!(host.status()?["abandoned"]["planes"] == json!([]), "given up: {}", host.ctl(&["status"])?);
    picture_is_whole(&client.finish()?)?;
    machine.must(&["rm", "-r", directory])?;
    renew()
}

/// What runs on the machine's desktop is another user than lumend, and gets neither at its keys nor at its sockets.
pub fn desktop(host: &Host<'_>) -> Result<()> {
    let machine = host.machine;
    let lumend = host.show("lumend.service", "MainPID")?;
    let ids = |pid: &str, what: &str| -> Result<String> {
        let status = machine.must(&["cat", &format!("/proc/{pid}/status")])?;
        let line = status.lines().find_map(|line| line.strip_prefix(what)).context("a process has users and groups")?;
        Ok(line.split_whitespace().collect::<Vec<_>>().join(","))
    };
    let user = machine.must(&["id", "--user", "lumen-desktop"])?;
    for name in ["sway", "foot"] {
        let pid = machine.process(name).with_context(|| format!("no {name} runs"))?.to_string();
        let uids = ids(&pid, "Uid:")?;
        ensure!(uids == [&*user; 4].join(",") && uids != ids(&lumend, "Uid:")?, "{name} is of users {uids}");
    }
    // As the desktop itself is, with all its groups.
    let sway = machine.process("sway").context("no sway runs")?.to_string();
    let gid = ids(&sway, "Gid:")?.split(',').next().context("a process has a group")?.to_owned();
    let groups = ids(&sway, "Groups:")?;
    let as_sway = ["setpriv", "--reuid", &user, "--regid", &gid, "--groups", &groups, "--"];
    let as_lumend = ["setpriv", "--reuid", "lumen", "--regid", "lumen", "--clear-groups", "--"];
    let may =
        |who: &[&str], words: &[&str]| Ok::<_, anyhow::Error>(machine.run(&[who, words].concat())?.status.success());
    let found = machine.must(&["find", "/var/lib/lumen", "-name", "*key*"])?;
    let sockets = machine.must(&["find", "/run/lumen", "-type", "s"])?;
    ensure!(found.lines().count() >= 2 && sockets.lines().count() >= 7, "keys: {found}; sockets: {sockets}");
    let memory = format!("/proc/{lumend}/environ");
    for file in found.lines().chain([&*memory]) {
        let read = ["head", "--bytes=1", file];
        ensure!(may(&as_lumend, &read)? || file == memory, "not even lumend may read {file}");
        ensure!(!may(&as_sway, &read)?, "the desktop may read {file}");
    }
    for socket in sockets.lines() {
        // What connecting takes.
        let write = ["test", "-w", socket];
        ensure!(may(&as_lumend, &write)? && !may(&as_sway, &write)?, "the desktop may connect to {socket}");
    }
    ensure!(!may(&as_sway, &["lumend", "status", "--runtime", "/run/lumen"])?, "lumend answers the desktop");
    let look: Value = serde_json::from_str(&host.ctl(&["status", "--security", "--json"])?)?;
    let shown: Vec<_> =
        look["compared"].as_array().context("a report compares")?.iter().map(|row| &row["plane"]).collect();
    ensure!(shown == ["lumend", "launcher", "compositor"], "status --security shows {shown:?}");
    println!("   system, own sway: user {user}, away from keys and sockets");
    Ok(())
}

/// What a launcher has left to be undone is found by the next, although lumend may not look.
pub fn undone(host: &Host<'_>) -> Result<()> {
    let directory = "/var/lib/lumen-desktop/app-undo";
    let note = format!("mkdir -p -m 700 {directory} && echo '[\"touch {directory}/done\"]' > {directory}/1-1-1.json");
    let who = ["setpriv", "--reuid", "lumen-desktop", "--regid", "lumen-desktop", "--clear-groups", "--"];
    host.machine.must(&[&who[..], &["sh", "-c", &note]].concat())?;
    host.restart()?;
    let done = host.machine.path(&format!("{directory}/done"));
    wait_until(Duration::from_secs(10), || done.exists().then_some(())).context("nothing was undone")
}
