//! A full-screen window with shared-memory buffers, paced by the compositor's frame callbacks.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::hands::Hands;
use anyhow::{Context, bail};
use ipc::shm::{Mapping, sealed_memfd};
use ipc::{FrameFormat, PixelFormat};
use wayland_client::backend::WaylandError;
use wayland_client::globals::{GlobalListContents, registry_queue_init};
use wayland_client::protocol::wl_buffer::{self, WlBuffer};
use wayland_client::protocol::wl_callback::{self, WlCallback};
use wayland_client::protocol::wl_compositor::WlCompositor;
use wayland_client::protocol::wl_registry::{self, WlRegistry};
use wayland_client::protocol::wl_shm::{self, WlShm};
use wayland_client::protocol::wl_shm_pool::WlShmPool;
use wayland_client::protocol::wl_surface::WlSurface;
use wayland_client::{Connection, Dispatch, EventQueue, QueueHandle, delegate_noop};
use wayland_protocols::xdg::shell::client::xdg_surface::{self, XdgSurface};
use wayland_protocols::xdg::shell::client::xdg_toplevel::{self, XdgToplevel};
use wayland_protocols::xdg::shell::client::xdg_wm_base::{self, XdgWmBase};

/// One on the screen, one on its way there, one to draw into.
const BUFFERS: usize = 3;
/// The size until the compositor names one.
const DEFAULT_SIZE: (u16, u16) = (1280, 720);

/// What the compositor has said.
#[derive(Default)]
pub(super) struct State {
    pub(super) hands: Hands,
    /// The size of the last `configure`, 0 where the choice is ours.
    wanted: (u16, u16),
    configured: bool,
    closed: bool,
    /// The surface may be drawn again.
    ready: bool,
    presented: u64,
    busy: [bool; BUFFERS],
    /// Counts replacements of the buffers, so that a release of an old one is told from one of a new one.
    epoch: u32,
}

/// A window; see the module.
pub struct Window {
    connection: Connection,
    queue: EventQueue<State>,
    state: State,
    shm: WlShm,
    surface: WlSurface,
    buffers: Option<Buffers>,
    // Destroyed by the compositor when the connection ends.
    _role: (XdgWmBase, XdgSurface, XdgToplevel),
}

struct Buffers {
    format: FrameFormat,
    remote: Vec<WlBuffer>,
    local: Vec<Mapping>,
}

/// A buffer to draw into: its index, its bytes and their shape.
pub struct Canvas<'a> {
    pub buffer: usize,
    pub pixels: &'a mut [u8],
    pub format: FrameFormat,
}

impl Window {
    /// Opens the window.
    ///
    /// # Errors
    /// The compositor is gone or has no xdg-shell.
    pub fn open(connection: Connection, title: &str) -> anyhow::Result<Self> {
        let (globals, queue) = registry_queue_init::<State>(&connection)?;
        let handle = queue.handle();
        let compositor: WlCompositor = globals.bind(&handle, 4..=4, ()).context("wl_compositor 4")?;
        let shm: WlShm = globals.bind(&handle, 1..=1, ()).context("wl_shm")?;
        let shell: XdgWmBase = globals.bind(&handle, 1..=1, ()).context("xdg_wm_base")?;
        let surface = compositor.create_surface(&handle, ());
        let xdg_surface = shell.get_xdg_surface(&surface, &handle, ());
        let toplevel = xdg_surface.get_toplevel(&handle, ());
        toplevel.set_title(title.to_owned());
        toplevel.set_app_id("lumen-scene".to_owned());
        toplevel.set_fullscreen(None);
        surface.commit();
        connection.flush()?;
        let mut state = State { ready: true, ..State::default() };
        for seat in globals.contents().clone_list().iter().filter(|global| global.interface == "wl_seat") {
            state.hands.seat(globals.registry(), seat.name, seat.version, &handle);
        }
        Ok(Self { connection, queue, state, shm, surface, buffers: None, _role: (shell, xdg_surface, toplevel) })
    }

    /// Logs what hands do to the window from now on; see [`super::hands`].
    pub fn log_to(&mut self, file: std::fs::File) {
        self.state.hands.log_to(file);
    }

    /// What to poll before [`Window::dispatch`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.connection.as_fd()
    }

    /// The person or the compositor closed the window.
    pub fn closed(&self) -> bool {
        self.state.closed
    }

    /// Frames whose callback has come: those that the compositor has composited.
    pub fn presented(&self) -> u64 {
        self.state.presented
    }

    /// Takes in what the compositor has sent, without waiting.
    ///
    /// # Errors
    /// The connection ended.
    pub fn dispatch(&mut self) -> anyhow::Result<()> {
        self.queue.dispatch_pending(&mut self.state)?;
        if let Some(guard) = self.connection.prepare_read() {
            match guard.read() {
                Ok(_) => {}
                Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.queue.dispatch_pending(&mut self.state)?;
        self.connection.flush()?;
        Ok(())
    }

    /// A buffer to draw into, if the compositor wants a picture and one is free. To be followed by [`Window::show`].
    ///
    /// # Errors
    /// No memory for buffers.
    pub fn canvas(&mut self) -> anyhow::Result<Option<Canvas<'_>>> {
        if !self.state.configured || !self.state.ready {
            return Ok(None);
        }
        let (width, height) = match self.state.wanted {
            (0, _) | (_, 0) => DEFAULT_SIZE,
            wanted => wanted,
        };
        if self.buffers.as_ref().is_none_or(|buffers| (buffers.format.width, buffers.format.height) != (width, height))
        {
            self.replace_buffers(width, height)?;
        }
        let (Some(buffer), Some(buffers)) = (self.state.busy.iter().position(|busy| !busy), &mut self.buffers) else {
            return Ok(None);
        };
        let Some(pixels) = buffers.local[buffer].as_mut_slice() else { bail!("buffers are not writable") };
        Ok(Some(Canvas { buffer, pixels, format: buffers.format }))
    }

    /// Shows a drawn buffer and asks to be told when the next may be drawn.
    ///
    /// # Errors
    /// The connection ended.
    pub fn show(&mut self, buffer: usize) -> anyhow::Result<()> {
        let Some(buffers) = &self.buffers else { bail!("nothing was drawn") };
        self.surface.attach(Some(&buffers.remote[buffer]), 0, 0);
        self.surface.damage_buffer(0, 0, i32::from(buffers.format.width), i32::from(buffers.format.height));
        self.surface.frame(&self.queue.handle(), ());
        self.surface.commit();
        self.state.busy[buffer] = true;
        self.state.ready = false;
        self.connection.flush()?;
        Ok(())
    }

    fn replace_buffers(&mut self, width: u16, height: u16) -> anyhow::Result<()> {
        for old in self.buffers.take().into_iter().flat_map(|buffers| buffers.remote) {
            old.destroy();
        }
        self.state.epoch += 1;
        self.state.busy = [false; BUFFERS];
        let format = FrameFormat { pixels: PixelFormat::Bgrx, width, height, stride: u32::from(width) * 4 };
        let memory = (0..BUFFERS).map(|_| sealed_memfd("scene", format.size())).collect::<Result<Vec<OwnedFd>, _>>()?;
        let local = memory.iter().map(|fd| Mapping::read_write(fd.as_fd(), format.size())).collect::<Result<_, _>>()?;
        let remote = memory.iter().enumerate().map(|(index, fd)| self.remote_buffer(format, fd, index)).collect();
        self.buffers = Some(Buffers { format, remote, local });
        Ok(())
    }

    fn remote_buffer(&self, format: FrameFormat, memory: &OwnedFd, index: usize) -> WlBuffer {
        let queue = self.queue.handle();
        let pool = self.shm.create_pool(memory.as_fd(), format.size() as i32, &queue, ());
        let (width, height) = (i32::from(format.width), i32::from(format.height));
        let mark = (self.state.epoch, index);
        let buffer = pool.create_buffer(0, width, height, format.stride as i32, wl_shm::Format::Xrgb8888, &queue, mark);
        pool.destroy();
        buffer
    }
}

impl Dispatch<XdgToplevel, ()> for State {
    fn event(
        state: &mut Self,
        _: &XdgToplevel,
        event: xdg_toplevel::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        match event {
            xdg_toplevel::Event::Configure { width, height, .. } => {
                let side = |pixels: i32| u16::try_from(pixels).ok().filter(|side| *side <= 8192).unwrap_or(0);
                state.wanted = (side(width), side(height));
            }
            xdg_toplevel::Event::Close => state.closed = true,
            _ => {}
        }
    }
}

impl Dispatch<XdgSurface, ()> for State {
    fn event(
        state: &mut Self,
        surface: &XdgSurface,
        event: xdg_surface::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_surface::Event::Configure { serial } = event {
            surface.ack_configure(serial);
            state.configured = true;
        }
    }
}

impl Dispatch<XdgWmBase, ()> for State {
    fn event(
        _: &mut Self,
        shell: &XdgWmBase,
        event: xdg_wm_base::Event,
        (): &(),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if let xdg_wm_base::Event::Ping { serial } = event {
            shell.pong(serial);
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
            state.ready = true;
            state.presented += 1;
        }
    }
}

impl Dispatch<WlBuffer, (u32, usize)> for State {
    fn event(
        state: &mut Self,
        _: &WlBuffer,
        event: wl_buffer::Event,
        (epoch, index): &(u32, usize),
        _: &Connection,
        _: &QueueHandle<Self>,
    ) {
        if matches!(event, wl_buffer::Event::Release) && *epoch == state.epoch {
            state.busy[*index] = false;
        }
    }
}

impl Dispatch<WlRegistry, GlobalListContents> for State {
    fn event(
        state: &mut Self,
        registry: &WlRegistry,
        event: wl_registry::Event,
        _: &GlobalListContents,
        _: &Connection,
        queue: &QueueHandle<Self>,
    ) {
        if let wl_registry::Event::Global { name, interface, version } = event
            && interface == "wl_seat"
        {
            state.hands.seat(registry, name, version, queue);
        }
    }
}

delegate_noop!(State: WlCompositor);
delegate_noop!(State: WlShmPool);
delegate_noop!(State: ignore WlShm);
delegate_noop!(State: ignore WlSurface);
