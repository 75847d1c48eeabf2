//! Gamepads: states read back, sixteen at once, and where they come and go.

use ipc::{DeviceId, HandsBackend, InputBackends, PadsBackend, TouchBackend};
use lumen_core::input::{PadButtons, PadKind, PadState};
use lumen_core::{InputEvent, Permissions};
use nix::errno::Errno;

use crate::reader::{self, Reader, Report};
use crate::rig::{Rig, index};

/// GameStream's bits and the kernel's buttons (input-event-codes.h), as the xpad driver orders them.
const BUTTONS: [(u32, u16); 11] = [
    (PadButtons::A, 0x130),
    (PadButtons::B, 0x131),
    (PadButtons::X, 0x133),
    (PadButtons::Y, 0x134),
    (PadButtons::LEFT_BUMPER, 0x136),
    (PadButtons::RIGHT_BUMPER, 0x137),
    (PadButtons::BACK, 0x13a),
    (PadButtons::START, 0x13b),
    (PadButtons::GUIDE, 0x13c),
    (PadButtons::LEFT_STICK, 0x13d),
    (PadButtons::RIGHT_STICK, 0x13e),
];

/// Everything that a reader can know of a state: (type, code) and value.
fn seen(state: &PadState) -> Vec<(u16, u16, i32)> {
    let has = |bit| i32::from(state.buttons.has(bit));
    let mut all: Vec<_> = BUTTONS.iter().map(|&(bit, code)| (1, code, has(bit))).collect();
    let up = |y: i16| if y == i16::MIN { 32767 } else { -i32::from(y) };
    all.extend([
        (3, 0, state.left_stick.0.into()),
        (3, 1, up(state.left_stick.1)),
        (3, 3, state.right_stick.0.into()),
        (3, 4, up(state.right_stick.1)),
        (3, 2, state.left_trigger.into()),
        (3, 5, state.right_trigger.into()),
        (3, 0x10, has(PadButtons::RIGHT) - has(PadButtons::LEFT)),
        (3, 0x11, has(PadButtons::DOWN) - has(PadButtons::UP)),
    ]);
    all
}

/// The report that takes a reader from one state to another.
pub fn change(from: &PadState, to: &PadState) -> Report {
    let from = seen(from);
    seen(to).into_iter().zip(from).filter(|(new, old)| new != old).map(|(new, _)| new).collect()
}

/// Numbers that look like chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn state(&mut self) -> PadState {
        let word = self.next();
        PadState {
            buttons: PadButtons::new(self.next()),
            left_trigger: word as u8,
            right_trigger: (word >> 8) as u8,
            left_stick: (self.next() as i16, self.next() as i16),
            right_stick: (self.next() as i16, self.next() as i16),
        }
    }
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn two_hundred_states_of_the_last_pad_are_read_back_exactly() {
    let mut rig = Rig::start(10, false, Permissions::ALL);
    let backends = InputBackends { hands: HandsBackend::None, touch: TouchBackend::None, pads: PadsBackend::Uinput };
    assert_eq!(rig.wired, Some(backends));
    let node = rig.plug(15);
    let mut reader = Reader::open(&node);
    let id = reader.device.input_id();
    assert_eq!((id.bus_type().0, id.vendor(), id.product()), (3, 0x045e, 0x028e));
    assert_eq!(reader.device.name(), Some("Microsoft X-Box 360 pad"));
    let mut chance = Chance(3);
    let corners = [i16::MIN, i16::MAX].map(|end| PadState {
        buttons: PadButtons::new(PadButtons::KNOWN),
        left_trigger: u8::MAX,
        right_trigger: 0,
        left_stick: (end, end),
        right_stick: (end, end),
    });
    let mut states: Vec<PadState> = corners.into_iter().chain((0..198).map(|_| chance.state())).collect();
    states.push(PadState::default());
    let mut last = PadState::default();
    // A reader's queue in the kernel is as long as a few reports: it must read along.
    for batch in states.chunks(4) {
        batch.iter().for_each(|state| rig.state(15, *state));
        for state in batch {
            let expected = change(&last, state);
            assert_eq!(reader.events(expected.len()), expected);
            last = *state;
        }
    }
    assert_eq!(states.len(), 201);
    assert!(reader.is_silent());
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn sixteen_pads_at_once_and_none_of_them_moves_another() {
    let mut rig = Rig::start(11, false, Permissions::GAMEPAD);
    let mut readers: Vec<Reader> = (0..16).map(|pad| Reader::open(&rig.plug(pad))).collect();
    let state = |pad: u8| PadState { left_trigger: pad + 1, ..PadState::default() };
    (0..16).for_each(|pad| rig.state(pad, state(pad)));
    for (pad, reader) in (0..16).zip(&mut readers) {
        assert_eq!(reader.report(), change(&PadState::default(), &state(pad)), "pad {pad}");
    }
    assert!(readers.iter_mut().all(Reader::is_silent));
    rig.wait("all pads are counted", |rig| (rig.stats.pads == 16).then_some(()));
    assert_eq!(rig.stats.events, 32);
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn a_removed_pad_is_gone_although_lumend_has_its_descriptor_and_may_come_back() {
    let mut rig = Rig::start(12, false, Permissions::ALL);
    let mut reader = Reader::open(&rig.plug(0));
    let other = rig.plug(1);
    let spare = rig.kept(DeviceId::Pad(index(0))).try_clone().unwrap();
    rig.send(InputEvent::PadRemoved { pad: index(0) });
    // At once again: the new device must not be the old one.
    rig.send(InputEvent::PadArrived { pad: index(0), kind: PadKind::Xbox });
    assert_eq!(reader.error().raw_os_error(), Some(Errno::ENODEV as i32));
    rig.wait("it is given back", |rig| rig.drops.contains(&DeviceId::Pad(index(0))).then_some(()));
    let node = rig.node("pad-0");
    assert_eq!(reader::find(&rig.phys("pad-1")), Some(other));
    drop(spare);
    let state = PadState { right_trigger: 9, ..PadState::default() };
    let mut reader = Reader::open(&node);
    rig.state(0, state);
    assert_eq!(reader.report(), change(&PadState::default(), &state));
    let pads = [0, 1, 0].map(|pad| DeviceId::Pad(index(pad)));
    assert_eq!((rig.wants.as_slice(), rig.drops.as_slice()), (&pads[..], &pads[..1]));
}

/// An heir may find the state of a pad whose arrival its predecessor took along.
#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn a_pad_that_sends_state_without_having_arrived_is_there() {
    let mut rig = Rig::start(16, false, Permissions::GAMEPAD);
    let state = |right_trigger| PadState { right_trigger, ..PadState::default() };
    rig.state(3, state(9));
    let mut reader = Reader::open(&rig.node("pad-3"));
    rig.state(3, state(0));
    let mut report = reader.report();
    // The node appears a moment before the first state does.
    if report == change(&state(0), &state(9)) {
        report = reader.report();
    }
    assert_eq!(report, change(&state(9), &state(0)));
    assert_eq!((rig.wants.as_slice(), rig.stats.unsupported), (&[DeviceId::Pad(index(3))][..], 0));
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn without_permission_there_is_no_pad_and_a_pad_that_loses_it_rests() {
    let mut rig = Rig::start(13, false, Permissions::POINTER);
    rig.send(InputEvent::PadArrived { pad: index(0), kind: PadKind::Xbox });
    rig.wait("it is forbidden", |rig| (rig.stats.forbidden == 1).then_some(()));
    assert_eq!((rig.wants.len(), reader::find(&rig.phys("pad-0"))), (0, None));
    rig.permit(Permissions::GAMEPAD);
    rig.wait("the permission has arrived", |rig| {
        rig.send(InputEvent::PadArrived { pad: index(0), kind: PadKind::Xbox });
        (!rig.wants.is_empty()).then_some(())
    });
    let mut reader = Reader::open(&rig.node("pad-0"));
    let state = PadState { buttons: PadButtons::new(PadButtons::A), ..PadState::default() };
    rig.state(0, state);
    assert_eq!(reader.report(), change(&PadState::default(), &state));
    rig.permit(Permissions::NONE);
    assert_eq!(reader.report(), change(&state, &PadState::default()));
    rig.state(0, state);
    rig.wait("it is forbidden", |rig| (rig.stats.forbidden > 1).then_some(()));
    assert!(reader.is_silent());
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn a_pad_whose_hands_are_retired_rests() {
    let mut rig = Rig::start(15, false, Permissions::ALL);
    let mut reader = Reader::open(&rig.plug(0));
    let state = PadState { buttons: PadButtons::new(PadButtons::B), left_stick: (0, 9), ..PadState::default() };
    rig.state(0, state);
    assert_eq!(reader.report(), change(&PadState::default(), &state));
    rig.retire();
    assert_eq!(reader.report(), change(&state, &PadState::default()));
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn without_a_uinput_the_session_goes_on_and_says_so() {
    let mut rig = Rig::start(14, false, Permissions::ALL);
    rig.supply = false;
    rig.send(InputEvent::PadArrived { pad: index(3), kind: PadKind::Xbox });
    rig.wait("it is asked for", |rig| (!rig.wants.is_empty()).then_some(()));
    rig.state(3, PadState { left_trigger: 1, ..PadState::default() });
    rig.wait("it is counted", |rig| (rig.stats.unsupported > 0).then_some(()));
    assert_eq!((rig.stats.pads, rig.failed.take()), (0, None));
    rig.supply = true;
    // A client that plugs the pad in again gets one.
    rig.plug(3);
}
