//! The loop: one input plane, the pattern's events at their times, and what the plane answers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ipc::event::{Event, now_ns};
use ipc::link::LinkError;
use ipc::ring::{ChunkFlags, ChunkHeader, RingConsumer, RingProducer};
use ipc::shm::{ShmError, sealed_memfd};
use ipc::{
    FromInput, Generation, Hands, InputBackends, InputStats, InputWiring, PlaneKind, RingFds, RingGeometry,
    STATE_BYTES, SessionId, ToInput,
};
use lumen_core::Permissions;
use lumen_core::input::script::{self, Step};
use lumen_core::input::{InputEvent, MAX_EVENT};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::Outcome;
use crate::failure::Failure;
use crate::grumbles::printable;
use crate::plumb::ring;
use crate::reach::{Binaries, Reach};
use crate::uinput::Supply;

/// From start to summary; the pattern takes two seconds.
const WITHIN: u64 = 20_000_000_000;

/// What the plane tells of its work so long after the last event includes that event.
const SETTLED: u64 = 300_000_000;

/// Programs take a moment to listen to devices that have just appeared.
const LISTENING: u64 = 500_000_000;

const GENERATION: Generation = Generation(1);
const SESSION: SessionId = SessionId(1);

/// Characters of a reason that are shown.
const REASON: usize = 300;

/// Everything that can wake the loop, in the order of its descriptors.
#[derive(Clone, Copy)]
enum Wake {
    Word,
    Rumble,
    Grumble,
    Death,
}

pub struct Driver {
    plane: Reach,
    supply: Supply,
    wiring: Option<InputWiring<OwnedFd>>,
    events: RingProducer,
    haptics: RingConsumer,
    /// Events that are still to come.
    steps: VecDeque<Step>,
    /// What there is, and when the steps begin.
    wired: Option<(InputBackends, u64)>,
    sent: u64,
    last_sent: u64,
    rumbles: u64,
    done: Option<InputStats>,
    end: u64,
}

impl Driver {
    /// Starts a plane for `hands`.
    pub fn start(binaries: &Binaries, supply: Supply, hands: Hands<OwnedFd>) -> Result<Self, Failure> {
        let now = now_ns();
        let (producer, events) = ring("lumen-events", RingGeometry::INPUT)?;
        let (consumer, haptics) = ring("lumen-haptics", RingGeometry::HAPTICS)?;
        let wiring = InputWiring {
            session: SESSION,
            generation: GENERATION,
            permissions: Permissions::ALL,
            hands,
            uinput: supply.available(),
            events,
            before: Vec::new(),
            haptics,
            state: sealed_memfd("lumen-hands", STATE_BYTES)?,
            kept: Vec::new(),
        };
        Ok(Self {
            plane: Reach::spawn(binaries, PlaneKind::Input, None, now)?,
            supply,
            wiring: Some(wiring),
            events: attach(producer, RingProducer::attach).map_err(broken)?,
            haptics: attach(consumer, RingConsumer::attach).map_err(broken)?,
            steps: script::pattern().into(),
            wired: None,
            sent: 0,
            last_sent: now,
            rumbles: 0,
            done: None,
            end: now + WITHIN,
        })
    }

    /// Plays the pattern; `progress` is told of each kind of event when it begins.
    pub fn run(mut self, mut progress: impl FnMut(&str)) -> Result<Outcome, Failure> {
        let mut kind = "";
        loop {
            for wake in self.wait()? {
                self.woken(wake)?;
            }
            let now = now_ns();
            if let (Some((backends, _)), Some(stats)) = (self.wired, self.done) {
                self.stop()?;
                return Ok(Outcome { backends, sent: self.sent, stats, rumbles: self.rumbles });
            }
            if now >= self.end {
                self.plane.kill(now_ns());
                return Err(Failure::new(1, "the input plane does not answer; is the desktop stuck?"));
            }
            while let Some(step) = self.due(now) {
                if !self.send(now, &step.event)? {
                    self.steps.push_front(step);
                    break;
                }
                if kind != kind_of(&step.event) {
                    kind = kind_of(&step.event);
                    progress(kind);
                }
            }
        }
    }

    fn next_at(&self) -> Option<u64> {
        let (_, began) = self.wired?;
        self.steps.front().map(|step| began + step.at_ns)
    }

    fn due(&mut self, now: u64) -> Option<Step> {
        self.next_at().filter(|&at| now >= at).and_then(|_| self.steps.pop_front())
    }

    /// False while the ring is full.
    fn send(&mut self, now: u64, event: &InputEvent) -> Result<bool, Failure> {
        self.events.check().map_err(broken)?;
        let Some(mut writer) = self.events.reserve() else { return Ok(false) };
        let mut bytes = [0; MAX_EVENT];
        let length = event.encode(&mut bytes);
        let frame = self.sent as u32;
        let header = ChunkHeader {
            generation: GENERATION.0,
            frame,
            flags: ChunkFlags::LAST,
            captured_ns: now,
            ..Default::default()
        };
        writer.commit(header, &bytes[..length]).map_err(broken)?;
        self.sent += 1;
        self.last_sent = now;
        Ok(true)
    }

    fn wait(&mut self) -> Result<Vec<Wake>, Failure> {
        let now = now_ns();
        // A full ring is looked at again when the plane has said something, which it does once a second at least.
        let next = self.next_at().filter(|&at| at > now || self.events.ready()).unwrap_or(self.end).min(self.end);
        let mut fds = vec![(self.haptics.data().as_fd(), Wake::Rumble)];
        fds.extend(self.plane.pidfd().map(|(fd, _)| (fd, Wake::Death)));
        fds.extend(self.plane.link().map(|link| (link.as_fd(), Wake::Word)));
        fds.extend(
            self.plane.grumbles.as_ref().and_then(|grumbles| grumbles.source(now)).map(|pipe| (pipe, Wake::Grumble)),
        );
        let mut polled: Vec<_> = fds.iter().map(|(fd, _)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        let timeout = TimeSpec::from(Duration::from_nanos(next.saturating_sub(now)));
        match ppoll(&mut polled, Some(timeout), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
        let ready = polled.iter().zip(&fds).filter(|(poll, _)| poll.any() == Some(true));
        Ok(ready.map(|(_, (_, wake))| *wake).collect())
    }

    fn woken(&mut self, wake: Wake) -> Result<(), Failure> {
        match wake {
            Wake::Word => loop {
                match self.plane.recv::<FromInput>(now_ns()) {
                    Ok(Some(word)) => self.hear(word)?,
                    Ok(None) => return Ok(()),
                    // Its process has ended or will: that says why.
                    Err(LinkError::Closed) => {
                        self.plane.close();
                        return Ok(());
                    }
                    Err(error) => return Err(self.give_up(error)),
                }
            },
            Wake::Rumble => {
                self.haptics.data().drain();
                while self.haptics.peek().map_err(broken)?.is_some() {
                    self.haptics.release();
                    self.rumbles += 1;
                }
                Ok(())
            }
            Wake::Grumble => {
                self.grumble();
                Ok(())
            }
            Wake::Death => {
                self.grumble();
                match self.plane.reap(now_ns()) {
                    Some(exit) => Err(Failure::new(1, format!("the input plane ended: {exit}"))),
                    None => Ok(()),
                }
            }
        }
    }

    fn grumble(&mut self) {
        let lines = self.plane.grumbles.as_mut().map(|grumbles| grumbles.hear(now_ns()));
        for line in lines.into_iter().flatten() {
            eprintln!("lumen-input: {line}");
        }
    }

    fn hear(&mut self, word: FromInput) -> Result<(), Failure> {
        let sent = match word {
            FromInput::Hello(hello) => {
                if let Err(reason) = self.plane.greet(hello) {
                    return Err(self.give_up(reason));
                }
                self.wiring.take().map_or(Ok(()), |wiring| self.plane.send(ToInput::Wire(wiring)))
            }
            FromInput::Want(device) => {
                let fd = self.supply.take().map_err(|error| eprintln!("no {device}: {error}")).ok();
                self.plane.send(ToInput::Device { device, fd })
            }
            FromInput::Wired { backends, .. } => {
                self.wired.get_or_insert((backends, now_ns() + LISTENING));
                Ok(())
            }
            FromInput::Failed { reason, .. } => {
                let reason = printable(&reason, REASON);
                return Err(self.give_up(format!("it cannot be done: {reason}")));
            }
            FromInput::Stats { stats, .. } => {
                if self.steps.is_empty() && now_ns() >= self.last_sent + SETTLED {
                    self.done = Some(stats);
                }
                Ok(())
            }
            FromInput::Pong(_) | FromInput::Dropped(_) | FromInput::Leaving(_) => Ok(()),
        };
        sent.map_err(|error| self.give_up(error))
    }

    fn give_up(&mut self, reason: impl std::fmt::Display) -> Failure {
        self.plane.kill(now_ns());
        Failure::new(1, format!("the input plane: {reason}"))
    }

    /// Lets the plane lift what it holds, and waits for its end.
    fn stop(&mut self) -> Result<(), Failure> {
        self.plane.close();
        while self.plane.reap(now_ns()).is_none() {
            let left = self.end.saturating_sub(now_ns());
            if left == 0 {
                self.plane.kill(now_ns());
                return Err(Failure::new(1, "the input plane does not end"));
            }
            let timeout = TimeSpec::from(Duration::from_nanos(left));
            let mut polled: Vec<_> = self.plane.pidfd().map(|(fd, what)| PollFd::new(fd, what)).into_iter().collect();
            match ppoll(&mut polled, Some(timeout), None) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(io::Error::from(errno).into()),
            }
        }
        Ok(())
    }
}

/// One end of a ring, from its descriptors.
fn attach<T>(
    fds: RingFds<OwnedFd>,
    side: impl FnOnce(std::os::fd::BorrowedFd<'_>, Event, Event, RingGeometry) -> Result<T, ShmError>,
) -> Result<T, ShmError> {
    let RingFds { memory, data, credit, geometry } = fds;
    side(memory.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry)
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::new(1, format!("the memory shared with the input plane: {error}"))
}

/// For people.
fn kind_of(event: &InputEvent) -> &'static str {
    match event {
        InputEvent::Key { .. } => "keys",
        InputEvent::Text(_) => "text",
        InputEvent::Motion { .. } => "pointer motion",
        InputEvent::Position { .. } => "pointer position",
        InputEvent::Button { .. } => "buttons",
        InputEvent::Scroll { .. } => "scrolling",
        InputEvent::Touch { .. } => "touch",
        InputEvent::PadArrived { .. } | InputEvent::PadRemoved { .. } | InputEvent::PadState { .. } => "gamepad",
        InputEvent::Held(_) => "what is held",
    }
}
