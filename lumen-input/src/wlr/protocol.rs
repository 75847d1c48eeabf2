//! What the compositor says, written down: every event handler only records, [`super::Wlr`] decides.

use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_output::{self, WlOutput};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_seat::{self, WlSeat};
use wayland_client::{Connection, Dispatch, Proxy, QueueHandle, delegate_noop};
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_manager_v1::ZwpVirtualKeyboardManagerV1;
use wayland_protocols_misc::zwp_virtual_keyboard_v1::client::zwp_virtual_keyboard_v1::ZwpVirtualKeyboardV1;
use wayland_protocols_wlr::virtual_pointer::v1::client::zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1;
use wayland_protocols_wlr::virtual_pointer::v1::client::zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1;

/// `create_virtual_pointer_with_output` came with 2.
const POINTER_VERSION: u32 = 2;
/// `wl_output.name` came with 4.
const OUTPUT_VERSION: u32 = 4;
/// `wl_seat.name` came with 2.
const SEAT_VERSION: u32 = 2;
/// More screens, or seats, than anyone has; a compositor that offers more is not listened to about them.
const MAX_NAMED: usize = 64;

/// Everything known about the compositor.
#[derive(Default)]
pub(super) struct State {
    pub pointers: Option<ZwlrVirtualPointerManagerV1>,
    pub keyboards: Option<ZwpVirtualKeyboardManagerV1>,
    pub outputs: Vec<Named<WlOutput>>,
    pub seats: Vec<Named<WlSeat>>,
    /// How far the compositor has answered.
    pub answered: u64,
}

/// An output or a seat.
pub(super) struct Named<P> {
    global: u32,
    pub proxy: P,
    pub name: Option<String>,
    pub gone: bool,
}

impl<P> Named<P> {
    fn new(global: u32, proxy: P) -> Self {
        Self { global, proxy, name: None, gone: false }
    }
}

impl Dispatch<WlRegistry, ()> for State {
    fn event(
        state: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        (): &(),
        _: &Connection,
        queue: &QueueHandle<Self>,
    ) {
        match event {
            wl_registry::Event::Global { name, interface, version } => match interface.as_str() {
                _ if interface == ZwlrVirtualPointerManagerV1::interface().name && version >= POINTER_VERSION => {
                    state.pointers.get_or_insert_with(|| registry.bind(name, POINTER_VERSION, queue, ()));
                }
                _ if interface == ZwpVirtualKeyboardManagerV1::interface().name => {
                    state.keyboards.get_or_insert_with(|| registry.bind(name, 1, queue, ()));
                }
                "wl_output" if version >= OUTPUT_VERSION && state.outputs.len() < MAX_NAMED => {
                    state.outputs.push(Named::new(name, registry.bind(name, OUTPUT_VERSION, queue, name)));
                }
                "wl_seat" if version >= SEAT_VERSION && state.seats.len() < MAX_NAMED => {
                    state.seats.push(Named::new(name, registry.bind(name, SEAT_VERSION, queue, name)));
                }
                _ => {}
            },
            wl_registry::Event::GlobalRemove { name } => {
                state.outputs.iter_mut().filter(|output| output.global == name).for_each(|output| output.gone = true);
                state.seats.iter_mut().filter(|seat| seat.global == name).for_each(|seat| seat.gone = true);
            }
            _ => {}
        }
    }
}

impl Dispatch<WlOutput, u32> for State {
    fn event(
        state: &mut Self,
        _: &WlOutput,
        event: wl_output::Event,
        global: &u32,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let (wl_output::Event::Name { name }, Some(output)) =
            (event, state.outputs.iter_mut().find(|output| output.global == *global))
        {
            output.name = Some(name);
        }
    }
}

impl Dispatch<WlSeat, u32> for State {
    fn event(state: &mut Self, _: &WlSeat, event: wl_seat::Event, global: &u32, _: &Connection, _: &QueueHandle<Self>) {
        if let (wl_seat::Event::Name { name }, Some(seat)) =
            (event, state.seats.iter_mut().find(|seat| seat.global == *global))
        {
            seat.name = Some(name);
        }
    }
}

/// Callbacks of `wl_display.sync` carry their number.
impl Dispatch<WlCallback, u64> for State {
    fn event(
        state: &mut Self,
        _: &WlCallback,
        event: wl_callback::Event,
        number: &u64,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_callback::Event::Done { .. } = event {
            state.answered = state.answered.max(*number);
        }
    }
}

delegate_noop!(State: ZwlrVirtualPointerManagerV1);
delegate_noop!(State: ZwlrVirtualPointerV1);
delegate_noop!(State: ZwpVirtualKeyboardManagerV1);
delegate_noop!(State: ZwpVirtualKeyboardV1);
