//! A client's events over a virtual network: every one arrives once and in order, and nothing stays down.

#[path = "../network/net.rs"]
mod net;
mod world;

use lumen_core::InputEvent;
use lumen_core::input::KeyCode;
use net::Path;
use proptest::prelude::*;
use world::{Setup, World};

const MS: u64 = 1_000_000;

fn rough(loss_permille: u64) -> Path {
    Path { delay_ns: 5 * MS, loss_permille, reorder_permille: 100, reorder_ns: 4 * MS, duplicate_permille: 30 }
}

fn key(code: u16, pressed: bool) -> InputEvent {
    InputEvent::Key { code: KeyCode::new(code).unwrap(), pressed }
}

#[test]
fn on_a_clean_path_every_event_leaves_once_and_at_once() {
    let clean = Path::clean(MS);
    let mut world = World::new(Setup { seed: 1, up: clean, down: clean, busy_permille: 0 });
    world.play(2_000 * MS, MS);
    world.settle(100 * MS);
    assert_eq!(world.outbox.counts().retransmitted, 0);
    assert_eq!(world.slowest_ns, MS);
    assert!(world.seen.len() >= 2_000);
    world.assert_exactly_once();
}

#[test]
fn five_percent_loss_costs_a_few_milliseconds() {
    for seed in 1..=8 {
        let mut world = World::new(Setup { seed, up: rough(50), down: rough(50), busy_permille: 0 });
        world.play(4_000 * MS, MS);
        world.settle(1_000 * MS);
        world.assert_exactly_once();
        // Eight repetitions: hardly anything waits for a round trip.
        let retransmitted = world.outbox.counts().retransmitted;
        assert!(retransmitted < 400, "{retransmitted} of 4000 left again");
        assert!(world.slowest_ns < 150 * MS, "{} us", world.slowest_ns / 1000);
    }
}

#[test]
fn the_last_event_before_a_silence_arrives_too() {
    // A key goes up, the datagram is lost, and the hands rest.
    for seed in 1..=50 {
        let mut world = World::new(Setup { seed, up: rough(0), down: rough(0), busy_permille: 0 });
        world.push(key(30, true));
        world.run(MS * 20);
        world.up.burst_after(0, 1);
        world.push(key(30, false));
        world.settle(60 * MS);
        world.assert_exactly_once();
        assert!(world.host_hands.is_empty());
    }
}

#[test]
fn after_an_outage_the_rest_comes_within_a_few_round_trips() {
    for seed in 1..=8 {
        let mut world = World::new(Setup { seed, up: rough(0), down: rough(0), busy_permille: 0 });
        world.play(500 * MS, MS);
        world.up.burst_after(0, 250);
        world.play(290 * MS, MS);
        world.settle(250 * MS);
        assert!(!world.up.bursting());
        world.assert_exactly_once();
    }
}

#[test]
fn a_host_that_is_rewired_for_a_second_loses_nothing() {
    let mut world = World::new(Setup { seed: 5, up: rough(20), down: rough(20), busy_permille: 0 });
    world.play(300 * MS, MS);
    world.wired = false;
    world.play(600 * MS, MS);
    let before = world.seen.len();
    world.wired = true;
    world.settle(400 * MS);
    assert!(world.seen.len() >= before + 600);
    world.assert_exactly_once();
}

#[test]
fn with_more_than_fits_nothing_stays_down() {
    // Ten seconds without a host, at 1 kHz: discrete events are refused, the rest is merged.
    let mut world = World::new(Setup { seed: 9, up: rough(50), down: rough(50), busy_permille: 0 });
    world.play(200 * MS, MS);
    world.wired = false;
    world.play(10_000 * MS, MS);
    assert!(world.outbox.counts().refused > 0 && world.outbox.counts().merged > 0);
    assert!(world.outbox.unacknowledged() <= lumen_core::input::outbox::CAPACITY);
    world.wired = true;
    world.settle(1_000 * MS);
    assert_eq!(world.outbox.unacknowledged(), 0);
    world.let_go();
    world.settle(700 * MS);
    assert!(world.host_hands.is_empty());
    // All that was refused is gone; what was merged is not: the pointer is where the hand left it.
    assert_eq!(world.host_motion, world.client_motion);
    world.assert_exactly_once();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_event_once_and_in_order_on_any_path(
        seed in 1u64.., up in 0u64..400, down in 0u64..400, delay_ms in 0u64..80, reorder in 0u64..500,
        reorder_ms in 0u64..60, duplicate in 0u64..300, busy in 0u64..100, burst in (0u64..500, 0u64..200),
        every_us in 100u64..5_000,
    ) {
        let path = |loss_permille| Path {
            delay_ns: delay_ms * MS,
            loss_permille,
            reorder_permille: reorder,
            reorder_ns: reorder_ms * MS,
            duplicate_permille: duplicate,
        };
        let mut world = World::new(Setup { seed, up: path(up), down: path(down), busy_permille: busy });
        world.up.burst_after(burst.0, burst.1);
        world.play(400 * MS, every_us * 1_000);
        world.let_go();
        world.settle(120_000 * MS);
        prop_assert_eq!(world.outbox.unacknowledged(), 0);
        prop_assert!(world.host_hands.is_empty());
        prop_assert_eq!(world.host_motion, world.client_motion);
        world.assert_exactly_once();
    }
}
