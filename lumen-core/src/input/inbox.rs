//! The host's end of a client's events: in order, each once, without holding any. PROTOCOL.md §16.3.
//!
//! For each [`Numbered`](super::datagram::Numbered) of a datagram: [`Inbox::offer`] its number; place the event if it is
//! [`Order::Next`], and [`Inbox::accept`] once it has its place. Whoever cannot place it stops there: what is not accepted
//! is not acknowledged, and the client sends it again.

use super::datagram::{Ack, Datagram, Malformed};

/// What an event's number says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// It is the one that is due.
    Next,
    /// It was accepted before; go on with the one after it.
    Duplicate,
    /// Something before it is missing: leave the rest of the datagram, the client will send it again.
    Gap,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct InboxCounts {
    pub accepted: u64,
    /// Events that came again.
    pub duplicates: u64,
    /// Datagrams that were left because something before was missing.
    pub gaps: u64,
}

/// Where one client's stream of events is. A session's events are numbered from 0.
#[derive(Default)]
pub struct Inbox {
    next: u32,
    counts: InboxCounts,
}

impl Inbox {
    /// [`Datagram::parse`].
    pub fn datagram(datagram: &[u8]) -> Result<Datagram<'_>, Malformed> {
        Datagram::parse(datagram)
    }

    /// Says what to do with the event of this number.
    pub fn offer(&mut self, seq: u32) -> Order {
        // Numbers wrap; half of them are before, half after.
        match seq.wrapping_sub(self.next) {
            0 => Order::Next,
            ahead if ahead < 1 << 31 => {
                self.counts.gaps += 1;
                Order::Gap
            }
            _ => {
                self.counts.duplicates += 1;
                Order::Duplicate
            }
        }
    }

    /// The event that was [`Order::Next`] has its place, or is none and is passed over.
    pub fn accept(&mut self) {
        self.next = self.next.wrapping_add(1);
        self.counts.accepted += 1;
    }

    /// Appends the answer; `client_ns` is of the newest datagram that came.
    pub fn ack(&self, client_ns: u64, out: &mut Vec<u8>) {
        Ack { next: self.next, client_ns }.encode(out);
    }

    pub fn counts(&self) -> InboxCounts {
        self.counts
    }

    /// An inbox that has accepted everything before `next`.
    pub fn at(next: u32) -> Self {
        Self { next, ..Self::default() }
    }
}
