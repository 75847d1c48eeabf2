//! The parts of a night, one after the other: what came of each, and how long it took.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use anyhow::{Result, bail};

use super::record::Record;
use super::{Effort, Part};
use crate::table;

/// What a part has shown.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Shown {
    /// For docs/reliability.md.
    pub text: String,
    /// What is not as it must be.
    pub wrong: Vec<String>,
}

impl Shown {
    /// Nothing is wrong.
    pub fn right(text: &str) -> Self {
        Self { text: text.to_owned(), wrong: Vec::new() }
    }

    /// The part came to no end, which is all there is to say of it.
    fn failed(why: &str) -> Self {
        let why = brief(why);
        Self { text: format!("**Failed**: {why}"), wrong: vec![why] }
    }
}

/// An error may have a whole log in it.
const BRIEF: usize = 300;

/// The lines that are not indented, which is advice, in one; no more than a document bears.
fn brief(why: &str) -> String {
    let lines: Vec<&str> = why.lines().filter(|line| !line.starts_with(' ')).map(str::trim_end).collect();
    let whole = lines.join("; ");
    match whole.char_indices().nth(BRIEF) {
        Some((end, _)) => format!("{}…", &whole[..end]),
        None => whole,
    }
}

/// A part that is over.
struct Done {
    name: &'static str,
    seconds: u64,
    wrong: Vec<String>,
}

/// A night so far.
pub struct Night {
    record: Record,
    done: Vec<Done>,
}

impl Night {
    pub const fn new(record: Record) -> Self {
        Self { record, done: Vec::new() }
    }

    /// Plays a part and writes down what it has shown. Whatever happens in it, the next one can be played.
    pub fn part(&mut self, part: Part, effort: &Effort, play: impl FnOnce(u64) -> Result<Shown>) {
        let name = part.name();
        println!("── {name}: {}", part.command(effort));
        let start = Instant::now();
        let seed = self.record.seed();
        let mut shown = caught(|| play(seed));
        let seconds = start.elapsed().as_secs();
        if part.has_a_place() {
            let written = self.record.write(name, &format!("`{}`, {seconds} s", part.command(effort)), &shown.text);
            shown.wrong.extend(written.err().map(|error| format!("not written down: {error:#}")));
        }
        for why in &shown.wrong {
            println!("   {name}: {why}");
        }
        println!("── {name}: {seconds} s");
        self.done.push(Done { name, seconds, wrong: shown.wrong });
    }

    /// The table of the parts, on the screen, and in docs/reliability.md if the night was a whole one.
    ///
    /// # Errors
    /// Something was wrong.
    pub fn end(self, whole: bool) -> Result<()> {
        table::print(&HEADER, &rows(&self.done));
        if whole {
            self.record.write("night", "`cargo xtask nightly`", &markdown(&self.done))?;
        }
        match failure(&self.done) {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        }
    }
}

/// What it shows; that it failed, if it does, or if it panics.
fn caught(play: impl FnOnce() -> Result<Shown>) -> Shown {
    match catch_unwind(AssertUnwindSafe(play)) {
        Ok(Ok(shown)) => shown,
        Ok(Err(error)) => {
            eprintln!("{error:#}");
            Shown::failed(&format!("{error:#}"))
        }
        // The panic has said why on the screen.
        Err(_) => Shown::failed("it panicked"),
    }
}

const HEADER: [&str; 3] = ["part", "seconds", ""];

fn rows(done: &[Done]) -> Vec<Vec<String>> {
    let word = |part: &Done| if part.wrong.is_empty() { "done".to_owned() } else { part.wrong.join("; ") };
    done.iter().map(|part| vec![part.name.to_owned(), part.seconds.to_string(), word(part)]).collect()
}

fn markdown(done: &[Done]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let lines: String = rows(done).iter().map(|row| line(row)).collect();
    line(&HEADER.map(str::to_owned)) + "|---|---:|---|\n" + &lines
}

/// One line of what was wrong; none if nothing was.
fn failure(done: &[Done]) -> Option<String> {
    let wrong: Vec<String> = done
        .iter()
        .filter(|part| !part.wrong.is_empty())
        .map(|part| format!("{}: {}", part.name, part.wrong.join("; ")))
        .collect();
    (!wrong.is_empty()).then(|| format!("not as it must be: {}", wrong.join(" · ")))
}

#[cfg(test)]
mod tests {
    use anyhow::{anyhow, ensure};

    use super::*;

    fn effort() -> Effort {
        Effort { only: Vec::new(), kills: 4, storm: 100, soak_seconds: 30, cases: 200, fuzz_seconds: 2 }
    }

    /// A night in which the search for leaks ends as told, and everything else well.
    fn night(leaks: impl Fn() -> Result<Shown>) -> (Result<()>, String) {
        let record = Record::scratch();
        let file = record.file().to_owned();
        let mut night = Night::new(record);
        for part in [Part::Test, Part::Leaks, Part::Soak] {
            night.part(
                part,
                &effort(),
                |_| if part == Part::Leaks { leaks() } else { Ok(Shown::right("all is well")) },
            );
        }
        let end = night.end(true);
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(file).unwrap();
        (end, text)
    }

    #[test]
    fn a_part_that_fails_keeps_none_from_being_played_and_fails_the_night() {
        let (end, text) = night(|| Ok(Shown::right("nothing leaks")));
        assert!(end.is_ok() && text.contains("nothing leaks") && text.contains("| leaks | 0 | done |"), "{text}");
        let unsound = || Ok(Shown { text: "a table".into(), wrong: vec!["encode by KILL: 1 blind judges".into()] });
        let (end, text) = night(unsound);
        assert_eq!(end.unwrap_err().to_string(), "not as it must be: leaks: encode by KILL: 1 blind judges");
        assert!(text.contains("a table") && text.contains("all is well"), "it is written down all the same: {text}");
        for (why, broken) in [
            ("2 broke; one: why", (|| Err(anyhow!("2 broke\none: why\n  advice"))) as fn() -> Result<Shown>),
            ("it panicked", || panic!("on purpose")),
            ("1 is 2", || {
                ensure!(1 == 2, "1 is 2");
                Ok(Shown::default())
            }),
        ] {
            let (end, text) = night(broken);
            assert_eq!(end.unwrap_err().to_string(), format!("not as it must be: leaks: {why}"));
            assert!(text.contains(&format!("**Failed**: {why}\n")) && text.contains("all is well"), "{text}");
        }
    }

    #[test]
    fn a_log_is_cut() {
        let cut = brief(&"ü".repeat(1000));
        assert_eq!(cut.chars().count(), BRIEF + 1);
        assert_eq!(brief("short"), "short");
    }

    #[test]
    fn every_result_says_how_it_was_made() {
        let (_, text) = night(|| Ok(Shown::right("nothing leaks")));
        assert!(text.contains("`cargo xtask nightly --only leaks --storm 100`, 0 s"), "{text}");
        assert!(text.contains("`cargo xtask nightly --only soak --soak-seconds 30`, 0 s"), "{text}");
    }
}
