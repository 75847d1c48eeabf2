//! How a native client comes back, told as stories.

use ipc::{Generation, PlaneKind};
use lumen_core::ResumeToken;

use super::world::{FRIEND, MAX_SESSIONS, OTHER, World};
use super::{plane, streaming, wait};
use crate::machine::policy::{SECOND, STOP_WITHIN};
use crate::machine::{Action, Event, Exit, PlaneId, Stage, Wiring};

const PLANES: [PlaneKind; 4] = [PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Audio, PlaneKind::Input];

fn planes(world: &World) -> [PlaneId; 4] {
    PLANES.map(|kind| plane(world, kind))
}

/// Generation and wiring of the only session, and of its branches.
fn state(world: &World) -> (Generation, Wiring, [(Generation, Stage); 2]) {
    let session = world.machine.sessions().next().expect("no session");
    let branch = |kind| session.branch(kind).map(|branch| (branch.generation, branch.stage)).unwrap();
    (session.generation, session.wiring, [PlaneKind::Audio, PlaneKind::Input].map(branch))
}

fn whole(generation: u32) -> (Generation, Wiring, [(Generation, Stage); 2]) {
    (Generation(generation), Wiring::Whole, [(Generation(generation), Stage::Wired); 2])
}

#[test]
fn a_network_plane_that_dies_costs_its_client_no_other_plane_and_no_output() {
    let mut world = streaming();
    let (before, id) = (planes(&world), world.machine.sessions().next().unwrap().id);
    for round in 2..=5 {
        let then = world.now;
        world.lose_net();
        let session = world.machine.session(id).expect("it waits");
        assert!(session.back.is_waiting());
        let branches = session.audio.iter().chain(&session.input);
        assert!(branches.into_iter().all(|branch| branch.stage == Stage::Kept), "{session:?}");
        world.return_of(FRIEND);
        world.deliver_all();
        assert_eq!((state(&world), planes(&world), world.returns.count), (whole(round), before, round - 1));
        assert!(!world.machine.session(id).unwrap().back.is_waiting());
        // Only the ladder of the network plane's restarts takes time.
        assert!(round > 2 || world.now == then);
    }
}

#[test]
fn whoever_has_no_right_to_a_session_gets_one_of_its_own() {
    let stranger =
        |world: &World| world.machine.sessions().map(|session| session.back.is_waiting()).collect::<Vec<_>>();
    for case in 0..4 {
        let mut world = streaming();
        let spent = world.returns.known(FRIEND);
        world.lose_net();
        world.return_of(FRIEND);
        world.deliver_all();
        world.lose_net();
        match case {
            0 => world.come_back(FRIEND, spent),
            1 => world.come_back(OTHER, world.returns.known(FRIEND)),
            2 => world.come_back(FRIEND, Some(ResumeToken([9; 32]))),
            _ => world.come_back(FRIEND, None),
        }
        world.deliver_all();
        assert_eq!((stranger(&world), world.returns.count), (vec![true, false], 1), "case {case}");
        // And the one who has, still comes back.
        world.return_of(FRIEND);
        world.deliver_all();
        assert_eq!((stranger(&world), world.returns.count), (vec![false, false], 2), "case {case}");
    }
}

#[test]
fn a_session_waits_for_ten_seconds_and_leaves_nothing() {
    let mut world = streaming();
    world.lose_net();
    wait(&mut world, 9);
    assert_eq!(world.machine.sessions().count(), 1);
    wait(&mut world, 2);
    world.calm();
    assert_eq!(world.machine.sessions().count(), 0);
    assert!(world.sessions.values().all(|view| !view.output_held));
    assert_eq!(world.planes.len(), 1, "the network plane alone");
}

#[test]
fn what_is_held_is_lifted_when_the_client_is_away_for_a_second() {
    for away in [false, true] {
        let mut world = streaming();
        let input = plane(&world, PlaneKind::Input);
        world.lose_net();
        if !away {
            world.return_of(FRIEND);
        }
        let mut lifted = Vec::new();
        while let Some(at) = world.machine.deadline().filter(|&at| at < world.now + 2 * SECOND) {
            world.now = at;
            let out = world.machine.step(at, Event::Tick);
            lifted.extend(out.iter().filter(|action| matches!(action, Action::LetGo(_))).cloned());
            for action in out {
                if let Action::Ping { plane, token } = action {
                    world.machine.step(at, Event::Pong { plane, token });
                }
            }
            if lifted.len() > 1 || world.now > 3 * SECOND + at {
                break;
            }
            if world.machine.sessions().next().is_none_or(|session| session.back.deadline().is_none()) {
                break;
            }
        }
        assert_eq!(lifted, if away { vec![Action::LetGo(input)] } else { vec![] });
    }
}

#[test]
fn a_welcome_that_never_arrived_costs_nothing() {
    let mut world = streaming();
    world.lose_net();
    world.return_of(FRIEND);
    // Net has been told, and dies before its client is.
    world.owed.retain(|event| !matches!(event, Event::Started { .. }));
    world.lose_net();
    assert!(world.machine.sessions().next().unwrap().back.is_waiting());
    world.return_of(FRIEND);
    world.deliver_all();
    assert_eq!(world.returns.count, 2);
    // Or it was told, and its `Start` was lost.
    world.lose_net();
    world.return_of(FRIEND);
    world.owed.retain(|event| !matches!(event, Event::Started { .. }));
    world.lose_net();
    world.return_with_sent(FRIEND);
    world.deliver_all();
    assert_eq!((world.returns.count, state(&world).1), (4, Wiring::Whole));
}

#[test]
fn a_client_takes_its_session_from_a_connection_that_is_dead_to_it() {
    let mut world = streaming();
    let before = planes(&world);
    let (net, session) = (plane(&world, PlaneKind::Net), world.machine.sessions().next().unwrap());
    let (id, old) = (session.id, session.back.by());
    world.return_of(FRIEND);
    world.deliver_all();
    assert_eq!((state(&world), planes(&world), plane(&world, PlaneKind::Net)), (whole(2), before, net));
    // The end of the connection before is no end of the session.
    world.feed(Event::Gone { plane: net, session: id, ask: old, reason: "silence".into() });
    assert_eq!(state(&world), whole(2));
    let ask = world.machine.session(id).unwrap().back.by();
    world.feed(Event::Gone { plane: net, session: id, ask, reason: "bye".into() });
    assert_eq!(world.machine.sessions().count(), 0);
}

#[test]
fn on_a_full_host_who_begins_anew_gives_up_what_it_had() {
    let mut world = streaming();
    while world.machine.sessions().count() < MAX_SESSIONS {
        world.ask(FRIEND, 1280);
        world.calm();
    }
    let last = world.machine.sessions().last().unwrap().id;
    world.ask(FRIEND, 1280);
    assert_eq!(world.machine.sessions().last().unwrap().id, last, "all are watched");
    world.lose_net();
    world.ask(OTHER, 1280);
    assert_eq!(world.machine.sessions().last().unwrap().id, last, "none of them is this client's");
    world.ask(FRIEND, 1280);
    world.deliver_all();
    assert_ne!(world.machine.sessions().last().unwrap().id, last);
    assert_eq!(world.machine.sessions().count(), MAX_SESSIONS);
}

#[test]
fn who_is_refused_for_another_reason_keeps_what_it_had() {
    let mut world = streaming();
    while world.machine.sessions().count() < MAX_SESSIONS {
        world.ask(FRIEND, 1280);
        world.calm();
    }
    world.lose_net();
    let ids = |world: &World| world.machine.sessions().map(|session| session.id).collect::<Vec<_>>();
    let before = ids(&world);
    // No mode is that narrow.
    world.ask(FRIEND, 1);
    world.deliver_all();
    assert_eq!(ids(&world), before);
}

#[test]
fn a_network_plane_that_failed_is_told_as_the_reason() {
    for fails in [false, true] {
        let mut world = streaming();
        for _ in 0..if fails { 5 } else { 1 } {
            while world.machine.net().current.is_none() {
                world.now = world.machine.deadline().unwrap();
                world.feed(Event::Tick);
            }
            let plane = world.machine.net().current.unwrap();
            world.feed(Event::Exited { plane, exit: Exit::Crashed("signal 11".into()) });
        }
        world.deliver_all();
        wait(&mut world, 12);
        assert_eq!(world.machine.sessions().count(), 0);
        let told: Vec<_> = world.machine.failures().map(|failure| (failure.plane, failure.reason.clone())).collect();
        match told.as_slice() {
            [] => assert!(!fails),
            [(Some(PlaneKind::Net), reason)] => assert!(fails && reason.contains("signal 11"), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_network_plane_that_is_restarted_by_hand_is_alone_with_its_sockets() {
    for obeys in [true, false] {
        let mut world = streaming();
        let old = plane(&world, PlaneKind::Net);
        world.feed(Event::Restart { kind: PlaneKind::Net, session: None });
        assert_eq!(world.machine.net().current, None, "the one before still says goodbye");
        let then = world.now;
        if obeys {
            world.deliver_all();
        } else {
            while world.machine.net().current.is_none() {
                world.now = world.machine.deadline().expect("it is killed in the end");
                world.feed(Event::Tick);
            }
        }
        let heir = world.machine.net().current.expect("there is a next one");
        assert!(heir != old && world.now <= then + STOP_WITHIN && obeys == (world.now == then));
        world.deliver_all();
        world.return_of(FRIEND);
        world.deliver_all();
        assert_eq!((state(&world), world.returns.count), (whole(2), 1));
    }
}

#[test]
fn a_person_ends_a_session_that_waits() {
    for revoked in [false, true] {
        let mut world = streaming();
        world.lose_net();
        let id = world.machine.sessions().next().unwrap().id;
        world.feed(match revoked {
            true => Event::Permit { client: FRIEND, standing: None },
            false => Event::Stop(id),
        });
        assert_eq!(world.machine.sessions().count(), 0);
        world.return_of(FRIEND);
        world.deliver_all();
        assert_eq!(world.machine.sessions().count(), usize::from(!revoked), "a new one, if it still may");
        assert_eq!(world.returns.count, 0);
    }
}

#[test]
fn a_thousand_returns_leave_nothing_behind() {
    let mut world = streaming();
    let before = planes(&world);
    for round in 2..=1001 {
        // Not more often than the host takes it.
        wait(&mut world, 1);
        world.return_of(FRIEND);
        world.deliver_all();
        assert_eq!(state(&world), whole(round));
    }
    assert_eq!((planes(&world), world.planes.len()), (before, 5));
}
