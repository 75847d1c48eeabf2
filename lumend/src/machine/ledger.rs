//! What audio planes have changed for everybody: the default sink. A record is on disk before its change is made, and
//! stays there until the change is known to be undone.

use std::collections::BTreeMap;

use ipc::DefaultSink;

use super::event::PlaneId;
use crate::rate::Rate;

/// Records at a time. All of them fit into one message to an audio plane.
const MAX_RECORDS: usize = 12;
/// What one plane may have changed at a time.
const OF_ONE_PLANE: usize = 2;
/// Most bytes of a node's name.
const MAX_NAME: usize = 128;
/// Every sink of ours is called so and a number: nobody else's default can be put on record as ours.
const OURS: &str = "lumen.";

/// Records are written with a sync each: a plane that changes its mind without end must not keep lumend at that.
const BURST: u32 = 32;
const PER_SECOND: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Holder {
    /// Whoever made the change is gone, and nobody has been told to undo it.
    Nobody,
    /// The living plane that makes the change.
    Maker(PlaneId),
    /// The living plane that was told to undo it.
    Undoer(PlaneId),
}

#[derive(Clone, Debug)]
struct Entry {
    previous: Option<String>,
    holder: Holder,
}

/// The records, by the name of the sink that was made the default.
#[derive(Debug)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    rate: Rate,
}

impl Ledger {
    /// Begins with what an earlier lumend has left; what no plane could have recorded is left out.
    pub fn new(records: impl IntoIterator<Item = DefaultSink>, now: u64) -> Self {
        let good = records.into_iter().filter(|record| check(record).is_ok()).take(MAX_RECORDS);
        let entry = |record: DefaultSink| (record.ours, Entry { previous: record.previous, holder: Holder::Nobody });
        Self { entries: good.map(entry).collect(), rate: Rate::new(now, BURST, PER_SECOND) }
    }

    /// Enters a change that `plane` is about to make. The error is the reason to kill it.
    pub fn record(&mut self, plane: PlaneId, record: DefaultSink, now: u64) -> Result<(), &'static str> {
        check(&record)?;
        if !self.rate.take(now) {
            return Err("it changes the default sink without end");
        }
        let others = self.entries.iter().filter(|(ours, _)| **ours != record.ours);
        let (all, own) = others
            .fold((0, 0), |(all, own), (_, entry)| (all + 1, own + usize::from(entry.holder == Holder::Maker(plane))));
        if all >= MAX_RECORDS || own >= OF_ONE_PLANE {
            return Err("it made more sinks the default than it may");
        }
        let mut previous = record.previous;
        if let Some(old) = self.entries.get(&record.ours) {
            if matches!(old.holder, Holder::Maker(other) if other != plane) {
                return Err("it calls its sink by the name of another plane's");
            }
            // It has found the default as a dead plane of the same name left it: what was before that counts.
            if previous.as_ref() == Some(&record.ours) {
                previous = old.previous.clone();
            }
        }
        previous = previous.filter(|name| *name != record.ours);
        self.entries.insert(record.ours, Entry { previous, holder: Holder::Maker(plane) });
        Ok(())
    }

    /// Strikes what `plane` made, or was told to undo. False if it has nothing to say about it.
    pub fn undone(&mut self, plane: PlaneId, ours: &str) -> bool {
        let entry = self.entries.get(ours).map(|entry| entry.holder);
        let its_own = entry == Some(Holder::Maker(plane)) || entry == Some(Holder::Undoer(plane));
        if its_own {
            self.entries.remove(ours);
        }
        its_own
    }

    /// A plane's process is no more. With `stopped`, its exit status says that it left nothing changed. True if a
    /// record was struck.
    pub fn exited(&mut self, plane: PlaneId, stopped: bool) -> bool {
        let before = self.entries.len();
        if stopped {
            self.entries.retain(|_, entry| entry.holder != Holder::Maker(plane));
        }
        self.release(plane);
        self.entries.len() != before
    }

    /// What `plane` held is nobody's.
    pub fn release(&mut self, plane: PlaneId) {
        for entry in self.entries.values_mut() {
            if entry.holder == Holder::Maker(plane) || entry.holder == Holder::Undoer(plane) {
                entry.holder = Holder::Nobody;
            }
        }
    }

    /// Everything that nobody undoes, for `plane` to undo.
    pub fn hand_over(&mut self, plane: PlaneId) -> Vec<DefaultSink> {
        let orphans = self.entries.iter_mut().filter(|(_, entry)| entry.holder == Holder::Nobody);
        let handed = orphans.map(|(ours, entry)| {
            entry.holder = Holder::Undoer(plane);
            DefaultSink { ours: ours.clone(), previous: entry.previous.clone() }
        });
        handed.collect()
    }

    pub fn has_orphans(&self) -> bool {
        self.entries.values().any(|entry| entry.holder == Holder::Nobody)
    }

    /// The living planes that make or undo a change.
    pub fn holders(&self) -> impl Iterator<Item = PlaneId> + '_ {
        self.entries.values().filter_map(|entry| match entry.holder {
            Holder::Nobody => None,
            Holder::Maker(plane) | Holder::Undoer(plane) => Some(plane),
        })
    }

    /// What belongs on disk.
    pub fn records(&self) -> Vec<DefaultSink> {
        let record =
            |(ours, entry): (&String, &Entry)| DefaultSink { ours: ours.clone(), previous: entry.previous.clone() };
        self.entries.iter().map(record).collect()
    }
}

/// Names come from a plane, and through it from PipeWire.
fn check(record: &DefaultSink) -> Result<(), &'static str> {
    let name = |name: &str| !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    if !record.ours.starts_with(OURS) || !name(&record.ours) {
        return Err("it would make a sink the default that is not its own");
    }
    if !record.previous.as_deref().is_none_or(name) {
        return Err("the default sink that it found has no possible name");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ours: &str, previous: Option<&str>) -> DefaultSink {
        DefaultSink { ours: ours.into(), previous: previous.map(Into::into) }
    }

    const A: PlaneId = PlaneId(1);
    const B: PlaneId = PlaneId(2);

    #[test]
    fn a_dead_planes_record_passes_from_hand_to_hand_until_it_is_undone() {
        let mut ledger = Ledger::new([], 0);
        ledger.record(A, record("lumen.1", Some("speakers")), 0).unwrap();
        assert!(!ledger.has_orphans() && !ledger.undone(B, "lumen.1"), "it is A's");
        assert!(!ledger.exited(A, false), "a crash undoes nothing");
        assert_eq!(ledger.hand_over(B), [record("lumen.1", Some("speakers"))]);
        assert!(ledger.hand_over(A).is_empty(), "handed over once");
        assert!(!ledger.exited(B, true), "it has not said that it is undone");
        assert!(ledger.has_orphans());
        ledger.hand_over(A);
        assert!(ledger.undone(A, "lumen.1") && ledger.records().is_empty());
    }

    #[test]
    fn a_clean_exit_leaves_no_record() {
        let mut ledger = Ledger::new([record("lumen.9", None)], 0);
        ledger.record(A, record("lumen.1", None), 0).unwrap();
        assert!(ledger.exited(A, true));
        assert_eq!(ledger.records(), [record("lumen.9", None)], "another's stays");
    }

    #[test]
    fn an_heir_of_the_same_name_keeps_what_was_before_them_both() {
        let mut ledger = Ledger::new([record("lumen.1", Some("speakers"))], 0);
        ledger.record(B, record("lumen.1", Some("lumen.1")), 0).unwrap();
        assert_eq!(ledger.records(), [record("lumen.1", Some("speakers"))]);
    }

    #[test]
    fn what_no_honest_plane_records_is_a_reason_to_end_it() {
        let mut ledger = Ledger::new([record("speakers", None)], 0);
        assert!(ledger.records().is_empty(), "not on disk either");
        let long = "x".repeat(MAX_NAME + 1);
        for bad in [
            record("speakers", None),
            record("lumen.\n", None),
            record(&format!("lumen.{long}"), None),
            record("lumen.1", Some(&long)),
            record("lumen.1", Some("")),
        ] {
            assert!(ledger.record(A, bad, 0).is_err());
        }
        ledger.record(A, record("lumen.1", None), 0).unwrap();
        assert!(ledger.record(B, record("lumen.1", None), 0).is_err(), "another living plane's name");
        ledger.record(A, record("lumen.2", None), 0).unwrap();
        assert!(ledger.record(A, record("lumen.3", None), 0).is_err(), "more than one plane may");
        let flood = (0..100).map(|_| ledger.record(A, record("lumen.1", None), 0));
        assert!(flood.filter(Result::is_ok).count() < BURST as usize);
    }

    #[test]
    fn all_records_fit_into_one_message() {
        use ipc::ToAudio;
        use ipc::codec::{MAX_BODY, Message};
        let name = |i: usize| format!("lumen.{i:0width$}", width = MAX_NAME - OURS.len());
        let records: Vec<_> = (0..MAX_RECORDS).map(|i| record(&name(i), Some(&name(i)))).collect();
        let bytes: usize = records.iter().map(|r| r.ours.len() + r.previous.as_ref().unwrap().len() + 5).sum();
        assert!(bytes + 128 < MAX_BODY, "{bytes} bytes");
        let memory = ipc::shm::sealed_memfd("test", 1).unwrap();
        ToAudio::Undo { pipewire: memory, records }.encode().unwrap();
    }
}
