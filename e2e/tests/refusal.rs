//! Clients that are turned away, clients that vanish, and starts that cannot work: one clear line each.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use e2e::trial::{refusal, scene, stage, trace, wait_for_frames, wait_for_nothing, watch};
use nix::sys::signal::Signal;
use xtask::client::{Client, allow, fingerprint};
use xtask::host::{Desktop, Host};
use xtask::process::{Running, wait_until};
use xtask::stage::Stage;

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn a_client_that_is_not_allowed_is_told_how_to_be() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = Client::connect(&stage, "stranger", &host.address(), &["--mode", "640x360x60"]).unwrap();
    let (code, said) = refusal(&client.finish(PATIENCE).unwrap());
    assert_eq!(code, Some(4), "{said}");
    let own = fingerprint(&stage, "stranger").unwrap();
    assert!(said.contains("lumend allow") && said.contains(&own), "{said}");
}

#[test]
fn modes_that_cannot_be_made_are_refused_with_the_reason() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    allow(&stage, &host, "viewer").unwrap();
    for mode in ["0x0x60", "20000x20000x60", "1280x720x1", "1280x720x1000"] {
        let client = Client::connect(&stage, "viewer", &host.address(), &["--mode", mode]).unwrap();
        let (code, said) = refusal(&client.finish(PATIENCE).unwrap());
        assert_eq!(code, Some(4), "{mode}: {said}");
        assert!(said.contains("is not a size") || said.contains("is not a rate"), "{mode}: {said}");
    }
}

#[test]
fn a_session_too_many_is_refused_and_the_running_one_does_not_notice() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "[sessions]\nmax = 1").unwrap();
    let first = watch(&stage, &host, "first", 6, &[]).unwrap();
    wait_for_frames(&host, 30).unwrap();
    let second = watch(&stage, &host, "second", 2, &[]).unwrap();
    let (code, said) = refusal(&second.finish(PATIENCE).unwrap());
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains('1'), "the reason names the limit: {said}");
    let report = first.succeed(PATIENCE).unwrap();
    assert_eq!(report["frames"]["lost"], 0, "{report:#}");
}

#[test]
fn a_host_that_is_not_the_pinned_one_is_refused() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    allow(&stage, &host, "viewer").unwrap();
    let wrong = "00".repeat(32);
    let client = Client::connect(&stage, "viewer", &host.address(), &["--pin", &wrong]).unwrap();
    let (code, said) = refusal(&client.finish(PATIENCE).unwrap());
    assert_eq!(code, Some(4), "{said}");
    let client = Client::connect(&stage, "viewer", &host.address(), &["--pin", "xyz"]).unwrap();
    assert_eq!(client.finish(PATIENCE).unwrap().status.code(), Some(2));
}

#[test]
fn a_client_that_vanishes_leaves_nothing_behind() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Sway, &scene(&stage, "")).unwrap();
    let mut client = watch(&stage, &host, "viewer", 60, &[]).unwrap();
    wait_for_frames(&host, 60).unwrap();
    client.running().signal(Signal::SIGKILL).unwrap();
    wait_for_nothing(&host, Duration::from_secs(5)).unwrap();
    wait_until(Duration::from_secs(5), || (busy_outputs(&stage) == 0).then_some(())).unwrap();
    let report = watch(&stage, &host, "viewer", 2, &[]).unwrap().succeed(PATIENCE).unwrap();
    assert!(report["frames"]["decoded"].as_u64().unwrap() > 30, "{report:#}");
}

/// Outputs of lumend's compositor that are on and at a rate somebody could watch. A sway that can neither unplug nor
/// disable a headless output (1.7: its wlroots refuses) is left at 10 Hz, which it does not even draw unwatched.
fn busy_outputs(stage: &Stage) -> usize {
    let socket = stage.path().join("run/host/desktop/sway.sock");
    let output =
        std::process::Command::new("swaymsg").arg("-s").arg(socket).args(["-r", "-t", "get_outputs"]).output().unwrap();
    let outputs: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let outputs = outputs.as_array().unwrap();
    outputs.iter().filter(|output| output["active"] == true && output["current_mode"]["refresh"] != 10_000).count()
}

#[test]
fn stopping_a_session_is_told_to_its_client() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 60, &[]).unwrap();
    let status = wait_for_frames(&host, 30).unwrap();
    host.must(&["stop", &status["sessions"][0]["id"].to_string()]).unwrap();
    let (code, said) = refusal(&client.finish(PATIENCE).unwrap());
    assert_eq!(code, Some(5), "{said}");
    assert!(!trace(&stage, "viewer").unwrap().is_empty());
    wait_for_nothing(&host, Duration::from_secs(5)).unwrap();
}

/// Runs `lumend run` with these arguments, which must fail; returns what it said.
fn fails_to_start(stage: &Stage, arguments: &[&str]) -> String {
    let log = stage.out("failure.log");
    let mut command = stage.command("lumend");
    command.args(["run", "--spawn"]).args(arguments).stderr(fs::File::create(&log).unwrap());
    let status = Running::new("lumend", command.spawn().unwrap()).wait(Duration::from_secs(10)).unwrap();
    assert!(!status.success(), "{arguments:?} worked");
    let said = fs::read_to_string(&log).unwrap();
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("lumend: ")).collect();
    assert_eq!(errors.len(), 1, "one line that says what to do: {said}");
    errors[0].to_string()
}

#[test]
fn starts_that_cannot_work_say_why_in_one_line() {
    let stage = stage().unwrap();
    let runtime = stage.directory("run/errors").unwrap();
    let state = stage.directory("state/errors").unwrap();
    let places = ["--runtime", runtime.to_str().unwrap(), "--state", state.to_str().unwrap()];
    let pattern = [&places[..], &["--desktop", "pattern"]].concat();

    let config = stage.write("bad.toml", "[encode]\nbitrate = 5\n").unwrap();
    let said = fails_to_start(&stage, &[&pattern[..], &["--config", config.to_str().unwrap()]].concat());
    assert!(said.contains("bitrate") && said.contains("bad.toml"), "{said}");

    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let config = stage.write("taken.toml", &format!("[listen]\nport = {}\n", host.port())).unwrap();
    let said = fails_to_start(&stage, &[&pattern[..], &["--config", config.to_str().unwrap()]].concat());
    assert!(said.contains(&host.port().to_string()), "{said}");

    fs::set_permissions(&state, fs::Permissions::from_mode(0o500)).unwrap();
    let said = fails_to_start(&stage, &pattern);
    assert!(said.contains("state"), "{said}");
}
