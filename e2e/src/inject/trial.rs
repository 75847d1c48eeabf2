//! What tests of planes in bad hands begin with and look at: one host, several sessions, and one of them that is to
//! notice nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ipc::PlaneKind;
use nix::sys::signal::Signal;
use serde_json::Value;
use xtask::client::Client;
use xtask::host::{Desktop, Host};
use xtask::process::wait_until;
use xtask::sound::Sound;
use xtask::stage::Stage;

use super::message::{self, Control};
use super::{Held, Outcome};
use crate::trial::{pids, scene, sound, trace, watch};

pub const PLANES: [(&str, PlaneKind); 5] = [
    ("capture", PlaneKind::Capture),
    ("encode", PlaneKind::Encode),
    ("net", PlaneKind::Net),
    ("audio", PlaneKind::Audio),
    ("input", PlaneKind::Input),
];
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A host with a picture, sound and hands.
pub fn host<'a>(stage: &'a Stage, sound: &Sound) -> Result<Host<'a>> {
    let config = scene(stage, "--seconds 600");
    Host::start_named(stage, "host", Some(Desktop::Sway), &sound.environment(), &config)
}

/// An allowed client that watches, listens and moves, until it is told to leave.
pub fn use_it<'a>(stage: &'a Stage, host: &Host, identity: &str) -> Result<Client<'a>> {
    watch(stage, host, identity, 120, &["--input-script", &moves(stage)?])
}

/// The path of a script that moves without a pause, for as long as a client watches.
pub fn moves(stage: &Stage) -> Result<String> {
    let script: String = (0..6000).map(|index| format!("{} move 1 0\n", index * 20)).collect();
    let path = stage.write("moves.script", &script)?;
    Ok(path.to_str().context("not UTF-8")?.to_owned())
}

/// Waits until so many sessions show, sound and have hands.
pub fn wait_for_everything(host: &Host, sessions: usize) -> Result<Value> {
    let at_least = |number: &Value, least| number.as_u64().unwrap_or(0) >= least;
    let whole = |session: &Value| {
        at_least(&session["frames"]["sent"], 60)
            && at_least(&session["audio"]["packets"], 100)
            && session["input"]["hands"] == "wlroots"
    };
    let all = |status: &Value| {
        status["sessions"].as_array().is_some_and(|list| list.len() == sessions && list.iter().all(whole))
    };
    host.status_where(PATIENCE, all)
}

/// Ends a client that has seen enough, and returns its report.
pub fn leave(mut client: Client<'_>) -> Result<Value> {
    client.running().signal(Signal::SIGINT)?;
    client.succeed(PATIENCE)
}

/// The plane of the oldest session, or net.
pub fn eldest(host: &Host, plane: &str) -> Result<i32> {
    host.planes(plane)?.first().copied().with_context(|| format!("no {plane}"))
}

/// The plane of the youngest session, or net: its name and its pid.
pub fn youngest(pids: &BTreeMap<String, i64>, plane: &str) -> Result<(String, i64)> {
    let number = |name: &str| name.rsplit('/').next().and_then(|session| session.parse::<u32>().ok());
    let found = pids.iter().filter(|(name, _)| name.starts_with(&format!("{plane}/")));
    let found = found.max_by_key(|(name, _)| number(name));
    found.map(|(name, pid)| (name.clone(), *pid)).with_context(|| format!("no {plane} in {pids:?}"))
}

/// lumend has met nothing that must not be, and nobody else has said so in its log.
pub fn nothing_panicked(host: &Host) -> Result<()> {
    let log = host.log();
    ensure!(!log.contains("panicked") && !log.contains(": bug"), "{log}");
    Ok(())
}

/// One generation from the first frame to the last, none missing.
pub fn undisturbed(stage: &Stage, identity: &str) -> Result<()> {
    let frames = trace(stage, identity)?;
    sound(&frames)?;
    let generations: BTreeSet<u64> = frames.iter().map(|frame| frame.generation).collect();
    ensure!(generations.len() == 1, "{identity} was wired anew: {generations:?}");
    let holes = frames.windows(2).filter(|pair| pair[1].number != pair[0].number + 1).count();
    ensure!(holes == 0, "{identity} misses frames");
    let gaps = frames.windows(2).map(|pair| (pair[1].reassembled_ns - pair[0].reassembled_ns) / 1_000_000);
    println!("{identity}: {} frames, the longest gap {} ms", frames.len(), gaps.max().unwrap_or(0));
    Ok(())
}

/// Waits until another process serves in the place of each of these, and every other plane kept its own.
pub fn replaced(host: &Host, dead: &[(String, i64)], before: &BTreeMap<String, i64>) -> Result<()> {
    // A plane that runs is sealed; before that it may do more.
    let after = wait_until(PATIENCE, || {
        let status = host.status().ok()?;
        let running = status["planes"].as_array()?.iter().all(|plane| plane["state"] == "running");
        let after = pids(host).ok()?;
        let heirs = dead.iter().all(|(name, pid)| after.get(name).is_some_and(|heir| heir != pid));
        (running && heirs && after.len() == before.len()).then_some(after)
    });
    let after = after.with_context(|| format!("{dead:?} of {before:?}, then {:?}", pids(host)))?;
    for (name, pid) in before {
        let dies = dead.iter().any(|(dead, _)| dead == name);
        ensure!((after.get(name) == Some(pid)) != dies, "{name}: {before:?} then {after:?}");
    }
    Ok(())
}

/// A message from a plane to lumend with what nobody asked for: descriptors, or another sender's name.
pub fn tell(pid: i32, control: &Control) -> Result<Outcome> {
    let mut held = Held::take(pid)?;
    // Of each kind of plane, the second of the words it may say. What is wrong is what comes with it.
    let outcome = message::send(&mut held, ipc::plane::LINK_FD as u64, &[1, 0, 0, 0], control)?;
    // lumend may be quicker, and have killed it by now.
    drop(held);
    Ok(outcome)
}

/// It was sent; the answer may be here first.
pub fn gets_through(told: Outcome) -> bool {
    matches!(told, Outcome::Returned(1..) | Outcome::Killed(Signal::SIGKILL))
}
