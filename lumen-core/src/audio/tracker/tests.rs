use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;

/// Packet `n` of a perfect stream, this much late.
fn send(tracker: &mut Tracker, n: u64, late_ns: u64) -> Verdict {
    tracker.packet(n as u32, 7 + n * FRAME_NS, 1_000 * MS + n * FRAME_NS + late_ns)
}

#[test]
fn a_perfect_stream_has_no_jitter() {
    let mut tracker = Tracker::new();
    for n in 0..1000 {
        assert_eq!(send(&mut tracker, n, 0), Verdict::Play { lost_before: 0 });
    }
    assert_eq!(tracker.counts(), SoundCounts { received: 1000, ..SoundCounts::default() });
    assert_eq!((tracker.interarrival_jitter_ns(), tracker.jitter().max_ns()), (0, 0));
}

#[test]
fn loss_lateness_and_duplicates_are_told_apart() {
    let mut tracker = Tracker::new();
    for n in [0, 1, 2] {
        send(&mut tracker, n, 0);
    }
    assert_eq!(send(&mut tracker, 6, 0), Verdict::Play { lost_before: 3 });
    assert_eq!(send(&mut tracker, 4, 0), Verdict::Late);
    assert_eq!(send(&mut tracker, 4, 0), Verdict::Duplicate);
    assert_eq!(send(&mut tracker, 6, 0), Verdict::Duplicate);
    assert_eq!(send(&mut tracker, 1, 0), Verdict::Duplicate);
    assert_eq!(send(&mut tracker, 7, 0), Verdict::Play { lost_before: 0 });
    let expected = SoundCounts { received: 6, lost: 2, late: 1, duplicates: 3, gaps: 0 };
    assert_eq!(tracker.counts(), expected);
}

#[test]
fn jitter_is_measured_against_the_usual_transit() {
    let mut tracker = Tracker::new();
    // The very first is 20 ms late; that must not make all others early for ever.
    for n in 0..10_000 {
        let late = if n == 0 {
            20 * MS
        } else if n % 10 == 0 {
            5 * MS
        } else {
            0
        };
        send(&mut tracker, n, late);
    }
    let p50 = tracker.jitter().quantile_ns(500);
    let p99 = tracker.jitter().quantile_ns(990);
    assert!(p50 < MS, "{p50}");
    assert!((4 * MS..6 * MS).contains(&p99), "{p99}");
    // Two of ten steps are of 5 ms: the mean is 1 ms.
    assert!((MS / 2..2 * MS).contains(&tracker.interarrival_jitter_ns()));
}

#[test]
fn a_pause_of_the_host_is_a_gap_and_no_loss() {
    let mut tracker = Tracker::new();
    send(&mut tracker, 0, 0);
    send(&mut tracker, 1, 0);
    let pause = 200 * MS;
    assert_eq!(
        tracker.packet(2, 7 + 2 * FRAME_NS + pause, 1_000 * MS + 2 * FRAME_NS + pause),
        Verdict::Play { lost_before: 0 }
    );
    assert_eq!(tracker.counts(), SoundCounts { received: 3, gaps: 1, ..SoundCounts::default() });
    assert_eq!(tracker.jitter().max_ns(), 0);
}

#[test]
fn numbers_wrap_and_leaps_begin_anew() {
    let mut tracker = Tracker::new();
    for n in 0..5u32 {
        let seq = (u32::MAX - 2).wrapping_add(n);
        assert_eq!(tracker.packet(seq, u64::from(n) * FRAME_NS, 0), Verdict::Play { lost_before: 0 });
    }
    assert_eq!(tracker.packet(u32::MAX, 0, 0), Verdict::Duplicate);
    assert_eq!(tracker.packet(1 << 31, u64::MAX, u64::MAX), Verdict::Play { lost_before: 0 });
    assert_eq!(tracker.counts().lost, 0);
    assert_eq!(tracker.counts().gaps, 1);
}

proptest! {
    /// Against a model that remembers everything.
    #[test]
    fn counts_are_those_of_a_model(steps in proptest::collection::vec((0u32..40, 0u32..30), 1..400)) {
        let (mut tracker, mut newest) = (Tracker::new(), None::<u32>);
        let (mut came, mut model) = (std::collections::BTreeSet::new(), SoundCounts::default());
        let mut base = 1000u32;
        for (forward, back) in steps {
            base += forward / 4;
            let seq = base - back;
            let verdict = tracker.packet(seq, u64::from(seq) * FRAME_NS, 0);
            let expected = match newest {
                None => Verdict::Play { lost_before: 0 },
                Some(newest) if seq > newest => Verdict::Play { lost_before: seq - newest - 1 },
                Some(_) if came.contains(&seq) => Verdict::Duplicate,
                Some(_) => Verdict::Late,
            };
            prop_assert_eq!(verdict, expected);
            match verdict {
                Verdict::Play { .. } => newest = Some(seq),
                Verdict::Late => model.late += 1,
                Verdict::Duplicate => model.duplicates += 1,
            }
            came.insert(seq);
        }
        model.received = came.len() as u64;
        prop_assert_eq!(tracker.counts().received, model.received);
        prop_assert_eq!(tracker.counts().late, model.late);
        prop_assert_eq!(tracker.counts().duplicates, model.duplicates);
    }

    #[test]
    fn no_numbers_panic(packets in proptest::collection::vec(any::<(u32, u64, u64)>(), 0..200)) {
        let mut tracker = Tracker::new();
        for (seq, pts_ns, received_ns) in packets {
            if let Verdict::Play { lost_before } = tracker.packet(seq, pts_ns, received_ns) {
                prop_assert!(lost_before < MAX_LEAP);
            }
        }
        let _ = (tracker.interarrival_jitter_ns(), tracker.jitter().summary());
    }
}
