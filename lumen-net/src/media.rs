//! The media thread: one blocking loop for all sessions. It waits in one epoll set for commands, the socket, the rings
//! and one timer, and every deadline of every session is in one heap.
//!
//! Nothing here allocates, logs or blocks between a chunk's `peek` and the `sendmsg` of its packets; what goes wrong
//! is counted.

use std::io;
use std::sync::Arc;

use ipc::event::now_ns;
use lumen_core::packet::Header;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::counters::{Counter, Counters};
use crate::deadlines::Deadlines;
use crate::queue::{Closed, Receiver, Sender};
use crate::session::{MediaSession, Pumped};

mod message;
pub mod socket;

pub use message::{MediaCommand, MediaEvent, Wiring};
use socket::{MediaSocket, Outlet, ReceiveBuffers};

/// Sessions in all. lumend's own limit is lower.
const SESSIONS: usize = 16;

/// An idle packet leaves when nothing else has for this long, so that a client soon notices a dead host.
const IDLE_NS: u64 = 50_000_000;

const REPORT_NS: u64 = 1_000_000_000;

/// A client probes at least ten times a second. One that has not for this long is gone, whatever QUIC still believes.
const SILENCE_NS: u64 = 3_000_000_000;

/// From a session's beginning to its client's first probe: as long as a client has for its `Start`.
const FIRST_PROBE_NS: u64 = 10_000_000_000;

/// Rounds of receiving before the rings get their turn again: a flood of garbage must not starve the streams.
const RECEIVE_ROUNDS: usize = 4;

/// Tokens of the epoll set; smaller ones are sessions' slots.
const COMMANDS: u64 = u64::MAX;
const SOCKET: u64 = u64::MAX - 1;
const TIMER: u64 = u64::MAX - 2;

/// What a session can wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Allowance for its next packets.
    Pace,
    Idle,
    Report,
    /// The client's next probe.
    Silence,
}

impl Wait {
    const KINDS: usize = 4;

    fn key(self, slot: usize) -> usize {
        slot * Self::KINDS + self as usize
    }

    fn of(key: usize) -> (Self, usize) {
        let wait = [Self::Pace, Self::Idle, Self::Report, Self::Silence][key % Self::KINDS];
        (wait, key / Self::KINDS)
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
    socket: Option<MediaSocket>,
    received: ReceiveBuffers,
    /// Some session waits for the socket to become writable.
    blocked: bool,
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
            socket: None,
            received: ReceiveBuffers::new(),
            blocked: false,
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
                    SOCKET => self.on_socket(event.events())?,
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
            MediaCommand::Socket(socket) => self.take_socket(MediaSocket::new(socket)?),
            MediaCommand::Open { session, secret, wiring } => {
                let Some(slot) = self.sessions.iter().position(Option::is_none) else {
                    let reason = format!("the network plane holds no more than {SESSIONS} sessions");
                    self.report(MediaEvent::Broken { session, reason });
                    return Ok(());
                };
                self.watch(slot, &wiring)?;
                let now = now_ns();
                self.sessions[slot] = Some(Box::new(MediaSession::new(session, secret, *wiring, now)));
                self.deadlines.set(Wait::Report.key(slot), now + REPORT_NS);
                self.deadlines.set(Wait::Silence.key(slot), now + SILENCE_NS);
                Ok(())
            }
            MediaCommand::Wire { session, wiring } => {
                let Some(slot) = self.slot(session.0) else { return Ok(()) };
                self.unwire(slot, None)?;
                self.watch(slot, &wiring)?;
                if let Some(session) = &mut self.sessions[slot] {
                    session.wire(*wiring);
                }
                self.pump(slot)
            }
            MediaCommand::Start { session } => {
                let Some(slot) = self.slot(session.0) else { return Ok(()) };
                if let Some(session) = &mut self.sessions[slot] {
                    session.start();
                }
                self.begin(slot)
            }
            MediaCommand::Retire { session, generation } => match self.slot(session.0) {
                Some(slot) => self.unwire(slot, Some(generation)),
                None => Ok(()),
            },
            MediaCommand::End { session } => match self.slot(session.0) {
                Some(slot) => self.forget(slot),
                None => Ok(()),
            },
        }
    }

    fn take_socket(&mut self, socket: MediaSocket) -> io::Result<()> {
        if let Some(old) = self.socket.take() {
            self.epoll.delete(&old)?;
        }
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, SOCKET))?;
        self.socket = Some(socket);
        self.blocked = false;
        (0..SESSIONS).try_for_each(|slot| self.pump(slot))
    }

    fn slot(&self, session: u32) -> Option<usize> {
        self.sessions.iter().position(|slot| slot.as_ref().is_some_and(|slot| slot.id().0 == session))
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
        for wait in [Wait::Pace, Wait::Idle, Wait::Report, Wait::Silence] {
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
        let (Some(session), Some(socket)) = (self.sessions.get_mut(slot).and_then(Option::as_mut), &self.socket) else {
            return Ok(());
        };
        let pace = Wait::Pace.key(slot);
        match session.pump(Outlet { socket, counters: &self.counters }) {
            Ok(Pumped::Empty) => self.deadlines.clear(pace),
            Ok(Pumped::Until(at_ns)) => self.deadlines.set(pace, at_ns),
            Ok(Pumped::Blocked) => {
                self.deadlines.clear(pace);
                self.want_writable(true)?;
            }
            Err(broken) => {
                let event = MediaEvent::Broken { session: session.id(), reason: broken.to_string() };
                self.unwire(slot, None)?;
                self.report(event);
            }
        }
        Ok(())
    }

    /// A session may just have got its client's address or its `Start`: whichever came last lets media flow.
    fn begin(&mut self, slot: usize) -> io::Result<()> {
        if self.sessions[slot].as_ref().is_some_and(|session| session.flowing()) {
            let idle = Wait::Idle.key(slot);
            if !self.deadlines.holds(idle) {
                self.deadlines.set(idle, now_ns() + IDLE_NS);
            }
            self.pump(slot)?;
        }
        Ok(())
    }

    fn want_writable(&mut self, wanted: bool) -> io::Result<()> {
        let (Some(socket), true) = (&self.socket, self.blocked != wanted) else { return Ok(()) };
        self.blocked = wanted;
        let flags = if wanted { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
        Ok(self.epoll.modify(socket, &mut EpollEvent::new(flags, SOCKET))?)
    }

    fn on_socket(&mut self, ready: EpollFlags) -> io::Result<()> {
        if ready.contains(EpollFlags::EPOLLOUT) {
            self.want_writable(false)?;
            (0..SESSIONS).try_for_each(|slot| self.pump(slot))?;
        }
        for _ in 0..RECEIVE_ROUNDS {
            if !self.receive()? {
                break;
            }
        }
        Ok(())
    }

    /// Takes one batch of datagrams; false when there was none.
    fn receive(&mut self) -> io::Result<bool> {
        let Some(socket) = &self.socket else { return Ok(false) };
        let out = Outlet { socket, counters: &self.counters };
        let count = socket.receive(&mut self.received)?;
        let now = now_ns();
        let mut heard = [false; SESSIONS];
        for (peer, datagram) in self.received.datagrams(count) {
            let sessions = &mut self.sessions;
            let found = Header::decode(datagram).and_then(|header| {
                let its = |slot: &Option<Box<MediaSession>>| slot.as_ref().is_some_and(|s| s.id().0 == header.session);
                sessions.iter().position(its).map(|slot| (slot, header))
            });
            let Some((slot, header)) = found else {
                self.counters.add(Counter::StrayPackets);
                continue;
            };
            if let Some(session) = &mut sessions[slot] {
                heard[slot] |= session.on_datagram(&header, datagram, peer, now, out);
            }
        }
        for slot in (0..SESSIONS).filter(|&slot| heard[slot]) {
            self.begin(slot)?;
        }
        Ok(count > 0)
    }

    fn on_deadlines(&mut self) -> io::Result<()> {
        let now = now_ns();
        while let Some(key) = self.deadlines.pop_due(now) {
            let (wait, slot) = Wait::of(key);
            if wait == Wait::Pace {
                self.pump(slot)?;
                continue;
            }
            let (Some(session), Some(socket)) = (&mut self.sessions[slot], &self.socket) else { continue };
            match wait {
                Wait::Pace => {}
                Wait::Idle => {
                    let quiet_since = session.last_sent_ns();
                    if quiet_since + IDLE_NS <= now {
                        session.send_idle(Outlet { socket, counters: &self.counters }, now);
                    }
                    self.deadlines.set(key, session.last_sent_ns().max(now - IDLE_NS / 2) + IDLE_NS);
                }
                Wait::Report => {
                    let event = MediaEvent::Stats { session: session.id(), stats: session.stats(now) };
                    self.deadlines.set(key, now + REPORT_NS);
                    self.report(event);
                }
                Wait::Silence => {
                    let patience = if session.is_heard() { SILENCE_NS } else { FIRST_PROBE_NS };
                    let over = session.heard_ns() + patience;
                    let event = MediaEvent::Silent { session: session.id() };
                    // Soon enough for a first probe to shorten it; and again, should the report be lost in a full queue.
                    let next = now + SILENCE_NS;
                    self.deadlines.set(key, if over > now { over.min(next) } else { next });
                    if over <= now {
                        self.report(event);
                    }
                }
            }
        }
        Ok(())
    }

    fn report(&self, event: MediaEvent) {
        if !self.events.send(event) {
            self.counters.add(Counter::QueueFull);
        }
    }
}
