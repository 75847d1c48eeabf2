//! `kill -9` of the network plane in mid-stream: its clients come back to what they had.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use e2e::hands::{Seen, left_down, wait_seen};
use e2e::heard::packets;
use e2e::trial::{pids, sound, stage, trace, wait_for_nothing, watch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::client::{Client, allow};
use xtask::host::{Desktop, Host};
use xtask::process::Running;
use xtask::sound::{Sound, Speakers};

/// linux/input-event-codes.h
const KEY_LEFTSHIFT: u64 = 42;
const KEY_F1: u64 = 59;
const KEY_F2: u64 = 60;
/// Keys of the letters that are typed meanwhile, in turn.
const LETTERS: [(&str, u64); 4] = [("a", 30), ("s", 31), ("d", 32), ("f", 33)];

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits until a fresh network plane is there and every session streams a later generation.
fn wait_for_return(host: &Host, net: i32, generation: u64) -> Value {
    host.status_where(Duration::from_secs(12), |status| {
        let planes = status["planes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let fresh =
            |plane: &Value| plane["plane"] == "net" && plane["pid"] != i64::from(net) && plane["state"] == "running";
        let sessions = status["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let back = |session: &Value| {
            let running = |branch: &Value| branch.is_null() || branch["state"] == "running";
            session["state"] == "streaming"
                && session["generation"].as_u64() >= Some(generation)
                && running(&session["audio"])
                && running(&session["input"])
        };
        planes.iter().any(fresh) && !sessions.is_empty() && sessions.iter().all(back)
    })
    .unwrap()
}

/// The gaps of a report in milliseconds, sorted; all to the same session.
fn gaps(report: &Value) -> Vec<f64> {
    let returns = report["returns"].as_array().unwrap();
    assert!(returns.iter().all(|one| one["same_session"] == true), "{report:#}");
    let mut gaps: Vec<f64> = returns.iter().map(|one| one["gap_ms"].as_f64().unwrap()).collect();
    gaps.sort_by(f64::total_cmp);
    gaps
}

/// A key is held from the beginning to the end, and letters are typed all the while.
fn script() -> String {
    let mut script = "0 at 0.5 0.5\n20 key f1 down\n40 key f1 up\n60 key leftshift down\n".to_owned();
    for index in 0..360 {
        let (name, _) = LETTERS[index % LETTERS.len()];
        let at = 100 + 25 * index;
        script += &format!("{at} key {name} down\n{} key {name} up\n", at + 10);
    }
    script + "9200 key leftshift up\n9300 key f2 down\n9320 key f2 up\n"
}

#[test]
fn picture_sound_and_hands_come_back_to_the_same_planes_and_the_same_output() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let log = stage.out("tone.log");
    let mut tone = stage.command("tone");
    tone.envs(speakers.environment()).stdin(Stdio::null()).stderr(std::fs::File::create(log).unwrap());
    let _tone = Running::new("tone", tone.spawn().unwrap());
    let window = stage.out("window.log");
    let exec = format!("exec {} --log {}", text(&stage.program("scene")), text(&window));
    let config = format!("[desktop]\nexec = \"{exec}\"");
    let host = Host::start_named(&stage, "host", Some(Desktop::Sway), &speakers.environment(), &config).unwrap();
    let (hands, heard) = (stage.write("viewer.script", &script()).unwrap(), stage.out("viewer.audio"));
    let more = ["--input-script", text(&hands), "--audio-trace", text(&heard)];
    let client = watch(&stage, &host, "viewer", 13, &more).unwrap();
    wait_seen(&window, Duration::from_secs(20), |events| keys(events).len() > 20).unwrap();
    let before = pids(&host).unwrap();
    let session = host.status().unwrap()["sessions"][0].clone();
    for generation in 2..=4 {
        let net = host.kill_plane("net").unwrap();
        let status = wait_for_return(&host, net, generation);
        assert_eq!(status["sessions"].as_array().unwrap().len(), 1, "{status:#}");
        assert_eq!(status["sessions"][0]["id"], session["id"], "{status:#}");
        assert_eq!(status["sessions"][0]["output"], session["output"], "{status:#}");
        let after = pids(&host).unwrap();
        for (name, pid) in &before {
            assert_eq!(after.get(name) == Some(pid), !name.starts_with("net"), "{name}: {before:?} then {after:?}");
        }
        // A network plane that has lived for two seconds is replaced at once.
        std::thread::sleep(Duration::from_millis(2100));
    }
    let over = |events: &[Seen]| events.iter().any(|event| event.key() == Some((KEY_F2, false)));
    let events = wait_seen(&window, Duration::from_secs(20), over).unwrap();
    let report = client.succeed(Duration::from_secs(30)).unwrap();

    assert_eq!((&report["resumes"], &report["restarts"]), (&3.into(), &0.into()), "{report:#}");
    let gaps = gaps(&report);
    println!("gaps {gaps:.0?} ms");
    assert!(gaps[1] <= 500.0, "gaps of {gaps:?} ms");

    // The picture: nothing that could not be decoded, and nothing shown that should not have been.
    for what in ["decode_errors", "undecodable", "out_of_order"] {
        assert_eq!(report["frames"][what], 0, "{report:#}");
    }
    sound(&trace(&stage, "viewer").unwrap()).unwrap();

    // The hands: every key once and in order, and none stuck.
    let typed: Vec<u64> = keys(&events).into_iter().filter(|code| LETTERS.iter().any(|(_, key)| key == code)).collect();
    let expected: Vec<u64> = (0..360).map(|index| LETTERS[index % LETTERS.len()].1).collect();
    assert_eq!(typed, expected);
    let shifts = events.iter().filter_map(Seen::key).filter(|(code, _)| *code == KEY_LEFTSHIFT);
    assert_eq!(shifts.map(|(_, pressed)| pressed).collect::<Vec<_>>(), [true, false], "held all the while");
    assert!(left_down(&events).is_empty() && keys(&events).contains(&KEY_F1));
    assert_eq!(report["input"]["sent"], report["input"]["acknowledged"], "{report:#}");

    // The sound: nothing twice, nothing garbled, and it went on to the end.
    let heard = packets(&heard).unwrap();
    assert!(heard.windows(2).all(|pair| pair[1].captured_ns > pair[0].captured_ns), "captured in order");
    assert_eq!(
        (&report["audio"]["duplicates"], &report["audio"]["decode_errors"]),
        (&0.into(), &0.into()),
        "{report:#}"
    );
    assert!((report["audio"]["tone_hz"].as_f64().unwrap() - 440.0).abs() <= 1.0, "{report:#}");
}

/// Codes of the keys that were pressed, in order.
fn keys(events: &[Seen]) -> Vec<u64> {
    events.iter().filter_map(Seen::key).filter(|(_, pressed)| *pressed).map(|(code, _)| code).collect()
}

#[test]
fn several_clients_come_back_at_once_and_who_does_not_leaves_nothing() {
    const CLIENTS: [&str; 4] = ["one", "two", "three", "four"];
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let mut clients: Vec<Client> = Vec::new();
    for (number, name) in CLIENTS.iter().enumerate() {
        let more: &[&str] = if number == 3 { &["--no-audio", "--no-resume"] } else { &["--no-audio"] };
        clients.push(watch(&stage, &host, name, 14, more).unwrap());
    }
    host.status_where(Duration::from_secs(20), |status| {
        let sessions = status["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let streams = |session: &Value| session["frames"]["sent"].as_u64() > Some(10);
        sessions.len() == CLIENTS.len() && sessions.iter().all(streams)
    })
    .unwrap();
    let before = pids(&host).unwrap();
    let net = host.kill_plane("net").unwrap();
    let waiting = |status: &Value, state: &str| {
        let sessions = status["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
        sessions.iter().filter(|session| session["state"] == state).count()
    };
    let back = |status: &Value| waiting(status, "streaming") == 3 && waiting(status, "waiting for its client") == 1;
    host.status_where(Duration::from_secs(8), back).unwrap();
    let after = pids(&host).unwrap();
    for (name, pid) in &before {
        assert_eq!(after.get(name) == Some(pid), !name.starts_with("net"), "{name}: {before:?} then {after:?}");
    }
    assert_ne!(host.planes("net").unwrap(), [net]);
    // The fourth is not waited for any longer than ten seconds.
    host.status_where(Duration::from_secs(12), |status| status["sessions"].as_array().unwrap().len() == 3).unwrap();
    let lost = clients.pop().unwrap().finish(Duration::from_secs(30)).unwrap();
    assert_eq!(lost.status.code(), Some(5), "{}", lost.stderr);
    for client in clients {
        let report = client.succeed(Duration::from_secs(30)).unwrap();
        assert_eq!((&report["resumes"], &report["restarts"]), (&1.into(), &0.into()), "{report:#}");
        assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
        println!("{:.0?} ms", gaps(&report));
    }
    wait_for_nothing(&host, Duration::from_secs(10)).unwrap();
}

#[test]
fn a_network_plane_that_hangs_or_is_restarted_by_hand_costs_no_session() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 14, &["--no-audio"]).unwrap();
    e2e::trial::wait_for_frames(&host, 30).unwrap();
    let net = host.planes("net").unwrap()[0];
    host.must(&["restart", "net"]).unwrap();
    wait_for_return(&host, net, 2);
    let net = host.planes("net").unwrap()[0];
    let stopped = Instant::now();
    kill(Pid::from_raw(net), Signal::SIGSTOP).unwrap();
    wait_for_return(&host, net, 3);
    println!("back after {:.1} s", stopped.elapsed().as_secs_f64());
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert_eq!((&report["resumes"], &report["restarts"]), (&2.into(), &0.into()), "{report:#}");
    assert_eq!(report["frames"]["decode_errors"], 0, "{report:#}");
    println!("{:.0?} ms", gaps(&report));
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
}

/// As many as a host can have, each with a picture of its own: nobody's return is in another's way.
#[test]
fn sixteen_clients_come_back_at_once() {
    const CLIENTS: usize = 16;
    let stage = stage().unwrap();
    let config = format!("[sessions]\nmax = {CLIENTS}\n[audio]\nenabled = false\n[input]\nenabled = false");
    let host = Host::start(&stage, Desktop::Pattern, &config).unwrap();
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..CLIENTS {
        let name = format!("viewer{number}");
        allow(&stage, &host, &name).unwrap();
        // Nothing is decoded: what a picture shows is other tests' to say.
        let arguments = ["--mode", "160x120x10", "--seconds", "90", "--no-audio"];
        clients.push(Client::connect(&stage, &name, &host.address(), &arguments).unwrap());
    }
    let all = |status: &Value, generation: u64| {
        let sessions = status["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let flows = |session: &Value| {
            session["state"] == "streaming"
                && session["generation"] == generation
                && session["frames"]["sent"].as_u64() > Some(5)
        };
        sessions.len() == CLIENTS && sessions.iter().all(flows)
    };
    let ids = |status: &Value| -> Vec<Value> {
        status["sessions"].as_array().unwrap().iter().map(|session| session["id"].clone()).collect()
    };
    let first = host.status_where(Duration::from_secs(30), |status| all(status, 1)).unwrap();
    let before = pids(&host).unwrap();
    assert_eq!(before.len(), 1 + 2 * CLIENTS, "{before:?}");
    let net = host.kill_plane("net").unwrap();
    let then = host.status_where(Duration::from_secs(15), |status| all(status, 2)).unwrap();
    assert_eq!(ids(&then), ids(&first));
    let after = pids(&host).unwrap();
    for (name, pid) in &before {
        assert_eq!(after.get(name) == Some(pid), !name.starts_with("net"), "{name}: {before:?} then {after:?}");
    }
    assert_ne!(host.planes("net").unwrap(), [net]);
    let mut all_gaps = Vec::new();
    for mut client in clients {
        client.running().signal(Signal::SIGINT).unwrap();
        let report = client.succeed(Duration::from_secs(30)).unwrap();
        assert_eq!((&report["resumes"], &report["restarts"]), (&1.into(), &0.into()), "{report:#}");
        all_gaps.extend(gaps(&report));
    }
    println!("{all_gaps:.0?} ms");
    wait_for_nothing(&host, Duration::from_secs(10)).unwrap();
}
