//! What this host has to say on one link: its records, under a name that may have to change.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipc::{Face, Service};
use simple_dns::rdata::{A, AAAA, NSEC, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Label, Name, ResourceRecord, TYPE};

/// Seconds that others may keep what has a host's name in it, and the rest (RFC 6762 §10).
const HOST_TTL: u32 = 120;
const OTHER_TTL: u32 = 4500;
/// Bytes of a DNS label.
const LABEL: usize = 63;

/// What is to be told on a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Zone {
    /// One DNS label.
    pub host: String,
    pub services: Vec<Service>,
    /// On this link.
    pub addresses: Vec<IpAddr>,
    /// On all links: two of them may be one and the same.
    pub own: BTreeSet<IpAddr>,
}

/// The records in which a zone results, under one name.
#[derive(Debug)]
pub struct Records {
    /// Those of the host first; each is known by its place here.
    pub list: Vec<ResourceRecord<'static>>,
    /// The names that nobody else may have.
    pub names: Vec<Name<'static>>,
}

/// The DNS-SD type of a face's service, without the domain.
const fn kind(face: Face) -> [&'static str; 2] {
    match face {
        Face::Lumen => ["_lumen", "_udp"],
        Face::GameStream => ["_nvstream", "_tcp"],
    }
}

/// In "local".
fn name(labels: &[&str]) -> Name<'static> {
    let labels: Vec<_> =
        labels.iter().chain(&["local"]).map(|label| Label::new_unchecked(label.as_bytes().to_vec())).collect();
    Name::new_with_labels(&labels)
}

impl Zone {
    /// Whether another zone is the same host's on the same link, with no service taken away.
    pub fn became(&self, other: &Self) -> bool {
        let stays = |address: &IpAddr| other.addresses.contains(address);
        self.host == other.host && self.services == other.services && self.addresses.iter().any(stays)
    }

    /// Under its own name, or that with this number if others have it.
    pub fn records(&self, number: u32) -> Records {
        let host = label(&self.host, number);
        let host_name = name(&[&host]);
        let mut list = Vec::new();
        let mut names = vec![host_name.clone()];
        // Nobody else has the name, so that what others have kept of it is to be forgotten.
        let only = |name: &Name<'static>, ttl, rdata| {
            ResourceRecord::new(name.clone(), CLASS::IN, ttl, rdata).with_cache_flush(true)
        };
        for address in &self.addresses {
            let rdata = match address {
                IpAddr::V4(v4) => RData::A(A::from(*v4)),
                IpAddr::V6(v6) => RData::AAAA(AAAA::from(*v6)),
            };
            list.push(only(&host_name, HOST_TTL, rdata));
        }
        list.push(only(&host_name, HOST_TTL, nothing_else(&host_name, &list)));
        for service in &self.services {
            let [service_label, protocol] = kind(service.face);
            let of_kind = name(&[service_label, protocol]);
            let instance = name(&[&host, service_label, protocol]);
            let shared = |name, target: &Name<'static>| {
                ResourceRecord::new(name, CLASS::IN, OTHER_TTL, RData::PTR(PTR(target.clone())))
            };
            list.push(shared(name(&["_services", "_dns-sd", "_udp"]), &of_kind));
            list.push(shared(of_kind, &instance));
            let srv = SRV { priority: 0, weight: 0, port: service.port, target: host_name.clone() };
            let described =
                [only(&instance, HOST_TTL, RData::SRV(srv)), only(&instance, OTHER_TTL, RData::TXT(no_text()))];
            let none = only(&instance, HOST_TTL, nothing_else(&instance, &described));
            list.extend(described);
            list.push(none);
            names.push(instance);
        }
        Records { list, names }
    }

    /// Whether a record of another host's, or of ours on another link, could be ours.
    pub fn could_be_ours(&self, record: &ResourceRecord<'_>, records: &Records) -> bool {
        match &record.rdata {
            RData::A(a) => self.own.contains(&IpAddr::V4(a.address.into())),
            RData::AAAA(aaaa) => self.own.contains(&IpAddr::V6(aaaa.address.into())),
            rdata => records.list.iter().any(|ours| ours.name == record.name && ours.rdata == *rdata),
        }
    }
}

/// One empty string (RFC 6763 §6.1), as it is found on the wire.
fn no_text() -> TXT<'static> {
    TXT::new().with_string("").unwrap_or_default()
}

/// Tells that a name has records of these types alone (RFC 6762 §6.1).
fn nothing_else(name: &Name<'static>, records: &[ResourceRecord<'static>]) -> RData<'static> {
    let types: Vec<TYPE> = records.iter().map(|record| record.rdata.type_code()).collect();
    RData::NSEC(NSEC::from_types(name.clone(), &types))
}

fn label(host: &str, number: u32) -> String {
    let suffix = if number > 1 { format!("-{number}") } else { String::new() };
    let mut label = host.to_owned();
    while label.len() + suffix.len() > LABEL {
        label.pop();
    }
    label + &suffix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_gets_a_number_and_stays_a_label() {
        assert_eq!((label("desk", 1), label("desk", 2)), ("desk".into(), "desk-2".into()));
        let long = label(&"\u{fc}".repeat(31), 10_000);
        assert!(long.len() <= LABEL && long.ends_with("-10000"), "{long}");
    }
}
