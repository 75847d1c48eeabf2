//! The check is worth what it catches: streams as they should be, and streams from which a frame was taken.

use ipc::{Backend, Colour, FrameFormat, Matrix, PixelFormat};
use lumen_capture::pattern::Pattern;
use lumen_core::Mode;
use lumen_core::h264::Nals;
use lumen_encode::encoder::{self, Coding};
use lumen_encode::{Converter, I420, Settings};

use super::sabotage::renumber;
use super::*;

/// A stream of the synthetic desktop, frame by frame, and its trace; the first frame is an IDR.
fn stream(frames: u32, kbps: u32) -> (Vec<Vec<u8>>, Vec<Line>) {
    let mode = Mode::new(1280, 720, 60_000).unwrap();
    let format = FrameFormat { pixels: PixelFormat::Bgrx, width: 1280, height: 720, stride: 5120 };
    let colour = Colour { matrix: Matrix::Bt709, full_range: false };
    let converter = Converter::new(format, mode, colour).unwrap();
    let settings = Settings { mode, bitrate_kbps: kbps, colour };
    let mut encoder = encoder::open(Backend::OpenH264, settings).unwrap();
    let (mut pattern, mut pixels) = (Pattern::new(format), vec![0; format.size()]);
    let mut picture = I420::new(mode);
    let encoded = (0..frames).map(|index| {
        let stamp = Stamp { number: 500 + index, time_ns: 7_000 + u64::from(index) };
        pattern.draw(0, &mut pixels, stamp.number);
        pattern.stamp(&mut pixels, stamp.number, stamp.time_ns);
        converter.convert(&pixels, &mut picture).unwrap();
        let coding = if index == 0 { Coding::Idr } else { Coding::Delta };
        let mut bytes = Vec::new();
        encoder.encode(&picture, coding, &mut |slice| bytes.extend_from_slice(slice.bytes)).unwrap();
        let line = Line { generation: 1, good: true, bytes: bytes.len(), stamp: Some(stamp) };
        (bytes, line)
    });
    encoded.unzip()
}

fn judge(frames: &[Vec<u8>], lines: &[Line]) -> Verdict {
    replay(&frames.concat()[..], lines).unwrap()
}

#[test]
fn what_was_coded_is_what_it_should_be() {
    let (frames, lines) = stream(90, 10_000);
    let verdict = judge(&frames, &lines);
    println!("{:?}", verdict.worst);
    assert_eq!((verdict.judged, verdict.unstamped), (90, 0));
    assert_eq!(verdict.corrupt, []);
    assert!(verdict.worst.luma.max(verdict.worst.chroma) < LIMIT / 4.0, "{:?}", verdict.worst);
}

/// What a careless client would show after loss: each picture built on one that is not its encoder's.
#[test]
fn a_frame_whose_reference_was_lost_is_caught_at_once() {
    for lost in [3, 11, 29] {
        let (mut frames, mut lines) = stream(32, 10_000);
        frames.remove(lost);
        lines.remove(lost);
        for frame in &mut frames[lost..] {
            *frame = renumber(frame);
        }
        let verdict = judge(&frames, &lines);
        let caught: Vec<usize> = verdict.corrupt.iter().map(|corrupt| corrupt.line).collect();
        println!("without frame {lost}: {caught:?}, {:?}", verdict.worst);
        assert_eq!(caught.first(), Some(&lost), "the first picture after the loss, and none before");
        assert!(verdict.worst.luma > 2.0 * LIMIT, "{:?}", verdict.worst);
    }
}

/// The stamp is the first thing to break. The rest of the picture gives it away too: here the stamp is put back.
#[test]
fn a_frame_whose_reference_was_lost_is_caught_without_its_stamp() {
    const LOST: usize = 11;
    /// Two rows of cells of 16 pixels.
    const STAMP_ROWS: usize = 32;
    let (frames, lines) = stream(24, 10_000);
    let decoder = || Decoder::with_api_config(OpenH264API::from_source(), DecoderConfig::new()).unwrap();
    let (mut whole, mut broken) = (decoder(), decoder());
    let mut judge = Judge::new(1280, 720, COLOUR);
    for (index, frame) in frames.iter().enumerate() {
        let right = whole.decode(frame).unwrap().unwrap();
        if index == LOST {
            continue;
        }
        let frame = if index > LOST { renumber(frame) } else { frame.clone() };
        let shown = broken.decode(&frame).unwrap().unwrap();
        let (stride, (_, u, v)) = (shown.strides().0, shown.strides());
        assert_eq!(stride, right.strides().0);
        let luma = [&right.y()[..STAMP_ROWS * stride], &shown.y()[STAMP_ROWS * stride..]].concat();
        let planes = Planes { y: (&luma, stride), u: (shown.u(), u), v: (shown.v(), v) };
        let errors = judge.errors(lines[index].stamp.unwrap(), &planes);
        println!("{index}: {errors:?}");
        assert_eq!(errors.luma > LIMIT, index > LOST, "frame {index}: {errors:?}");
    }
}

/// Of the frame that was lost, most slices have come.
#[test]
fn a_frame_without_one_of_its_slices_is_caught_or_refused() {
    let (mut frames, mut lines) = stream(12, 10_000);
    let slices: Vec<(usize, usize)> = Nals::new(&frames[6])
        .filter(|nal| nal.kind.is_slice())
        .map(|nal| (nal.start, nal.bytes.as_ptr().addr() - frames[6].as_ptr().addr() + nal.bytes.len()))
        .collect();
    let (from, to) = slices[slices.len() / 2];
    frames[6].drain(from..to);
    lines[6].bytes = frames[6].len();
    match replay(&frames.concat()[..], &lines) {
        Ok(verdict) => assert_eq!(verdict.corrupt.first().map(|corrupt| corrupt.line), Some(6)),
        Err(error) => assert!(error.to_string().starts_with("line 6"), "{error:#}"),
    }
}

#[test]
fn a_picture_that_is_another_than_the_client_read_is_corrupt() {
    let (frames, mut lines) = stream(3, 10_000);
    lines[1].stamp = Some(Stamp { number: 499, time_ns: 1 });
    lines[2].good = false;
    let verdict = judge(&frames, &lines);
    assert_eq!((verdict.judged, verdict.corrupt.len(), verdict.corrupt[0].line), (2, 1, 1), "{verdict:?}");
}

#[test]
fn a_trace_of_another_stream_is_an_error() {
    let (frames, mut lines) = stream(2, 10_000);
    assert!(replay(&frames[0][..], &lines).is_err(), "the stream is too short");
    lines.pop();
    assert!(replay(&frames.concat()[..], &lines).is_err(), "it is too long");
}

#[test]
fn every_recording_can_tell_whether_its_judge_sees() {
    let (frames, lines) = stream(24, 10_000);
    let recording = Recording::read(&frames.concat()[..], lines).unwrap();
    assert_eq!(recording.is_caught_without_a_reference(), Some(true));
    assert_eq!(recording.sees(), Some(true));
    let (frames, lines) = stream(3, 10_000);
    let short = Recording::read(&frames.concat()[..], lines).unwrap();
    assert_eq!((short.is_caught_without_a_reference(), short.sees()), (None, None), "nothing builds on anything");
}

#[test]
fn on_a_still_desktop_what_it_never_showed_is_found() {
    let (frames, mut lines) = stream(1, 10_000);
    let still = Recording::read(&frames.concat()[..], lines.clone()).unwrap();
    assert_eq!((still.is_caught_without_a_reference(), still.sees()), (None, Some(true)));
    lines[0].stamp = None;
    let unknown = Recording::read(&frames.concat()[..], lines).unwrap();
    assert_eq!(unknown.sees(), None, "nobody knows what it shows");
}
