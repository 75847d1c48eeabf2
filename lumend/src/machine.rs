//! lumend's brain: what happened goes in with the time, orders come out. It has no clock, no socket and no process,
//! so that a test can crash anything at any moment, in any order, thousands of times a second.
//!
//! Time is nanoseconds of CLOCK_MONOTONIC, which never run backwards.

mod accused;
mod branch;
mod event;
mod failures;
mod fate;
mod intake;
mod janitor;
mod ledger;
mod orphan;
mod policy;
mod process;
#[cfg(test)]
mod property;
mod runs;
mod session;
mod settle;
mod standby;

use std::collections::{BTreeMap, BTreeSet};

use ipc::{AppId, DefaultSink, EndCode, Face, Fingerprint, PlaneKind, RunId, SessionId};

use accused::Suspicion;
pub use branch::{Branch, Demand, Stage};
pub use event::{Action, Attempt, Ends, Event, Exit, PlaneId, Standing};
pub use failures::Failure;
use failures::Failures;
use janitor::Janitor;
use ledger::Ledger;
pub use orphan::Mint;
pub use policy::{Crashes, PATIENCE};
use process::Due;
pub use process::{Phase, Process, Slot};
pub use runs::{Run, RunStage};
use session::{Asked, Output, Ready};
pub use session::{Picture, Session, Told, Wiring};

use crate::rate::Rate;

/// What a person has configured.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sessions at a time, the starting ones included.
    pub max_sessions: usize,
    /// For clients that do not ask for a bitrate; 0: by mode.
    pub bitrate_kbps: u32,
    /// Whether sessions may have sound, and hands.
    pub audio: bool,
    pub input: bool,
    /// Whether each session has a second encoder waiting.
    pub standby: bool,
}

pub struct Machine {
    limits: Limits,
    /// What clients may ask for, and where the launcher's list has what is started for it.
    apps: BTreeMap<AppId, Option<u16>>,
    allowed: BTreeMap<Fingerprint, Standing>,
    runs: BTreeMap<RunId, Run>,
    net: Slot,
    janitor: Janitor,
    ledger: Ledger,
    sessions: BTreeMap<SessionId, Session>,
    failures: Failures,
    /// The last word against net.
    suspicion: Option<Suspicion>,
    /// Sessions of which nothing is left but an output, on which their hands are still letting go.
    vacant: BTreeSet<SessionId>,
    /// Every process that has not been reaped, also those that no slot holds any more.
    processes: BTreeMap<PlaneId, Process>,
    /// Of asks.
    rate: Rate,
    /// Of clients that come back.
    returns: Rate,
    mint: Mint,
    desktop: Result<(), String>,
    stopping: bool,
    finished: bool,
    last_plane: u32,
    last_session: u32,
    last_attempt: u32,
    last_run: u32,
    out: Vec<Action>,
}

impl Machine {
    /// A machine whose desktop is not up yet. Of each app in `apps` the index in the launcher's list, if there is
    /// anything to start for it; `undo` is what an earlier lumend's audio planes have left changed.
    pub fn new(
        limits: Limits,
        apps: impl IntoIterator<Item = (AppId, Option<u16>)>,
        allowed: impl IntoIterator<Item = (Fingerprint, Standing)>,
        undo: impl IntoIterator<Item = DefaultSink>,
        mint: Mint,
        now: u64,
    ) -> Self {
        Self {
            limits,
            apps: apps.into_iter().collect(),
            runs: BTreeMap::new(),
            allowed: allowed.into_iter().collect(),
            net: Slot::new(PlaneKind::Net),
            janitor: Janitor::new(),
            ledger: Ledger::new(undo),
            sessions: BTreeMap::new(),
            failures: Failures::default(),
            suspicion: None,
            vacant: BTreeSet::new(),
            processes: BTreeMap::new(),
            rate: Rate::new(now, policy::ASK_BURST, policy::ASKS_PER_SECOND),
            returns: orphan::returns(now),
            mint,
            desktop: Err("the desktop is still starting".into()),
            stopping: false,
            finished: false,
            last_plane: 0,
            last_session: 0,
            last_attempt: 0,
            last_run: 0,
            out: Vec::new(),
        }
    }

    /// What follows from `event`. Orders are to be carried out in their sequence.
    pub fn step(&mut self, now: u64, event: Event) -> Vec<Action> {
        match event {
            Event::Begin | Event::Restart { .. } if self.stopping => {}
            Event::Begin => self.net.retry_at = Some(now),
            Event::Ready(plane) => self.greeted(plane, now),
            Event::Pong { plane, token } => {
                if let Some(process) = self.processes.get_mut(&plane) {
                    process.pong(token);
                }
            }
            Event::LinkClosed(plane) => {
                if let Some(process) = self.processes.get_mut(&plane) {
                    process.closed_itself(now);
                }
            }
            Event::Broken { plane, reason } => self.kill(plane, reason, now),
            Event::Exited { plane, exit } => {
                if let Some(process) = self.processes.remove(&plane) {
                    if self.ledger.exited(plane, exit == Exit::Stopped) {
                        self.out.push(Action::KeepRecords(self.ledger.records()));
                    }
                    self.lost(plane, &process, &exit, now);
                }
            }
            Event::Ask { plane, ask, peer, client, wish } if self.is_net(plane) => {
                self.asked(plane, Asked { face: wish.face, client, peer, ask }, &wish, now);
            }
            Event::Withdrawn { plane, ask } if self.is_net(plane) => {
                self.withdrawn(ask, now);
            }
            Event::Tune { plane, session, tuning } if self.is_net(plane) => self.tuned(plane, session, tuning, now),
            Event::Quit { plane, client } if self.is_net(plane) => self.quit(plane, client, now),
            Event::AppEnded { run, reason } => self.app_ended(run, &reason, now),
            Event::Started { plane, session, ask } if self.is_net(plane) => self.started(session, ask),
            Event::Gone { plane, session, ask, .. } if self.is_net(plane) => self.gone(session, ask, now),
            Event::Opened { plane, generation, format } => self.opened(plane, generation, format, now),
            Event::Wired { plane, generation } => self.wired(plane, generation, now),
            Event::Failed { plane, generation, reason } => self.failed(plane, generation, reason, now),
            Event::OutputReady { session, attempt, mode } => {
                if let Some(session) = self.sessions.get_mut(&session)
                    && session.output == Output::Acquiring(attempt)
                {
                    session.output = Output::Ready;
                    session.source = None;
                    session.mode = mode;
                    // Its hands need not wait any longer for a compositor to connect to.
                    if let Some(input) = &mut session.input {
                        input.wire_at = None;
                    }
                }
            }
            Event::OutputFailed { session, attempt, reason } => {
                if self.sessions.get(&session).is_some_and(|s| s.output == Output::Acquiring(attempt)) {
                    self.fail(session, None, reason, now);
                }
            }
            Event::OutputLost { session, reason } => self.output_lost(session, &reason, now),
            Event::CannotOpen { session, generation, reason } => {
                if let Some(session) = self.sessions.get_mut(&session) {
                    session.cannot_open(generation, reason, now + policy::OPEN_AGAIN);
                }
            }
            Event::CannotWire { session, reason } => self.fail(session, None, reason, now),
            Event::CannotWireBranch { session, kind, generation, reason } => {
                self.cannot_wire_branch(session, kind, generation, reason, now);
            }
            Event::BranchBroken { plane, session, kind, generation, reason } if self.is_net(plane) => {
                self.branch_broken(session, kind, generation, reason, now);
            }
            Event::Record { plane, record } => self.record(plane, record, now),
            Event::CannotRecord { plane, reason } => self.cannot_record(plane, reason, now),
            Event::Undone { plane, ours } => self.undone(plane, &ours),
            Event::CannotUndo { plane } => self.cannot_undo(plane, now),
            Event::HandsLost(session) => self.hands_lost(session, "its seat is gone", now),
            Event::Permissions { client, permissions } => self.permissions(client, permissions),
            Event::DesktopUp => self.desktop = Ok(()),
            Event::DesktopDown { reason } => self.desktop_down(reason, now),
            Event::Permit { client, standing } => self.permit(client, standing, now),
            Event::Stop(session) => self.end(session, EndCode::Stopped, "stopped by the host's user".into(), now),
            Event::StopRun(run) => self.end_run(run, now),
            Event::Restart { kind, session } => self.restart(kind, session, now),
            Event::Idr(session) => {
                if let Some(s) = self.sessions.get(&session)
                    && matches!(s.wiring, Wiring::Ends | Wiring::Whole)
                    && let Some(plane) = self.ready(session).encode
                {
                    self.out.push(Action::Idr(plane));
                }
            }
            Event::Shutdown => self.shutdown(now),
            // Late words of a network plane that has been replaced.
            Event::Ask { .. }
            | Event::Withdrawn { .. }
            | Event::Tune { .. }
            | Event::Quit { .. }
            | Event::Started { .. }
            | Event::Gone { .. }
            | Event::BranchBroken { .. } => {}
            Event::Tick => self.tick(now),
        }
        self.settle(now);
        std::mem::take(&mut self.out)
    }

    /// When [`Event::Tick`] is due.
    pub fn deadline(&self) -> Option<u64> {
        let processes = self.processes.values().filter_map(Process::deadline);
        let due = |slot: &&Slot| slot.current.is_none() && (slot.kind != PlaneKind::Net || !self.net_is_leaving());
        let slots = self.slots().filter(due).filter_map(|slot| slot.retry_at);
        let sessions =
            self.sessions.values().flat_map(|s| [s.patience, s.open_at, s.standby_at(), s.back.deadline()]).flatten();
        let branches = self.sessions.values().flat_map(|s| s.audio.iter().chain(&s.input)).filter_map(|b| b.wire_at);
        let others = [self.janitor_deadline(), self.runs_deadline()].into_iter().flatten();
        processes.chain(slots).chain(sessions).chain(branches).chain(others).min()
    }

    pub fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.sessions.values()
    }

    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    /// Those of the last sessions that could not go on.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter()
    }

    pub fn net(&self) -> &Slot {
        &self.net
    }

    /// The slot of the audio plane that serves no session.
    pub fn janitor(&self) -> &Slot {
        &self.janitor.slot
    }

    pub fn process(&self, id: PlaneId) -> Option<&Process> {
        self.processes.get(&id)
    }

    fn slots(&self) -> impl Iterator<Item = &Slot> {
        std::iter::once(&self.net).chain(self.sessions.values().flat_map(Session::slots))
    }

    /// A network plane was told to stop, and still says goodbye: it reads the sockets that its heir is to have, and what
    /// came on the heir's connections it would take for strangers', as the heir would what came on its own.
    fn net_is_leaving(&self) -> bool {
        let leaves =
            |process: &Process| process.kind == PlaneKind::Net && matches!(process.phase, Phase::Closing { .. });
        self.processes.values().any(leaves)
    }

    fn is_ready(&self, plane: PlaneId) -> bool {
        self.processes.get(&plane).is_some_and(Process::is_ready)
    }

    fn is_net(&self, plane: PlaneId) -> bool {
        self.net.current == Some(plane) && self.is_ready(plane)
    }

    fn ready_net(&self) -> Option<PlaneId> {
        self.net.current.filter(|&plane| self.is_ready(plane))
    }

    fn ready(&self, session: SessionId) -> Ready {
        let Some(s) = self.sessions.get(&session) else { return Ready::default() };
        let ready = |slot: &Slot| slot.current.filter(|&plane| self.is_ready(plane));
        Ready { net: self.ready_net(), capture: ready(&s.capture), encode: ready(&s.encode) }
    }

    /// The session in whose slot `plane` sits now and may speak.
    fn session_of(&self, plane: PlaneId, kind: PlaneKind) -> Option<SessionId> {
        let id = self.processes.get(&plane).filter(|p| p.is_ready() && p.kind == kind)?.session?;
        let holds = self.sessions.get(&id)?.slot(kind)?.current == Some(plane);
        holds.then_some(id)
    }

    fn greeted(&mut self, plane: PlaneId, now: u64) {
        let Some(process) = self.processes.get_mut(&plane) else { return };
        if process.is_leaving() {
            return;
        }
        if !process.greet(now) {
            return self.kill(plane, "it said Hello twice".into(), now);
        }
        if self.net.current == Some(plane) {
            self.out.push(Action::Listen(plane));
            for (&client, &Standing { face, .. }) in &self.allowed {
                self.out.push(Action::Permit { plane, face, client, allowed: true });
            }
            self.tell_of_runs(plane);
        }
    }

    fn desktop_down(&mut self, reason: String, now: u64) {
        self.desktop = Err(reason);
        self.vacant.clear();
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            self.without_output(id, now);
        }
    }

    fn output_lost(&mut self, id: SessionId, reason: &str, now: u64) {
        self.vacant.remove(&id);
        self.without_output(id, now);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.obstacle = format!("no desktop to show: {reason}");
        }
    }

    /// A session's output went with its desktop: there is nothing to release.
    fn without_output(&mut self, id: SessionId, now: u64) {
        let ready = self.ready(id);
        if let Some(session) = self.sessions.get_mut(&id) {
            session.retire(ready, now, &mut self.out);
            session.output = Output::Wanted;
            session.source = None;
        }
        self.hands_lost(id, "the desktop is gone", now);
    }

    /// The clients' sessions in one protocol.
    fn sessions_of(&self, client: Fingerprint, face: Face) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.values().filter(move |s| s.client == client && s.face == face).map(|s| s.id)
    }

    /// Net is told even of what was so before: a client that has paired once more waits for it.
    fn permit(&mut self, client: Fingerprint, standing: Option<Standing>, now: u64) {
        let before = match standing {
            Some(standing) => self.allowed.insert(client, standing),
            None => self.allowed.remove(&client),
        };
        let face = |standing: Standing| standing.face;
        let gone = before.map(face).filter(|&face| standing.is_none_or(|standing| standing.face != face));
        if let Some(face) = gone {
            let ids: Vec<_> = self.sessions_of(client, face).collect();
            for id in ids {
                self.end(id, EndCode::NotAllowed, "this client is no longer allowed".into(), now);
            }
            self.stop_runs_of(client, now);
        }
        if let Some(plane) = self.ready_net() {
            let gone = gone.map(|face| (face, false));
            let stands = standing.map(|standing| (standing.face, true));
            let said = gone.into_iter().chain(stands);
            self.out.extend(said.map(|(face, allowed)| Action::Permit { plane, face, client, allowed }));
        }
        if let Some(Standing { face, view: false, .. }) = standing {
            let ids: Vec<_> = self.sessions_of(client, face).collect();
            for id in ids {
                self.end(id, EndCode::NotAllowed, "this client may no longer see the desktop".into(), now);
            }
        }
    }

    fn tick(&mut self, now: u64) {
        let planes: Vec<_> = self.processes.keys().copied().collect();
        for plane in planes {
            match self.processes.get_mut(&plane).and_then(|p| p.tick(now)) {
                Some(Due::Ping(token)) => self.out.push(Action::Ping { plane, token }),
                Some(Due::Kill(reason)) => self.kill_late(plane, reason.into(), now),
                None => {}
            }
        }
        self.tick_janitor(now);
        self.tick_runs(now);
        self.tick_returns(now);
        let overdue: Vec<_> =
            self.sessions.values().filter(|s| s.patience.is_some_and(|at| now >= at)).map(|s| s.id).collect();
        for id in overdue {
            if self.sessions.get(&id).is_some_and(|session| session.back.is_waiting()) {
                match self.net.last_exit.clone().filter(|_| self.net.failed) {
                    Some(exit) => {
                        let reason =
                            format!("its client had nothing to come back to: the network plane failed; last: {exit}");
                        self.fail(id, Some(PlaneKind::Net), reason, now);
                    }
                    None => self.end(id, EndCode::Stopped, "its client did not come back".into(), now),
                }
                continue;
            }
            let obstacle = match (&self.desktop, self.sessions.get(&id)) {
                (Err(reason), _) => format!("no desktop to show: {reason}"),
                (Ok(()), Some(Session { picture: None, ask: None, .. })) => {
                    "its client did not go on after its launch".into()
                }
                (Ok(()), Some(session)) if !session.obstacle.is_empty() => session.obstacle.clone(),
                (Ok(()), Some(Session { output: Output::Acquiring(_), .. })) => {
                    "the desktop did not come up in time".into()
                }
                _ => "the desktop's picture did not come".into(),
            };
            self.fail(id, None, obstacle, now);
        }
    }
}
