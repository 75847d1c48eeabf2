//! An output of a wlroots compositor by wlr-screencopy v3: pictures straight into the pool's memory, cursor included.
//!
//! The Wayland socket is handed over connected; nothing here opens anything. Two frame objects are kept: while one waits
//! for its picture the next has already been told its shape, so that the request for it leaves the moment the picture
//! is there and no commit of the compositor falls between the two.
//!
//! [`Frame::captured_ns`] is the time in the `ready` event when it can be one: wlroots puts CLOCK_MONOTONIC of the
//! output's commit there, taken before the pixels are copied, so that the copy and this process's wake-up count as
//! latency. A time that is not within the last 100 ms is not believed, and the moment `ready` was read is used instead.

mod protocol;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ipc::shm::Mapping;
use ipc::{FrameFormat, PixelFormat};
use wayland_client::backend::WaylandError;
use wayland_client::protocol::wl_buffer::WlBuffer;
use wayland_client::protocol::wl_shm;
use wayland_client::{Connection, DispatchError, EventQueue, WEnum};

use super::{Display, DisplayError, Event, Frame, checked_format, map_all};
use protocol::{Outcome, Shape, Shot, State};

/// How long the compositor may take to list its outputs and describe the wanted one.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// After a copy failed, the pause before the next; doubles with each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// When to try again to hand requests to a compositor whose socket is full.
const FLUSH_PAUSE: Duration = Duration::from_millis(5);
/// The compositor's time of a picture is believed if it is no older than this.
const BELIEVED_AGE: Duration = Duration::from_millis(100);

/// A connection to a compositor that captures one output.
pub struct Wlroots {
    connection: Connection,
    queue: EventQueue<State>,
    state: State,
    output: String,
    /// When opening has taken too long.
    open_by: u64,
    /// What `Opened` said, and the shape it was made from.
    opened: Option<(FrameFormat, Shape)>,
    pool: Option<Pool>,
    serial: u64,
    /// The frame object that has been given a buffer, and which.
    copying: Option<(u64, u32)>,
    /// Handed over by [`Display::begin`] and not yet with the compositor.
    held: Option<u32>,
    failures: u32,
    /// No new frame object before this time.
    pause_until: u64,
    /// The socket was full; flush again at this time.
    flush_at: Option<u64>,
}

/// A generation's buffers on both sides.
struct Pool {
    remote: Vec<WlBuffer>,
    /// The same memory on this side: populated, so that the compositor's first copies do not pay for it.
    local: Vec<Mapping>,
    format: FrameFormat,
    /// The next copy is not to wait for damage.
    fresh: bool,
}

impl Wlroots {
    /// Begins to look for `output` (its name, as `wl_output` tells it) over a connected Wayland `socket` that nobody
    /// has spoken on. The answer is [`Event::Opened`] or an error, from [`Display::dispatch`].
    ///
    /// # Errors
    /// `Failed` if the descriptor cannot be used at all.
    pub fn open(socket: OwnedFd, output: &str, now_ns: u64) -> Result<Self, DisplayError> {
        let connection = Connection::from_socket(UnixStream::from(socket))
            .map_err(|error| DisplayError::Failed(format!("the Wayland socket cannot be used: {error}")))?;
        let queue = connection.new_event_queue();
        let display = connection.display();
        display.get_registry(&queue.handle(), ());
        display.sync(&queue.handle(), ());
        let mut this = Self {
            connection,
            queue,
            state: State::default(),
            output: output.to_owned(),
            open_by: now_ns + OPEN_TIMEOUT.as_nanos() as u64,
            opened: None,
            pool: None,
            serial: 0,
            copying: None,
            held: None,
            failures: 0,
            pause_until: 0,
            flush_at: None,
        };
        this.flush(now_ns);
        Ok(this)
    }

    /// Reads what the compositor has sent, without waiting.
    fn read(&mut self) -> Result<(), DisplayError> {
        self.queue.dispatch_pending(&mut self.state).map_err(broken)?;
        if let Some(guard) = self.connection.prepare_read() {
            match guard.read() {
                Ok(_) => {}
                Err(WaylandError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(broken(DispatchError::Backend(error))),
            }
        }
        self.queue.dispatch_pending(&mut self.state).map_err(broken)?;
        Ok(())
    }

    /// Sends what is queued. A full socket is tried again later; a dead one is noticed by the next read, which also
    /// knows why it died.
    fn flush(&mut self, now_ns: u64) {
        let full = matches!(self.connection.flush(), Err(WaylandError::Io(error))
            if error.kind() == std::io::ErrorKind::WouldBlock);
        self.flush_at = full.then(|| now_ns + FLUSH_PAUSE.as_nanos() as u64);
    }

    /// Asks for the next frame object, if everything it needs is known.
    fn prepare(&mut self, now_ns: u64) -> Result<(), DisplayError> {
        let copying = usize::from(self.copying.is_some());
        if self.state.shots.len() > copying || now_ns < self.pause_until || !self.state.listed {
            return Ok(());
        }
        if self.state.shm.is_none() {
            return Err(DisplayError::Failed("the compositor offers no shared memory (wl_shm)".into()));
        }
        let Some(manager) = &self.state.manager else {
            return Err(DisplayError::Failed(
                "the compositor does not offer wlr-screencopy version 3; use sway 1.7 or newer, or another wlroots \
                 compositor of its age"
                    .into(),
            ));
        };
        // Absent at first it may still come, until the time for opening is over: it may have been made just now.
        let named = |output: &&protocol::Output| output.name.as_deref() == Some(&self.output) && !output.gone;
        let Some(output) = self.state.outputs.iter().find(named) else { return Ok(()) };
        self.serial += 1;
        let proxy = manager.capture_output(1, &output.proxy, &self.queue.handle(), self.serial);
        self.state.shots.push(Shot {
            serial: self.serial,
            proxy,
            shape: None,
            told: false,
            upside_down: false,
            outcome: None,
        });
        Ok(())
    }

    /// Looks at the output itself: it may have been turned or unplugged.
    fn check_output(&self, now_ns: u64) -> Result<(), DisplayError> {
        let name = &self.output;
        let mut named = self.state.outputs.iter().filter(|output| output.name.as_deref() == Some(name));
        match named.clone().find(|output| !output.gone) {
            Some(output) if !output.upright => Err(DisplayError::Failed(format!(
                "output {name} is rotated, which cannot be captured yet; set its transform to normal"
            ))),
            Some(_) => Ok(()),
            None if self.opened.is_some() || named.next().is_some() => {
                Err(DisplayError::Failed(format!("output {name} has been removed")))
            }
            None if now_ns < self.open_by => Ok(()),
            None if !self.state.listed => Err(DisplayError::Failed("the compositor does not answer".into())),
            None => {
                let known: Vec<_> = self.state.outputs.iter().filter_map(|output| output.name.as_deref()).collect();
                Err(DisplayError::Failed(format!(
                    "the compositor has no output named {name}; it has: {}",
                    if known.is_empty() { "none".to_owned() } else { known.join(", ") }
                )))
            }
        }
    }

    /// Takes in what frame objects have been told: shapes, pictures, failures.
    fn collect(&mut self, now_ns: u64, events: &mut Vec<Event>) -> Result<(), DisplayError> {
        let mut index = 0;
        while let Some(shot) = self.state.shots.get(index) {
            if shot.told && shot.outcome.is_none() && self.copying.is_none_or(|(serial, _)| serial != shot.serial) {
                self.learn_shape(shot.shape, events)?;
            }
            let shot = &self.state.shots[index];
            match shot.outcome {
                None => index += 1,
                Some(outcome) => {
                    let shot = self.state.shots.remove(index);
                    self.finish(&shot, outcome, now_ns, events)?;
                }
            }
        }
        Ok(())
    }

    /// The first shape opens the display; any other than that ends it.
    fn learn_shape(&mut self, shape: Option<Shape>, events: &mut Vec<Event>) -> Result<(), DisplayError> {
        let Some(shape) = shape else {
            return Err(DisplayError::Failed(format!("output {} cannot be copied to shared memory", self.output)));
        };
        match self.opened {
            Some((_, opened)) if opened == shape => Ok(()),
            Some((_, opened)) => Err(DisplayError::Failed(format!(
                "output {} changed from {}x{} to {}x{}, or its pixel format",
                self.output, opened.width, opened.height, shape.width, shape.height
            ))),
            None => {
                let format = checked_format(pixel_format(shape.format)?, shape.width, shape.height, shape.stride)?;
                self.opened = Some((format, shape));
                events.push(Event::Opened(format));
                Ok(())
            }
        }
    }

    fn finish(
        &mut self,
        shot: &Shot,
        outcome: Outcome,
        now_ns: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), DisplayError> {
        let buffer = self.copying.take_if(|(serial, _)| *serial == shot.serial).map(|(_, buffer)| buffer);
        match (outcome, buffer) {
            (Outcome::Ready { seconds, nanoseconds }, Some(buffer)) => {
                self.failures = 0;
                if let Some(pool) = &mut self.pool {
                    pool.fresh = false;
                    if shot.upside_down {
                        pool.turn_over(buffer);
                    }
                }
                events.push(Event::Ready(Frame { buffer, captured_ns: believed(seconds, nanoseconds, now_ns) }));
            }
            // The buffer stays here for the next attempt.
            (Outcome::Failed, buffer) => {
                self.held = self.held.or(buffer);
                let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE);
                self.failures = self.failures.saturating_add(1);
                self.pause_until = now_ns + pause.as_nanos() as u64;
                // What was prepared meanwhile is as doubtful as what failed.
                self.state.shots.retain(|shot| self.copying.is_some_and(|(serial, _)| serial == shot.serial));
            }
            (Outcome::Ready { .. }, None) => {
                return Err(DisplayError::Failed("the compositor finished a copy that nobody asked for".into()));
            }
        }
        Ok(())
    }

    /// Gives the held buffer to the prepared frame object, if there are both.
    fn copy(&mut self) {
        let (Some(buffer), None, Some(pool)) = (self.held, self.copying, &self.pool) else { return };
        let Some(shot) = self.state.shots.iter().find(|shot| shot.told) else { return };
        let Some(remote) = pool.remote.get(buffer as usize) else { return };
        if pool.fresh {
            shot.proxy.copy(remote);
        } else {
            shot.proxy.copy_with_damage(remote);
        }
        self.copying = Some((shot.serial, buffer));
        self.held = None;
    }
}

impl Display for Wlroots {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.connection.as_fd())
    }

    fn deadline(&self) -> Option<u64> {
        let opening = self.opened.is_none().then_some(self.open_by);
        let pausing = (self.state.shots.is_empty() && self.failures > 0).then_some(self.pause_until);
        [opening, pausing, self.flush_at].into_iter().flatten().min()
    }

    fn attach(&mut self, format: FrameFormat, memory: Vec<OwnedFd>) -> Result<(), DisplayError> {
        self.detach();
        let (Some((opened, shape)), Some(shm)) = (self.opened, &self.state.shm) else {
            return Err(DisplayError::Failed("a pool was given before the output had been opened".into()));
        };
        let (true, WEnum::Value(shm_format), Ok(size)) = (format == opened, shape.format, i32::try_from(format.size()))
        else {
            return Err(DisplayError::Failed(
                "the pool does not have the shape that the output was opened with".into(),
            ));
        };
        let local = map_all(&memory, format)?;
        let queue = self.queue.handle();
        let remote = memory
            .iter()
            .map(|fd| {
                let pool = shm.create_pool(fd.as_fd(), size, &queue, ());
                let (width, height) = (i32::from(format.width), i32::from(format.height));
                let buffer = pool.create_buffer(0, width, height, format.stride as i32, shm_format, &queue, ());
                pool.destroy();
                buffer
            })
            .collect();
        self.pool = Some(Pool { remote, local, format, fresh: true });
        Ok(())
    }

    fn detach(&mut self) {
        // A frame object that has no buffer yet stays: it is as good for the next pool.
        if let Some((copying, _)) = self.copying.take() {
            self.state.shots.retain(|shot| shot.serial != copying);
        }
        self.held = None;
        for buffer in self.pool.take().into_iter().flat_map(|pool| pool.remote) {
            buffer.destroy();
        }
        // Should the socket be full, the next dispatch flushes.
        let _ = self.connection.flush();
    }

    fn wants_buffer(&self) -> bool {
        self.pool.is_some() && self.copying.is_none() && self.held.is_none()
    }

    fn begin(&mut self, buffer: u32, now_ns: u64) {
        self.held = Some(buffer);
        self.copy();
        self.flush(now_ns);
    }

    fn dispatch(&mut self, now_ns: u64, events: &mut Vec<Event>) -> Result<(), DisplayError> {
        self.read()?;
        self.check_output(now_ns)?;
        self.collect(now_ns, events)?;
        if self.opened.is_none() && now_ns >= self.open_by {
            return Err(DisplayError::Failed(format!("the compositor does not describe output {}", self.output)));
        }
        self.prepare(now_ns)?;
        self.copy();
        self.flush(now_ns);
        Ok(())
    }
}

impl Pool {
    fn turn_over(&mut self, buffer: u32) {
        if let Some(pixels) = self.local.get_mut(buffer as usize).and_then(Mapping::as_mut_slice) {
            turn_over(pixels, self.format.stride as usize);
        }
    }
}

/// Exchanges the first row with the last and so on.
fn turn_over(pixels: &mut [u8], stride: usize) {
    let mut rows = pixels.chunks_exact_mut(stride);
    while let (Some(top), Some(bottom)) = (rows.next(), rows.next_back()) {
        top.swap_with_slice(bottom);
    }
}

fn pixel_format(format: WEnum<wl_shm::Format>) -> Result<PixelFormat, DisplayError> {
    use wl_shm::Format;
    match format {
        WEnum::Value(Format::Xrgb8888 | Format::Argb8888) => Ok(PixelFormat::Bgrx),
        WEnum::Value(Format::Xbgr8888 | Format::Abgr8888) => Ok(PixelFormat::Rgbx),
        other => {
            let code = u32::from(other);
            Err(DisplayError::Failed(format!(
                "the compositor offers pixels as {code:#010x} only; four bytes a pixel in XRGB8888 or XBGR8888 order \
                 are needed (for sway, WLR_RENDERER=pixman or gles2 gives that)"
            )))
        }
    }
}

/// The compositor's time of a picture if it can be one, else now; see the module's documentation.
fn believed(seconds: u64, nanoseconds: u32, now_ns: u64) -> u64 {
    let told = seconds.checked_mul(1_000_000_000).and_then(|ns| ns.checked_add(u64::from(nanoseconds)));
    let age = told.and_then(|told| now_ns.checked_sub(told));
    match age {
        Some(age) if nanoseconds < 1_000_000_000 && age <= BELIEVED_AGE.as_nanos() as u64 => now_ns - age,
        _ => now_ns,
    }
}

fn broken(error: DispatchError) -> DisplayError {
    match error {
        DispatchError::Backend(WaylandError::Io(error)) => {
            DisplayError::Gone(format!("the compositor closed the connection ({error})"))
        }
        DispatchError::Backend(WaylandError::Protocol(error)) => {
            DisplayError::Failed(format!("the compositor refused a request: {error}"))
        }
        DispatchError::BadMessage { interface, .. } => {
            DisplayError::Failed(format!("the compositor sent a malformed {interface} event"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_turned_over() {
        let mut rows = [1, 1, 2, 2, 3, 3];
        turn_over(&mut rows, 2);
        assert_eq!(rows, [3, 3, 2, 2, 1, 1]);
    }

    #[test]
    fn only_a_plausible_time_is_believed() {
        let now = 5_050_000_000;
        assert_eq!(believed(5, 49_000_000, now), 5_049_000_000);
        assert_eq!(believed(4, 950_000_000, now), 4_950_000_000, "100 ms old");
        for (seconds, nanoseconds) in [(4, 949_999_999), (5, 50_000_001), (4, 1_000_000_000), (0, 0), (u64::MAX, 0)] {
            assert_eq!(believed(seconds, nanoseconds, now), now, "{seconds}.{nanoseconds}");
        }
    }

    #[test]
    fn formats_with_other_layouts_are_refused_with_their_code() {
        assert_eq!(pixel_format(WEnum::Value(wl_shm::Format::Abgr8888)).ok(), Some(PixelFormat::Rgbx));
        let refused = pixel_format(WEnum::Value(wl_shm::Format::Rgb888)).unwrap_err().to_string();
        assert!(refused.contains("0x34324752"), "{refused}");
        assert!(pixel_format(WEnum::Unknown(7)).is_err());
    }
}
