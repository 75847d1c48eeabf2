//! lumen/1.

use lumen_core::input::datagram::Datagram;
use lumen_core::input::{InputEvent, MAX_EVENT};
use lumen_core::packet::{FrameHeader, HEADER_BYTES, Header, ParityHeader, Pong, Probe};

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
    let _ = (ParityHeader::decode(bytes), FrameHeader::decode(bytes), Probe::decode(bytes), Pong::decode(bytes));
}
