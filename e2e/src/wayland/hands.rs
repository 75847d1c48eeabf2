//! Logs what hands do to a window: every event of every seat, a JSON line each, with the time it was received.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use ipc::event::now_ns;
use serde_json::{Value, json};
use wayland_client::protocol::wl_keyboard::{self, WlKeyboard};
use wayland_client::protocol::wl_pointer::{self, WlPointer};
use wayland_client::protocol::wl_registry::WlRegistry;
use wayland_client::protocol::wl_seat::{self, WlSeat};
use wayland_client::protocol::wl_touch::{self, WlTouch};
use wayland_client::{Connection, Dispatch, QueueHandle, WEnum};
use xkbcommon::xkb;

use super::window::State;

/// The newest seat version that is understood: scroll in 1/120 notches since 8.
const SEAT_VERSION: u32 = 8;
/// Wayland's key codes are evdev's; xkb's are eight more.
const XKB_OFFSET: u32 = 8;

/// One seat of the compositor.
struct Seat {
    proxy: WlSeat,
    name: String,
    pointer: Option<WlPointer>,
    keyboard: Option<WlKeyboard>,
    touch: Option<WlTouch>,
    keys: Option<xkb::State>,
}

/// The log and the seats it listens to.
#[derive(Default)]
pub(super) struct Hands {
    log: Option<File>,
    /// By the number of their global.
    seats: BTreeMap<u32, Seat>,
}

impl Hands {
    /// Everything from now on goes into this file, a line an event, in one `write` each.
    pub(super) fn log_to(&mut self, file: File) {
        self.log = Some(file);
    }

    /// A seat has appeared.
    pub(super) fn seat(&mut self, registry: &WlRegistry, global: u32, version: u32, queue: &QueueHandle<State>) {
        let proxy = registry.bind(global, version.min(SEAT_VERSION), queue, global);
        let seat = Seat { proxy, name: String::new(), pointer: None, keyboard: None, touch: None, keys: None };
        self.seats.insert(global, seat);
    }

    fn write(&mut self, seat: u32, event: &str, mut fields: Value) {
        let now = now_ns();
        let name = self.seats.get(&seat).map_or("", |seat| seat.name.as_str());
        let Some(log) = &mut self.log else { return };
        fields["ns"] = now.into();
        fields["seat"] = name.into();
        fields["event"] = event.into();
        // A full disk shows as missing events in the test that reads them.
        let _ = log.write_all(format!("{fields}\n").as_bytes());
    }

    fn capabilities(&mut self, seat: u32, found: wl_seat::Capability, queue: &QueueHandle<State>) {
        let Some(it) = self.seats.get_mut(&seat) else { return };
        let has = |capability| found.contains(capability);
        match (has(wl_seat::Capability::Pointer), &it.pointer) {
            (true, None) => it.pointer = Some(it.proxy.get_pointer(queue, seat)),
            (false, Some(pointer)) => {
                pointer.release();
                it.pointer = None;
            }
            _ => {}
        }
        match (has(wl_seat::Capability::Keyboard), &it.keyboard) {
            (true, None) => it.keyboard = Some(it.proxy.get_keyboard(queue, seat)),
            (false, Some(keyboard)) => {
                keyboard.release();
                (it.keyboard, it.keys) = (None, None);
            }
            _ => {}
        }
        match (has(wl_seat::Capability::Touch), &it.touch) {
            (true, None) => it.touch = Some(it.proxy.get_touch(queue, seat)),
            (false, Some(touch)) => {
                touch.release();
                it.touch = None;
            }
            _ => {}
        }
    }

    fn keymap(&mut self, seat: u32, memory: OwnedFd, size: u32) {
        let mut text = vec![0; size as usize];
        let read = File::from(memory).read_exact_at(&mut text, 0);
        // The size counts a final NUL.
        let text = String::from_utf8(text).unwrap_or_default();
        let context = xkb::Context::new(xkb::CONTEXT_NO_DEFAULT_INCLUDES | xkb::CONTEXT_NO_ENVIRONMENT_NAMES);
        let keymap = read.ok().and_then(|()| {
            let text = text.trim_end_matches('\0').to_owned();
            xkb::Keymap::new_from_string(&context, text, xkb::KEYMAP_FORMAT_TEXT_V1, xkb::KEYMAP_COMPILE_NO_FLAGS)
        });
        if let Some(it) = self.seats.get_mut(&seat) {
            it.keys = keymap.map(|keymap| xkb::State::new(&keymap));
        }
    }
}

impl Dispatch<WlSeat, u32> for State {
    fn event(
        state: &mut Self,
        _: &WlSeat,
        event: wl_seat::Event,
        seat: &u32,
        _: &Connection,
        queue: &QueueHandle<Self>,
    ) {
        match event {
            wl_seat::Event::Name { name } => {
                if let Some(it) = state.hands.seats.get_mut(seat) {
                    it.name = name;
                }
            }
            wl_seat::Event::Capabilities { capabilities: WEnum::Value(found) } => {
                state.hands.capabilities(*seat, found, queue);
                state.hands.write(*seat, "capabilities", json!({ "bits": found.bits() }));
            }
            _ => {}
        }
    }
}

impl Dispatch<WlPointer, u32> for State {
    fn event(
        state: &mut Self,
        pointer: &WlPointer,
        event: wl_pointer::Event,
        seat: &u32,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use wl_pointer::Event;
        let (name, fields) = match event {
            Event::Enter { serial, surface_x, surface_y, .. } => {
                // No arrow on the picture: whoever judges it knows what the window has drawn, and nothing else.
                pointer.set_cursor(serial, None, 0, 0);
                ("enter", json!({ "x": surface_x, "y": surface_y }))
            }
            Event::Leave { .. } => ("leave", json!({})),
            Event::Motion { surface_x, surface_y, .. } => ("motion", json!({ "x": surface_x, "y": surface_y })),
            Event::Button { button, state, .. } => {
                let pressed = state == WEnum::Value(wl_pointer::ButtonState::Pressed);
                ("button", json!({ "button": button, "pressed": pressed }))
            }
            Event::Axis { axis, value, .. } => ("axis", json!({ "horizontal": horizontal(axis), "value": value })),
            Event::AxisDiscrete { axis, discrete } => {
                ("axis_discrete", json!({ "horizontal": horizontal(axis), "steps": discrete }))
            }
            Event::AxisValue120 { axis, value120 } => {
                ("axis_120", json!({ "horizontal": horizontal(axis), "value": value120 }))
            }
            _ => return,
        };
        state.hands.write(*seat, name, fields);
    }
}

fn horizontal(axis: WEnum<wl_pointer::Axis>) -> bool {
    axis == WEnum::Value(wl_pointer::Axis::HorizontalScroll)
}

impl Dispatch<WlKeyboard, u32> for State {
    fn event(
        state: &mut Self,
        _: &WlKeyboard,
        event: wl_keyboard::Event,
        seat: &u32,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        use wl_keyboard::Event;
        match event {
            Event::Keymap { fd, size, .. } => state.hands.keymap(*seat, fd, size),
            Event::Enter { keys, .. } => {
                let codes = keys.chunks_exact(4).map(|code| u32::from_ne_bytes([code[0], code[1], code[2], code[3]]));
                let held: Vec<u32> = codes.collect();
                state.hands.write(*seat, "keyboard_enter", json!({ "held": held }));
            }
            Event::Leave { .. } => state.hands.write(*seat, "keyboard_leave", json!({})),
            Event::Key { key, state: direction, .. } => {
                let pressed = direction == WEnum::Value(wl_keyboard::KeyState::Pressed);
                let keys = state.hands.seats.get(seat).and_then(|it| it.keys.as_ref());
                let code = xkb::Keycode::new(key.saturating_add(XKB_OFFSET));
                let (text, symbol) = keys.map_or((String::new(), String::new()), |keys| {
                    (keys.key_get_utf8(code), xkb::keysym_get_name(keys.key_get_one_sym(code)))
                });
                let fields = json!({ "code": key, "pressed": pressed, "text": text, "symbol": symbol });
                state.hands.write(*seat, "key", fields);
            }
            Event::Modifiers { mods_depressed, mods_latched, mods_locked, group, .. } => {
                if let Some(keys) = state.hands.seats.get_mut(seat).and_then(|it| it.keys.as_mut()) {
                    keys.update_mask(mods_depressed, mods_latched, mods_locked, 0, 0, group);
                }
                state.hands.write(*seat, "modifiers", json!({ "depressed": mods_depressed, "locked": mods_locked }));
            }
            _ => {}
        }
    }
}

impl Dispatch<WlTouch, u32> for State {
    fn event(state: &mut Self, _: &WlTouch, event: wl_touch::Event, seat: &u32, _: &Connection, _: &QueueHandle<Self>) {
        use wl_touch::Event;
        let (name, fields) = match event {
            Event::Down { id, x, y, .. } => ("touch_down", json!({ "id": id, "x": x, "y": y })),
            Event::Motion { id, x, y, .. } => ("touch_motion", json!({ "id": id, "x": x, "y": y })),
            Event::Up { id, .. } => ("touch_up", json!({ "id": id })),
            Event::Cancel => ("touch_cancel", json!({})),
            _ => return,
        };
        state.hands.write(*seat, name, fields);
    }
}
