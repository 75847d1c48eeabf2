//! Input on its way to the host: every event leaves at once, and leaves again until the host has it.

mod log;
mod player;

use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lumen_core::InputEvent;
use lumen_core::input::hands::Hands;
use lumen_core::input::outbox::Outbox;
use lumen_core::input::{MAX_PADS, PadIndex, PadKind, PadState};
use quinn::Connection;
use tokio::sync::Notify;

use crate::monotonic_ns;

pub use log::InputLog;
pub use player::Player;

/// While anything is down, the host is told so often what it is.
const HELD_EVERY_NS: u64 = 200_000_000;
/// Times that it is told that nothing is, after the last release.
const HELD_AFTER: u8 = 2;

/// An event that did not get on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotSent {
    #[error("the host is far behind: too many events wait for its acknowledgement")]
    Full,
    #[error("the session is over")]
    Over,
    /// By [`InputSender::interrupt`].
    #[error("the wait was called off")]
    Interrupted,
}

/// An event that did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    pub seq: u32,
    /// Our CLOCK_MONOTONIC, nanoseconds.
    pub sent_ns: u64,
    pub event: InputEvent,
}

/// What became of a session's events.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct InputCounts {
    /// Events, each once.
    pub sent: u64,
    pub acknowledged: u64,
    /// Events that were on their way to a session that was lost: nobody knows whether they arrived.
    pub given_up: u64,
    /// Events that had to leave again because no acknowledgement came in time.
    pub retransmitted: u64,
    /// Datagrams that carried them.
    pub datagrams: u64,
}

/// Sends input from any thread, in the order of the calls. What is pressed is told to the host every 200 ms, so that a
/// release that got lost is made up for.
#[derive(Clone)]
pub struct InputSender(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    /// Somebody waits for acknowledgements, and some came; or it is over.
    changed: Condvar,
    /// There is an earlier deadline than the one that [`InputSender::keep`] waits for.
    earlier: Notify,
}

struct State {
    /// The newest. What one that is lost carries off leaves again over the next.
    connection: Option<Connection>,
    outbox: Outbox,
    hands: Hands,
    /// What each pad that is plugged in has said last.
    pads: [Option<Pad>; MAX_PADS as usize],
    /// When to say what is held, and how often more once nothing is.
    held_ns: Option<u64>,
    held_more: u8,
    /// The next wait is called off, or the one that is going on.
    interrupted: bool,
    /// Threads in [`InputSender::wait`] that want to hear of acknowledgements.
    waiting: u32,
    asleep_until_ns: u64,
    over: bool,
    log: Option<Sender<Sent>>,
    datagram: Vec<u8>,
}

impl InputSender {
    pub(crate) fn new(connection: Connection) -> Self {
        let mut state = State::new();
        state.connection = Some(connection);
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), earlier: Notify::new() }))
    }

    /// There is another connection: to the same session, whose host goes on where it was, or to a new one, which knows of
    /// nothing. Everything that is down is put down again, for the host may have lifted it meanwhile.
    pub(crate) fn attach(&self, connection: Connection, resumed: bool) {
        let mut state = self.lock();
        let now_ns = monotonic_ns();
        state.connection = Some(connection);
        state.come_back(now_ns, resumed);
        state.transmit(now_ns);
        self.0.earlier.notify_one();
        self.0.changed.notify_all();
    }

    /// Number of the oldest event that the host is not known to have.
    pub(crate) fn first_event(&self) -> u32 {
        self.lock().outbox.first()
    }

    /// Sends an event and gives its number.
    pub fn send(&self, event: InputEvent) -> Result<u32, NotSent> {
        let mut state = self.lock();
        if state.over {
            return Err(NotSent::Over);
        }
        let now_ns = monotonic_ns();
        let seq = state.take(now_ns, event).ok_or(NotSent::Full)?;
        self.leave(&mut state, now_ns);
        Ok(seq)
    }

    /// Sends an event, after a wait where the host is far behind.
    pub fn send_patiently(&self, event: InputEvent) -> Result<u32, NotSent> {
        loop {
            match self.send(event) {
                Err(NotSent::Full) => {
                    let acknowledged = self.counts().acknowledged;
                    self.wait(u64::MAX, |counts| counts.acknowledged > acknowledged)?;
                }
                sent => return sent,
            }
        }
    }

    /// Waits until the host has every event that was sent so far, at most until `deadline_ns` (our CLOCK_MONOTONIC), and
    /// says whether it has.
    pub fn wait_acknowledged(&self, deadline_ns: u64) -> Result<bool, NotSent> {
        self.wait(deadline_ns, |counts| counts.acknowledged + counts.given_up >= counts.sent)
    }

    /// Waits for a time of our CLOCK_MONOTONIC, in nanoseconds; an error if the session ends before.
    pub fn wait_until(&self, deadline_ns: u64) -> Result<(), NotSent> {
        let mut state = self.lock();
        loop {
            let left_ns = deadline_ns.saturating_sub(monotonic_ns());
            match () {
                () if state.over => return Err(NotSent::Over),
                () if std::mem::take(&mut state.interrupted) => return Err(NotSent::Interrupted),
                () if left_ns == 0 => return Ok(()),
                () => state = self.sleep(state, left_ns),
            }
        }
    }

    /// Tells a log of every event from now on; it ends with the session.
    pub fn record(&self, log: Sender<Sent>) {
        self.lock().log = Some(log);
    }

    pub fn counts(&self) -> InputCounts {
        self.lock().counts()
    }

    /// Calls off one wait, now or the next.
    pub fn interrupt(&self) {
        self.lock().interrupted = true;
        self.0.changed.notify_all();
    }

    /// Nothing is sent any more, and nobody waits.
    pub fn close(&self) {
        let mut state = self.lock();
        state.over = true;
        state.log = None;
        self.0.changed.notify_all();
    }

    /// The host has said what it has; none if that was malformed.
    pub(crate) fn acknowledge(&self, now_ns: u64, datagram: &[u8]) -> Option<()> {
        let mut state = self.lock();
        state.outbox.acknowledge(now_ns, datagram)?;
        self.leave(&mut state, now_ns);
        if state.waiting > 0 {
            self.0.changed.notify_all();
        }
        Some(())
    }

    /// Sends again what is not acknowledged, and says what is held, for as long as the session lasts.
    pub(crate) async fn keep(&self) -> ! {
        loop {
            let wait_ns = {
                let mut state = self.lock();
                let now_ns = monotonic_ns();
                state.tell_held(now_ns);
                state.transmit(now_ns);
                state.asleep_until_ns = state.deadline_ns();
                state.asleep_until_ns.saturating_sub(now_ns)
            };
            // A day, where there is nothing to wait for: the timer does not take more than some years.
            let wait = Duration::from_nanos(wait_ns).min(Duration::from_secs(86_400));
            tokio::select! {
                () = self.0.earlier.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends what is due, and sees to it that [`InputSender::keep`] is there for what is due next.
    fn leave(&self, state: &mut State, now_ns: u64) {
        state.transmit(now_ns);
        if state.deadline_ns() < state.asleep_until_ns {
            self.0.earlier.notify_one();
        }
    }

    fn wait(&self, deadline_ns: u64, enough: impl Fn(InputCounts) -> bool) -> Result<bool, NotSent> {
        let mut state = self.lock();
        state.waiting += 1;
        let waited = loop {
            let left_ns = deadline_ns.saturating_sub(monotonic_ns());
            match () {
                () if enough(state.counts()) => break Ok(true),
                () if state.over => break Err(NotSent::Over),
                () if std::mem::take(&mut state.interrupted) => break Err(NotSent::Interrupted),
                () if left_ns == 0 => break Ok(false),
                () => state = self.sleep(state, left_ns),
            }
        };
        state.waiting -= 1;
        waited
    }

    fn sleep<'a>(&self, state: MutexGuard<'a, State>, left_ns: u64) -> MutexGuard<'a, State> {
        let left = Duration::from_nanos(left_ns);
        self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A pad that is plugged in.
#[derive(Clone, Copy)]
struct Pad {
    kind: PadKind,
    state: PadState,
}

impl State {
    fn new() -> Self {
        Self {
            connection: None,
            outbox: Outbox::new(),
            hands: Hands::default(),
            pads: [None; MAX_PADS as usize],
            held_ns: None,
            held_more: 0,
            interrupted: false,
            waiting: 0,
            asleep_until_ns: u64::MAX,
            over: false,
            log: None,
            datagram: Vec::new(),
        }
    }

    /// An event of whoever has the hands.
    fn take(&mut self, now_ns: u64, event: InputEvent) -> Option<u32> {
        let seq = self.push(now_ns, event)?;
        self.hands.apply(&event);
        self.follow(&event);
        if self.anything_down() {
            // Also for what is lifted again before its time has come.
            self.held_more = HELD_AFTER;
            self.held_ns.get_or_insert(now_ns + HELD_EVERY_NS);
        }
        Some(seq)
    }

    fn push(&mut self, now_ns: u64, event: InputEvent) -> Option<u32> {
        let seq = self.outbox.push(now_ns, event).ok()?;
        if let Some(log) = &self.log {
            // A log that cannot be written says so itself.
            let _ = log.send(Sent { seq, sent_ns: now_ns, event });
        }
        Some(seq)
    }

    /// Remembers what a pad says.
    fn follow(&mut self, event: &InputEvent) {
        match *event {
            InputEvent::PadArrived { pad, kind } => {
                self.pads[usize::from(pad.get())] = Some(Pad { kind, state: PadState::default() });
            }
            InputEvent::PadRemoved { pad } => self.pads[usize::from(pad.get())] = None,
            InputEvent::PadState { pad, state } => {
                let kind = PadKind::Unknown;
                self.pads[usize::from(pad.get())].get_or_insert(Pad { kind, state }).state = state;
            }
            _ => {}
        }
    }

    /// Everything that is not acknowledged leaves again, or at least what never left; then comes how things stand. What
    /// finds no room is made up for by whoever moves the hands next.
    fn come_back(&mut self, now_ns: u64, resumed: bool) {
        match resumed {
            true => self.outbox.reconnected(),
            false => self.outbox.renumber(),
        }
        let mut events: Vec<_> = self.hands.presses().collect();
        let pads = (0..MAX_PADS).filter_map(PadIndex::new).zip(self.pads);
        for (pad, Pad { kind, state }) in pads.filter_map(|(pad, known)| Some((pad, known?))) {
            events.extend((!resumed).then_some(InputEvent::PadArrived { pad, kind }));
            events.push(InputEvent::PadState { pad, state });
        }
        // Nobody did these: they are in no log.
        for event in events {
            let _ = self.outbox.push(now_ns, event);
        }
    }

    /// Sends what is due now.
    fn transmit(&mut self, now_ns: u64) {
        let Some(connection) = &self.connection else { return };
        while self.outbox.poll(now_ns, &mut self.datagram) {
            // What cannot be sent is what got lost: it leaves again, or the connection's end shows elsewhere.
            let _ = connection.send_datagram(std::mem::take(&mut self.datagram).into());
        }
    }

    fn anything_down(&self) -> bool {
        !self.hands.is_empty()
    }

    fn tell_held(&mut self, now_ns: u64) {
        if self.held_ns.is_none_or(|held_ns| now_ns < held_ns) {
            return;
        }
        let down = self.anything_down();
        if !down && self.held_more == 0 {
            self.held_ns = None;
            return;
        }
        self.held_ns = Some(now_ns + HELD_EVERY_NS);
        // With the outbox full the host hears of it the next time, and as often as it should.
        if self.push(now_ns, InputEvent::Held(self.hands.held())).is_some() {
            self.held_more = if down { HELD_AFTER } else { self.held_more - 1 };
        }
    }

    fn deadline_ns(&self) -> u64 {
        self.outbox.deadline().unwrap_or(u64::MAX).min(self.held_ns.unwrap_or(u64::MAX))
    }

    fn counts(&self) -> InputCounts {
        let counts = self.outbox.counts();
        InputCounts {
            sent: counts.sent,
            acknowledged: counts.acknowledged,
            given_up: counts.given_up,
            retransmitted: counts.retransmitted,
            datagrams: counts.datagrams,
        }
    }
}

/// [`InputSender::keep`] where there is input, else nothing for ever.
pub(crate) async fn keep(input: Option<InputSender>) -> ! {
    match input {
        Some(input) => input.keep().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "input/tests.rs"]
mod tests;
