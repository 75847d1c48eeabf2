//! The branches of one session that the control thread carries over the client's QUIC connection: sound and rumble out,
//! input in.
//!
//! They belong to the client's own task, not to the control loop, and are handed to it with its other orders. A
//! datagram then goes from QUIC into the input ring, and a packet from the audio ring into QUIC, without a queue
//! between two tasks, which costs neither a wake-up nor a bound that a flood could fill for everybody. All tasks share
//! the control thread, so each ring end still belongs to that one thread; and as the tasks take turns, each with a
//! bound on what it does in one turn, a client that floods delays others by some tens of microseconds.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use ipc::event::{Event, now_ns};
use ipc::shm::Violation;
use ipc::{Generation, PlaneKind};
use lumen_core::input::Rumble;
use quinn::Connection;
use tokio::time::sleep;

mod ends;
mod feed;
mod hands;
mod haptics;
mod pending;
mod playback;
mod rate;
mod sound;
mod tally;

pub use ends::{Inflow, Outflow};
pub use feed::Feed;
use hands::Hands;
pub use haptics::Haptics;
pub use pending::merged;
pub use playback::{Playback, Played};
pub use rate::Rate;
use sound::Sound;
pub use tally::{Count, Tally};

use crate::readable::Readable;

/// Datagrams of a client, or chunks of a ring, that are taken in one turn of the client's task.
pub const TURN: usize = 32;

/// What lumend has said of the branches.
pub enum BranchOrder {
    WireAudio(Inflow),
    RetireAudio(Generation),
    /// The input ring and the haptics ring of one generation.
    WireInput(Outflow, Inflow),
    RetireInput(Generation),
    /// Of a resumed session's events, the first that the input plane has not taken.
    InputFrom(Generation, u32),
}

/// What a session's branches can be woken by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Woken {
    /// The audio ring has packets.
    Sound,
    /// The haptics ring has states.
    Rumble,
    /// The input ring has room again.
    Room,
    /// An acknowledgement or a rumble has waited for long enough.
    Due,
}

/// A branch whose plane broke the protocol. Its rings have been let go of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    pub kind: PlaneKind,
    pub generation: Generation,
    pub reason: String,
}

/// One session's branches.
pub struct Branches {
    sound: Sound,
    hands: Hands,
    haptics: Haptics,
    tally: Arc<Tally>,
    /// Datagrams of the client that QUIC has received and that have been taken, or are known to be lost.
    taken: u64,
}

impl Branches {
    /// `first_event`: of a client that hopes to come back to a session, the number of the oldest event that it has.
    pub fn new(tally: Arc<Tally>, first_event: Option<u32>) -> Self {
        let (sound, haptics) = (Sound::default(), Haptics::default());
        Self { sound, hands: Hands::new(first_event), haptics, tally, taken: 0 }
    }

    /// The client has been welcomed: to the session that it had, or to another.
    pub fn welcomed(&mut self, resumed: bool) {
        self.hands.welcomed(resumed);
    }

    /// Takes or gives back rings. A generation that is not newer than the one before is stale and ignored.
    pub fn obey(&mut self, order: BranchOrder) -> Option<Broken> {
        match order {
            BranchOrder::WireAudio(ring) => self.sound.playback.wire(ring),
            BranchOrder::RetireAudio(generation) => self.sound.playback.retire(generation),
            BranchOrder::WireInput(events, haptics) => {
                if self.hands.feed.wire(events) {
                    self.haptics.wire(haptics);
                }
                return self.checked_hands(now_ns());
            }
            BranchOrder::InputFrom(generation, next) => self.hands.begin_at(generation, next),
            BranchOrder::RetireInput(generation) => {
                if self.hands.feed.retire(generation) {
                    self.haptics.retire();
                }
            }
        }
        None
    }

    /// Waits for anything but the client's datagrams. Cancelling it loses nothing.
    pub fn woken(&self) -> impl Future<Output = Woken> + Send {
        // The rings themselves belong to this thread alone; what is waited for does not.
        let (sound, haptics) = (self.sound.playback.ring().map(Inflow::wake), self.haptics.ring().map(Inflow::wake));
        let room = self.hands.feed.ring().map(Outflow::wake);
        let due_ns = [self.hands.due_ns(), self.haptics.due_ns()].into_iter().flatten().min();
        async move {
            tokio::select! {
                () = signalled(sound) => Woken::Sound,
                () = signalled(haptics) => Woken::Rumble,
                () = signalled(room) => Woken::Room,
                () = passed(due_ns) => Woken::Due,
            }
        }
    }

    /// Does what `woken` calls for. Before the client is `live` it is sent nothing.
    pub fn on_woken(&mut self, woken: Woken, connection: &Connection, live: bool) -> Option<Broken> {
        let now = now_ns();
        match woken {
            Woken::Sound => {
                let done = self.sound.pump(connection, live, now, &self.tally);
                self.checked_sound(done)
            }
            Woken::Rumble => {
                let done = self.haptics.take();
                self.haptics.send(live, now, &self.tally, |rumble| tell(connection, rumble));
                done.err().and_then(|violation| self.break_input(violation))
            }
            Woken::Room => self.checked_hands(now),
            Woken::Due => {
                self.hands.acknowledge(connection, now);
                self.haptics.send(live, now, &self.tally, |rumble| tell(connection, rumble));
                None
            }
        }
    }

    /// Takes a datagram that has just come, and those that came with it, and acknowledges them. True if there may be
    /// more: the others have their turn first.
    pub fn on_datagram(&mut self, first: &[u8], connection: &Connection) -> (bool, Option<Broken>) {
        let now = now_ns();
        self.hands.on_datagram(first, now, &self.tally);
        self.taken += 1;
        let mut more = true;
        for _ in 1..TURN {
            let Some(next) = arrived(connection) else {
                more = false;
                break;
            };
            self.hands.on_datagram(next.as_ref(), now, &self.tally);
            self.taken += 1;
        }
        if !more {
            // None waits, so what was received and not taken is what QUIC had no room for.
            let received = connection.stats().frame_rx.datagram;
            self.tally.add_many(Count::InputRejected, received.saturating_sub(self.taken));
            self.taken = received;
        }
        self.hands.acknowledge(connection, now);
        (more, self.hands.feed.check().err().and_then(|violation| self.break_input(violation)))
    }

    /// Puts what waits into the input ring.
    fn checked_hands(&mut self, now_ns: u64) -> Option<Broken> {
        self.hands.feed.flush(now_ns, &self.tally);
        self.hands.feed.check().err().and_then(|violation| self.break_input(violation))
    }

    fn checked_sound(&mut self, done: Result<(), Violation>) -> Option<Broken> {
        let reason = format!("the audio ring: {}", done.err()?);
        let generation = self.sound.playback.let_go()?;
        Some(Broken { kind: PlaneKind::Audio, generation, reason })
    }

    /// The two rings of input come from one plane: they go together.
    fn break_input(&mut self, violation: Violation) -> Option<Broken> {
        self.haptics.retire();
        let generation = self.hands.feed.let_go()?;
        Some(Broken { kind: PlaneKind::Input, generation, reason: format!("the input plane's rings: {violation}") })
    }
}

fn tell(connection: &Connection, rumble: &Rumble) -> bool {
    connection.send_datagram(rumble.datagram().to_vec().into()).is_ok()
}

/// Waits for the event of a ring that may not be there. The runtime fails a wait only when it ends itself.
async fn signalled(wake: Option<&Readable<Event>>) {
    match wake {
        Some(wake) if wake.find(|wake| wake.drain().then_some(())).await.is_ok() => {}
        _ => pending().await,
    }
}

/// Waits for a time that may not be set.
async fn passed(due_ns: Option<u64>) {
    match due_ns {
        Some(due_ns) => sleep(Duration::from_nanos(due_ns.saturating_sub(now_ns()))).await,
        None => pending().await,
    }
}

/// A datagram that is here already.
fn arrived(connection: &Connection) -> Option<impl AsRef<[u8]> + use<>> {
    let read = pin!(connection.read_datagram());
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(datagram)) => Some(datagram),
        Poll::Ready(Err(_)) | Poll::Pending => None,
    }
}
