//! The datagram of events and the one that answers it. PROTOCOL.md §16.1.

use super::{INPUT_ACK_DATAGRAM, INPUT_DATAGRAM, InputEvent, MAX_EVENT, MAX_INPUT_DATAGRAM};
use crate::cursor::Reader;

/// Nanoseconds of one unit of an event's age.
const AGE_NS: u64 = 100_000;
/// Bytes before the events: kind, first sequence number, time of sending, count.
const HEADER_BYTES: usize = 1 + 4 + 8 + 1;
/// Where the count is.
const COUNT_AT: usize = HEADER_BYTES - 1;
/// Bytes before each event: age, length.
const EVENT_HEADER_BYTES: usize = 2 + 1;

/// The datagram does not hold what it promises.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a datagram of input events was malformed")]
pub struct Malformed;

/// A datagram whose lengths all agree. What its events are is looked at one by one.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Sequence number of the first event; the others follow without a gap.
    pub first: u32,
    /// The client's clock when it sent this; comes back in the [`Ack`].
    pub client_ns: u64,
    /// Events, 1 to 255.
    pub count: u8,
    events: &'a [u8],
}

/// One event of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Numbered {
    pub seq: u32,
    /// Nanoseconds from the event to the datagram's sending, in steps of 100 µs, at most 6.5 s.
    pub age_ns: u64,
    /// None if these bytes are no event that may be injected. It keeps its place in the order all the same, so that a
    /// newer client's kinds of events, or one broken event, do not stop what comes after.
    pub event: Option<InputEvent>,
}

impl<'a> Datagram<'a> {
    /// Checks every count and length; allocates nothing.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        if datagram.len() > MAX_INPUT_DATAGRAM {
            return Err(Malformed);
        }
        Self::check(datagram).map_err(|_| Malformed)
    }

    fn check(datagram: &'a [u8]) -> Result<Self, crate::cursor::Malformed> {
        let mut reader = Reader::new(datagram);
        let (kind, first, client_ns, count) = (reader.u8()?, reader.u32()?, reader.u64()?, reader.u8()?);
        let events = reader.rest();
        let mut reader = Reader::new(events);
        for _ in 0..count {
            reader.u16()?;
            let length = reader.u8()?;
            reader.slice(usize::from(length))?;
        }
        reader.end()?;
        if kind != INPUT_DATAGRAM || count == 0 {
            return Err(crate::cursor::Malformed);
        }
        Ok(Self { first, client_ns, count, events })
    }

    /// The events in order.
    pub fn events(&self) -> impl Iterator<Item = Numbered> + use<'a> {
        let (mut reader, first) = (Reader::new(self.events), self.first);
        (0..u32::from(self.count)).map_while(move |index| {
            let age_ns = u64::from(reader.u16().ok()?) * AGE_NS;
            let length = reader.u8().ok()?;
            let event = InputEvent::decode(reader.slice(usize::from(length)).ok()?);
            Some(Numbered { seq: first.wrapping_add(index), age_ns, event })
        })
    }
}

/// Writes a datagram of events.
pub struct DatagramWriter<'a> {
    out: &'a mut Vec<u8>,
    sent_ns: u64,
}

impl<'a> DatagramWriter<'a> {
    /// Clears `out` and begins a datagram that is sent at `sent_ns` of the client's clock.
    pub fn new(out: &'a mut Vec<u8>, first: u32, sent_ns: u64) -> Self {
        out.clear();
        out.push(INPUT_DATAGRAM);
        out.extend_from_slice(&first.to_le_bytes());
        out.extend_from_slice(&sent_ns.to_le_bytes());
        out.push(0);
        Self { out, sent_ns }
    }

    /// Appends an event that happened at `at_ns`; false if there is no room for it.
    pub fn push(&mut self, at_ns: u64, event: &InputEvent) -> bool {
        let mut bytes = [0; MAX_EVENT];
        let length = event.encode(&mut bytes);
        let count = self.out[COUNT_AT];
        if count == u8::MAX || self.out.len() + EVENT_HEADER_BYTES + length > MAX_INPUT_DATAGRAM {
            return false;
        }
        self.out[COUNT_AT] = count + 1;
        let age = u16::try_from(self.sent_ns.saturating_sub(at_ns) / AGE_NS).unwrap_or(u16::MAX);
        self.out.extend_from_slice(&age.to_le_bytes());
        self.out.push(length as u8);
        self.out.extend_from_slice(&bytes[..length]);
        true
    }
}

/// What the host has of a client's events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ack {
    /// Sequence number of the first event that the host has not taken.
    pub next: u32,
    /// Time of sending of the newest datagram that came, as it was in it.
    pub client_ns: u64,
}

impl Ack {
    /// Appends the datagram.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(INPUT_ACK_DATAGRAM);
        out.extend_from_slice(&self.next.to_le_bytes());
        out.extend_from_slice(&self.client_ns.to_le_bytes());
    }

    /// The answer that exactly these bytes are.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(datagram.strip_prefix(&[INPUT_ACK_DATAGRAM])?);
        let ack = Self { next: reader.u32().ok()?, client_ns: reader.u64().ok()? };
        reader.end().ok()?;
        Some(ack)
    }
}

#[cfg(test)]
#[path = "datagram/tests.rs"]
mod tests;
