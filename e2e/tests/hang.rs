//! Planes that stop answering, and planes that want all the memory there is: each goes alone, and is replaced; or with lumend.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use e2e::inject::{Outcome, syscall};
use e2e::trial::{only_replaced, pids, scene, sound, stage, trace, wait_for_frames, watch};
use ipc::PlaneKind;
use ipc::sandbox::table::limits;
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use xtask::client::Client;
use xtask::host::{Desktop, Host};
use xtask::process::{is_alive, wait_until};
use xtask::sound::{Sound, Speakers};
use xtask::stage::Stage;

/// The planes of a session, and the one that all sessions have in common.
const PLANES: [(&str, PlaneKind); 5] = [
    ("capture", PlaneKind::Capture),
    ("encode", PlaneKind::Encode),
    ("audio", PlaneKind::Audio),
    ("input", PlaneKind::Input),
    ("net", PlaneKind::Net),
];

/// From the moment in which a plane stops to its end. Lumend takes two and a half seconds, and the rest is a busy machine's.
/// How long its heir takes to start is not part of it.
const NOTICED_WITHIN: Duration = Duration::from_secs(3);

/// A host with a picture, sound and hands.
fn host<'a>(stage: &'a Stage, sound: &Sound) -> Host<'a> {
    let config = scene(stage, "--seconds 600");
    Host::start_named(stage, "host", Some(Desktop::Sway), &sound.environment(), &config).unwrap()
}

/// An allowed client that watches, listens and moves.
fn use_it<'a>(stage: &'a Stage, host: &Host, seconds: u32) -> Client<'a> {
    let script: String = (0..2000).map(|index| format!("{} move 1 0\n", index * 20)).collect();
    let script = stage.write("viewer.script", &script).unwrap();
    watch(stage, host, "viewer", seconds, &["--input-script", script.to_str().unwrap()]).unwrap()
}

/// Waits until the session shows, sounds and has hands, with whatever it has to do so.
fn wait_for_everything(host: &Host) -> Value {
    let status = host.status().unwrap();
    let so_far = |status: &Value, key: &[&str]| {
        key.iter().fold(&status["sessions"][0], |value, key| &value[*key]).as_u64().unwrap_or(0)
    };
    let more = |status: &Value, before: &Value, key: &[&str], by| so_far(status, key) >= so_far(before, key) + by;
    host.status_where(Duration::from_secs(30), |now| {
        let session = &now["sessions"][0];
        more(now, &status, &["frames", "sent"], 30)
            && more(now, &status, &["audio", "packets"], 30)
            && more(now, &status, &["input", "events"], 10)
            && session["state"] == "streaming"
            && session["input"]["hands"] == "wlroots"
    })
    .unwrap()
}

fn send(pid: i32, signal: Signal) -> nix::Result<()> {
    kill(Pid::from_raw(pid), signal)
}

/// Killed, whether or not its parent has looked yet: in /proc/PID/stat the state follows the name, which is in brackets.
fn has_ended(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

#[test]
fn a_plane_that_stops_answering_is_replaced_within_three_seconds() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &speakers);
    let client = use_it(&stage, &host, 40);
    let session = wait_for_everything(&host)["sessions"][0]["id"].clone();
    let mut waits = Vec::new();
    for (plane, _) in PLANES {
        let before = pids(&host).unwrap();
        let pid = host.planes(plane).unwrap()[0];
        let stopped = Instant::now();
        send(pid, Signal::SIGSTOP).unwrap();
        wait_until(2 * NOTICED_WITHIN, || has_ended(pid).then_some(())).unwrap();
        waits.push(stopped.elapsed());
        only_replaced(&host, plane, pid, &before).unwrap();
        // Nothing is left of it that could go on.
        wait_until(Duration::from_secs(5), || (send(pid, Signal::SIGCONT) == Err(Errno::ESRCH)).then_some(())).unwrap();
        let after = wait_for_everything(&host);
        assert_eq!(
            (&after["sessions"][0]["id"], after["sessions"].as_array().unwrap().len()),
            (&session, 1),
            "{plane}"
        );
        let reborn = after["planes"].as_array().unwrap().iter().find(|entry| entry["plane"] == plane).unwrap();
        assert!(reborn["last_exit"].as_str().unwrap().contains("unanswered"), "{reborn:#}");
    }
    println!("noticed after {waits:.2?}");
    assert!(waits.iter().all(|wait| *wait <= NOTICED_WITHIN), "{waits:?}");
    client.finish(Duration::from_secs(60)).unwrap();
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
}

/// Holds all threads of a process, as a debugger does: those that are merely stopped the kernel wakes when their parent dies.
fn hold(pid: i32) {
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let thread = Pid::from_raw(entry.unwrap().file_name().to_str().unwrap().parse().unwrap());
        nix::sys::ptrace::seize(thread, nix::sys::ptrace::Options::empty()).unwrap();
        nix::sys::ptrace::interrupt(thread).unwrap();
    }
}

/// With lumend dead nobody is left to find that they hang; and the ports are its successor's.
#[test]
fn planes_that_hang_die_with_lumend() {
    let stage = stage().unwrap();
    let mut host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let mut client = watch(&stage, &host, "viewer", 60, &[]).unwrap();
    wait_for_frames(&host, 30).unwrap();
    let hung = ["net", "encode"].map(|plane| host.planes(plane).unwrap()[0]);
    hung.iter().for_each(|&pid| hold(pid));
    host.running().signal(Signal::SIGKILL).unwrap();
    for pid in hung {
        wait_until(Duration::from_secs(5), || (!is_alive(pid)).then_some(())).unwrap_or_else(|error| {
            // Nobody else will.
            let _ = send(pid, Signal::SIGKILL);
            panic!("process {pid} outlives lumend: {error}")
        });
    }
    host.revive().unwrap();
    wait_for_frames(&host, 30).unwrap();
    client.running().signal(Signal::SIGINT).unwrap();
    let report = client.succeed(Duration::from_secs(10)).unwrap();
    assert_eq!((&report["restarts"], &report["frames"]["decode_errors"]), (&1.into(), &0.into()), "{report:#}");
}

const fn value(number: i64) -> Option<u64> {
    Some(number as u64)
}

/// Takes memory until there is no more: how much that was, and the errno that said so; none if the plane has died of it.
fn devour(pid: i32, length: i64, flags: i32) -> (i64, Option<i64>) {
    let protection = value(i64::from(libc::PROT_READ | libc::PROT_WRITE));
    let flags = value(i64::from(flags | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE));
    let mut taken = 0;
    loop {
        let map = [value(0), value(length), protection, flags, value(-1), value(0)];
        match syscall(pid, libc::SYS_mmap as u64, b"", &map) {
            Ok(Outcome::Returned(at)) if at > 0 => taken += length,
            Ok(Outcome::Returned(errno)) => return (taken, Some(-errno)),
            // One of its threads wanted some too: that is told by an abort, here or between two calls.
            Ok(Outcome::Killed(Signal::SIGABRT)) => return (taken, None),
            Ok(Outcome::Killed(signal)) => panic!("killed by {signal}"),
            Err(error) => {
                let gone = || (kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)).then_some(());
                wait_until(Duration::from_secs(2), gone).unwrap_or_else(|_| panic!("{error:#}"));
                return (taken, None);
            }
        }
    }
}

/// Takes the last of its memory from a network plane and has strangers come, each of whom needs some, until it dies of it.
fn starve(stage: &Stage, host: &Host, pid: i32) {
    for portion in [64 << 10, 4 << 10] {
        if !has_ended(pid) {
            devour(pid, portion, libc::MAP_PRIVATE);
        }
    }
    let mut strangers: Vec<_> = (0..4)
        .map(|number| {
            let identity = format!("stranger{number}");
            Client::connect(stage, &identity, &host.address(), &["--seconds", "1"]).unwrap()
        })
        .collect();
    wait_until(Duration::from_secs(20), || has_ended(pid).then_some(())).unwrap();
    for stranger in &mut strangers {
        stranger.running().stop().unwrap();
    }
}

/// All processes of before are there, but for those without memory, which have died of that.
fn only_of_memory(before: &BTreeMap<String, i64>, status: &Value, starved: &BTreeSet<i64>) {
    let planes = status["planes"].as_array().unwrap();
    assert_eq!(planes.len(), before.len(), "{before:?} then {status:#}");
    for plane in planes {
        let name = format!("{}/{}", plane["plane"].as_str().unwrap(), plane["session"]);
        let old = before[&name];
        // Not by lumend: the runtime aborts where there is no memory.
        let died = starved.contains(&old) && plane["last_exit"] == "SIGABRT";
        assert!(plane["pid"] == old || died, "{name}: {before:?} then {status:#}");
    }
}

#[test]
fn a_plane_without_measure_gets_no_more_memory_and_at_worst_dies_alone() {
    const PORTION: i64 = 16 << 20;
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &speakers);
    let client = use_it(&stage, &host, 30);
    let session = wait_for_everything(&host)["sessions"][0]["id"].clone();
    // Processes that have been left without memory. Such a one may live until it wants some, in a later round too.
    let mut starved = BTreeSet::new();
    for (plane, kind) in PLANES {
        let pid = host.planes(plane).unwrap()[0];
        // What the limit does not count cannot be had at all.
        let refused = (0, Some(i64::from(libc::EPERM)));
        assert_eq!(devour(pid, PORTION, libc::MAP_SHARED), refused, "{plane}");
        assert_eq!(devour(pid, PORTION, libc::MAP_PRIVATE | libc::MAP_GROWSDOWN), refused, "{plane}");
        let before = pids(&host).unwrap();
        let (taken, errno) = devour(pid, PORTION, libc::MAP_PRIVATE);
        assert!(taken as u64 <= limits(kind).data, "{plane} took {taken} bytes");
        assert!(errno.is_none_or(|errno| errno == i64::from(libc::ENOMEM)), "{plane}: {errno:?}");
        starved.insert(i64::from(pid));
        if kind == PlaneKind::Net {
            starve(&stage, &host, pid);
        }
        if kind == PlaneKind::Net || errno.is_none() {
            only_replaced(&host, plane, pid, &before).unwrap();
        }
        let after = wait_for_everything(&host);
        assert_eq!(
            (&after["sessions"][0]["id"], after["sessions"].as_array().unwrap().len()),
            (&session, 1),
            "{plane}"
        );
        only_of_memory(&before, &after, &starved);
    }
    client.finish(Duration::from_secs(60)).unwrap();
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
}
