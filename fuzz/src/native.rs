//! lumen/1.

use lumen_core::hello::{ClientMessage, FrameReader, HostMessage};
use lumen_core::input::datagram::Datagram;
use lumen_core::input::{InputEvent, MAX_EVENT};
use lumen_core::packet::{FrameHeader, HEADER_BYTES, Header, ParityHeader, Pong, Probe};

/// The control stream, cut at any place into what arrives.
pub fn hello(bytes: &[u8]) {
    let (mut client, mut host) = (FrameReader::default(), FrameReader::default());
    for piece in bytes.chunks(usize::from(bytes.first().copied().unwrap_or(0)) + 1) {
        client.push(piece);
        host.push(piece);
        while let Ok(Some(_)) = client.poll::<ClientMessage>() {}
        while let Ok(Some(_)) = host.poll::<HostMessage>() {}
    }
}

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
