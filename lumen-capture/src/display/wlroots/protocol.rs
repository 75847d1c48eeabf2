//! What the compositor says, written down: every event handler only records, [`super::Wlroots`] decides.

use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_output::{self, WlOutput};
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_shm::{self, WlShm};
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::{Connection, Dispatch, Proxy, QueueHandle, WEnum, delegate_noop};
use wayland_protocols_wlr::screencopy::v1::client::zwlr_screencopy_frame_v1::{self as frame, ZwlrScreencopyFrameV1};
use wayland_protocols_wlr::screencopy::v1::client::zwlr_screencopy_manager_v1::ZwlrScreencopyManagerV1;

/// `copy_with_damage` came with 2, `buffer_done` with 3.
const SCREENCOPY_VERSION: u32 = 3;
/// `name` came with 4.
const OUTPUT_VERSION: u32 = 4;
/// More screens than anyone has; a compositor that offers more is not listened to about them.
const MAX_OUTPUTS: usize = 64;

/// Everything known about the compositor.
#[derive(Default)]
pub(super) struct State {
    pub manager: Option<ZwlrScreencopyManagerV1>,
    pub shm: Option<WlShm>,
    pub outputs: Vec<Output>,
    /// The registry has been listed to its end.
    pub listed: bool,
    /// At most two: one waiting to be given a buffer, one waiting for the picture.
    pub shots: Vec<Shot>,
}

pub(super) struct Output {
    global: u32,
    pub proxy: WlOutput,
    pub name: Option<String>,
    pub upright: bool,
    /// Of its current mode; 0 while that is not known.
    pub refresh_mhz: u32,
    pub gone: bool,
}

/// A buffer as the compositor wants it, not yet checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    pub format: WEnum<wl_shm::Format>,
    pub width: u32,
    pub height: u32,
    pub stride: u32,
}

/// One screencopy frame object.
pub(super) struct Shot {
    pub serial: u64,
    pub proxy: ZwlrScreencopyFrameV1,
    /// The shared-memory shape, if the compositor offers one.
    pub shape: Option<Shape>,
    /// All shapes have been told.
    pub told: bool,
    pub upside_down: bool,
    pub outcome: Option<Outcome>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    /// With the compositor's time of the picture.
    Ready {
        seconds: u64,
        nanoseconds: u32,
    },
    Failed,
}

impl Drop for Shot {
    fn drop(&mut self) {
        self.proxy.destroy();
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
                _ if interface == ZwlrScreencopyManagerV1::interface().name && version >= SCREENCOPY_VERSION => {
                    state.manager.get_or_insert_with(|| registry.bind(name, SCREENCOPY_VERSION, queue, ()));
                }
                "wl_shm" => {
                    state.shm.get_or_insert_with(|| registry.bind(name, 1, queue, ()));
                }
                "wl_output" if version >= OUTPUT_VERSION && state.outputs.len() < MAX_OUTPUTS => {
                    let proxy = registry.bind(name, OUTPUT_VERSION, queue, name);
                    state.outputs.push(Output {
                        global: name,
                        proxy,
                        name: None,
                        upright: true,
                        refresh_mhz: 0,
                        gone: false,
                    });
                }
                _ => {}
            },
            wl_registry::Event::GlobalRemove { name } => {
                if let Some(output) = state.outputs.iter_mut().find(|output| output.global == name) {
                    output.gone = true;
                }
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
        let Some(output) = state.outputs.iter_mut().find(|output| output.global == *global) else { return };
        match event {
            wl_output::Event::Name { name } => output.name = Some(name),
            wl_output::Event::Mode { flags: WEnum::Value(flags), refresh, .. }
                if flags.contains(wl_output::Mode::Current) =>
            {
                output.refresh_mhz = u32::try_from(refresh).unwrap_or(0);
            }
            wl_output::Event::Geometry { transform, .. } => {
                output.upright = transform == WEnum::Value(wl_output::Transform::Normal);
            }
            _ => {}
        }
    }
}

impl Dispatch<WlCallback, ()> for State {
    fn event(
        state: &mut Self,
        _: &WlCallback,
        event: wl_callback::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let wl_callback::Event::Done { .. } = event {
            state.listed = true;
        }
    }
}

impl Dispatch<ZwlrScreencopyFrameV1, u64> for State {
    fn event(
        state: &mut Self,
        _: &ZwlrScreencopyFrameV1,
        event: frame::Event,
        serial: &u64,
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        let Some(shot) = state.shots.iter_mut().find(|shot| shot.serial == *serial) else { return };
        match event {
            frame::Event::Buffer { format, width, height, stride } => {
                shot.shape = Some(Shape { format, width, height, stride });
            }
            frame::Event::BufferDone => shot.told = true,
            frame::Event::Flags { flags } => {
                shot.upside_down = matches!(flags, WEnum::Value(flags) if flags.contains(frame::Flags::YInvert));
            }
            frame::Event::Ready { tv_sec_hi, tv_sec_lo, tv_nsec } => {
                let seconds = u64::from(tv_sec_hi) << 32 | u64::from(tv_sec_lo);
                shot.outcome = Some(Outcome::Ready { seconds, nanoseconds: tv_nsec });
            }
            frame::Event::Failed => shot.outcome = Some(Outcome::Failed),
            // Every copy is a whole picture, so where the damage was does not matter; dmabufs are not used here.
            _ => {}
        }
    }
}

delegate_noop!(State: ZwlrScreencopyManagerV1);
delegate_noop!(State: WlShmPool);
// The formats of `wl_shm` and the releases of buffers say nothing that the frame objects do not say better.
delegate_noop!(State: ignore WlShm);
delegate_noop!(State: ignore WlBuffer);
