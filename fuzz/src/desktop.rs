//! What programs on the desktop reach: the force feedback of a pad, and the sound server's cycles.

use std::os::fd::AsFd;

use ipc::STATE_BYTES;
use ipc::shm::sealed_memfd;
use lumen_core::audio::PacketTime;
use lumen_core::input::PadIndex;
use lumen_input::haptics::Effects;
use lumen_input::state::PadsState;
use nix::libc;

use crate::script::Script;
use crate::slots::Slots;

const MS: u64 = 1_000_000;
/// More than one cycle of stereo has, and than is held of eight channels.
static SAMPLES: [f32; 140_000] = [0.5; 140_000];

/// A game's effects: motors that change no faster than they may, and an heir that has what its predecessor had.
pub fn effects(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let memory = sealed_memfd("fuzz", STATE_BYTES).expect("there is memory");
    let mut state = PadsState::attach(memory.as_fd()).expect("memory of this size");
    let pad = PadIndex::new(0).expect("the first");
    let (mut effects, mut now_ns) = (Effects::fresh(pad, &mut state), 1 << 40);
    let (mut told, begin_ns) = (0, now_ns);
    while let Some(step) = script.step() {
        match step % 8 {
            0..=2 => {
                effects.upload(&effect(&mut script), &mut state, now_ns);
            }
            3 => effects.erase((step >> 3).into(), &mut state, now_ns),
            4 => effects.play((step >> 3).into(), script.u32().cast_signed(), &mut state, now_ns),
            5 => effects.play((step >> 3).into(), 1, &mut state, now_ns),
            6 => effects.gain(script.u32().cast_signed(), &mut state, now_ns),
            _ => now_ns += u64::from(script.u8()) << (step >> 3),
        }
        told += u64::from(effects.tell(now_ns).is_some());
        assert!(effects.deadline().is_none_or(|at| at > now_ns), "never rests");
        assert!(told <= (now_ns - begin_ns) / (5 * MS) + 1, "told {told} times in {} ns", now_ns - begin_ns);
    }
    let mut heir = Effects::inherited(pad, &state, now_ns);
    heir.tell(now_ns);
    assert!(heir.deadline().is_none_or(|at| at > now_ns), "its heir never rests");
}

fn effect(script: &mut Script<'_>) -> libc::ff_effect {
    libc::ff_effect {
        type_: 0x50 + u16::from(script.u8() % 4),
        id: i16::from(script.u8().cast_signed()),
        direction: 0,
        trigger: libc::ff_trigger { button: 0, interval: 0 },
        replay: libc::ff_replay { length: script.u16(), delay: script.u16() },
        u: [script.u64(), script.u64(), script.u64(), 0],
    }
}

/// Cycles of any length, at any time that their memory says; packets come in order, and at their pace.
pub fn cycles(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let setup = script.u8();
    let channels = [2, 6, 8][usize::from(setup) % 3];
    let packet = if setup & 0x80 == 0 { PacketTime::Five } else { PacketTime::Ten };
    let mut now_ns = 1 << 40;
    let mut slots = Slots::new(channels, packet, now_ns);
    let mut out = vec![0.0; packet.samples() * channels];
    let mut last_ns = 0;
    while let Some(step) = script.step() {
        now_ns += u64::from(step >> 2) * MS / 2;
        match step % 4 {
            0 | 1 => {
                let cycle_ns = script.near(now_ns);
                let length = usize::from(script.u16()) * 2;
                // Half of them as they should be: a quantum, lately begun.
                let (cycle_ns, length) =
                    if step % 4 == 0 { (now_ns - MS, 256 * channels) } else { (cycle_ns, length % SAMPLES.len()) };
                slots.push(cycle_ns, now_ns, &SAMPLES[..length]);
            }
            2 => now_ns += u64::from(script.u16()) << (step >> 4),
            _ => {}
        }
        let mut taken = 0;
        while let Some(slot) = slots.take(now_ns, &mut out) {
            assert!(slot.pts_ns > last_ns, "goes back");
            last_ns = slot.pts_ns;
            taken += 1;
            assert!(taken < 100, "more than can be due");
        }
        assert!(slots.due() > now_ns, "never rests");
    }
}
