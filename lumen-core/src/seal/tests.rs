use proptest::prelude::*;

use super::*;
use crate::packet::{Flags, Kind};

fn header() -> Header {
    Header { kind: Kind::Data, flags: Flags::IDR, index: 2, session: 3, generation: 0, frame: 4, counter: 0 }
}

fn sealed(sealer: &mut Sealer, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; HEADER_BYTES];
    packet.extend_from_slice(body);
    packet.resize(packet.len() + TAG_BYTES, 0);
    sealer.seal(header(), &mut packet).unwrap();
    packet
}

fn open(opener: &mut Opener, packet: &[u8]) -> Result<Vec<u8>, Rejected> {
    let header = Header::decode(packet).unwrap();
    opener.open(&header, packet, &mut [0; 2048]).map(<[u8]>::to_vec)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The vector of PROTOCOL.md §5, computed with another implementation of HKDF and AES-GCM.
#[test]
fn seals_as_the_protocol_says() {
    let secret = MediaSecret(std::array::from_fn(|i| i as u8));
    let mut sealer = Sealer::new(&secret, 7, Direction::HostToClient);
    let packet = sealed(&mut sealer, b"lumen");
    assert_eq!(hex(&packet), VECTOR);
    assert_eq!(open(&mut Opener::new(&secret, 7, Direction::HostToClient), &packet).unwrap(), b"lumen");
}

const VECTOR: &str = "010102000300000007000000040000000100000000000000e6569baf5a06295e22d2333e709971116cfc22a3c9";

#[test]
fn refuses_what_was_not_sealed_for_it() {
    let secret = MediaSecret([9; 32]);
    let packet = sealed(&mut Sealer::new(&secret, 1, Direction::HostToClient), &[1; 100]);
    let forged = |opener: &mut Opener| open(opener, &packet) == Err(Rejected::Forged);
    assert!(forged(&mut Opener::new(&secret, 1, Direction::ClientToHost)));
    assert!(forged(&mut Opener::new(&MediaSecret([8; 32]), 1, Direction::HostToClient)));
    assert_eq!(open(&mut Opener::new(&secret, 2, Direction::HostToClient), &packet), Err(Rejected::Malformed));
    let mut opener = Opener::new(&secret, 1, Direction::HostToClient);
    for bit in 0..packet.len() * 8 {
        let mut spoilt = packet.clone();
        spoilt[bit / 8] ^= 1 << (bit % 8);
        if let Some(header) = Header::decode(&spoilt) {
            assert!(opener.open(&header, &spoilt, &mut [0; 2048]).is_err(), "bit {bit}");
        }
    }
    assert_eq!(opener.open(&Header::decode(&packet).unwrap(), &packet, &mut [0; 10]), Err(Rejected::Malformed));
    assert_eq!((opener.highest(), opener.received()), (0, 0));
    assert_eq!(open(&mut opener, &packet).unwrap(), [1; 100]);
    assert_eq!(open(&mut opener, &packet), Err(Rejected::Replayed));
    assert_eq!((opener.highest(), opener.received()), (1, 1));
}

#[test]
fn a_worn_out_key_seals_nothing_more() {
    let mut sealer = Sealer::new(&MediaSecret([0; 32]), 1, Direction::HostToClient);
    sealer.next = MAX_PACKETS;
    let mut packet = [0; 64];
    assert_eq!(sealer.seal(header(), &mut packet), Ok(MAX_PACKETS));
    assert_eq!(sealer.seal(header(), &mut packet), Err(Exhausted));
}

#[test]
fn the_window_forgets_nothing_it_should_remember() {
    let mut window = ReplayWindow::default();
    assert!(!window.fresh(0), "counters begin at 1");
    window.accept(5000);
    assert!(window.fresh(5000 - 2047) && !window.fresh(5000 - 2048) && !window.fresh(5000));
    window.accept(1 << 30);
    assert!(window.fresh((1 << 30) - 2047), "a jump clears what was seen");
    assert!(!window.fresh(5001));
}

proptest! {
    /// Against a model that remembers every counter.
    #[test]
    fn the_window_is_exact(steps in proptest::collection::vec((0u64..5000, any::<bool>()), 1..300)) {
        let (mut window, mut seen, mut highest) = (ReplayWindow::default(), std::collections::HashSet::new(), 0u64);
        for (step, back) in steps {
            let counter = if back { highest.saturating_sub(step) } else { highest + step };
            let expected = counter > 0 && counter + ReplayWindow::SIZE > highest && !seen.contains(&counter);
            prop_assert_eq!(window.fresh(counter), expected);
            if expected {
                window.accept(counter);
                seen.insert(counter);
                highest = highest.max(counter);
            }
        }
    }
}
