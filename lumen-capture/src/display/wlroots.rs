//! An output of a wlroots compositor by wlr-screencopy v3: pictures straight into the pool's memory, cursor included.
//!
//! The Wayland socket is handed over connected; nothing here opens anything. Two frame objects are kept: while one waits
//! for its picture the next has already been told its shape, so that the request for it leaves the moment the picture
//! is there and no commit of the compositor falls between the two.
//!
//! [`Frame::captured_ns`] is the time in the `ready` event when it can be one: wlroots puts CLOCK_MONOTONIC of the
//! output's commit there, taken before the pixels are copied, so that the copy and this process's wake-up count as
//! latency. A time that is not within the last 100 ms is not believed, and the moment `ready` was read is used instead.
//!
//! An output that is faster than the mode asks for is copied at the mode's rate only; see [`Limit`].

mod limit;
mod picture;
mod pool;
mod protocol;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use ipc::FrameFormat;
use lumen_core::Mode;
use wayland_client::backend::WaylandError;
use wayland_client::{Connection, DispatchError, EventQueue, WEnum};

use super::{Buffers, Display, DisplayError, Event, Frame, checked_format};
use limit::Limit;
use picture::{believed, pixel_format};
use pool::{Kept, Pool};
use protocol::{Outcome, Shape, Shot, State};

/// How long the compositor may take to list its outputs and describe the wanted one.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// After a copy failed, the pause before the next; doubles with each failure in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(4);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// When to try again to hand requests to a compositor whose socket is full.
const FLUSH_PAUSE: Duration = Duration::from_millis(5);

/// A connection to a compositor that captures one output.
pub struct Wlroots {
    connection: Connection,
    queue: EventQueue<State>,
    state: State,
    output: String,
    limit: Option<Limit>,
    /// When opening has taken too long.
    open_by: u64,
    /// What `Opened` said, and the shape it was made from.
    opened: Option<(FrameFormat, Shape)>,
    pool: Option<Pool>,
    kept: Option<Kept>,
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
            limit: None,
            open_by: now_ns + OPEN_TIMEOUT.as_nanos() as u64,
            opened: None,
            pool: None,
            kept: None,
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

    /// Copies no more pictures than `mode` has, should the output be faster. The mode's size does not count: the output
    /// has the one it has.
    pub fn at_most(self, mode: Mode) -> Self {
        Self { limit: Some(Limit::new(mode.refresh_mhz())), ..self }
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

    /// The output, while it is there.
    fn present(&self) -> Option<&protocol::Output> {
        self.state.outputs.iter().find(|output| output.name.as_deref() == Some(&self.output) && !output.gone)
    }

    /// Asks for the next frame object, unless there is one, or it is too early, or the output is not there yet.
    fn prepare(&mut self, now_ns: u64) {
        let prepared = self.state.shots.len() > usize::from(self.copying.is_some());
        if prepared || now_ns < self.pause_until {
            return;
        }
        let (Some(manager), Some(output)) = (&self.state.manager, self.present()) else { return };
        let serial = self.serial + 1;
        let proxy = manager.capture_output(1, &output.proxy, &self.queue.handle(), serial);
        self.serial = serial;
        self.state.shots.push(Shot { serial, proxy, shape: None, told: false, upside_down: false, outcome: None });
    }

    /// Looks at what the compositor offers.
    fn check_globals(&self) -> Result<(), DisplayError> {
        let lacks = |what: &str| Err(DisplayError::Failed(format!("the compositor does not offer {what}")));
        match (&self.state.manager, &self.state.shm) {
            _ if !self.state.listed => Ok(()),
            (None, _) => {
                lacks("wlr-screencopy version 3; sway 1.7 and newer do, and other wlroots compositors of its age")
            }
            (_, None) => lacks("shared memory (wl_shm)"),
            _ => Ok(()),
        }
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
                let captured_ns = believed(seconds, nanoseconds, now_ns);
                if let Some(pool) = &mut self.pool {
                    pool.newest = Some((buffer, captured_ns));
                }
                if let Some(limit) = &mut self.limit {
                    limit.picture(captured_ns);
                }
                events.push(Event::Ready(Frame { buffer, captured_ns }));
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

    /// Says to the compositor whatever can be said now.
    fn advance(&mut self, now_ns: u64) {
        self.copy(now_ns);
        self.prepare(now_ns);
        self.flush(now_ns);
    }

    /// A held buffer and the prepared frame object that is to have it, if there are both.
    fn prepared(&self) -> Option<(u32, &Shot)> {
        let buffer = self.held.filter(|_| self.copying.is_none() && self.pool.is_some())?;
        Some((buffer, self.state.shots.iter().find(|shot| shot.told)?))
    }

    /// When the next copy may be asked for; none if that is at any time.
    fn copy_from_ns(&self) -> Option<u64> {
        let limit = self.limit.as_ref()?;
        self.present().filter(|output| limit.holds_back(output.refresh_mhz)).map(|_| limit.next_ns())
    }

    /// Gives the held buffer to the prepared frame object, unless that is too early.
    fn copy(&mut self, now_ns: u64) {
        let (Some((buffer, shot)), Some(pool)) = (self.prepared(), &self.pool) else { return };
        let Some(remote) = pool.remote.get(buffer as usize) else { return };
        if self.copy_from_ns().is_some_and(|from_ns| now_ns < from_ns) {
            return;
        }
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
        let copying = self.prepared().and_then(|_| self.copy_from_ns());
        [opening, pausing, copying, self.flush_at].into_iter().flatten().min()
    }

    fn attach(&mut self, format: FrameFormat, memory: Vec<OwnedFd>, now_ns: u64) -> Result<(), DisplayError> {
        self.detach(now_ns);
        let (Some((opened, shape)), Some(shm)) = (self.opened, &self.state.shm) else {
            return Err(DisplayError::Failed("a pool was given before the output had been opened".into()));
        };
        let (true, WEnum::Value(shm_format), Ok(size)) = (format == opened, shape.format, i32::try_from(format.size()))
        else {
            return Err(DisplayError::Failed(
                "the pool does not have the shape that the output was opened with".into(),
            ));
        };
        let local = Buffers::map(&memory, format)?;
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
        self.pool = Some(Pool { remote, local, format, fresh: true, newest: None });
        Ok(())
    }

    fn detach(&mut self, now_ns: u64) {
        // A frame object that has no buffer yet stays: it is as good for the next pool.
        let copying = self.copying.take();
        if let Some((copying, _)) = copying {
            self.state.shots.retain(|shot| shot.serial != copying);
        }
        self.held = None;
        if let Some(pool) = self.pool.take() {
            self.kept = pool.give_back(copying.map(|(_, buffer)| buffer), now_ns);
        }
        // Should the socket be full, the next dispatch flushes.
        let _ = self.connection.flush();
    }

    fn wants_buffer(&self) -> bool {
        self.pool.is_some() && self.copying.is_none() && self.held.is_none()
    }

    fn begin(&mut self, buffer: u32, now_ns: u64) {
        self.held = Some(buffer);
        self.advance(now_ns);
        // The request is on its way: until the compositor's next refresh there is time.
        if let Some(pool) = &mut self.pool {
            pool.local.populate(buffer);
        }
    }

    fn again(&mut self, buffer: u32, now_ns: u64) -> Option<Frame> {
        let kept = self.kept.take()?;
        self.pool.as_mut()?.show(&kept, buffer, now_ns)
    }

    fn dispatch(&mut self, now_ns: u64, events: &mut Vec<Event>) -> Result<(), DisplayError> {
        self.read()?;
        self.check_globals()?;
        self.check_output(now_ns)?;
        self.collect(now_ns, events)?;
        if self.opened.is_none() && now_ns >= self.open_by {
            return Err(DisplayError::Failed(format!("the compositor does not describe output {}", self.output)));
        }
        // A picture goes on its way first: `begin` comes at once and sends everything in one go.
        if !events.iter().any(|event| matches!(event, Event::Ready(_))) {
            self.advance(now_ns);
            if let Some(pool) = self.pool.as_mut().filter(|_| self.copying.is_some()) {
                pool.local.populate_another();
            }
        }
        Ok(())
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
