//! What dies around a GameStream session, and what becomes of the session: planes, the client, and patience.

use std::process::Stdio;
use std::time::Duration;

use e2e::guest::moonlight::Moonlight;
use e2e::guest::report::longest_gap_ms;
use e2e::guest::shared::Ended;
use e2e::guest::stream::{Reception, Stream};
use e2e::guest::trial::{LOCAL, Site, site, sound};
use e2e::guest::wish::Wish;
use e2e::guest::xml::Refused;
use e2e::trial::{only_replaced, pids, scene, stage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use xtask::host::Desktop;
use xtask::process::{Running, wait_until};

/// What a client may notice of a dead plane, in milliseconds.
const HICCUP_MS: f64 = 250.0;

/// Kills a plane of a running stream three times, on a host each; the median of the longest gaps.
fn survives_the_death_of(plane: &str) {
    let stage = stage().unwrap();
    let mut gaps: Vec<f64> = (0..3)
        .map(|_| {
            let site = site(&stage, Desktop::Sway, &scene(&stage, "")).unwrap();
            let client = site.enrol().unwrap();
            let mut stream = site.watch(&client).unwrap();
            let before = pids(&site.host).unwrap();
            let from = stream.frames();
            let killed = site.host.kill_plane(plane).unwrap();
            only_replaced(&site.host, plane, killed, &before).unwrap();
            site.flowing(&stream, from + 60).unwrap();
            assert_eq!(stream.leave(), Ended::Left);
            sound(&stream).unwrap();
            let video = stream.video();
            assert_eq!((video.counts.lost, video.undecoded), (0, 0), "frames are numbered through");
            let begun = video.arrivals.iter().skip_while(|frame| u64::from(frame.frame) < from);
            longest_gap_ms(&begun.copied().collect::<Vec<_>>())
        })
        .collect();
    gaps.sort_by(f64::total_cmp);
    println!("{plane}: gaps of {gaps:.0?} ms");
    assert!(gaps[1] <= HICCUP_MS, "{plane}: gaps of {gaps:?} ms");
}

#[test]
fn capture() {
    survives_the_death_of("capture");
}

#[test]
fn encode() {
    survives_the_death_of("encode");
}

#[test]
fn input() {
    survives_the_death_of("input");
}

fn running(client: &Moonlight) -> Option<(u32, bool)> {
    let info = client.info().ok()?;
    let busy = info.must("state").ok()?.ends_with("_SERVER_BUSY");
    Some((info.must("currentgame").ok()?.parse().ok()?, busy))
}

fn resume(site: &Site<'_>, client: &Moonlight, wish: &Wish) -> Stream {
    let stream = Stream::start(client, &client.resume(wish).unwrap(), wish, Reception::default()).unwrap();
    site.flowing(&stream, 20).unwrap();
    stream
}

#[test]
fn after_the_death_of_net_a_client_resumes_what_it_had() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Sway, &scene(&stage, "")).unwrap();
    let client = site.enrol().unwrap();
    let wish = site.wish(&client).unwrap();
    let stream = site.watch(&client).unwrap();
    let net = site.host.kill_plane("net").unwrap();
    let again = || site.host.planes("net").ok().filter(|pids| pids[..] != [net] && !pids.is_empty());
    wait_until(Duration::from_secs(10), again).unwrap();
    // Nothing is said to it any more: it gives up after the silence that clients endure.
    assert_eq!(stream.ended(Duration::from_secs(20)), Some(Ended::Disconnected));
    wait_until(Duration::from_secs(10), || running(&client).filter(|now| *now == (wish.app, true)))
        .expect("the fresh plane knows the client and what it has running");
    let mut stream = resume(&site, &client, &wish);
    stream.last(Duration::from_secs(1)).unwrap();
    assert_eq!(stream.leave(), Ended::Left);
    sound(&stream).unwrap();
}

/// The launcher of a host that has one.
fn launcher(site: &Site<'_>) -> Pid {
    let host = site.host.pid();
    let children = std::fs::read_to_string(format!("/proc/{host}/task/{host}/children")).unwrap();
    let launches = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|&byte| byte == 0).nth(1) == Some(b"launcher")
    };
    let mut found = children.split_whitespace().map(|pid| pid.parse().unwrap()).filter(launches);
    let (first, second) = (found.next().expect("a launcher"), found.next());
    assert_eq!(second, None);
    Pid::from_raw(first)
}

#[test]
fn what_was_prepared_for_an_app_is_undone_once_whoever_is_killed() {
    let stage = stage().unwrap();
    let undone = stage.directory("out").unwrap().join("undone");
    let config = format!(
        "[[app]]\nname = \"Game\"\ncommand = \"exec sleep 1000\"\nprep = [\"true\"]\nundo = [\"echo >> {}\"]",
        undone.display()
    );
    let times = || std::fs::read(&undone).unwrap_or_default().len();
    let owed = || {
        let notes = std::fs::read_dir(stage.path().join("state/host/app-undo"));
        notes.map_or(0, Iterator::count)
    };
    let undone_by_now = |count| {
        let all = || (times() >= count && owed() == 0).then_some(());
        wait_until(Duration::from_secs(20), all).expect("nothing is left to be undone");
        assert_eq!(times(), count);
    };
    let host = site(&stage, Desktop::Pattern, &config).unwrap();
    let client = host.enrol().unwrap();
    let wish = Wish { app: client.app("Game").unwrap(), ..host.wish(&client).unwrap() };
    let stream = host.watch_as(&client, &wish, Reception::default()).unwrap();
    assert_eq!(owed(), 1);
    kill(launcher(&host), Signal::SIGKILL).unwrap();
    // "It ended as it should" (moonlight-common-c, ControlStream.c).
    assert_eq!(stream.ended(Duration::from_secs(10)), Some(Ended::Terminated(0x8003_0023)));
    undone_by_now(1);

    // Both at once: neither can do anything about the other's death.
    let stream = host.watch_as(&client, &wish, Reception::default()).unwrap();
    let launcher = launcher(&host);
    for (pid, signal) in
        [(launcher, Signal::SIGSTOP), (Pid::from_raw(host.host.pid()), Signal::SIGKILL), (launcher, Signal::SIGKILL)]
    {
        kill(pid, signal).unwrap();
    }
    drop((stream, host));
    assert_eq!((times(), owed()), (1, 1));
    let host = site(&stage, Desktop::Pattern, &config).unwrap();
    undone_by_now(2);
    drop(host);
    assert_eq!(times(), 2);
}

/// Its machine has lost its network: it says nothing, not even goodbye.
#[test]
fn a_client_that_vanishes_is_given_up_and_may_come_back() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "").unwrap();
    let directory = stage.directory("out/vanishing").unwrap();
    let mut client = Moonlight::open(&directory, LOCAL, site.base).unwrap();
    site.pair(&mut client, "1357", "1357").unwrap();
    let arguments = ["--base", &site.base.to_string(), "stream", "--seconds", "600", "--mode", "640x360x60"];
    let mut command = stage.command("guest");
    command.arg("--directory").arg(&directory).args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
    for file in std::fs::read_dir(&directory).unwrap() {
        let file = file.unwrap().path();
        std::os::unix::fs::chown(file, Some(stage.uid()), Some(stage.gid())).unwrap();
    }
    let mut guest = Running::new("guest", command.spawn().unwrap());
    let sent = || site.session(&client).unwrap()["frames"]["sent"].as_u64().filter(|&sent| sent > 30);
    wait_until(Duration::from_secs(20), sent).unwrap();
    guest.signal(Signal::SIGKILL).unwrap();
    guest.wait(Duration::from_secs(5)).unwrap();
    site.wait_gone(&client).unwrap();
    let wish = site.wish(&client).unwrap();
    assert_eq!(running(&client), Some((wish.app, true)), "what it had running waits for it");
    assert_eq!(resume(&site, &client, &wish).leave(), Ended::Left);
}

#[test]
fn a_launch_that_nothing_follows_makes_room_for_others() {
    let stage = stage().unwrap();
    let site = site(&stage, Desktop::Pattern, "[sessions]\nmax = 1").unwrap();
    let (idle, client) = (site.enrol().unwrap(), site.enrol().unwrap());
    idle.launch(&site.wish(&idle).unwrap()).unwrap();
    let wish = site.wish(&client).unwrap();
    let refused = client.launch(&wish).unwrap_err();
    println!("one too many: {refused:#}");
    assert!(refused.downcast_ref::<Refused>().is_some_and(|refused| refused.status != 200), "{refused:#}");
    // Half a minute.
    let gone = |status: &serde_json::Value| status["sessions"].as_array().is_some_and(Vec::is_empty);
    site.host.status_where(Duration::from_secs(45), gone).unwrap();
    let mut stream = site.watch(&client).unwrap();
    assert_eq!(stream.leave(), Ended::Left);
}
