//! The second encoder: it moves up at once, is missed by nobody, and never has two masters.

use ipc::{Generation, PlaneKind, SessionId};

use super::super::policy::{FAILED_FOR, SECOND, STANDBY_AFTER};
use super::super::{Event, Exit, PlaneId, Wiring};
use super::world::{FRIEND, World};

/// A session that streams and has a standby.
fn streaming() -> World {
    let mut world = World::with_standby([], true);
    world.calm();
    world.ask(FRIEND, 1280);
    world.calm();
    assert_eq!(world.machine.sessions().count(), 1);
    world
}

fn crash(world: &mut World, plane: PlaneId) {
    world.feed(Event::Exited { plane, exit: Exit::Crashed("SIGKILL".into()) });
}

fn encoders(world: &World) -> (Option<PlaneId>, Option<PlaneId>) {
    let session = world.machine.sessions().next().expect("a session");
    (session.encode.current, session.standby.as_ref().expect("a standby's slot").current)
}

/// Everything that is owed now comes, and no time passes.
fn at_once(world: &mut World) {
    while !world.owed.is_empty() {
        let event = world.owed.remove(0);
        world.deliver(event);
    }
}

#[test]
fn a_standby_takes_over_without_a_process_being_started() {
    let mut world = streaming();
    let (Some(first), Some(second)) = encoders(&world) else { panic!("{:?}", encoders(&world)) };
    let before = (world.now, world.planes.len());
    crash(&mut world, first);
    assert_eq!(encoders(&world), (Some(second), None));
    assert_eq!(world.planes.len(), before.1 - 1, "nothing was started yet");
    at_once(&mut world);
    let session = world.machine.sessions().next().unwrap();
    assert_eq!((world.now, session.wiring, session.generation), (before.0, Wiring::Whole, Generation(2)));
    assert_eq!(world.planes.len(), before.1 - 1, "the picture comes before the next standby");

    assert!(world.machine.deadline() <= Some(world.now + STANDBY_AFTER), "lumend is awake by then");
    world.now += STANDBY_AFTER - 1;
    world.feed(Event::Tick);
    at_once(&mut world);
    assert_eq!(world.planes.len(), before.1 - 1, "nor does the next one start before its time");
    world.now += 1;
    world.feed(Event::Tick);
    at_once(&mut world);
    let (encode, standby) = encoders(&world);
    assert_eq!((encode, world.planes.len()), (Some(second), before.1));
    assert!(standby.is_some_and(|standby| standby > second), "another one waits");
    let session = world.machine.sessions().next().unwrap();
    assert_eq!(session.prepared.map(|(plane, mode, _)| (Some(plane), mode)), Some((standby, session.mode)));
}

#[test]
fn a_standby_that_dies_costs_the_session_nothing() {
    let mut world = streaming();
    for _ in 0..5 {
        let (first, Some(second)) = encoders(&world) else { panic!("{:?}", encoders(&world)) };
        crash(&mut world, second);
        assert_eq!(encoders(&world).0, first);
        while encoders(&world).1.is_none() && !world.machine.sessions().any(|s| s.standby.as_ref().unwrap().failed) {
            world.now = world.machine.deadline().unwrap();
            world.feed(Event::Tick);
        }
    }
    let session = world.machine.sessions().next().unwrap();
    let standby = session.standby.as_ref().unwrap();
    assert_eq!((session.wiring, session.generation, session.encode.restarts), (Wiring::Whole, Generation(1), 0));
    assert_eq!((standby.failed, standby.retry_at), (true, Some(world.now + FAILED_FOR)));
    while encoders(&world).1.is_none() {
        world.now = world.machine.deadline().unwrap();
        world.feed(Event::Tick);
    }
    assert!(!world.machine.sessions().any(|s| s.standby.as_ref().unwrap().failed), "it is tried again");
}

#[test]
fn five_encoders_in_a_minute_are_too_many_with_a_standby_too() {
    let mut world = streaming();
    for _ in 0..5 {
        let (Some(first), _) = encoders(&world) else { panic!("no encoder") };
        crash(&mut world, first);
        at_once(&mut world);
        let until = world.now + 8 * SECOND;
        while let Some(at) = world.machine.deadline().filter(|&at| at < until) {
            world.now = at;
            world.feed(Event::Tick);
            at_once(&mut world);
        }
    }
    assert_eq!(world.machine.sessions().count(), 0);
    assert!(world.planes.values().all(|sim| sim.kind != PlaneKind::Encode || sim.deaf), "its standby went with it");
    let failures: Vec<_> = world.machine.failures().collect();
    let [failure] = failures[..] else { panic!("{failures:?}") };
    assert_eq!((failure.session, failure.plane), (SessionId(1), Some(PlaneKind::Encode)));
    assert!(failure.reason.ends_with("last: SIGKILL"), "{failure:?}");
}
