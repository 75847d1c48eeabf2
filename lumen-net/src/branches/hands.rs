//! Input: from the client's datagrams into the input ring, in order and each event once.

use ipc::Generation;
use lumen_core::input::inbox::{Inbox, Order};
use quinn::Connection;

use super::feed::Feed;
use super::rate::Rate;
use super::tally::{Count, Tally};

/// Datagrams that a client may send: as many as the fastest mice report, one each.
const DATAGRAMS: Rate = Rate::new(8_000, 1_000);
/// Events in them: twice that, and after a silence all that a client keeps unacknowledged, twice.
const EVENTS: Rate = Rate::new(16_000, 2_000);
/// Acknowledgements come no closer than this.
const ACK_INTERVAL_NS: u64 = 2_000_000;

/// A session's input.
///
/// An event that finds no room in the ring is not accepted: the client sends it again. So are all after it, because
/// nothing is kept out of order. Only what can be merged waits meanwhile, in [`Feed`].
pub struct Hands {
    pub feed: Feed,
    /// None while it is not known where a resumed session's events go on: then nothing is accepted.
    inbox: Option<Inbox>,
    /// Of a client that comes back, the oldest event that it has.
    first: u32,
    datagrams: Rate,
    events: Rate,
    /// The client's time in the newest datagram not acknowledged yet.
    owed: Option<u64>,
    /// No acknowledgement is sent before this.
    next_ack_ns: u64,
    ack: Vec<u8>,
}

impl Hands {
    /// As [`Branches::new`](super::Branches::new).
    pub fn new(first_event: Option<u32>) -> Self {
        Self {
            feed: Feed::default(),
            inbox: first_event.is_none().then(Inbox::default),
            first: first_event.unwrap_or(0),
            datagrams: DATAGRAMS,
            events: EVENTS,
            owed: None,
            next_ack_ns: 0,
            ack: Vec::new(),
        }
    }

    /// In a session of its own a client's events are numbered from 0, whatever it hoped for.
    pub fn welcomed(&mut self, resumed: bool) {
        if !resumed {
            self.inbox.get_or_insert_default();
        }
    }

    /// A resumed session's input plane, wired for `generation`, has taken every event before `next`. What the client has
    /// no more is not waited for: it was taken once, and lost with a plane.
    pub fn begin_at(&mut self, generation: Generation, next: u32) {
        if self.feed.ring().is_none_or(|ring| ring.generation() != generation) {
            return;
        }
        let first = self.first;
        let behind = next.wrapping_sub(first) >= 1 << 31;
        self.inbox.get_or_insert_with(|| Inbox::at(if behind { first } else { next }));
    }

    /// Takes in one datagram of the client.
    pub fn on_datagram(&mut self, datagram: &[u8], now_ns: u64, tally: &Tally) {
        // Before it is looked at: what comes too fast costs no more than this.
        if !self.datagrams.take(now_ns) {
            return tally.add(Count::InputRejected);
        }
        let Ok(datagram) = Inbox::datagram(datagram) else {
            return tally.add(Count::InputRejected);
        };
        self.owed = Some(datagram.client_ns);
        let Some(inbox) = &mut self.inbox else { return };
        let mut rejected = false;
        for numbered in datagram.events() {
            match inbox.offer(numbered.seq) {
                Order::Duplicate => continue,
                Order::Gap => break,
                Order::Next => {}
            }
            if !self.events.take(now_ns) {
                rejected = true;
                break;
            }
            let placed = match &numbered.event {
                Some(event) => self.feed.place(numbered.seq, event, now_ns, tally),
                // It cannot be injected, whoever asks and how often.
                None => {
                    rejected = true;
                    true
                }
            };
            if !placed {
                break;
            }
            inbox.accept();
        }
        if rejected {
            tally.add(Count::InputRejected);
        }
    }

    /// When [`Self::acknowledge`] has something to do.
    pub fn due_ns(&self) -> Option<u64> {
        self.owed.filter(|_| self.inbox.is_some()).map(|_| self.next_ack_ns)
    }

    /// Sends the acknowledgement that is owed, if it is time.
    pub fn acknowledge(&mut self, connection: &Connection, now_ns: u64) {
        if self.due_ns().is_none_or(|due_ns| now_ns < due_ns) {
            return;
        }
        if let (Some(client_ns), Some(inbox)) = (self.owed.take(), &self.inbox) {
            self.next_ack_ns = now_ns + ACK_INTERVAL_NS;
            self.ack.clear();
            inbox.ack(client_ns, &mut self.ack);
            // One that is lost is made good by the next; without a next the client asks again.
            let _ = connection.send_datagram(self.ack.clone().into());
        }
    }
}
