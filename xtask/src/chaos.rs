//! Kills what a session is made of, again and again, and tells what its client noticed: the chaos table.
//!
//! A real host streams a real desktop to the reference client, with sound and hands on. Each kill falls at a random moment
//! of a session in which the victim has not died before, since lumend starts a plane again at once only the first time
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

use anyhow::{Context, Result, ensure};

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

/// Rounds before the first census: what a host makes once and keeps is there after them.
const WARM_UP: usize = 1;

/// What is asked for besides the series.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub blow: Blow,
    /// Of the moments at which blows fall, and their order.
    pub seed: u64,
}

/// Plays all series; a row for each case, in their order. Progress goes to stderr.
pub fn run(rig: &Rig, series: &[Series], manner: Manner) -> Result<Vec<Row>> {
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
        let own = play(rig, &one, manner, &title).with_context(|| one.name())?;
        rows.extend(own);
        eprintln!("{title}: done after {} s", start.elapsed().as_secs());
    }
    Ok(rows)
}

/// One series: its rows.
fn play(rig: &Rig, series: &Series, manner: Manner, title: &str) -> Result<Vec<Row>> {
    let mut chance = Chance::new(manner.seed);
    let mut rows: Vec<Row> = series.cases.iter().map(|case| Row::new(*case, manner.blow)).collect();
    let leaked = match series.fresh {
        true => on_fresh_hosts(rig, series, manner, &mut chance, title, &mut rows)?,
        false => on_one_host(rig, series, manner, &mut chance, title, &mut rows)?,
    };
    rows.iter_mut().for_each(|row| row.leaked = leaked);
    Ok(rows)
}

fn on_one_host(
    rig: &Rig,
    series: &Series,
    manner: Manner,
    chance: &mut Chance,
    title: &str,
    rows: &mut [Row],
) -> Result<Leaked> {
    let desktop = series.scene.desktop();
    rig.sweep()?;
    let mut host = rig.host(series)?;
    let mut before = None;
    for number in 0..WARM_UP + series.rounds {
        if number == WARM_UP {
            before = Some(Census::settled(&rig.stage, &host, desktop)?);
        }
        let round = round::play(rig, &mut host, series, manner.blow, chance).with_context(|| host.log())?;
        note(title, number, series.rounds + WARM_UP, series, &round);
        if number >= WARM_UP {
            add(rows, &round)?;
        }
    }
    let (_, leaked) = before.context("no round was played")?.leaked(&rig.stage, &host, desktop)?;
    Ok(leaked)
}

/// Each host is counted before its session and after it. The first session is one in which nobody dies: what there is
/// more after it is what a session leaves anyway.
fn on_fresh_hosts(
    rig: &Rig,
    series: &Series,
    manner: Manner,
    chance: &mut Chance,
    title: &str,
    rows: &mut [Row],
) -> Result<Leaked> {
    let desktop = series.scene.desktop();
    let mut usual = Leaked::default();
    let mut worst = Leaked::default();
    for number in 0..=series.rounds {
        rig.sweep()?;
        let mut host: Host<'_> = rig.host(series)?;
        let before = Census::settled(&rig.stage, &host, desktop)?;
        let quiet = Series { cases: Vec::new(), ..series.clone() };
        let played = if number == 0 { &quiet } else { series };
        let round = round::play(rig, &mut host, played, manner.blow, chance).with_context(|| host.log())?;
        note(title, number, series.rounds + 1, played, &round);
        if number == 0 {
            (_, usual) = before.leaked(&rig.stage, &host, desktop)?;
            continue;
        }
        add(rows, &round)?;
        // A lumend that was started again is another process: what it has is compared with what a fresh one has.
        let (_, leaked) = before.plus(&usual).leaked(&rig.stage, &host, desktop)?;
        worst = worst.worse(leaked);
    }
    Ok(worst)
}

fn add(rows: &mut [Row], round: &Round) -> Result<()> {
    ensure!(round.corrupt_before.is_empty(), "pictures are wrong though nothing has died: {:?}", round.corrupt_before);
    ensure!(round.judged > 0, "no picture could be held against what it should show");
    round.losses.iter().for_each(|loss| rows[loss.case].add(loss));
    Ok(())
}

/// One line on the screen for each round.
fn note(title: &str, number: usize, of: usize, series: &Series, round: &Round) {
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
    let pictures = format!("{} pictures, worst block {:.1}", round.judged, round.worst);
    eprintln!("{title}: round {} of {of}: {} ({pictures})", number + 1, parts.join("; "));
}
