//! What a plane in bad hands gets: system calls put by ptrace into unmodified planes in mid-stream, while a session of
//! another client goes on and must not notice. What is tried stands in `e2e::inject::acts`.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use e2e::inject::acts::{Elsewhere, LETHAL, TOPICS};
use e2e::inject::message::{self, Control};
use e2e::inject::target::{REFUSED, Target};
use e2e::inject::trial::{
    PATIENCE, PLANES, eldest, gets_through, host, leave, nothing_panicked, replaced, tell, undisturbed, use_it,
    wait_for_everything, youngest,
};
use e2e::inject::{Gate, Held, Outcome, handles};
use e2e::trial::{pids, sound, stage, trace, watch};
use ipc::PlaneKind;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use xtask::host::{Desktop, Host};
use xtask::process::{Running, wait_until};
use xtask::sound::{Sound, Speakers};
use xtask::stage::Stage;

/// What a plane may do to what it shares with a peer: fill the counter of a wake-up, so that nothing more can be added,
/// and empty it, if it ever has to. Nobody waits for either.
fn fill_and_steal(kind: PlaneKind, target: &Target) {
    let mut held = Held::take(target.itself).unwrap();
    let most = held.put(&(u64::MAX - 1).to_ne_bytes()).unwrap();
    // EAGAIN if it was not empty, or if the peer was quicker to empty it.
    let goes = |outcome| matches!(outcome, Outcome::Returned(8 | -11));
    let mut does = |call: libc::c_long| held.call(call as u64, &[target.event, most, 8]).unwrap();
    let (filled, taken) = (does(libc::SYS_write), does(libc::SYS_read));
    assert!(goes(filled), "{kind}: {filled:?}");
    assert!(if kind == PlaneKind::Capture { taken == REFUSED } else { goes(taken) }, "{kind}: {taken:?}");
    let filled = does(libc::SYS_write);
    assert!(goes(filled), "{kind}: {filled:?}");
    held.release().unwrap();
}

/// What net reaches beyond its clients: any address, by datagrams from the ports that it was given. It cannot be less:
/// who its clients are is its own business.
fn net_sends_anywhere(host: &Host) {
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    stranger.set_read_timeout(Some(PATIENCE)).unwrap();
    let SocketAddr::V4(address) = stranger.local_addr().unwrap() else { panic!("not IPv4") };
    let net = eldest(host, "net").unwrap();
    let socket = handles::socket(net, "udp", host.port()).unwrap();
    let mut held = Held::take(net).unwrap();
    let to = message::inet(address);
    let (text, at) = (held.put(b"hello").unwrap(), held.put(&to).unwrap());
    let sent = held.call(libc::SYS_sendto as u64, &[socket, text, 5, 0, at, to.len() as u64]).unwrap();
    assert_eq!(sent, Outcome::Returned(5));
    // It cannot have a connection of its own, nor a port.
    for call in [libc::SYS_connect, libc::SYS_bind] {
        assert_eq!(held.call(call as u64, &[socket, at, to.len() as u64]).unwrap(), REFUSED);
    }
    held.release().unwrap();
    let mut datagram = [0; 16];
    let (length, from) = stranger.recv_from(&mut datagram).unwrap();
    assert_eq!((&datagram[..length], from.port()), (&b"hello"[..], host.port()));
}

#[test]
fn no_plane_gets_anywhere_and_nobody_notices() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &speakers).unwrap();
    let viewer = use_it(&stage, &host, "viewer").unwrap();
    wait_for_everything(&host, 1).unwrap();
    let bystander = use_it(&stage, &host, "bystander").unwrap();
    wait_for_everything(&host, 2).unwrap();
    let before = pids(&host).unwrap();
    let all: Vec<i32> = before.values().map(|pid| *pid as i32).collect();
    for (plane, kind) in PLANES {
        let target = Target::plane(&host, &stage, eldest(&host, plane).unwrap(), &all).unwrap();
        let begun = Instant::now();
        let wrong = target.tries_everything(kind).unwrap();
        println!("{plane}: {:?}", begun.elapsed());
        assert!(wrong.is_empty(), "{plane} may: {wrong:#?}");
        let flags = handles::flags(target.itself, target.event).unwrap();
        assert!(flags & libc::O_NONBLOCK as u32 != 0, "{plane} made an eventfd block that a peer has too");
        fill_and_steal(kind, &target);
    }
    net_sends_anywhere(&host);
    assert_eq!(pids(&host).unwrap(), before);
    let status = host.status().unwrap();
    let sent = |status: &Value| status["sessions"][0]["frames"]["sent"].as_u64().unwrap_or(0);
    host.status_where(PATIENCE, |now| sent(now) > sent(&status) + 30).unwrap();
    for (client, name) in [(viewer, "viewer"), (bystander, "bystander")] {
        let report = leave(client).unwrap();
        assert_eq!((&report["audio"]["lost"], &report["audio"]["decode_errors"]), (&0.into(), &0.into()), "{report:#}");
        undisturbed(&stage, name).unwrap();
    }
    nothing_panicked(&host).unwrap();
}

#[test]
fn what_no_plane_has_reason_to_try_kills_it_and_only_it() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &speakers).unwrap();
    // The one that is to notice nothing comes first, so that the attacked session is the younger one.
    let bystander = use_it(&stage, &host, "bystander").unwrap();
    wait_for_everything(&host, 1).unwrap();
    let viewer = use_it(&stage, &host, "viewer").unwrap();
    wait_for_everything(&host, 2).unwrap();
    let planes = ["audio", "input", "capture", "encode"];
    let mut acts = LETHAL.iter();
    for _ in 0..LETHAL.len() / planes.len() {
        let before = pids(&host).unwrap();
        let dead = planes.map(|plane| {
            let (name, pid) = youngest(&before, plane).unwrap();
            let (act, all) = (acts.next().unwrap(), before.values().map(|pid| *pid as i32).collect::<Vec<_>>());
            let target = Target::anyone(pid as i32, host.pid(), all[0], String::new());
            let mut held = Held::take(pid as i32).unwrap();
            let outcome = target.does(&mut held, act).unwrap();
            assert_eq!(outcome, Outcome::Killed(Signal::SIGSYS), "{plane}: {}", act.name);
            (name, pid)
        });
        replaced(&host, &dead, &before).unwrap();
    }
    leave(viewer).unwrap();
    sound(&trace(&stage, "viewer").unwrap()).unwrap();
    host.status_where(PATIENCE, |status| status["sessions"].as_array().is_some_and(|list| list.len() == 1)).unwrap();

    // Another session, whose planes have no past.
    let viewer = use_it(&stage, &host, "viewer").unwrap();
    wait_for_everything(&host, 2).unwrap();
    let before = pids(&host).unwrap();
    let dead = planes.map(|plane| {
        let (name, pid) = youngest(&before, plane).unwrap();
        let mut held = Held::take(pid as i32).unwrap();
        // 20 is getpid there, and writev here.
        let outcome = held.call_by(Gate::I386, 20).unwrap();
        assert_eq!(outcome, Outcome::Killed(Signal::SIGSYS), "{plane} makes a call of another architecture");
        (name, pid)
    });
    replaced(&host, &dead, &before).unwrap();

    // lumend hangs up on who sends it what it did not ask for, and takes nothing of it.
    let fds = || handles::open(host.pid()).unwrap();
    let (before, calm) = (pids(&host).unwrap(), fds().len());
    let dead = planes.map(|plane| {
        let (name, pid) = youngest(&before, plane).unwrap();
        let rights = Control::Rights(vec![0, 1, 2]);
        let told = tell(pid as i32, &rights).unwrap();
        assert!(gets_through(told), "{plane} sends descriptors: {told:?}");
        (name, pid)
    });
    replaced(&host, &dead, &before).unwrap();
    wait_until(PATIENCE, || (fds().len() <= calm).then_some(())).unwrap_or_else(|_| panic!("lumend kept: {:?}", fds()));
    // Whom a message is from says the kernel, not the message.
    for plane in planes {
        let (_, pid) = youngest(&pids(&host).unwrap(), plane).unwrap();
        let lie = Control::Credentials { pid: host.pid(), uid: stage.uid(), gid: stage.gid() };
        assert_eq!(tell(pid as i32, &lie).unwrap(), REFUSED, "{plane} speaks in another's name");
    }
    leave(viewer).unwrap();
    let report = leave(bystander).unwrap();
    assert_eq!((&report["audio"]["lost"], &report["audio"]["decode_errors"]), (&0.into(), &0.into()), "{report:#}");
    undisturbed(&stage, "bystander").unwrap();
    nothing_panicked(&host).unwrap();
}

#[test]
fn a_network_plane_that_does_is_killed_and_the_host_serves_again() {
    let stage = stage().unwrap();
    let host = Host::start(&stage, Desktop::Pattern, "").unwrap();
    for act in [Some(&LETHAL[0]), None] {
        let before = pids(&host).unwrap();
        let pid = eldest(&host, "net").unwrap();
        let mut held = Held::take(pid).unwrap();
        let target = Target::anyone(pid, host.pid(), host.pid(), String::new());
        let outcome = match act {
            Some(act) => target.does(&mut held, act).unwrap(),
            None => held.call_by(Gate::I386, 20).unwrap(),
        };
        assert_eq!(outcome, Outcome::Killed(Signal::SIGSYS), "{act:?}");
        replaced(&host, &[("net/null".to_owned(), i64::from(pid))], &before).unwrap();
    }
    let (before, pid) = (pids(&host).unwrap(), eldest(&host, "net").unwrap());
    let lie = Control::Credentials { pid: host.pid(), uid: stage.uid(), gid: stage.gid() };
    assert_eq!(tell(pid, &lie).unwrap(), REFUSED);
    let rights = tell(pid, &Control::Rights(vec![0])).unwrap();
    assert!(gets_through(rights), "{rights:?}");
    replaced(&host, &[("net/null".to_owned(), i64::from(pid))], &before).unwrap();
    let client = watch(&stage, &host, "viewer", 3, &[]).unwrap();
    let report = client.succeed(PATIENCE).unwrap();
    assert!(report["frames"]["decoded"].as_u64().unwrap() > 60, "{report:#}");
    nothing_panicked(&host).unwrap();
}

/// An ordinary process of the stage's user, that nobody needs.
fn ordinary(stage: &Stage) -> Running {
    let mut sleep = Command::new("/bin/sleep");
    if geteuid().is_root() {
        sleep.uid(stage.uid()).gid(stage.gid());
    }
    sleep.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    Running::new("sleep", sleep.spawn().unwrap())
}

#[test]
fn an_ordinary_process_gets_somewhere() {
    let stage = Stage::new(&[]).unwrap();
    let mut same = Vec::new();
    for act in TOPICS.iter().flat_map(|topic| topic.acts) {
        if act.elsewhere != Elsewhere::Otherwise {
            continue;
        }
        // Each gets a fresh one, and a fresh victim, since it may well succeed.
        let (own, victim) = (ordinary(&stage), ordinary(&stage));
        let scratch = stage.out("").display().to_string();
        let target = Target::anyone(own.pid(), victim.pid(), victim.pid(), scratch);
        let mut held = Held::take(own.pid()).unwrap();
        if target.does(&mut held, act).unwrap() == REFUSED {
            same.push(format!("{} {:?}", act.name, act.arguments));
        }
    }
    assert!(same.is_empty(), "refused without a sandbox too, and so no proof of one: {same:#?}");
}

#[test]
fn status_shows_the_lockdown_of_every_plane() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let host = host(&stage, &speakers).unwrap();
    let client = use_it(&stage, &host, "viewer").unwrap();
    let status = wait_for_everything(&host, 1).unwrap();
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
    leave(client).unwrap();
}
