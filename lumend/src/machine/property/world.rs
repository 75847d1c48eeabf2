//! A world of planes, clients and desktops for the machine, in which anything may go wrong, and which checks every
//! order against what it knows.

use std::collections::{BTreeMap, BTreeSet};

use ipc::{
    AppId, AskId, DefaultSink, Face, Fingerprint, FrameFormat, Generation, PixelFormat, PlaneKind, SessionId, Wish,
};
use lumen_core::{AudioLayout, RawMode, ResumeToken};

use super::branches::Branches;
use super::guests::{APPS, GUESTS, Guests};
use super::returns::{self, Returns, mint};
use crate::machine::policy::SECOND;
use crate::machine::{Action, Event, Exit, Limits, Machine, PlaneId, Standing};

pub const FRIEND: Fingerprint = Fingerprint([1; 32]);
/// Another native client that is allowed.
pub const OTHER: Fingerprint = Fingerprint([6; 32]);
pub const STRANGER: Fingerprint = Fingerprint([2; 32]);
pub const NATIVE: Standing = Standing { face: Face::Lumen, view: true, launch: true };
pub const MAX_SESSIONS: usize = 3;

/// A process as the world runs it.
#[derive(Debug)]
pub struct Sim {
    pub kind: PlaneKind,
    pub session: Option<SessionId>,
    pub greeted: bool,
    /// Its link is closed, by either side, or it was killed.
    pub deaf: bool,
    pub killed: bool,
    /// It has earned a SIGKILL.
    pub guilty: bool,
    told: BTreeSet<Generation>,
    /// Of a capture: which of the session's outputs it looks at.
    opened_on: u32,
    pub wired: BTreeSet<Generation>,
    /// What it was told of and has not been told to give back.
    holds: BTreeMap<SessionId, Generation>,
}

#[derive(Default, Debug)]
pub struct SessionView {
    /// Highest generation anyone was told to retire.
    retired: u32,
    pub output_held: bool,
    encode_told: Option<Generation>,
    /// Outputs it has had.
    outputs: u32,
}

pub struct World {
    pub machine: Machine,
    pub now: u64,
    pub planes: BTreeMap<PlaneId, Sim>,
    pub sessions: BTreeMap<SessionId, SessionView>,
    /// What the world owes the machine.
    pub owed: Vec<Event>,
    pub open_asks: BTreeSet<AskId>,
    next_ask: u32,
    standby: bool,
    pub finished: bool,
    pub whole_reached: u32,
    pub branches: Branches,
    pub guests: Guests,
    pub returns: Returns,
}

pub fn format() -> FrameFormat {
    FrameFormat { pixels: PixelFormat::Bgrx, width: 1280, height: 720, stride: 5120 }
}

impl World {
    pub fn new() -> Self {
        Self::after([])
    }

    /// A world in which an earlier lumend has left something to be undone.
    pub fn after(undo: impl IntoIterator<Item = DefaultSink>) -> Self {
        Self::with_standby(undo, false)
    }

    /// The same, in which each session may have a second encoder.
    pub fn with_standby(undo: impl IntoIterator<Item = DefaultSink>, standby: bool) -> Self {
        let limits = Limits { max_sessions: MAX_SESSIONS, bitrate_kbps: 0, audio: true, input: true, standby };
        let undo: Vec<_> = undo.into_iter().collect();
        let mut world = Self {
            branches: Branches::new(&undo),
            machine: {
                let natives = [(FRIEND, NATIVE), (OTHER, NATIVE)];
                Machine::new(limits, APPS, natives.into_iter().chain(GUESTS), undo.clone(), mint(standby), 0)
            },
            returns: Returns::default(),
            guests: Guests::default(),
            now: 0,
            planes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            owed: Vec::new(),
            open_asks: BTreeSet::new(),
            next_ask: 0,
            standby,
            finished: false,
            whole_reached: 0,
        };
        world.feed(Event::Begin);
        world.feed(Event::DesktopUp);
        world
    }

    pub fn feed(&mut self, event: Event) {
        let before = self.branches.pictures(&self.machine);
        let apart = Branches::concerns_a_branch_alone(&event, &self.planes);
        self.note(&event);
        let actions = self.machine.step(self.now, event.clone());
        if apart {
            self.branches.compare(before, &self.machine);
        }
        let mut pongs = Vec::new();
        for (i, action) in actions.iter().enumerate() {
            self.check(action, &actions[i + 1..]);
            if let Action::Ping { plane, token } = action {
                pongs.push(Event::Pong { plane: *plane, token: *token });
            }
        }
        for pong in pongs {
            assert!(self.machine.step(self.now, pong).is_empty());
        }
        Guests::after(self, &event, &actions);
        Returns::after(self, &event);
        assert!(self.machine.sessions().count() <= MAX_SESSIONS);
        if let Some(deadline) = self.machine.deadline() {
            assert!(deadline > self.now, "the daemon's loop would spin");
        }
    }

    /// What the world knows about an event that it is about to tell.
    fn note(&mut self, event: &Event) {
        self.branches.note(event, &self.machine, &mut self.planes, &mut self.owed);
        Guests::note(self, event);
        self.returns.note(event, &self.machine);
        match event {
            Event::Ready(plane) => {
                if let Some(sim) = self.planes.get_mut(plane) {
                    sim.greeted = !sim.deaf;
                }
            }
            Event::LinkClosed(plane) => {
                if let Some(sim) = self.planes.get_mut(plane) {
                    if sim.kind == PlaneKind::Net && !sim.deaf {
                        self.open_asks.clear();
                    }
                    (sim.deaf, sim.guilty) = (true, true);
                }
            }
            Event::Broken { plane, .. } | Event::Failed { plane, .. } => {
                if let Some(sim) = self.planes.get_mut(plane) {
                    sim.guilty = true;
                }
            }
            Event::Exited { plane, exit } => {
                let Some(sim) = self.planes.remove(plane) else { return };
                if sim.kind == PlaneKind::Net && !sim.deaf {
                    self.open_asks.clear();
                }
                if let Exit::Accuses { peer, .. } = exit {
                    let ours = |other: &&mut Sim| other.kind == *peer && [None, sim.session].contains(&other.session);
                    self.planes.values_mut().filter(ours).for_each(|peer| peer.guilty = true);
                }
            }
            Event::CannotOpen { session, .. } => {
                // Capture has heard nothing.
                let captures = self.planes.values_mut().filter(|sim| sim.kind == PlaneKind::Capture);
                captures.for_each(|sim| sim.holds.retain(|held, _| held != session));
            }
            Event::Withdrawn { ask, .. } => {
                self.open_asks.remove(ask);
            }
            Event::DesktopDown { .. } => {
                self.sessions.values_mut().for_each(|view| view.output_held = false);
            }
            Event::OutputLost { session, .. } => {
                if let Some(view) = self.sessions.get_mut(session) {
                    view.output_held = false;
                }
            }
            _ => {}
        }
    }

    /// The plane must be able to hear, and be of this kind.
    pub fn hears(&mut self, plane: PlaneId, kind: PlaneKind) -> &mut Sim {
        let sim = self.planes.get_mut(&plane).expect("a message to a process that has exited");
        assert!(sim.greeted && !sim.deaf, "a message to {sim:?}, which cannot hear");
        assert_eq!(sim.kind, kind);
        sim
    }

    /// A plane is handed a generation only once it has nothing left of the one before.
    fn take_hold(&mut self, plane: PlaneId, session: SessionId, generation: Generation) {
        let before = self.planes.get_mut(&plane).and_then(|sim| sim.holds.insert(session, generation));
        assert_eq!(before, None, "handed {generation:?} of {session:?} while it held another");
    }

    fn generation_lives(&self, session: SessionId, generation: Generation) {
        assert!(generation.0 > self.sessions[&session].retired, "{generation:?} of {session:?} was retired");
        assert!(self.machine.session(session).is_some() || self.finished, "an order for an ended session");
    }

    fn check(&mut self, action: &Action, rest: &[Action]) {
        match action {
            Action::Start { plane, kind, session } => {
                let rivals = self.planes.values().filter(|p| p.kind == *kind && p.session == *session && !p.deaf);
                let most = usize::from(self.standby && *kind == PlaneKind::Encode);
                assert!(rivals.count() <= most, "two processes in one slot");
                if let Some(id) = session {
                    self.sessions.entry(*id).or_default();
                }
                let sim = Sim {
                    kind: *kind,
                    session: *session,
                    greeted: false,
                    deaf: false,
                    killed: false,
                    guilty: false,
                    told: BTreeSet::new(),
                    opened_on: 0,
                    wired: BTreeSet::new(),
                    holds: BTreeMap::new(),
                };
                assert!(self.planes.insert(*plane, sim).is_none());
                self.owed.push(Event::Ready(*plane));
            }
            Action::Close(plane) => {
                let sim = self.planes.get_mut(plane).expect("closes what has exited");
                assert!(!sim.deaf, "closed twice");
                sim.deaf = true;
                if sim.kind == PlaneKind::Net {
                    self.open_asks.clear();
                }
                self.owed.push(Event::Exited { plane: *plane, exit: Exit::Stopped });
            }
            Action::Kill { plane, broke, .. } => {
                let sim = self.planes.get_mut(plane).expect("kills what has exited");
                assert!(!sim.killed, "killed twice");
                let guilty = sim.guilty || self.branches.dawdles(*plane, sim);
                assert!(guilty || sim.deaf || !sim.greeted, "killed without a cause");
                assert!(!broke || sim.guilty, "nothing that it did was wrong");
                if sim.kind == PlaneKind::Net && !sim.deaf {
                    self.open_asks.clear();
                }
                (sim.deaf, sim.killed) = (true, true);
                self.owed.push(Event::Exited { plane: *plane, exit: Exit::Crashed("killed".into()) });
            }
            Action::Ping { plane, .. } => {
                let kind = self.planes[plane].kind;
                self.hears(*plane, kind);
            }
            Action::Listen(plane) => {
                self.hears(*plane, PlaneKind::Net);
                self.guests.fresh_net();
                self.returns.fresh_net();
                self.branches.known.clear();
            }
            Action::Permit { plane, .. } => {
                self.hears(*plane, PlaneKind::Net);
            }
            Action::AcquireOutput { session, attempt, mode, .. } => {
                let view = self.sessions.entry(*session).or_default();
                assert!(!view.output_held, "acquired twice");
                view.output_held = true;
                view.outputs += 1;
                self.owed.push(Event::OutputReady { session: *session, attempt: *attempt, mode: *mode });
            }
            Action::ReleaseOutput(session) => {
                let view = self.sessions.get_mut(session).expect("released without a session");
                assert!(view.output_held, "released what was not held");
                view.output_held = false;
                let mut hands = self.planes.values().filter(|sim| sim.kind == PlaneKind::Input);
                assert!(hands.all(|sim| sim.session != Some(*session)), "released under its hands");
            }
            Action::Open { plane, session, generation, .. } => {
                assert!(self.sessions[session].output_held, "opened without an output");
                self.generation_lives(*session, *generation);
                let outputs = self.sessions[session].outputs;
                let sim = self.hears(*plane, PlaneKind::Capture);
                assert_eq!(sim.session, Some(*session));
                assert!(sim.told.iter().all(|g| g < generation), "opened an old generation");
                sim.told.insert(*generation);
                sim.opened_on = outputs;
                self.take_hold(*plane, *session, *generation);
                self.owed.push(Event::Opened { plane: *plane, generation: *generation, format: format() });
            }
            Action::WireNet { plane, session, generation, ask, told, .. } => {
                self.generation_lives(*session, *generation);
                if let Some(ask) = ask {
                    assert!(self.open_asks.remove(ask), "answered twice, or nobody");
                    Returns::welcomed(self, *session, *ask, told.resumed, told.resume.as_ref());
                } else {
                    self.guests.may_be_wired(&self.branches, *session);
                }
                self.branches.known.insert(*session);
                self.hears(*plane, PlaneKind::Net);
                self.take_hold(*plane, *session, *generation);
                let next = rest.first();
                assert!(
                    matches!(next, Some(Action::WireEncode { session: s, generation: g, .. })
                        if s == session && g == generation),
                    "encode comes next, not {next:?}"
                );
            }
            Action::WireEncode { plane, session, generation, .. } => {
                self.generation_lives(*session, *generation);
                let sim = self.hears(*plane, PlaneKind::Encode);
                assert_eq!(sim.session, Some(*session));
                assert!(sim.told.iter().all(|g| g < generation), "wired an old generation");
                sim.told.insert(*generation);
                sim.wired.insert(*generation);
                self.sessions.get_mut(session).unwrap().encode_told = Some(*generation);
                self.take_hold(*plane, *session, *generation);
                self.owed.push(Event::Wired { plane: *plane, generation: *generation });
            }
            Action::WireCapture { plane, session, generation } => {
                self.generation_lives(*session, *generation);
                self.generation_lives(*session, *generation);
                let view = &self.sessions[session];
                assert_eq!(view.encode_told, Some(*generation), "before its consumers");
                let outputs = view.outputs;
                let sim = self.hears(*plane, PlaneKind::Capture);
                assert!(sim.told.iter().any(|opened| opened <= generation), "wired without being opened");
                assert_eq!(sim.opened_on, outputs, "wired to an output that is gone");
                assert!(sim.wired.insert(*generation), "wired twice");
                if sim.holds.get(session) != Some(generation) {
                    self.take_hold(*plane, *session, *generation);
                }
                self.whole_reached += 1;
            }
            Action::Prepare { plane, .. } => {
                let sim = self.hears(*plane, PlaneKind::Encode);
                assert!(sim.wired.is_empty(), "an encoder at work needs no other");
                let session = sim.session.and_then(|id| self.machine.session(id));
                let standby = session.and_then(|session| session.standby.as_ref()).and_then(|slot| slot.current);
                assert_eq!(standby, Some(*plane), "only a standby is prepared");
            }
            Action::Retire { plane, session, generation } => {
                let kind = self.planes[plane].kind;
                let held = self.hears(*plane, kind).holds.remove(session);
                assert_eq!(held, Some(*generation), "took back what it did not hold");
                let view = self.sessions.get_mut(session).unwrap();
                assert!(generation.0 >= view.retired);
                view.retired = generation.0;
            }
            Action::Refuse { plane, ask, .. } => {
                self.hears(*plane, PlaneKind::Net);
                assert!(self.open_asks.remove(ask), "answered twice, or nobody");
            }
            Action::End { plane, session, .. } => {
                self.hears(*plane, PlaneKind::Net).holds.remove(session);
                self.branches.ended(*session);
                assert!(self.machine.session(*session).is_none(), "ended and still there");
            }
            Action::Idr(plane) => assert!(!self.hears(*plane, PlaneKind::Encode).wired.is_empty()),
            Action::Accept { .. } | Action::Running { .. } | Action::StartApp { .. } | Action::StopApp(_) => {
                Guests::check(self, action);
            }
            Action::InputFrom { .. } | Action::LetGo(_) => returns::check(self, action),
            Action::WireAudio { .. }
            | Action::WireInput(_)
            | Action::Rings { .. }
            | Action::RetireBranch { .. }
            | Action::PermitInput { .. }
            | Action::Record { .. }
            | Action::KeepRecords(_)
            | Action::Undo { .. } => Branches::check(self, action),
            Action::Finish => {
                assert!(self.planes.is_empty(), "finished with processes alive");
                assert!(!self.finished, "finished twice");
                self.finished = true;
            }
        }
    }

    pub fn pick<T: Clone>(items: impl Iterator<Item = T>, pick: u16) -> Option<T> {
        let items: Vec<T> = items.collect();
        (!items.is_empty()).then(|| items[pick as usize % items.len()].clone())
    }

    pub fn net(&self) -> Option<PlaneId> {
        self.planes.iter().find(|(_, p)| p.kind == PlaneKind::Net && p.greeted && !p.deaf).map(|(id, _)| *id)
    }

    pub fn ask(&mut self, client: Fingerprint, width: u16) {
        self.ask_for(client, width, Face::Lumen, None);
    }

    pub fn ask_for(&mut self, client: Fingerprint, width: u16, face: Face, app: Option<AppId>) {
        self.ask_in(client, Some(RawMode { width, height: 720, refresh_mhz: 60_000 }), face, app);
    }

    pub fn ask_in(&mut self, client: Fingerprint, mode: Option<RawMode>, face: Face, app: Option<AppId>) {
        self.ask_with(client, mode, face, app, None);
    }

    pub fn ask_with(
        &mut self,
        client: Fingerprint,
        mode: Option<RawMode>,
        face: Face,
        app: Option<AppId>,
        token: Option<ResumeToken>,
    ) {
        let Some(plane) = self.net() else { return };
        self.next_ask += 1;
        let ask = AskId(self.next_ask);
        self.open_asks.insert(ask);
        let wish = Wish {
            face,
            app,
            mode,
            bitrate_kbps: 0,
            audio: self.next_ask.is_multiple_of(8).then_some(AudioLayout::Surround51).or(Some(AudioLayout::Stereo)),
            own_sink: true,
            input: !self.next_ask.is_multiple_of(5),
            resume: token.clone(),
        };
        if let Some(token) = token {
            self.returns.tries(ask, token);
        }
        self.feed(Event::Ask { plane, ask, peer: "127.0.0.1:9".parse().unwrap(), client, wish });
    }

    /// An honest delivery: dead processes say nothing.
    pub fn deliver(&mut self, event: Event) {
        let event = self.branches.as_of_now(event);
        let speaker = match &event {
            Event::Ready(plane)
            | Event::Opened { plane, .. }
            | Event::Wired { plane, .. }
            | Event::Record { plane, .. }
            | Event::Undone { plane, .. }
            | Event::Started { plane, .. }
            | Event::Tune { plane, .. } => Some(*plane),
            Event::Exited { plane, .. } if !self.planes.contains_key(plane) => return,
            _ => None,
        };
        if speaker.is_none_or(|plane| self.planes.get(&plane).is_some_and(|sim| !sim.deaf)) {
            self.feed(event);
        }
    }

    /// Nothing goes wrong any more, for longer than anybody waits for a client.
    pub fn calm(&mut self) {
        let until = self.now + 40 * SECOND;
        self.feed(Event::DesktopUp);
        loop {
            while !self.owed.is_empty() {
                let event = self.owed.remove(0);
                self.deliver(event);
            }
            match self.machine.deadline() {
                Some(at) if at < until => {
                    self.now = self.now.max(at);
                    self.feed(Event::Tick);
                }
                _ => break,
            }
        }
    }
}
