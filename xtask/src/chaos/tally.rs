//! The chaos table: what all kills of a kind have cost together, for people, for documents and for scripts.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::case::{Case, HANG_MS, Target, Victim};
use super::kill::Blow;
use super::leak::Leaked;
use super::round::Loss;
use crate::table;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub case: Case,
    pub blow: Blow,
    pub kills: usize,
    /// What was missed, sorted: of the picture, of sound or of hands, as the case has it. A session that was lost has none.
    pub gaps_ms: Vec<f64>,
    /// The same until there was something new to see, where the case is one of pictures that move.
    pub fresh_ms: Vec<f64>,
    pub sessions_lost: usize,
    pub corrupt_frames: usize,
    pub events_lost: usize,
    /// The most that one kill has cost.
    pub events_lost_most: usize,
    pub events_doubled: usize,
    pub stuck: usize,
    pub vanished: usize,
    pub leaked: Leaked,
    pub judges: Judges,
    /// Reasons, for people: why sessions were lost and what was wrong with pictures.
    pub notes: Vec<String>,
}

/// Recordings by what became of their judge, which everything that is said of pictures rests on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Judges {
    /// What was spoilt on purpose was found.
    pub proven: usize,
    /// It was not.
    pub blind: usize,
    /// There was nothing to spoil.
    pub unproven: usize,
}

impl Judges {
    /// One that sees, and none that does not.
    pub const fn see(&self) -> bool {
        self.proven > 0 && self.blind == 0
    }
}

impl Row {
    pub const fn new(case: Case, blow: Blow) -> Self {
        Self {
            case,
            blow,
            kills: 0,
            gaps_ms: Vec::new(),
            fresh_ms: Vec::new(),
            sessions_lost: 0,
            corrupt_frames: 0,
            events_lost: 0,
            events_lost_most: 0,
            events_doubled: 0,
            stuck: 0,
            vanished: 0,
            leaked: NOTHING,
            judges: Judges { proven: 0, blind: 0, unproven: 0 },
            notes: Vec::new(),
        }
    }

    /// Adds what one kill has cost.
    pub fn add(&mut self, loss: &Loss) {
        self.kills += 1;
        let gap = match self.case.victim {
            Victim::Audio => loss.gaps.sound_ms,
            Victim::Input => loss.gaps.hands_ms,
            _ => loss.gaps.picture_ms,
        };
        let nothing = gap.is_none().then_some("nothing came any more");
        let numb = (self.case.has_hands() && loss.gaps.hands_ms.is_none()).then_some("no key came any more");
        let lost = loss.session.clone().or_else(|| nothing.or(numb).map(str::to_owned));
        match (lost, gap) {
            (None, Some(gap)) => {
                insert(&mut self.gaps_ms, gap);
                let fresh = loss.gaps.fresh_ms.filter(|_| self.case.victim.carries_the_picture());
                fresh.into_iter().for_each(|gap| insert(&mut self.fresh_ms, gap));
            }
            (why, _) => {
                self.sessions_lost += 1;
                self.notes.extend(why.map(|why| format!("kill {}: session lost: {why}", self.kills)));
            }
        }
        self.corrupt_frames += loss.corrupt.len();
        self.notes.extend(loss.corrupt.iter().map(|why| format!("kill {}: corrupt: {why}", self.kills)));
        let most = self.case.victim.presses_lost_most().unwrap_or(usize::MAX);
        for (is, what) in [
            (loss.events_lost > most, format!("{} events lost", loss.events_lost)),
            (loss.events_doubled > 0, format!("{} events twice", loss.events_doubled)),
            (loss.stuck > 0, format!("{} keys stuck", loss.stuck)),
            (loss.vanished > 0, "the keyboard gone".to_owned()),
        ] {
            self.notes.extend(is.then(|| format!("kill {}: {what}", self.kills)));
        }
        self.events_lost += loss.events_lost;
        self.events_lost_most = self.events_lost_most.max(loss.events_lost);
        self.events_doubled += loss.events_doubled;
        self.stuck += loss.stuck;
        self.vanished += loss.vanished;
    }

    /// Adds what is known of the judge of one recording; `sees` as the judge has it.
    pub fn judged(&mut self, round: usize, sees: Option<bool>) {
        match sees {
            Some(true) => self.judges.proven += 1,
            Some(false) => {
                self.judges.blind += 1;
                self.notes.push(format!("round {round}: a blind judge: what was spoilt on purpose was not found"));
            }
            None => self.judges.unproven += 1,
        }
    }

    /// A session in which it was to die could not be played, or nothing could be said of it.
    pub fn spoilt(&mut self, why: &str) {
        self.sessions_lost += 1;
        self.notes.push(format!("a session after kill {} came to nothing: {why}", self.kills));
    }

    /// The smallest gap that so many thousandths of all are not longer than.
    pub fn quantile(&self, permille: usize) -> Option<f64> {
        quantile(&self.gaps_ms, permille)
    }

    /// With a hang, noticing it is part of what may be missed.
    fn target(&self) -> Option<Target> {
        let hang = if self.blow == Blow::Stop { HANG_MS } else { 0.0 };
        self.case.target().map(|target| Target { p50: target.p50 + hang, p99: target.p99 + hang })
    }

    /// Nothing lost, nothing wrong as far as judges can tell that have shown that they can, nothing left behind. Where the
    /// desktop stays, so does its keyboard, no key is stuck, and no press is lost but one with an input plane.
    pub fn is_sound(&self) -> bool {
        self.faults().is_empty()
    }

    /// What keeps it from being sound.
    fn faults(&self) -> Vec<String> {
        let lost_too_many = self.case.victim.presses_lost_most().is_some_and(|most| self.events_lost_most > most);
        let faults = [
            (self.sessions_lost > 0, format!("{} sessions lost", self.sessions_lost)),
            (self.corrupt_frames > 0, format!("{} corrupt pictures", self.corrupt_frames)),
            (self.judges.blind > 0, format!("{} blind judges", self.judges.blind)),
            (self.judges.blind == 0 && !self.judges.see(), "no judge that has shown that it sees".to_owned()),
            (self.stuck > 0, format!("{} keys stuck", self.stuck)),
            (self.events_doubled > 0, format!("{} events twice", self.events_doubled)),
            (self.vanished > 0, format!("a keyboard gone {} times", self.vanished)),
            (lost_too_many, format!("{} events lost at once", self.events_lost_most)),
            (!self.leaked.is_nothing(), "something leaked".to_owned()),
        ];
        faults.into_iter().filter_map(|(is, what)| is.then_some(what)).collect()
    }

    /// What is wrong with it, a missed target too, in one line; none if nothing is.
    pub fn failure(&self) -> Option<String> {
        let mut faults = self.faults();
        if faults.is_empty() && !self.is_met() {
            let gap = |permille| self.quantile(permille).map_or("–".to_owned(), |gap| format!("{gap:.0}"));
            faults.push(format!("target missed with {} / {} ms", gap(500), gap(990)));
        }
        (!faults.is_empty()).then(|| format!("{} by {}: {}", self.case.name(), self.blow.name(), faults.join(", ")))
    }

    /// The gaps are within the target, if there is one; and of events, no more are lost than may be.
    pub fn is_met(&self) -> bool {
        let within = |permille, bound| self.quantile(permille).is_some_and(|gap| gap <= bound);
        let gaps = self.target().is_none_or(|target| within(500, target.p50) && within(990, target.p99));
        gaps && self.is_sound()
    }

    /// As scripts have it.
    pub fn json(&self) -> Value {
        let gap = |permille| self.quantile(permille).map(|gap| (gap * 100.0).round() / 100.0);
        json!({
            "plane": self.case.name(),
            "signal": self.blow.name(),
            "kills": self.kills,
            "gap_ms": { "p50": gap(500), "p99": gap(990), "max": gap(1000) },
            "sessions_lost": self.sessions_lost,
            "corrupt_frames": self.corrupt_frames,
            "judges": {
                "proven": self.judges.proven, "blind": self.judges.blind, "unproven": self.judges.unproven,
            },
            "leaked": { "fds": self.leaked.fds, "memfds": self.leaked.memfds, "outputs": self.leaked.outputs },
        })
    }

    fn cells(&self) -> Vec<String> {
        let gap = |permille| self.quantile(permille).map_or("–".to_owned(), |gap| format!("{gap:.0}"));
        let fresh = quantile(&self.fresh_ms, 500).zip(quantile(&self.fresh_ms, 990));
        let target = match (self.target(), self.case.victim.presses_lost_most()) {
            (Some(target), _) => format!("≤ {:.0} / {:.0}", target.p50, target.p99),
            (None, Some(most)) => format!("≤ {most} event"),
            (None, None) => "back".to_owned(),
        };
        let events = match self.case.has_hands() {
            true => format!("{} / {} / {}", self.events_lost, self.events_doubled, self.stuck),
            false => "–".to_owned(),
        };
        let Leaked { fds, memfds, outputs, .. } = self.leaked;
        vec![
            self.case.name(),
            self.blow.name().to_owned(),
            self.kills.to_string(),
            gap(500),
            gap(990),
            gap(1000),
            target,
            if self.is_met() { "met" } else { "MISSED" }.to_owned(),
            fresh.map_or("–".to_owned(), |(p50, p99)| format!("{p50:.0} / {p99:.0}")),
            self.sessions_lost.to_string(),
            self.corrupt_frames.to_string(),
            events,
            format!("{fds} / {memfds} / {outputs}"),
        ]
    }
}

fn insert(sorted: &mut Vec<f64>, gap: f64) {
    let place = sorted.partition_point(|less| *less <= gap);
    sorted.insert(place, gap);
}

fn quantile(sorted: &[f64], permille: usize) -> Option<f64> {
    let rank = (sorted.len() * permille).div_ceil(1000).max(1);
    sorted.get(rank - 1).copied()
}

const NOTHING: Leaked = Leaked { fds: 0, sockets: 0, memfds: 0, outputs: 0, processes: 0, private_bytes: 0 };

const HEADER: [&str; 13] = [
    "plane",
    "signal",
    "kills",
    "p50 ms",
    "p99 ms",
    "max ms",
    "target",
    "",
    "new picture",
    "sessions lost",
    "corrupt frames",
    "events lost/twice/stuck",
    "leaked fds/memfds/outputs",
];

/// The table on the screen, and below it what there is to say.
pub fn print(rows: &[Row]) {
    println!();
    table::print(&HEADER, &rows.iter().map(Row::cells).collect::<Vec<_>>());
    println!();
    for row in rows {
        for note in &row.notes {
            println!("{}: {note}", row.case.name());
        }
        if row.vanished > 0 {
            println!("{}: windows lost sight of their keyboard {} times", row.case.name(), row.vanished);
        }
        let Leaked { sockets, processes, private_bytes, .. } = row.leaked;
        if sockets + processes > 0 {
            println!("{}: {sockets} sockets and {processes} processes more than before", row.case.name());
        }
        println!("{}: lumend's private memory {:+} KiB", row.case.name(), private_bytes / 1024);
    }
}

/// The table of docs/reliability.md.
pub fn markdown(rows: &[Row]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text =
        line(&HEADER.map(str::to_owned)) + "|---|---|" + &"---:|".repeat(4) + "---|---|" + &"---:|".repeat(5) + "\n";
    text.extend(rows.iter().map(|row| {
        let mut cells = row.cells();
        if !row.is_met() {
            cells[7] = "**missed**".to_owned();
        }
        line(&cells)
    }));
    for row in rows {
        for note in &row.notes {
            let _ = write!(text, "\n* {}, {note}", row.case.name());
        }
    }
    text
}

/// As scripts have it.
pub fn json(rows: &[Row]) -> Value {
    rows.iter().map(Row::json).collect()
}

#[cfg(test)]
mod tests;
