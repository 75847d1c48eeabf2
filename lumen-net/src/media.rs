//! The media thread: one blocking loop for all sessions. It waits in one epoll set for commands, a socket for each
//! protocol, the rings and one timer, and every deadline of every session is in one heap.
//!
//! Nothing here allocates, logs or blocks between a chunk's `peek` and the `sendmsg` of its packets; what goes wrong
//! is counted.

use std::io;
use std::sync::Arc;

use ipc::event::now_ns;
use ipc::{Face, SessionId};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::counters::{Counter, Counters};
use crate::deadlines::Deadlines;
use crate::queue::{Closed, Receiver, Sender};
use crate::session::{MediaSession, Pumped, SILENCE_NS};

mod ancillary;
mod hear;
mod message;
pub mod socket;
mod wait;

pub use message::{GuestMedia, MediaCommand, MediaEvent, Wiring};
use socket::{MediaSocket, Outlet, ReceiveBuffers};
use wait::{IDLE_NS, REPORT_NS, Wait};

/// Sessions in all. lumend's own limit is lower.
const SESSIONS: usize = 16;

/// Tokens of the epoll set; smaller ones are sessions' slots.
const COMMANDS: u64 = u64::MAX;
const LUMEN: u64 = u64::MAX - 1;
const GAMESTREAM: u64 = u64::MAX - 2;
const TIMER: u64 = u64::MAX - 3;

const fn token(face: Face) -> u64 {
    match face {
        Face::Lumen => LUMEN,
        Face::GameStream => GAMESTREAM,
    }
}

/// The socket of each protocol.
#[derive(Default)]
struct Sockets {
    lumen: Option<MediaSocket>,
    gamestream: Option<MediaSocket>,
}

impl Sockets {
    fn of(&self, face: Face) -> Option<&MediaSocket> {
        match face {
            Face::Lumen => self.lumen.as_ref(),
            Face::GameStream => self.gamestream.as_ref(),
        }
    }

    fn of_mut(&mut self, face: Face) -> &mut Option<MediaSocket> {
        match face {
            Face::Lumen => &mut self.lumen,
            Face::GameStream => &mut self.gamestream,
        }
    }
}

/// The media thread's state; all descriptors but sockets and rings are made by [`Media::new`].
pub struct Media {
    epoll: Epoll,
    timer: TimerFd,
    /// What the timer is set to.
    armed_ns: Option<u64>,
    commands: Receiver<MediaCommand>,
    events: Sender<MediaEvent>,
    counters: Arc<Counters>,
    sockets: Sockets,
    received: ReceiveBuffers,
    sessions: [Option<Box<MediaSession>>; SESSIONS],
    deadlines: Deadlines,
}

impl Media {
    pub fn new(
        commands: Receiver<MediaCommand>,
        events: Sender<MediaEvent>,
        counters: Arc<Counters>,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        epoll.add(commands.wake(), EpollEvent::new(EpollFlags::EPOLLIN, COMMANDS))?;
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        Ok(Self {
            epoll,
            timer,
            armed_ns: None,
            commands,
            events,
            counters,
            sockets: Sockets::default(),
            received: ReceiveBuffers::new(),
            sessions: [const { None }; SESSIONS],
            deadlines: Deadlines::new(SESSIONS * Wait::KINDS),
        })
    }

    /// Runs until the other end of the command queue is dropped.
    pub fn run(mut self) {
        if let Err(error) = self.serve() {
            let reason = format!("the media thread cannot go on: {error}");
            self.report(MediaEvent::Died { reason });
        }
    }

    fn serve(&mut self) -> io::Result<()> {
        let mut ready = [EpollEvent::empty(); 32];
        loop {
            self.arm()?;
            let count = match self.epoll.wait(&mut ready, EpollTimeout::NONE) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in &ready[..count] {
                match event.data() {
                    COMMANDS => match self.on_commands() {
                        Ok(done) => done?,
                        Err(Closed) => return Ok(()),
                    },
                    LUMEN => self.on_socket(Face::Lumen, event.events())?,
                    GAMESTREAM => self.on_socket(Face::GameStream, event.events())?,
                    TIMER => {
                        // Late or spurious makes no difference: the heap is looked at in any case.
                        let _ = self.timer.wait();
                        self.armed_ns = None;
                    }
                    slot => self.on_ring(slot as usize)?,
                }
            }
            self.on_deadlines()?;
        }
    }

    /// Sets the timer for the earliest deadline, unless it will go off before that anyway.
    fn arm(&mut self) -> io::Result<()> {
        let Some(due) = self.deadlines.next() else { return Ok(()) };
        if self.armed_ns.is_some_and(|armed| armed <= due.at_ns) {
            return Ok(());
        }
        // A time of zero would disarm the timer.
        let at = TimeSpec::from_duration(std::time::Duration::from_nanos(due.at_ns.max(1)));
        self.timer.set(Expiration::OneShot(at), TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
        self.armed_ns = Some(due.at_ns);
        Ok(())
    }

    fn on_commands(&mut self) -> Result<io::Result<()>, Closed> {
        self.commands.rearm();
        while let Some(command) = self.commands.next()? {
            if let Err(error) = self.on_command(command) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    fn on_command(&mut self, command: MediaCommand) -> io::Result<()> {
        match command {
            MediaCommand::Socket(socket) => self.take_socket(Face::Lumen, MediaSocket::new(socket)?),
            MediaCommand::GuestSocket(socket) => self.take_socket(Face::GameStream, MediaSocket::new(socket)?),
            MediaCommand::Open { session, secret, wiring } => {
                let Some(slot) = self.place(session, &wiring)? else { return Ok(()) };
                let now = now_ns();
                self.open(slot, MediaSession::new(session, secret, *wiring, now), now);
                Ok(())
            }
            MediaCommand::OpenGuest { session, guest, wiring } => {
                let Some(slot) = self.place(session, &wiring)? else { return Ok(()) };
                let now = now_ns();
                self.open(slot, MediaSession::guest(session, guest, *wiring, now), now);
                Ok(())
            }
            MediaCommand::Wire { session, wiring } => {
                let Some(slot) = self.slot(session) else { return Ok(()) };
                self.unwire(slot, None)?;
                self.watch(slot, &wiring)?;
                if let Some(session) = &mut self.sessions[slot] {
                    session.wire(*wiring);
                }
                self.pump(slot)
            }
            MediaCommand::Start { session } => {
                let Some(slot) = self.slot(session) else { return Ok(()) };
                if let Some(session) = &mut self.sessions[slot] {
                    session.start(now_ns());
                }
                self.begin(slot)
            }
            MediaCommand::Keyframe { session } => {
                let Some(slot) = self.slot(session) else { return Ok(()) };
                let session = self.sessions[slot].as_mut();
                if let Some(later_ns) = session.and_then(|session| session.demand_keyframe(now_ns())) {
                    self.deadlines.set(Wait::Keyframe.key(slot), later_ns);
                }
                Ok(())
            }
            MediaCommand::Loss { session, permille } => {
                let slot = self.slot(session);
                if let Some(session) = slot.and_then(|slot| self.sessions[slot].as_mut()) {
                    session.set_loss(permille);
                }
                Ok(())
            }
            MediaCommand::Retire { session, generation } => match self.slot(session) {
                Some(slot) => self.unwire(slot, Some(generation)),
                None => Ok(()),
            },
            MediaCommand::End { session } => match self.slot(session) {
                Some(slot) => self.forget(slot),
                None => Ok(()),
            },
        }
    }

    /// A free slot, whose ring is listened to from now on; none if there is none, which is reported.
    fn place(&mut self, session: SessionId, wiring: &Wiring) -> io::Result<Option<usize>> {
        let slot = self.sessions.iter().position(Option::is_none);
        match slot {
            Some(slot) => self.watch(slot, wiring)?,
            None => {
                let reason = format!("the network plane holds no more than {SESSIONS} sessions");
                self.report(MediaEvent::Broken { session, reason });
            }
        }
        Ok(slot)
    }

    fn open(&mut self, slot: usize, session: MediaSession, now_ns: u64) {
        self.sessions[slot] = Some(Box::new(session));
        self.deadlines.set(Wait::Report.key(slot), now_ns + REPORT_NS);
        self.deadlines.set(Wait::Silence.key(slot), now_ns + SILENCE_NS);
    }

    fn take_socket(&mut self, face: Face, socket: MediaSocket) -> io::Result<()> {
        if let Some(old) = self.sockets.of_mut(face).take() {
            self.epoll.delete(&old)?;
        }
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, token(face)))?;
        *self.sockets.of_mut(face) = Some(socket);
        self.pump_all(face)
    }

    fn slot(&self, session: SessionId) -> Option<usize> {
        self.sessions.iter().position(|slot| slot.as_ref().is_some_and(|slot| slot.id() == session))
    }

    /// Adds a ring's event to the epoll set; its token is the slot.
    fn watch(&mut self, slot: usize, wiring: &Wiring) -> io::Result<()> {
        Ok(self.epoll.add(wiring.video.data(), EpollEvent::new(EpollFlags::EPOLLIN, slot as u64))?)
    }

    /// Drops a session's rings, if they are of `generation`. Other processes hold the same eventfd, so closing ours
    /// would not take it out of the epoll set.
    fn unwire(&mut self, slot: usize, generation: Option<u32>) -> io::Result<()> {
        let Some(session) = &mut self.sessions[slot] else { return Ok(()) };
        if let Some(wiring) = session.unwire(generation) {
            self.epoll.delete(wiring.video.data())?;
            self.deadlines.clear(Wait::Pace.key(slot));
        }
        Ok(())
    }

    fn forget(&mut self, slot: usize) -> io::Result<()> {
        self.unwire(slot, None)?;
        self.sessions[slot] = None;
        for wait in Wait::ALL {
            self.deadlines.clear(wait.key(slot));
        }
        Ok(())
    }

    fn on_ring(&mut self, slot: usize) -> io::Result<()> {
        if let Some(session) = self.sessions.get(slot).and_then(Option::as_ref) {
            session.drain_wake();
        }
        self.pump(slot)
    }

    /// Sends what a session has and may send, and notes what it waits for next.
    fn pump(&mut self, slot: usize) -> io::Result<()> {
        let Some(session) = self.sessions.get_mut(slot).and_then(Option::as_mut) else { return Ok(()) };
        let face = session.face();
        let Some(socket) = self.sockets.of(face) else { return Ok(()) };
        let pace = Wait::Pace.key(slot);
        match session.pump(Outlet { socket, counters: &self.counters }) {
            Ok(Pumped::Empty) => self.deadlines.clear(pace),
            Ok(Pumped::Until(at_ns)) => self.deadlines.set(pace, at_ns),
            Ok(Pumped::Blocked) => {
                self.deadlines.clear(pace);
                self.want_writable(face, true)?;
            }
            Err(broken) => {
                let (session, generation) = (session.id(), session.generation());
                self.unwire(slot, None)?;
                self.report(MediaEvent::RingBroken { session, generation, reason: broken.to_string() });
            }
        }
        Ok(())
    }

    fn pump_all(&mut self, face: Face) -> io::Result<()> {
        for slot in 0..SESSIONS {
            if self.sessions[slot].as_ref().is_some_and(|session| session.face() == face) {
                self.pump(slot)?;
            }
        }
        Ok(())
    }

    /// A session may just have got its client's address or its `Start`: whichever came last lets media flow.
    fn begin(&mut self, slot: usize) -> io::Result<()> {
        if let Some(session) = self.sessions[slot].as_ref().filter(|session| session.flowing()) {
            let idle = Wait::Idle.key(slot);
            // GameStream has no idle packets.
            if session.face() == Face::Lumen && !self.deadlines.holds(idle) {
                self.deadlines.set(idle, now_ns() + IDLE_NS);
            }
            self.pump(slot)?;
        }
        Ok(())
    }

    fn report(&self, event: MediaEvent) {
        if !self.events.send(event) {
            self.counters.add(Counter::QueueFull);
        }
    }
}
