//! Every built-in encoder against a decoder: what comes out is H.264, looks like what went in, and obeys.

mod support;

#[cfg(feature = "x264")]
use std::time::Instant;

use ipc::{Backend, Colour, Matrix};
use lumen_core::Mode;
use lumen_core::h264::Nals;
use lumen_encode::encoder::{BUILT_IN, Coding, open, open_on};
use lumen_encode::{Converter, Encoder, I420, Settings};
use openh264::decoder::Decoder;
use support::{Signalled, colour, decode, first_macroblocks, format, grain, nal_types, noise, scene};

/// A scene going through a converter and an encoder, one access unit at a time.
struct Stream {
    converter: Converter,
    encoder: Box<dyn Encoder>,
    mode: Mode,
    pixels: Vec<u8>,
    picture: I420,
}

/// One access unit, with the sizes of its slices.
struct Unit {
    bytes: Vec<u8>,
    slices: Vec<usize>,
    idr: bool,
}

impl Stream {
    fn new(backend: Backend, mode: Mode, bitrate_kbps: u32) -> Self {
        Self::coloured(backend, mode, bitrate_kbps, Colour { matrix: Matrix::Bt709, full_range: false })
    }

    fn coloured(backend: Backend, mode: Mode, bitrate_kbps: u32, colour: Colour) -> Self {
        let encoder = open(backend, Settings { mode, bitrate_kbps, colour }).unwrap();
        Self::through(encoder, mode, colour)
    }

    fn on(cores: u16, backend: Backend, mode: Mode, bitrate_kbps: u32) -> Self {
        let colour = Colour { matrix: Matrix::Bt709, full_range: false };
        let encoder = open_on(cores, backend, Settings { mode, bitrate_kbps, colour }).unwrap();
        Self::through(encoder, mode, colour)
    }

    fn through(encoder: Box<dyn Encoder>, mode: Mode, colour: Colour) -> Self {
        let format = format(mode);
        Self {
            converter: Converter::new(format, mode, colour).unwrap(),
            encoder,
            mode,
            pixels: vec![0; format.size()],
            picture: I420::new(mode),
        }
    }

    fn scene(&mut self, number: usize, coding: Coding) -> Unit {
        scene(self.mode, number, &mut self.pixels);
        self.encode(coding)
    }

    fn grain(&mut self, number: usize, coding: Coding) -> Unit {
        scene(self.mode, number, &mut self.pixels);
        grain(number as u64, 48, &mut self.pixels);
        self.encode(coding)
    }

    fn noise(&mut self, seed: u64, coding: Coding) -> Unit {
        noise(seed, &mut self.pixels);
        self.encode(coding)
    }

    fn encode(&mut self, coding: Coding) -> Unit {
        self.converter.convert(&self.pixels, &mut self.picture).unwrap();
        let mut unit = Unit { bytes: Vec::new(), slices: Vec::new(), idr: false };
        let mut finished = false;
        let mut sink = |slice: lumen_encode::Slice<'_>| {
            assert!(!finished, "a slice after the last one");
            assert_eq!(slice.first, unit.slices.is_empty());
            assert!(slice.first || slice.idr == unit.idr, "slices of one picture disagree about being an IDR");
            assert!(slice.bytes.starts_with(&[0, 0, 0, 1]) || slice.bytes.starts_with(&[0, 0, 1]));
            unit.bytes.extend_from_slice(slice.bytes);
            unit.slices.push(slice.bytes.len());
            unit.idr = slice.idr;
            finished = slice.last;
        };
        self.encoder.encode(&self.picture, coding, &mut sink).unwrap();
        assert!(finished, "the last slice was not marked");
        unit
    }
}

fn small() -> Mode {
    support::mode(640, 360)
}

#[test]
fn a_decoder_shows_what_was_encoded() {
    for &backend in BUILT_IN {
        // 360 rows are no whole number of macroblocks, 98 and 130 not even of chroma's eight: cropping must be right.
        for mode in [small(), support::mode(130, 98)] {
            let mut stream = Stream::new(backend, mode, 4_000);
            let mut decoder = Decoder::new().unwrap();
            for number in 0..60 {
                let unit = stream.scene(number, Coding::Delta);
                assert_eq!(unit.idr, number == 0, "{backend:?}: only the first picture is an IDR");
                let likeness = decode(&mut decoder, &unit.bytes, &stream.picture);
                assert!(likeness > 32.0, "{backend:?} {mode}: frame {number} has {likeness:.1} dB");
            }
        }
    }
}

#[test]
fn an_idr_comes_when_asked_for_and_starts_a_fresh_decoder() {
    for &backend in BUILT_IN {
        let mut stream = Stream::new(backend, small(), 4_000);
        for number in 0..30 {
            let wanted = matches!(number, 7 | 8 | 20);
            let unit = stream.scene(number, if wanted { Coding::Idr } else { Coding::Delta });
            assert_eq!(unit.idr, wanted || number == 0, "{backend:?} frame {number}");
            let kinds = nal_types(&unit.bytes);
            for (kind, name) in [(7, "SPS"), (8, "PPS"), (5, "IDR slice")] {
                assert_eq!(kinds.contains(&kind), unit.idr, "{backend:?} frame {number}: {name} in {kinds:?}");
            }
            if unit.idr {
                let likeness = decode(&mut Decoder::new().unwrap(), &unit.bytes, &stream.picture);
                assert!(likeness > 28.0, "{backend:?} frame {number}: {likeness:.1} dB");
            }
        }
    }
}

#[test]
fn a_cut_to_another_scene_is_no_idr() {
    for &backend in BUILT_IN {
        let mut stream = Stream::new(backend, small(), 4_000);
        stream.scene(0, Coding::Delta);
        stream.scene(1, Coding::Delta);
        assert!(!stream.noise(1, Coding::Delta).idr, "{backend:?}");
    }
}

#[test]
fn the_stream_says_its_colours_and_their_range() {
    for &backend in BUILT_IN {
        for (matrix, description) in [(Matrix::Bt709, [1; 3]), (Matrix::Bt601, [6; 3])] {
            for full_range in [false, true] {
                let mut stream = Stream::coloured(backend, small(), 4_000, Colour { matrix, full_range });
                let unit = stream.scene(0, Coding::Delta);
                assert_eq!(colour(&unit.bytes), Some(Signalled { full_range, description }), "{backend:?}");
            }
        }
    }
}

/// A Moonlight client looks for an IDR's slice in the first packet alone, and takes parameter sets in this order only.
#[test]
fn parameter_sets_and_nothing_else_precede_an_idr() {
    for &backend in BUILT_IN {
        let mut stream = Stream::new(backend, small(), 4_000);
        for number in 0..4 {
            let unit = stream.scene(number, if number == 2 { Coding::Idr } else { Coding::Delta });
            let kinds = nal_types(&unit.bytes);
            let slices = kinds.iter().position(|kind| matches!(kind, 1 | 5)).unwrap();
            let (before, after) = kinds.split_at(slices);
            assert_eq!(before, if unit.idr { &[7, 8][..] } else { &[] }, "{backend:?} frame {number}");
            assert!(after.iter().all(|&kind| kind == if unit.idr { 5 } else { 1 }), "{backend:?} frame {number}");
            let slice = Nals::new(&unit.bytes).find(|nal| nal.kind.is_slice()).unwrap();
            assert!(slice.start < 100, "{backend:?} frame {number}: {} bytes before the first slice", slice.start);
        }
    }
}

#[test]
fn the_bitrate_is_kept_and_changes_without_an_idr() {
    let average = |stream: &mut Stream, from: usize| {
        let sizes = (from..from + 90).map(|number| {
            let unit = stream.grain(number, Coding::Delta);

            assert_eq!(unit.idr, number == 0);
            unit.bytes.len()
        });
        // The first 30 are the rate control's, to find its footing.
        sizes.skip(30).sum::<usize>() as f64 / 60.0
    };
    for &backend in BUILT_IN {
        let mut stream = Stream::new(backend, small(), 12_000);
        let high = average(&mut stream, 0);
        stream.encoder.set_bitrate(6_000).unwrap();
        let low = average(&mut stream, 90);
        // 12 Mbit/s at 60 Hz are 25 kB a frame.
        assert!((15_000.0..30_000.0).contains(&high), "{backend:?}: {high:.0} bytes a frame at 12 Mbit/s");
        assert!((7_500.0..15_000.0).contains(&low), "{backend:?}: {low:.0} bytes a frame at 6 Mbit/s");
    }
}

#[test]
fn a_coarse_idr_is_small_even_of_noise_and_the_stream_goes_on() {
    for &backend in BUILT_IN {
        let mut stream = Stream::new(backend, small(), 4_000);
        let mut decoder = Decoder::new().unwrap();
        let first = stream.noise(1, Coding::Delta);
        decode(&mut decoder, &first.bytes, &stream.picture);
        let coarse = stream.noise(2, Coding::CoarseIdr);
        assert!(coarse.idr);
        assert!(coarse.bytes.len() < 640 * 360 / 8, "{backend:?}: {} bytes", coarse.bytes.len());
        decode(&mut decoder, &coarse.bytes, &stream.picture);
        // Back to a quiet scene: the quantiser must not stay coarse.
        let mut likeness = 0.0;
        for number in 0..60 {
            let unit = stream.scene(number, Coding::Delta);
            likeness = decode(&mut decoder, &unit.bytes, &stream.picture);
        }
        assert!(likeness > 32.0, "{backend:?}: {likeness:.1} dB a second after a coarse IDR");
    }
}

/// Slices come from threads that finish when they like; a decoder is to see the picture from its top to its end.
#[test]
fn on_any_number_of_cores_slices_come_in_order_and_every_picture_decodes() {
    for &backend in BUILT_IN {
        for cores in [1, 2, 3, 4, 64] {
            // The last is too low for a thread for each core, and is whole macroblocks in neither direction.
            for mode in [support::mode(1280, 720), small(), support::mode(130, 98)] {
                let mut stream = Stream::on(cores, backend, mode, 8_000);
                let mut decoder = Decoder::new().unwrap();
                for number in 0..12 {
                    let coding = if matches!(number, 5 | 6) { Coding::Idr } else { Coding::Delta };
                    let unit = stream.scene(number, coding);
                    let what = format!("{backend:?} {mode} on {cores} cores, frame {number}");
                    assert_eq!(unit.idr, number == 0 || coding == Coding::Idr, "{what}");
                    let firsts = first_macroblocks(&unit.bytes);
                    assert!(firsts[0] == 0 && firsts.is_sorted_by(|a, b| a < b), "{what}: slices begin at {firsts:?}");
                    assert!(firsts.len() <= 4, "{what}: {firsts:?}");
                    if cores > 1 && mode != support::mode(130, 98) {
                        assert!(firsts.len() > 1, "{what}: one slice");
                    }
                    let likeness = decode(&mut decoder, &unit.bytes, &stream.picture);
                    assert!(likeness > 30.0, "{what} has {likeness:.1} dB");
                }
            }
        }
    }
}

#[test]
fn noise_fits_on_any_number_of_cores_and_the_stream_goes_on() {
    for &backend in BUILT_IN {
        for cores in [1, 2, 4] {
            let mut stream = Stream::on(cores, backend, small(), 100_000);
            stream.scene(0, Coding::Delta);
            for seed in 1..8 {
                let coding = if seed % 3 == 0 { Coding::Idr } else { Coding::Delta };
                let unit = stream.noise(seed, coding);
                assert!(first_macroblocks(&unit.bytes).is_sorted_by(|a, b| a < b));
            }
            let unit = stream.scene(8, Coding::Idr);
            let likeness = decode(&mut Decoder::new().unwrap(), &unit.bytes, &stream.picture);
            assert!(likeness > 28.0, "{backend:?} on {cores} cores: {likeness:.1} dB");
        }
    }
}

#[test]
fn a_picture_of_another_size_is_refused() {
    for &backend in BUILT_IN {
        let mut stream = Stream::new(backend, small(), 4_000);
        let other = I420::new(support::mode(320, 240));
        assert!(stream.encoder.encode(&other, Coding::Delta, &mut |_| panic!("encoded")).is_err(), "{backend:?}");
    }
}

#[cfg(feature = "x264")]
#[test]
fn x264_hands_slices_on_before_the_picture_is_finished() {
    let mode = support::mode(1280, 720);
    for cores in [1, 2] {
        let mut stream = Stream::on(cores, Backend::X264, mode, 20_000);
        let mut firsts = 0;
        for number in 0..10 {
            assert_eq!(stream.noise(number, Coding::Delta).slices.len(), 4);
            let start = Instant::now();
            let mut first = None;
            let picture = stream.picture.clone();
            let mut sink = |_: lumen_encode::Slice<'_>| _ = first.get_or_insert_with(|| start.elapsed());
            stream.encoder.encode(&picture, Coding::Delta, &mut sink).unwrap();
            let whole = start.elapsed();
            // A quarter of the picture's work is done by then, or a half; a callback that waited for the end would be
            // at 100 %.
            firsts += usize::from(first.unwrap() * 4 < whole * 3);
        }
        assert!(firsts >= 5, "on {cores} cores the first slice came early in {firsts} of 10 pictures");
    }
}
