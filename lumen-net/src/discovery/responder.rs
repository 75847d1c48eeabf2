//! One link's mDNS responder (RFC 6762): what comes in goes in with the time, what is to be sent comes out. It has no
//! socket and no clock.
//!
//! A name is probed for before it is used, announced when nobody else has it, and given up for another if somebody does.
//! Times are nanoseconds of a clock that does not run backwards.

mod answers;
mod claims;

use std::net::SocketAddr;

use simple_dns::{PacketFlag, ResourceRecord, TYPE};

use super::message;
use super::zone::{Records, Zone};
use crate::branches::Rate;
use answers::Answer;

/// Where mDNS is spoken; who asks from another port knows only DNS (§6.7).
pub const PORT: u16 = 5353;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;
/// §8.1.
const PROBES: u8 = 3;
const PROBE_INTERVAL: u64 = 250 * MILLISECOND;
/// §8.3: at once, then after one second and after two more.
const ANNOUNCEMENTS: u8 = 3;
/// Records are counted in the bits of a number.
const MOST_RECORDS: usize = 64;

/// A datagram to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// None: the group.
    pub to: Option<SocketAddr>,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Probing { sent: u8, at: u64 },
    Announcing { sent: u8, at: u64 },
    Settled,
}

#[derive(Debug)]
pub struct Responder {
    zone: Zone,
    /// Of our name: 1 is the one that was wanted.
    number: u32,
    records: Records,
    /// When everybody was told each record last.
    told_at: Vec<Option<u64>>,
    phase: Phase,
    waiting: Vec<Answer>,
    /// How many in a row, and the last one's time.
    conflicts: (u32, u64),
    unicasts: Rate,
    random: u64,
}

impl Responder {
    /// `seed` is any number that other hosts do not choose too.
    pub fn new(now: u64, zone: Zone, seed: u64) -> Self {
        let mut responder = Self {
            records: zone.records(1),
            told_at: Vec::new(),
            zone,
            number: 1,
            phase: Phase::Settled,
            waiting: Vec::new(),
            conflicts: (0, now),
            unicasts: answers::unicasts(),
            // The generator stands still at zero.
            random: seed | 1,
        };
        responder.name_it();
        responder.phase = Phase::Probing { sent: 0, at: now + responder.random(PROBE_INTERVAL) };
        responder
    }

    /// Tells everybody again, under the same name: addresses have changed, or the link is another one (§8.4).
    pub fn again(&mut self, now: u64, zone: Zone) {
        self.zone = zone;
        self.name_it();
        self.phase = match self.phase {
            Phase::Probing { .. } => Phase::Probing { sent: 0, at: now },
            Phase::Announcing { .. } | Phase::Settled => Phase::Announcing { sent: 0, at: now },
        };
    }

    /// Makes the records anew.
    fn name_it(&mut self) {
        self.records = self.zone.records(self.number);
        self.records.list.truncate(MOST_RECORDS);
        self.told_at = vec![None; self.records.list.len()];
        // They name records by their places.
        self.waiting.clear();
    }

    /// When [`Self::poll`] has something to say.
    pub fn deadline(&self) -> Option<u64> {
        let phase = match self.phase {
            Phase::Probing { at, .. } | Phase::Announcing { at, .. } => Some(at),
            Phase::Settled => None,
        };
        self.waiting.iter().map(|answer| answer.at).chain(phase).min()
    }

    /// Hears a datagram. False if it was of no use: malformed, or more than can be answered.
    pub fn receive(&mut self, now: u64, from: SocketAddr, bytes: &[u8]) -> bool {
        let Some(packet) = message::parse(bytes) else { return false };
        if !packet.has_flags(PacketFlag::RESPONSE) {
            return self.asked(now, from, &packet);
        }
        // Only responders answer from this port (§6).
        let counts = from.port() == PORT;
        if counts {
            self.heard(now, &packet);
        }
        counts
    }

    /// The next datagram that is due.
    pub fn poll(&mut self, now: u64) -> Option<Outgoing> {
        match self.phase {
            Phase::Probing { sent, at } if now >= at && sent < PROBES => {
                self.phase = Phase::Probing { sent: sent + 1, at: now + PROBE_INTERVAL };
                return to_all(message::probe(self.records.names.clone(), self.proposed()));
            }
            Phase::Probing { at, .. } if now >= at => {
                self.phase = Phase::Announcing { sent: 0, at: now };
                return self.poll(now);
            }
            Phase::Announcing { sent, at } if now >= at => {
                self.phase = match sent + 1 {
                    ANNOUNCEMENTS => Phase::Settled,
                    sent => Phase::Announcing { sent, at: now + (SECOND << (sent - 1)) },
                };
                let all = self.bits(|record| record.rdata.type_code() != TYPE::NSEC);
                self.mark(now, all);
                return to_all(message::response(None, self.chosen(all), Vec::new()));
            }
            _ => {}
        }
        loop {
            let due = self.waiting.iter().position(|answer| now >= answer.at)?;
            let answer = self.waiting.swap_remove(due);
            if let Some(outgoing) = self.answer(now, answer) {
                return Some(outgoing);
            }
        }
    }

    /// What is to be said before the end, so that nobody looks for us any longer (§10.1). The list of types is everybody's.
    pub fn goodbye(&self) -> Option<Outgoing> {
        if matches!(self.phase, Phase::Probing { .. }) {
            return None;
        }
        let ours = |record: &ResourceRecord<'_>| match record.rdata.type_code() {
            TYPE::NSEC => false,
            TYPE::PTR => record.name.get_labels().first().is_some_and(|label| label.as_ref() != b"_services"),
            _ => true,
        };
        let mut last = self.chosen(self.bits(ours));
        last.iter_mut().for_each(|record| record.ttl = 0);
        to_all(message::response(None, last, Vec::new()))
    }

    fn bits(&self, mut wanted: impl FnMut(&ResourceRecord<'static>) -> bool) -> u64 {
        let list = self.records.list.iter().enumerate();
        list.filter(|(_, record)| wanted(record)).fold(0, |bits, (at, _)| bits | 1 << at)
    }

    fn chosen(&self, bits: u64) -> Vec<ResourceRecord<'static>> {
        let list = self.records.list.iter().enumerate();
        list.filter(|(at, _)| bits & 1 << at != 0).map(|(_, record)| record.clone()).collect()
    }

    fn mark(&mut self, now: u64, bits: u64) {
        for (_, told) in self.told_at.iter_mut().enumerate().filter(|(at, _)| bits & 1 << at != 0) {
            *told = Some(now);
        }
    }

    /// A number below `bound`, from Marsaglia's xorshift: hosts that begin together are not to speak together.
    fn random(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }
}

fn to_all(bytes: Option<Vec<u8>>) -> Option<Outgoing> {
    Some(Outgoing { to: None, bytes: bytes? })
}

#[cfg(test)]
mod tests;
