//! What befalls a branch, told as stories.

use ipc::{DefaultSink, Generation, PlaneKind};

use super::world::{FRIEND, World};
use super::{plane, streaming, wait};
use crate::machine::policy::SECOND;
use crate::machine::{Event, Exit, Slot, Stage, Wiring};

fn deliver_all(world: &mut World) {
    while !world.owed.is_empty() {
        let event = world.owed.remove(0);
        world.deliver(event);
    }
}

fn crash(world: &mut World, kind: PlaneKind) {
    let plane = plane(world, kind);
    world.feed(Event::Exited { plane, exit: Exit::Crashed("signal 9".into()) });
}

/// Generation and stage of a branch, and of the picture.
fn state(world: &World, kind: PlaneKind) -> (Generation, Stage, Generation, Wiring) {
    let session = world.machine.sessions().next().unwrap();
    let branch = session.branch(kind).unwrap();
    (branch.generation, branch.stage, session.generation, session.wiring)
}

fn counts(slot: &Slot) -> (u32, u32) {
    (slot.restarts, slot.reopens)
}

#[test]
fn a_killed_branch_is_wired_anew_at_once_and_the_picture_goes_on() {
    for kind in [PlaneKind::Audio, PlaneKind::Input] {
        let mut world = streaming();
        let before = world.now;
        crash(&mut world, kind);
        deliver_all(&mut world);
        assert_eq!(state(&world, kind), (Generation(2), Stage::Wired, Generation(1), Wiring::Whole));
        assert_eq!(world.now, before, "the first restart waits for nothing");
    }
}

#[test]
fn a_killed_encoder_leaves_the_branches_alone() {
    let mut world = streaming();
    crash(&mut world, PlaneKind::Encode);
    deliver_all(&mut world);
    for kind in [PlaneKind::Audio, PlaneKind::Input] {
        assert_eq!(state(&world, kind), (Generation(1), Stage::Wired, Generation(2), Wiring::Whole));
    }
}

#[test]
fn the_fifth_crash_of_a_branch_ends_the_session() {
    let mut world = streaming();
    for _ in 0..5 {
        assert_eq!(world.machine.sessions().count(), 1);
        crash(&mut world, PlaneKind::Input);
        while world.machine.sessions().any(|s| s.input.as_ref().is_some_and(|branch| branch.slot.current.is_none())) {
            world.now = world.machine.deadline().unwrap();
            world.feed(Event::Tick);
        }
    }
    assert_eq!(world.machine.sessions().count(), 0);
}

#[test]
fn without_pipewire_the_session_goes_on_and_asks_again_every_two_seconds() {
    let mut world = World::new();
    world.calm();
    world.ask(FRIEND, 1280);
    let mut tries = Vec::new();
    while tries.len() < 10 {
        while !world.owed.is_empty() {
            let event = world.owed.remove(0);
            world.deliver(event);
            let (session, branch) = world.machine.sessions().next().map(|s| (s.id, s.audio.clone().unwrap())).unwrap();
            if branch.stage == Stage::Wiring {
                tries.push(world.now);
                let (kind, generation) = (PlaneKind::Audio, branch.generation);
                world.feed(Event::CannotWireBranch { session, kind, generation, reason: "no PipeWire".into() });
            }
        }
        wait_for_news(&mut world);
        // Every try that the tick has begun.
        let branch = world.machine.sessions().next().map(|s| (s.id, s.audio.clone().unwrap()));
        if let Some((session, branch)) = branch.filter(|(_, branch)| branch.stage == Stage::Wiring) {
            tries.push(world.now);
            let (kind, generation) = (PlaneKind::Audio, branch.generation);
            world.feed(Event::CannotWireBranch { session, kind, generation, reason: "no PipeWire".into() });
        }
    }
    assert!(tries.windows(2).all(|pair| pair[1] - pair[0] == 2 * SECOND), "{tries:?}");
    let session = world.machine.sessions().next().unwrap();
    let audio = session.audio.as_ref().unwrap();
    assert_eq!((session.wiring, session.generation), (Wiring::Whole, Generation(1)));
    assert_eq!((counts(&audio.slot), audio.obstacle.as_deref()), ((0, 0), Some("no PipeWire")));
    world.calm();
    assert_eq!(state(&world, PlaneKind::Audio).1, Stage::Wired);
}

fn wait_for_news(world: &mut World) {
    if let Some(at) = world.machine.deadline() {
        world.now = at;
        world.feed(Event::Tick);
    }
}

#[test]
fn hands_follow_the_desktop_without_blame() {
    let mut world = streaming();
    for round in 1..=8 {
        let before = plane(&world, PlaneKind::Input);
        world.feed(Event::DesktopDown { reason: "crashed".into() });
        world.calm();
        assert_ne!(plane(&world, PlaneKind::Input), before, "a plane is wired once");
        let session = world.machine.sessions().next().unwrap();
        assert_eq!(counts(&session.input.as_ref().unwrap().slot), (0, round));
        let audio = session.audio.as_ref().unwrap();
        assert_eq!((audio.generation, counts(&audio.slot)), (Generation(1), (0, 0)), "sound has no desktop");
    }
}

#[test]
fn what_a_plane_cannot_do_it_tries_again_later_and_costs_nothing() {
    let mut world = streaming();
    for _ in 0..10 {
        let branch = world.machine.sessions().next().unwrap().input.clone().unwrap();
        let (generation, reason) = (branch.generation, "the compositor refuses".into());
        world.feed(Event::Failed { plane: branch.slot.current.unwrap(), generation, reason });
        assert_eq!(world.machine.sessions().next().unwrap().input.as_ref().unwrap().slot.current, None);
        wait(&mut world, 1);
        assert_eq!(world.machine.sessions().next().unwrap().input.as_ref().unwrap().slot.current, None, "not yet");
        world.calm();
    }
    assert_eq!(state(&world, PlaneKind::Input), (Generation(11), Stage::Wired, Generation(1), Wiring::Whole));
}

#[test]
fn a_plane_that_is_restarted_by_hand_is_waited_for() {
    let mut world = streaming();
    let session = world.machine.sessions().next().map(|s| s.id);
    let before = plane(&world, PlaneKind::Audio);
    world.feed(Event::Restart { kind: PlaneKind::Audio, session });
    // The old one puts the default back; the new one would find it half done.
    let exited = world.owed.iter().position(|event| matches!(event, Event::Exited { .. })).unwrap();
    let exited = world.owed.remove(exited);
    deliver_all(&mut world);
    assert_eq!(state(&world, PlaneKind::Audio).1, Stage::New);
    world.deliver(exited);
    deliver_all(&mut world);
    assert_eq!(state(&world, PlaneKind::Audio).1, Stage::Wired);
    assert_ne!(plane(&world, PlaneKind::Audio), before);
}

#[test]
fn a_janitor_puts_back_what_an_earlier_lumend_has_left_and_goes() {
    let left = DefaultSink { ours: "lumen.4".into(), previous: Some("speakers".into()) };
    let mut world = World::after([left]);
    world.calm();
    assert_eq!((world.branches.janitors, world.branches.orphans()), (1, 0));
    assert!(world.machine.janitor().current.is_none(), "it is not needed any more");
}

#[test]
fn audio_and_session_gone_together_leave_no_sink_behind() {
    let mut world = streaming();
    let (audio, session) = (plane(&world, PlaneKind::Audio), world.machine.sessions().next().unwrap().id);
    world.feed(Event::Stop(session));
    world.feed(Event::Exited { plane: audio, exit: Exit::Crashed("signal 9".into()) });
    assert_eq!(world.branches.orphans(), 1);
    world.calm();
    assert_eq!((world.branches.janitors, world.branches.orphans()), (1, 0));
}

#[test]
fn an_heir_undoes_what_the_dead_plane_of_its_session_did() {
    let mut world = streaming();
    crash(&mut world, PlaneKind::Audio);
    world.calm();
    assert_eq!((world.branches.janitors, world.branches.orphans()), (0, 0));
}

/// Two sessions with sinks of their own, and the second has found the first's.
fn two() -> World {
    let mut world = streaming();
    world.ask(FRIEND, 1280);
    world.calm();
    assert_eq!(world.machine.sessions().count(), 2);
    assert!(!world.branches.is_put_back());
    world
}

#[test]
fn two_sessions_leave_the_speakers_in_whatever_order_they_end() {
    for first in [0, 1] {
        let mut world = two();
        let ids: Vec<_> = world.machine.sessions().map(|s| s.id).collect();
        for id in [ids[first], ids[1 - first]] {
            world.feed(Event::Stop(id));
            world.calm();
        }
        assert!(world.branches.is_put_back(), "{:?}", world.branches);
    }
}

#[test]
fn lumend_goes_when_the_default_sink_is_put_back_or_cannot_be() {
    for reachable in [true, false] {
        let mut world = two();
        world.feed(Event::Shutdown);
        while !world.owed.is_empty() {
            let event = world.owed.remove(0);
            if let (Event::Undone { plane, .. }, false) = (&event, reachable) {
                world.owed.clear();
                world.feed(Event::CannotUndo { plane: *plane });
            } else {
                world.deliver(event);
            }
        }
        assert_eq!((world.finished, world.branches.janitors), (true, 1));
        assert_eq!(world.branches.is_put_back(), reachable);
        assert!(world.branches.is_clean(), "the next lumend puts it back");
    }
}

#[test]
fn rubbish_in_the_pictures_ring_is_encodes_fault_and_nobody_elses() {
    let mut world = streaming();
    let net = plane(&world, PlaneKind::Net);
    let session = world.machine.sessions().next().unwrap().clone();
    let broken = |generation| {
        let (kind, reason) = (PlaneKind::Encode, "impossible length".to_owned());
        Event::BranchBroken { plane: net, session: session.id, kind, generation, reason }
    };
    world.feed(broken(Generation(session.generation.0 + 1)));
    world.calm();
    assert_eq!(counts(&world.machine.sessions().next().unwrap().encode), (0, 0), "of no generation there is");
    world.feed(broken(session.generation));
    world.calm();
    let after = world.machine.sessions().next().unwrap();
    assert_eq!((after.wiring, after.generation), (Wiring::Whole, Generation(session.generation.0 + 1)));
    assert_eq!((counts(&after.encode), counts(&after.capture)), ((1, 0), (0, 0)));
}

#[test]
fn rubbish_in_a_ring_is_the_planes_fault_and_nobody_elses() {
    let mut world = streaming();
    let (net, session) = (plane(&world, PlaneKind::Net), world.machine.sessions().next().unwrap().id);
    let (kind, reason) = (PlaneKind::Audio, "impossible length".to_owned());
    world.feed(Event::BranchBroken { plane: net, session, kind, generation: Generation(1), reason });
    world.calm();
    assert_eq!(state(&world, kind), (Generation(2), Stage::Wired, Generation(1), Wiring::Whole));
    assert_eq!(counts(&world.machine.sessions().next().unwrap().audio.as_ref().unwrap().slot), (1, 0));
}
