//! What an unmodified plane in mid-stream may do: system calls put into it by ptrace.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::inject::{Outcome, syscall};
use e2e::trial::{only_replaced, pids, scene, sound, stage, trace, watch};
use nix::libc;
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::client::Client;
use xtask::host::{Desktop, Host};
use xtask::sound::{Sound, Speakers};
use xtask::stage::Stage;

const PLANES: [&str; 5] = ["capture", "encode", "net", "audio", "input"];

/// A host with a picture, sound and hands.
fn host<'a>(stage: &'a Stage, sound: &Sound) -> Host<'a> {
    let config = scene(stage, "--seconds 600");
    Host::start_named(stage, "host", Some(Desktop::Sway), &sound.environment(), &config).unwrap()
}

/// An allowed client that watches, listens and moves.
fn use_it<'a>(stage: &'a Stage, host: &Host, seconds: u32) -> Client<'a> {
    let script: String = (0..600).map(|index| format!("{} move 1 0\n", index * 20)).collect();
    let script = stage.write("viewer.script", &script).unwrap();
    watch(stage, host, "viewer", seconds, &["--input-script", script.to_str().unwrap()]).unwrap()
}

/// Waits until a session shows, sounds and has hands.
fn wait_for_everything(host: &Host) -> Value {
    host.status_where(Duration::from_secs(30), |status| {
        let session = &status["sessions"][0];
        let at_least = |number: &Value, least| number.as_u64().unwrap_or(0) >= least;
        at_least(&session["frames"]["sent"], 60)
            && at_least(&session["audio"]["packets"], 100)
            && session["input"]["hands"] == "wlroots"
    })
    .unwrap()
}

const fn refused(errno: i32) -> Outcome {
    Outcome::Returned(-(errno as i64))
}

/// The address of the text that was written into the plane.
const TEXT: Option<u64> = None;

fn value(number: i64) -> Option<u64> {
    Some(number as u64)
}

#[test]
fn no_plane_can_open_a_file_or_make_a_socket_and_the_stream_does_not_notice() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &speakers);
    let client = use_it(&stage, &host, 10);
    wait_for_everything(&host);
    let before = pids(&host).unwrap();
    for plane in PLANES {
        let pid = host.planes(plane).unwrap()[0];
        let at = value(i64::from(libc::AT_FDCWD));
        let open = syscall(pid, libc::SYS_openat as u64, b"/etc/passwd\0", &[at, TEXT, value(0), value(0)]).unwrap();
        assert_eq!(open, refused(libc::EPERM), "{plane} opens a file");
        let (inet, stream) = (value(i64::from(libc::AF_INET)), value(i64::from(libc::SOCK_STREAM)));
        let socket = syscall(pid, libc::SYS_socket as u64, b"", &[inet, stream, value(0)]).unwrap();
        assert_eq!(socket, refused(libc::EPERM), "{plane} makes a socket");
        // What it has may not be connected anew either: descriptor 3 is the link.
        let address = b"\x01\0/run/dbus/system_bus_socket\0";
        let link = value(i64::from(ipc::plane::LINK_FD));
        let connect = [link, TEXT, value(address.len() as i64)];
        let connected = syscall(pid, libc::SYS_connect as u64, address, &connect).unwrap();
        assert_eq!(connected, refused(libc::EPERM), "{plane} connects a socket");
        let executable = value(i64::from(libc::PROT_READ | libc::PROT_EXEC));
        let map = [value(0), value(4096), executable, value(0x22), value(-1), value(0)];
        let mapped = syscall(pid, libc::SYS_mmap as u64, b"", &map).unwrap();
        assert_eq!(mapped, refused(libc::EPERM), "{plane} maps memory that it could run");
        // The same probe must be able to succeed, or it would prove nothing.
        let own = syscall(pid, libc::SYS_clock_gettime as u64, &[0; 16], &[value(1), TEXT]).unwrap();
        assert_eq!(own, Outcome::Returned(0), "{plane} reads the clock");
    }
    assert_eq!(pids(&host).unwrap(), before);
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
    assert_eq!((&report["audio"]["lost"], &report["audio"]["decode_errors"]), (&0.into(), &0.into()), "{report:#}");
}

#[test]
fn a_plane_that_tries_to_run_a_program_is_killed_and_only_it() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &speakers);
    let client = use_it(&stage, &host, 12);
    wait_for_everything(&host);
    // The picture's last: whoever else dies, it goes on as it was.
    for plane in ["audio", "input", "capture", "encode"] {
        let before = pids(&host).unwrap();
        let pid = host.planes(plane).unwrap()[0];
        let exec = syscall(pid, libc::SYS_execve as u64, b"/bin/true\0", &[TEXT, value(0), value(0)]).unwrap();
        assert_eq!(exec, Outcome::Killed(Signal::SIGSYS), "{plane} runs a program");
        only_replaced(&host, plane, pid, &before).unwrap();
    }
    client.succeed(Duration::from_secs(30)).unwrap();
    let frames = trace(&stage, "viewer").unwrap();
    sound(&frames).unwrap();
    let wirings: BTreeSet<u64> = frames.iter().map(|frame| frame.generation).collect();
    assert!(wirings.len() <= 3, "the picture was wired anew for its own two planes alone: {wirings:?}");
}

#[test]
fn a_network_plane_that_tries_to_run_a_program_is_killed_and_the_host_serves_again() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let pid = host.planes("net").unwrap()[0];
    let exec = syscall(pid, libc::SYS_execve as u64, b"/bin/true\0", &[TEXT, value(0), value(0)]).unwrap();
    assert_eq!(exec, Outcome::Killed(Signal::SIGSYS));
    let client = watch(&stage, &host, "viewer", 3, &[]).unwrap();
    let report = client.succeed(Duration::from_secs(30)).unwrap();
    assert!(report["frames"]["decoded"].as_u64().unwrap() > 60, "{report:#}");
    assert_ne!(host.planes("net").unwrap()[0], pid);
}

#[test]
fn status_shows_the_lockdown_of_every_plane() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &speakers);
    let client = use_it(&stage, &host, 6);
    let status = wait_for_everything(&host);
    let planes = status["planes"].as_array().unwrap();
    assert_eq!(planes.len(), PLANES.len(), "{status:#}");
    for plane in planes {
        let sandbox = &plane["sandbox"];
        assert_eq!(sandbox["no_new_privs"], true, "{plane:#}");
        assert_eq!(sandbox["seccomp"], 2, "{plane:#}");
        assert_eq!(sandbox["capabilities"], 0, "{plane:#}");
        // Threads have filters and capabilities of their own.
        for thread in std::fs::read_dir(format!("/proc/{}/task", plane["pid"])).unwrap() {
            let proc = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            assert!(proc.contains("Seccomp:\t2") && proc.contains("NoNewPrivs:\t1"), "{proc}");
            assert!(proc.contains("CapEff:\t0000000000000000") && proc.contains("CapPrm:\t0000000000000000"), "{proc}");
            let uid = proc.lines().find(|line| line.starts_with("Uid:")).unwrap();
            assert!(!uid.contains("\t0"), "nothing runs as root: {uid}");
        }
    }
    client.succeed(Duration::from_secs(30)).unwrap();
}
