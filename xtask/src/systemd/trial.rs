//! Lumen installed, run and harmed, under a systemd that is as real as it gets: units, sockets, users, watchdogs, journal.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask::binaries::root;

use super::apart;
use super::guest::{self, Client, Host, PERSON, Runs, Scope};
use super::heir;
use super::machine::{self, Machine};
use super::reset;

const CONFIGURATION: &str = "[desktop]\nkind = \"pattern\"\n";
/// With a window in which something moves.
const SWAY: &str = "[desktop]\nkind = \"sway\"\nexec = \"exec foot sh -c 'while date +%N; do :; done'\"\n";
/// Where `cargo xtask` has put what was built.
const BUILT: &str = "/mnt/programs/lumend";

pub fn run(machine: &Machine) -> Result<()> {
    guest::settle(machine)?;
    package(machine).context("installed into a tree")?;
    system(machine).context("installed for the machine")?;
    person(machine).context("installed for a person")
}

/// As who makes a package would: without rights, below another root, and away again.
fn package(machine: &Machine) -> Result<()> {
    let tree = "/home/person/tree";
    for (command, files) in [("install", true), ("uninstall", false)] {
        let mut lumend = guest::as_person(machine, BUILT);
        lumend.args([command, "--system", "--prefix", "/usr", "--root", tree]);
        machine::said(&["lumend", command], &lumend.output()?)?;
        let there = ["usr/lib/lumen/lumen-net", "etc/systemd/system/lumend.service"]
            .map(|file| machine.path(&format!("{tree}/{file}")).exists());
        ensure!(there == [files; 2], "after {command}: {there:?}");
    }
    Ok(())
}

/// As root would.
fn system(machine: &Machine) -> Result<()> {
    let said = machine.must(&[BUILT, "install", "--system"])?;
    ensure!(said.ends_with("next: systemctl enable --now lumend"), "install says: {said}");
    let again = machine.must(&["lumend", "install", "--system"])?;
    ensure!(again.lines().rev().skip(1).all(|line| line.starts_with("as it was")), "install says again: {again}");
    ensure!(!said.contains("by hand"), "install says: {said}");
    let host = Host { machine, scope: Scope::System, lumend: "lumend" };
    unusable_configuration(&host)?;
    host.systemctl(&["enable", "--now", "--quiet", "lumend"])?;

    let client = Client::connect(&host, "first", false)?;
    host.streams()?;
    users(&host)?;
    as_promised(&host)?;
    apart::not_as_promised(&host).context("a plane of lumend's user")?;
    // Connections to listening sockets end in the same plane, which has neither a network nor an address that it may use.
    let asks = "exec 3<>/dev/tcp/127.0.0.1/47989; printf 'GET /serverinfo HTTP/1.1\\r\\nHost: lumen\\r\\n\\r\\n' >&3; head -n 1 <&3";
    let answer = machine.must(&["timeout", "5", "bash", "-c", asks])?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "a Moonlight client is told {answer:?}");
    for kind in ["encode", "capture", "audio", "net"] {
        let (exit, before, after, took) = host.strike(kind, "KILL").with_context(|| format!("{kind} killed"))?;
        ensure!(exit == "SIGKILL", "{kind} was killed, and its end is told as {exit:?}");
        one_replaced(kind, &before, &after)?;
        println!("   system: {kind} killed, another after {} ms", took.as_millis());
    }
    heir::tells(&host).context("what systemctl shows")?;
    for kind in ["encode", "net"] {
        apart::hangs(&host, kind).with_context(|| format!("{kind} hangs"))?;
    }
    picture_is_whole(&client.finish()?)?;
    apart::outlived(&host).context("a plane that lumend may not kill")?;
    heir::killed(&host).context("lumend killed")?;
    heir::hangs(&host).context("lumend stopped")?;
    fields(machine)?;
    own_desktop(&host).context("with a desktop of its own")?;
    apart::undone(&host).context("what was prepared for an app")?;

    machine.must(&["lumend", "uninstall", "--system"])?;
    let find = "find /etc/systemd /etc/udev /etc/sysusers.d /etc/tmpfiles.d -name '*lumen*' 2>/dev/null || true";
    let left = machine.must(&["sh", "-c", find])?;
    ensure!(left.is_empty() && !machine.path("/usr/local/lib/lumen").exists(), "left by uninstall: {left}");
    Ok(())
}

/// A sway that the launcher's unit has started: free of what binds lumend, and with the hands and eyes of planes on it.
fn own_desktop(host: &Host<'_>) -> Result<()> {
    let machine = host.machine;
    host.configure(SWAY)?;
    if host.scope == Scope::System {
        // Both users read it, and nobody else has to.
        machine.must(&["chown", "root:lumen-desktop", "/etc/lumen/lumen.toml"])?;
        machine.must(&["chmod", "640", "/etc/lumen/lumen.toml"])?;
    }
    host.restart()?;
    let client = Client::connect(host, "fourth", true)?;
    host.streams()?;
    let sway = machine.process("sway").context("no sway runs")?;
    let status = machine.must(&["cat", &format!("/proc/{sway}/status")])?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let free = [field("NoNewPrivs:"), field("Seccomp:")] == [Some("0"); 2];
    let here = machine.must(&["readlink", "/proc/1/ns/mnt"])?;
    let there = machine.must(&["readlink", &format!("/proc/{sway}/ns/mnt")])?;
    ensure!(free && here == there, "the desktop is in somebody's sandbox: {there}, {status}");
    if host.scope == Scope::System {
        apart::desktop(host)?;
    }
    as_promised(host)?;
    for kind in ["input", "capture"] {
        let (_, before, after, took) = host.strike(kind, "KILL").with_context(|| format!("{kind} killed"))?;
        one_replaced(kind, &before, &after)?;
        println!("   {}, own sway: {kind} killed, another after {} ms", host.name(), took.as_millis());
    }
    picture_is_whole(&client.finish()?)?;
    host.systemctl(&["stop", "lumend"])?;
    let left = host.runs()?;
    ensure!(left.is_empty() && machine.process("sway").is_none(), "left after lumend was stopped: {left:?}");
    host.configure(CONFIGURATION)?;
    host.systemctl(&["start", "lumend"]).map(drop)
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
    let install = [BUILT, "install", "--prefix", "/home/person/.local"];
    let said = host.run(install[0], &install[1..])?;
    ensure!(said.ends_with("next: systemctl --user enable --now lumend"), "install says: {said}");
    host.systemctl(&["enable", "--now", "--quiet", "lumend"])?;

    host.systemctl(&["start", "pipewire.service"])?;
    let client = Client::connect(&host, "first", false)?;
    host.streams()?;
    walls(&host)?;
    as_promised(&host)?;
    for kind in ["encode", "audio", "net"] {
        let (_, before, after, took) = host.strike(kind, "KILL").with_context(|| format!("{kind} killed"))?;
        one_replaced(kind, &before, &after)?;
        println!("   person: {kind} killed, another after {} ms", took.as_millis());
    }
    // Each has a namespace of its own for users, and lumend another one.
    apart::hangs(&host, "encode").context("encode hangs")?;
    let report = client.finish()?;
    picture_is_whole(&report)?;
    ensure!(report["audio"]["received"].as_u64() > Some(100), "what the client heard: {}", report["audio"]);
    reset::state_deleted(&host, &install).context("with its state deleted")?;
    own_desktop(&host).context("with a desktop of its own")?;
    no_namespaces(&host).context("without namespaces")?;
    host.ctl(&["uninstall"])?;
    // The directories may be gone as well, which is no fault.
    let find = "cd /home/person && find .config/systemd .local/lib .local/bin ! -type d 2>/dev/null || true";
    let left = host.run("sh", &["-c", find])?;
    ensure!(left.is_empty(), "left by uninstall: {left}");
    Ok(())
}

/// It does not mend by itself, so that it is not tried again and again; and it is tried again when somebody says so.
fn unusable_configuration(host: &Host<'_>) -> Result<()> {
    host.configure("[desktop]\nkind = \"kde\"\n")?;
    ensure!(host.systemctl(&["start", "lumend"]).is_err(), "lumend starts with a configuration that it cannot use");
    let state = [host.show("lumend.service", "ActiveState")?, host.show("lumend.service", "NRestarts")?];
    ensure!(state == ["failed", "0"], "with a configuration that it cannot use lumend is {state:?}");
    host.configure(CONFIGURATION)
}

/// Of all units exactly one of this kind has ended, and exactly one has begun.
pub fn one_replaced(kind: &str, before: &Runs, after: &Runs) -> Result<()> {
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

/// On machines that give users none, `lumend install` puts this beside the units, and they work all the same.
fn no_namespaces(host: &Host<'_>) -> Result<()> {
    let text = std::fs::read_to_string(root().join("systemd/no-namespaces.conf"))?;
    for directory in ["lumen-.service.d", "lumend.service.d"] {
        host.machine.write(&format!("/home/person/.config/systemd/user/{directory}/no-namespaces.conf"), &text)?;
    }
    host.systemctl(&["daemon-reload"])?;
    host.restart()?;
    let client = Client::connect(host, "fifth", false)?;
    host.streams()?;
    ensure!(walls(host).is_err(), "there are namespaces although the units are told to do without");
    picture_is_whole(&client.finish()?)?;
    let directories =
        ["lumen-.service.d", "lumend.service.d"].map(|name| format!("/home/person/.config/systemd/user/{name}"));
    host.machine.must(&["rm", "-r", &directories[0], &directories[1]]).map(drop)
}

/// What lumend itself says of the planes' walls, with those of the units around them.
pub fn as_promised(host: &Host<'_>) -> Result<()> {
    host.ctl(&["status", "--security"]).context("a plane has other walls than its profile promises").map(drop)
}

fn planes(status: &Value) -> Result<Vec<i64>> {
    let planes = status["planes"].as_array().context("a status has planes")?;
    Ok(planes.iter().filter_map(|plane| plane["pid"].as_i64()).collect())
}

pub fn picture_is_whole(report: &Value) -> Result<()> {
    let count = |name: &str| report["frames"][name].as_u64().unwrap_or(u64::MAX);
    ensure!(count("decoded") > 20 && count("decode_errors") == 0, "what the client saw: {}", report["frames"]);
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
