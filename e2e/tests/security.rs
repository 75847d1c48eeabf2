//! `lumend status --security` on a host with a picture, sound and hands: nothing differs from what the planes' profiles
//! promise, and what is made to differ is found.

use std::process::{Command, Output};
use std::time::Duration;

use e2e::inject::{Outcome, syscall};
use e2e::trial::{pids, scene, stage, watch};
use ipc::plane::LINK_FD;
use nix::libc;
use nix::unistd::geteuid;
use serde_json::Value;
use xtask::host::{Desktop, Host, free_base_port};
use xtask::sound::{Sound, Speakers};

const PATIENCE: Duration = Duration::from_secs(30);
const PLANES: [&str; 5] = ["audio", "capture", "encode", "input", "net"];

/// Exit code and what was said.
fn said(output: &Output) -> (Option<i32>, String) {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), String::from_utf8(output.stdout.clone()).unwrap())
}

fn look(host: &Host) -> (Option<i32>, String) {
    said(&host.ctl(&["status", "--security"]).unwrap())
}

/// The same, as JSON.
fn look_closely(host: &Host) -> (Option<i32>, Value) {
    let (code, text) = said(&host.ctl(&["status", "--security", "--json"]).unwrap());
    (code, serde_json::from_str(&text).unwrap())
}

/// Plane and name of everything that differs.
fn differences(report: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut found = Vec::new();
    for plane in report["planes"].as_array().unwrap() {
        for check in plane["checks"].as_array().unwrap() {
            if check["ok"] == false {
                found.push((text(&plane["plane"]), text(&check["what"])));
            }
        }
    }
    found
}

#[test]
fn every_plane_is_what_its_profile_promises_and_what_differs_is_found() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    // Moonlight clients are served too, which gives net sockets that listen.
    let base = free_base_port().unwrap();
    let config = scene(&stage, "--seconds 600");
    let config = format!("[gamestream]\nbase_port = {base}\nbind = \"127.0.0.1\"\n\n{config}");
    let host = Host::start_named(&stage, "host", Some(Desktop::Sway), &speakers.environment(), &config).unwrap();
    let script: String = (0..3000).map(|index| format!("{} move 1 0\n", index * 20)).collect();
    let script = stage.write("viewer.script", &script).unwrap();
    let _viewer = watch(&stage, &host, "viewer", 60, &["--input-script", script.to_str().unwrap()]).unwrap();
    let whole = |session: &Value| {
        let at_least = |number: &Value, least| number.as_u64().unwrap_or(0) >= least;
        at_least(&session["frames"]["sent"], 30)
            && at_least(&session["audio"]["packets"], 100)
            && session["input"]["hands"] == "wlroots"
    };
    host.status_where(PATIENCE, |status| whole(&status["sessions"][0])).unwrap();

    let (code, report) = look_closely(&host);
    assert_eq!((code, &report["ok"], &report["unreadable"]), (Some(0), &true.into(), &false.into()), "{report:#}");
    let planes = report["planes"].as_array().unwrap();
    let mut names: Vec<&str> = planes.iter().map(|plane| plane["plane"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, PLANES);
    for plane in planes {
        // Whatever has a promise was read and judged.
        let judged =
            |check: &&Value| check["promised"].is_string() && check["ok"] == true && check["found"].is_string();
        assert!(plane["checks"].as_array().unwrap().iter().filter(judged).count() > 20, "{plane:#}");
    }
    let net = planes.iter().find(|plane| plane["plane"] == "net").unwrap();
    let sockets = net["checks"].as_array().unwrap().iter().find(|check| check["what"] == "listening sockets").unwrap();
    assert!(sockets["found"].as_str().unwrap().contains(&format!("TCP {base}")), "{sockets:#}");
    let compared: Vec<&str> =
        report["compared"].as_array().unwrap().iter().map(|row| row["plane"].as_str().unwrap()).collect();
    assert_eq!(compared, ["lumend", "launcher", "compositor"], "{report:#}");
    let (code, text) = look(&host);
    assert_eq!(
        (code, text.lines().last()),
        (Some(0), Some("5 planes: nothing differs from what is promised")),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "colour where nobody sees it");
    if geteuid().is_root() {
        let mut lumend = Command::new(stage.program("lumend"));
        let lumend = lumend.args(["status", "--security", "--runtime"]).arg(host.runtime());
        let (code, text) = said(&lumend.output().unwrap());
        assert_eq!(code, Some(0), "as root: {text}");
    }

    // What the filters allow and nobody has promised: more descriptors of the link.
    let pid = pids(&host).unwrap()["capture/1"] as i32;
    let call = |number, arguments: &[u64]| {
        let arguments: Vec<_> = arguments.iter().copied().map(Some).collect();
        syscall(pid, number as u64, b"", &arguments).unwrap()
    };
    let Outcome::Returned(copy @ 0..) = call(libc::SYS_fcntl, &[LINK_FD as u64, libc::F_DUPFD_CLOEXEC as u64, 0])
    else {
        panic!("a plane may have a second descriptor of what it has");
    };
    let (code, report) = look_closely(&host);
    let link = ("capture".to_owned(), "local seqpacket socket".to_owned());
    assert_eq!((code, differences(&report)), (Some(1), vec![link]), "{report:#}");
    let (code, text) = look(&host);
    let line = text.lines().find(|line| line.contains("<- differs")).unwrap_or_default();
    assert!(code == Some(1) && line.contains("local seqpacket socket"), "{text}");
    assert!(text.ends_with("5 planes: 1 thing differs from what is promised\n"), "{text}");
    assert_eq!(call(libc::SYS_close, &[copy as u64]), Outcome::Returned(0));
    assert_eq!(look(&host).0, Some(0));

    // A plane that has just taken another's place is no difference, whatever moment it is looked at.
    host.must(&["restart", "encode"]).unwrap();
    let (code, report) = look_closely(&host);
    assert_eq!((code, differences(&report)), (Some(0), Vec::new()), "{report:#}");
}
