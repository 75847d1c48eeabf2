//! Input: from the client's datagrams into the input ring, in order and each event once.

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
    inbox: Inbox,
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
            feed: Feed::default(),
            inbox: Inbox::default(),
            datagrams: DATAGRAMS,
            events: EVENTS,
            owed: None,
            next_ack_ns: 0,
            ack: Vec::new(),
        }
    }
}

impl Hands {
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
                Some(event) => self.feed.place(event, now_ns, tally),
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
