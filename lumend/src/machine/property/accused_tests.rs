//! Planes that say that a peer has broken the rules, rightly or not.

use ipc::PlaneKind::{self, Audio, Capture, Encode, Input, Net};

use super::world::{FRIEND, OTHER, World};
use super::{plane, streaming};
use crate::machine::policy::{ACCUSED_FOR, SECOND};
use crate::machine::{Event, Exit, PlaneId, Wiring};

/// Of the session that began as the `nth`.
fn planes(world: &World, nth: usize) -> [Option<PlaneId>; 5] {
    let machine = &world.machine;
    let session = machine.sessions().nth(nth).unwrap();
    let of = |kind| session.slot(kind).and_then(|slot| slot.current);
    [of(Capture), of(Encode), of(Audio), of(Input), machine.net().current]
}

fn accuse(world: &mut World, nth: usize, by: PlaneKind, peer: PlaneKind) {
    let accuser = world.machine.sessions().nth(nth).unwrap().slot(by).unwrap().current.unwrap();
    world.feed(Event::Exited { plane: accuser, exit: Exit::Accuses { peer, reason: "it lies".into() } });
    world.deliver_all();
}

fn two() -> World {
    let mut world = streaming();
    world.ask(OTHER, 1280);
    world.calm();
    assert_eq!(world.machine.sessions().count(), 2);
    world
}

#[test]
fn both_ends_of_a_broken_mailbox_are_replaced_and_nobody_else() {
    for (by, peer) in [(Encode, Capture), (Capture, Encode)] {
        let mut world = two();
        let before = [planes(&world, 0), planes(&world, 1)];
        accuse(&mut world, 0, by, peer);
        let [after, others] = [planes(&world, 0), planes(&world, 1)];
        assert!(after[0] != before[0][0] && after[1] != before[0][1], "{by}, {peer}");
        assert_eq!((&after[2..], others), (&before[0][2..], before[1]));
        assert!(world.machine.sessions().all(|session| session.wiring == Wiring::Whole));
    }
}

#[test]
fn net_is_replaced_at_once_where_nobody_else_pays_for_it() {
    for by in [Encode, Audio, Input] {
        let mut world = streaming();
        let net = plane(&world, Net);
        accuse(&mut world, 0, by, Net);
        assert_ne!(plane(&world, Net), net);
        world.return_of(FRIEND);
        world.deliver_all();
        assert_eq!(world.machine.sessions().next().unwrap().wiring, Wiring::Whole, "the session goes on");
        assert_eq!((world.machine.net().restarts, world.machine.net().reopens), (0, 1), "no crash");
    }
}

#[test]
fn of_several_sessions_two_must_accuse_net_within_a_minute() {
    let mut world = two();
    let net = plane(&world, Net);
    accuse(&mut world, 0, Encode, Net);
    accuse(&mut world, 0, Audio, Net);
    assert_eq!(plane(&world, Net), net, "one session's word");
    world.now += ACCUSED_FOR + SECOND;
    world.feed(Event::Tick);
    accuse(&mut world, 1, Input, Net);
    assert_eq!(plane(&world, Net), net, "the first has long said so");
    accuse(&mut world, 0, Input, Net);
    assert_ne!(plane(&world, Net), net);
    let heir = plane(&world, Net);
    [FRIEND, OTHER].into_iter().for_each(|client| world.return_of(client));
    world.deliver_all();
    assert!(world.machine.sessions().all(|session| session.wiring == Wiring::Whole));
    accuse(&mut world, 1, Encode, Net);
    assert_eq!(plane(&world, Net), heir, "what was said of the dead is forgotten");
}

#[test]
fn a_clients_two_sessions_are_one_word() {
    let mut world = two();
    world.ask(FRIEND, 640);
    world.calm();
    let client = |nth| world.machine.sessions().nth(nth).unwrap().client;
    assert_eq!([client(0), client(1), client(2)], [FRIEND, OTHER, FRIEND]);
    let net = plane(&world, Net);
    accuse(&mut world, 0, Encode, Net);
    accuse(&mut world, 2, Encode, Net);
    assert_eq!(plane(&world, Net), net, "both are the same client's");
    accuse(&mut world, 1, Encode, Net);
    assert_ne!(plane(&world, Net), net);
}

#[test]
fn a_word_is_about_the_network_plane_that_it_was_said_of() {
    let mut world = two();
    let net = plane(&world, Net);
    accuse(&mut world, 0, Encode, Net);
    world.feed(Event::Exited { plane: net, exit: Exit::Crashed("signal 9".into()) });
    world.deliver_all();
    [FRIEND, OTHER].into_iter().for_each(|client| world.return_of(client));
    world.deliver_all();
    let heir = plane(&world, Net);
    assert_ne!(heir, net);
    accuse(&mut world, 1, Encode, Net);
    assert_eq!(plane(&world, Net), heir, "nobody has said anything of this one before");
}

#[test]
fn whoever_shares_no_memory_with_the_accused_is_not_believed() {
    for (by, peer) in [(Audio, Capture), (Input, Encode), (Encode, Input), (Capture, Net), (Audio, Audio)] {
        let mut world = streaming();
        let mut before = planes(&world, 0);
        accuse(&mut world, 0, by, peer);
        let after = planes(&world, 0);
        let at = [Capture, Encode, Audio, Input].iter().position(|kind| *kind == by).unwrap();
        assert_ne!(after[at], before[at]);
        before[at] = after[at];
        assert_eq!(after, before, "{by}, {peer}");
    }
}

#[test]
fn a_mailbox_that_nobody_shares_any_more_is_nobodys_fault() {
    let mut world = streaming();
    let [Some(capture), Some(encode), ..] = planes(&world, 0) else { panic!("no planes") };
    world.feed(Event::Exited { plane: capture, exit: Exit::Crashed("signal 9".into()) });
    // It has met what the dead one left half written; the heir has written nothing yet.
    world.feed(Event::Exited { plane: encode, exit: Exit::Accuses { peer: Capture, reason: "torn".into() } });
    world.calm();
    let session = world.machine.sessions().next().unwrap();
    assert_eq!((session.capture.restarts, session.encode.restarts), (1, 1));
}
