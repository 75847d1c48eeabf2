//! The window of a PIN, and everything that must not pass through it.

use proptest::prelude::*;

use super::*;

const ONE: PairingId = PairingId(1);
const TWO: PairingId = PairingId(2);

fn client(id: PairingId) -> Fingerprint {
    Fingerprint([id.0 as u8; 32])
}

fn visitor(number: u64) -> VisitorId {
    VisitorId::of_test(number)
}

fn begin(pairings: &mut Pairings, now: u64, id: PairingId) -> Result<(), &'static str> {
    pairings.begin(now, id, client(id), "127.0.0.1:9".parse().unwrap(), "roth".into())
}

#[test]
fn a_pin_pairs_the_client_that_waits_and_nobody_after_it() {
    let mut pairings = Pairings::default();
    assert_eq!(pairings.awaiting(None), Err(NoPairing::Nobody));
    begin(&mut pairings, 0, ONE).unwrap();
    assert_eq!(pairings.awaiting(None), Ok((ONE, client(ONE))));
    pairings.enter(0, ONE, visitor(7), Some("tv".into()));
    assert_eq!(pairings.awaiting(None), Err(NoPairing::Tried), "one try");
    assert_eq!(pairings.awaiting(Some(ONE)), Err(NoPairing::Tried));
    assert!(pairings.may_sign(1, ONE) && !pairings.may_sign(1, ONE), "one signature");
    let paired = pairings.paired(2, ONE).unwrap();
    assert_eq!((paired.client, paired.name.as_deref(), paired.visitor), (client(ONE), Some("tv"), visitor(7)));
    assert_eq!(pairings.paired(2, ONE), None, "accepted once");
    assert!(!pairings.may_sign(2, ONE));
    assert_eq!(pairings.awaiting(None), Err(NoPairing::Nobody));
}

#[test]
fn without_a_pin_nothing_is_signed_and_nobody_is_paired() {
    let mut pairings = Pairings::default();
    begin(&mut pairings, 0, ONE).unwrap();
    assert!(!pairings.may_sign(0, ONE));
    assert_eq!(pairings.paired(0, ONE), None);
    assert!(!pairings.may_sign(0, TWO), "one that nobody has heard of");
    pairings.enter(0, ONE, visitor(1), None);
    assert_eq!(pairings.paired(0, ONE), None, "nothing was signed for it");
}

#[test]
fn a_pin_is_for_one_of_those_who_wait() {
    let mut pairings = Pairings::default();
    begin(&mut pairings, 0, ONE).unwrap();
    begin(&mut pairings, 0, TWO).unwrap();
    assert_eq!(pairings.awaiting(None), Err(NoPairing::Many));
    assert_eq!(pairings.awaiting(Some(PairingId(3))), Err(NoPairing::Unknown));
    assert_eq!(pairings.awaiting(Some(TWO)), Ok((TWO, client(TWO))));
    pairings.enter(0, TWO, visitor(1), None);
    assert!(pairings.may_sign(0, TWO) && !pairings.may_sign(0, ONE), "the other's window is shut");
    assert_eq!(pairings.paired(0, ONE), None);
    assert_eq!(pairings.awaiting(None), Ok((ONE, client(ONE))), "the other still waits for its own");
}

#[test]
fn windows_and_patience_end() {
    let mut pairings = Pairings::default();
    begin(&mut pairings, 0, ONE).unwrap();
    begin(&mut pairings, 0, TWO).unwrap();
    pairings.enter(SECOND, ONE, visitor(4), None);
    assert_eq!(pairings.deadline(), Some(SECOND + WINDOW));
    assert!(pairings.may_sign(SECOND, ONE));
    assert!(pairings.tick(SECOND + WINDOW - 1).is_empty());
    assert_eq!(pairings.paired(SECOND + WINDOW, ONE), None, "too late, though nobody has ticked");
    let lost = pairings.tick(SECOND + WINDOW);
    assert_eq!((lost.len(), lost[0].pairing, lost[0].visitor), (1, ONE, Some(visitor(4))));
    let lost = pairings.tick(WAITS);
    assert_eq!((lost.len(), lost[0].pairing, lost[0].visitor), (1, TWO, None));
    assert_eq!(pairings.deadline(), None);
}

#[test]
fn a_crowd_is_bounded_and_goes_with_its_plane() {
    let mut pairings = Pairings::default();
    let mut began = |id| begin(&mut pairings, 0, PairingId(id));
    assert_eq!((0..20).filter(|&id| began(id).is_ok()).count(), WAITING);
    assert!(began(0).is_err(), "under way already");
    pairings.enter(0, PairingId(3), visitor(3), None);
    let lost = pairings.clear();
    assert_eq!(lost.len(), WAITING);
    assert_eq!(lost.iter().filter_map(|lost| lost.visitor).collect::<Vec<_>>(), [visitor(3)]);
    assert!(pairings.deadline().is_none());
}

proptest! {
    /// Whatever the network plane says, and in whatever order: it is signed once for each PIN, and a client is paired
    /// once for each, within its window.
    #[test]
    fn nobody_is_paired_without_a_persons_pin(moves in prop::collection::vec((0u8..7, 0u32..5, 0u64..20), 1..200)) {
        let mut pairings = Pairings::default();
        let mut now = 0;
        let mut last_number = 100;
        // Pairing, when its PIN was entered, signed, accepted; the numbers are never used again.
        let mut windows = BTreeMap::<PairingId, (u64, bool)>::new();
        let mut numbers = [0; 5];
        for (op, slot, seconds) in moves {
            let id = PairingId(numbers[slot as usize]);
            match op {
                0 => {
                    last_number += 1;
                    if begin(&mut pairings, now, PairingId(last_number)).is_ok() {
                        numbers[slot as usize] = last_number;
                    }
                }
                1 => {
                    if let Ok((id, who)) = pairings.awaiting(Some(id)) {
                        prop_assert_eq!(who, client(id));
                        pairings.enter(now, id, visitor(u64::from(id.0)), None);
                        prop_assert!(windows.insert(id, (now, false)).is_none(), "a second try");
                    }
                }
                2 => {
                    if pairings.may_sign(now, id) {
                        let (at, signed) = windows.get_mut(&id).expect("signed without a PIN");
                        prop_assert!(now < *at + WINDOW && !*signed);
                        *signed = true;
                    }
                }
                3 => {
                    if let Some(paired) = pairings.paired(now, id) {
                        let (at, signed) = windows.remove(&id).expect("paired without a PIN, or twice");
                        prop_assert!(now < at + WINDOW && signed);
                        prop_assert_eq!(paired.client, client(id));
                    }
                }
                4 => drop(pairings.failed(id)),
                5 => {
                    for lost in pairings.tick(now) {
                        prop_assert_eq!(lost.visitor.is_some(), windows.contains_key(&lost.pairing));
                    }
                    prop_assert!(pairings.deadline().is_none_or(|at| at > now), "the daemon's loop would spin");
                }
                _ => now += seconds * SECOND,
            }
            prop_assert!(pairings.0.len() <= WAITING);
        }
    }
}
