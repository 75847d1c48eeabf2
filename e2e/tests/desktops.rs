//! Desktops of lumend's own: each session that runs at a time has a compositor to itself.

use std::path::PathBuf;
use std::time::Duration;

use e2e::hands::{Seen, seen, wait_seen};
use e2e::trial::{child_running, pids, refusal, sound, stage, trace, wait_for_nothing, watch};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::client::Client;
use xtask::host::{Desktop, Host};
use xtask::stage::Stage;

const KEY_F2: u64 = 60;
const WIDTH: f64 = 640.0;
const PATIENCE: Duration = Duration::from_secs(30);
/// Seconds of a session that ends when what was to be seen has been seen.
const LONG: u32 = 60;

/// When the scripts of two sessions begin: both windows have to be there by then.
const BEGIN_MS: u32 = 8_000;

/// A host whose desktops each run this program, with a log that is named like the desktop's directory.
fn host<'a>(stage: &'a Stage, program: &str) -> Host<'a> {
    let log = stage.out("$(basename $XDG_RUNTIME_DIR).log");
    let exec = format!("{} {}", stage.program(program).display(), log.display());
    Host::start(stage, Desktop::Sway, &format!("[desktop]\nexec = \"{exec}\"")).unwrap()
}

/// The log of the window on a desktop.
fn log(stage: &Stage, number: u32) -> PathBuf {
    stage.out(&if number == 1 { "desktop.log".to_owned() } else { format!("desktop-{number}.log") })
}

/// The pid of the compositor of a desktop.
fn sway(host: &Host, number: u32) -> anyhow::Result<i32> {
    let directory = if number == 1 { "/desktop/config".to_owned() } else { format!("/desktop-{number}/config") };
    child_running(host.pid(), "sway", &directory)
}

/// A client that does what a script says.
fn drive<'a>(stage: &'a Stage, host: &Host, name: &str, script: &str, seconds: u32) -> Client<'a> {
    let script = stage.write(&format!("{name}.script"), script).unwrap();
    watch(stage, host, name, seconds, &["--input-script", script.to_str().unwrap(), "--no-audio"]).unwrap()
}

/// Waits until so many sessions stream and their hands act, and returns the status.
fn streaming(host: &Host, sessions: usize) -> Value {
    let all = |status: &Value| {
        let list = status["sessions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let runs = |s: &Value| s["input"]["state"] == "running" && s["frames"]["sent"].as_u64() > Some(5);
        list.len() == sessions && list.iter().all(runs)
    };
    host.status_where(PATIENCE, all).unwrap()
}

#[test]
fn two_sessions_have_a_desktop_each_and_nothing_crosses() {
    let stage = stage().unwrap();
    let host = host(&stage, "listener");
    let script = |letter: &str, from: f64| -> String {
        let mut script = String::new();
        for index in 0..200 {
            let at = BEGIN_MS + index * 20;
            script.push_str(&format!("{at} at {:.3} 0.5\n", from + f64::from(index) * 0.001));
            script.push_str(&format!("{} key {letter} down\n{} key {letter} up\n", at + 5, at + 10));
        }
        script + &format!("{} key f2 down\n{} key f2 up\n", BEGIN_MS + 4100, BEGIN_MS + 4120)
    };
    let hands = [("a", 0.1), ("b", 0.5)];
    let mut clients = Vec::new();
    for (index, (letter, from)) in hands.into_iter().enumerate() {
        clients.push(drive(&stage, &host, ["one", "two"][index], &script(letter, from), LONG));
        let status = streaming(&host, index + 1);
        let session = &status["sessions"][index];
        let place = (&session["desktop"], &session["output"]);
        assert_eq!(place, (&format!("own {}", index + 1).into(), &"HEADLESS-1".into()), "{status:#}");
        wait_seen(&log(&stage, index as u32 + 1), PATIENCE, |_| true).unwrap();
    }
    let over = |events: &[Seen]| events.iter().any(|event| event.key() == Some((KEY_F2, false)));
    for (index, (letter, from)) in hands.into_iter().enumerate() {
        let events = wait_seen(&log(&stage, index as u32 + 1), PATIENCE, over).unwrap();
        let typed: Vec<_> = events.iter().filter(|event| event.key().is_some_and(|(code, _)| code != KEY_F2)).collect();
        assert_eq!(typed.len(), 400, "every key once");
        assert!(typed.iter().all(|event| event.fields["symbol"] == letter), "a key of the other session");
        assert!(typed.iter().all(|event| event.seat == "lumen-1"), "each desktop has a seat of its own");
        let places: Vec<f64> =
            events.iter().filter(|event| event.event == "motion").map(|event| event.number("x")).collect();
        let (low, high) = (from * WIDTH - 1.0, (from + 0.2) * WIDTH + 1.0);
        assert!(places.len() >= 190 && places.iter().all(|x| (low..high).contains(x)), "{places:?}");
    }
    for client in clients {
        client.leave(PATIENCE).unwrap();
    }
}

#[test]
fn a_desktop_that_dies_takes_only_its_own_sessions_picture() {
    let stage = stage().unwrap();
    let log = stage.out("$(basename $XDG_RUNTIME_DIR).log");
    let exec = format!("{} --log {}", stage.program("scene").display(), log.display());
    let host = Host::start(&stage, Desktop::Sway, &format!("[desktop]\nexec = \"{exec}\"")).unwrap();
    let one = drive(&stage, &host, "one", "", 16);
    streaming(&host, 1);
    let two = drive(&stage, &host, "two", "", 14);
    streaming(&host, 2);
    let before = pids(&host).unwrap();
    let first = sway(&host, 1).unwrap();
    let killed = sway(&host, 2).unwrap();
    kill(Pid::from_raw(killed), Signal::SIGKILL).unwrap();
    let status = host
        .status_where(Duration::from_secs(10), |status| {
            let session = &status["sessions"][1];
            session["generation"].as_u64() > Some(1)
                && session["state"] == "streaming"
                && session["fps"].as_f64() > Some(0.0)
                && session["input"]["state"] == "running"
        })
        .unwrap();
    let planes = status["planes"].as_array().unwrap();
    assert!(planes.iter().all(|plane| plane["restarts"] == 0), "nothing was charged as a crash: {status:#}");
    let sessions = &status["sessions"];
    assert_eq!((&sessions[0]["desktop"], &sessions[1]["desktop"]), (&"own 1".into(), &"own 2".into()), "{status:#}");
    let after = pids(&host).unwrap();
    let kept = before.iter().filter(|(name, _)| name.ends_with(&format!("/{}", sessions[0]["id"])));
    assert!(kept.clone().count() >= 3 && kept.clone().all(|(name, pid)| after.get(name) == Some(pid)), "{after:?}");
    assert_eq!(sway(&host, 1).unwrap(), first);
    assert_ne!(sway(&host, 2).unwrap(), killed);

    let (one, two) = (one.succeed(PATIENCE).unwrap(), two.succeed(PATIENCE).unwrap());
    assert_eq!((&one["frames"]["lost"], &two["frames"]["decode_errors"]), (&0.into(), &0.into()), "{one:#} {two:#}");
    let frames = trace(&stage, "one").unwrap();
    sound(&frames).unwrap();
    assert!(frames.iter().all(|frame| frame.generation == 1), "the picture was wired anew");
    let frames = trace(&stage, "two").unwrap();
    sound(&frames).unwrap();
    assert!(frames.iter().any(|frame| frame.generation > 1 && frame.stamp.is_some()), "the scene is back");
}

#[test]
fn who_comes_back_finds_the_windows_of_the_first_desktop() {
    let stage = stage().unwrap();
    let host = host(&stage, "listener");
    let typing = |letter: &str| format!("0 at 0.5 0.5\n1000 key {letter} down\n1020 key {letter} up\n");
    let typed = |letter: &'static str| {
        move |events: &[Seen]| events.iter().any(|event| event.key().is_some() && event.fields["symbol"] == letter)
    };
    let first = drive(&stage, &host, "one", &typing("a"), LONG);
    wait_seen(&log(&stage, 1), PATIENCE, typed("a")).unwrap();
    let second = drive(&stage, &host, "two", &typing("b"), LONG);
    wait_seen(&log(&stage, 2), PATIENCE, typed("b")).unwrap();
    let window = child_running(host.pid(), "listener", "/desktop.log").unwrap();
    let sways = [1, 2].map(|number| sway(&host, number).unwrap());
    first.leave(PATIENCE).unwrap();
    second.leave(PATIENCE).unwrap();
    wait_for_nothing(&host, PATIENCE).unwrap();

    let third = drive(&stage, &host, "three", &typing("c"), LONG);
    let status = streaming(&host, 1);
    let session = &status["sessions"][0];
    assert_eq!((&session["desktop"], &session["output"]), (&"own 1".into(), &"HEADLESS-1".into()), "{status:#}");
    let events = wait_seen(&log(&stage, 1), PATIENCE, typed("c")).unwrap();
    assert!(typed("a")(&events), "it is the same window");
    assert_eq!(child_running(host.pid(), "listener", "/desktop.log").unwrap(), window);
    assert_eq!([1, 2].map(|number| sway(&host, number).unwrap()), sways, "a desktop stays when its session leaves");
    assert!(!typed("c")(&seen(&log(&stage, 2)).unwrap()));
    third.leave(PATIENCE).unwrap();
}

#[test]
fn a_desktop_that_never_comes_up_costs_one_session_and_not_the_host() {
    let stage = stage().unwrap();
    let host = host(&stage, "listener");
    let obstacle = stage.write("run/host/desktop-2", "not a directory").unwrap();
    let one = drive(&stage, &host, "one", "", LONG);
    streaming(&host, 1);
    let refused = watch(&stage, &host, "two", 2, &[]).unwrap().finish(PATIENCE).unwrap();
    let (code, reason) = refusal(&refused);
    assert_ne!(code, Some(0));
    assert!(reason.contains("desktop 2 does not come up"), "{reason}");
    // What stood in the way is gone: the next one gets it.
    std::fs::remove_file(obstacle).unwrap();
    let two = drive(&stage, &host, "two", "", LONG);
    let status = streaming(&host, 2);
    assert_eq!(status["sessions"][1]["desktop"], "own 2", "{status:#}");
    two.leave(PATIENCE).unwrap();
    let report = one.leave(PATIENCE).unwrap();
    assert_eq!(report["frames"]["lost"], 0, "{report:#}");
    assert!(trace(&stage, "one").unwrap().iter().all(|frame| frame.generation == 1));
}
