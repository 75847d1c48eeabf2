//! A Wayland client with virtual devices on one seat, as the input plane has them.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::{wl_keyboard, wl_output, wl_pointer, wl_registry, wl_seat};
use wayland_client::{Connection, Dispatch, EventQueue, Proxy, QueueHandle, delegate_noop};
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::{
    zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1, zwp_virtual_keyboard_v1::ZwpVirtualKeyboardV1,
};
use wayland_protocols_wlr::virtual_pointer::v1::client::{
    zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1, zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1,
};

use super::{Seat, Sway};
use crate::config::Input;
use crate::keymap;

#[derive(Default)]
struct State {
    names: Vec<(wayland_client::backend::ObjectId, String)>,
}

pub(super) struct Devices {
    queue: EventQueue<State>,
    state: State,
    pointer: ZwlrVirtualPointerV1,
    keyboard: ZwpVirtualKeyboardV1,
    /// Holds nothing but the focus key.
    focus: ZwpVirtualKeyboardV1,
    focus_key: u32,
}

impl Devices {
    pub(super) fn new(sway: &Sway, output: &str, seat: &Seat) -> Self {
        let stream = UnixStream::connect(sway.directory.join("wayland-1")).unwrap();
        let connection = Connection::from_socket(stream).unwrap();
        let (globals, mut queue) = registry_queue_init::<State>(&connection).unwrap();
        let handle = queue.handle();
        let mut state = State::default();
        let of = |interface: &str| {
            let list = globals.contents().clone_list();
            list.into_iter()
                .filter(|global| global.interface == interface)
                .map(|global| global.name)
                .collect::<Vec<_>>()
        };
        let registry = globals.registry();
        let bind_seat = |name| registry.bind::<wl_seat::WlSeat, _, _>(name, 2, &handle, ());
        let bind_output = |name| registry.bind::<wl_output::WlOutput, _, _>(name, 4, &handle, ());
        let seats: Vec<_> = of("wl_seat").into_iter().map(bind_seat).collect();
        let outputs: Vec<_> = of("wl_output").into_iter().map(bind_output).collect();
        queue.roundtrip(&mut state).unwrap();
        let named = |id, wanted: &str| state.names.iter().any(|(of, name)| *of == id && name == wanted);
        let wl_seat = seats.iter().find(|one| named(one.id(), &seat.name)).expect("the seat is there");
        let wl_output = outputs.iter().find(|one| named(one.id(), output)).expect("the output is there");

        let pointers: ZwlrVirtualPointerManagerV1 = globals.bind(&handle, 2..=2, ()).unwrap();
        let keyboards: ZwpVirtualKeyboardManagerV1 = globals.bind(&handle, 1..=1, ()).unwrap();
        let pointer = pointers.create_virtual_pointer_with_output(Some(wl_seat), Some(wl_output), &handle, ());
        let [keyboard, focus] = [(), ()].map(|()| {
            let keyboard = keyboards.create_virtual_keyboard(wl_seat, &handle, ());
            let keymap = keymap::compile(&Input::default()).unwrap().hand_over().unwrap();
            keyboard.keymap(wl_keyboard::KeymapFormat::XkbV1 as u32, keymap.memory.as_fd(), keymap.bytes);
            keyboard
        });
        let mut devices = Self { queue, state, pointer, keyboard, focus, focus_key: seat.focus_key };
        devices.settle();
        devices
    }

    /// Sway has done all that was asked.
    fn settle(&mut self) {
        self.queue.roundtrip(&mut self.state).unwrap();
    }

    pub(super) fn focus(&mut self) {
        self.focus.key(0, self.focus_key, 1);
        self.focus.key(0, self.focus_key, 0);
        self.settle();
    }

    pub(super) fn key(&mut self, code: u32) {
        self.keyboard.key(0, code, 1);
        self.keyboard.key(0, code, 0);
        self.settle();
    }

    pub(super) fn click(&mut self) {
        for state in [wl_pointer::ButtonState::Pressed, wl_pointer::ButtonState::Released] {
            // BTN_LEFT of linux/input-event-codes.h.
            self.pointer.button(0, 0x110, state);
            self.pointer.frame();
        }
        self.settle();
    }

    /// 0 to 1 of the output.
    pub(super) fn point(&mut self, x: f64, y: f64) {
        self.pointer.motion_absolute(0, (x * 1000.0) as u32, (y * 1000.0) as u32, 1000, 1000);
        self.pointer.frame();
        self.settle();
    }
}

impl Dispatch<wl_registry::WlRegistry, GlobalListContents> for State {
    fn event(
        _: &mut Self,
        _: &wl_registry::WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

impl Dispatch<wl_seat::WlSeat, ()> for State {
    fn event(
        state: &mut Self,
        seat: &wl_seat::WlSeat,
        event: wl_seat::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_seat::Event::Name { name } = event {
            state.names.push((seat.id(), name));
        }
    }
}

impl Dispatch<wl_output::WlOutput, ()> for State {
    fn event(
        state: &mut Self,
        output: &wl_output::WlOutput,
        event: wl_output::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_output::Event::Name { name } = event {
            state.names.push((output.id(), name));
        }
    }
}

delegate_noop!(State: ZwlrVirtualPointerManagerV1);
delegate_noop!(State: ZwpVirtualKeyboardManagerV1);
delegate_noop!(State: ZwlrVirtualPointerV1);
delegate_noop!(State: ZwpVirtualKeyboardV1);
