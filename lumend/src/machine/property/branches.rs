//! The branches' part of the world: rings of net's, planes that are wired once, and default sinks that must not stay
//! changed.

use std::collections::{BTreeMap, BTreeSet};

use ipc::{DefaultSink, Generation, PlaneKind, SessionId};
use lumen_core::Permissions;

use super::world::{FRIEND, Sim, World};
use crate::machine::session::Output;
use crate::machine::{Action, Ends, Event, Exit, Machine, PlaneId, Stage, Wiring};

/// Records that planes may ask for before some are ended for it.
const RECORDS: u32 = 24;

type Pictures = BTreeMap<SessionId, (Generation, Wiring, Option<PlaneId>, Option<PlaneId>)>;

#[derive(Default, Debug)]
pub struct Branches {
    /// Sessions that net has been told of.
    pub known: BTreeSet<SessionId>,
    /// The generation that a network plane holds ends of.
    net_holds: BTreeMap<(PlaneId, SessionId, &'static str), Generation>,
    /// The highest generation that anybody was told of.
    highest: BTreeMap<(SessionId, &'static str), Generation>,
    /// What is to be put back, by the sink that was made the default.
    disk: BTreeMap<String, Option<String>>,
    /// What the session manager has been told.
    default: Option<String>,
    /// What living planes have found before their sink was the default, and put back if it still is when they end.
    found: BTreeMap<PlaneId, DefaultSink>,
    /// Sinks that may be the default, and who made them it if that plane lives.
    changed: BTreeMap<String, Option<PlaneId>>,
    /// What a plane was told to put back and has not.
    undoing: BTreeMap<PlaneId, BTreeMap<String, Option<String>>>,
    asked: BTreeMap<PlaneId, DefaultSink>,
    records: u32,
    pub janitors: u32,
}

impl Branches {
    pub fn new(undo: &[DefaultSink]) -> Self {
        let changed = undo.iter().map(|record| (record.ours.clone(), None)).collect();
        let default = undo.last().map_or("speakers", |record| &record.ours).to_owned();
        Self { disk: disk(undo), changed, default: Some(default), ..Self::default() }
    }

    pub fn is_clean(&self) -> bool {
        self.changed.keys().all(|name| self.disk.contains_key(name)) && self.may_be_put_back()
    }

    /// Whatever dies now, the disk tells how to get the speakers back.
    fn may_be_put_back(&self) -> bool {
        let default = self.default.as_deref();
        self.is_put_back() || default.and_then(|name| self.disk.get(name)) == Some(&Some("speakers".into()))
    }

    pub fn is_put_back(&self) -> bool {
        self.default.as_deref() == Some("speakers")
    }

    /// What a plane of this session would record now.
    fn record(&self, ours: String) -> DefaultSink {
        DefaultSink { ours, previous: self.default.clone() }
    }

    /// A plane looks at what is the default when it asks, not when it was wired.
    pub fn as_of_now(&self, event: Event) -> Event {
        match event {
            Event::Record { plane, record } => Event::Record { plane, record: self.record(record.ours) },
            other => other,
        }
    }

    /// `plane` ends its change, by itself.
    fn puts_back(&mut self, plane: PlaneId) {
        if let Some(DefaultSink { ours, previous }) = self.found.remove(&plane)
            && self.default.as_ref() == Some(&ours)
        {
            self.default = previous;
        }
    }

    /// Changes whose makers are dead, and that no living plane makes once more when it ends.
    pub fn orphans(&self) -> usize {
        let found = |name: &String| self.found.values().any(|record| record.previous.as_ref() == Some(name));
        self.changed.iter().filter(|(name, maker)| maker.is_none() && !found(name)).count()
    }

    pub fn pictures(&self, machine: &Machine) -> Pictures {
        let picture = |s: &crate::machine::Session| (s.generation, s.wiring, s.capture.current, s.encode.current);
        machine.sessions().map(|session| (session.id, picture(session))).collect()
    }

    /// What concerns a branch alone is not felt by any picture.
    pub fn compare(&self, before: Pictures, machine: &Machine) {
        let after = self.pictures(machine);
        for (id, picture) in before {
            // A branch that fails for good ends its session.
            assert!(after.get(&id).is_none_or(|now| *now == picture), "a branch has touched the picture of {id:?}");
        }
    }

    pub fn concerns_a_branch_alone(event: &Event, planes: &BTreeMap<PlaneId, Sim>) -> bool {
        let branch = |kind: PlaneKind| matches!(kind, PlaneKind::Audio | PlaneKind::Input);
        match event {
            Event::Exited { exit: Exit::Accuses { .. }, .. } => false,
            Event::Ready(plane)
            | Event::LinkClosed(plane)
            | Event::Broken { plane, .. }
            | Event::Exited { plane, .. }
            | Event::Wired { plane, .. }
            | Event::Failed { plane, .. } => planes.get(plane).is_some_and(|sim| branch(sim.kind)),
            Event::Restart { kind, .. } | Event::BranchBroken { kind, .. } => branch(*kind),
            Event::CannotWireBranch { .. }
            | Event::Record { .. }
            | Event::CannotRecord { .. }
            | Event::Undone { .. }
            | Event::CannotUndo { .. }
            | Event::HandsLost(_)
            | Event::Permissions { .. } => true,
            _ => false,
        }
    }

    /// What the world knows about an event that it is about to tell.
    pub fn note(
        &mut self,
        event: &Event,
        machine: &Machine,
        planes: &mut BTreeMap<PlaneId, Sim>,
        owed: &mut Vec<Event>,
    ) {
        match event {
            Event::Exited { plane, exit } => {
                self.undoing.remove(plane);
                if *exit == Exit::Stopped {
                    self.puts_back(*plane);
                    self.changed.retain(|_, maker| *maker != Some(*plane));
                }
                self.found.remove(plane);
                for maker in self.changed.values_mut().filter(|maker| **maker == Some(*plane)) {
                    *maker = None;
                }
            }
            Event::Record { plane, record } => {
                self.records += 1;
                self.asked.insert(*plane, record.clone());
                if let Some(sim) = planes.get_mut(plane).filter(|_| self.records > RECORDS) {
                    sim.guilty = true;
                }
            }
            Event::Undone { plane, ours } => {
                let told = self.undoing.get_mut(plane).and_then(|names| names.remove(ours));
                if let Some(previous) = &told
                    && self.default.as_ref() == Some(ours)
                {
                    self.default = previous.clone();
                }
                if self.found.get(plane).is_some_and(|record| record.ours == *ours) {
                    self.puts_back(*plane);
                }
                let told = told.is_some();
                if told || self.changed.get(ours) == Some(&Some(*plane)) {
                    self.changed.remove(ours);
                }
                if told && self.undoing[plane].is_empty() {
                    self.may_record(*plane, planes, owed);
                }
            }
            Event::CannotWireBranch { session, kind, generation, .. } => {
                let branch = machine.session(*session).and_then(|session| session.branch(*kind));
                if let Some((plane, branch)) = branch.and_then(|branch| Some((branch.slot.current?, branch))) {
                    match branch.stage {
                        // It goes on without rings.
                        Stage::Moving => {
                            if let Some(sim) = planes.get_mut(&plane) {
                                sim.wired.remove(generation);
                            }
                            let its = |event: &Event| matches!(event, Event::Wired { plane: p, generation: g } if (p, g) == (&plane, generation));
                            owed.retain(|event| !its(event));
                        }
                        _ => self.has_not_heard(plane, planes, owed),
                    }
                }
                self.net_holds.retain(|(_, id, name), _| (id, *name) != (session, kind.name()));
            }
            Event::CannotUndo { plane } => self.has_not_heard(*plane, planes, owed),
            Event::BranchBroken { session, kind: PlaneKind::Encode, generation, .. } => {
                let session = machine.session(*session).filter(|session| session.generation == *generation);
                if let Some(sim) = session.and_then(|s| s.encode.current).and_then(|plane| planes.get_mut(&plane)) {
                    sim.guilty = true;
                }
            }
            Event::BranchBroken { session, kind, generation, .. } => {
                let branch = machine.session(*session).and_then(|session| session.branch(*kind));
                let branch = branch.filter(|branch| branch.generation == *generation && branch.is_with_net());
                if let Some(sim) = branch.and_then(|b| b.slot.current).and_then(|plane| planes.get_mut(&plane)) {
                    sim.guilty = true;
                    self.net_holds.retain(|(_, id, name), _| (id, *name) != (session, kind.name()));
                }
            }
            _ => {}
        }
    }

    /// An order was not carried out: its plane knows nothing of it and answers nothing.
    fn has_not_heard(&mut self, plane: PlaneId, planes: &mut BTreeMap<PlaneId, Sim>, owed: &mut Vec<Event>) {
        self.undoing.remove(&plane);
        if let Some(sim) = planes.get_mut(&plane) {
            sim.wired.clear();
        }
        owed.retain(|event| {
            !matches!(event, Event::Wired { plane: p, .. } | Event::Record { plane: p, .. }
                | Event::Undone { plane: p, .. } if *p == plane)
        });
    }

    /// Once everything is put back, a session's audio plane makes its own sink the default.
    fn may_record(&mut self, plane: PlaneId, planes: &BTreeMap<PlaneId, Sim>, owed: &mut Vec<Event>) {
        if let Some(session) = planes.get(&plane).and_then(|sim| sim.session) {
            let record = self.record(format!("lumen.{session}"));
            owed.push(Event::Record { plane, record });
        }
    }

    pub fn ended(&mut self, session: SessionId) {
        self.net_holds.retain(|(_, id, _), _| *id != session);
    }

    /// An order that concerns a branch.
    pub fn check(world: &mut World, action: &Action) {
        match action {
            Action::WireAudio { ends, layout, packet, undo, .. } => {
                world.guests.sounds(ends.session, *layout, *packet);
                Self::wired(world, *ends, PlaneKind::Audio);
                Self::told_to_undo(world, ends.plane, undo);
                if undo.is_empty() {
                    world.branches.may_record(ends.plane, &world.planes, &mut world.owed);
                }
            }
            Action::WireInput(ends) => {
                Self::wired(world, *ends, PlaneKind::Input);
                let session = world.machine.session(ends.session).unwrap();
                assert_eq!(session.output, Output::Ready, "hands on an output that is not there");
            }
            Action::Rings { ends, kind } => Self::moved(world, *ends, *kind),
            Action::RetireBranch { net, kind, session, generation } => {
                world.hears(*net, PlaneKind::Net);
                let held = world.branches.net_holds.remove(&(*net, *session, kind.name()));
                assert_eq!(held, Some(*generation), "took back what net did not hold");
            }
            Action::PermitInput { plane, .. } => {
                assert!(!world.hears(*plane, PlaneKind::Input).wired.is_empty(), "before it was wired");
            }
            Action::Record { plane, previous, records } => {
                assert!(!world.hears(*plane, PlaneKind::Audio).wired.is_empty(), "before it was wired");
                Self::written(world, records);
                // It goes ahead.
                let DefaultSink { ours, .. } = world.branches.asked.remove(plane).expect("nobody has asked");
                let record = DefaultSink { ours, previous: previous.clone() };
                assert!(world.branches.disk.contains_key(&record.ours), "told to go ahead without a record");
                world.branches.changed.insert(record.ours.clone(), Some(*plane));
                // Who had made the default before sees that it is somebody else's, and leaves it at that.
                let before = world.branches.default.replace(record.ours.clone());
                let mut makers = world.branches.found.iter();
                if let Some((&maker, own)) = makers.find(|(_, own)| Some(&own.ours) == before.as_ref())
                    && maker != *plane
                {
                    world.owed.push(Event::Undone { plane: maker, ours: own.ours.clone() });
                }
                world.branches.found.insert(*plane, record);
                assert!(world.branches.is_clean(), "{:?}", world.branches);
            }
            Action::KeepRecords(records) => Self::written(world, records),
            Action::Undo { plane, records } => {
                let sim = world.hears(*plane, PlaneKind::Audio);
                assert_eq!(sim.session, None, "only a janitor does nothing else");
                assert!(sim.wired.insert(Generation(0)), "its only order came twice");
                assert!(!records.is_empty(), "a janitor without work");
                world.branches.janitors += 1;
                Self::told_to_undo(world, *plane, records);
            }
            other => panic!("{other:?} is no order to a branch"),
        }
    }

    pub fn net_has(&self, net: PlaneId, session: SessionId, kind: PlaneKind, generation: Generation) {
        assert_eq!(self.net_holds.get(&(net, session, kind.name())), Some(&generation));
    }

    /// An order for a session that is there, to two planes that are its own.
    fn both_hear(world: &mut World, ends: Ends, kind: PlaneKind) -> &mut Sim {
        let Ends { net, plane, session, .. } = ends;
        assert!(world.machine.session(session).is_some(), "an order for an ended session");
        assert!(world.branches.known.contains(&session), "net has not heard of the session");
        world.hears(net, PlaneKind::Net);
        let sim = world.hears(plane, kind);
        assert_eq!(sim.session, Some(session));
        sim
    }

    /// A plane that has been wired gets new rings.
    fn moved(world: &mut World, ends: Ends, kind: PlaneKind) {
        let Ends { plane, generation, .. } = ends;
        let sim = Self::both_hear(world, ends, kind);
        assert!(sim.wired.last().is_some_and(|&before| before < generation), "it has never been wired");
        sim.wired.insert(generation);
        world.branches.held_by(ends, kind);
        world.owed.push(Event::Wired { plane, generation });
    }

    /// Net is handed the ends of a generation, once it has nothing left of the one before.
    fn held_by(&mut self, ends: Ends, kind: PlaneKind) {
        let Ends { net, session, generation, .. } = ends;
        let before = self.highest.insert((session, kind.name()), generation);
        assert!(before < Some(generation), "{generation:?} after {before:?}");
        let held = self.net_holds.insert((net, session, kind.name()), generation);
        assert_eq!(held, None, "net still holds ends of an earlier generation");
    }

    fn wired(world: &mut World, ends: Ends, kind: PlaneKind) {
        let Ends { plane, session, generation, .. } = ends;
        let sim = Self::both_hear(world, ends, kind);
        assert!(sim.wired.is_empty(), "a plane is wired once in its life");
        sim.wired.insert(generation);
        let same = world.planes.values().filter(|sim| sim.kind == kind && sim.session == Some(session)).count();
        assert_eq!(same, 1, "the plane before has not exited yet");
        world.branches.held_by(ends, kind);
        world.owed.push(Event::Wired { plane, generation });
    }

    fn told_to_undo(world: &mut World, plane: PlaneId, records: &[DefaultSink]) {
        for record in records {
            assert!(world.branches.disk.contains_key(&record.ours), "to be undone, but on no disk");
            let twice = world.branches.undoing.values().any(|names| names.contains_key(&record.ours));
            assert!(!twice, "two planes undo the same");
            world.branches.undoing.entry(plane).or_default().insert(record.ours.clone(), record.previous.clone());
            world.owed.push(Event::Undone { plane, ours: record.ours.clone() });
        }
    }

    fn written(world: &mut World, records: &[DefaultSink]) {
        world.branches.disk = disk(records);
        assert!(world.branches.is_clean(), "on disk is {records:?}: {:?}", world.branches);
    }

    /// True for a janitor that has left its work undone.
    pub fn dawdles(&self, plane: PlaneId, sim: &Sim) -> bool {
        sim.session.is_none() && self.undoing.get(&plane).is_some_and(|names| !names.is_empty())
    }

    /// Things that go wrong with branches alone.
    pub fn play(world: &mut World, op: u8, pick: u16) {
        let is_branch = |sim: &Sim| matches!(sim.kind, PlaneKind::Audio | PlaneKind::Input);
        let heard = |sim: &Sim| is_branch(sim) && sim.greeted && !sim.deaf;
        let planes = || world.planes.iter().filter(|(_, sim)| is_branch(sim)).map(|(id, _)| *id);
        let plane = World::pick(planes(), pick);
        let audio = World::pick(planes().filter(|id| world.planes[id].kind == PlaneKind::Audio), pick);
        let all = || world.machine.sessions().flat_map(|s| s.audio.iter().chain(&s.input).map(move |b| (s.id, b)));
        let of = |(session, branch): (SessionId, &crate::machine::Branch)| {
            (session, branch.demand.kind(), branch.generation, branch.slot.current)
        };
        let branch = World::pick(all().map(of), pick);
        let wiring = World::pick(
            all().filter(|(_, branch)| matches!(branch.stage, Stage::Wiring | Stage::Moving)).map(of),
            pick,
        );
        match op {
            0 | 1 => {
                // One that has recorded has heard.
                let deaf = |plane: &Option<PlaneId>| plane.is_none_or(|p| !world.branches.found.contains_key(&p));
                if let Some((session, kind, generation, _)) = wiring.filter(|(.., plane)| deaf(plane)) {
                    world.feed(Event::CannotWireBranch { session, kind, generation, reason: "no socket".into() });
                }
            }
            2 => {
                if let (Some((session, kind, generation, _)), Some(plane)) = (branch, world.net()) {
                    let generation = if pick.is_multiple_of(3) { Generation(u32::from(pick % 7)) } else { generation };
                    world.feed(Event::BranchBroken { plane, session, kind, generation, reason: "rubbish".into() });
                }
            }
            3 => {
                if let Some(plane) = audio.filter(|plane| !world.planes[plane].deaf) {
                    world.planes.get_mut(&plane).unwrap().guilty = true;
                    let ours = ["lumen.1", "lumen.2", "lumen.77", "speakers"][usize::from(pick % 4)];
                    let record = world.branches.record(ours.into());
                    world.feed(Event::Record { plane, record });
                }
            }
            4 => {
                if let Some(plane) = audio {
                    world.feed(Event::CannotRecord { plane, reason: "the disk is full".into() });
                }
            }
            5 => {
                let ours = World::pick(world.branches.disk.keys().cloned(), pick);
                if let (Some(plane), Some(ours)) = (audio, ours) {
                    world.feed(Event::Undone { plane, ours });
                }
            }
            6 => {
                let janitor = world.machine.janitor().current;
                if let Some(plane) = janitor.filter(|plane| !world.planes[plane].wired.is_empty()) {
                    world.feed(Event::CannotUndo { plane });
                }
            }
            7 => {
                let permissions = Permissions::from_bits((pick % 8) as u8).unwrap();
                world.feed(Event::Permissions { client: FRIEND, permissions });
            }
            8 => {
                if let Some((session, ..)) = branch.filter(|_| pick.is_multiple_of(4)) {
                    world.feed(Event::HandsLost(session));
                } else if let Some((session, kind, ..)) = branch {
                    world.feed(Event::Restart { kind, session: Some(session) });
                }
            }
            9 | 10 => {
                if let Some(plane) = plane {
                    let exit =
                        [Exit::Crashed("signal 9".into()), Exit::Reopen, Exit::Stopped][pick as usize % 3].clone();
                    world.feed(Event::Exited { plane, exit });
                }
            }
            _ => {
                let able = |plane: &PlaneId| world.planes.get(plane).is_some_and(heard);
                if let Some((_, _, generation, Some(plane))) = wiring
                    && able(&plane)
                {
                    world.feed(Event::Failed { plane, generation, reason: "the compositor refuses".into() });
                }
            }
        }
    }
}

fn disk(records: &[DefaultSink]) -> BTreeMap<String, Option<String>> {
    records.iter().map(|record| (record.ours.clone(), record.previous.clone())).collect()
}
