//! The life of a run with commands that never existed: the test says which of them start and how they end.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;

const RUN_ID: RunId = RunId(7);
/// Numbers of processes that cannot exist (PID_MAX_LIMIT is 2^22), so that signals reach nobody and nothing is left.
const FIRST_PID: i32 = 1 << 23;

struct World {
    apps: Apps,
    started: Rc<RefCell<Vec<String>>>,
    now: Instant,
}

fn strings(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

impl World {
    fn new(prep: &[&str], command: &str, undo: &[&str]) -> Self {
        let started = Rc::new(RefCell::new(Vec::new()));
        let log = started.clone();
        let spawn = Box::new(move |run: RunId, line: &str| {
            assert!(run == RUN_ID || run.0 > u32::MAX - 2);
            log.borrow_mut().push(line.to_owned());
            let pid = FIRST_PID + log.borrow().len() as i32;
            if line == "impossible" { Err("no shell".to_owned()) } else { Ok(Pid::from_raw(pid)) }
        });
        let table = vec![Commands { command: command.into(), prep: strings(prep), undo: strings(undo) }];
        Self { apps: Apps::new(table, spawn, Notes::new(None)), started, now: Instant::now() }
    }

    fn start(&mut self) {
        self.apps.start(self.now, RUN_ID, 0, true).unwrap();
    }

    /// What was started last ends, with this status.
    fn ends(&mut self, code: i32) {
        let last = Pid::from_raw(FIRST_PID + self.started.borrow().len() as i32);
        self.apps.child_ended(self.now, WaitStatus::Exited(last, code));
    }

    fn started(&self) -> Vec<String> {
        self.started.take()
    }

    fn reason(&mut self) -> Option<String> {
        let mut ended: Vec<_> = self.apps.ended().collect();
        assert!(ended.len() <= 1);
        ended.pop().map(|(run, reason)| {
            assert_eq!(run, RUN_ID);
            reason
        })
    }
}

#[test]
fn preparations_the_app_and_their_undoing_come_one_after_the_other() {
    let mut world = World::new(&["one", "two"], "game", &["undo one", "undo two"]);
    world.start();
    for count in 1..=4 {
        assert_eq!(world.started.borrow().len(), count);
        assert!(world.reason().is_none());
        world.ends(0);
    }
    world.ends(1);
    assert_eq!(world.reason().as_deref(), Some("it ended"));
    assert_eq!(world.started(), ["one", "two", "game", "undo one", "undo two"]);
    assert!(world.reason().is_none(), "told once");
}

#[test]
fn a_failed_preparation_is_undone_and_the_app_never_starts() {
    let mut world = World::new(&["one", "two"], "game", &["undo"]);
    world.start();
    world.ends(0);
    world.ends(3);
    assert!(world.reason().is_none());
    world.ends(0);
    assert_eq!(world.reason().as_deref(), Some("preparation 2 of the app failed (exit status 3)"));
    assert_eq!(world.started(), ["one", "two", "undo"]);
}

#[test]
fn a_preparation_that_takes_too_long_counts_as_failed() {
    let mut world = World::new(&["one"], "game", &[]);
    world.start();
    world.now = world.apps.deadline().unwrap();
    world.apps.tick(world.now);
    assert!(world.apps.deadline().is_some_and(|at| at > world.now));
    world.ends(0);
    assert!(world.reason().unwrap().contains("too long"));
    assert_eq!(world.started(), ["one"]);
}

#[test]
fn what_cannot_be_started_has_ended() {
    let mut world = World::new(&[], "impossible", &["impossible", "undo"]);
    world.start();
    world.ends(0);
    assert_eq!(world.reason().as_deref(), Some("no shell"));
    assert_eq!(world.started(), ["impossible", "impossible", "undo"]);
    assert!(world.apps.start(world.now, RUN_ID, 1, true).is_err(), "the list has one entry");
}

#[test]
fn an_app_without_a_command_lasts_until_it_is_stopped() {
    let mut world = World::new(&["one"], "", &["undo"]);
    world.start();
    world.ends(0);
    assert!(world.apps.deadline().is_none() && world.reason().is_none());
    assert!(world.apps.start(world.now, RUN_ID, 0, true).is_err(), "there is one of this number");
    world.apps.stop(world.now, RUN_ID, "it was stopped");
    world.ends(0);
    assert_eq!(world.reason().as_deref(), Some("it was stopped"));
    assert_eq!(world.started(), ["one", "undo"]);
}

#[test]
fn stopping_at_any_moment_undoes_what_was_begun() {
    for done in 0..=4 {
        let mut world = World::new(&["one", "two"], "game", &["undo one", "undo two"]);
        world.start();
        (0..done).for_each(|_| world.ends(0));
        world.apps.stop(world.now, RUN_ID, "it was stopped");
        world.apps.stop(world.now, RUN_ID, "it was stopped");
        while world.reason().is_none() {
            assert!(world.started.borrow().len() <= 5);
            world.ends(0);
        }
        let started = world.started();
        assert_eq!(started[started.len() - 2..], ["undo one", "undo two"], "{done}");
        assert!(started.len() == 2 + (done + 1).min(3), "{started:?}");
    }
}

#[test]
fn an_app_waits_for_its_desktop_and_ends_with_it() {
    let mut world = World::new(&["one"], "game", &["undo"]);
    world.apps.start(world.now, RUN_ID, 0, false).unwrap();
    assert!(world.started.borrow().is_empty() && world.apps.deadline().is_none());
    world.apps.desktop_is_ready(world.now);
    world.ends(0);
    world.apps.desktop_is_gone(world.now, "its desktop ended");
    world.ends(0);
    assert_eq!(world.reason().as_deref(), Some("its desktop ended"));
    assert_eq!(world.started(), ["one", "game", "undo"]);

    world.apps.start(world.now, RUN_ID, 0, false).unwrap();
    world.apps.desktop_is_gone(world.now, "its desktop ended");
    assert!(world.reason().is_some() && world.started().is_empty(), "nothing was begun");
    world.apps.start(world.now, RUN_ID, 0, false).unwrap();
    world.apps.stop(world.now, RUN_ID, "it was stopped");
    assert!(world.reason().is_some() && world.started().is_empty());
}

/// A directory in which a launcher has died that had these to undo, one for each run.
fn legacy(name: &str, undo: &[&str]) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("lumen-legacy-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    let dead = Notes::new(Some(path.clone()));
    undo.iter().enumerate().for_each(|(run, line)| drop(dead.write(RunId(run as u32), &strings(&[line]))));
    path
}

#[test]
fn what_a_dead_launcher_has_left_is_undone_before_anything_is_begun() {
    let path = legacy("first", &["old"]);
    let mut world = World::new(&["one"], "game", &["undo"]);
    world.apps.notes = Notes::new(Some(path.clone()));
    world.start();
    assert_eq!(*world.started.borrow(), ["old"]);
    world.ends(1);
    assert_eq!(*world.started.borrow(), ["old", "one"]);
    assert!(world.reason().is_none(), "nobody has asked for that");
    assert!(super::super::notes::any(&path), "of what is being begun");
    for code in [0, 0, 0] {
        world.ends(code);
    }
    assert_eq!(world.started(), ["old", "one", "game", "undo"]);
    assert_eq!(world.reason().as_deref(), Some("it ended"));
    assert!(!super::super::notes::any(&path), "all is undone");
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn the_heirs_end_is_in_a_hurry_too_and_a_desktop_is_no_matter() {
    let path = legacy("hurry", &["old"]);
    let mut world = World::new(&[], "game", &[]);
    world.apps.notes = Notes::new(Some(path.clone()));
    world.apps.inherit(world.now);
    assert!(!world.apps.is_idle() && world.started() == ["old"]);
    world.apps.desktop_is_ready(world.now);
    world.start();
    world.apps.stop_all(world.now);
    assert!(world.apps.deadline().unwrap() <= world.now + LAST_STEP_WITHIN);
    world.apps.child_ended(world.now, WaitStatus::Exited(Pid::from_raw(FIRST_PID + 1), 0));
    assert!(world.apps.is_idle() && world.started().is_empty() && world.reason().is_some());
    std::fs::remove_dir_all(path).unwrap();
}

#[test]
fn the_end_of_everything_is_in_a_hurry() {
    let mut world = World::new(&[], "game", &["undo"]);
    world.start();
    world.apps.stop_all(world.now);
    assert!(!world.apps.is_idle());
    assert!(world.apps.deadline().unwrap() <= world.now + LAST_STEP_WITHIN);
    world.ends(0);
    assert!(world.apps.is_idle());
    assert_eq!(world.started(), ["game", "undo"]);
}
