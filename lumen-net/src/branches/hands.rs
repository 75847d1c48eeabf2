//! Input: from the client's datagrams into the input ring, in order and each event once.

use ipc::Generation;
use ipc::shm::Violation;
use lumen_core::InputEvent;
use lumen_core::input::MAX_EVENT;
use lumen_core::input::inbox::{Inbox, Order};
use quinn::Connection;

use super::Outflow;
use super::pending::{Offered, Pending};
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
/// nothing is kept out of order. Only what can be merged waits here meanwhile, in [`Pending`].
pub struct Hands {
    ring: Option<Outflow>,
    wired: Option<Generation>,
    inbox: Inbox,
    pending: Pending,
    /// Running number of the chunks of one ring.
    number: u32,
    datagrams: Rate,
    events: Rate,
    /// The client's time in the newest datagram not acknowledged yet.
    owed: Option<u64>,
    /// No acknowledgement is sent before this.
    next_ack_ns: u64,
    ack: Vec<u8>,
}

impl Default for Hands {
    fn default() -> Self {
        Self {
            ring: None,
            wired: None,
            inbox: Inbox::default(),
            pending: Pending::default(),
            number: 0,
            datagrams: DATAGRAMS,
            events: EVENTS,
            owed: None,
            next_ack_ns: 0,
            ack: Vec::new(),
        }
    }
}

impl Hands {
    pub fn ring(&self) -> Option<&Outflow> {
        self.ring.as_ref()
    }

    /// True if this is not a stale generation.
    pub fn wire(&mut self, ring: Outflow) -> bool {
        let newer = self.wired < Some(ring.generation());
        if newer {
            self.wired = Some(ring.generation());
            self.ring = Some(ring);
            self.number = 0;
        }
        newer
    }

    /// True if this generation was wired.
    pub fn retire(&mut self, generation: Generation) -> bool {
        self.ring.take_if(|ring| ring.generation() == generation).is_some()
    }

    /// Drops the ring, and says of which generation it was.
    pub fn let_go(&mut self) -> Option<Generation> {
        self.ring.take().map(|ring| ring.generation())
    }

    /// Whether the plane at the other end keeps to the protocol.
    pub fn check(&self) -> Result<(), Violation> {
        self.ring.as_ref().map_or(Ok(()), Outflow::check)
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
        let mut rejected = false;
        for numbered in datagram.events() {
            match self.inbox.offer(numbered.seq) {
                Order::Duplicate => continue,
                Order::Gap => break,
                Order::Next => {}
            }
            if !self.events.take(now_ns) {
                rejected = true;
                break;
            }
            let placed = match &numbered.event {
                Some(event) => self.place(event, now_ns, tally),
                // It cannot be injected, whoever asks and how often.
                None => {
                    rejected = true;
                    true
                }
            };
            if !placed {
                break;
            }
            self.inbox.accept();
        }
        if rejected {
            tally.add(Count::InputRejected);
        }
    }

    /// Puts what waits into the ring, as far as it has room.
    pub fn flush(&mut self, now_ns: u64, tally: &Tally) {
        while let Some(&event) = self.pending.oldest() {
            if !self.put(&event, now_ns, tally) {
                return;
            }
            self.pending.forget_oldest();
        }
    }

    /// True if the event is in the ring, or waits to be.
    fn place(&mut self, event: &InputEvent, now_ns: u64, tally: &Tally) -> bool {
        if self.ring.is_none() {
            return false;
        }
        self.flush(now_ns, tally);
        if self.pending.is_empty() && self.put(event, now_ns, tally) {
            return true;
        }
        match self.pending.offer(event) {
            Offered::Kept => true,
            Offered::Merged => {
                tally.add(Count::InputCoalesced);
                true
            }
            Offered::Refused => false,
        }
    }

    fn put(&mut self, event: &InputEvent, now_ns: u64, tally: &Tally) -> bool {
        let Some(ring) = &mut self.ring else { return false };
        let mut bytes = [0; MAX_EVENT];
        let len = event.encode(&mut bytes);
        let put = ring.put(self.number, now_ns, &bytes[..len]);
        if put {
            self.number = self.number.wrapping_add(1);
            tally.add(Count::InputEvents);
        }
        put
    }

    /// When [`Self::acknowledge`] has something to do.
    pub fn due_ns(&self) -> Option<u64> {
        self.owed.map(|_| self.next_ack_ns)
    }

    /// Sends the acknowledgement that is owed, if it is time.
    pub fn acknowledge(&mut self, connection: &Connection, now_ns: u64) {
        if self.due_ns().is_none_or(|due_ns| now_ns < due_ns) {
            return;
        }
        if let Some(client_ns) = self.owed.take() {
            self.next_ack_ns = now_ns + ACK_INTERVAL_NS;
            self.ack.clear();
            self.inbox.ack(client_ns, &mut self.ack);
            // One that is lost is made good by the next; without a next the client asks again.
            let _ = connection.send_datagram(self.ack.clone().into());
        }
    }
}
