//! Runs: what clients have started. A run outlives its client's session, so that the client can come back to it; it
//! ends when the client quits it, when its app ends, or when the client is turned away.
//!
//! A client has one run at a time. One that is being stopped is its client's no more, but the next app is not started
//! before it has ended and what its preparations changed is undone.

use ipc::{AppId, EndCode, Face, Fingerprint, RunId, SessionId};
use lumen_core::Mode;

use super::Machine;
use super::event::{Action, PlaneId, Standing};
use super::policy::{PATIENCE, STOP_APP_WITHIN};
use super::session::{Output, Session};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RunStage {
    /// To be started as soon as its session has its output.
    Wanted,
    /// Started. What has nothing to start is here at once.
    Running,
    /// Told to stop; taken for ended at `until`.
    Stopping { until: u64 },
}

#[derive(Clone, Debug)]
pub struct Run {
    pub id: RunId,
    pub client: Fingerprint,
    pub app: AppId,
    /// In the launcher's list; none if there is nothing to start, as for the bare desktop.
    index: Option<u16>,
    /// That in which its client has asked to see it, the last time.
    mode: Mode,
    pub stage: RunStage,
    /// Net has been told that the client has it: it outlives its session.
    told: bool,
}

/// What becomes of a request's app.
#[derive(Clone, Copy, Debug)]
pub(super) enum Choice {
    /// It names none.
    Nothing,
    /// The client comes back to what it has.
    Resume(RunId),
    Begin {
        app: AppId,
        index: Option<u16>,
        /// What the client has by now, which is nothing that would have to be stopped.
        instead_of: Option<RunId>,
    },
}

impl Machine {
    /// Everything that runs, is about to, or has been told to stop.
    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.values()
    }

    /// What the client has: nothing that is being stopped.
    pub fn run_of(&self, client: Fingerprint) -> Option<&Run> {
        self.runs.values().find(|run| run.client == client && !matches!(run.stage, RunStage::Stopping { .. }))
    }

    fn sessions_with(&self, run: RunId) -> impl Iterator<Item = SessionId> + '_ {
        self.sessions.values().filter(move |session| session.run == Some(run)).map(|session| session.id)
    }

    /// Whether a client may have what it asks for.
    pub(super) fn choose(
        &self,
        client: Fingerprint,
        standing: Standing,
        app: Option<AppId>,
    ) -> Result<Choice, (EndCode, String)> {
        let Some(app) = app else { return Ok(Choice::Nothing) };
        let has = self.run_of(client);
        if let Some(run) = has.filter(|run| run.app == app) {
            return Ok(Choice::Resume(run.id));
        }
        let Some(&index) = self.apps.get(&app) else {
            return Err((EndCode::Unavailable, "there is no such app on this host".into()));
        };
        if index.is_some() && !standing.launch {
            let reason = "this client may not start apps; see `lumend permit --help` on the host";
            return Err((EndCode::NotAllowed, reason.into()));
        }
        match has {
            Some(run) if run.index.is_some() => {
                Err((EndCode::Unavailable, "another app of this client is running: quit it first".into()))
            }
            other => Ok(Choice::Begin { app, index, instead_of: other.map(|run| run.id) }),
        }
    }

    /// Sessions that end when this choice is taken.
    pub(super) fn sessions_before(&self, choice: Choice) -> usize {
        match choice {
            Choice::Begin { instead_of: Some(run), .. } => self.sessions_with(run).count(),
            Choice::Begin { instead_of: None, .. } | Choice::Nothing | Choice::Resume(_) => 0,
        }
    }

    /// The mode in which a client has seen last what it comes back to.
    pub(super) fn mode_of(&self, choice: Choice) -> Option<Mode> {
        match choice {
            Choice::Resume(run) => self.runs.get(&run).map(|run| run.mode),
            Choice::Begin { .. } | Choice::Nothing => None,
        }
    }

    /// Does what was chosen; the session's run.
    pub(super) fn take(&mut self, client: Fingerprint, choice: Choice, mode: Mode, now: u64) -> Option<RunId> {
        match choice {
            Choice::Nothing => None,
            Choice::Resume(id) => {
                if let Some(run) = self.runs.get_mut(&id) {
                    run.mode = mode;
                }
                Some(id)
            }
            Choice::Begin { app, index, instead_of } => {
                if let Some(before) = instead_of {
                    let ids: Vec<_> = self.sessions_with(before).collect();
                    for id in ids {
                        self.end(id, EndCode::Stopped, "its client has begun something else".into(), now);
                    }
                    self.stop_run(before, now);
                }
                self.last_run += 1;
                let id = RunId(self.last_run);
                let stage = if index.is_some() { RunStage::Wanted } else { RunStage::Running };
                self.runs.insert(id, Run { id, client, app, index, mode, stage, told: false });
                Some(id)
            }
        }
    }

    /// Starts a session's app once there is a desktop to start it on, and what its client had before is gone.
    pub(super) fn settle_run(&mut self, id: SessionId, now: u64) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.output == Output::Ready) else { return };
        let wanted = session.run.and_then(|run| self.runs.get(&run)).filter(|run| run.stage == RunStage::Wanted);
        let Some((run, index)) = wanted.and_then(|run| Some((run.id, run.index?))) else { return };
        let before = |run: &Run| run.client == session.client && matches!(run.stage, RunStage::Stopping { .. });
        if self.runs.values().any(before) {
            // Not the desktop's fault, and not for ever.
            if let Some(session) = self.sessions.get_mut(&id) {
                session.patience = session.patience.map(|_| now + PATIENCE);
            }
            return;
        }
        self.out.push(Action::StartApp { session: id, run, index });
        if let Some(run) = self.runs.get_mut(&run) {
            run.stage = RunStage::Running;
        }
    }

    /// Nothing of the session's app is left to be waited for.
    pub(super) fn has_its_app(&self, session: &Session) -> bool {
        let run = session.run.and_then(|run| self.runs.get(&run));
        run.is_none_or(|run| run.stage != RunStage::Wanted)
    }

    /// A session is about to be accepted: what it runs is its client's from now on. Net hears of it first.
    pub(super) fn keep_run(&mut self, id: SessionId, plane: PlaneId) {
        let run = self.sessions.get(&id).and_then(|session| session.run);
        if let Some(run) = run.and_then(|run| self.runs.get_mut(&run)).filter(|run| !run.told) {
            run.told = true;
            self.out.push(Action::Running { plane, client: run.client, app: Some(run.app) });
        }
    }

    /// A session has ended before its client was told of the app that it asked for: nobody would come back to that.
    pub(super) fn drop_run(&mut self, run: RunId, now: u64) {
        let shared = self.sessions_with(run).next().is_some();
        if !shared && self.runs.get(&run).is_some_and(|run| !run.told) {
            self.stop_run(run, now);
        }
    }

    /// Takes a run from its client, at once, and stops what there is of it.
    fn stop_run(&mut self, id: RunId, now: u64) {
        let net = self.ready_net();
        let Some(run) = self.runs.get_mut(&id) else { return };
        if matches!(run.stage, RunStage::Stopping { .. }) {
            return;
        }
        if std::mem::take(&mut run.told)
            && let Some(plane) = net
        {
            self.out.push(Action::Running { plane, client: run.client, app: None });
        }
        if run.stage == RunStage::Running && run.index.is_some() {
            run.stage = RunStage::Stopping { until: now + STOP_APP_WITHIN };
            self.out.push(Action::StopApp(id));
        } else {
            self.runs.remove(&id);
        }
    }

    /// Ends what a client has, and its sessions: it is no client any more.
    pub(super) fn stop_runs_of(&mut self, client: Fingerprint, now: u64) {
        let runs: Vec<_> = self.runs.values().filter(|run| run.client == client).map(|run| run.id).collect();
        for run in runs {
            self.stop_run(run, now);
        }
    }

    /// A client wants what it has to end. It is answered even if that is nothing.
    pub(super) fn quit(&mut self, plane: PlaneId, client: Fingerprint, now: u64) {
        let ids: Vec<_> = self.sessions_of(client, Face::GameStream).collect();
        for id in ids {
            self.end(id, EndCode::Stopped, "its client has quit".into(), now);
        }
        let told = self.run_of(client).is_some_and(|run| run.told);
        self.stop_runs_of(client, now);
        if !told {
            self.out.push(Action::Running { plane, client, app: None });
        }
    }

    /// A person wants what a client has to end.
    pub(super) fn end_run(&mut self, id: RunId, now: u64) {
        let ids: Vec<_> = self.sessions_with(id).collect();
        for session in ids {
            self.end(session, EndCode::Stopped, "its app was stopped by the host's user".into(), now);
        }
        self.stop_run(id, now);
    }

    pub(super) fn app_ended(&mut self, id: RunId, reason: &str, now: u64) {
        // The launcher knows only what it was told to start.
        let Some(run) = self.runs.get(&id).filter(|run| run.stage != RunStage::Wanted && run.index.is_some()) else {
            return;
        };
        let (client, told) = (run.client, run.told);
        self.runs.remove(&id);
        let ids: Vec<_> = self.sessions_with(id).collect();
        for session in ids {
            self.end(session, EndCode::AppEnded, format!("the app has ended: {reason}"), now);
        }
        if let Some(plane) = self.ready_net().filter(|_| told) {
            self.out.push(Action::Running { plane, client, app: None });
        }
    }

    /// What clients have, for a fresh network plane.
    pub(super) fn tell_of_runs(&mut self, plane: PlaneId) {
        let told = self.runs.values().filter(|run| run.told);
        self.out.extend(told.map(|run| Action::Running { plane, client: run.client, app: Some(run.app) }));
    }

    pub(super) fn runs_deadline(&self) -> Option<u64> {
        let until = |run: &Run| match run.stage {
            RunStage::Stopping { until } => Some(until),
            RunStage::Wanted | RunStage::Running => None,
        };
        self.runs.values().filter_map(until).min()
    }

    /// Forgets apps that have not ended in time: nobody waits for them any more.
    pub(super) fn tick_runs(&mut self, now: u64) {
        self.runs.retain(|_, run| !matches!(run.stage, RunStage::Stopping { until } if now >= until));
    }
}
