//! Crashes anything at any moment and checks every order the machine gives against what it may know.

mod accused_tests;
mod branch_tests;
mod branches;
mod guest_tests;
mod guests;
mod play;
mod return_tests;
mod returns;
mod standby_tests;
mod world;

use ipc::{DefaultSink, Generation, PlaneKind};
use proptest::prelude::*;

use super::policy::SECOND;
use super::{Action, Event, Exit, Output, PlaneId, Stage, Wiring};
use world::{FRIEND, World};

/// Mostly work gets done; else nothing would be there to crash.
fn op() -> impl Strategy<Value = u8> {
    prop_oneof![24 => 0u8..20, 4 => 20u8..27, 5 => 27u8..47, 3 => 47u8..60, 1 => 60u8..63, 6 => 63u8..83, 3 => 83u8..95]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn anything_may_crash_at_any_moment(
        left in any::<bool>(),
        standby in any::<bool>(),
        moves in prop::collection::vec((op(), any::<u16>()), 1..400),
    ) {
        let left = left.then(|| DefaultSink { ours: "lumen.1".into(), previous: Some("speakers".into()) });
        let mut world = World::with_standby(left, standby);
        for (op, pick) in moves {
            world.play(op, pick);
        }
        world.calm();
        for session in world.machine.sessions() {
            prop_assert_eq!(session.wiring, Wiring::Whole, "{:?}", session);
            let waits = session.standby.as_ref().is_none_or(|slot| slot.current.is_some() || slot.failed);
            prop_assert!(waits, "{:?}", session);
            for branch in session.audio.iter().chain(&session.input) {
                prop_assert_eq!(branch.stage, Stage::Wired, "{:?}", session);
            }
        }
        if !world.machine.janitor().failed {
            prop_assert_eq!(world.branches.orphans(), 0, "{:?}", world.branches);
        }
        world.guests.are_served(&world.machine);
        prop_assert!(world.open_asks.is_empty(), "{:?} were never answered", world.open_asks);

        world.feed(Event::Shutdown);
        while !world.finished {
            while !world.owed.is_empty() {
                let event = world.owed.remove(0);
                world.deliver(event);
            }
            // Processes that closed their link by themselves and live on.
            world.now += 4 * SECOND;
            world.feed(Event::Tick);
            let left: Vec<_> = world.planes.keys().copied().collect();
            for plane in left {
                world.feed(Event::Exited { plane, exit: Exit::Stopped });
            }
        }
        prop_assert!(world.finished);
        prop_assert!(world.branches.is_clean(), "a changed default sink that no record tells of");
        prop_assert!(world.branches.is_put_back(), "{:?}", world.branches);
        prop_assert_eq!(world.machine.sessions().count(), 0);
        prop_assert!(world.sessions.values().all(|view| !view.output_held), "an output was left behind");
    }
}

/// One session, whole.
fn streaming() -> World {
    let mut world = World::new();
    world.calm();
    world.ask(FRIEND, 1280);
    world.calm();
    assert_eq!((world.machine.sessions().count(), world.whole_reached), (1, 1));
    world
}

fn plane(world: &World, kind: PlaneKind) -> PlaneId {
    *world.planes.iter().find(|(_, p)| p.kind == kind && !p.deaf).unwrap().0
}

#[test]
fn a_killed_encoder_costs_one_generation_and_no_other_process() {
    let mut world = streaming();
    let others = [plane(&world, PlaneKind::Net), plane(&world, PlaneKind::Capture)];
    let exit = Exit::Crashed("signal 9".into());
    world.feed(Event::Exited { plane: plane(&world, PlaneKind::Encode), exit });
    let before = world.now;
    while !world.owed.is_empty() {
        let event = world.owed.remove(0);
        world.deliver(event);
    }
    assert_eq!(world.now, before, "the first restart waits for nothing");
    let session = world.machine.sessions().next().unwrap();
    assert_eq!((session.wiring, session.generation, session.encode.restarts), (Wiring::Whole, Generation(2), 1));
    assert_eq!(others, [plane(&world, PlaneKind::Net), plane(&world, PlaneKind::Capture)]);
}

#[test]
fn the_fifth_crash_ends_the_session_with_a_reason() {
    let mut world = streaming();
    for _ in 0..5 {
        assert_eq!(world.machine.sessions().count(), 1);
        let exit = Exit::Crashed("signal 11".into());
        world.feed(Event::Exited { plane: plane(&world, PlaneKind::Encode), exit });
        while world.machine.sessions().any(|s| s.encode.current.is_none()) {
            world.now = world.machine.deadline().unwrap();
            world.feed(Event::Tick);
        }
    }
    assert_eq!(world.machine.sessions().count(), 0);
}

#[test]
fn a_reopening_capture_is_no_crash() {
    let mut world = streaming();
    for _ in 0..10 {
        world.feed(Event::DesktopDown { reason: "crashed".into() });
        world.feed(Event::Exited { plane: plane(&world, PlaneKind::Capture), exit: Exit::Reopen });
        world.calm();
    }
    let session = world.machine.sessions().next().expect("the session goes on");
    assert_eq!((session.wiring, session.capture.restarts, session.capture.reopens), (Wiring::Whole, 0, 10));
}

#[test]
fn a_lost_output_is_one_sessions_and_no_crash() {
    let mut world = streaming();
    world.ask(FRIEND, 1280);
    world.calm();
    let [one, two] = [0, 1].map(|index| world.machine.sessions().nth(index).unwrap().id);
    for round in 1..=10 {
        world.lose_output(two);
        let session = world.machine.session(two).unwrap();
        assert!(matches!(session.output, Output::Acquiring(_)), "it asks again at once");
        world.calm();
        let session = world.machine.session(two).unwrap();
        assert_eq!((session.wiring, session.generation), (Wiring::Whole, Generation(1 + round)));
        assert!(session.slots().all(|slot| slot.restarts == 0), "{session:?}");
    }
    assert_eq!(world.machine.session(one).unwrap().generation, Generation(1));
    assert!(world.machine.session(one).unwrap().slots().all(|slot| slot.reopens == 0));

    world.machine.step(world.now, Event::OutputLost { session: two, reason: "sway ended (SIGSEGV)".into() });
    let mut out = Vec::new();
    while world.machine.session(two).is_some() {
        world.now = world.machine.deadline().unwrap();
        out = world.machine.step(world.now, Event::Tick);
        let pings: Vec<_> = out
            .iter()
            .filter_map(|action| match action {
                Action::Ping { plane, token } => Some(Event::Pong { plane: *plane, token: *token }),
                _ => None,
            })
            .collect();
        pings.into_iter().for_each(|pong| drop(world.machine.step(world.now, pong)));
    }
    let told = |action: &Action| matches!(action, Action::End { session, reason, .. } if *session == two && reason.contains("SIGSEGV"));
    assert!(out.iter().any(told), "{out:?}");
}

/// Lets time pass without any other news; pings are answered.
fn wait(world: &mut World, seconds: u64) {
    let until = world.now + seconds * SECOND;
    while let Some(at) = world.machine.deadline().filter(|&at| at < until) {
        world.now = at;
        world.feed(Event::Tick);
    }
}

#[test]
fn a_client_whose_stream_never_begins_gets_a_reason() {
    let mut world = World::new();
    world.calm();
    world.ask(FRIEND, 1280);
    while let Some(event) = world.owed.pop() {
        // The encoder hangs in its set-up.
        if !matches!(event, Event::Wired { .. }) {
            world.deliver(event);
        }
    }
    assert_eq!(world.machine.sessions().next().unwrap().wiring, Wiring::Ends);
    wait(&mut world, 10);
    assert_eq!(world.machine.sessions().count(), 0);
}

#[test]
fn a_desktop_that_stays_away_ends_the_session() {
    let mut world = streaming();
    world.feed(Event::DesktopDown { reason: "crashed".into() });
    wait(&mut world, 5);
    assert_eq!(world.machine.sessions().count(), 1, "it may come back");
    wait(&mut world, 5);
    assert_eq!(world.machine.sessions().count(), 0);
}
