//! The real plane, sealed as in production, on a real compositor.

mod support;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use e2e::wayland::scene::{self, Pace};
use ipc::event::now_ns;
use ipc::mailbox::FrameMeta;
use ipc::plane::EXIT_REOPEN;
use ipc::{FromCapture, Generation, PixelFormat, Source};
use lumen_core::Mode;
use support::sway::Sway;
use support::{Plane, pointer, read_stamp};
use wayland_client::Connection;

fn mode() -> Mode {
    Mode::new(640, 360, 60_000).unwrap()
}

fn output(sway: &Sway, name: &str) -> Source<OwnedFd> {
    Source::Wlroots { socket: sway.connect(), output: name.to_owned() }
}

#[test]
fn a_still_desktop_gives_each_generation_a_full_picture_and_then_nothing() {
    let sway = Sway::start("still");
    let plane = Plane::start();
    for generation in 1..4 {
        let format = plane.opened(generation, mode(), output(&sway, "HEADLESS-1"));
        assert_eq!((format.width, format.height), (640, 360));
        let mut reader = plane.wire(generation, format);
        let background = match format.pixels {
            PixelFormat::Bgrx => [0x60, 0x40, 0x20],
            PixelFormat::Rgbx => [0x20, 0x40, 0x60],
        };
        let whole = |pixels: &[u8]| pixels.as_chunks::<4>().0.iter().all(|pixel| pixel[..3] == background);
        let filled = reader.frame(|meta, pixels| meta.sequence == 0 && whole(pixels));
        assert!(filled, "generation {generation}");
        while reader.frame_within(Duration::from_millis(300), |_, _| ()).is_some() {}
        // Wired again on the same connection, as after encode's end: nothing has changed, and still a picture comes.
        if generation == 3 {
            let mut again = plane.wire(4, format);
            let mut last = again.frame(|meta, pixels| whole(pixels).then_some(meta.sequence));
            while let Some(next) =
                again.frame_within(Duration::from_millis(300), |meta, pixels| whole(pixels).then_some(meta.sequence))
            {
                last = next;
            }
            assert_eq!(last, Some(1), "what was shown last, and then a picture from the compositor");
        }
    }
    assert!(plane.stop().success());
}

#[test]
fn pictures_of_a_moving_client_come_in_order() {
    let sway = Sway::start("moving");
    let plane = Plane::start();
    let format = plane.opened(1, mode(), output(&sway, "HEADLESS-1"));
    let mut reader = plane.wire(1, format);
    let compositor = Connection::from_socket(sway.stream()).unwrap();
    let client =
        thread::spawn(move || scene::run(compositor, Pace::Compositor, Duration::from_secs(3), "scene", None).unwrap());
    let (mut stamps, mut published, mut before) = (Vec::new(), 0, 0);
    while !client.is_finished() {
        let look = |meta: FrameMeta, pixels: &[u8]| (meta, read_stamp(pixels, format));
        let Some((meta, stamp)) = reader.frame_within(Duration::from_millis(100), look) else { continue };
        assert!(meta.captured_ns > before && meta.captured_ns <= now_ns(), "{meta:?} after {before}");
        (before, published) = (meta.captured_ns, meta.sequence + 1);
        let Some(stamp) = stamp else { continue };
        assert!(stamp.time_ns < meta.captured_ns, "captured before it was drawn: {stamp:?}, {meta:?}");
        stamps.push(stamp.number);
    }
    let report = client.join().unwrap();
    assert!(stamps.is_sorted(), "{stamps:?}");
    stamps.dedup();
    println!("{report:?}: {published} published, {} read", stamps.len());
    assert!(report.presented > 30, "{report:?}");
    // The benchmark asks for 98 %; here the machine may be busy with other tests.
    assert!(published * 10 >= report.presented * 8, "{published} of {}", report.presented);
    assert!(stamps.len() as u64 * 2 >= published, "{} of {published}", stamps.len());
    assert!(plane.stop().success());
}

#[test]
fn an_output_faster_than_the_mode_is_taken_at_the_modes_rate() {
    let sway = Sway::start("faster");
    sway.command("output HEADLESS-1 mode --custom 640x360@144Hz");
    let plane = Plane::start();
    let format = plane.opened(1, mode(), output(&sway, "HEADLESS-1"));
    let mut reader = plane.wire(1, format);
    let compositor = Connection::from_socket(sway.stream()).unwrap();
    let client =
        thread::spawn(move || scene::run(compositor, Pace::Compositor, Duration::from_secs(3), "scene", None).unwrap());
    let mut pictures = Vec::new();
    while !client.is_finished() {
        let look = |meta: FrameMeta, _: &[u8]| (meta.sequence, meta.captured_ns);
        pictures.extend(reader.frame_within(Duration::from_millis(100), look));
    }
    let report = client.join().unwrap();
    let (&(first, began), &(last, ended)) = (pictures.first().unwrap(), pictures.last().unwrap());
    // By the pictures' own times, so that a busy machine changes nothing.
    let allowed = (ended - began) / mode().frame_interval_ns() + 2;
    println!("{report:?}: {} pictures where {allowed} are allowed", last - first);
    assert!(last - first <= allowed, "{} pictures, {allowed} allowed", last - first);
    assert!((last - first) * 2 > allowed.min(report.presented), "{} pictures, {allowed} allowed", last - first);
    assert!(plane.stop().success());
}

#[test]
fn the_cursor_is_in_the_picture() {
    let sway = Sway::start("cursor");
    let plane = Plane::start();
    let format = plane.opened(1, mode(), output(&sway, "HEADLESS-1"));
    let mut reader = plane.wire(1, format);
    let plain = |pixels: &[u8]| pixels.as_chunks::<4>().0.iter().all(|pixel| pixel[..3] == pixels[..3]);
    assert!(reader.frame(|_, pixels| plain(pixels)));
    let _pointer = pointer::Pointer::at(sway.stream(), (320, 180), (640, 360));
    // It may be drawn at its old place first, which is in the picture too.
    let here = |pixels: &[u8]| {
        let row = &pixels[format.stride as usize * 184..][..format.stride as usize];
        row[320 * 4..336 * 4].as_chunks::<4>().0.iter().any(|pixel| pixel[..3] != row[..3])
    };
    while !reader.frame(|_, pixels| here(pixels)) {}
    assert!(plane.stop().success());
}

#[test]
fn an_output_that_is_not_there_is_named() {
    let sway = Sway::start("absent");
    let plane = Plane::start();
    plane.open(1, mode(), output(&sway, "DP-7"));
    match plane.answer() {
        FromCapture::Failed { generation: Generation(1), reason } => {
            assert!(reason.contains("DP-7") && reason.contains("HEADLESS-1"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(plane.stop().success());
}

#[test]
fn an_output_that_changes_is_given_up_so_that_it_can_be_opened_again() {
    let sway = Sway::start("change");
    let plane = Plane::start();
    let format = plane.opened(1, mode(), output(&sway, "HEADLESS-1"));
    plane.wire(1, format).frame(|_, _| ());
    sway.command("output HEADLESS-1 mode --custom 800x480@60Hz");
    match plane.answer() {
        FromCapture::Failed { generation: Generation(1), reason } => assert!(reason.contains("800x480"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let format = plane.opened(2, mode(), output(&sway, "HEADLESS-1"));
    assert_eq!((format.width, format.height), (800, 480));
    plane.wire(2, format).frame(|_, _| ());
    sway.command("output HEADLESS-1 transform 90");
    match plane.answer() {
        FromCapture::Failed { generation: Generation(2), reason } => assert!(reason.contains("rotated"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert!(plane.stop().success());
}

#[test]
fn an_output_that_is_switched_off_and_on_goes_on() {
    let sway = Sway::start("off");
    let plane = Plane::start();
    let format = plane.opened(1, mode(), output(&sway, "HEADLESS-1"));
    let mut reader = plane.wire(1, format);
    reader.frame(|_, _| ());
    sway.command("output HEADLESS-1 dpms off");
    while reader.frame_within(Duration::from_millis(300), |_, _| ()).is_some() {}
    plane.ping();
    sway.command("output HEADLESS-1 dpms on");
    sway.command("output HEADLESS-1 bg #806040 solid_color");
    reader.frame(|_, _| ());
    assert!(plane.stop().success());
}

#[test]
fn a_compositor_that_dies_is_a_reason_for_a_fresh_plane() {
    let mut sway = Sway::start("dies");
    let plane = Plane::start();
    let format = plane.opened(1, mode(), output(&sway, "HEADLESS-1"));
    plane.wire(1, format).frame(|_, _| ());
    sway.kill();
    assert_eq!(plane.end().code(), Some(i32::from(EXIT_REOPEN)));
}

#[test]
fn a_compositor_that_is_silent_or_talks_nonsense_is_given_up() {
    let plane = Plane::start();
    let (silent, ours) = UnixStream::pair().unwrap();
    plane.open(1, mode(), Source::Wlroots { socket: silent.into(), output: "X".into() });
    match plane.answer() {
        FromCapture::Failed { generation: Generation(1), reason } => assert!(reason.contains("answer"), "{reason}"),
        other => panic!("{other:?}"),
    }
    drop(ours);
    let (nonsense, mut ours) = UnixStream::pair().unwrap();
    ours.write_all(&[0xff; 4096]).unwrap();
    plane.open(2, mode(), Source::Wlroots { socket: nonsense.into(), output: "X".into() });
    match plane.answer() {
        FromCapture::Failed { generation: Generation(2), .. } => {}
        other => panic!("{other:?}"),
    }
    assert!(plane.stop().success());
}
