//! What is answered to whom, and when.

use std::net::SocketAddr;

use simple_dns::rdata::RData;
use simple_dns::{Packet, PacketFlag, QTYPE, Question, ResourceRecord, TYPE};

use super::{MILLISECOND, Outgoing, PORT, Phase, Responder, SECOND, message, to_all};
use crate::branches::Rate;

/// Between two times that a record is told to everybody; shorter where a name is defended (§6).
const TELL_INTERVAL: u64 = SECOND;
const DEFEND_INTERVAL: u64 = 250 * MILLISECOND;
/// Answers that wait for their time.
pub const MOST_WAITING: usize = 32;
/// Answers to single hosts, which somebody else may have asked for in their names.
const UNICASTS_PER_SECOND: u64 = 20;
const UNICAST_BURST: u64 = 40;
/// Seconds that a host which knows no mDNS may keep an answer (§6.7).
const STRANGER_TTL: u32 = 10;

pub const fn unicasts() -> Rate {
    Rate::new(UNICASTS_PER_SECOND, UNICAST_BURST)
}

#[derive(Debug)]
pub enum To {
    Everybody,
    Asker,
    /// With the id and the question repeated.
    Stranger(Box<(u16, Question<'static>)>),
}

/// An answer that waits.
#[derive(Debug)]
pub struct Answer {
    pub at: u64,
    asker: SocketAddr,
    to: To,
    records: u64,
    defends: bool,
}

impl Responder {
    pub(super) fn asked(&mut self, now: u64, from: SocketAddr, packet: &Packet<'_>) -> bool {
        if matches!(self.phase, Phase::Probing { .. }) {
            self.compare(now, packet);
            // Nothing is ours yet.
            return true;
        }
        let known = self.known(packet);
        if packet.questions.is_empty() {
            // More known answers of a question that did not fit into one packet (§7.2).
            for answer in self.waiting.iter_mut().filter(|answer| answer.asker == from) {
                answer.records &= !known;
            }
            return true;
        }
        let (mut to_all, mut to_one) = (0, 0);
        for question in &packet.questions {
            let asked_for = self.asked_for(question) & !known;
            let direct = if question.unicast_response { asked_for & self.fresh(now) } else { 0 };
            to_one |= direct;
            to_all |= asked_for & !direct;
        }
        let defends = !packet.name_servers.is_empty();
        if from.port() != PORT {
            let asked = (packet.id(), packet.questions[0].clone().into_owned());
            return self.wait(
                now,
                packet,
                Answer { at: now, asker: from, to: To::Stranger(Box::new(asked)), records: to_all | to_one, defends },
            );
        }
        let answer = |to, records| Answer { at: now, asker: from, to, records, defends };
        let told = self.wait(now, packet, answer(To::Asker, to_one & !to_all));
        self.wait(now, packet, answer(To::Everybody, to_all)) && told
    }

    /// Puts an answer off for as long as others are given to answer, or to say what they know. False if there is no room.
    fn wait(&mut self, now: u64, packet: &Packet<'_>, mut answer: Answer) -> bool {
        if answer.records == 0 {
            return true;
        }
        if self.waiting.len() >= MOST_WAITING {
            return false;
        }
        let shared = self.bits(|record| !record.cache_flush);
        answer.at = if packet.has_flags(PacketFlag::TRUNCATION) {
            now + 400 * MILLISECOND + self.random(100 * MILLISECOND)
        } else if answer.records & shared != 0 {
            now + 20 * MILLISECOND + self.random(100 * MILLISECOND)
        } else {
            now
        };
        self.waiting.push(answer);
        true
    }

    /// The records that a question asks for, or the one that says that there are none.
    fn asked_for(&self, question: &Question<'_>) -> u64 {
        let found = self.bits(|record| message::answers(record, question));
        let is_ours = matches!(question.qtype, QTYPE::TYPE(_)) && self.records.names.contains(&question.qname);
        if found == 0 && is_ours {
            return self.bits(|record| record.rdata.type_code() == TYPE::NSEC && record.name == question.qname);
        }
        found
    }

    /// Those that the asker has, and will have for as long again (§7.1).
    fn known(&self, packet: &Packet<'_>) -> u64 {
        self.bits(|record| packet.answers.iter().any(|known| known == record && known.ttl >= record.ttl / 2))
    }

    /// Those of which everybody was told not long ago (§5.4).
    fn fresh(&self, now: u64) -> u64 {
        let lately = |at: usize| {
            let within = u64::from(self.records.list[at].ttl) * SECOND / 4;
            self.told_at[at].is_some_and(|told| now < told + within)
        };
        (0..self.records.list.len()).filter(|&at| lately(at)).fold(0, |bits, at| bits | 1 << at)
    }

    pub(super) fn answer(&mut self, now: u64, answer: Answer) -> Option<Outgoing> {
        let Answer { asker, to, mut records, defends, .. } = answer;
        if let To::Everybody = to {
            let interval = if defends { DEFEND_INTERVAL } else { TELL_INTERVAL };
            for (at, told) in self.told_at.iter().enumerate() {
                if told.is_some_and(|told| now < told + interval) {
                    records &= !(1 << at);
                }
            }
        }
        if records == 0 || !(matches!(to, To::Everybody) || self.unicasts.take(now)) {
            return None;
        }
        let more = self.more(records);
        let (mut answers, mut more_records) = (self.chosen(records), self.chosen(more));
        match to {
            To::Everybody => {
                self.mark(now, records | more);
                to_all(message::response(None, answers, more_records))
            }
            To::Asker => {
                let bytes = message::response(None, answers, more_records)?;
                Some(Outgoing { to: Some(asker), bytes })
            }
            To::Stranger(asked) => {
                for record in answers.iter_mut().chain(&mut more_records) {
                    record.ttl = record.ttl.min(STRANGER_TTL);
                    record.cache_flush = false;
                }
                let bytes = message::response(Some(&asked), answers, more_records)?;
                Some(Outgoing { to: Some(asker), bytes })
            }
        }
    }

    /// What an asker is going to ask for next (RFC 6763 §12).
    fn more(&self, records: u64) -> u64 {
        let mut more = 0;
        for (at, record) in self.records.list.iter().enumerate().filter(|(at, _)| records & 1 << at != 0) {
            more |= match record.rdata.type_code() {
                // An instance is described together; where it leads to has addresses.
                TYPE::PTR | TYPE::SRV => self.bits(|other| {
                    matches!(other.rdata.type_code(), TYPE::SRV | TYPE::TXT) && self.is_target(at, other)
                        || matches!(other.rdata.type_code(), TYPE::A | TYPE::AAAA)
                }),
                TYPE::A | TYPE::AAAA => self.bits(|other| {
                    matches!(other.rdata.type_code(), TYPE::A | TYPE::AAAA | TYPE::NSEC) && other.name == record.name
                }),
                _ => 0,
            };
        }
        more & !records
    }

    /// Whether a PTR record points at this one, or an SRV record stands beside it.
    fn is_target(&self, at: usize, other: &ResourceRecord<'_>) -> bool {
        let record = &self.records.list[at];
        match &record.rdata {
            RData::PTR(target) => target.0 == other.name,
            _ => record.name == other.name,
        }
    }
}
