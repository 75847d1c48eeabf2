//! kill -9, and what a game and a desktop notice of it.

use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use evdev::FFEffect;
use ipc::DeviceId;
use lumen_core::input::{Button, PadButtons, PadState, Rumble, TouchPhase};
use lumen_core::{InputEvent, Permissions};
use lumen_input::state::PadsState;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::hands::key;
use crate::pads::change;
use crate::reader::{Reader, rumble};
use crate::rig::{PATIENCE, Rig, index};

/// What a game may wait for an answer to its effect, whatever happens to the plane.
const ANSWER: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn devices_stay_and_everything_held_stays_held() {
    let mut rig = Rig::start(40, true, Permissions::ALL);
    let nodes = ["keyboard", "mouse", "touch"].map(|place| rig.node(place));
    let [mut keyboard, mut mouse, mut screen] = [0, 1, 2].map(|index| Reader::open(&nodes[index]));
    let pad_node = rig.plug(0);
    let mut pad = Reader::open(&pad_node);
    let held = PadState {
        buttons: PadButtons::new(PadButtons::A),
        left_stick: (500, 0),
        right_trigger: u8::MAX,
        ..PadState::default()
    };
    rig.send(key(29, true));
    rig.send(InputEvent::Button { button: Button::Right, pressed: true });
    rig.send(InputEvent::Touch { contact: 4, phase: TouchPhase::Down, x: 5, y: 6, pressure: 7 });
    rig.state(0, held);
    assert_eq!(keyboard.report(), [(1, 29, 1)]);
    assert_eq!(mouse.report(), [(1, 0x111, 1)]);
    screen.report();
    assert_eq!(pad.report(), change(&PadState::default(), &held));
    let wanted = rig.wants.clone();

    rig.replace();
    rig.wait("the heir is wired", |rig| rig.wired);
    // Nothing was made anew: the same nodes, and readers that had them open still hear.
    assert_eq!((&rig.wants, rig.drops.len()), (&wanted, 0));
    assert_eq!(["keyboard", "mouse", "touch"].map(|place| rig.node(place)), nodes);
    assert_eq!(rig.node("pad-0"), pad_node);
    rig.send(key(30, true));
    let still = PadState { left_trigger: 1, ..held };
    rig.state(0, still);
    assert_eq!(keyboard.report(), [(1, 30, 1)], "and no release of the other");
    assert_eq!(pad.report(), change(&held, &still), "what was held was not let go");
    // What is released is what the plane before had pressed.
    rig.send(key(29, false));
    rig.send(InputEvent::Button { button: Button::Right, pressed: false });
    rig.send(InputEvent::Touch { contact: 4, phase: TouchPhase::Up, x: 5, y: 6, pressure: 0 });
    assert_eq!(keyboard.report(), [(1, 29, 0)]);
    assert_eq!(mouse.report(), [(1, 0x111, 0)]);
    assert_eq!(screen.report(), [(3, 0x39, -1), (1, 0x14a, 0)]);
    // An heir's pads rest too when the client may not use them any more.
    rig.permit(Permissions::KEYBOARD);
    assert_eq!(pad.report(), change(&still, &PadState::default()));
    rig.wait("nothing was lifted", |rig| (rig.stats.healed == 0 && rig.stats.pads == 1).then_some(()));
}

/// What a pad was last told is its heir's to set: the plane that had noted it may not have come as far, and the client may
/// not be allowed to hold it any more.
#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn a_pad_is_as_it_was_left_and_rests_when_it_may_not_be_used() {
    let mut rig = Rig::start(45, false, Permissions::ALL);
    let node = rig.plug(2);
    let mut pad = Reader::open(&node);
    let [rest, held, newer] = [0, 200, 255].map(|left_trigger| PadState { left_trigger, ..PadState::default() });
    rig.state(2, held);
    assert_eq!(pad.report(), change(&rest, &held));
    for (noted, before) in [(newer, held), (rest, newer)] {
        rig.signal(Signal::SIGSTOP);
        PadsState::attach(rig.memory()).unwrap().hold(index(2), &noted);
        rig.replace();
        assert_eq!(pad.report(), change(&before, &noted));
    }
    rig.wait("the heir is wired", |rig| rig.wired);
    rig.state(2, held);
    assert_eq!(pad.report(), change(&rest, &held));
    rig.permissions = Permissions::POINTER;
    rig.replace();
    assert_eq!(pad.report(), change(&held, &rest));
    // Nor is it there again with the permission.
    rig.permissions = Permissions::ALL;
    rig.replace();
    rig.wait("the heir is wired", |rig| rig.wired);
    rig.state(2, newer);
    assert_eq!((pad.report(), rig.node("pad-2")), (change(&rest, &newer), node));
    // One that is unplugged takes its state along.
    rig.send(InputEvent::PadRemoved { pad: index(2) });
    rig.wait("it is given back", |rig| rig.drops.contains(&DeviceId::Pad(index(2))).then_some(()));
    let mut pad = Reader::open(&rig.plug(2));
    rig.replace();
    rig.wait("the heir is wired", |rig| rig.wired);
    rig.state(2, held);
    assert_eq!(pad.report(), change(&rest, &held));
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn effects_survive_and_go_on_playing() {
    let mut rig = Rig::start(41, false, Permissions::ALL);
    let mut reader = Reader::open(&rig.plug(1));
    let told = |low, high| Rumble { pad: index(1), low, high };
    let mut played = reader.device.upload_ff_effect(rumble(100, 200, 0)).unwrap();
    let mut stored = reader.device.upload_ff_effect(rumble(3, 4, 0)).unwrap();
    played.play(1).unwrap();
    rig.rumble_is(told(100, 200));
    for _ in 0..2 {
        rig.replace();
        rig.rumble_is(told(100, 200));
    }
    played.stop().unwrap();
    rig.rumble_is(told(0, 0));
    stored.play(1).unwrap();
    rig.rumble_is(told(3, 4));
}

/// Uploads while the plane hangs, kills it, and says how long after that the game waited. `taken`: the plane has read
/// the request, and died before it answered.
fn upload_across_a_kill(rig: &mut Rig, mut reader: Reader, taken: bool) -> (Reader, FFEffect, Duration) {
    rig.signal(Signal::SIGSTOP);
    let game = thread::spawn(move || {
        let effect = reader.device.upload_ff_effect(rumble(9, 9, 0)).unwrap();
        (reader, effect, Instant::now())
    });
    pending(rig, taken);
    assert!(!game.is_finished());
    let killed = Instant::now();
    rig.replace();
    rig.wait("the game goes on", |_| game.is_finished().then_some(()));
    let (reader, effect, answered) = game.join().unwrap();
    (reader, effect, answered - killed)
}

/// Waits until a request lies in the queue of the pad's owner, and takes it from there if it is to be lost.
fn pending(rig: &Rig, taken: bool) {
    let fd = rig.kept(DeviceId::Pad(index(0)));
    let mut ready = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut ready, PollTimeout::from(PATIENCE.as_millis() as u16)), Ok(1));
    if taken {
        assert_eq!(nix::unistd::read(fd, &mut [0; 24]), Ok(24));
    }
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn an_upload_that_waits_is_answered_by_the_heir() {
    for (session, taken) in [(42, false), (43, true)] {
        let mut rig = Rig::start(session, false, Permissions::ALL);
        let reader = Reader::open(&rig.plug(0));
        let (reader, mut effect, waited) = upload_across_a_kill(&mut rig, reader, taken);
        assert!(waited < ANSWER, "{waited:?}");
        println!("an upload across a kill took {waited:?}");
        effect.play(1).unwrap();
        rig.rumble_is(Rumble { pad: index(0), low: 9, high: 9 });
        drop(effect);
        drop(reader);
    }
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn an_erasure_that_waits_is_answered_by_the_heir() {
    let mut rig = Rig::start(44, false, Permissions::ALL);
    let mut reader = Reader::open(&rig.plug(0));
    let effect = reader.device.upload_ff_effect(rumble(5, 6, 0)).unwrap();
    rig.signal(Signal::SIGSTOP);
    let game = thread::spawn(move || {
        drop(effect);
        Instant::now()
    });
    // The kernel stops an effect before it has it erased: the first message is the stop.
    pending(&rig, true);
    pending(&rig, true);
    assert!(!game.is_finished());
    let killed = Instant::now();
    rig.replace();
    rig.wait("the game goes on", |_| game.is_finished().then_some(()));
    let waited = game.join().unwrap() - killed;
    assert!(waited < ANSWER, "{waited:?}");
}
