//! Keyboard, mouse and touch screen of the kernel's.

use ipc::{DeviceId, HandsBackend, InputBackends, PadsBackend, TouchBackend};
use lumen_core::input::{Axis, Button, Held, KeyCode, Text, TouchPhase};
use lumen_core::{InputEvent, Permissions};

use crate::reader::{Event, Reader};
use crate::rig::Rig;

pub fn key(code: u16, pressed: bool) -> InputEvent {
    InputEvent::Key { code: KeyCode::new(code).unwrap(), pressed }
}

fn check(rig: &mut Rig, reader: &mut Reader, steps: &[(InputEvent, &[&[Event]])]) {
    for (event, reports) in steps {
        rig.send(*event);
        assert_eq!(reader.reports(reports.len()), *reports, "{event:?}");
    }
    assert!(reader.is_silent());
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn keys_are_typed_and_lifted() {
    let mut rig = Rig::start(20, true, Permissions::ALL);
    let backends =
        InputBackends { hands: HandsBackend::Uinput, touch: TouchBackend::Native, pads: PadsBackend::Uinput };
    assert_eq!(rig.wired, Some(backends));
    assert_eq!(rig.wants, [DeviceId::Keyboard, DeviceId::Mouse, DeviceId::Touch]);
    let mut keyboard = Reader::open(&rig.node("keyboard"));
    let steps: [(InputEvent, &[&[Event]]); 6] = [
        (key(42, true), &[&[(1, 42, 1)]]),
        (key(30, true), &[&[(1, 30, 1)]]),
        (key(30, false), &[&[(1, 30, 0)]]),
        // A key that is lifted twice, one that no keyboard has, and letters, which a keyboard of the kernel's has not.
        (key(30, false), &[]),
        (key(0x2C0, true), &[]),
        (InputEvent::Text(Text::new("ü").unwrap()), &[]),
    ];
    check(&mut rig, &mut keyboard, &steps);
    rig.send(key(0x1d0, true));
    assert_eq!(keyboard.report(), [(1, 0x1d0, 1)]);
    // The client holds neither any more.
    rig.send(InputEvent::Held(Held::new([], 0, 0)));
    let mut lifted = keyboard.reports(2);
    lifted.sort();
    assert_eq!(lifted, [[(1, 42, 0)], [(1, 0x1d0, 0)]]);
    // The key that no keyboard has was lifted as well.
    rig.wait("they are counted", |rig| (rig.stats.unsupported == 3 && rig.stats.healed == 3).then_some(()));
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn the_mouse_steps_goes_clicks_and_scrolls() {
    let mut rig = Rig::start(21, true, Permissions::ALL);
    let mut mouse = Reader::open(&rig.node("mouse"));
    let step = |dx, dy| InputEvent::Motion { dx, dy };
    let go = |x, y| InputEvent::Position { x, y };
    let button = |button, pressed| InputEvent::Button { button, pressed };
    let vertical = |amount| InputEvent::Scroll { axis: Axis::Vertical, amount };
    let horizontal = |amount| InputEvent::Scroll { axis: Axis::Horizontal, amount };
    let steps: [(InputEvent, &[&[Event]]); 18] = [
        (step(10 * 256, -5 * 256), &[&[(2, 0, 10), (2, 1, -5)]]),
        // Half a pixel, and the other half.
        (step(128, 0), &[]),
        (step(128, 0), &[&[(2, 0, 1)]]),
        (go(0, 65535), &[&[(3, 0, 1), (3, 0, 0), (3, 1, 65535)]]),
        (go(300, 200), &[&[(3, 0, 300), (3, 1, 200)]]),
        (go(300, 201), &[&[(3, 1, 201)]]),
        (step(0, 256), &[&[(2, 1, 1)]]),
        // Back to where it was told to go last, which the kernel would not pass on as such.
        (go(300, 201), &[&[(3, 0, 301), (3, 1, 200), (3, 0, 300), (3, 1, 201)]]),
        (button(Button::Left, true), &[&[(1, 0x110, 1)]]),
        (button(Button::Left, false), &[&[(1, 0x110, 0)]]),
        (button(Button::Extra, true), &[&[(1, 0x114, 1)]]),
        (button(Button::Extra, false), &[&[(1, 0x114, 0)]]),
        (vertical(120), &[&[(2, 0x0b, 120), (2, 8, 1)]]),
        (vertical(-60), &[&[(2, 0x0b, -60)]]),
        (vertical(-60), &[&[(2, 0x0b, -60), (2, 8, -1)]]),
        (horizontal(-240), &[&[(2, 0x0c, -240), (2, 6, -2)]]),
        (horizontal(15), &[&[(2, 0x0c, 15)]]),
        (vertical(0), &[]),
    ];
    check(&mut rig, &mut mouse, &steps);
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn fingers_touch_move_and_leave() {
    let mut rig = Rig::start(22, true, Permissions::POINTER);
    let mut screen = Reader::open(&rig.node("touch"));
    let touch = |contact, phase, x, y, pressure| InputEvent::Touch { contact, phase, x, y, pressure };
    use TouchPhase::{Cancel, Down, Move, Up};
    // 0x2f slot, 0x35 and 0x36 place, 0x37 tool, 0x39 tracking id, 0x3a pressure, 0x14a touched at all.
    let steps: [(InputEvent, &[&[Event]]); 7] = [
        (
            touch(0, Down, 100, 200, 0),
            &[&[
                (3, 0x39, 0),
                (3, 0x35, 100),
                (3, 0x36, 200),
                (3, 0x3a, 0x8000),
                (3, 0, 100),
                (3, 1, 200),
                (1, 0x14a, 1),
            ]],
        ),
        (
            touch(15, Down, 65535, 1, 500),
            &[&[(3, 0x2f, 15), (3, 0x39, 0x1f), (3, 0x35, 65535), (3, 0x36, 1), (3, 0x3a, 500)]],
        ),
        (touch(0, Move, 101, 200, 0), &[&[(3, 0x2f, 0), (3, 0x35, 101)]]),
        (touch(15, Cancel, 0, 0, 0), &[&[(3, 0x2f, 15), (3, 0x37, 2)], &[(3, 0x39, -1)]]),
        (touch(7, Up, 0, 0, 0), &[]),
        (touch(0, Up, 0, 0, 0), &[&[(3, 0x2f, 0), (3, 0x39, -1), (1, 0x14a, 0)]]),
        (
            touch(15, Down, 65535, 2, 500),
            &[&[(3, 0x2f, 15), (3, 0x39, 0x2f), (3, 0x37, 0), (3, 0x36, 2), (3, 0, 65535), (3, 1, 2), (1, 0x14a, 1)]],
        ),
    ];
    check(&mut rig, &mut screen, &steps);
}

#[test]
#[ignore = "needs a kernel of its own: cargo xtask test-vm"]
fn without_a_uinput_the_hands_fail_with_a_reason() {
    let mut rig = Rig::unwired(23, true, Permissions::ALL, false);
    let reason = rig.wait("a reason", |rig| rig.failed.take());
    assert!(reason.contains("/dev/uinput"), "{reason}");
    assert_eq!(rig.wired, None);
}
