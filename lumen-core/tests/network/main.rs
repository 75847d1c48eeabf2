//! Whole streams over a virtual network: what is lost, what comes back, and that nothing wrong is ever handed on.

mod net;
mod world;

use net::Path;
use proptest::prelude::*;
use world::{FRAME_NS, Seen, Setup, World};

const MS: u64 = 1_000_000;

/// What a decoder needs: in order, and after a gap an IDR first. Returns frames handed on and frames lost.
fn check_decodable(seen: &[Seen]) -> (usize, u64) {
    let (mut generation, mut expected, mut broken) = (1, 0, true);
    let (mut frames, mut lost_frames, mut wished) = (0, 0, false);
    for event in seen {
        match *event {
            Seen::Frame { generation: of, number, idr, .. } => {
                assert!(of >= generation, "an old generation came back");
                if of > generation {
                    (generation, expected, broken) = (of, 0, true);
                }
                assert!(number >= expected, "frame {number} after {expected}");
                assert!(idr || (!broken && number == expected), "frame {number} has no base");
                (expected, broken, wished) = (number + 1, false, false);
                frames += 1;
            }
            Seen::Lost { generation: of, first, count } => {
                assert!(of >= generation, "an old generation came back");
                if of > generation {
                    (generation, expected) = (of, 0);
                }
                assert!(first >= expected);
                (expected, broken) = (first + count, true);
                lost_frames += u64::from(count);
                assert!(
                    wished || seen.iter().any(|event| matches!(event, Seen::Wish { after, .. } if *after >= first))
                );
            }
            Seen::Wish { .. } => wished = true,
        }
    }
    (frames, lost_frames)
}

fn rough(loss_permille: u64) -> Path {
    Path { delay_ns: 5 * MS, loss_permille, reorder_permille: 100, reorder_ns: 4 * MS, duplicate_permille: 30 }
}

#[test]
fn five_percent_loss_costs_at_most_one_frame_in_1800() {
    for seed in 1..=4 {
        let setup = Setup { seed, down: rough(50), up: rough(50), frame_bytes: (2_000, 80_000), rewire_at: None };
        let mut world = World::new(setup);
        world.run(1_900, |_, _| ());
        check_decodable(&world.seen);
        let reported = world.first_report_ns.expect("a report within the first second");
        assert!(reported <= 1_000 * MS);
        let first = (reported / FRAME_NS + 1) as u32;
        let lost: Vec<_> = world
            .seen
            .iter()
            .filter_map(|event| match *event {
                Seen::Lost { first, count, .. } => Some(first..first + count),
                _ => None,
            })
            .flatten()
            .filter(|&number| (first..first + 1_800).contains(&number))
            .collect();
        assert!(lost.len() <= 1, "seed {seed}: frames {lost:?} were lost");
        let counters = world.client.counters();
        let share = counters.frames_recovered * 100 / counters.frames;
        println!(
            "seed {seed}: parity {} % of data, {share} % of frames recovered, {lost:?} lost",
            world.parity_percent()
        );
        assert!(share > 50, "the network was not as bad as the test says");
        assert!((20..60).contains(&world.parity_percent()));
    }
}

#[test]
fn a_clean_path_costs_the_floor_and_no_wish() {
    let clean = Path::clean(MS);
    let mut world =
        World::new(Setup { seed: 3, down: clean, up: clean, frame_bytes: (30_000, 80_000), rewire_at: None });
    world.run(600, |_, _| ());
    assert_eq!(check_decodable(&world.seen), (600, 0));
    assert!(
        world
            .seen
            .iter()
            .all(|event| matches!(event, Seen::Frame { recovered: false, idr, number, .. } if *idr == (*number == 0)))
    );
    assert!((20..=23).contains(&world.parity_percent()));
}

#[test]
fn after_a_burst_the_picture_is_whole_within_a_round_trip_and_a_frame() {
    let (mut worst, mut lost) = (0, 0);
    for seed in 1..=90 {
        let delay = [1, 5, 20][seed as usize % 3] * MS;
        let clean = Path::clean(delay);
        let mut world =
            World::new(Setup { seed, down: clean, up: clean, frame_bytes: (30_000, 80_000), rewire_at: None });
        // From a random packet of frame 100 on: in its middle, over its parity, or into the next frame.
        let skip = world.random(60);
        world.run(200, |world, frame| {
            if frame == 100 {
                world.down.burst_after(skip, 30);
            }
        });
        lost += check_decodable(&world.seen).1;
        // The client cannot know before a packet has come again.
        let known = world.after_burst_ns.expect("the burst ended");
        let whole = world.seen.iter().find_map(|event| match *event {
            Seen::Frame { at_ns, .. } if at_ns > known => Some(at_ns),
            _ => None,
        });
        let beyond = (whole.expect("frames after the burst") - known).saturating_sub(2 * delay);
        worst = worst.max(beyond);
    }
    assert!(lost >= 30, "the bursts did no harm: {lost} frames lost");
    println!("worst: a round trip and {} us", worst / 1000);
    assert!(worst <= FRAME_NS, "{} us", worst / 1000);
}

#[test]
fn a_new_generation_goes_on_with_an_idr() {
    let setup = Setup { seed: 9, down: rough(50), up: rough(50), frame_bytes: (2_000, 20_000), rewire_at: Some(120) };
    let mut world = World::new(setup);
    world.run(300, |_, _| ());
    check_decodable(&world.seen);
    let second = world.seen.iter().filter(|event| matches!(event, Seen::Frame { generation: 2, .. })).count();
    assert!(second > 170, "{second}");
    assert_eq!(world.client.generation(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// However bad the path: never a wrong frame, never one without its base, and the picture comes back once the path
    /// lets it.
    #[test]
    fn nothing_undecodable_is_handed_on(
        seed: u64, loss in 0u64..600, reorder in 0u64..500, late in 1u64..60, duplicate in 0u64..300, most in 100u64..60_000,
    ) {
        let down = Path {
            delay_ns: 5 * MS, loss_permille: loss, reorder_permille: reorder, reorder_ns: late * MS, duplicate_permille: duplicate,
        };
        let setup = Setup { seed, down, up: down, frame_bytes: (1, most), rewire_at: (seed % 3 == 0).then_some(40) };
        let mut world = World::new(setup);
        world.run(90, |_, _| ());
        let (frames, _) = check_decodable(&world.seen);
        let counters = world.client.counters();
        prop_assert_eq!(counters.frames, frames as u64);
        prop_assert_eq!(counters.rejected, 0, "all of it was authentic");
        if loss < 20 && late < 10 {
            prop_assert!(frames > 60, "{} of 90", frames);
        }
    }
}
