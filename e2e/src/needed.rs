//! Which lines of the sandbox's table the planes need: every system call of every sealed plane, traced through sessions
//! of every kind.
//!
//! [`tracer`] is a process of its own beside a host, and writes what it saw into a file; [`sessions`] is what the host is
//! put through; [`verdict`] holds the one against the table.

pub mod sessions;
pub mod tracer;
pub mod verdict;

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use ipc::PlaneKind;
use ipc::sandbox::table::TABLE;
use serde_json::{Value, json};

pub const KINDS: [PlaneKind; 5] =
    [PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Net, PlaneKind::Input, PlaneKind::Audio];

/// A line of the table, by its place there, and which of the values that it lists: 0 where it lists none.
pub type Use = (PlaneName, usize, usize);
/// As [`PlaneKind`] prints itself.
pub type PlaneName = String;

/// What sealed planes have asked of the kernel.
#[derive(Clone, Default, Debug)]
pub struct Tally {
    /// How often each line of the table allowed something.
    pub used: BTreeMap<Use, u64>,
    /// What no line allowed: plane, number, the first three arguments where they tell one request from another.
    pub denied: BTreeMap<(PlaneName, u64, Vec<u64>), u64>,
    pub calls: u64,
    /// Processes that were watched from their seal to their end.
    pub planes: BTreeMap<PlaneName, u64>,
}

impl Tally {
    /// Notes one call of a sealed plane.
    pub fn note(&mut self, kind: PlaneKind, pid: i32, number: u64, arguments: &[u64; 6]) {
        self.calls += 1;
        let lines = TABLE.iter().enumerate().filter(|(_, line)| line.call as u64 == number && line.planes.has(kind));
        let mut allowed = false;
        for (index, line) in lines {
            if let Some(choice) = line.allows(arguments, pid.cast_unsigned()) {
                *self.used.entry((kind.to_string(), index, choice)).or_default() += 1;
                allowed = true;
            }
        }
        if !allowed {
            let telling = match number as i64 {
                nix::libc::SYS_fcntl | nix::libc::SYS_ioctl => vec![arguments[1]],
                nix::libc::SYS_setsockopt | nix::libc::SYS_getsockopt => vec![arguments[1], arguments[2]],
                nix::libc::SYS_prctl | nix::libc::SYS_clone => vec![arguments[0]],
                nix::libc::SYS_mmap => vec![arguments[2], arguments[3]],
                nix::libc::SYS_mprotect => vec![arguments[2]],
                _ => Vec::new(),
            };
            *self.denied.entry((kind.to_string(), number, telling)).or_default() += 1;
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.calls += other.calls;
        for (key, times) in other.used {
            *self.used.entry(key).or_default() += times;
        }
        for (key, times) in other.denied {
            *self.denied.entry(key).or_default() += times;
        }
        for (key, times) in other.planes {
            *self.planes.entry(key).or_default() += times;
        }
    }

    pub fn to_json(&self) -> Value {
        let used: Vec<Value> =
            self.used.iter().map(|((plane, line, choice), n)| json!([plane, line, choice, n])).collect();
        let denied: Vec<Value> =
            self.denied.iter().map(|((plane, call, arguments), n)| json!([plane, call, arguments, n])).collect();
        json!({ "used": used, "denied": denied, "calls": self.calls, "planes": self.planes })
    }

    pub fn from_json(value: &Value) -> Result<Self> {
        let list = |key: &str| value[key].as_array().cloned().with_context(|| format!("no {key}"));
        let number = |value: &Value| value.as_u64().context("no number");
        let name = |value: &Value| value.as_str().map(str::to_owned).context("no name");
        let mut tally = Self { calls: number(&value["calls"])?, ..Self::default() };
        for entry in list("used")? {
            let key = (name(&entry[0])?, number(&entry[1])? as usize, number(&entry[2])? as usize);
            tally.used.insert(key, number(&entry[3])?);
        }
        for entry in list("denied")? {
            let arguments = entry[2].as_array().context("no arguments")?.iter().map(number).collect::<Result<_>>()?;
            tally.denied.insert((name(&entry[0])?, number(&entry[1])?, arguments), number(&entry[3])?);
        }
        for (plane, times) in value["planes"].as_object().context("no planes")? {
            tally.planes.insert(plane.clone(), number(times)?);
        }
        Ok(tally)
    }
}
