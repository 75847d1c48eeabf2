//! A pointing device made out of nothing, because a headless seat has none and so shows no cursor.

use std::os::unix::net::UnixStream;

use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::{Connection, Dispatch, QueueHandle, delegate_noop};
use wayland_protocols_wlr::virtual_pointer::v1::client::zwlr_virtual_pointer_manager_v1::ZwlrVirtualPointerManagerV1;
use wayland_protocols_wlr::virtual_pointer::v1::client::zwlr_virtual_pointer_v1::ZwlrVirtualPointerV1;

/// Exists until dropped.
pub struct Pointer(#[expect(dead_code, reason = "holds the device")] Connection);

struct State;

impl Pointer {
    /// Makes one and points at `place` on a screen of `size`, both in pixels.
    pub fn at(compositor: UnixStream, place: (u32, u32), size: (u32, u32)) -> Self {
        let connection = Connection::from_socket(compositor).unwrap();
        let (globals, mut queue) = registry_queue_init::<State>(&connection).unwrap();
        let manager: ZwlrVirtualPointerManagerV1 = globals.bind(&queue.handle(), 1..=1, ()).unwrap();
        let pointer = manager.create_virtual_pointer(None, &queue.handle(), ());
        pointer.motion_absolute(0, place.0, place.1, size.0, size.1);
        pointer.frame();
        queue.roundtrip(&mut State).unwrap();
        Self(connection)
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for State {
    fn event(
        _: &mut Self,
        _: &WlRegistry,
        _: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
    }
}

delegate_noop!(State: ZwlrVirtualPointerManagerV1);
delegate_noop!(State: ZwlrVirtualPointerV1);
