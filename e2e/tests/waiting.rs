//! lumend before there is a desktop of its user's, and after it has ended.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::trial::{refusal, sound, stage, trace, watch};
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::host::Host;
use xtask::stage::Stage;
use xtask::sway::Sway;

const SHOWN_WITHIN: Duration = Duration::from_secs(20);
/// lumend refuses after eight seconds, and the rest is a busy machine's.
const REFUSED_WITHIN: Duration = Duration::from_secs(30);
/// Longer than any of it takes: it is the test that ends the client.
const SECONDS: u32 = 300;

/// What a person's login starts after lumend, which has nothing to find it by but its user's runtime directory.
fn log_in(stage: &Stage) -> Sway {
    Sway::start(stage, "640x360@60Hz", stage.program("scene").to_str().unwrap()).unwrap()
}

/// It crashes, so that its sockets stay where they are and nobody answers there.
fn crash(mut sway: Sway) {
    sway.running().signal(Signal::SIGKILL).unwrap();
    sway.running().wait(Duration::from_secs(10)).unwrap();
}

/// Waits until pictures of a later generation than this one go out, and says which.
fn shows(host: &Host, after: u64) -> u64 {
    let streams = |status: &Value| {
        let session = &status["sessions"][0];
        session["state"] == "streaming" && session["generation"].as_u64() > Some(after)
    };
    let sent = |status: &Value| status["sessions"][0]["frames"]["sent"].as_u64().unwrap_or(0);
    let first = sent(&host.status_where(SHOWN_WITHIN, streams).unwrap());
    let status = host.status_where(SHOWN_WITHIN, |status| streams(status) && sent(status) >= first + 30).unwrap();
    assert_eq!(status["sessions"].as_array().unwrap().len(), 1, "{status:#}");
    status["sessions"][0]["generation"].as_u64().unwrap()
}

fn desktop(host: &Host) -> String {
    host.status().unwrap()["desktop"].as_str().unwrap().to_owned()
}

#[test]
fn a_desktop_that_comes_after_lumend_is_shown_and_the_one_after_it_too() {
    let stage = stage().unwrap();
    let place = Sway::directory(&stage).unwrap();
    let config = "[display]\nsource = \"output:HEADLESS-1\"";
    let host = Host::start_in(&stage, &[("XDG_RUNTIME_DIR", place)], config).unwrap();
    assert_eq!(desktop(&host), "none: waits for a desktop");
    let early = watch(&stage, &host, "early", SECONDS, &[]).unwrap();
    let (code, said) = refusal(&early.finish(REFUSED_WITHIN).unwrap());
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("no desktop to show: no sway session runs on the host"), "{said}");

    let viewer = watch(&stage, &host, "viewer", SECONDS, &[]).unwrap();
    let waits = |status: &Value| status["sessions"][0]["state"] == "wiring";
    let session = host.status_where(SHOWN_WITHIN, waits).unwrap()["sessions"][0]["id"].clone();
    let mut generation = 0;
    let mut generations = Vec::new();
    for _ in 0..2 {
        let sway = log_in(&stage);
        let [_, _, (_, control)] = sway.environment();
        generation = shows(&host, generation);
        generations.push(generation);
        assert_eq!(desktop(&host), format!("sway at {}", control.display()));
        crash(sway);
        let gone = format!("sway at {} (gone), waits for a desktop", control.display());
        let status = host.status_where(SHOWN_WITHIN, |status| status["desktop"] == gone).unwrap();
        assert_eq!(status["sessions"][0]["id"], session, "it waits for the next desktop: {status:#}");
    }
    // Which does not come a third time.
    let report = viewer.finish(REFUSED_WITHIN).unwrap();
    assert_eq!(report.status.code(), Some(5), "{}", report.stderr);
    assert!(report.stderr.contains("no desktop to show: "), "{}", report.stderr);
    let frames = trace(&stage, "viewer").unwrap();
    sound(&frames).unwrap();
    for generation in generations {
        let of_it = frames.iter().filter(|frame| frame.generation == generation);
        let stamps: BTreeSet<_> = of_it.filter_map(|frame| frame.stamp).collect();
        assert!(stamps.len() >= 10, "pictures of generation {generation}: {stamps:?}");
    }
}
