//! Kills what a session is made of, again and again, and tells what its client noticed: the chaos table.
//!
//! A real host streams a real desktop to the reference client, with sound and hands on. Each kill falls at a random moment
//! of a session in which the victim has lived for two seconds, since lumend starts a plane again at once only then
//! ([`case`] says which kills share a session and which a host). The client writes down each picture, packet and key press
//! with its time; what is missing around a kill is the gap, and every picture is held against what it should show.

pub mod case;
mod chance;
pub mod command;
mod fast;
mod hands;
mod kill;
mod leak;
mod rig;
mod round;
mod tally;
mod trace;

use std::time::Instant;

use anyhow::{Result, ensure};

pub use case::{Plane, Scene, plan};
pub use fast::{Storm, storm};
pub use kill::Blow;
pub use leak::{Census, Leaked};
pub use rig::{Rig, Setting};
pub use tally::{Row, json, markdown, print};

use case::{Series, Victim};
use chance::Chance;
use round::Round;

use crate::host::Host;

/// What is asked for besides the series.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub blow: Blow,
    /// Of the moments at which blows fall, and their order.
    pub seed: u64,
}

/// Plays all series; a row for each case, in their order, of which those that could not be played say so. Progress goes to
/// stderr.
pub fn run(rig: &Rig, series: &[Series], manner: Manner) -> Vec<Row> {
    let mut rows = Vec::new();
    let start = Instant::now();
    for (index, one) in series.iter().enumerate() {
        let mut one = one.clone();
        // A compositor that hangs is nobody's to notice, and lumend's own supervisor is not this program's.
        one.cases.retain(|case| manner.blow != Blow::Stop || case.victim.is_plane());
        if one.cases.is_empty() {
            continue;
        }
        let title = format!("{} of {}: {}", index + 1, series.len(), one.name());
        rows.extend(play(rig, &one, manner, &title));
        eprintln!("{title}: done after {} s", start.elapsed().as_secs());
    }
    rows
}

/// One series: its rows.
fn play(rig: &Rig, series: &Series, manner: Manner, title: &str) -> Vec<Row> {
    let rows: Vec<Row> = series.cases.iter().map(|case| Row::new(*case, manner.blow)).collect();
    let (title, chance) = (title.to_owned(), Chance::new(manner.seed));
    let mut progress =
        Progress { title, wanted: series.kills, chance, rows, round: 0, failures: 0, least: 0, stalled: 0 };
    let leaked = match series.fresh {
        true => on_fresh_hosts(rig, series, manner, &mut progress),
        false => on_one_host(rig, series, manner, &mut progress),
    };
    let mut rows = progress.rows;
    match leaked {
        Ok(leaked) => rows.iter_mut().for_each(|row| row.leaked = leaked),
        Err(error) => {
            eprintln!("{}: given up: {error:#}", series.name());
            rows.iter_mut().for_each(|row| row.spoilt("and no more were played"));
        }
    }
    rows
}

/// One host for all sessions, until one of them cannot be played.
fn on_one_host(rig: &Rig, series: &Series, manner: Manner, progress: &mut Progress) -> Result<Leaked> {
    let desktop = series.scene.desktop();
    let mut worst = Leaked::default();
    while progress.is_wanting() {
        rig.sweep()?;
        let mut host = rig.host(series)?;
        // What a host makes once and keeps is there after a first session.
        let round = round::play(rig, &mut host, series, 1, manner.blow, &mut progress.chance);
        if !progress.warmed(series, round, &host)? {
            continue;
        }
        let before = Census::settled(&rig.stage, &host, desktop)?;
        while progress.is_wanting() && progress.play(rig, &mut host, series, manner)? {}
        let (_, leaked) = before.leaked(&rig.stage, &host, desktop)?;
        worst = worst.worse(leaked);
    }
    Ok(worst)
}

/// Each host is counted before its session and after it. The first session is one in which nobody dies: what there is
/// more after it is what a session leaves anyway.
fn on_fresh_hosts(rig: &Rig, series: &Series, manner: Manner, progress: &mut Progress) -> Result<Leaked> {
    let desktop = series.scene.desktop();
    let mut usual = None;
    let mut worst = Leaked::default();
    while progress.is_wanting() {
        rig.sweep()?;
        let mut host: Host<'_> = rig.host(series)?;
        let before = Census::settled(&rig.stage, &host, desktop)?;
        let Some(usual) = usual else {
            let quiet = Series { cases: Vec::new(), ..series.clone() };
            let round = round::play(rig, &mut host, &quiet, 0, manner.blow, &mut progress.chance);
            if progress.warmed(&quiet, round, &host)? {
                usual = Some(before.leaked(&rig.stage, &host, desktop)?.1);
            }
            continue;
        };
        if progress.play(rig, &mut host, series, manner)? {
            // A lumend that was started again is another process: what it has is compared with what a fresh one has.
            let (_, leaked) = before.plus(&usual).leaked(&rig.stage, &host, desktop)?;
            worst = worst.worse(leaked);
        }
    }
    Ok(worst)
}

/// So many sessions in a row that cannot be played at all mean that nothing can.
const FAILURES: usize = 3;
/// So many sessions in a row after which one victim has died no more often than before mean that it never will: those before
/// it take the session with them each time.
const STALLED: usize = 12;

/// A series while it is played.
struct Progress {
    title: String,
    wanted: usize,
    chance: Chance,
    rows: Vec<Row>,
    round: usize,
    failures: usize,
    /// Deaths of the one who has died least often, after the last session that had more of them.
    least: usize,
    /// Sessions since.
    stalled: usize,
}

impl Progress {
    /// Somebody has not died as often as was asked for.
    fn is_wanting(&self) -> bool {
        self.kills() < self.wanted
    }

    /// Of the one who has died least often.
    fn kills(&self) -> usize {
        self.rows.iter().map(|row| row.kills).min().unwrap_or(self.wanted)
    }

    /// After each session that was played to its end.
    ///
    /// # Errors
    /// This series will never be over.
    fn goes_on(&mut self) -> Result<()> {
        let least = self.kills();
        self.stalled = if least > self.least { 0 } else { self.stalled + 1 };
        self.least = least;
        ensure!(self.stalled < STALLED, "{STALLED} sessions in a row ended before everybody had died");
        Ok(())
    }

    /// After a round whose deaths do not count. False if it could not be played.
    fn warmed(&mut self, series: &Series, played: Result<Round>, host: &Host<'_>) -> Result<bool> {
        let title = format!("{}: warm-up", self.title);
        match played.and_then(|round| check(&round).map(|()| round)) {
            Ok(round) => {
                note(&title, series, &round);
                Ok(true)
            }
            Err(error) => self.failed(&title, error, host).map(|()| false),
        }
    }

    /// A session could not be played, which no row survives unharmed; others may be.
    ///
    /// # Errors
    /// There were too many of these in a row.
    fn failed(&mut self, title: &str, error: anyhow::Error, host: &Host<'_>) -> Result<()> {
        eprintln!("{title}: {error:#}");
        self.failures += 1;
        self.rows.iter_mut().for_each(|row| row.spoilt(&format!("{error:#}")));
        if self.failures >= FAILURES { Err(error.context(host.log())) } else { Ok(()) }
    }

    /// Plays a round and counts it. False if it could not be played to its end: then the host is not to be used again.
    fn play(&mut self, rig: &Rig, host: &mut Host<'_>, series: &Series, manner: Manner) -> Result<bool> {
        self.round += 1;
        let laps = series.laps.min(self.wanted - self.kills());
        let title = format!("{}: round {} of {}", self.title, self.round, series.rounds());
        let played = round::play(rig, host, series, laps, manner.blow, &mut self.chance);
        match played.and_then(|round| check(&round).map(|()| round)) {
            Ok(round) => {
                self.failures = 0;
                note(&title, series, &round);
                round.losses.iter().for_each(|loss| self.rows[loss.case].add(loss));
                self.rows.iter_mut().for_each(|row| row.judged(self.round, round.sees));
                self.goes_on()?;
                Ok(round.losses.iter().all(|loss| loss.session.is_none()))
            }
            Err(error) => self.failed(&title, error, host).map(|()| false),
        }
    }
}

fn check(round: &Round) -> Result<()> {
    ensure!(round.corrupt_before.is_empty(), "pictures are wrong though nothing has died: {:?}", round.corrupt_before);
    ensure!(round.judged > 0, "no picture could be held against what it should show");
    Ok(())
}

/// One line on the screen for each round.
fn note(title: &str, series: &Series, round: &Round) {
    let mut parts = Vec::new();
    for loss in &round.losses {
        let case = &series.cases[loss.case];
        let gap = match case.victim {
            Victim::Audio => loss.gaps.sound_ms,
            Victim::Input => loss.gaps.hands_ms,
            _ => loss.gaps.picture_ms,
        };
        let gap = gap.map_or("nothing".to_owned(), |gap| format!("{gap:.0} ms"));
        let count = loss.corrupt.len();
        let wrong = loss.corrupt.first().map_or(String::new(), |why| format!(", {count} corrupt: {why}"));
        let lost = loss.session.as_ref().map_or(String::new(), |why| format!(", lost: {why}"));
        parts.push(format!("{} {gap}{wrong}{lost}", case.name()));
    }
    let first = round.corrupt_before.first().map(|why| format!("corrupt before anybody died: {why}"));
    parts.extend(first);
    let judge = match round.sees {
        Some(true) => "",
        Some(false) => ", BLIND JUDGE",
        None => ", unproven judge",
    };
    let pictures = format!("{} pictures, worst block {:.1}{judge}", round.judged, round.worst);
    eprintln!("{title}: {} ({pictures})", parts.join("; "));
}

#[cfg(test)]
mod tests {
    use super::round::Loss;
    use super::*;

    #[test]
    fn a_series_in_which_somebody_never_dies_is_given_up() {
        let rows = plan(&[Plane::Net, Plane::Compositor], Scene::Moving, 9)[0].cases.clone();
        let rows: Vec<Row> = rows.into_iter().map(|case| Row::new(case, Blow::Kill)).collect();
        let (title, chance) = (String::new(), Chance::new(1));
        let mut progress = Progress { title, wanted: 99, chance, rows, round: 0, failures: 0, least: 0, stalled: 0 };
        let die = |progress: &mut Progress, who: usize| {
            progress.rows[who].add(&Loss::default());
            progress.goes_on()
        };
        for _ in 0..2 {
            (1..STALLED).for_each(|_| die(&mut progress, 0).unwrap());
            die(&mut progress, 1).unwrap();
        }
        (1..STALLED).for_each(|_| die(&mut progress, 0).unwrap());
        assert!(die(&mut progress, 0).is_err());
    }
}
