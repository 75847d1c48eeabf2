//! One session under fire: it begins, its victims die one after the other, it ends, and what its client noticed is read.

use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::case::{Series, Victim};
use super::chance::Chance;
use super::hands::{self, Press, Stuck};
use super::kill::{BACK_WITHIN, Blow, Death, is_back, is_ready, strike};
use super::rig::{FAREWELL, Files, Rig};
use super::trace::{Gaps, Senses, Stretch};
use crate::host::Host;
use crate::process::{describe, now_ns, wait_until};

/// A session flows before the first blow, and again between two, for this long and up to [`PHASE`] more.
const CALM: Duration = Duration::from_millis(200);
/// A blow falls anywhere in this time: several pictures long, so that it hits every phase of one.
const PHASE: Duration = Duration::from_millis(100);
/// The host is not asked how it is for this long after a blow: asking costs the time that is measured.
const UNDISTURBED: Duration = Duration::from_millis(200);
/// A victim that has lived for two seconds is replaced at once, so that none dies again before.
const LIVED: Duration = Duration::from_millis(2100);
/// Events that were on their way when their plane died are counted as its.
const ON_THE_WAY_NS: u64 = 50_000_000;

/// What one death has cost.
#[derive(Clone, Default, Debug)]
pub struct Loss {
    /// Index of the case in its series.
    pub case: usize,
    pub gaps: Gaps,
    /// Why the session did not survive it.
    pub session: Option<String>,
    /// Pictures shown that should not have been, each with the reason.
    pub corrupt: Vec<String>,
    pub events_lost: usize,
    pub events_doubled: usize,
    /// Keys that stayed down at the window although they had been let go.
    pub stuck: usize,
    /// Times that a window was told that its keyboard is gone.
    pub vanished: usize,
}

/// What a round has shown.
#[derive(Clone, Default, Debug)]
pub struct Round {
    pub losses: Vec<Loss>,
    /// Pictures that were held against what they should show.
    pub judged: u64,
    /// By how much the worst block of these was off, in steps of 255.
    pub worst: f64,
    /// A picture was wrong before anything had died.
    pub corrupt_before: Vec<String>,
    /// Whether the judge has found what was spoilt on purpose in this recording; none if it has nothing to spoil.
    pub sees: Option<bool>,
}

/// Plays one, in which each victim dies so often. An error is one of the harness or of the host as a whole, not of what
/// dies.
pub fn play(
    rig: &Rig,
    host: &mut Host,
    series: &Series,
    laps: usize,
    blow: Blow,
    chance: &mut Chance,
) -> Result<Round> {
    let mut client = rig.client(host)?;
    let begun = || {
        let ended = client.running().child().try_wait().ok().flatten();
        ended.map(|_| false).or_else(|| host.status().is_ok_and(|status| is_ready(&status, series)).then_some(true))
    };
    let begun = wait_until(BACK_WITHIN, pausing(begun)).with_context(|| format!("{:?}", host.status()));
    if !begun.context("the session does not begin")? {
        let report = client.finish(FAREWELL)?;
        bail!(
            "the session does not begin: the client ended with {}: {}",
            describe(report.status),
            report.stderr.trim()
        );
    }
    let mut deaths: Vec<(usize, Death)> = Vec::new();
    let mut lost = None;
    let mut heirs: BTreeMap<usize, Instant> = BTreeMap::new();
    // In the same order each time around, so that as much time as possible lies between two deaths of one plane.
    for case in series.order(chance.order(series.cases.len())).repeat(laps) {
        let phase = Duration::from_nanos(chance.below(PHASE.as_nanos() as u64));
        let young = heirs.get(&case).map_or(Duration::ZERO, |since| LIVED.saturating_sub(since.elapsed()));
        // Calm between two blows, not a wait for something.
        sleep(young.max(CALM) + phase);
        if series.cases[case].standby {
            let spare = || host.status().is_ok_and(|status| is_ready(&status, series)).then_some(());
            wait_until(BACK_WITHIN, pausing(spare)).context("no second encoder comes")?;
        }
        let death = strike(host, series.cases[case].victim, blow)?;
        deaths.push((case, death));
        if death.victim == Victim::Lumend {
            host.revive()?;
        }
        sleep(UNDISTURBED);
        let back = || {
            let ended = client.running().child().try_wait().ok().flatten().map(|status| Err(describe(status)));
            ended.or_else(|| host.status().is_ok_and(|status| is_back(&status, &death, series.scene)).then_some(Ok(())))
        };
        let why = match wait_until(BACK_WITHIN, pausing(back)) {
            Ok(Ok(())) => {
                // Whoever has died with lumend is another one's now.
                if death.victim == Victim::Lumend {
                    heirs.clear();
                } else {
                    heirs.insert(case, born(&death, blow));
                }
                continue;
            }
            Ok(Err(status)) => format!("the client ended with {status}"),
            Err(_) => format!("not back within {} s", BACK_WITHIN.as_secs()),
        };
        lost = Some(why);
        break;
    }
    sleep(CALM);
    let end_ns = now_ns();
    if client.running().child().try_wait()?.is_none() {
        client.running().signal(Signal::SIGINT)?;
    }
    let report = client.finish(FAREWELL)?;
    if !report.status.success() {
        lost.get_or_insert_with(|| format!("the client ended with {}", describe(report.status)));
    }
    let nobody = |status: &Value| status["sessions"].as_array().is_some_and(Vec::is_empty);
    host.status_where(BACK_WITHIN, nobody).context("the session does not end")?;
    let why = lost.map(|why| match report.stderr.trim().lines().last() {
        Some(said) => format!("{why}: {said}"),
        None => why,
    });
    read(rig, series, &deaths, end_ns, why)
}

/// When the victim's heir was there at the latest. A plane's is started at once; a desktop takes its time, and so does
/// noticing a hang.
fn born(death: &Death, blow: Blow) -> Instant {
    let since = Duration::from_nanos(now_ns().saturating_sub(death.at_ns));
    let now = Instant::now();
    let at_once = death.victim.is_plane() && blow != Blow::Stop;
    if at_once { now.checked_sub(since).unwrap_or(now) } else { now }
}

/// The same question, but not asked all the time.
fn pausing<T>(mut probe: impl FnMut() -> Option<T>) -> impl FnMut() -> Option<T> {
    move || {
        probe().or_else(|| {
            sleep(Duration::from_millis(30));
            None
        })
    }
}

/// Reads what client and window have left.
fn read(rig: &Rig, series: &Series, deaths: &[(usize, Death)], end_ns: u64, lost: Option<String>) -> Result<Round> {
    let files = Files::of(&rig.stage);
    let sent = hands::sent(&files.sent)?;
    let windows = hands::windows(&rig.stage.out(""), sent.first().map_or(u64::MAX, |first| first.ns))?;
    let presses: Vec<_> = windows.iter().flat_map(|log| hands::presses(log)).collect();
    let found = hands::compare(&sent, &presses);
    let senses = Senses::read(&files.trace, &files.sound, presses)?;
    let verdict = rig.judge()?;
    let desktop_deaths: Vec<u64> =
        deaths.iter().filter(|(_, death)| death.victim.takes_the_desktop()).map(|(_, death)| death.at_ns).collect();

    let mut round = Round {
        judged: verdict["judged"].as_u64().unwrap_or(0),
        sees: verdict["sees"].as_bool(),
        worst: ["luma", "chroma"].map(|kind| verdict[kind].as_f64().unwrap_or(0.0)).into_iter().fold(0.0, f64::max),
        ..Round::default()
    };
    let stuck = stuck(&windows, end_ns);
    let vanished: Vec<u64> = windows.iter().flat_map(|log| hands::vanished(log)).collect();
    for (index, (case, death)) in deaths.iter().enumerate() {
        let to_ns = deaths.get(index + 1).map_or(end_ns, |(_, next)| next.at_ns);
        let stretch = Stretch { from_ns: death.at_ns, to_ns };
        let mut loss = Loss { case: *case, gaps: senses.gaps(stretch, series.scene), ..Loss::default() };
        // A desktop that is gone sees no keys: those are no loss of its input plane's.
        if !death.victim.takes_the_desktop() {
            let after = death.at_ns..to_ns;
            let before = |ns: u64| ns.saturating_sub(ON_THE_WAY_NS);
            let around = before(death.at_ns)..before(to_ns);
            let is_its = |lost: &&Press| match stuck.iter().find(|stuck| stuck.hides(lost)) {
                Some(stuck) => after.contains(&stuck.due_ns),
                None => around.contains(&lost.ns),
            };
            loss.events_lost = found.lost.iter().filter(is_its).count();
            loss.events_doubled = found.extra_ns.iter().filter(|ns| around.contains(ns)).count();
            loss.stuck = stuck.iter().filter(|stuck| after.contains(&stuck.due_ns)).count();
            loss.vanished = vanished.iter().filter(|ns| after.contains(ns)).count();
        }
        round.losses.push(loss);
    }
    if let Some(last) = round.losses.last_mut() {
        last.session = lost;
    }
    for (line, why) in wrong(&verdict, &senses, &desktop_deaths) {
        let shown = senses.pictures.iter().find(|picture| picture.line == line).map_or(0, |shown| shown.decoded_ns);
        match deaths.iter().rposition(|(_, death)| death.at_ns <= shown) {
            Some(index) => round.losses[index].corrupt.push(why),
            // Until hands have moved it, a compositor shows its arrow somewhere on the window.
            None if senses.presses.first().is_some_and(|first| shown < first.ns) => {}
            None => round.corrupt_before.push(why),
        }
    }
    Ok(round)
}

/// Keys that were stuck at windows, of which the last is watched until the end, and the others for as long as they were there.
fn stuck(windows: &[Vec<Value>], end_ns: u64) -> Vec<Stuck> {
    let there = windows.iter().enumerate().map(|(index, log)| match index + 1 == windows.len() {
        true => hands::stuck(log, end_ns),
        false => hands::stuck(log, log.last().map_or(0, hands::ns)),
    });
    there.flatten().collect()
}

/// Lines of the trace whose pictures are wrong, each with the reason.
fn wrong(verdict: &Value, senses: &Senses, desktop_deaths: &[u64]) -> Vec<(usize, String)> {
    let judged = verdict["corrupt"].as_array().map_or(&[][..], Vec::as_slice).iter().map(|entry| {
        (entry["line"].as_u64().unwrap_or(0) as usize, entry["why"].as_str().unwrap_or("no reason").to_owned())
    });
    let unreadable = senses.unreadable(desktop_deaths).into_iter();
    judged.chain(unreadable.map(|line| (line, "its stamp cannot be read".to_owned()))).collect()
}
