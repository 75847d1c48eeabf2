//! What a client's hands do, as the input plane has it: out of a ring that net writes, and out of memory in which a plane
//! before it has left what is held.

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use ipc::STATE_BYTES;
use ipc::shm::{Mapping, sealed_memfd};
use lumen_core::input::{MAX_PADS, PadIndex};
use lumen_core::{InputEvent, Permissions};
use lumen_input::haptics::Effects;
use lumen_input::keymap::text::{MAX_BYTES, TextMap};
use lumen_input::route::{Route, Verdict};
use lumen_input::state::{HeldState, MAGIC, PadsState};

use crate::script::Script;

/// Of the kept memory: where pads begin.
const PADS: usize = 4096;
const PAD_BYTES: usize = 2048;

/// What is pressed.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Down {
    Key(u16),
    Button(u8),
    Contact(u8),
}

/// The payloads of the input ring, and what comes of them: presses and releases in pairs, whatever is said, and text that
/// a keymap can have.
pub fn input_ring(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let setup = script.u8();
    let mut route = Route::new(permissions(setup), setup & 8 != 0);
    let (mut text, mut steps, mut down) = (TextMap::default(), Vec::new(), BTreeSet::new());
    while let Some(step) = script.step() {
        match step {
            0xF0.. => route.permit(permissions(step), &mut steps),
            0xE0.. => route.let_go(&mut steps),
            length => {
                let Some(event) = InputEvent::decode(script.bytes(length.into())) else { continue };
                if route.event(&event, &mut steps) == Verdict::Forbidden {
                    assert!(steps.is_empty());
                }
                if let InputEvent::Text(said) = &event {
                    typed(&mut text, said.as_str());
                }
            }
        }
        steps.drain(..).for_each(|step| follow(&step, &mut down));
    }
    route.let_go(&mut steps);
    steps.iter().for_each(|step| follow(step, &mut down));
    assert!(down.is_empty(), "stays pressed: {down:?}");
}

fn permissions(bits: u8) -> Permissions {
    Permissions::from_bits(bits % 8).unwrap_or(Permissions::NONE)
}

fn typed(map: &mut TextMap, mut text: &str) {
    while !text.is_empty() {
        let run = map.next(text);
        assert!(run.bytes > 0, "text that never ends");
        assert!(map.keymap().len() <= MAX_BYTES);
        text = &text[run.bytes..];
    }
}

fn follow(event: &InputEvent, down: &mut BTreeSet<Down>) {
    use lumen_core::input::TouchPhase::{Cancel, Down as Begins, Up};
    let (what, pressed) = match *event {
        InputEvent::Key { code, pressed } => (Down::Key(code.get()), pressed),
        InputEvent::Button { button, pressed } => (Down::Button(button as u8), pressed),
        InputEvent::Touch { contact, phase: Begins, .. } => (Down::Contact(contact), true),
        InputEvent::Touch { contact, phase: Up | Cancel, .. } => (Down::Contact(contact), false),
        _ => return,
    };
    let told = format!("{what:?}");
    let new = if pressed { down.insert(what) } else { down.remove(&what) };
    assert!(new, "{told} is {} twice", if pressed { "pressed" } else { "lifted" });
}

/// Memory that a plane in bad hands has left, and goes on writing: what is noted in it can be lifted, and is lifted then.
pub fn kept_state(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let memory = sealed_memfd("fuzz", STATE_BYTES).expect("there is memory");
    let mut theirs = Mapping::read_write(memory.as_fd(), STATE_BYTES).expect("it can be mapped");
    if script.u8() != 0 {
        write(&mut theirs, 0, &MAGIC.to_le_bytes());
    }
    while let Some(step @ 1..) = script.step() {
        let at = match step % 4 {
            0 => usize::from(script.u8()),
            1 => PADS + usize::from(step >> 4) * PAD_BYTES + usize::from(script.u8()),
            // An effect's record.
            2 => PADS + usize::from(step >> 4) * PAD_BYTES + 64 + usize::from(script.u8()) % 16 * 64,
            _ => script.u16().into(),
        };
        write(&mut theirs, at, script.piece());
    }
    let mut held = HeldState::attach(memory.as_fd()).expect("memory of this size");
    let mut pads = PadsState::attach(memory.as_fd()).expect("memory of this size");
    let mut now_ns = script.u64() >> 2;
    let all = || (0..MAX_PADS).filter_map(PadIndex::new);
    for pad in all() {
        let left = pads.held(pad);
        pads.hold(pad, &left);
        assert_eq!(pads.held(pad), left, "an heir leaves another state");
    }
    let mut effects: Vec<_> = all().map(|pad| Effects::inherited(pad, &pads, now_ns)).collect();
    while let Some(step) = script.step() {
        match step % 4 {
            0 => write(&mut theirs, script.u16().into(), script.piece()),
            1 => held.take(script.u32()),
            2 => {
                let Some(event) = InputEvent::decode(script.piece()) else { continue };
                held.before(&event);
                held.after(&event);
                if let InputEvent::PadState { pad, state } = event {
                    let others = |pads: &PadsState| {
                        all().filter(|&other| other != pad).map(|p| pads.held(p)).collect::<Vec<_>>()
                    };
                    let before = others(&pads);
                    pads.hold(pad, &state);
                    assert_eq!((pads.held(pad), others(&pads)), (state, before), "not what was noted");
                }
            }
            _ => {
                now_ns += u64::from(script.u32()) << (step >> 4);
                let effects = &mut effects[usize::from(script.u8()) % usize::from(MAX_PADS)];
                let (index, count) = (usize::from(script.u8()), script.u32().cast_signed());
                match step >> 2 & 3 {
                    0 => effects.erase(index, &mut pads, now_ns),
                    1 => effects.play(index, count, &mut pads, now_ns),
                    2 => effects.gain(count, &mut pads, now_ns),
                    _ => {}
                }
                effects.tell(now_ns);
                assert!(effects.deadline().is_none_or(|at| at > now_ns), "never rests");
            }
        }
    }
    for event in held.lift() {
        held.after(&event);
    }
    assert_eq!(held.lift(), [], "what is lifted stays pressed");
}

fn write(theirs: &mut Mapping, at: usize, bytes: &[u8]) {
    if let Some(place) = theirs.as_mut_slice().and_then(|all| all.get_mut(at..at + bytes.len())) {
        place.copy_from_slice(bytes);
    }
}
