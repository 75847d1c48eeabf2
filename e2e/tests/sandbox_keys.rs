//! The host's private keys are in lumend's memory and in nobody else's.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::guest::trial::site_in;
use e2e::memory::{Needle, Needles, Search};
use e2e::secrets::{Secret, secrets};
use e2e::trial::{descendants, scene, stage, watch};
use xtask::host::Desktop;
use xtask::sound::{Sound, Speakers};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn no_private_key_is_in_the_memory_of_a_plane() {
    let stage = stage().unwrap();
    let speakers = Sound::start(&stage, Speakers::Stereo).unwrap();
    let site = site_in(&stage, Desktop::Sway, &speakers.environment(), &scene(&stage, "")).unwrap();
    // Both keys have signed: for a native client, and for a Moonlight client that pairs and comes back.
    let moonlight = site.enrol().unwrap();
    moonlight.app("Desktop").unwrap();
    let client = watch(&stage, &site.host, "viewer", 8, &["--input-test"]).unwrap();
    let whole = |session: &serde_json::Value| {
        let more = |number: &serde_json::Value| number.as_u64().unwrap_or(0) > 20;
        more(&session["frames"]["sent"]) && more(&session["audio"]["packets"]) && session["input"]["hands"] == "wlroots"
    };
    let status = site.host.status_where(PATIENCE, |status| whole(&status["sessions"][0])).unwrap();
    let planes: BTreeSet<i32> =
        status["planes"].as_array().unwrap().iter().map(|plane| plane["pid"].as_i64().unwrap() as i32).collect();
    assert_eq!(planes.len(), 5, "{status:#}");

    let state = stage.path().join("state/host");
    let (mut all, mut needles): (Vec<Secret>, Vec<Needle>) = (Vec::new(), Vec::new());
    for file in ["host-key.pem", "gamestream-key.pem"] {
        let (found, lines) = secrets(&state.join(file)).unwrap();
        all.extend(found);
        needles.extend(lines);
    }
    needles.extend(all.iter().flat_map(|secret| secret.needles().unwrap()));
    let needles = Needles::new(needles).unwrap();
    // Where they have to be, they are found: the search can see them.
    let own = Search::of(site.host.pid(), &needles).unwrap();
    let seen = |secret: &Secret| own.found.iter().any(|(what, _)| what.starts_with(&secret.name));
    for secret in &all {
        println!("{} in lumend: {}", secret.name, seen(secret));
    }
    println!("lumend holds: {:#?}", own.found);
    for name in ["host-key: scalar", "gamestream-key: p", "gamestream-key: q"] {
        assert!(all.iter().any(|secret| secret.name == name && seen(secret)), "{name} is not even in lumend");
    }
    // The planes, and whatever else lumend has started, down to the programs on its desktop.
    let below = descendants(site.host.pid());
    assert!(planes.iter().all(|pid| below.contains(pid)), "{planes:?} {below:?}");
    let mut bytes = 0;
    for pid in below {
        let search = Search::of(pid, &needles).unwrap();
        assert!(search.found.is_empty(), "{pid} has {:#?}", search.found);
        assert!(search.bytes > 1 << 20, "{pid}: {} bytes were looked at", search.bytes);
        bytes += search.bytes;
    }
    println!("looked for {} pieces of {} secrets in {} MiB", needles.len(), all.len(), bytes >> 20);
    client.succeed(PATIENCE).unwrap();
}
