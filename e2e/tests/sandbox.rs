//! What an unmodified plane in mid-stream may do: system calls put into it by ptrace.

use std::time::Duration;

use e2e::inject::{Outcome, syscall};
use e2e::trial::{only_replaced, pids, sound, stage, trace, wait_for_frames, watch};
use nix::libc;
use nix::sys::signal::Signal;
use xtask::host::{Desktop, Host};

const PLANES: [&str; 3] = ["capture", "encode", "net"];

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
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 8, &[]).unwrap();
    wait_for_frames(&host, 60).unwrap();
    let before = pids(&host).unwrap();
    for plane in PLANES {
        let pid = host.planes(plane).unwrap()[0];
        let at = value(i64::from(libc::AT_FDCWD));
        let open = syscall(pid, libc::SYS_openat as u64, b"/etc/passwd\0", &[at, TEXT, value(0), value(0)]).unwrap();
        assert_eq!(open, refused(libc::EPERM), "{plane} opens a file");
        let (inet, stream) = (value(i64::from(libc::AF_INET)), value(i64::from(libc::SOCK_STREAM)));
        let socket = syscall(pid, libc::SYS_socket as u64, b"", &[inet, stream, value(0)]).unwrap();
        assert_eq!(socket, refused(libc::EPERM), "{plane} makes a socket");
        let executable = value(i64::from(libc::PROT_READ | libc::PROT_EXEC));
        let map = [value(0), value(4096), executable, value(0x22), value(-1), value(0)];
        let mapped = syscall(pid, libc::SYS_mmap as u64, b"", &map).unwrap();
        assert_eq!(mapped, refused(libc::EPERM), "{plane} maps memory that it could run");
        // The same probe must be able to succeed, or it would prove nothing.
        let own = syscall(pid, libc::SYS_clock_gettime as u64, &[0; 16], &[value(1), TEXT]).unwrap();
        assert_eq!(own, Outcome::Returned(0), "{plane} reads the clock");
    }
    client.succeed(Duration::from_secs(30)).unwrap();
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
    assert_eq!(pids(&host).unwrap().get("net/null"), before.get("net/null"));
}

#[test]
fn a_plane_that_tries_to_run_a_program_is_killed_and_only_it() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 8, &[]).unwrap();
    wait_for_frames(&host, 60).unwrap();
    for plane in ["capture", "encode"] {
        let before = pids(&host).unwrap();
        let pid = host.planes(plane).unwrap()[0];
        let exec = syscall(pid, libc::SYS_execve as u64, b"/bin/true\0", &[TEXT, value(0), value(0)]).unwrap();
        assert_eq!(exec, Outcome::Killed(Signal::SIGSYS), "{plane} runs a program");
        only_replaced(&host, plane, pid, &before).unwrap();
    }
    client.succeed(Duration::from_secs(30)).unwrap();
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
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
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    let client = watch(&stage, &host, "viewer", 4, &[]).unwrap();
    let status = wait_for_frames(&host, 60).unwrap();
    let planes = status["planes"].as_array().unwrap();
    assert_eq!(planes.len(), PLANES.len(), "{status:#}");
    for plane in planes {
        let sandbox = &plane["sandbox"];
        assert_eq!(sandbox["no_new_privs"], true, "{plane:#}");
        assert_eq!(sandbox["seccomp"], 2, "{plane:#}");
        assert_eq!(sandbox["capabilities"], 0, "{plane:#}");
        let proc = std::fs::read_to_string(format!("/proc/{}/status", plane["pid"])).unwrap();
        assert!(proc.contains("Seccomp:\t2"), "{proc}");
        let uid = proc.lines().find(|line| line.starts_with("Uid:")).unwrap();
        assert!(!uid.contains("\t0"), "nothing runs as root: {uid}");
    }
    client.succeed(Duration::from_secs(30)).unwrap();
}
