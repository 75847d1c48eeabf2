//! What is started for clients: preparations, the app itself, and what undoes the preparations, one run at a time from
//! each client. Nothing here waits; a child's end, an order or a deadline moves a run on.
//!
//! What a dead launcher has left is undone first; whatever is to be started waits for that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipc::RunId;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::family;
use super::notes::{Note, Notes};

/// Runs at a time; lumend allows fewer sessions.
const MOST: usize = 32;
/// A preparation, or its undoing, that takes longer is ended, and counts as failed.
const STEP_WITHIN: Duration = Duration::from_secs(30);
/// The same when the launcher itself is about to end.
const LAST_STEP_WITHIN: Duration = Duration::from_secs(2);
/// Between SIGTERM and SIGKILL.
const STOP_WITHIN: Duration = Duration::from_secs(5);
const LAST_STOP_WITHIN: Duration = Duration::from_secs(2);
/// How often a group whose first process has ended is looked at: its other members need not be children of ours, whose
/// ends are told.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// One app as configured: shell commands, each one line. An empty command starts nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Commands {
    pub command: String,
    /// Run to their ends, one after the other, before the app is started.
    pub prep: Vec<String>,
    /// After it has ended, or could not be started.
    pub undo: Vec<String>,
}

impl From<&crate::apps::App> for Commands {
    fn from(app: &crate::apps::App) -> Self {
        let entry = &app.entry;
        Self { command: entry.command.clone(), prep: entry.prep.clone(), undo: entry.undo.clone() }
    }
}

/// Starts a shell command for a run in a session of its own, whose number is the answer. The error is for people.
pub type Spawn = Box<dyn Fn(RunId, &str) -> Result<Pid, String>>;

/// A command that is to end by itself.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Of its list.
    index: usize,
    pid: Pid,
    kill_at: Instant,
    late: bool,
}

#[derive(Debug)]
enum Stage {
    /// For the desktop to come up, and what the dead have left to be undone.
    Waiting,
    Preparing(Step),
    /// There is a process group of this number, with or without the process that began it; none for an app without a
    /// command, which lasts until it is stopped.
    Running {
        group: Option<Pid>,
        look_at: Option<Instant>,
    },
    Stopping {
        group: Option<Pid>,
        look_at: Instant,
        kill_at: Instant,
    },
    Undoing(Step),
    /// To be told.
    Ended,
}

#[derive(Debug)]
struct Run {
    commands: Commands,
    stage: Stage,
    /// Since it has begun, if it is to be undone.
    note: Option<Note>,
    /// It is a dead launcher's, and nobody has to be told of its end.
    inherited: bool,
    /// Why it ends, once it does.
    reason: Option<String>,
}

pub struct Apps {
    table: Vec<Commands>,
    spawn: Spawn,
    notes: Notes,
    runs: BTreeMap<RunId, Run>,
    inherited: u32,
    /// There is a desktop, or none is needed.
    ready: bool,
    /// The launcher is about to end: everybody is given less time.
    last: bool,
}

impl Apps {
    pub fn new(table: Vec<Commands>, spawn: Spawn, notes: Notes) -> Self {
        Self { table, spawn, notes, runs: BTreeMap::new(), inherited: 0, ready: false, last: false }
    }

    /// Undoes what dead launchers have left.
    pub fn inherit(&mut self, now: Instant) {
        for (note, undo) in self.notes.left() {
            // lumend counts its own from the other end.
            let id = RunId(u32::MAX - self.inherited);
            self.inherited += 1;
            let commands = Commands { undo, ..Commands::default() };
            let run = Run { commands, stage: Stage::Waiting, note: Some(note), inherited: true, reason: None };
            self.runs.insert(id, run);
            self.undo(now, id, 0);
        }
    }

    /// Begins with the preparations as soon as nothing has to be waited for, as the desktop if that is not `ready` yet.
    /// The error is why there is no such run.
    pub fn start(&mut self, now: Instant, run: RunId, app: u16, ready: bool) -> Result<(), String> {
        let commands = self.table.get(usize::from(app)).ok_or("the launcher knows no such app")?.clone();
        if self.runs.len() >= MOST || self.runs.contains_key(&run) {
            return Err("too many apps are running".into());
        }
        self.runs.insert(run, Run { commands, stage: Stage::Waiting, note: None, inherited: false, reason: None });
        self.ready = ready;
        self.inherit(now);
        self.begin(now);
        Ok(())
    }

    /// Begins with what waits, if it waits for nothing any more. What it will have to undo is on disk before that.
    fn begin(&mut self, now: Instant) {
        let held_up = self.runs.values().any(|run| run.inherited && !matches!(run.stage, Stage::Ended));
        if held_up || !self.ready {
            return;
        }
        let waits = |(&id, run): (&RunId, &Run)| matches!(run.stage, Stage::Waiting).then_some(id);
        for id in self.runs.iter().filter_map(waits).collect::<Vec<_>>() {
            if let Some(run) = self.runs.get_mut(&id) {
                run.note = self.notes.write(id, &run.commands.undo);
            }
            self.prepare(now, id, 0);
        }
    }

    /// The desktop is there: what waited for it goes ahead.
    pub fn desktop_is_ready(&mut self, now: Instant) {
        self.ready = true;
        self.begin(now);
    }

    /// The desktop is gone, and every process that was started on it is dead and reaped.
    pub fn desktop_is_gone(&mut self, now: Instant, reason: &str) {
        self.ready = false;
        for id in self.runs.keys().copied().collect::<Vec<_>>() {
            let Some(run) = self.runs.get_mut(&id) else { continue };
            run.reason.get_or_insert_with(|| reason.to_owned());
            match run.stage {
                Stage::Waiting => run.stage = Stage::Ended,
                Stage::Preparing(_) | Stage::Running { .. } | Stage::Stopping { .. } => self.undo(now, id, 0),
                Stage::Undoing(step) => self.undo(now, id, step.index + 1),
                Stage::Ended => {}
            }
        }
    }

    /// Ends a run, whatever it is at.
    pub fn stop(&mut self, now: Instant, id: RunId, reason: &str) {
        let within = if self.last { LAST_STOP_WITHIN } else { STOP_WITHIN };
        let Some(run) = self.runs.get_mut(&id) else { return };
        let group = match run.stage {
            Stage::Waiting => {
                run.stage = Stage::Ended;
                None
            }
            Stage::Preparing(step) => Some(Some(step.pid)),
            Stage::Running { group, .. } => Some(group),
            // On its way.
            Stage::Stopping { .. } | Stage::Undoing(_) | Stage::Ended => return,
        };
        run.reason.get_or_insert_with(|| reason.to_owned());
        let Some(group) = group else { return };
        run.stage = Stage::Stopping { group, look_at: now + LOOK_AGAIN, kill_at: now + within };
        signal(id, group, Signal::SIGTERM);
        self.look(now, id);
    }

    /// Ends all runs in a hurry. [`Self::is_idle`] says when that is done.
    pub fn stop_all(&mut self, now: Instant) {
        self.last = true;
        for id in self.runs.keys().copied().collect::<Vec<_>>() {
            self.stop(now, id, "the host is shutting down");
            if let Some(Run { stage: Stage::Undoing(step), .. }) = self.runs.get_mut(&id) {
                step.kill_at = step.kill_at.min(now + LAST_STEP_WITHIN);
            }
        }
    }

    pub fn is_idle(&self) -> bool {
        self.runs.values().all(|run| matches!(run.stage, Stage::Ended))
    }

    /// The runs that are over, each told once.
    pub fn ended(&mut self) -> impl Iterator<Item = (RunId, String)> {
        let over = self.runs.extract_if(.., |_, run| matches!(run.stage, Stage::Ended));
        over.filter(|(_, run)| !run.inherited).map(|(id, run)| (id, run.reason.unwrap_or_else(|| "it ended".into())))
    }

    pub fn deadline(&self) -> Option<Instant> {
        let due = |run: &Run| match run.stage {
            Stage::Waiting | Stage::Ended => None,
            Stage::Preparing(step) | Stage::Undoing(step) => Some(step.kill_at),
            Stage::Running { look_at, .. } => look_at,
            Stage::Stopping { look_at, kill_at, .. } => Some(look_at.min(kill_at)),
        };
        self.runs.values().filter_map(due).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        for id in self.runs.keys().copied().collect::<Vec<_>>() {
            let Some(run) = self.runs.get_mut(&id) else { continue };
            match &mut run.stage {
                Stage::Preparing(step) | Stage::Undoing(step) if now >= step.kill_at => {
                    // Its end will be told, once; another deadline only keeps a stubborn one from being forgotten.
                    step.late = true;
                    step.kill_at = now + LOOK_AGAIN;
                    let _ = killpg(step.pid, Signal::SIGKILL);
                }
                Stage::Stopping { group, kill_at, look_at } if now >= *kill_at => {
                    *look_at = now + LOOK_AGAIN;
                    *kill_at = now + LOOK_AGAIN;
                    signal(id, *group, Signal::SIGKILL);
                    self.look(now, id);
                }
                _ => self.look(now, id),
            }
        }
    }

    /// A child has ended and is reaped.
    pub fn child_ended(&mut self, now: Instant, status: WaitStatus) {
        for id in self.runs.keys().copied().collect::<Vec<_>>() {
            let Some(run) = self.runs.get_mut(&id) else { continue };
            match &mut run.stage {
                Stage::Preparing(step) if status.pid() == Some(step.pid) => {
                    let Step { index, late, .. } = *step;
                    match failure(status, late) {
                        None => self.prepare(now, id, index + 1),
                        Some(how) => {
                            run.reason = Some(format!("preparation {} of the app failed ({how})", index + 1));
                            self.undo(now, id, 0);
                        }
                    }
                }
                Stage::Undoing(step) if status.pid() == Some(step.pid) => {
                    let Step { index, late, .. } = *step;
                    if let Some(how) = failure(status, late) {
                        eprintln!("lumend launcher: undoing an app's preparations: command {}: {how}", index + 1);
                    }
                    self.undo(now, id, index + 1);
                }
                Stage::Running { group, look_at } if group.is_some() => {
                    if status.pid() == *group {
                        *look_at = Some(now);
                        run.reason = Some(match failure(status, false) {
                            None => "it ended".into(),
                            Some(how) => format!("it ended ({how})"),
                        });
                    }
                    self.look(now, id);
                }
                Stage::Stopping { .. } => self.look(now, id),
                _ => {}
            }
        }
    }

    /// Sees whether anything is left of a run that is to end, or whose first process has.
    fn look(&mut self, now: Instant, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let left = match &mut run.stage {
            Stage::Running { group: Some(group), look_at: Some(look_at) } => {
                *look_at = now + LOOK_AGAIN;
                lives(*group)
            }
            Stage::Stopping { group, look_at, .. } => {
                *look_at = now + LOOK_AGAIN;
                group.is_some_and(lives) || !family::of(id).is_empty()
            }
            _ => return,
        };
        if !left {
            self.undo(now, id, 0);
        }
    }

    /// Goes on with preparation `index`, or the app when there is none.
    fn prepare(&mut self, now: Instant, id: RunId, index: usize) {
        let within = if self.last { LAST_STEP_WITHIN } else { STEP_WITHIN };
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Commands { command, prep, .. } = &run.commands;
        let begun = match prep.get(index) {
            Some(line) => (self.spawn)(id, line)
                .map(|pid| Stage::Preparing(Step { index, pid, kill_at: now + within, late: false }))
                .map_err(|reason| format!("preparation {} of the app: {reason}", index + 1)),
            None if command.is_empty() => Ok(Stage::Running { group: None, look_at: None }),
            None => (self.spawn)(id, command).map(|pid| Stage::Running { group: Some(pid), look_at: None }),
        };
        match begun {
            Ok(stage) => run.stage = stage,
            Err(reason) => {
                run.reason = Some(reason);
                self.undo(now, id, 0);
            }
        }
    }

    /// Goes on with undoing, command `index` and those after it; one that cannot be started is passed over.
    fn undo(&mut self, now: Instant, id: RunId, index: usize) {
        let within = if self.last { LAST_STEP_WITHIN } else { STEP_WITHIN };
        let Some(run) = self.runs.get_mut(&id) else { return };
        for (index, line) in run.commands.undo.iter().enumerate().skip(index) {
            match (self.spawn)(id, line) {
                Ok(pid) => {
                    run.stage = Stage::Undoing(Step { index, pid, kill_at: now + within, late: false });
                    return;
                }
                Err(reason) => eprintln!("lumend launcher: undoing an app's preparations: {reason}"),
            }
        }
        run.stage = Stage::Ended;
        if let Some(note) = run.note.take() {
            note.done();
        }
        self.begin(now);
    }
}

/// Why a step counts as failed.
fn failure(status: WaitStatus, late: bool) -> Option<String> {
    match status {
        _ if late => Some("it took too long".into()),
        WaitStatus::Exited(_, 0) => None,
        WaitStatus::Exited(_, code) => Some(format!("exit status {code}")),
        WaitStatus::Signaled(_, signal, _) => Some(signal.as_str().to_owned()),
        other => Some(format!("{other:?}")),
    }
}

/// To all that was started for a run: the group, and what has left it since.
fn signal(id: RunId, group: Option<Pid>, signal: Signal) {
    // An error means that there is nobody, which is what is wanted.
    if let Some(group) = group {
        let _ = killpg(group, signal);
    }
    for pid in family::of(id) {
        let _ = kill(pid, signal);
    }
}

/// Whether a process group has members, dead ones that nobody has reaped among them.
fn lives(group: Pid) -> bool {
    killpg(group, None) != Err(Errno::ESRCH)
}

#[cfg(test)]
mod tests;
