//! docs/reliability.md: the last result of each part, between marks that this file knows, with when and where it was made.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use xtask::binaries::root;

/// Where and of what the results of this run are.
pub struct Record {
    file: PathBuf,
    commit: String,
    machine: String,
}

impl Record {
    pub fn open() -> Result<Self> {
        let file = root().join("docs/reliability.md");
        ensure_readable(&file)?;
        Ok(Self { file, commit: commit(), machine: machine() })
    }

    /// Another one each day, so that nights differ.
    pub fn seed(&self) -> u64 {
        seconds() / 86_400
    }

    /// Puts the result of a part where the last one was; `effort` says how it was made.
    ///
    /// # Errors
    /// The document has no place for it.
    pub fn write(&self, part: &str, effort: &str, result: &str) -> Result<()> {
        let text = fs::read_to_string(&self.file)?;
        let (day, Self { commit, machine, .. }) = (date(seconds()), self);
        let head = format!("{day}, commit {commit}, on {machine}: {effort}.");
        let new = replaced(&text, part, &format!("{head}\n\n{}", result.trim_end()))
            .with_context(|| format!("{} has no place for {part}", self.file.display()))?;
        fs::write(&self.file, new).with_context(|| self.file.display().to_string())
    }
}

#[cfg(test)]
impl Record {
    /// One in a file of its own, which nobody removes.
    pub fn scratch() -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("lumen-record-{}-{}.md", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let file = std::env::temp_dir().join(name);
        fs::copy(root().join("docs/reliability.md"), &file).expect("the document can be copied");
        Self { file, commit: "none".to_owned(), machine: "no machine".to_owned() }
    }

    pub fn file(&self) -> &std::path::Path {
        &self.file
    }
}

fn ensure_readable(file: &PathBuf) -> Result<()> {
    fs::metadata(file).map(drop).with_context(|| file.display().to_string())
}

/// The text with this between the marks of a part; none if it has no such marks.
fn replaced(text: &str, part: &str, result: &str) -> Option<String> {
    let (begin, end) = (format!("<!-- {part} -->\n"), format!("<!-- end of {part} -->"));
    let from = text.find(&begin)? + begin.len();
    let to = from + text[from..].find(&end)?;
    Some(format!("{}{result}\n{}", &text[..from], &text[to..]))
}

/// The commit that the tree is of, and whether it has been changed since.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(root()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".to_owned() };
    // What this program itself writes is no change of what was measured.
    match git(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":!docs"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit} with changes"),
    }
}

fn machine() -> String {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.split_once(':')?.1.trim().to_owned()))
    };
    let processor = field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    let kib = field(&read("/proc/meminfo"), "MemTotal").and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let gib = kib.unwrap_or(0).div_ceil(1 << 20);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({processor}), {gib} GiB, Linux {}", kernel.trim())
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Of seconds since 1970, as `2026-11-23`; Howard Hinnant's algorithm for the civil calendar.
fn date(seconds: u64) -> String {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year}-{month:02}-{day:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_date() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_795_392_000, "2026-11-23"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(date(seconds), expected);
        }
    }

    #[test]
    fn a_part_is_replaced_and_nothing_else() {
        let text = "a\n<!-- chaos -->\nold\nold\n<!-- end of chaos -->\nb <!-- leaks -->\n<!-- end of leaks -->\n";
        let new = replaced(text, "chaos", "new").unwrap();
        assert_eq!(new, "a\n<!-- chaos -->\nnew\n<!-- end of chaos -->\nb <!-- leaks -->\n<!-- end of leaks -->\n");
        assert_eq!(replaced(&new, "chaos", "old\nold").unwrap(), text);
        assert_eq!(replaced(text, "soak", "new"), None);
    }

    #[test]
    fn the_document_has_a_place_for_each_part() {
        let text = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
        for part in ["chaos", "leaks", "soak", "property", "fuzz", "night"] {
            assert!(replaced(&text, part, "").is_some(), "{part}");
        }
    }
}
