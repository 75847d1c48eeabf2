//! Planes that somebody else has started, one for each connection of lumend's: the host works as with its own children.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::activator::{Activator, Manager};
use e2e::trial::{hiccups, sound, stage, trace, wait_for_frames, wait_for_nothing, watch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::{Value, json};
use xtask::client::{Client, fingerprint};
use xtask::host::{Desktop, Host, free_port_pair};
use xtask::process::{Running, is_alive, wait_until};

const PATIENCE: Duration = Duration::from_secs(20);

/// Of lumend, with one client that stays. The median counts: the machine is shared.
const KILLS: usize = 3;

fn plane<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["planes"].as_array().unwrap().iter().find(|entry| entry["plane"] == name).unwrap()
}

fn parent(pid: i64) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:\t")).unwrap().to_owned()
}

#[test]
fn a_stream_survives_planes_that_are_nobodys_children() {
    let stage = stage().unwrap();
    let mut manager = Manager::listen(&stage).unwrap();
    let _activator = Activator::start(&stage, "host", manager.path(), &[]).unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 10, &[]).unwrap();
    let status = wait_for_frames(&host, 30).unwrap();
    for entry in status["planes"].as_array().unwrap() {
        assert_ne!(parent(entry["pid"].as_i64().unwrap()), host.pid().to_string(), "{entry:#}");
        assert_eq!(entry["sandbox"]["seccomp"], 2, "{entry:#}");
    }
    let session = format!("STATUS=serves session {}", status["sessions"][0]["id"]);
    manager
        .hear_until(PATIENCE, |manager| {
            let said = |what: &str| manager.told.iter().filter(|line| *line == what).count();
            said("READY=1") >= 3 && said("WATCHDOG=1") >= 3 && said(&session) >= 2
        })
        .unwrap();
    for (generation, name) in [(2, "encode"), (3, "capture")] {
        host.kill_plane(name).unwrap();
        let sent = host.status().unwrap()["sessions"][0]["frames"]["sent"].as_u64().unwrap();
        let status = host
            .status_where(PATIENCE, |status| {
                let session = &status["sessions"][0];
                session["generation"] == generation && session["frames"]["sent"].as_u64().unwrap_or(0) > sent + 3
            })
            .unwrap();
        let reborn = plane(&status, name);
        assert_eq!((&reborn["restarts"], &reborn["last_exit"]), (&1.into(), &"SIGKILL".into()), "{reborn:#}");
    }
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    let frames = trace(&stage, "viewer").unwrap();
    sound(&frames).unwrap();
    println!("hiccups {:.0?} ms", hiccups(&frames));
    wait_for_nothing(&host, Duration::from_secs(5)).unwrap();
}

#[test]
fn a_stopped_plane_of_another_user_is_let_go_of() {
    if !geteuid().is_root() {
        return println!("this takes root");
    }
    let stage = stage().unwrap();
    let manager = Manager::listen(&stage).unwrap();
    let _activator = Activator::start(&stage, "host", manager.path(), &["encode"]).unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 12, &[]).unwrap();
    wait_for_frames(&host, 30).unwrap();
    let pid = host.planes("encode").unwrap()[0];
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let status = host
        .status_where(PATIENCE, |status| {
            let session = &status["sessions"][0];
            session["generation"] == 2 && session["state"] == "streaming" && session["fps"].as_f64() > Some(0.0)
        })
        .unwrap();
    assert_ne!(plane(&status, "encode")["pid"], pid, "{status:#}");
    // Its unit's watchdog would end it. It finds its link closed instead.
    assert!(fs::exists(format!("/proc/{pid}")).unwrap(), "lumend may not kill it");
    let told = host.status_where(PATIENCE, |status| status["abandoned"]["planes"][0]["pid"] == pid).unwrap();
    assert_eq!(
        (&told["abandoned"]["planes"][0]["plane"], &told["abandoned"]["forgotten"]),
        (&"encode".into(), &0.into())
    );
    let look = host.ctl(&["status", "--security"]).unwrap();
    let text = String::from_utf8_lossy(&look.stdout);
    assert!(look.status.code() == Some(1) && text.contains("given up by lumend, and lives on"), "{text}");
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    wait_until(PATIENCE, || (!fs::exists(format!("/proc/{pid}")).unwrap()).then_some(())).unwrap();
    assert_eq!(host.status().unwrap()["abandoned"]["planes"], json!([]));
    assert_eq!(client.succeed(Duration::from_secs(30)).unwrap()["frames"]["decode_errors"], 0);
}

#[test]
fn without_sockets_it_says_what_to_do() {
    let stage = stage().unwrap();
    let mut command = stage.command("lumend");
    command.args(["run", "--desktop", "pattern"]).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.lines().count() == 1 && said.contains("--spawn") && said.contains("net.sock"), "{said}");
}

/// Whether a datagram lies in the socket of this port, which nobody reads.
fn waits_at(port: u16) -> bool {
    let sockets = fs::read_to_string("/proc/net/udp").unwrap();
    sockets.lines().skip(1).any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields[1].ends_with(&format!(":{port:04X}")) && !fields[4].ends_with(":00000000")
    })
}

/// lumend as a service manager starts it: with what was kept, from descriptor 3 on. With `spawn` it is the parent of its
/// planes.
fn start(stage: &xtask::stage::Stage, manager: &Manager, port: u16, spawn: bool) -> Running {
    let config = format!(
        "[listen]\naddress = \"127.0.0.1\"\nport = {port}\n[gamestream]\nenabled = false\n[discovery]\nenabled = false\n"
    );
    let config = stage.write("kept.toml", &config).unwrap();
    // The shell moves them to where they belong, and knows its own number, which is lumend's. All are out of the way first.
    let away = manager.kept.values().enumerate().map(|(index, fd)| format!(" {}<&{fd}", index + 300));
    let moves = (0..manager.kept.len()).map(|index| format!(" {}<&{from} {from}<&-", index + 3, from = index + 300));
    let moves: String = away.chain(moves).collect();
    let script = format!("export LISTEN_PID=$$; exec \"$0\" \"$@\"{moves}");
    let names = manager.kept.keys().map(String::as_str).collect::<Vec<_>>().join(":");
    let mut command = Command::new("/bin/bash");
    command.env_clear().arg("-c").arg(script).arg(stage.program("lumend"));
    command.args(["run", "--desktop", "pattern", "--config"]).arg(config).args(spawn.then_some("--spawn"));
    command.arg("--state").arg(stage.path().join("state")).arg("--runtime").arg(stage.path().join("run/kept"));
    command.env("NOTIFY_SOCKET", manager.path()).env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
    command.stderr(fs::File::options().create(true).append(true).open(stage.out("kept.log")).unwrap());
    command.env("LISTEN_FDS", manager.kept.len().to_string()).env("LISTEN_FDNAMES", names);
    if geteuid().is_root() {
        command.uid(stage.uid()).gid(stage.gid());
    }
    Running::new("lumend", command.spawn().unwrap())
}

fn ready(manager: &Manager) -> bool {
    manager.told.iter().any(|line| line == "READY=1") && manager.kept.len() == 2
}

#[test]
fn a_successor_serves_what_came_in_meanwhile_and_whom_its_predecessor_served() {
    let stage = stage().unwrap();
    let mut manager = Manager::listen(&stage).unwrap();
    stage.directory("run/kept").unwrap();
    let runtime = ["--runtime", stage.path().join("run/kept").to_str().unwrap()].map(str::to_owned);
    let port = free_port_pair().unwrap();
    let mut lumend = start(&stage, &manager, port, true);
    manager.hear_until(PATIENCE, ready).unwrap();
    let said = |manager: &Manager, what: &str| manager.told.iter().any(|line| line.contains(what));
    assert!(said(&manager, &format!("STATUS=no session; listening on 127.0.0.1:{port}")), "{:?}", manager.told);
    let (kept, address) = (manager.kept.clone(), format!("127.0.0.1:{port}"));
    let ctl = |arguments: &[&str]| {
        let output = stage.command("lumend").args(arguments).args(&runtime).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ctl(&["allow", &fingerprint(&stage, "viewer").unwrap()]);
    let arguments = ["--mode", "1280x720@60", "--decode", "--seconds", "100"];
    let mut viewer = Client::connect(&stage, "viewer", &address, &arguments).unwrap();
    let watching = || {
        wait_until(PATIENCE, || {
            let status: Value = serde_json::from_str(&ctl(&["status", "--json"])).unwrap_or_default();
            (status["sessions"][0]["frames"]["sent"].as_u64() > Some(20)).then_some(status)
        })
        .unwrap()
    };
    for kill in 1..=KILLS {
        let net = format!("/proc/{}", plane(&watching(), "net")["pid"]);
        lumend.signal(Signal::SIGKILL).unwrap();
        lumend.wait(PATIENCE).unwrap();
        manager.told.clear();
        // The last time somebody comes while nobody is there, not even a network plane that turns everybody away because it
        // is to end.
        let stranger = (kill == KILLS).then(|| {
            wait_until(PATIENCE, || (!fs::exists(&net).unwrap()).then_some(())).unwrap();
            let stranger = Client::connect(&stage, "stranger", &address, &["--seconds", "1"]).unwrap();
            wait_until(PATIENCE, || waits_at(port).then_some(())).unwrap();
            stranger
        });
        lumend = start(&stage, &manager, port, true);
        if let Some(stranger) = stranger {
            let refused = stranger.finish(PATIENCE).unwrap();
            assert!(refused.stderr.contains("unknown client"), "{}", refused.stderr);
        }
        manager.hear_until(PATIENCE, ready).unwrap();
        assert_eq!(manager.kept, kept, "nothing was bound anew: {:?}", manager.told);
    }
    watching();
    viewer.running().signal(Signal::SIGINT).unwrap();
    let report = viewer.succeed(PATIENCE).unwrap();
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    assert_eq!(report["restarts"], KILLS, "a new session each time: {report:#}");
    let returns = report["returns"].as_array().unwrap();
    let mut gaps: Vec<_> = returns.iter().filter_map(|back| back["gap_ms"].as_f64()).collect();
    println!("without a picture for {gaps:.0?} ms");
    gaps.sort_by(f64::total_cmp);
    assert!(gaps[KILLS / 2] <= 2000.0, "{report:#}");
}

/// Nobody else would: they are not its children, they do not look at their links, and of it nothing is left but what the
/// manager keeps.
#[test]
fn planes_that_hang_when_lumend_dies_are_ended_by_its_successor() {
    let stage = stage().unwrap();
    let mut manager = Manager::listen(&stage).unwrap();
    let _activator = Activator::start(&stage, "kept", manager.path(), &[]).unwrap();
    let port = free_port_pair().unwrap();
    let mut lumend = start(&stage, &manager, port, false);
    let keeps = |manager: &Manager, plane: &str| manager.kept.keys().any(|name| name.contains(plane));
    manager.hear_until(PATIENCE, |manager| keeps(manager, "lumen-plane-net-")).unwrap();
    let ctl = |arguments: &[&str]| {
        let runtime = stage.path().join("run/kept");
        let output = stage.command("lumend").args(arguments).arg("--runtime").arg(runtime).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    ctl(&["allow", &fingerprint(&stage, "viewer").unwrap()]);
    let arguments = ["--mode", "1280x720@60", "--decode", "--seconds", "100"];
    let mut viewer = Client::connect(&stage, "viewer", &format!("127.0.0.1:{port}"), &arguments).unwrap();
    let watching = || {
        wait_until(PATIENCE, || {
            let status: Value = serde_json::from_str(&ctl(&["status", "--json"])).unwrap_or_default();
            (status["sessions"][0]["frames"]["sent"].as_u64() > Some(20)).then_some(status)
        })
        .unwrap()
    };
    let status = watching();
    let planes = status["planes"].as_array().unwrap().iter();
    let of_before: Vec<_> =
        planes.map(|entry| (entry["plane"].as_str().unwrap(), entry["pid"].as_i64().unwrap())).collect();
    let names: Vec<_> = of_before.iter().map(|(plane, pid)| format!("lumen-plane-{plane}-{pid}")).collect();
    manager.hear_until(PATIENCE, |manager| names.iter().all(|name| manager.kept.contains_key(name))).unwrap();
    let hung: Vec<_> =
        of_before.iter().filter(|(plane, _)| ["net", "encode"].contains(plane)).map(|&(_, pid)| pid as i32).collect();
    hung.iter().for_each(|&pid| kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap());
    lumend.signal(Signal::SIGKILL).unwrap();
    lumend.wait(PATIENCE).unwrap();
    assert!(hung.len() == 2 && hung.iter().all(|&pid| is_alive(pid)), "{hung:?} have not noticed");
    let _lumend = start(&stage, &manager, port, false);
    let status = watching();
    let left: Vec<_> = hung.iter().filter(|&&pid| is_alive(pid)).collect();
    left.iter().for_each(|&&pid| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap());
    assert!(left.is_empty(), "{left:?} outlive the lumend that they were wired by");
    assert_eq!(status["abandoned"]["planes"], json!([]), "{status:#}");
    let log = fs::read_to_string(stage.out("kept.log")).unwrap();
    assert_eq!(log.matches("of an earlier lumend has not ended with it, and is killed").count(), 2, "{log}");
    let is_of_before = |name: &String| names.contains(name);
    manager
        .hear_until(PATIENCE, |manager| !manager.kept.keys().any(is_of_before) && keeps(manager, "lumen-plane-net-"))
        .unwrap();
    viewer.running().signal(Signal::SIGINT).unwrap();
    let report = viewer.succeed(PATIENCE).unwrap();
    assert_eq!((&report["restarts"], &report["frames"]["decode_errors"]), (&1.into(), &0.into()), "{report:#}");
    println!("without a picture for {} ms", report["returns"][0]["gap_ms"]);
}
