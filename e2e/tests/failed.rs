//! Planes that die five times in a minute: whom it costs what, and what the host says of it.

use std::time::Duration;

use e2e::trial::{stage, trace, watch};
use serde_json::Value;
use xtask::host::{Desktop, Host};

/// The plane of this kind and session that runs.
fn running<'a>(status: &'a Value, plane: &str, session: &Value) -> Option<&'a Value> {
    let mut planes = status["planes"].as_array()?.iter();
    planes.find(|entry| entry["plane"] == plane && &entry["session"] == session && entry["state"] == "running")
}

/// Kills a plane as soon as it runs, five times.
fn kill_five_times(host: &Host, plane: &str, session: &Value) {
    let mut killed = None;
    for _ in 0..5 {
        let status = host
            .status_where(Duration::from_secs(10), |status| {
                running(status, plane, session).is_some_and(|entry| Some(&entry["pid"]) != killed.as_ref())
            })
            .unwrap();
        let pid = running(&status, plane, session).unwrap()["pid"].clone();
        let number = i32::try_from(pid.as_i64().unwrap()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(number), nix::sys::signal::Signal::SIGKILL).unwrap();
        killed = Some(pid);
    }
}

#[test]
fn a_session_whose_encoder_dies_five_times_ends_with_the_reason_and_no_other_notices() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let unlucky = watch(&stage, &host, "unlucky", 60, &[]).unwrap();
    let streams = |count: usize| {
        move |status: &Value| {
            let sessions = status["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
            let stream = |session: &Value| session["frames"]["sent"].as_u64().unwrap_or(0) > 5;
            sessions.len() == count && sessions.iter().all(stream)
        }
    };
    let status = host.status_where(Duration::from_secs(20), streams(1)).unwrap();
    let doomed = status["sessions"][0]["id"].clone();
    let lucky = watch(&stage, &host, "lucky", 12, &[]).unwrap();
    host.status_where(Duration::from_secs(20), streams(2)).unwrap();

    kill_five_times(&host, "encode", &doomed);
    let ended = unlucky.finish(Duration::from_secs(10)).unwrap();
    let reason = "the encode plane failed five times in a minute; last: SIGKILL";
    assert!(ended.stderr.contains(reason), "{}", ended.stderr);
    assert_eq!(ended.status.code(), Some(5), "{}", ended.stderr);

    let status = host.status_where(Duration::from_secs(5), streams(1)).unwrap();
    let failure = &status["failures"][0];
    assert_eq!((&failure["session"], &failure["plane"]), (&doomed, &"encode".into()), "{status:#}");
    assert_eq!((&failure["reason"], &failure["retry"]), (&reason.into(), &"when its client connects again".into()));
    let told = host.must(&["status"]).unwrap();
    assert!(told.contains(&format!("session {doomed} of ")) && told.contains(reason), "{told}");

    let report = lucky.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!((&report["frames"]["lost"], &report["frames"]["decode_errors"]), (&0.into(), &0.into()), "{report:#}");
    assert!(trace(&stage, "lucky").unwrap().iter().all(|frame| frame.generation == 1), "it was not wired anew");
    // A fresh session has a fresh record.
    let report = watch(&stage, &host, "unlucky", 2, &[]).unwrap().succeed(Duration::from_secs(30)).unwrap();
    assert!(report["frames"]["decoded"].as_u64().unwrap() > 30, "{report:#}");
}

#[test]
fn a_network_plane_that_died_five_times_is_tried_again_and_status_says_when() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    kill_five_times(&host, "net", &Value::Null);
    let status = host.status_where(Duration::from_secs(5), |status| status["planes"][0]["state"] == "failed").unwrap();
    let net = &status["planes"][0];
    assert_eq!(net["reason"], "it failed five times in a minute; last: SIGKILL", "{net:#}");
    assert!(net["retry_in_s"].as_f64().is_some_and(|seconds| (40.0..=60.0).contains(&seconds)), "{net:#}");
    let told = host.must(&["status"]).unwrap();
    assert!(
        told.contains("net is failed: it failed five times in a minute; last: SIGKILL; it is tried again in"),
        "{told}"
    );
    assert!(host.log().contains("the network plane failed five times in a minute"), "{}", host.log());

    // Whoever does not want to wait does not have to.
    host.must(&["restart", "net"]).unwrap();
    let report = watch(&stage, &host, "viewer", 2, &[]).unwrap().succeed(Duration::from_secs(30)).unwrap();
    assert!(report["frames"]["decoded"].as_u64().unwrap() > 30, "{report:#}");
    assert_eq!(host.status().unwrap()["planes"][0]["reason"], Value::Null);
}
