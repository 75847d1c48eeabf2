//! What befalls GameStream clients, told as stories.

use ipc::{EndCode, Face, Generation, PlaneKind};
use lumen_core::audio::PacketTime;

use super::guests::{DESKTOP, GAME, GUEST, LOOKER, TUNING};
use super::world::{FRIEND, MAX_SESSIONS, World};
use super::{plane, wait};
use crate::machine::policy::{SECOND, STOP_APP_WITHIN, TUNE_WITHIN};
use crate::machine::{Action, Demand, Event, Exit, RunStage, Wiring};

/// A client that has launched the game and streams.
fn playing() -> World {
    let mut world = World::new();
    world.calm();
    launch(&mut world);
    world.calm();
    let session = world.machine.sessions().next().unwrap();
    assert_eq!((session.face, session.wiring, session.generation), (Face::GameStream, Wiring::Whole, Generation(1)));
    assert_eq!((world.guests.running(GUEST), world.guests.processes()), (Some(GAME), 1));
    world
}

fn launch(world: &mut World) {
    world.ask_for(GUEST, 1280, Face::GameStream, Some(GAME));
}

/// Everything that is owed, but no client says more.
fn deliver_all_but_tunes(world: &mut World) {
    while let Some(at) = world.owed.iter().position(|event| !matches!(event, Event::Tune { .. })) {
        let event = world.owed.remove(at);
        world.deliver(event);
    }
}

fn gone(world: &mut World) {
    let (plane, session) = (world.net().unwrap(), world.machine.sessions().next().unwrap().id);
    world.feed(Event::Gone { plane, session, ask: None, reason: "silence".into() });
    world.calm();
    assert_eq!(world.machine.sessions().count(), 0);
}

#[test]
fn a_launch_is_accepted_when_all_is_there_and_wired_when_its_client_has_said_what_it_wants() {
    let mut world = World::new();
    world.calm();
    launch(&mut world);
    deliver_all_but_tunes(&mut world);
    let session = world.machine.sessions().next().unwrap();
    assert!(matches!(session.wiring, Wiring::Opened(_)) && session.ask.is_none() && session.picture.is_none());
    assert!(world.open_asks.is_empty() && world.branches.known.is_empty());
    world.calm();
    let session = world.machine.sessions().next().unwrap();
    let picture = session.picture.unwrap();
    assert_eq!(session.wiring, Wiring::Whole);
    assert_eq!((picture.bitrate_kbps, picture.colour), (TUNING.bitrate_kbps, Some(TUNING.colour)));
    assert_eq!(picture.frame_bytes, Some(TUNING.frame_bytes));
    let sound = Demand::Sound { layout: TUNING.audio, packet: PacketTime::Ten, own_sink: true };
    assert_eq!(session.audio.as_ref().unwrap().demand, sound);
}

#[test]
fn a_client_that_says_no_more_after_its_launch_is_waited_for_half_a_minute() {
    let mut world = World::new();
    world.calm();
    launch(&mut world);
    deliver_all_but_tunes(&mut world);
    wait(&mut world, TUNE_WITHIN / SECOND - 1);
    assert_eq!(world.machine.sessions().count(), 1);
    wait(&mut world, 5);
    assert_eq!(world.machine.sessions().count(), 0);
    assert_eq!(world.guests.running(GUEST), Some(GAME), "it may come back to what it has launched");
}

#[test]
fn a_client_comes_back_to_what_it_runs() {
    let mut world = playing();
    gone(&mut world);
    assert_eq!((world.guests.running(GUEST), world.guests.processes()), (Some(GAME), 1));
    launch(&mut world);
    world.calm();
    assert_eq!((world.machine.sessions().count(), world.guests.processes()), (1, 1), "nothing is started twice");
    assert_eq!(world.machine.sessions().next().unwrap().wiring, Wiring::Whole);
}

#[test]
fn who_comes_back_without_a_mode_gets_the_one_it_had() {
    let mut world = World::new();
    world.calm();
    world.ask_in(GUEST, None, Face::GameStream, Some(GAME));
    assert_eq!(world.machine.sessions().count(), 0, "there is none that it could have");
    let mut world = playing();
    gone(&mut world);
    world.ask_in(GUEST, None, Face::GameStream, Some(GAME));
    world.calm();
    let mode = world.machine.sessions().next().unwrap().mode;
    assert_eq!((mode.width(), mode.height(), mode.refresh_mhz()), (1280, 720, 60_000));
    gone(&mut world);
    world.ask_for(GUEST, 800, Face::GameStream, Some(GAME));
    world.calm();
    gone(&mut world);
    world.ask_in(GUEST, None, Face::GameStream, Some(GAME));
    assert_eq!(world.machine.sessions().next().unwrap().mode.width(), 800, "as it was last");
}

#[test]
fn a_person_stops_what_a_client_has_left_and_what_it_looks_at() {
    for left in [true, false] {
        let mut world = playing();
        if left {
            gone(&mut world);
        }
        let run = world.machine.runs().next().unwrap().id;
        world.feed(Event::StopRun(run));
        assert_eq!((world.machine.sessions().count(), world.guests.running(GUEST)), (0, None));
        world.calm();
        assert_eq!((world.guests.processes(), world.machine.runs().count()), (0, 0));
        world.feed(Event::StopRun(run));
    }
}

#[test]
fn another_app_is_refused_and_the_stream_goes_on_and_another_than_the_bare_desktop_takes_its_place() {
    let mut world = playing();
    world.ask_for(GUEST, 1280, Face::GameStream, Some(DESKTOP));
    let wiring = world.machine.sessions().next().unwrap().wiring;
    assert_eq!((wiring, world.open_asks.len()), (Wiring::Whole, 0), "refused");
    let plane = world.net().unwrap();
    world.feed(Event::Quit { plane, client: GUEST });
    world.ask_for(GUEST, 1280, Face::GameStream, Some(DESKTOP));
    world.calm();
    let before = world.machine.sessions().next().unwrap().id;
    // As many as there may be, and one of them makes way.
    (1..MAX_SESSIONS).for_each(|_| world.ask(FRIEND, 1280));
    assert_eq!(world.machine.sessions().count(), MAX_SESSIONS);
    launch(&mut world);
    world.calm();
    assert_eq!((world.guests.running(GUEST), world.guests.processes()), (Some(GAME), 1));
    assert!(world.machine.session(before).is_none());
}

#[test]
fn one_thing_runs_for_a_client_and_the_bare_desktop_gives_way() {
    let mut world = playing();
    gone(&mut world);
    world.ask_for(GUEST, 1280, Face::GameStream, Some(DESKTOP));
    assert_eq!(world.machine.sessions().count(), 0, "the game would have to be quit first");
    let plane = world.net().unwrap();
    world.feed(Event::Quit { plane, client: GUEST });
    world.ask_for(GUEST, 1280, Face::GameStream, Some(DESKTOP));
    world.calm();
    assert_eq!((world.guests.running(GUEST), world.guests.processes()), (Some(DESKTOP), 0));
    gone(&mut world);
    launch(&mut world);
    world.calm();
    assert_eq!((world.guests.running(GUEST), world.guests.processes()), (Some(GAME), 1));
}

#[test]
fn quitting_is_at_once_and_the_next_app_waits_for_the_last_ones_end() {
    let mut world = playing();
    let plane = world.net().unwrap();
    world.feed(Event::Quit { plane, client: GUEST });
    assert_eq!((world.machine.sessions().count(), world.guests.running(GUEST)), (0, None));
    // It takes its time to end.
    let ended = world.owed.iter().position(|event| matches!(event, Event::AppEnded { .. })).unwrap();
    let ended = world.owed.remove(ended);
    launch(&mut world);
    deliver_all_but_tunes(&mut world);
    wait(&mut world, 20);
    assert_eq!(
        (world.machine.sessions().count(), world.guests.processes()),
        (1, 1),
        "it waits, without losing patience"
    );
    world.deliver(ended);
    world.calm();
    assert_eq!(world.machine.sessions().next().unwrap().wiring, Wiring::Whole);
    assert_eq!(world.guests.processes(), 1);
}

#[test]
fn an_app_that_does_not_end_does_not_keep_its_client_out_for_ever() {
    let mut world = playing();
    let plane = world.net().unwrap();
    world.feed(Event::Quit { plane, client: GUEST });
    world.owed.retain(|event| !matches!(event, Event::AppEnded { .. }));
    launch(&mut world);
    deliver_all_but_tunes(&mut world);
    wait(&mut world, STOP_APP_WITHIN / SECOND + 1);
    world.calm();
    assert_eq!(world.machine.sessions().next().unwrap().wiring, Wiring::Whole);
}

#[test]
fn an_apps_end_is_its_sessions() {
    let mut world = playing();
    let (run, session) = world.machine.sessions().map(|s| (s.run.unwrap(), s.id)).next().unwrap();
    let out = world.machine.step(world.now, Event::AppEnded { run, reason: "exit status 0".into() });
    let told = |action: &Action| {
        matches!(action, Action::End { session: s, code: EndCode::AppEnded, reason, .. }
            if *s == session && reason.contains("exit status 0"))
    };
    assert!(out.iter().any(told), "{out:?}");
    assert!(out.iter().any(|action| matches!(action, Action::Running { client: GUEST, app: None, .. })), "{out:?}");
    assert_eq!((world.machine.sessions().count(), world.machine.runs().count()), (0, 0));
}

#[test]
fn an_app_that_cannot_be_started_refuses_its_launch() {
    let mut world = World::new();
    world.calm();
    launch(&mut world);
    while world.guests.processes() == 0 {
        let event = world.owed.remove(0);
        world.deliver(event);
    }
    let run = world.machine.runs().next().unwrap().id;
    let out = world.machine.step(world.now, Event::AppEnded { run, reason: "no such file".into() });
    assert!(
        out.iter().any(|action| matches!(action, Action::Refuse { reason, .. } if reason.contains("no such file")))
    );
    assert!(!out.iter().any(|action| matches!(action, Action::Running { .. })), "its client has never had it");
    assert_eq!((world.machine.sessions().count(), world.machine.runs().count()), (0, 0));
}

#[test]
fn a_launch_that_comes_to_nothing_leaves_nothing_running() {
    let mut world = World::new();
    world.calm();
    launch(&mut world);
    while world.guests.processes() == 0 {
        let event = world.owed.remove(0);
        world.deliver(event);
    }
    let (plane, ask) = (world.net().unwrap(), *world.open_asks.first().unwrap());
    world.feed(Event::Withdrawn { plane, ask });
    world.calm();
    assert_eq!((world.guests.processes(), world.machine.runs().count()), (0, 0));
}

#[test]
fn a_fresh_network_plane_hears_what_clients_have() {
    let mut world = playing();
    let net = plane(&world, PlaneKind::Net);
    world.feed(Event::Exited { plane: net, exit: Exit::Crashed("signal 9".into()) });
    world.calm();
    assert_eq!(world.machine.sessions().count(), 0, "its clients come again");
    assert_eq!((world.guests.running(GUEST), world.guests.processes()), (Some(GAME), 1));
    launch(&mut world);
    world.calm();
    assert_eq!(world.machine.sessions().next().unwrap().wiring, Wiring::Whole);
}

#[test]
fn a_client_that_is_turned_away_leaves_nothing_behind() {
    let mut world = playing();
    world.feed(Event::Permit { client: GUEST, standing: None });
    assert_eq!((world.machine.sessions().count(), world.guests.running(GUEST)), (0, None));
    world.calm();
    assert_eq!((world.guests.processes(), world.machine.runs().count()), (0, 0));
}

#[test]
fn who_may_only_look_sees_the_desktop_and_starts_nothing() {
    let mut world = World::new();
    world.calm();
    world.ask_for(LOOKER, 1280, Face::GameStream, Some(GAME));
    assert_eq!(world.machine.sessions().count(), 0);
    world.ask_for(LOOKER, 1280, Face::GameStream, Some(DESKTOP));
    world.calm();
    assert_eq!(world.machine.sessions().next().unwrap().wiring, Wiring::Whole);
    assert_eq!(world.guests.processes(), 0);
}

#[test]
fn nobody_asks_in_the_others_protocol() {
    let mut world = World::new();
    world.calm();
    world.ask_for(FRIEND, 1280, Face::GameStream, Some(DESKTOP));
    world.ask(GUEST, 1280);
    assert_eq!((world.machine.sessions().count(), world.open_asks.len()), (0, 0), "both are refused");
}

#[test]
fn a_second_tune_is_no_honest_planes() {
    let mut world = playing();
    let (net, session) = (plane(&world, PlaneKind::Net), world.machine.sessions().next().unwrap().id);
    world.feed(Event::Tune { plane: net, session, tuning: TUNING });
    assert!(world.planes[&net].killed);
}

#[test]
fn a_killed_encoder_is_felt_as_by_anybody_else() {
    let mut world = playing();
    let encode = plane(&world, PlaneKind::Encode);
    world.feed(Event::Exited { plane: encode, exit: Exit::Crashed("signal 9".into()) });
    world.calm();
    let session = world.machine.sessions().next().unwrap();
    assert_eq!((session.wiring, session.generation), (Wiring::Whole, Generation(2)));
    assert_eq!(session.picture.unwrap().colour, Some(TUNING.colour), "tuned once for all generations");
    let run = world.machine.runs().next().unwrap();
    assert_eq!(run.stage, RunStage::Running);
}
