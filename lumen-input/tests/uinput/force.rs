//! Force feedback: what a game plays is told to the client.

use std::fs;
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use evdev::{EventType, FFEffectCode, FFEffectKind, FFEnvelope, FFWaveform, InputEvent};
use lumen_core::Permissions;
use lumen_core::input::{PadState, Rumble};

use crate::reader::{Reader, effect, rumble};
use crate::rig::{Rig, index, next_rumble};

fn told(low: u16, high: u16) -> Rumble {
    Rumble { pad: index(2), low, high }
}

fn rig(session: u32) -> (Rig, Reader) {
    let mut rig = Rig::start(session, false, Permissions::ALL);
    let reader = Reader::open(&rig.plug(2));
    (rig, reader)
}

const PLAIN: FFEnvelope = FFEnvelope { attack_length: 0, attack_level: 0, fade_length: 0, fade_level: 0 };

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn rumble_is_told_again_and_stops_when_stopped_or_erased() {
    let (mut rig, mut reader) = rig(30);
    assert_eq!(reader.device.max_ff_effects(), 16);
    let mut effect = reader.device.upload_ff_effect(rumble(0xC000, 0x4000, 0)).unwrap();
    effect.play(1).unwrap();
    let times: Vec<u64> = (0..3)
        .map(|_| {
            let (rumble, at_ns) = rig.rumble();
            assert_eq!(rumble, told(0xC000, 0x4000));
            at_ns
        })
        .collect();
    for pair in times.windows(2) {
        let apart = Duration::from_nanos(pair[1] - pair[0]);
        assert!((Duration::from_millis(500)..Duration::from_millis(750)).contains(&apart), "{apart:?}");
    }
    effect.stop().unwrap();
    rig.rumble_is(told(0, 0));
    effect.play(1).unwrap();
    rig.rumble_is(told(0xC000, 0x4000));
    // Changed while it plays.
    effect.update(rumble(1, 2, 0)).unwrap();
    rig.rumble_is(told(1, 2));
    drop(effect);
    rig.rumble_is(told(0, 0));
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn all_kinds_of_effect_add_up_under_the_gain_and_end_by_themselves() {
    let (mut rig, mut reader) = rig(31);
    let kinds = reader.device.supported_ff().unwrap();
    let expected =
        [FFEffectCode::FF_RUMBLE, FFEffectCode::FF_PERIODIC, FFEffectCode::FF_CONSTANT, FFEffectCode::FF_GAIN];
    assert!(expected.into_iter().all(|kind| kinds.contains(kind)));
    let sine = FFEffectKind::Periodic {
        waveform: FFWaveform::Sine,
        period: 20,
        magnitude: -0x2000,
        offset: 0,
        phase: 0,
        envelope: PLAIN,
    };
    let mut sine = reader.device.upload_ff_effect(effect(sine, 0)).unwrap();
    let constant = FFEffectKind::Constant { level: 0x4000, envelope: PLAIN };
    let mut constant = reader.device.upload_ff_effect(effect(constant, 0)).unwrap();
    let mut short = reader.device.upload_ff_effect(rumble(0, 0x1000, 300)).unwrap();
    sine.play(1).unwrap();
    // 0x2000 of 0x7FFF, in 0xFFFFs.
    rig.rumble_is(told(0x4000, 0x4000));
    constant.play(1).unwrap();
    rig.rumble_is(told(0xC000, 0x4000));
    short.play(2).unwrap();
    rig.rumble_is(told(0xC000, 0x5000));
    rig.rumble_is(told(0xC000, 0x4000));
    reader.device.set_ff_gain(0x8000).unwrap();
    rig.rumble_is(told(0x6000, 0x2000));
    reader.device.set_ff_gain(0).unwrap();
    rig.rumble_is(told(0, 0));
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn a_game_that_closes_the_pad_leaves_no_motor_running() {
    let mut rig = Rig::start(32, false, Permissions::ALL);
    let node = rig.plug(2);
    let mut reader = Reader::open(&node);
    let mut effect = reader.device.upload_ff_effect(rumble(7, 8, 0)).unwrap();
    effect.play(1).unwrap();
    rig.rumble_is(told(7, 8));
    // As if killed: nothing is erased by the game itself, its descriptors are closed.
    std::mem::forget(effect);
    drop(reader);
    close_all(&node);
    rig.rumble_is(told(0, 0));
}

/// Closes every descriptor of this process that is open on a node.
fn close_all(node: &Path) {
    let open = fs::read_dir("/proc/self/fd").unwrap().map(|entry| entry.unwrap().path());
    for fd in open.filter(|path| fs::read_link(path).is_ok_and(|target| target == node)).collect::<Vec<_>>() {
        let fd: RawFd = fd.file_name().unwrap().to_str().unwrap().parse().unwrap();
        nix::unistd::close(fd).unwrap();
    }
}

/// A game starts and stops an effect as fast as the kernel lets it.
#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn a_game_that_plays_without_pause_keeps_nobody_from_the_pad() {
    let (mut rig, mut reader) = rig(35);
    let effect = reader.device.upload_ff_effect(rumble(7, 8, 0)).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let game = scope.spawn(|| {
            let events = [1, 0].map(|count| InputEvent::new(EventType::FORCEFEEDBACK.0, effect.id(), count));
            let burst = events.repeat(32);
            while !over.load(Ordering::Relaxed) {
                reader.device.send_events(&burst).unwrap();
            }
        });
        for count in 1..=3 {
            let before = rig.stats.events;
            rig.state(2, PadState { left_trigger: count, ..PadState::default() });
            rig.wait("the pad moves", |rig| (rig.stats.events > before).then_some(()));
        }
        over.store(true, Ordering::Relaxed);
        game.join().unwrap();
    });
    drop(effect);
    rig.rumble_is(told(0, 0));
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn the_end_of_a_session_stops_every_motor() {
    let (mut rig, mut reader) = rig(33);
    let mut effect = reader.device.upload_ff_effect(rumble(7, 8, 0)).unwrap();
    effect.play(1).unwrap();
    rig.rumble_is(told(7, 8));
    rig.retire();
    rig.rumble_is(told(0, 0));
    std::mem::forget(effect);

    let (mut rig, mut reader) = self::rig(34);
    let mut effect = reader.device.upload_ff_effect(rumble(7, 8, 0)).unwrap();
    effect.play(1).unwrap();
    rig.rumble_is(told(7, 8));
    let (mut haptics, code) = rig.close();
    let last = std::iter::from_fn(|| next_rumble(&mut haptics)).last();
    assert_eq!((last.map(|(rumble, _)| rumble), code), (Some(told(0, 0)), 0));
    std::mem::forget(effect);
}
