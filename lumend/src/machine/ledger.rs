//! What audio planes have changed for everybody: the default sink. A record is on disk before its change is made, and
//! stays there until the change is known to be undone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ipc::{DefaultSink, SessionId};

use super::event::PlaneId;
use crate::rate::Rate;

/// Records at a time: of as many sessions as there may be, and some of dead ones. All fit into one message.
const MAX_RECORDS: usize = 24;
/// Most bytes of a node's name.
const MAX_NAME: usize = 128;

/// Of one plane's records. They are written with a sync each: a plane that changes its mind without end must not keep
/// lumend at that, nor use up what others need.
const BURST: u32 = 8;
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
    /// What is to be put back. Never a session's own sink: that goes with its session.
    previous: Option<String>,
    /// What its maker has found, which may be another session's sink, and puts back itself if it lives to do so.
    found: Option<String>,
    holder: Holder,
}

/// The records, by the name of the sink that was made the default.
#[derive(Debug)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    /// What was before the sinks of the latest struck records: a plane may have found one just before it went.
    struck: VecDeque<(String, Option<String>)>,
    rates: BTreeMap<PlaneId, Rate>,
}

impl Ledger {
    /// Begins with what an earlier lumend has left; what no plane could have recorded is left out.
    pub fn new(records: impl IntoIterator<Item = DefaultSink>) -> Self {
        let good = records.into_iter().filter(|record| session_of(&record.ours).is_some()).take(MAX_RECORDS);
        let entry = |record: DefaultSink| {
            let previous = record.previous.filter(|name| is_possible(name));
            (record.ours, Entry { previous, found: None, holder: Holder::Nobody })
        };
        let entries = good.map(entry).collect();
        let mut ledger = Self { entries, struck: VecDeque::new(), rates: BTreeMap::new() };
        let real: Vec<_> = ledger.entries.values().map(|entry| ledger.real(entry.previous.clone())).collect();
        ledger.entries.values_mut().zip(real).for_each(|(entry, real)| entry.previous = real);
        ledger
    }

    /// Enters a change that the `plane` of `session` is about to make. Returns what the plane is to put back, which may
    /// be another session's sink. The error is the reason to kill it.
    pub fn record(
        &mut self,
        plane: PlaneId,
        session: SessionId,
        record: DefaultSink,
        now: u64,
    ) -> Result<Option<String>, &'static str> {
        let DefaultSink { ours, previous } = record;
        if session_of(&ours) != Some(session) {
            return Err("it would make a sink the default that is not its own");
        }
        let rate = self.rates.entry(plane).or_insert_with(|| Rate::new(now, BURST, PER_SECOND));
        if !rate.take(now) {
            return Err("it changes the default sink without end");
        }
        if self.entries.len() >= MAX_RECORDS && !self.entries.contains_key(&ours) {
            return Err("more default sinks wait to be put back than fit on record");
        }
        // Any program may have chosen it, under any name: that is not the plane's fault.
        let found = previous.filter(|name| is_possible(name));
        // If it is what a dead plane of its session made, what was before that counts.
        let previous = self.real(found.clone());
        let found = found.filter(|name| *name != ours);
        let entry = Entry { previous: previous.clone(), found: found.clone(), holder: Holder::Maker(plane) };
        self.entries.insert(ours, entry);
        if let Some(name) = &found {
            self.revive(name);
        }
        Ok(found.or(previous))
    }

    /// What was before the sinks of sessions, all the way.
    fn real(&self, mut name: Option<String>) -> Option<String> {
        // Records that name each other in a circle are not followed far.
        for _ in 0..=MAX_RECORDS {
            let Some(ours) = name.as_deref().filter(|name| session_of(name).is_some()) else { return name };
            let known = self.entries.get(ours).map(|entry| &entry.previous);
            let known = known.or_else(|| self.struck.iter().rev().find(|(name, _)| name == ours).map(|(_, old)| old));
            name = known.cloned().flatten();
        }
        None
    }

    /// A plane has found a sink whose record has been struck meanwhile, and is going to put it back.
    fn revive(&mut self, name: &str) {
        if self.entries.contains_key(name) || self.entries.len() >= MAX_RECORDS {
            return;
        }
        if let Some(at) = self.struck.iter().rposition(|(struck, _)| struck == name)
            && let Some((name, previous)) = self.struck.remove(at)
        {
            self.entries.insert(name, Entry { previous, found: None, holder: Holder::Nobody });
        }
    }

    /// Strikes what `plane` made, or was told to undo. False if nothing is struck.
    pub fn undone(&mut self, plane: PlaneId, ours: &str) -> bool {
        let entry = self.entries.get(ours).map(|entry| entry.holder);
        let its_own = entry == Some(Holder::Maker(plane)) || entry == Some(Holder::Undoer(plane));
        its_own && self.strike(ours)
    }

    /// Forgets a record, unless the sink may become the default once more.
    fn strike(&mut self, ours: &str) -> bool {
        if self.is_to_come_back(ours) {
            if let Some(entry) = self.entries.get_mut(ours) {
                entry.holder = Holder::Nobody;
            }
            return false;
        }
        let Some((name, entry)) = self.entries.remove_entry(ours) else { return false };
        if self.struck.len() >= MAX_RECORDS {
            self.struck.pop_front();
        }
        self.struck.push_back((name, entry.previous));
        true
    }

    /// A living plane has found this sink, and puts it back when it ends.
    fn is_to_come_back(&self, ours: &str) -> bool {
        let finders = self.entries.values().filter(|entry| entry.found.as_deref() == Some(ours));
        finders.into_iter().any(|entry| matches!(entry.holder, Holder::Maker(_)))
    }

    /// A plane's process is no more. With `stopped`, its exit status says that it left nothing changed. True if a
    /// record was struck.
    pub fn exited(&mut self, plane: PlaneId, stopped: bool) -> bool {
        self.rates.remove(&plane);
        let made = self.entries.iter().filter(|(_, entry)| stopped && entry.holder == Holder::Maker(plane));
        let made: Vec<_> = made.map(|(ours, _)| ours.clone()).collect();
        self.release(plane);
        made.iter().filter(|ours| self.strike(ours)).count() > 0
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
        let orphans: Vec<_> = self.entries.keys().filter(|ours| self.is_free(ours, reserved)).cloned().collect();
        let handed = orphans.into_iter().filter_map(|ours| {
            let entry = self.entries.get_mut(&ours)?;
            entry.holder = Holder::Undoer(plane);
            Some(DefaultSink { ours, previous: entry.previous.clone() })
        });
        handed.collect()
    }

    /// True if [`Self::hand_over`] has something to hand over.
    pub fn has_orphans(&self, reserved: &BTreeSet<SessionId>) -> bool {
        self.entries.keys().any(|ours| self.is_free(ours, reserved))
    }

    /// Nobody undoes it, and it can be undone for good.
    fn is_free(&self, ours: &str, reserved: &BTreeSet<SessionId>) -> bool {
        self.entries.get(ours).is_some_and(|entry| entry.holder == Holder::Nobody)
            && session_of(ours).is_none_or(|session| !reserved.contains(&session))
            && !self.is_to_come_back(ours)
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

/// The session whose sink has this name: "lumen." and its number.
fn session_of(ours: &str) -> Option<SessionId> {
    let session = SessionId(ours.strip_prefix("lumen.")?.parse().ok()?);
    (format!("lumen.{session}") == ours).then_some(session)
}

/// What was the default before comes from PipeWire through a plane.
fn is_possible(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ours: &str, previous: Option<&str>) -> DefaultSink {
        DefaultSink { ours: ours.into(), previous: previous.map(Into::into) }
    }

    const A: PlaneId = PlaneId(1);
    const B: PlaneId = PlaneId(2);
    const C: PlaneId = PlaneId(3);
    const ONE: SessionId = SessionId(1);
    const TWO: SessionId = SessionId(2);

    #[test]
    fn a_dead_planes_record_passes_from_hand_to_hand_until_it_is_undone() {
        let mut ledger = Ledger::new([]);
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
        let mut ledger = Ledger::new([record("lumen.9", None)]);
        ledger.record(A, ONE, record("lumen.1", None), 0).unwrap();
        assert!(ledger.exited(A, true));
        assert_eq!(ledger.records(), [record("lumen.9", None)], "another's stays");
    }

    #[test]
    fn an_heir_of_the_same_name_keeps_what_was_before_them_both() {
        let mut ledger = Ledger::new([record("lumen.1", Some("speakers"))]);
        assert_eq!(ledger.record(B, ONE, record("lumen.1", Some("lumen.1")), 0), Ok(Some("speakers".into())));
        assert_eq!(ledger.records(), [record("lumen.1", Some("speakers"))]);
    }

    #[test]
    fn what_no_honest_plane_records_is_a_reason_to_end_it() {
        let mut ledger = Ledger::new([record("speakers", None)]);
        assert!(ledger.records().is_empty(), "not on disk either");
        for ours in ["speakers", "lumen.", "lumen.01", "lumen.2"] {
            assert!(ledger.record(A, ONE, record(ours, None), 0).is_err(), "{ours}");
        }
        let flood = (0..100).map(|_| ledger.record(A, ONE, record("lumen.1", None), 0));
        assert_eq!(flood.filter(Result::is_ok).count(), BURST as usize);
        ledger.record(B, TWO, record("lumen.2", None), 0).expect("the flood is not B's");
    }

    #[test]
    fn a_default_of_an_impossible_name_is_no_planes_fault() {
        let long = "x".repeat(MAX_NAME + 1);
        for previous in [long.as_str(), "", "a\nb"] {
            let mut ledger = Ledger::new([record("lumen.9", Some(previous))]);
            ledger.record(A, ONE, record("lumen.1", Some(previous)), 0).unwrap();
            assert_eq!(ledger.records(), [record("lumen.1", None), record("lumen.9", None)], "{previous:?}");
        }
    }

    /// Two sessions with sinks of their own: the second has found the first's.
    fn two() -> Ledger {
        let mut ledger = Ledger::new([]);
        ledger.record(A, ONE, record("lumen.1", Some("speakers")), 0).unwrap();
        let found = ledger.record(B, TWO, record("lumen.2", Some("lumen.1")), 0);
        assert_eq!(found, Ok(Some("lumen.1".into())), "if the first session is still there then, it is heard again");
        assert_eq!(ledger.records(), [record("lumen.1", Some("speakers")), record("lumen.2", Some("speakers"))]);
        ledger
    }

    #[test]
    fn what_the_first_session_found_is_not_forgotten_while_the_second_may_put_the_firsts_sink_back() {
        let mut ledger = two();
        assert!(!ledger.undone(A, "lumen.1"), "the default is not A's any more, but will be");
        assert!(!ledger.exited(A, true) && ledger.records().len() == 2);
        assert!(!ledger.has_orphans(&[].into()), "B would change it again");
        assert!(ledger.exited(B, true));
        assert_eq!(ledger.hand_over(C, &[].into()), [record("lumen.1", Some("speakers"))]);
        assert!(ledger.undone(C, "lumen.1") && ledger.records().is_empty());
    }

    #[test]
    fn sessions_that_end_the_other_way_round_leave_nothing() {
        let mut ledger = two();
        assert!(ledger.undone(B, "lumen.2") && ledger.exited(A, true) && ledger.records().is_empty());
    }

    #[test]
    fn of_killed_planes_nobody_puts_a_sessions_sink_back() {
        let mut ledger = two();
        ledger.exited(B, false);
        ledger.exited(A, false);
        let both = [record("lumen.1", Some("speakers")), record("lumen.2", Some("speakers"))];
        assert_eq!(ledger.hand_over(C, &[].into()), both);
    }

    #[test]
    fn planes_that_take_turns_lose_nothing() {
        let mut ledger = two();
        ledger.exited(A, false);
        // The first session's heir has found what the second made, which has found what the first made.
        ledger.record(C, ONE, record("lumen.1", Some("lumen.2")), 0).unwrap();
        assert!(!ledger.undone(B, "lumen.2"), "C puts it back");
        assert!(ledger.exited(C, true));
        assert_eq!(ledger.hand_over(A, &[].into()), [record("lumen.2", Some("speakers"))]);
    }

    #[test]
    fn a_sink_that_was_found_just_before_it_went_is_remembered() {
        let mut ledger = Ledger::new([]);
        ledger.record(A, ONE, record("lumen.1", Some("speakers")), 0).unwrap();
        assert!(ledger.exited(A, true));
        ledger.record(B, TWO, record("lumen.2", Some("lumen.1")), 0).unwrap();
        ledger.exited(B, true);
        assert_eq!(ledger.records(), [record("lumen.1", Some("speakers"))], "B has put it back");
        let unknown = record("lumen.2", Some("lumen.7"));
        ledger.record(C, TWO, unknown, 0).unwrap();
        assert_eq!(ledger.records()[1], record("lumen.2", None), "nobody knows what was before");
    }

    #[test]
    fn an_older_files_chains_and_circles_are_followed() {
        let chain = [record("lumen.1", Some("speakers")), record("lumen.2", Some("lumen.1"))];
        assert_eq!(Ledger::new(chain).records()[1], record("lumen.2", Some("speakers")));
        let circle = [record("lumen.1", Some("lumen.2")), record("lumen.2", Some("lumen.1"))];
        assert_eq!(Ledger::new(circle).records(), [record("lumen.1", None), record("lumen.2", None)]);
    }

    #[test]
    fn all_records_fit_into_one_message() {
        use ipc::ToAudio;
        use ipc::link::Link;
        let previous = "x".repeat(MAX_NAME);
        let of = |i: usize| record(&format!("lumen.{}", u32::MAX - i as u32), Some(&previous));
        let records: Vec<_> = (0..2 * MAX_RECORDS).map(of).collect();
        let records = Ledger::new(records).records();
        assert_eq!(records.len(), MAX_RECORDS);
        let memory = ipc::shm::sealed_memfd("test", 1).unwrap();
        let (ours, _theirs) = Link::pair().unwrap();
        ours.send(ToAudio::Undo { pipewire: memory, records }).unwrap();
    }
}
