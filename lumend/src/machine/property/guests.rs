//! The part of the world that GameStream clients are: what they run, what net has been told of it, and a tune that comes
//! late, twice, or never.

use std::collections::{BTreeMap, BTreeSet};

use ipc::{AppId, Colour, Face, Fingerprint, Matrix, PlaneKind, RunId, SessionId, Tuning};
use lumen_core::AudioLayout;
use lumen_core::audio::PacketTime;

use super::branches::Branches;
use super::world::World;
use crate::machine::policy::{SECOND, STOP_APP_WITHIN};
use crate::machine::{Action, Event, Machine, RunStage, Standing, Wiring};

pub const GUEST: Fingerprint = Fingerprint([3; 32]);
/// May not start apps.
pub const LOOKER: Fingerprint = Fingerprint([4; 32]);
/// May not even look.
const BLIND: Fingerprint = Fingerprint([5; 32]);

const GUEST_STANDING: Standing = Standing { face: Face::GameStream, view: true, launch: true };
pub const GUESTS: [(Fingerprint, Standing); 3] = [
    (GUEST, GUEST_STANDING),
    (LOOKER, Standing { launch: false, ..GUEST_STANDING }),
    (BLIND, Standing { view: false, ..GUEST_STANDING }),
];

pub const DESKTOP: AppId = app(1);
pub const GAME: AppId = app(2);
const EDITOR: AppId = app(3);
pub const APPS: [(AppId, Option<u16>); 3] = [(DESKTOP, None), (GAME, Some(0)), (EDITOR, Some(1))];

pub const TUNING: Tuning = Tuning {
    bitrate_kbps: 7_000,
    colour: Colour { matrix: Matrix::Bt601, full_range: true },
    frame_bytes: 200_000,
    audio: AudioLayout::Surround71,
    audio_packet: PacketTime::Ten,
};

const fn app(id: u32) -> AppId {
    match AppId::new(id) {
        Some(app) => app,
        None => panic!("no app has this id"),
    }
}

/// A process of the launcher's.
#[derive(Debug)]
struct Started {
    client: Fingerprint,
    told_to_stop: Option<u64>,
}

#[derive(Default, Debug)]
pub struct Guests {
    started: BTreeMap<RunId, Started>,
    ended: BTreeSet<RunId>,
    /// What the present network plane has been told that clients have.
    running: BTreeMap<Fingerprint, AppId>,
    accepted: BTreeSet<SessionId>,
    tuned: BTreeSet<SessionId>,
}

impl Guests {
    pub fn fresh_net(&mut self) {
        self.running.clear();
    }

    pub fn running(&self, client: Fingerprint) -> Option<AppId> {
        self.running.get(&client).copied()
    }

    pub fn processes(&self) -> usize {
        self.started.len()
    }

    /// A wiring that answers no request is of a session that net knows, and of which it knows everything.
    pub fn may_be_wired(&self, branches: &Branches, session: SessionId) {
        let tuned = self.accepted.contains(&session) && self.tuned.contains(&session);
        assert!(tuned || branches.known.contains(&session), "wired before its client has said what it wants");
    }

    /// Sound is what the client has said last.
    pub fn sounds(&self, session: SessionId, layout: AudioLayout, packet: PacketTime) {
        let tuned = self.tuned.contains(&session);
        let expected = if tuned { (TUNING.audio, TUNING.audio_packet) } else { (layout, PacketTime::Five) };
        assert_eq!((layout, packet), expected);
    }

    /// What the world knows about an event that it is about to tell.
    pub fn note(world: &mut World, event: &Event) {
        match event {
            Event::Tune { plane, session, .. } => {
                let guests = &mut world.guests;
                let waits = guests.accepted.contains(session) && !guests.tuned.contains(session);
                if world.machine.session(*session).is_none() {
                    return;
                }
                if waits {
                    guests.tuned.insert(*session);
                } else if let Some(net) = world.planes.get_mut(plane) {
                    net.guilty = true;
                }
            }
            Event::AppEnded { run, .. } => {
                let ended = world.guests.started.remove(run).map(|_| *run);
                world.guests.ended.extend(ended);
            }
            _ => {}
        }
    }

    pub fn check(world: &mut World, action: &Action) {
        match action {
            Action::Accept { plane, ask, session, .. } => {
                world.hears(*plane, PlaneKind::Net);
                assert!(world.open_asks.remove(ask), "answered twice, or nobody");
                let view = world.machine.session(*session).expect("accepted and gone");
                assert!(matches!(view.wiring, Wiring::Opened(_)), "accepted before there is a picture: {view:?}");
                assert!(world.sessions[session].output_held, "accepted without an output");
                let run = view.run.and_then(|run| world.machine.runs().find(|r| r.id == run)).expect("all have apps");
                assert_eq!(world.guests.running(view.client), Some(run.app), "net has to know it first");
                if run.app != DESKTOP {
                    assert!(world.guests.started.contains_key(&run.id), "accepted before its app was started");
                }
                assert!(world.guests.accepted.insert(*session), "accepted twice");
                world.owed.push(Event::Tune { plane: *plane, session: *session, tuning: TUNING });
            }
            Action::Running { plane, client, app } => {
                world.hears(*plane, PlaneKind::Net);
                match app {
                    Some(app) => {
                        let before = world.guests.running.insert(*client, *app);
                        assert_ne!(before, Some(*app), "told twice");
                    }
                    None => drop(world.guests.running.remove(client)),
                }
            }
            Action::StartApp { session, run, .. } => {
                assert!(world.sessions[session].output_held, "nothing to start it on");
                let client = world.machine.session(*session).expect("started for nobody").client;
                let now = world.now;
                let over = |other: &Started| other.told_to_stop.is_some_and(|at| now >= at + STOP_APP_WITHIN);
                let mut others = world.guests.started.values().filter(|other| other.client == client);
                assert!(others.all(over), "what its client had before has not ended");
                assert!(!world.guests.ended.contains(run), "a run's number is used again");
                let before = world.guests.started.insert(*run, Started { client, told_to_stop: None });
                assert!(before.is_none(), "started twice");
            }
            Action::StopApp(run) => {
                let now = world.now;
                let started =
                    world.guests.started.get_mut(run).expect("stopped before it was started, or after its end");
                assert!(started.told_to_stop.replace(now).is_none(), "stopped twice");
                world.owed.push(Event::AppEnded { run: *run, reason: "stopped".into() });
            }
            other => panic!("{other:?} is no order for a guest"),
        }
    }

    /// What holds after an event and all that was ordered for it.
    pub fn after(world: &World, event: &Event, actions: &[Action]) {
        let machine = &world.machine;
        let has = |client| machine.runs().any(|run| run.client == client && !is_stopping(run.stage));
        match event {
            Event::Quit { plane, client } if world.net() == Some(*plane) => {
                let answers = actions
                    .iter()
                    .filter(|action| matches!(action, Action::Running { client: c, app: None, .. } if c == client));
                assert_eq!(answers.count(), 1, "a client that quits is answered");
                assert!(!has(*client) && machine.sessions().all(|s| s.client != *client), "it has quit");
            }
            Event::AppEnded { run, .. } if world.guests.ended.contains(run) => {
                assert!(machine.sessions().all(|s| s.run != Some(*run)), "its app has ended");
            }
            Event::StopRun(run) => {
                let left = machine.runs().find(|r| r.id == *run);
                assert!(left.is_none_or(|run| is_stopping(run.stage)), "stopped, and goes on");
                assert!(machine.sessions().all(|s| s.run != Some(*run)), "what it shows was stopped");
            }
            Event::Permit { client, standing: None } => {
                assert!(!has(*client) && machine.sessions().all(|s| s.client != *client), "it is no client any more");
            }
            _ => {}
        }
        for client in GUESTS.map(|(client, _)| client) {
            let runs = || machine.runs().filter(|run| run.client == client && !is_stopping(run.stage));
            assert!(runs().count() <= 1, "a client has one thing running");
            assert!(client == GUEST || runs().all(|run| run.app == DESKTOP), "started by one who may not");
            assert!(client != BLIND || runs().count() == 0, "one who may not look has something running");
            // Untold is only what has been asked for and not granted.
            let granted = runs().find(|run| {
                let mut sessions = machine.sessions().filter(|s| s.run == Some(run.id));
                sessions.all(|s| s.ask.is_none())
            });
            if world.net().is_some() && granted.is_some() {
                assert_eq!(world.guests.running(client), granted.map(|run| run.app), "net was not told");
            }
            if let Some(app) = world.guests.running(client).filter(|_| world.net().is_some()) {
                assert!(runs().any(|run| run.app == app), "net was not told that {client} has quit");
            }
        }
        for session in machine.sessions().filter(|s| s.face == Face::GameStream && s.picture.is_some()) {
            assert!(world.guests.tuned.contains(&session.id), "nobody has tuned {session:?}");
        }
    }

    /// Everything that goes on has what it needs, and nothing runs that nobody could come back to.
    pub fn are_served(&self, machine: &Machine) {
        for session in machine.sessions().filter(|s| s.face == Face::GameStream) {
            assert!(self.tuned.contains(&session.id) && session.picture.is_some(), "{session:?}");
        }
        for run in machine.runs() {
            assert_eq!(run.stage, RunStage::Running, "{run:?}");
            assert_eq!(self.running(run.client), Some(run.app), "{run:?}");
        }
        for run in self.started.keys() {
            assert!(machine.runs().any(|r| r.id == *run), "{run:?} runs for nobody");
        }
    }

    pub fn play(world: &mut World, op: u8, pick: u16) {
        let client = [GUEST, GUEST, LOOKER, BLIND][usize::from(pick % 4)];
        let app = [GAME, GAME, DESKTOP, EDITOR, app(9)][usize::from(pick / 4 % 5)];
        let session = World::pick(world.machine.sessions().map(|session| session.id), pick);
        let run = World::pick(world.guests.started.keys().copied(), pick);
        match op {
            0..=8 => world.ask_for(client, 1280, Face::GameStream, Some(app)),
            // In the other's protocol.
            9 => world.ask_for(client, 1280, Face::Lumen, None),
            10 | 11 => {
                if let Some(plane) = world.net() {
                    world.feed(Event::Quit { plane, client });
                }
            }
            12 => {
                if let Some(run) = World::pick(world.machine.runs().map(|run| run.id), pick) {
                    world.feed(Event::StopRun(run));
                }
            }
            13 => {
                if let Some(run) = run {
                    world.feed(Event::AppEnded { run, reason: "it has crashed".into() });
                }
            }
            // Of something that was never started, or has ended.
            14 => world.feed(Event::AppEnded { run: RunId(u32::from(pick % 8)), reason: "rubbish".into() }),
            // A client that says no more after its launch.
            15 | 16 => world.owed.retain(|event| !matches!(event, Event::Tune { .. })),
            17 => {
                let owed = world.owed.iter().position(|event| matches!(event, Event::Tune { .. }));
                if let Some(at) = owed {
                    let event = world.owed.remove(at);
                    world.deliver(event);
                } else if let (Some(plane), Some(session)) = (world.net(), session.filter(|_| pick.is_multiple_of(4))) {
                    world.feed(Event::Tune { plane, session, tuning: TUNING });
                }
            }
            18 => {
                let standing = [None, Some(GUEST_STANDING), Some(Standing { view: false, ..GUEST_STANDING })];
                let standing = standing[usize::from(pick / 4 % 3)];
                world.feed(Event::Permit { client: GUEST, standing });
            }
            _ => {
                world.now += u64::from(pick % 20) * SECOND;
                world.feed(Event::Tick);
            }
        }
    }
}

const fn is_stopping(stage: RunStage) -> bool {
    matches!(stage, RunStage::Stopping { .. })
}
