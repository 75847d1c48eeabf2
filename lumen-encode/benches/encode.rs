//! What a 720p frame costs: conversion, and a moving scene through each built-in encoder.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ipc::{Colour, Matrix};
use lumen_encode::encoder::{BUILT_IN, Coding, open};
use lumen_encode::{Converter, I420, Settings};
use support::{format, mode, scene};

/// Frames of the scene, made beforehand and cycled through.
const FRAMES: usize = 32;

fn benches(criterion: &mut Criterion) {
    let mode = mode(1280, 720);
    let format = format(mode);
    let frames: Vec<Vec<u8>> = (0..FRAMES)
        .map(|number| {
            let mut pixels = vec![0; format.size()];
            scene(mode, number, &mut pixels);
            pixels
        })
        .collect();
    let colour = Colour { matrix: Matrix::Bt709, full_range: false };
    let converter = Converter::new(format, mode, colour).expect("the format is the mode's");
    let mut group = criterion.benchmark_group("encode");
    group.bench_function("convert 720p", |bencher| {
        let (mut picture, mut number) = (I420::new(mode), 0);
        bencher.iter(|| {
            number = (number + 1) % FRAMES;
            converter.convert(black_box(&frames[number]), &mut picture).expect("the buffer is whole");
        });
    });
    for &backend in BUILT_IN {
        let settings = Settings { mode, bitrate_kbps: 10_000, colour };
        let mut encoder = open(backend, settings).expect("a built-in encoder opens");
        let (mut picture, mut number) = (I420::new(mode), 0);
        group.bench_function(format!("convert + {} 720p", encoder.name()), |bencher| {
            bencher.iter(|| {
                number = (number + 1) % FRAMES;
                converter.convert(&frames[number], &mut picture).expect("the buffer is whole");
                let mut bytes = 0;
                let mut sink = |slice: lumen_encode::Slice<'_>| bytes += slice.bytes.len();
                encoder.encode(&picture, Coding::Delta, &mut sink).expect("the picture is encoded");
                black_box(bytes)
            });
        });
    }
    group.finish();
}

criterion_group!(encode, benches);
criterion_main!(encode);
