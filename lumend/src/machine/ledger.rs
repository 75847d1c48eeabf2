//! What audio planes have changed for everybody: the default sink. A record is on disk before its change is made, and
//! stays there until the change is known to be undone.

use std::collections::{BTreeMap, BTreeSet};

use ipc::{DefaultSink, SessionId};

use super::event::PlaneId;
use crate::rate::Rate;

/// Records at a time: of as many sessions as there may be, and some of dead ones. All fit into one message.
const MAX_RECORDS: usize = 24;
/// Most bytes of a node's name.
const MAX_NAME: usize = 128;

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
        let ours = |record: &DefaultSink| session_of(&record.ours).is_some() && check(record).is_ok();
        let good = records.into_iter().filter(ours).take(MAX_RECORDS);
        let entry = |record: DefaultSink| (record.ours, Entry { previous: record.previous, holder: Holder::Nobody });
        Self { entries: good.map(entry).collect(), rate: Rate::new(now, BURST, PER_SECOND) }
    }

    /// Enters a change that the `plane` of `session` is about to make. The error is the reason to kill it.
    pub fn record(
        &mut self,
        plane: PlaneId,
        session: SessionId,
        record: DefaultSink,
        now: u64,
    ) -> Result<(), &'static str> {
        if session_of(&record.ours) != Some(session) {
            return Err("it would make a sink the default that is not its own");
        }
        check(&record)?;
        if !self.rate.take(now) {
            return Err("it changes the default sink without end");
        }
        if self.entries.len() >= MAX_RECORDS && !self.entries.contains_key(&record.ours) {
            return Err("more default sinks wait to be put back than fit on record");
        }
        let mut previous = record.previous;
        if let Some(old) = self.entries.get(&record.ours) {
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

    /// Everything that nobody undoes, for `plane` to undo; what a session in `reserved` has left is its own heir's.
    pub fn hand_over(&mut self, plane: PlaneId, reserved: &BTreeSet<SessionId>) -> Vec<DefaultSink> {
        let orphans = self.entries.iter_mut().filter(|(ours, entry)| is_free(ours, entry, reserved));
        let handed = orphans.map(|(ours, entry)| {
            entry.holder = Holder::Undoer(plane);
            DefaultSink { ours: ours.clone(), previous: entry.previous.clone() }
        });
        handed.collect()
    }

    /// True if [`Self::hand_over`] has something to hand over.
    pub fn has_orphans(&self, reserved: &BTreeSet<SessionId>) -> bool {
        self.entries.iter().any(|(ours, entry)| is_free(ours, entry, reserved))
    }

    /// True while a living plane makes a sink of this session's name the default, or puts it back.
    pub fn is_held(&self, session: SessionId) -> bool {
        self.entries.get(&format!("lumen.{session}")).is_some_and(|entry| entry.holder != Holder::Nobody)
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

fn is_free(ours: &str, entry: &Entry, reserved: &BTreeSet<SessionId>) -> bool {
    entry.holder == Holder::Nobody && session_of(ours).is_none_or(|session| !reserved.contains(&session))
}

/// The session whose sink has this name: "lumen." and its number.
fn session_of(ours: &str) -> Option<SessionId> {
    let session = SessionId(ours.strip_prefix("lumen.")?.parse().ok()?);
    (format!("lumen.{session}") == ours).then_some(session)
}

/// What was the default before comes from PipeWire through a plane.
fn check(record: &DefaultSink) -> Result<(), &'static str> {
    let name = |name: &str| !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control);
    match record.previous.as_deref().is_none_or(name) {
        true => Ok(()),
        false => Err("the default sink that it found has no possible name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ours: &str, previous: Option<&str>) -> DefaultSink {
        DefaultSink { ours: ours.into(), previous: previous.map(Into::into) }
    }

    const A: PlaneId = PlaneId(1);
    const B: PlaneId = PlaneId(2);
    const ONE: SessionId = SessionId(1);

    #[test]
    fn a_dead_planes_record_passes_from_hand_to_hand_until_it_is_undone() {
        let mut ledger = Ledger::new([], 0);
        ledger.record(A, ONE, record("lumen.1", Some("speakers")), 0).unwrap();
        assert!(!ledger.has_orphans(&[].into()) && !ledger.undone(B, "lumen.1"), "it is A's");
        assert!(!ledger.exited(A, false), "a crash undoes nothing");
        assert!(ledger.hand_over(B, &[ONE].into()).is_empty(), "it waits for the session's own heir");
        assert_eq!(ledger.hand_over(B, &[].into()), [record("lumen.1", Some("speakers"))]);
        assert!(ledger.hand_over(A, &[].into()).is_empty() && ledger.is_held(ONE), "handed over once");
        assert!(!ledger.exited(B, true), "it has not said that it is undone");
        assert!(ledger.has_orphans(&[].into()) && !ledger.is_held(ONE));
        ledger.hand_over(A, &[].into());
        assert!(ledger.undone(A, "lumen.1") && ledger.records().is_empty());
    }

    #[test]
    fn a_clean_exit_leaves_no_record() {
        let mut ledger = Ledger::new([record("lumen.9", None)], 0);
        ledger.record(A, ONE, record("lumen.1", None), 0).unwrap();
        assert!(ledger.exited(A, true));
        assert_eq!(ledger.records(), [record("lumen.9", None)], "another's stays");
    }

    #[test]
    fn an_heir_of_the_same_name_keeps_what_was_before_them_both() {
        let mut ledger = Ledger::new([record("lumen.1", Some("speakers"))], 0);
        ledger.record(B, ONE, record("lumen.1", Some("lumen.1")), 0).unwrap();
        assert_eq!(ledger.records(), [record("lumen.1", Some("speakers"))]);
    }

    #[test]
    fn what_no_honest_plane_records_is_a_reason_to_end_it() {
        let mut ledger = Ledger::new([record("speakers", None)], 0);
        assert!(ledger.records().is_empty(), "not on disk either");
        let long = "x".repeat(MAX_NAME + 1);
        for (ours, previous) in [
            ("speakers", None),
            ("lumen.", None),
            ("lumen.01", None),
            ("lumen.2", None),
            ("lumen.1", Some(long.as_str())),
            ("lumen.1", Some("")),
            ("lumen.1", Some("a\nb")),
        ] {
            assert!(ledger.record(A, ONE, record(ours, previous), 0).is_err(), "{ours} {previous:?}");
        }
        let flood = (0..100).map(|_| ledger.record(A, ONE, record("lumen.1", None), 0));
        assert_eq!(flood.filter(Result::is_ok).count(), BURST as usize);
    }

    #[test]
    fn all_records_fit_into_one_message() {
        use ipc::ToAudio;
        use ipc::link::Link;
        let previous = "x".repeat(MAX_NAME);
        let of = |i: usize| record(&format!("lumen.{}", u32::MAX - i as u32), Some(&previous));
        let records: Vec<_> = (0..2 * MAX_RECORDS).map(of).collect();
        let records = Ledger::new(records, 0).records();
        assert_eq!(records.len(), MAX_RECORDS);
        let memory = ipc::shm::sealed_memfd("test", 1).unwrap();
        let (ours, _theirs) = Link::pair().unwrap();
        ours.send(ToAudio::Undo { pipewire: memory, records }).unwrap();
    }
}
