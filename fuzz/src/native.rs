//! lumen/1.

use lumen_core::clock::{ClockOffset, Exchange};
use lumen_core::input::datagram::Datagram;
use lumen_core::input::{InputEvent, MAX_EVENT};
use lumen_core::packet::{FrameHeader, HEADER_BYTES, Header, PONG_BYTES, ParityHeader, Pong, Probe};

/// A datagram of input events.
pub fn input_datagram(bytes: &[u8]) {
    let Ok(datagram) = Datagram::parse(bytes) else { return };
    for numbered in datagram.events() {
        let Some(event) = numbered.event else { continue };
        let mut encoded = [0; MAX_EVENT];
        let length = event.encode(&mut encoded);
        assert_eq!(InputEvent::decode(&encoded[..length]), Some(event));
    }
}

/// What is in a packet of the data plane, opened already.
pub fn media_packet(bytes: &[u8]) {
    if let Some(header) = Header::decode(bytes) {
        assert_eq!(header.encode()[..], bytes[..HEADER_BYTES]);
    }
    let _ = (ParityHeader::decode(bytes), FrameHeader::decode(bytes), Probe::decode(bytes));
    // What a host says of its clock, again and again.
    let (mut clock, now_ns) = (ClockOffset::new([1; 16], [2; 16]), 1 << 40);
    for pong in bytes.chunks(PONG_BYTES).filter_map(Pong::decode) {
        let round_trip_ns = clock.sample(Exchange {
            client_sent_ns: pong.client_ns,
            host_received_ns: pong.host_received_ns,
            host_sent_ns: pong.host_sent_ns,
            client_received_ns: now_ns,
        });
        assert!(round_trip_ns.is_none_or(|round_trip_ns| round_trip_ns <= now_ns));
        let _ = (clock.error_ns(now_ns + 1), clock.to_client_ns(pong.host_sent_ns));
    }
}
