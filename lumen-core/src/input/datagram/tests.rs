use proptest::prelude::*;

use super::*;
use crate::input::{Button, any_event};

#[test]
fn the_vectors_of_the_protocol() {
    let mut out = Vec::new();
    let mut writer = DatagramWriter::new(&mut out, 7, 1_000_000);
    assert!(writer.push(700_000, &InputEvent::Button { button: Button::Left, pressed: true }));
    assert!(writer.push(1_000_000, &InputEvent::Motion { dx: 256, dy: 0 }));
    let bytes = [
        0xCB, 7, 0, 0, 0, 0x40, 0x42, 0x0F, 0, 0, 0, 0, 0, 2, // header
        3, 0, 3, 5, 0, 1, // 0.3 ms ago: a button
        0, 0, 9, 3, 0, 1, 0, 0, 0, 0, 0, 0, // now: motion
    ];
    assert_eq!(out, bytes);
    let datagram = Datagram::parse(&out).unwrap();
    assert_eq!((datagram.first, datagram.client_ns, datagram.count), (7, 1_000_000, 2));
    let events: Vec<_> = datagram.events().collect();
    assert_eq!((events[0].seq, events[0].age_ns), (7, 300_000));
    assert_eq!(events[1].event, Some(InputEvent::Motion { dx: 256, dy: 0 }));
    assert_eq!(events.len(), 2);

    let mut out = Vec::new();
    Ack { next: 9, client_ns: 1_000_000 }.encode(&mut out);
    assert_eq!(out, [0xCC, 9, 0, 0, 0, 0x40, 0x42, 0x0F, 0, 0, 0, 0, 0]);
    assert_eq!(Ack::decode(&out), Some(Ack { next: 9, client_ns: 1_000_000 }));
    out.push(0);
    assert_eq!(Ack::decode(&out), None);
    assert_eq!(Ack::decode(&out[..12]), None);
}

#[test]
fn lengths_and_counts_that_lie_are_malformed() {
    let header = |count: u8| [&[0xCB, 0, 0, 0, 0][..], &[0; 8], &[count]].concat();
    let with = |count: u8, events: &[u8]| [&header(count)[..], events].concat();
    assert!(Datagram::parse(&with(1, &[0, 0, 2, 9, 1])).is_ok());
    for bad in [
        vec![],
        vec![0xCB],
        header(0),
        header(1),
        with(255, &[0, 0, 2, 9, 1]),
        with(1, &[0, 0, 3, 9, 1]),
        with(1, &[0, 0, 255, 9, 1]),
        with(1, &[0, 0, 2, 9, 1, 0]),
        with(2, &[0, 0, 2, 9, 1, 0, 0]),
        with(0, &[0, 0, 2, 9, 1]),
        [&[0xCA][..], &with(1, &[0, 0, 2, 9, 1])[1..]].concat(),
        vec![0xCB; 2000],
    ] {
        assert_eq!(Datagram::parse(&bad).err(), Some(Malformed), "{bad:?}");
    }
    // The longest that may be, and one byte more.
    let mut full = header(5);
    for _ in 0..4 {
        full.extend_from_slice(&[&[0, 0, 254][..], &[1; 254]].concat());
    }
    let left = MAX_INPUT_DATAGRAM - full.len() - 3;
    full.extend_from_slice(&[&[0, 0, left as u8][..], &vec![1; left]].concat());
    assert!(Datagram::parse(&full).is_ok());
    full.push(1);
    full[14 + 4 * 257 + 2] += 1;
    assert!(Datagram::parse(&full).is_err());
}

#[test]
fn a_broken_event_keeps_its_place() {
    let bytes = [
        &[0xCB, 0xFF, 0xFF, 0xFF, 0xFF][..],
        &[0; 8],
        &[4],
        &[0, 0, 2, 9, 255], // a pad of index 255
        &[0, 0, 0],         // nothing at all
        &[0, 0, 2, 2, 27],  // text with a control character
        &[0, 0, 2, 9, 1],   // a pad that leaves
    ]
    .concat();
    let events: Vec<_> = Datagram::parse(&bytes).unwrap().events().collect();
    assert_eq!(events.iter().map(|numbered| numbered.seq).collect::<Vec<_>>(), [u32::MAX, 0, 1, 2]);
    assert!(events[..3].iter().all(|numbered| numbered.event.is_none()));
    assert!(matches!(events[3].event, Some(InputEvent::PadRemoved { .. })));
}

proptest! {
    #[test]
    fn what_was_written_is_read(
        first: u32, sent_ns: u64, events in proptest::collection::vec((any_event(), 0u64..10_000_000_000), 1..300),
    ) {
        let mut out = vec![1, 2, 3];
        let mut writer = DatagramWriter::new(&mut out, first, sent_ns);
        let fit = events.iter().take_while(|(event, age)| writer.push(sent_ns.saturating_sub(*age), event)).count();
        prop_assert!(out.len() <= MAX_INPUT_DATAGRAM && fit >= 1);
        let datagram = Datagram::parse(&out).unwrap();
        let read: Vec<_> = datagram.events().collect();
        prop_assert_eq!(read.len(), fit);
        for (index, (numbered, (event, age))) in read.iter().zip(&events).enumerate() {
            prop_assert_eq!(numbered.seq, first.wrapping_add(index as u32));
            prop_assert_eq!(numbered.event, Some(*event));
            prop_assert_eq!(numbered.age_ns, (age.min(&sent_ns) / AGE_NS).min(65_535) * AGE_NS);
        }
    }

    #[test]
    fn no_bytes_panic_the_parser(bytes in proptest::collection::vec(any::<u8>(), 0..1200), count: u8) {
        let mut bytes = bytes;
        for (at, value) in [(0, INPUT_DATAGRAM), (COUNT_AT, count % 8)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(datagram) = Datagram::parse(&bytes) {
            prop_assert_eq!(datagram.events().count(), usize::from(datagram.count));
        }
        let _ = Ack::decode(&bytes);
    }
}
