//! `kill -9` of a plane in mid-stream: the session goes on, on the same output, and its window stays where it is.

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use e2e::trial::{hiccups, pids, scene, sound, stage, trace, wait_for_frames, watch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;
use xtask::host::{Desktop, Host};
use xtask::stage::Stage;

/// Each on a host of its own, since a plane that dies again soon has to wait. The median counts: the machine is shared.
const KILLS: usize = 3;

fn survives_the_death_of(plane: &str, desktop: Desktop, exec: Option<&str>) {
    let stage = stage().unwrap();
    let config = exec.map(|arguments| scene(&stage, arguments)).unwrap_or_default();
    let mut gaps: Vec<f64> = (0..KILLS).map(|_| hiccup_of_a_kill(&stage, plane, desktop, &config)).collect();
    gaps.sort_by(f64::total_cmp);
    println!("{plane} on {desktop:?} {exec:?}: hiccups {gaps:.0?} ms");
    assert!(gaps[KILLS / 2] <= 250.0, "{plane}: hiccups of {gaps:?} ms");
}

/// What the host's own sway says of the window that is streamed, and on which output lumend says that the session is.
#[derive(PartialEq, Debug)]
struct Place {
    window: u64,
    rect: Value,
    /// The output that the window is on, and that output's place among all.
    output: Value,
    output_rect: Value,
    /// The session's, as `lumend status` has it.
    session: Value,
}

/// Where the only window is.
fn place(stage: &Stage, host: &Host) -> Place {
    let tree: Value = serde_json::from_str(&swaymsg(stage, host, &["-t", "get_tree", "--raw"])).unwrap();
    let outputs = tree["nodes"].as_array().unwrap();
    let of_one =
        |output: &Value| windows(output).into_iter().map(|window| (output.clone(), window)).collect::<Vec<_>>();
    let all: Vec<(Value, Value)> = outputs.iter().flat_map(of_one).collect();
    let [(output, window)] = &all[..] else { panic!("one window is expected: {tree:#}") };
    Place {
        window: window["id"].as_u64().unwrap(),
        rect: window["rect"].clone(),
        output: output["name"].clone(),
        output_rect: output["rect"].clone(),
        session: host.status().unwrap()["sessions"][0]["output"].clone(),
    }
}

/// All windows below a node of sway's tree.
fn windows(node: &Value) -> Vec<Value> {
    let children = ["nodes", "floating_nodes"].into_iter().filter_map(|kind| node[kind].as_array()).flatten();
    let below = children.flat_map(windows);
    // Only windows have a process.
    below.chain(node["pid"].is_u64().then(|| node.clone())).collect()
}

/// Asks the host's own sway, as its user.
fn swaymsg(stage: &Stage, host: &Host, arguments: &[&str]) -> String {
    let mut command = Command::new("swaymsg");
    command.arg("-s").arg(host.runtime().join("desktop/sway.sock")).args(arguments);
    if geteuid().is_root() {
        command.uid(stage.uid()).gid(stage.gid());
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "swaymsg: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Milliseconds from the last good frame before the kill to the first after it.
fn hiccup_of_a_kill(stage: &Stage, plane: &str, desktop: Desktop, config: &str) -> f64 {
    let host = Host::start(stage, desktop, config).unwrap();
    let client = watch(stage, &host, "viewer", 6, &[]).unwrap();
    wait_for_frames(&host, 5).unwrap();
    let before = pids(&host).unwrap();
    let stood = (desktop == Desktop::Sway).then(|| place(stage, &host));
    let killed = i64::from(host.kill_plane(plane).unwrap());
    let sent = host.status().unwrap()["sessions"][0]["frames"]["sent"].as_u64().unwrap();
    let status = host
        .status_where(Duration::from_secs(5), |status| {
            let sessions = &status["sessions"];
            sessions[0]["generation"] == 2 && sessions[0]["frames"]["sent"].as_u64().unwrap_or(0) > sent + 3
        })
        .unwrap();
    let planes = status["planes"].as_array().unwrap();
    let reborn = planes.iter().find(|entry| entry["plane"] == plane).unwrap();
    assert_ne!(reborn["pid"], killed, "{status:#}");
    assert_eq!((&reborn["restarts"], &reborn["state"]), (&1.into(), &"running".into()), "{status:#}");
    let after = pids(&host).unwrap();
    for (name, pid) in &before {
        assert_eq!(after.get(name) == Some(pid), !name.starts_with(plane), "{name}: {before:?} then {after:?}");
    }
    if let Some(stood) = stood {
        assert!(
            stood.session.is_string() && stood.session == stood.output,
            "the window is on the session's output: {stood:?}"
        );
        assert_eq!(place(stage, &host), stood, "neither the window nor its output has moved or is another one");
    }
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    let frames = trace(stage, "viewer").unwrap();
    sound(&frames).unwrap();
    let gaps = hiccups(&frames);
    assert_eq!(gaps.len(), 1, "one kill, one new generation: {gaps:?}");
    gaps[0]
}

#[test]
fn capture_on_a_moving_desktop() {
    survives_the_death_of("capture", Desktop::Sway, Some(""));
}

#[test]
fn capture_on_a_still_desktop() {
    survives_the_death_of("capture", Desktop::Sway, Some("--still"));
}

#[test]
fn encode_on_a_moving_desktop() {
    survives_the_death_of("encode", Desktop::Sway, Some(""));
}

#[test]
fn encode_on_a_still_desktop() {
    survives_the_death_of("encode", Desktop::Sway, Some("--still"));
}

#[test]
fn capture_and_encode_on_the_pattern() {
    survives_the_death_of("capture", Desktop::Pattern, None);
    survives_the_death_of("encode", Desktop::Pattern, None);
}

#[test]
fn the_compositor_dies_and_the_session_goes_on() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Sway, &scene(&stage, "")).unwrap();
    let client = watch(&stage, &host, "viewer", 12, &[]).unwrap();
    wait_for_frames(&host, 60).unwrap();
    let sway = e2e::trial::child_named(host.pid(), "sway").unwrap();
    kill(Pid::from_raw(sway), Signal::SIGKILL).unwrap();
    let status = host
        .status_where(Duration::from_secs(10), |status| {
            let session = &status["sessions"][0];
            session["generation"].as_u64().unwrap_or(0) >= 2 && session["fps"].as_f64().unwrap_or(0.0) > 0.0
        })
        .unwrap();
    let planes = status["planes"].as_array().unwrap();
    assert!(planes.iter().all(|plane| plane["restarts"] == 0), "nothing was charged as a crash: {status:#}");
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
}

/// Pids of encoders in a state that `lumend status` tells.
fn encoders(status: &Value, state: &str) -> Vec<i64> {
    let planes = status["planes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_one = |entry: &&Value| entry["plane"] == "encode" && entry["state"] == state;
    planes.iter().filter(is_one).filter_map(|entry| entry["pid"].as_i64()).collect()
}

#[test]
fn a_standby_takes_the_encoders_place_and_gets_a_standby_itself() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "[encode]\nstandby = true").unwrap();
    let client = watch(&stage, &host, "viewer", 12, &[]).unwrap();
    // Nobody waits for a death that may come: the first standby is started when the picture has flowed for a while.
    let spared = |status: &Value, known: &[i64]| {
        let waiting = encoders(status, "standby");
        encoders(status, "running").len() == 1 && waiting.len() == 1 && !known.contains(&waiting[0])
    };
    let limit = Duration::from_secs(10);
    let status = host.status_where(limit, |status| spared(status, &[])).unwrap();
    let (first, spare) = (encoders(&status, "running")[0], encoders(&status, "standby")[0]);

    // One that dies before its turn costs nothing.
    kill(Pid::from_raw(spare.try_into().unwrap()), Signal::SIGKILL).unwrap();
    let status = host.status_where(limit, |status| spared(status, &[spare])).unwrap();
    assert_eq!((encoders(&status, "running"), &status["sessions"][0]["generation"]), (vec![first], &1.into()));
    let heir = encoders(&status, "standby")[0];

    let before = pids(&host).unwrap();
    assert_eq!(i64::from(host.kill_plane("encode").unwrap()), first);
    let status = host
        .status_where(limit, |status| {
            let flows = status["sessions"][0]["generation"] == 2 && status["sessions"][0]["state"] == "streaming";
            flows && spared(status, &[spare, heir])
        })
        .unwrap();
    assert_eq!(encoders(&status, "running"), [heir], "it is the one that waited: {status:#}");
    for (name, pid) in pids(&host).unwrap().iter().filter(|(name, _)| !name.starts_with("encode")) {
        assert_eq!(before.get(name), Some(pid), "{name}: {before:?}");
    }
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!((&report["frames"]["decode_errors"], &report["restarts"]), (&0.into(), &0.into()), "{report:#}");
    let frames = trace(&stage, "viewer").unwrap();
    sound(&frames).unwrap();
    let gaps = hiccups(&frames);
    println!("hiccup {gaps:.0?} ms");
    assert_eq!(gaps.len(), 1, "one death, one new generation");
}
