//! What rows are made of, and what makes them unsound.

use super::*;
use crate::chaos::case::Scene;
use crate::chaos::trace::Gaps;

/// A row of which one recording's judge is known to see.
fn row(victim: Victim) -> Row {
    let mut row = Row::new(Case { victim, scene: Scene::Moving, standby: false }, Blow::Kill);
    row.judged(1, Some(true));
    row
}

fn loss(ms: f64) -> Loss {
    let gaps = Gaps { picture_ms: Some(ms), fresh_ms: None, sound_ms: Some(ms / 10.0), hands_ms: Some(4.0) };
    Loss { gaps, ..Loss::default() }
}

#[test]
fn quantiles_are_of_the_kills_that_were_made() {
    let mut row = row(Victim::Encode);
    assert_eq!((row.quantile(500), row.is_met()), (None, false), "nothing is known yet");
    (1..=100).rev().for_each(|ms| row.add(&loss(f64::from(ms))));
    assert_eq!((row.quantile(500), row.quantile(990), row.quantile(1000)), (Some(50.0), Some(99.0), Some(100.0)));
    assert!(row.is_met());
    row.add(&loss(101.0));
    row.add(&loss(102.0));
    assert!(!row.is_met(), "two of a hundred are above 100 ms: {:?}", row.quantile(990));
}

#[test]
fn each_plane_is_judged_by_what_it_makes() {
    let mut sound = row(Victim::Audio);
    sound.add(&loss(400.0));
    assert_eq!(sound.quantile(500), Some(40.0));
    let mut hands = row(Victim::Input);
    hands.add(&loss(400.0));
    assert_eq!(hands.quantile(500), Some(4.0));
}

/// A kill whose cost is that of a good one but for what `spoil` makes of it.
fn spoilt(victim: Victim, scene: Scene, spoil: impl Fn(&mut Loss)) -> Row {
    let mut row = row(victim);
    row.case.scene = scene;
    let mut loss = loss(10.0);
    spoil(&mut loss);
    row.add(&loss);
    row
}

#[test]
fn hands_are_judged_whoever_dies_but_with_their_desktop() {
    let planes = [Victim::Capture, Victim::Encode, Victim::Audio, Victim::Input, Victim::Net];
    for (victim, scene) in planes.map(|victim| (victim, Scene::Moving)).into_iter().chain([(planes[0], Scene::Still)]) {
        let most = if victim == Victim::Input { 1 } else { 0 };
        assert!(spoilt(victim, scene, |loss| loss.events_lost = most).is_sound());
        for spoil in [
            |loss: &mut Loss, most: usize| loss.events_lost = most + 1,
            |loss: &mut Loss, _: usize| loss.events_doubled = 1,
            |loss: &mut Loss, _: usize| loss.stuck = 1,
            |loss: &mut Loss, _: usize| loss.vanished = 1,
            |loss: &mut Loss, _: usize| loss.gaps.hands_ms = None,
        ] {
            let row = spoilt(victim, scene, |loss| spoil(loss, most));
            assert!(!row.is_sound() && row.failure().is_some() && row.notes.len() == 1, "{row:?}");
        }
    }
    for victim in [Victim::Compositor, Victim::Launcher, Victim::Lumend] {
        assert!(spoilt(victim, Scene::Moving, |loss| loss.gaps.hands_ms = None).is_sound(), "{victim:?}");
    }
    let blind = spoilt(Victim::Encode, Scene::Pattern, |loss| loss.gaps.hands_ms = None);
    assert!(blind.is_sound(), "there is no window");
}

#[test]
fn an_encode_that_costs_two_events_says_so() {
    let row = spoilt(Victim::Encode, Scene::Moving, |loss| loss.events_lost = 2);
    assert_eq!(row.failure().unwrap(), "encode by KILL: 2 events lost at once");
    assert_eq!(row.notes, ["kill 1: 2 events lost"]);
}

#[test]
fn what_is_lost_or_wrong_misses_every_target() {
    for spoil in [
        |row: &mut Row| row.leaked.memfds = 1,
        |row: &mut Row| row.add(&Loss { corrupt: vec!["why".into()], ..loss(10.0) }),
        |row: &mut Row| row.add(&Loss { session: Some("why".into()), ..loss(10.0) }),
        |row: &mut Row| row.add(&Loss { stuck: 1, ..loss(10.0) }),
        |row: &mut Row| row.judged(2, Some(false)),
        |row: &mut Row| row.judges = Judges::default(),
    ] {
        let mut row = row(Victim::Encode);
        row.add(&loss(10.0));
        assert!(row.is_met() && row.failure().is_none());
        spoil(&mut row);
        assert!(!row.is_met() && !row.is_sound() && row.failure().is_some(), "{row:?}");
    }
}

#[test]
fn pictures_are_right_only_if_some_judge_was_proven_and_none_is_blind() {
    for (sees, sound) in [
        (&[][..], false),
        (&[None, None], false),
        (&[None, Some(true)], true),
        (&[Some(true), Some(false), Some(true)], false),
    ] {
        let mut row = Row::new(row(Victim::Encode).case, Blow::Kill);
        row.add(&loss(10.0));
        sees.iter().enumerate().for_each(|(round, sees)| row.judged(round, *sees));
        assert_eq!((row.is_sound(), row.failure().is_none()), (sound, sound), "{sees:?}: {row:?}");
    }
}

#[test]
fn a_failure_says_who_and_what() {
    let mut row = row(Victim::Encode);
    row.add(&loss(10.0));
    assert_eq!(row.failure(), None);
    row.add(&loss(1000.0));
    assert_eq!(row.failure().unwrap(), "encode by KILL: target missed with 10 / 1000 ms");
    row.judged(2, Some(false));
    row.leaked.fds = 1;
    assert_eq!(row.failure().unwrap(), "encode by KILL: 1 blind judges, something leaked");
}

#[test]
fn scripts_get_what_they_were_promised() {
    let mut row = row(Victim::Encode);
    row.add(&loss(41.237));
    let expected = json!([{
        "plane": "encode", "signal": "KILL", "kills": 1, "gap_ms": { "p50": 41.24, "p99": 41.24, "max": 41.24 },
        "sessions_lost": 0, "corrupt_frames": 0, "judges": { "proven": 1, "blind": 0, "unproven": 0 },
        "leaked": { "fds": 0, "memfds": 0, "outputs": 0 },
    }]);
    assert_eq!(json(&[row]), expected);
}
