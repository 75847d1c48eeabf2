//! mDNS messages: what is taken of those that come in, and how those that leave are put together. The syntax is that of
//! the library; the bounds are ours.

use simple_dns::{CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};

/// Most bytes of a message that is looked at. Queries with long lists of known answers are split at the link's MTU.
pub const MOST_BYTES: usize = 4096;
/// Most questions, and most records, of one message. The library makes room for as many as the header promises.
const MOST_QUESTIONS: u16 = 64;
const MOST_RECORDS: u16 = 256;
const HEADER: usize = 12;

/// Makes sense of a datagram; none if it is no DNS message of reasonable size, or one that mDNS ignores (RFC 6762 §18).
pub fn parse(bytes: &[u8]) -> Option<Packet<'_>> {
    if bytes.len() > MOST_BYTES {
        return None;
    }
    let header = bytes.first_chunk::<HEADER>()?;
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    let records = [6, 8, 10].into_iter().map(count).fold(0, u16::saturating_add);
    if count(4) > MOST_QUESTIONS || records > MOST_RECORDS {
        return None;
    }
    let packet = Packet::parse(bytes).ok()?;
    (packet.opcode() == OPCODE::StandardQuery && packet.rcode() == RCODE::NoError).then_some(packet)
}

/// Whether a record is one of those that are asked for. Names count without regard to case.
pub fn answers(record: &ResourceRecord<'_>, question: &Question<'_>) -> bool {
    let class = matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY);
    let kind = match question.qtype {
        QTYPE::ANY => record.rdata.type_code() != TYPE::NSEC,
        QTYPE::TYPE(kind) => record.rdata.type_code() == kind,
        _ => false,
    };
    class && kind && record.name == question.qname
}

/// A record's content as it is compared where two hosts want one name (RFC 6762 §8.2): class, type and bytes, with no
/// name in them compressed. None of what the library cannot write.
pub fn content(record: &ResourceRecord<'_>) -> Option<(u16, u16, Vec<u8>)> {
    let mut alone = record.clone();
    alone.name = Name::new_with_labels(&[]);
    alone.cache_flush = false;
    let (class, kind) = (u16::from(alone.class), u16::from(alone.rdata.type_code()));
    let mut packet = Packet::new_reply(0);
    packet.answers.push(alone);
    // The root's name, type, class, time to live and length.
    let bytes = packet.build_bytes_vec().ok()?.split_off(HEADER + 1 + 2 + 2 + 4 + 2);
    Some((class, kind, bytes))
}

/// What a host says of itself; the id and the question are those of a querier that knows no mDNS, if it is for one.
pub fn response<'a>(
    asked: Option<&(u16, Question<'a>)>,
    answers: Vec<ResourceRecord<'a>>,
    more: Vec<ResourceRecord<'a>>,
) -> Option<Vec<u8>> {
    let mut packet = Packet::new_reply(asked.map_or(0, |(id, _)| *id));
    packet.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
    packet.questions.extend(asked.map(|(_, question)| question.clone()));
    packet.answers = answers;
    packet.additional_records = more;
    packet.build_bytes_vec_compressed().ok()
}

/// Asks for everything of these names, and says what is going to be theirs (RFC 6762 §8.1).
pub fn probe<'a>(names: Vec<Name<'a>>, proposed: Vec<ResourceRecord<'a>>) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(0);
    let question = |name| Question::new(name, QTYPE::ANY, CLASS::IN.into(), true);
    packet.questions = names.into_iter().map(question).collect();
    packet.name_servers = proposed;
    packet.build_bytes_vec_compressed().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use simple_dns::rdata::{A, PTR, RData};

    use super::*;

    fn record(name: &'static str, rdata: RData<'static>) -> ResourceRecord<'static> {
        ResourceRecord::new(Name::new_unchecked(name), CLASS::IN, 120, rdata)
    }

    #[test]
    fn promises_of_a_header_are_not_believed() {
        let mut bytes = [0; 12];
        assert!(parse(&bytes).is_some_and(|packet| packet.questions.is_empty()));
        assert!(parse(&bytes[..11]).is_none());
        for at in [4, 6, 8, 10] {
            bytes[at] = 0xff;
            assert!(parse(&bytes).is_none());
            bytes[at] = 0;
        }
        bytes[2] = 0x28;
        assert!(parse(&bytes).is_none(), "an update");
        bytes[2..4].copy_from_slice(&[0x80, 3]);
        assert!(parse(&bytes).is_none(), "an error");
        assert!(parse(&[0; MOST_BYTES]).is_some() && parse(&[0; MOST_BYTES + 1]).is_none());
    }

    #[test]
    fn contents_are_bytes_without_compression() {
        let ptr = record("_x._udp.local", RData::PTR(PTR(Name::new_unchecked("me._x._udp.local"))));
        let (class, kind, bytes) = content(&ptr).unwrap();
        assert_eq!((class, kind, &bytes[..]), (1, 12, &b"\x02me\x02_x\x04_udp\x05local\x00"[..]));
        let (_, kind, bytes) =
            content(&record("h.local", RData::A(A { address: 0xc000_0201 })).with_cache_flush(true)).unwrap();
        assert_eq!((kind, bytes), (1, vec![192, 0, 2, 1]));
    }

    #[test]
    fn names_are_asked_for_in_any_case() {
        let question = |kind| Question::new(Name::new_unchecked("H.LOCAL"), kind, QCLASS::ANY, false);
        let record = record("h.local", RData::A(A { address: 1 }));
        assert!(answers(&record, &question(QTYPE::ANY)) && answers(&record, &question(TYPE::A.into())));
        assert!(!answers(&record, &question(TYPE::AAAA.into())) && !answers(&record, &question(QTYPE::AXFR)));
    }

    /// Bytes that look like a message: names, pointers, counts.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(b"\x05local\x00".to_vec()),
            Just(b"\x09_nvstream\x04_tcp".to_vec()),
            (0_u8..4, any::<u8>()).prop_map(|(high, low)| vec![0xc0 | high, low]),
            Just(vec![0, 12, 0, 1]),
            Just(vec![0, 33, 0x80, 1, 0, 0, 0, 120]),
            Just(vec![0, 41, 0x05, 0xa0, 0, 0, 0, 0, 0, 0]),
            prop::collection::vec(any::<u8>(), 0..20),
        ];
        let counts = prop::collection::vec(0_u8..6, 4);
        (any::<[u8; 4]>(), counts, prop::collection::vec(part, 0..60)).prop_map(|(start, counts, parts)| {
            let mut bytes = vec![start[0], start[1], start[2] & 0x80, 0];
            bytes.extend(counts.into_iter().flat_map(|count| [0, count]));
            parts.into_iter().for_each(|part| bytes.extend(part));
            bytes
        })
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_none(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn what_is_parsed_can_be_compared_and_written(bytes in nearly()) {
            if let Some(packet) = parse(&bytes) {
                for record in packet.answers.iter().chain(&packet.name_servers).chain(&packet.additional_records) {
                    let _ = content(record);
                }
                let _ = packet.build_bytes_vec_compressed();
            }
        }
    }
}
