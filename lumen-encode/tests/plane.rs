//! The plane's loop between real ends: a link, a pool with its mailbox, and both rings.

#[path = "support/rig.rs"]
mod rig;
mod support;

use ipc::feedback::Feedback;
use ipc::plane::PlaneError;
use ipc::ring::ChunkFlags;
use ipc::{Backend, Colour, EncodeSettings, FromEncode, Generation, PlaneKind, RingGeometry, ToEncode};
use lumen_core::Mode;
use lumen_encode::encoder::BUILT_IN;
use lumen_encode::{Converter, I420};
use openh264::decoder::Decoder;
use rig::{Rig, Threaded, answer, settings, spawn, stats};
use support::{decode, format, grain, noise, scene};

fn mode() -> Mode {
    support::mode(320, 240)
}

fn roomy() -> RingGeometry {
    RingGeometry::video(mode(), 4_000)
}

/// What scene `number` looks like after conversion.
fn expected(number: usize) -> I420 {
    let mut pixels = vec![0; format(mode()).size()];
    scene(mode(), number, &mut pixels);
    let mut picture = I420::new(mode());
    Converter::new(format(mode()), mode(), settings(Backend::OpenH264, 0).colour)
        .unwrap()
        .convert(&pixels, &mut picture)
        .unwrap();
    picture
}

#[test]
fn every_published_picture_comes_out_in_order_and_decodes() {
    for &backend in BUILT_IN {
        let plane = Threaded::start();
        let mut rig = Rig::wired(&plane.link, mode(), settings(backend, 4_000), roomy());
        let mut decoder = Decoder::new().unwrap();
        let mut bytes = 0;
        for number in 0..60 {
            rig.publish(|pixels| scene(mode(), number, pixels));
            let frame = rig.frame();
            assert_eq!((frame.header.frame, frame.aborted), (number as u32, false));
            assert!(frame.is(ChunkFlags::FIRST) && !frame.is(ChunkFlags::STILL));
            assert_eq!(frame.is(ChunkFlags::IDR), number == 0, "{backend:?} frame {number}");
            let likeness = decode(&mut decoder, &frame.bytes, &expected(number));
            assert!(likeness > 32.0, "{backend:?} frame {number}: {likeness:.1} dB");
            bytes += frame.bytes.len() as u64;
        }
        let stats = stats(&plane.link);
        // The desktop may have stood still for a moment before the statistics were due.
        assert_eq!((stats.encoded - stats.still, stats.idr, stats.oversize), (60, 1, 0));
        assert!(stats.bytes >= bytes);
        assert_eq!(rig.mailbox.skipped(), 0);
        plane.stop();
    }
}

#[test]
fn without_credit_pictures_wait_in_the_mailbox_and_the_newest_wins() {
    let plane = Threaded::start();
    let mut rig = Rig::wired(&plane.link, mode(), settings(Backend::Auto, 4_000), roomy());
    // Grain, so that frames are large; far more of them than the ring can hold.
    for number in 0..400 {
        rig.publish(|pixels| {
            scene(mode(), number, pixels);
            grain(number as u64, 64, pixels);
        });
        // Half a frame's time at most: a publisher that never waits would leave the encoder no chance to be first.
        rig.video.data().wait(Some(std::time::Duration::from_millis(4))).unwrap();
    }
    rig.publish(|pixels| scene(mode(), 400, pixels));
    assert!(rig.mailbox.skipped() > 0, "the ring swallowed everything");
    let mut decoder = Decoder::new().unwrap();
    let last = expected(400);
    let mut likeness = 0.0;
    let mut frames = 0;
    // The last picture is the only one without grain; nothing but it may come once the ring was drained.
    while likeness < 32.0 {
        let frame = rig.frame();
        assert_eq!(frame.header.frame, frames, "an encoded frame was dropped");
        likeness = decode(&mut decoder, &frame.bytes, &last);
        frames += 1;
    }
    assert!(u64::from(frames) + rig.mailbox.skipped() >= 401, "{frames} frames");
    plane.stop();
}

#[test]
fn a_still_desktop_is_encoded_again_and_an_idr_does_not_wait_for_movement() {
    for &backend in BUILT_IN {
        let plane = Threaded::start();
        let mut rig = Rig::wired(&plane.link, mode(), settings(backend, 4_000), roomy());
        let mut decoder = Decoder::new().unwrap();
        let picture = expected(0);
        rig.publish(|pixels| scene(mode(), 0, pixels));
        let first = rig.frame();
        decode(&mut decoder, &first.bytes, &picture);
        let mut before = first.header.sliced_ns;
        for number in 1..4 {
            let frame = rig.frame();
            assert!(frame.is(ChunkFlags::STILL) && !frame.is(ChunkFlags::IDR));
            assert_eq!(frame.header.frame, number);
            let pause = if number == 1 { 500_000_000 } else { 100_000_000 };
            assert!(frame.header.sliced_ns - before >= pause, "{number}: {} ns", frame.header.sliced_ns - before);
            before = frame.header.sliced_ns;
            let likeness = decode(&mut decoder, &frame.bytes, &picture);
            assert!(likeness > 32.0, "{likeness:.1} dB");
        }
        plane.link.send(ToEncode::Idr).unwrap();
        next_idr(&mut rig);
        rig.wish(Feedback::Idr);
        let idr = next_idr(&mut rig);
        let likeness = decode(&mut Decoder::new().unwrap(), &idr, &picture);
        assert!(likeness > 28.0, "{likeness:.1} dB");
        let stats = stats(&plane.link);
        assert!(stats.idr == 3 && stats.still >= 5, "{stats:?}");
        plane.stop();
    }
}

/// The bytes of the next IDR. Repeats that were under way before it may come first.
fn next_idr(rig: &mut Rig) -> Vec<u8> {
    let frame = (0..3).map(|_| rig.frame()).find(|frame| frame.is(ChunkFlags::IDR));
    frame.expect("an IDR within three frames").bytes
}

#[test]
fn a_frame_that_outgrows_its_credit_comes_as_a_coarse_idr() {
    for &backend in BUILT_IN {
        let plane = Threaded::start();
        let video = RingGeometry { frame_bytes: 16 * 1024, ..roomy() };
        let mut rig = Rig::wired(&plane.link, mode(), settings(backend, 60_000), video);
        rig.publish(|pixels| noise(1, pixels));
        let mut frame = rig.frame();
        let mut number = 0;
        // x264 has handed slices on before the frame outgrew its credit: that frame is aborted. openh264 has not.
        if frame.aborted {
            assert_eq!((backend, frame.header.frame), (Backend::X264, number));
            frame = rig.frame();
            number += 1;
        }
        assert_eq!((frame.header.frame, frame.aborted), (number, false));
        assert!(frame.is(ChunkFlags::IDR) && !frame.is(ChunkFlags::STILL));
        assert!(Decoder::new().unwrap().decode(&frame.bytes).unwrap().is_some());
        let stats = stats(&plane.link);
        // Repeats of a picture that this ring cannot hold in better quality outgrow it too.
        assert!(stats.oversize >= 1 && stats.idr >= 1, "{stats:?}");
        plane.stop();
    }
}

#[test]
fn a_picture_that_fits_in_no_quality_is_still_shown() {
    for &backend in BUILT_IN {
        let plane = Threaded::start();
        let video = RingGeometry { frame_bytes: 4 * 1024, ..roomy() };
        let mut rig = Rig::wired(&plane.link, mode(), settings(backend, 60_000), video);
        let mut decoder = Decoder::new().unwrap();
        for number in 0..3 {
            // Black and white at random: what coarse quantisers save least of.
            rig.publish(|pixels| {
                noise(number, pixels);
                pixels.chunks_exact_mut(4).for_each(|pixel| pixel.fill(if pixel[0] > 127 { 255 } else { 0 }));
            });
            let frame = (0..9).map(|_| rig.frame()).find(|frame| !frame.aborted && !frame.is(ChunkFlags::STILL));
            let frame = frame.expect("a whole frame after a few aborted ones");
            assert!(decoder.decode(&frame.bytes).unwrap().is_some(), "{backend:?} {number}");
        }
        plane.stop();
    }
}

#[test]
fn feedback_lowers_the_bitrate_and_cannot_raise_it_beyond_the_wiring() {
    for &backend in BUILT_IN {
        let plane = Threaded::start();
        let mut rig = Rig::wired(&plane.link, mode(), settings(backend, 8_000), RingGeometry::video(mode(), 8_000));
        let average = |rig: &mut Rig| {
            let sizes = (0..60).map(|number| {
                rig.publish(|pixels| {
                    scene(mode(), number, pixels);
                    grain(number as u64, 48, pixels);
                });
                rig.frame().bytes.len()
            });
            sizes.skip(20).sum::<usize>() / 40
        };
        let high = average(&mut rig);
        rig.wish(Feedback::BitrateKbps(3_000));
        let low = average(&mut rig);
        rig.wish(Feedback::BitrateKbps(u32::MAX));
        let again = average(&mut rig);
        assert!(low * 3 < high * 2, "{backend:?}: {high} bytes a frame, then {low}");
        assert!(again < high * 3 / 2 && again > low, "{backend:?}: {again} bytes a frame, {high} before");
        plane.stop();
    }
}

#[test]
fn a_retired_generation_is_forgotten_and_the_next_begins_with_an_idr() {
    let plane = Threaded::start();
    let mut old = Rig::wired(&plane.link, mode(), settings(Backend::Auto, 4_000), roomy());
    old.publish(|pixels| scene(mode(), 0, pixels));
    old.frame();
    plane.link.send(ToEncode::Retire { generation: Generation(1) }).unwrap();
    plane.link.send(ToEncode::Ping(7)).unwrap();
    while !matches!(answer(&plane.link), FromEncode::Pong(7)) {}
    old.publish(|pixels| scene(mode(), 1, pixels));
    let (mut new, mut wiring) = Rig::new(mode(), settings(Backend::Auto, 4_000), roomy());
    (wiring.generation, new.generation) = (Generation(2), 2);
    plane.link.send(ToEncode::Wire(wiring)).unwrap();
    assert!(matches!(answer(&plane.link), FromEncode::Wired { generation: Generation(2), .. }));
    // A stale order must not touch its successor.
    plane.link.send(ToEncode::Retire { generation: Generation(1) }).unwrap();
    new.publish(|pixels| scene(mode(), 2, pixels));
    let frame = new.frame();
    assert!(frame.is(ChunkFlags::IDR) && frame.header.frame == 0);
    assert!(old.is_drained(), "the retired generation was still served");
    plane.stop();
}

#[test]
fn a_generation_begins_with_what_the_one_before_showed_last_where_no_picture_comes() {
    let plane = Threaded::start();
    let mut old = Rig::wired(&plane.link, mode(), settings(Backend::Auto, 4_000), roomy());
    old.publish(|pixels| scene(mode(), 5, pixels));
    old.frame();
    let wire = |generation: u32, colour: Colour| {
        plane.link.send(ToEncode::Retire { generation: Generation(generation - 1) }).unwrap();
        let (mut rig, mut wiring) =
            Rig::new(mode(), EncodeSettings { colour, ..settings(Backend::Auto, 4_000) }, roomy());
        (wiring.generation, rig.generation) = (Generation(generation), generation);
        plane.link.send(ToEncode::Wire(wiring)).unwrap();
        while !matches!(answer(&plane.link), FromEncode::Wired { generation: g, .. } if g.0 == generation) {}
        rig
    };
    let colour = settings(Backend::Auto, 0).colour;
    let mut new = wire(2, colour);
    let frame = new.frame();
    assert!(frame.is(ChunkFlags::IDR) && frame.is(ChunkFlags::STILL) && frame.header.frame == 0);
    let likeness = decode(&mut Decoder::new().unwrap(), &frame.bytes, &expected(5));
    assert!(likeness > 32.0, "{likeness:.1} dB");
    // Where its samples would mean something else it waits for a picture.
    let mut other = wire(3, Colour { full_range: true, ..colour });
    other.publish(|pixels| scene(mode(), 6, pixels));
    let frame = other.frame();
    assert!(frame.is(ChunkFlags::IDR) && !frame.is(ChunkFlags::STILL), "an old picture came first");
    plane.stop();
}

#[test]
fn a_wiring_that_cannot_work_is_answered_with_the_reason() {
    let refused = |plane: &Threaded, wiring| {
        plane.link.send(ToEncode::Wire(wiring)).unwrap();
        match answer(&plane.link) {
            FromEncode::Failed { generation: Generation(1), reason } => reason,
            other => panic!("{other:?}"),
        }
    };
    // No encoder for it: the plane lives on.
    let plane = Threaded::start();
    let big = support::mode(4096, 2304);
    let (_rig, wiring) = Rig::new(big, settings(Backend::OpenH264, 4_000), RingGeometry::video(big, 4_000));
    assert!(refused(&plane, wiring).contains("3840x2160"));
    plane.link.send(ToEncode::Ping(1)).unwrap();
    assert!(matches!(answer(&plane.link), FromEncode::Pong(1)));
    plane.stop();
    // A pool of another size than the mode, or than its memory: somebody is broken, and the plane ends.
    for (height, stride, reason) in [(238, 1280, "320x238"), (240, 1300, "bytes")] {
        let plane = Threaded::start();
        let (_rig, mut wiring) = Rig::new(mode(), settings(Backend::Auto, 4_000), roomy());
        (wiring.pool.format.height, wiring.pool.format.stride) = (height, stride);
        let said = refused(&plane, wiring);
        assert!(said.contains(reason), "{said}");
        assert!(matches!(plane.outcome(), Err(PlaneError::Protocol(_))));
    }
}

#[test]
fn feedback_that_is_none_ends_the_plane() {
    for payload in [&[] as &[u8], &[9; 8], &[1]] {
        let plane = Threaded::start();
        let mut rig = Rig::wired(&plane.link, mode(), settings(Backend::Auto, 4_000), roomy());
        rig.tell(payload);
        assert!(matches!(plane.outcome(), Err(PlaneError::Peer { peer: PlaneKind::Net, .. })), "{payload:?}");
    }
}

#[test]
fn the_locked_down_program_encodes() {
    for &backend in BUILT_IN {
        let (link, mut child) = spawn();
        match answer(&link) {
            FromEncode::Hello(hello) => assert_eq!((hello.kind, hello.build.as_str()), (PlaneKind::Encode, ipc::BUILD)),
            other => panic!("{other:?}"),
        }
        // The largest mode every encoder knows must fit into the limits of the lockdown too.
        let large = support::mode(3840, 2160);
        let (_large, wiring) = Rig::new(large, settings(backend, 4_000), RingGeometry::video(large, 4_000));
        link.send(ToEncode::Wire(wiring)).unwrap();
        assert!(matches!(answer(&link), FromEncode::Wired { .. }));
        let (mut rig, mut wiring) = Rig::new(mode(), settings(backend, 4_000), roomy());
        (wiring.generation, rig.generation) = (Generation(2), 2);
        link.send(ToEncode::Wire(wiring)).unwrap();
        assert!(matches!(answer(&link), FromEncode::Wired { .. }));
        let mut decoder = Decoder::new().unwrap();
        for number in 0..10 {
            rig.publish(|pixels| scene(mode(), number, pixels));
            let likeness = decode(&mut decoder, &rig.frame().bytes, &expected(number));
            assert!(likeness > 30.0, "{backend:?} frame {number}: {likeness:.1} dB");
        }
        // The encoder's threads were started after the lockdown; those of the first wiring are gone.
        let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().count();
        let cores = std::thread::available_parallelism().unwrap().get();
        assert!((2..=10).contains(&threads) || cores == 1, "{threads} threads on {cores} cores");
        drop(link);
        assert!(child.wait().unwrap().success());
    }
}
