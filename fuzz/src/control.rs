//! The control stream of Moonlight clients: what is in its packets, and what hands make of it.

use lumen_core::gamestream::Origin;
use lumen_core::gamestream::control::{
    ControlCipher, ControlVersion, FromGuest, MAX_MESSAGE, SEALED_OVERHEAD, ToGuest,
};
use lumen_core::gamestream::input::{GuestHands, Packet};
use lumen_core::input::{Hands, Held, InputEvent, MAX_EVENT};

/// A message of a client or of a host, opened already.
pub fn message(bytes: &[u8]) {
    if let Ok(said) = FromGuest::parse(bytes) {
        if let FromGuest::FecStatus(status) = said {
            assert!(status.lost() <= status.packets());
        }
        // Places are not said again in the same pixels.
        if !matches!(said, FromGuest::Input(Packet::Position { .. })) {
            let mut again = Vec::new();
            said.encode(&mut again);
            assert_eq!(FromGuest::parse(&again), Ok(said));
        }
    }
    if let Ok(said) = ToGuest::parse(bytes) {
        let mut again = Vec::new();
        said.encode(&mut again);
        assert_eq!(ToGuest::parse(&again), Ok(said));
    }
}

/// A sealed message of either version; and these bytes as what is sealed in one.
pub fn sealed(bytes: &[u8]) {
    let key = [7; 16];
    for version in [ControlVersion::V1, ControlVersion::V2] {
        let mut client = ControlCipher::new(&key, version, Origin::Client);
        let mut host = ControlCipher::new(&key, version, Origin::Host);
        let mut out = [0; MAX_MESSAGE];
        assert!(host.open(bytes, &mut out).is_err(), "a forgery");
        if (4..=MAX_MESSAGE).contains(&bytes.len()) {
            let mut message = Vec::new();
            assert!(client.seal(bytes, &mut message).is_ok());
            assert_eq!(message.len(), bytes.len() + SEALED_OVERHEAD);
            assert_eq!(host.open(&message, &mut out), Ok(bytes));
            let again = host.open(&message, &mut out).is_ok();
            assert_eq!(again, version == ControlVersion::V1);
        }
    }
}

/// Input packets, one after the other, and what hands make of them.
pub fn input(bytes: &[u8]) {
    let (mut guest, mut plane, mut events) = (GuestHands::default(), Hands::default(), Vec::new());
    for piece in crate::pieces(bytes) {
        let Ok(packet) = Packet::parse(piece) else { continue };
        events.clear();
        guest.to_events(&packet, &mut events);
        assert!(events.len() <= GuestHands::MAX_EVENTS);
        for event in &events {
            let mut encoded = [0; MAX_EVENT];
            let length = event.encode(&mut encoded);
            assert_eq!(InputEvent::decode(&encoded[..length]), Some(*event));
            plane.apply(event);
        }
    }
    events.clear();
    guest.let_go(&mut events);
    assert_eq!(events.first(), Some(&InputEvent::Held(Held::NOTHING)));
    plane.lift_all().for_each(drop);
    assert!(plane.is_empty());
}
