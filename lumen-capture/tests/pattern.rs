//! The real plane with the synthetic desktop, sealed as in production.

mod support;

use std::time::Duration;

use ipc::{FromCapture, Generation, PixelFormat, Source, ToCapture};
use lumen_core::Mode;
use support::Plane;

fn mode() -> Mode {
    Mode::new(640, 360, 60_000).unwrap()
}

#[test]
fn publishes_stamped_pictures_at_the_mode_s_size() {
    let plane = Plane::start();
    let format = plane.opened(1, mode(), Source::Pattern);
    assert_eq!((format.width, format.height, format.pixels), (640, 360, PixelFormat::Bgrx));
    let mut reader = plane.wire(1, format);
    let mut last = None;
    for _ in 0..60 {
        let (meta, stamp) = reader.stamp();
        let stamp = stamp.expect("every picture is stamped");
        assert_eq!(u64::from(stamp.number), meta.sequence);
        assert_eq!(stamp.time_ns, meta.captured_ns);
        if let Some((number, time)) = last {
            assert!(stamp.number > number && stamp.time_ns > time, "{stamp:?} after {number} at {time}");
        }
        last = Some((stamp.number, stamp.time_ns));
    }
    assert!(plane.stop().success());
}

#[test]
fn reports_what_it_published_and_what_nobody_took() {
    let plane = Plane::start();
    let format = plane.opened(1, mode(), Source::Pattern);
    let mut reader = plane.wire(1, format);
    // A reader that has stopped: pictures go on being made, and overwritten.
    let stats = loop {
        if let FromCapture::Stats { generation, stats } = plane.next() {
            assert_eq!(generation, Generation(1));
            break stats;
        }
    };
    assert!(stats.captured > 1, "{stats:?}");
    assert_eq!(stats.skipped, stats.captured - 1, "one is in the mailbox: {stats:?}");
    let (meta, _) = reader.stamp();
    assert!(meta.sequence + 1 >= stats.captured, "the newest wins, not the oldest");
    assert!(plane.stop().success());
}

#[test]
fn a_retired_generation_is_left_alone_and_a_stale_one_ignored() {
    let plane = Plane::start();
    let format = plane.opened(1, mode(), Source::Pattern);
    let mut first = plane.wire(1, format);
    first.frame(|_, _| ());
    // Encode died: the survivors are wired anew, without a new source.
    let mut second = plane.wire(2, format);
    let (meta, stamp) = second.stamp();
    assert!(meta.sequence < 5 && stamp.is_some());
    let mut stale = plane.wire(1, format);
    plane.ping();
    assert!(stale.frame_within(Duration::from_millis(100), |_, _| ()).is_none());
    second.frame(|_, _| ());
    plane.link.send(ToCapture::Retire { generation: Generation(2) }).unwrap();
    plane.ping();
    // One may still lie in the mailbox; after it none comes.
    second.frame_within(Duration::ZERO, |_, _| ());
    assert!(second.frame_within(Duration::from_millis(100), |_, _| ()).is_none());
    assert!(plane.stop().success());
}

#[test]
fn a_pool_of_another_shape_is_refused_with_a_reason() {
    let plane = Plane::start();
    let mut format = plane.opened(1, mode(), Source::Pattern);
    format.height /= 2;
    let _reader = plane.wire(1, format);
    match plane.answer() {
        FromCapture::Failed { generation: Generation(1), reason } => assert!(reason.contains("shape"), "{reason}"),
        other => panic!("{other:?}"),
    }
    // The plane is still there, and the next session's source works.
    plane.opened(2, mode(), Source::Pattern);
    assert!(plane.stop().success());
}

#[test]
fn started_by_hand_it_says_who_starts_it() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_lumen-capture")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lumend"));
}
