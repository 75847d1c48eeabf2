//! Whose a name is: what others say of ours, and who goes first where two want the same.

use simple_dns::{Packet, ResourceRecord, TYPE};

use super::{PROBE_INTERVAL, Phase, Responder, SECOND, message};

/// After a probe of somebody else's that goes first (§8.2).
pub const LOSER_WAITS: u64 = SECOND;
/// So many conflicts in a row, none long after the one before, and each further one waits (§8.1).
pub const CONFLICTS: u32 = 15;
const CONFLICTS_AGAIN: u64 = 10 * SECOND;
pub const CONFLICT_WAITS: u64 = 5 * SECOND;

impl Responder {
    /// Somebody else says what is his.
    pub(super) fn heard(&mut self, now: u64, packet: &Packet<'_>) {
        let probing = matches!(self.phase, Phase::Probing { .. });
        let is_claim = |record: &ResourceRecord<'_>| {
            // While a name is not ours, any use of it counts; afterwards, what contradicts us.
            let kind = record.rdata.type_code();
            let counts = match kind {
                TYPE::A | TYPE::AAAA | TYPE::SRV | TYPE::TXT => {
                    probing
                        || self
                            .records
                            .list
                            .iter()
                            .any(|ours| ours.name == record.name && ours.rdata.type_code() == kind)
                }
                _ => false,
            };
            counts
                && record.ttl > 0
                && self.records.names.contains(&record.name)
                && !self.zone.could_be_ours(record, &self.records)
        };
        if !packet.answers.iter().chain(&packet.additional_records).any(is_claim) {
            return;
        }
        if probing {
            self.number = self.number.saturating_add(1);
        }
        self.name_it();
        let (count, last) = self.conflicts;
        self.conflicts = (if now > last + CONFLICTS_AGAIN { 1 } else { count.saturating_add(1) }, now);
        let wait = if self.conflicts.0 > CONFLICTS { CONFLICT_WAITS } else { self.random(PROBE_INTERVAL) };
        self.phase = Phase::Probing { sent: 0, at: now + wait };
    }

    /// Somebody else probes for a name that we probe for: the greater content goes first (§8.2).
    pub(super) fn compare(&mut self, now: u64, packet: &Packet<'_>) {
        let proposed = self.proposed();
        let loses = self.records.names.iter().any(|name| {
            let theirs: Vec<_> = packet.name_servers.iter().filter(|record| record.name == *name).collect();
            if theirs.iter().all(|record| self.zone.could_be_ours(record, &self.records)) {
                return false;
            }
            let mut theirs: Vec<_> = theirs.into_iter().filter_map(message::content).collect();
            let ours = proposed.iter().filter(|record| record.name == *name);
            let mut ours: Vec<_> = ours.filter_map(message::content).collect();
            theirs.sort();
            ours.sort();
            theirs > ours
        });
        if loses {
            self.phase = Phase::Probing { sent: 0, at: now + LOSER_WAITS };
        }
    }

    /// What is going to be ours alone.
    pub(super) fn proposed(&self) -> Vec<ResourceRecord<'static>> {
        let unique = |record: &ResourceRecord<'_>| record.cache_flush && record.rdata.type_code() != TYPE::NSEC;
        let mut proposed = self.chosen(self.bits(unique));
        proposed.iter_mut().for_each(|record| record.cache_flush = false);
        proposed
    }
}
