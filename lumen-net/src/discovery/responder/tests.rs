//! A responder on a link of the test's own, where time passes when the test says so.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipc::{Face, Service};
use proptest::prelude::*;
use simple_dns::rdata::{A, PTR, RData, SRV, TXT};
use simple_dns::{CLASS, Name, Packet, QCLASS, QTYPE, Question};

use super::answers::MOST_WAITING;
use super::claims::{CONFLICT_WAITS, CONFLICTS, LOSER_WAITS};
use super::*;

const HOST: &str = "desk-lumen.local";
const INSTANCE: &str = "desk-lumen._nvstream._tcp.local";
const KIND: &str = "_nvstream._tcp.local";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn zone() -> Zone {
    let addresses = vec![address("192.0.2.1"), address("2001:db8::1")];
    let mut own: BTreeSet<_> = addresses.iter().copied().collect();
    own.insert(address("198.51.100.1"));
    let services = vec![Service { face: Face::GameStream, port: 47989 }, Service { face: Face::Lumen, port: 47800 }];
    Zone { host: "desk-lumen".into(), services, addresses, own }
}

/// The responder and what it has sent.
struct Link {
    responder: Responder,
    now: u64,
}

fn neighbour() -> SocketAddr {
    "192.0.2.77:5353".parse().unwrap()
}

impl Link {
    fn new() -> Self {
        Self { responder: Responder::new(7, zone(), 42), now: 7 }
    }

    /// One whose names are its own and have been announced.
    fn settled() -> Self {
        let mut link = Self::new();
        while link.responder.phase != Phase::Settled {
            link.next();
        }
        link.now += 10 * SECOND;
        link
    }

    /// The next datagram, at the time at which it leaves.
    fn next(&mut self) -> Outgoing {
        loop {
            self.now = self.now.max(self.responder.deadline().expect("something is due"));
            assert!(self.now < 1000 * SECOND, "it never settles");
            if let Some(outgoing) = self.responder.poll(self.now) {
                return outgoing;
            }
        }
    }

    /// Everything that it says within so long.
    fn within(&mut self, time: u64) -> Vec<Outgoing> {
        let until = self.now + time;
        let mut said = Vec::new();
        while self.responder.deadline().is_some_and(|at| at <= until) {
            self.now = self.now.max(self.responder.deadline().unwrap());
            said.extend(std::iter::from_fn(|| self.responder.poll(self.now)));
        }
        self.now = until;
        said
    }

    fn hears(&mut self, from: SocketAddr, bytes: &[u8]) {
        assert!(self.responder.receive(self.now, from, bytes));
    }

    fn asks(&mut self, query: &Packet<'_>) {
        self.hears(neighbour(), &query.build_bytes_vec_compressed().unwrap());
    }
}

fn question(name: &'static str, kind: QTYPE) -> Question<'static> {
    Question::new(Name::new_unchecked(name), kind, CLASS::IN.into(), false)
}

fn query(questions: &[Question<'static>]) -> Packet<'static> {
    let mut packet = Packet::new_query(0);
    packet.questions = questions.to_vec();
    packet
}

fn record(name: &'static str, ttl: u32, rdata: RData<'static>) -> ResourceRecord<'static> {
    ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, ttl, rdata)
}

fn srv(port: u16) -> RData<'static> {
    RData::SRV(SRV { priority: 0, weight: 0, port, target: Name::new_unchecked(HOST) })
}

fn claim(record: ResourceRecord<'static>) -> Vec<u8> {
    message::response(None, vec![record], Vec::new()).unwrap()
}

/// Names and types of a section, in order.
fn listed(records: &[ResourceRecord<'_>]) -> Vec<(String, TYPE)> {
    records.iter().map(|record| (record.name.to_string(), record.rdata.type_code())).collect()
}

#[test]
fn names_are_probed_for_then_announced() {
    let mut link = Link::new();
    let mut last = 0;
    for at in 0..3 {
        let probe = link.next();
        assert!(probe.to.is_none() && (at == 0 || link.now == last + PROBE_INTERVAL));
        assert!(link.now <= 7 + 4 * PROBE_INTERVAL, "the first within a quarter of a second");
        last = link.now;
        let packet = message::parse(&probe.bytes).unwrap();
        assert!(!packet.has_flags(PacketFlag::RESPONSE));
        let names: Vec<_> = packet.questions.iter().map(|question| question.qname.to_string()).collect();
        assert_eq!(names, [HOST, INSTANCE, "desk-lumen._lumen._udp.local"]);
        assert!(packet.questions.iter().all(|question| question.qtype == QTYPE::ANY && question.unicast_response));
        assert_eq!(packet.name_servers.len(), 6, "two addresses; SRV and TXT of two services");
    }
    let mut times = Vec::new();
    while link.responder.phase != Phase::Settled {
        let announcement = link.next();
        times.push((link.now - last) / MILLISECOND);
        let packet = message::parse(&announcement.bytes).unwrap();
        assert!(
            packet.has_flags(PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER) && packet.questions.is_empty()
        );
        assert_eq!(packet.answers.len(), 10);
        for record in &packet.answers {
            let shared = record.rdata.type_code() == TYPE::PTR;
            assert_eq!(record.cache_flush, !shared, "{record:?}");
        }
    }
    assert_eq!(times, [250, 1250, 3250]);
    assert!(link.responder.deadline().is_none());
}

#[test]
fn a_browser_gets_all_that_it_needs_with_one_answer() {
    let mut link = Link::settled();
    let before = link.now;
    link.asks(&query(&[question("_NVstream._tcp.local", TYPE::PTR.into())]));
    let answer = link.next();
    let waited = link.now - before;
    assert!((20 * MILLISECOND..=120 * MILLISECOND).contains(&waited), "others may answer too");
    let packet = message::parse(&answer.bytes).unwrap();
    assert!(answer.to.is_none() && answer.bytes.len() < 512);
    assert_eq!(listed(&packet.answers), [(KIND.into(), TYPE::PTR)]);
    let more = listed(&packet.additional_records);
    let expected = [(HOST, TYPE::A), (HOST, TYPE::AAAA), (INSTANCE, TYPE::SRV), (INSTANCE, TYPE::TXT)];
    assert_eq!(more, expected.map(|(name, kind)| (name.to_owned(), kind)));
    let RData::SRV(srv) = &packet.additional_records[2].rdata else { panic!("{packet:?}") };
    assert_eq!((srv.port, srv.target.to_string()), (47989, HOST.to_owned()));

    // The same at once is heard by everybody already.
    link.asks(&query(&[question(KIND, TYPE::PTR.into())]));
    assert!(link.within(SECOND / 2).is_empty());
    link.now += SECOND;
    link.asks(&query(&[question(KIND, TYPE::PTR.into())]));
    assert_eq!(link.within(SECOND).len(), 1);
}

#[test]
fn every_question_has_its_answer() {
    let kinds = |packet: &Packet<'_>| packet.answers.iter().map(|record| record.rdata.type_code()).collect::<Vec<_>>();
    for (name, kind, expected) in [
        (HOST, QTYPE::from(TYPE::A), vec![TYPE::A]),
        (HOST, TYPE::AAAA.into(), vec![TYPE::AAAA]),
        (HOST, QTYPE::ANY, vec![TYPE::A, TYPE::AAAA]),
        (INSTANCE, TYPE::SRV.into(), vec![TYPE::SRV]),
        (INSTANCE, TYPE::TXT.into(), vec![TYPE::TXT]),
        (INSTANCE, TYPE::A.into(), vec![TYPE::NSEC]),
        (HOST, TYPE::SRV.into(), vec![TYPE::NSEC]),
        ("_services._dns-sd._udp.local", TYPE::PTR.into(), vec![TYPE::PTR, TYPE::PTR]),
        ("_lumen._udp.local", TYPE::PTR.into(), vec![TYPE::PTR]),
    ] {
        let mut link = Link::settled();
        link.asks(&query(&[question(name, kind)]));
        let answer = link.next();
        let packet = message::parse(&answer.bytes).unwrap();
        assert_eq!(kinds(&packet), expected, "{name} {kind:?}");
    }
    for name in ["other.local", "_other._tcp.local", "local"] {
        let mut link = Link::settled();
        link.asks(&query(&[question(name, QTYPE::ANY)]));
        assert!(link.within(SECOND).is_empty());
    }
    let mut link = Link::settled();
    let mut chaos = question(HOST, QTYPE::ANY);
    chaos.qclass = QCLASS::CLASS(CLASS::CH);
    link.asks(&query(&[chaos]));
    assert!(link.within(SECOND).is_empty());
}

#[test]
fn what_is_known_is_not_said_again() {
    let known = |ttl| record(KIND, ttl, RData::PTR(PTR(Name::new_unchecked("DESK-lumen._nvstream._tcp.local"))));
    for (ttl, answered) in [(2250, false), (2249, true)] {
        let mut link = Link::settled();
        let mut query = query(&[question(KIND, TYPE::PTR.into())]);
        query.answers.push(known(ttl));
        link.asks(&query);
        assert_eq!(!link.within(SECOND).is_empty(), answered);
    }
    // The rest of a list that did not fit into one message.
    let mut link = Link::settled();
    let mut first = query(&[question(KIND, TYPE::PTR.into())]);
    first.set_flags(PacketFlag::TRUNCATION);
    let mut rest = query(&[]);
    rest.answers.push(known(4500));
    link.asks(&first);
    assert!(link.within(300 * MILLISECOND).is_empty());
    link.asks(&rest);
    assert!(link.within(SECOND).is_empty());
}

#[test]
fn who_asks_for_it_is_answered_alone_if_the_others_know() {
    let mut link = Link::settled();
    let mut direct = question(INSTANCE, TYPE::SRV.into());
    direct.unicast_response = true;
    link.asks(&query(&[direct.clone()]));
    assert_eq!(link.next().to, Some(neighbour()));
    link.now += 40 * SECOND;
    link.asks(&query(&[direct]));
    assert_eq!(link.next().to, None, "the others are to know it too");
}

#[test]
fn a_stranger_gets_an_answer_of_plain_dns() {
    let mut link = Link::settled();
    let stranger: SocketAddr = "192.0.2.9:40000".parse().unwrap();
    let mut query = query(&[question(INSTANCE, TYPE::SRV.into())]);
    query.set_id(0xbeef);
    link.hears(stranger, &query.build_bytes_vec().unwrap());
    let answer = link.next();
    assert_eq!(answer.to, Some(stranger));
    let packet = message::parse(&answer.bytes).unwrap();
    assert_eq!((packet.id(), packet.questions.len(), packet.answers.len()), (0xbeef, 1, 1));
    let all = packet.answers.iter().chain(&packet.additional_records);
    assert!(all.clone().count() > 2 && all.clone().all(|record| record.ttl <= 10 && !record.cache_flush));

    // Somebody who asks in another's name reaches him with little.
    let mut sent = 0;
    for _ in 0..1000 {
        link.responder.receive(link.now, stranger, &query.build_bytes_vec().unwrap());
        sent += link.within(MILLISECOND).len();
    }
    assert!((10..=80).contains(&sent), "{sent}");
}

#[test]
fn a_name_that_somebody_has_is_given_up() {
    let mut link = Link::new();
    link.next();
    link.hears(neighbour(), &claim(record(INSTANCE, 120, srv(1))));
    let probe = link.next();
    let packet = message::parse(&probe.bytes).unwrap();
    assert_eq!(packet.questions[0].qname.to_string(), "desk-lumen-2.local");
    assert_eq!(packet.questions[1].qname.to_string(), "desk-lumen-2._nvstream._tcp.local");

    // A goodbye, an answer of no responder's, and one about somebody else take nothing away.
    let mut link = Link::new();
    link.next();
    link.hears(neighbour(), &claim(record(INSTANCE, 0, srv(1))));
    link.hears(neighbour(), &claim(record("other.local", 120, srv(1))));
    let stranger = "192.0.2.9:40000".parse().unwrap();
    assert!(!link.responder.receive(link.now, stranger, &claim(record(INSTANCE, 120, srv(1)))));
    assert!(matches!(link.responder.phase, Phase::Probing { sent: 1, .. }));
}

#[test]
fn a_name_that_is_ours_is_defended_and_lost_only_to_who_has_it_too() {
    let mut link = Link::settled();
    // Somebody probes for it.
    let mut probe = query(&[question(HOST, QTYPE::ANY)]);
    probe.name_servers.push(record(HOST, 120, RData::A(A { address: 0xcb00_7101 })));
    link.asks(&probe);
    let answer = link.next();
    let packet = message::parse(&answer.bytes).unwrap();
    assert!(packet.answers.iter().all(|record| record.cache_flush));
    assert_eq!(packet.answers.len(), 2);

    // What he says of it in spite of that makes us ask first...
    let his = record(HOST, 120, RData::A(A { address: 0xcb00_7101 }));
    link.hears(neighbour(), &claim(his.clone()));
    let packet = link.next();
    let packet = message::parse(&packet.bytes).unwrap();
    assert_eq!((packet.questions.len(), packet.questions[0].qname.to_string()), (3, HOST.to_owned()));
    // ...and his answer ends it.
    link.hears(neighbour(), &claim(his));
    link.next();
    assert_eq!(link.responder.number, 2);
}

#[test]
fn other_addresses_are_told_under_the_same_name() {
    let mut link = Link::settled();
    link.responder.number = 3;
    let addresses = vec![address("192.0.2.2")];
    link.responder
        .again(link.now, Zone { addresses: addresses.clone(), own: addresses.into_iter().collect(), ..zone() });
    let told = link.next();
    let packet = message::parse(&told.bytes).unwrap();
    let hosts: Vec<_> = packet.answers.iter().filter(|record| record.rdata.type_code() == TYPE::A).collect();
    assert!(hosts.len() == 1 && hosts[0].cache_flush && hosts[0].name.to_string() == "desk-lumen-3.local", "{hosts:?}");
    assert!(packet.has_flags(PacketFlag::RESPONSE));
}

#[test]
fn our_own_voice_is_not_somebody_elses() {
    let mut link = Link::new();
    let me: SocketAddr = "192.0.2.1:5353".parse().unwrap();
    let mut said = Vec::new();
    while link.responder.phase != Phase::Settled {
        let outgoing = link.next();
        link.hears(me, &outgoing.bytes);
        said.push(outgoing);
    }
    assert_eq!((said.len(), link.responder.number), (6, 1));
    // The same host on another link which is bridged to this one.
    let other = Zone { addresses: vec![address("198.51.100.1")], ..zone() };
    let mut other = Link { responder: Responder::new(link.now, other, 43), now: link.now };
    for _ in 0..6 {
        let outgoing = other.next();
        link.hears("198.51.100.1:5353".parse().unwrap(), &outgoing.bytes);
    }
    assert_eq!((link.responder.phase, link.responder.number), (Phase::Settled, 1));
}

#[test]
fn of_two_that_probe_at_once_one_waits() {
    let mut first = Link::new();
    let theirs = Zone { addresses: vec![address("192.0.2.200")], own: BTreeSet::new(), ..zone() };
    let mut second = Link { responder: Responder::new(7, theirs, 5), now: 7 };
    // Both have asked once when each hears the other.
    let (from_first, from_second) = (first.next(), second.next());
    first.hears(neighbour(), &from_second.bytes);
    second.hears("192.0.2.1:5353".parse().unwrap(), &from_first.bytes);
    let waits = |link: &Link| link.responder.deadline().unwrap() == link.now + LOSER_WAITS;
    assert_eq!([waits(&first), waits(&second)], [true, false], "the greater address goes first");
    // The winner is there when the other asks again.
    while second.responder.phase != Phase::Settled {
        let outgoing = second.next();
        first.now = first.now.max(second.now.min(first.responder.deadline().unwrap() - 1));
        first.hears(neighbour(), &outgoing.bytes);
    }
    assert_eq!((first.responder.number, second.responder.number), (2, 1));
}

#[test]
fn endless_conflicts_slow_down() {
    let mut link = Link::new();
    let mut last = link.now;
    for count in 0..40 {
        let probe = link.next();
        if count > CONFLICTS + 1 {
            assert!(link.now - last >= CONFLICT_WAITS);
        }
        last = link.now;
        let packet = message::parse(&probe.bytes).unwrap();
        let name = packet.questions[0].qname.clone().into_owned();
        let his = ResourceRecord::new(name, CLASS::IN, 120, RData::A(A { address: 1 }));
        link.hears(neighbour(), &message::response(None, vec![his], Vec::new()).unwrap());
    }
}

#[test]
fn a_goodbye_takes_back_what_was_said_of_us() {
    assert!(Link::new().responder.goodbye().is_none(), "nothing was said");
    let goodbye = Link::settled().responder.goodbye().unwrap();
    let packet = message::parse(&goodbye.bytes).unwrap();
    assert!(packet.answers.iter().all(|record| record.ttl == 0));
    let listed = listed(&packet.answers);
    assert!(listed.contains(&(KIND.into(), TYPE::PTR)) && listed.contains(&(INSTANCE.into(), TYPE::SRV)));
    assert!(listed.iter().all(|(name, _)| !name.starts_with("_services")), "that is others' too");
}

#[test]
fn a_flood_of_questions_waits_in_a_queue_with_an_end() {
    let mut link = Link::settled();
    let query = query(&[question(KIND, TYPE::PTR.into())]).build_bytes_vec().unwrap();
    let taken = (0..1000).filter(|_| link.responder.receive(link.now, neighbour(), &query)).count();
    assert_eq!(taken, MOST_WAITING);
    assert_eq!(link.within(SECOND / 2).len(), 1, "one answer is for all of them");
}

proptest! {
    /// Whatever is heard, in whatever order, it goes on: answers fit into a packet, and nothing piles up.
    #[test]
    fn survives_any_neighbours(
        settled in any::<bool>(),
        words in prop::collection::vec((0_u8..8, any::<u16>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..64)), 0..60),
    ) {
        let mut link = if settled { Link::settled() } else { Link::new() };
        for (kind, number, time, bytes) in words {
            link.now += time % (2 * SECOND);
            let mut packet = query(&[question(HOST, QTYPE::ANY), question(KIND, TYPE::PTR.into())]);
            match kind {
                0 => drop(link.responder.receive(link.now, neighbour(), &bytes)),
                1 => drop(link.responder.receive(link.now, neighbour(), &claim(record(HOST, u32::from(number), RData::A(A { address: time as u32 }))))),
                2 => drop(link.responder.receive(link.now, neighbour(), &claim(record(INSTANCE, 1, RData::TXT(TXT::new()))))),
                3 => packet.name_servers.push(record(INSTANCE, 1, srv(number))),
                4 => packet.set_flags(PacketFlag::TRUNCATION),
                5 => packet.questions[0].unicast_response = true,
                6 => drop(link.responder.goodbye()),
                _ => link.responder.again(link.now, zone()),
            }
            let mut message = packet.build_bytes_vec_compressed().unwrap();
            if let Some(byte) = message.get_mut(usize::from(number)) {
                *byte ^= kind;
            }
            let from = SocketAddr::new(neighbour().ip(), if number % 3 == 0 { number } else { PORT });
            link.responder.receive(link.now, from, &message);
            let said: Vec<_> = std::iter::from_fn(|| link.responder.poll(link.now)).collect();
            prop_assert!(said.len() <= MOST_WAITING + 2);
            for outgoing in said {
                prop_assert!(outgoing.bytes.len() <= 1200 && message::parse(&outgoing.bytes).is_some());
            }
            prop_assert!(link.responder.deadline().is_none_or(|at| at > link.now));
        }
        // Left alone, it settles.
        link.within(20 * SECOND);
        prop_assert!(link.responder.phase == Phase::Settled && link.responder.waiting.is_empty());
    }
}
