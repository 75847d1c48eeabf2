//! What the tracing says about the table: lines that were needed, lines that are there for a reason that no test can
//! bring about, and lines that should go.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ipc::PlaneKind;
use ipc::sandbox::table::{Line, Only, TABLE};
use serde_json::{Value, json};

use super::{KINDS, Tally};

/// One line of the table as one plane has it.
#[derive(Clone, Debug)]
pub struct Entry {
    pub plane: PlaneKind,
    pub line: &'static Line,
    /// Where the line lists values, this one.
    pub value: Option<String>,
    pub times: u64,
}

impl Entry {
    /// Why it is there though no session needed it.
    pub fn excuse(&self) -> Option<&'static str> {
        self.line.seldom.filter(|(planes, _)| planes.has(self.plane)).map(|(_, why)| why)
    }

    pub fn is_needless(&self) -> bool {
        self.times == 0 && self.excuse().is_none()
    }
}

/// Every line of every plane.
pub fn entries(tally: &Tally) -> Vec<Entry> {
    let mut entries = Vec::new();
    for plane in KINDS {
        for (index, line) in TABLE.iter().enumerate().filter(|(_, line)| line.planes.has(plane)) {
            for (choice, value) in values(line).into_iter().enumerate() {
                let times = tally.used.get(&(plane.to_string(), index, choice)).copied().unwrap_or(0);
                entries.push(Entry { plane, line, value, times });
            }
        }
    }
    entries
}

/// The values that a line lists, or one of none. In the order in which [`Line::allows`] counts them.
fn values(line: &Line) -> Vec<Option<String>> {
    match line.only {
        Only::Is(_, values) => values.iter().map(|value| Some(format!("{value:#x}"))).collect(),
        Only::Option(options) => options.iter().map(|(level, name)| Some(format!("{level}/{name}"))).collect(),
        _ => vec![None],
    }
}

/// For people: what is needless first, then what no line allowed, then what is excused, a line for each excuse.
pub fn people(tally: &Tally) -> String {
    let entries = entries(tally);
    let mut text = format!("{} calls of {:?}\n", tally.calls, tally.planes);
    let tell = |entry: &Entry| {
        let value = entry.value.as_deref().map_or(String::new(), |value| format!(" {value}"));
        format!("{} {}{value}: {}", entry.plane, entry.line.name, entry.line.why)
    };
    for entry in entries.iter().filter(|entry| entry.is_needless()) {
        let _ = writeln!(text, "needless  {}", tell(entry));
    }
    for ((plane, call, arguments), times) in &tally.denied {
        let _ = writeln!(text, "denied    {plane} call {call} {arguments:x?}: {times} times");
    }
    for (excuse, calls) in unseen(&entries) {
        let calls: Vec<String> = calls.iter().map(|(call, planes)| format!("{call} ({})", planes.join(" "))).collect();
        let _ = writeln!(text, "unseen    {excuse}: {}", calls.join(", "));
    }
    let seen = entries.iter().filter(|entry| entry.times > 0).count();
    let _ = writeln!(text, "{seen} of {} lines seen", entries.len());
    text
}

/// Calls that no session needed, by what excuses them, and of each the planes that have it: once, however many of its
/// values are meant.
fn unseen(entries: &[Entry]) -> BTreeMap<&'static str, BTreeMap<&'static str, Vec<String>>> {
    let mut unseen = BTreeMap::<_, BTreeMap<_, Vec<String>>>::new();
    for entry in entries.iter().filter(|entry| entry.times == 0) {
        let Some(excuse) = entry.excuse() else { continue };
        let planes = unseen.entry(excuse).or_default().entry(entry.line.name).or_default();
        let plane = entry.plane.to_string();
        if !planes.contains(&plane) {
            planes.push(plane);
        }
    }
    unseen
}

/// For scripts.
pub fn json(tally: &Tally) -> Value {
    let lines: Vec<Value> = entries(tally)
        .iter()
        .map(|entry| {
            json!({
                "plane": entry.plane.to_string(),
                "call": entry.line.name,
                "value": entry.value,
                "why": entry.line.why,
                "times": entry.times,
                "excuse": entry.excuse(),
                "needless": entry.is_needless(),
            })
        })
        .collect();
    let denied: Vec<Value> = tally
        .denied
        .iter()
        .map(|((plane, call, arguments), times)| {
            json!({ "plane": plane, "call": call, "arguments": arguments, "times": times })
        })
        .collect();
    json!({ "calls": tally.calls, "planes": tally.planes, "lines": lines, "denied": denied })
}
