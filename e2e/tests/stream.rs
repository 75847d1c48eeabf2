//! The main job: real desktops, real planes, a client that decodes every frame.

use std::time::Duration;

use e2e::trial::{MODE, pids, scene, sound, stage, trace, wait_for_frames, wait_for_nothing, watch};
use serde_json::Value;
use xtask::client::{Client, allow};
use xtask::host::{Desktop, Host};
use xtask::sway::Sway;

#[test]
fn the_pattern_arrives_whole_and_in_order() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 5, &[]).unwrap();
    let status = wait_for_frames(&host, 60).unwrap();
    let report = client.succeed(Duration::from_secs(30)).unwrap();

    let frames = &report["frames"];
    assert_eq!(frames["lost"], 0, "{report:#}");
    assert_eq!(frames["decode_errors"], 0, "{report:#}");
    assert_eq!(frames["decoded"], frames["received"], "{report:#}");
    assert_eq!(frames["out_of_order"], 0, "{report:#}");
    assert_eq!(report["codec"], "h264");
    assert_eq!(report["fingerprint"], host.fingerprint().unwrap());
    assert_eq!(report["stamps"]["unreadable"], 0, "{report:#}");
    assert!(report["latency_us"]["drawn_to_decoded"]["p50"].as_f64().unwrap() > 0.0);
    let traced = trace(&stage, "viewer").unwrap();
    sound(&traced).unwrap();
    assert!(traced.windows(2).all(|pair| pair[0].stamp < pair[1].stamp), "pixel frame numbers only grow");
    assert!(traced.len() > 200, "{} frames in five seconds of 60 Hz", traced.len());

    let session = &status["sessions"][0];
    assert_eq!(session["protocol"], "lumen/1");
    assert_eq!(session["encoder"], "openh264");
    assert_eq!(session["mode"]["width"], 640);
    for stage in ["capture_wait", "convert", "encode", "send", "total"] {
        assert!(session["latency_us"][stage]["p99"].is_number(), "{stage}: {session:#}");
    }
    wait_for_nothing(&host, Duration::from_secs(5)).unwrap();
}

#[test]
fn a_sway_desktop_of_lumens_own_arrives() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Sway, &scene(&stage, "")).unwrap();
    let client = watch(&stage, &host, "viewer", 5, &[]).unwrap();
    wait_for_frames(&host, 60).unwrap();
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["lost"], 0, "{report:#}");
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    assert!(report["stamps"]["read"].as_u64().unwrap() > 150, "{report:#}");
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
}

#[test]
fn a_bare_server_shows_the_default_terminal() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Sway, "").unwrap();
    let picture = stage.out("viewer.png");
    let client = watch(&stage, &host, "viewer", 3, &["--png", picture.to_str().unwrap()]).unwrap();
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    assert!(report["frames"]["still"].as_u64().unwrap() > 5, "a still desktop is sent again and again: {report:#}");
    assert!(std::fs::metadata(&picture).unwrap().len() > 1000);
}

#[test]
fn two_sessions_at_once_have_planes_and_modes_of_their_own() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Sway, &scene(&stage, "")).unwrap();
    let first = watch(&stage, &host, "first", 8, &[]).unwrap();
    wait_for_frames(&host, 30).unwrap();
    allow(&stage, &host, "second").unwrap();
    let arguments = ["--mode", "320x240x30", "--decode", "--seconds", "3"];
    let second = Client::connect(&stage, "second", &host.address(), &arguments).unwrap();
    let both = |status: &Value| {
        let sessions = status["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
        sessions.len() == 2 && sessions.iter().all(|session| session["frames"]["sent"].as_u64().unwrap_or(0) > 5)
    };
    let status = host.status_where(Duration::from_secs(10), both).unwrap();
    assert_eq!(pids(&host).unwrap().len(), 7, "two capture, two encode, two audio, one net: {status:#}");
    let (second, first) = (second.succeed(Duration::from_secs(30)), first.succeed(Duration::from_secs(30)));
    let (second, first) = (second.unwrap(), first.unwrap());
    assert_eq!(second["mode"], serde_json::json!({ "width": 320, "height": 240, "refresh_mhz": 30_000 }));
    for report in [&first, &second] {
        assert_eq!(report["frames"]["lost"], 0, "{report:#}");
        assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    }
}

#[test]
fn an_existing_output_of_a_session_that_is_already_there() {
    let stage = stage().unwrap();
    let sway = Sway::start(&stage, "640x360@60Hz", stage.program("scene").to_str().unwrap()).unwrap();
    let config = "[display]\nsource = \"output:HEADLESS-1\"";
    let host = Host::start_in(&stage, &sway.environment(), config).unwrap();
    let report = watch(&stage, &host, "viewer", 4, &[]).unwrap().succeed(Duration::from_secs(30)).unwrap();
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    assert!(report["stamps"]["read"].as_u64().unwrap() > 100, "{report:#}");
    let outputs = sway.message(&stage, &["-t", "get_outputs", "-r"]).unwrap();
    assert!(!outputs.contains("HEADLESS-2"), "no output was made: {outputs}");
    assert_eq!(MODE, "640x360x60", "the mode that this test's compositor was started with");
}

#[test]
fn an_idr_comes_when_it_is_asked_for() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 5, &[]).unwrap();
    let status = wait_for_frames(&host, 60).unwrap();
    let session = status["sessions"][0]["id"].to_string();
    host.must(&["idr", &session]).unwrap();
    client.succeed(Duration::from_secs(30)).unwrap();
    let idrs = trace(&stage, "viewer").unwrap().iter().filter(|frame| frame.idr).count();
    assert_eq!(idrs, 2, "the first frame and the one asked for");
}
