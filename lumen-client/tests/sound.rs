//! Sound from the command's outside: what it writes and counts of a concert whose every sample is known.

use std::fs;
use std::process::Command;
use std::time::Duration;

use lumen_core::AudioLayout;
use lumen_core::audio::FRAME_SAMPLES;
use lumen_core::input::{PadIndex, Rumble};
use serde_json::Value;

mod support;
use support::TempDir;
use support::hall::{Concert, Hall};
use support::host::{Host, Script};
use support::stream::Plan;

/// Delay of an Opus decoder in RESTRICTED_LOWDELAY (opus_encoder.c: 2.5 ms), and a little for its filters to settle.
const SETTLED: usize = 480;

struct Heard {
    report: Value,
    /// By channel, 1.0 being full scale.
    channels: Vec<Vec<f64>>,
    trace: Vec<Value>,
}

/// Runs a session that hears `hall`.
fn hear(hall: Hall, options: &[&str], seconds: &str) -> Heard {
    let (host, dir) = (Host::start(Script::Perform(Plan::default(), Box::new(hall))), TempDir::new("sound"));
    let (wav, trace) = (dir.path().join("s.wav"), dir.path().join("t.jsonl"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_lumen-client"));
    command.arg("connect").arg(host.address.to_string()).args(["--mode", "320x192x60", "--seconds", seconds]);
    command.arg("--config").arg(dir.path()).args(["--quiet", "--json", "-"]).args(options);
    command.arg("--audio-out").arg(&wav).arg("--audio-trace").arg(&trace);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut reader = hound::WavReader::open(&wav).unwrap();
    let spec = reader.spec();
    assert_eq!((spec.sample_rate, spec.bits_per_sample), (48_000, 16));
    let mut channels = vec![Vec::new(); usize::from(spec.channels)];
    for (index, sample) in reader.samples::<i16>().enumerate() {
        let channel = index % channels.len();
        channels[channel].push(f64::from(sample.unwrap()) / 32768.0);
    }
    let trace = fs::read_to_string(&trace).unwrap();
    let trace = trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Heard { report: serde_json::from_slice(&output.stdout).unwrap(), channels, trace }
}

fn number(report: &Value, path: &str) -> f64 {
    report.pointer(path).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {path} in {report:#}"))
}

/// How much of a frequency is in the samples: 1.0 for a sine of full scale.
fn level(samples: &[f64], hz: f64) -> f64 {
    let turn = |index: usize| index as f64 * hz / 48_000.0 * std::f64::consts::TAU;
    let part = |wave: fn(f64) -> f64| -> f64 {
        samples.iter().enumerate().map(|(index, sample)| sample * wave(turn(index))).sum()
    };
    part(f64::cos).hypot(part(f64::sin)) * 2.0 / samples.len() as f64
}

#[test]
fn a_tone_with_losses_is_a_whole_file() {
    let concert = Concert {
        lost: vec![50, 51, 120, 200],
        damaged: vec![70],
        overtaken: vec![90, 150],
        doubled: vec![30, 31],
        ..Concert::new(AudioLayout::Stereo, &[440.0, 1000.0], 300)
    };
    let heard = hear(Hall { concert: Some(concert), ..Hall::default() }, &[], "2.5");
    for (path, expected) in [
        ("/audio/channels", 2.0),
        ("/audio/lost", 4.0),
        ("/audio/late", 2.0),
        ("/audio/duplicates", 2.0),
        ("/audio/decode_errors", 1.0),
        ("/audio/concealed", 7.0),
        ("/audio/filled_ms", 0.0),
        ("/audio/overrun", 0.0),
        ("/rumble/received", 0.0),
    ] {
        assert_eq!(number(&heard.report, path), expected, "{path} in {:#}", heard.report);
    }
    let tone = number(&heard.report, "/audio/tone_hz");
    assert!((tone - 440.0).abs() < 1.0, "{tone}");
    let jitter = ["p50", "p99"].map(|q| number(&heard.report, &format!("/audio/jitter_ms/{q}")));
    assert!(jitter.is_sorted(), "{jitter:?}");
    assert!(number(&heard.report, "/audio/capture_to_decoded_us/p50") > 0.0, "one machine, one clock");
    assert_eq!(heard.report["audio"]["playback"], Value::Null);
    assert_eq!(heard.report["input"], Value::Null, "nobody asked for hands");

    for (samples, hz) in heard.channels.iter().zip([440.0, 1000.0]) {
        assert_eq!(samples.len(), 300 * FRAME_SAMPLES, "as long as it was played");
        let found = level(&samples[SETTLED..], hz);
        assert!((0.45..0.51).contains(&found), "{found} of {hz} Hz");
        // Nowhere a hole: the tone, or a guess at it, in every 5 ms.
        for (index, part) in samples[SETTLED..].chunks_exact(FRAME_SAMPLES).enumerate() {
            let loudest = part.iter().fold(0.0_f64, |most, sample| most.max(sample.abs()));
            assert!(loudest > 0.15, "{loudest} in part {index} of {hz} Hz");
        }
    }

    // A line for each packet that was played.
    assert_eq!(heard.trace.len(), 300 - 4 - 2);
    let lost: Vec<(u64, u64)> = heard
        .trace
        .iter()
        .map(|line| (line["seq"].as_u64().unwrap(), line["lost_before"].as_u64().unwrap()))
        .filter(|(_, lost)| *lost > 0)
        .collect();
    assert_eq!(lost, [(52, 2), (91, 1), (121, 1), (151, 1), (201, 1)]);
    let times = |line: &Value| ["pts_ns", "received_ns", "decoded_ns"].map(|name| line[name].as_u64().unwrap());
    assert!(heard.trace.iter().all(|line| times(line).is_sorted()));
    let peaks = heard.trace[200]["peak"].as_array().unwrap();
    assert_eq!(peaks.len(), 2);
    assert!(peaks.iter().all(|peak| (0.4..0.6).contains(&peak.as_f64().unwrap())), "{peaks:?}");
}

#[test]
fn the_hosts_absence_is_silence_of_its_length() {
    let concert = Concert {
        away: Some((100, Duration::from_millis(200))),
        ..Concert::new(AudioLayout::Stereo, &[440.0, 440.0], 200)
    };
    let heard = hear(Hall { concert: Some(concert), ..Hall::default() }, &[], "2");
    assert_eq!(number(&heard.report, "/audio/lost"), 0.0);
    assert_eq!(number(&heard.report, "/audio/filled_ms"), 200.0);
    let samples = &heard.channels[0];
    assert_eq!(samples.len(), 200 * FRAME_SAMPLES + 9600);
    let hole = 100 * FRAME_SAMPLES..100 * FRAME_SAMPLES + 9600;
    assert!(samples[hole].iter().all(|&sample| sample == 0.0));
    assert!(level(&samples[SETTLED..100 * FRAME_SAMPLES], 440.0) > 0.45);
    assert!(level(&samples[100 * FRAME_SAMPLES + 9600 + SETTLED..], 440.0) > 0.45);
}

#[test]
fn every_speaker_has_its_own_sound() {
    for (name, layout) in [("5.1", AudioLayout::Surround51), ("7.1", AudioLayout::Surround71)] {
        // The fourth, the LFE's, is one that it can carry.
        let tones = &[440.0, 660.0, 880.0, 60.0, 1100.0, 1320.0, 1540.0, 1760.0][..layout.channels()];
        let concert = Concert::new(layout, tones, 100);
        let heard = hear(Hall { concert: Some(concert), ..Hall::default() }, &["--audio", name], "1");
        assert_eq!(heard.channels.len(), layout.channels());
        for (channel, samples) in heard.channels.iter().enumerate() {
            assert_eq!(samples.len(), 100 * FRAME_SAMPLES);
            for (other, &hz) in tones.iter().enumerate() {
                let found = level(&samples[SETTLED..], f64::from(hz));
                let right = if other == channel { found > 0.4 } else { found < 0.05 };
                assert!(right, "{found} of {hz} Hz in channel {channel} of {name}");
            }
        }
    }
}

#[test]
fn rumble_is_counted_and_nonsense_is_survived() {
    let pad = |index| PadIndex::new(index).unwrap();
    let hall = Hall {
        concert: Some(Concert::new(AudioLayout::Stereo, &[440.0, 440.0], 20)),
        rumbles: vec![
            Rumble { pad: pad(0), low: 65535, high: 3 },
            Rumble { pad: pad(9), low: 1, high: 2 },
            Rumble { pad: pad(0), low: 0, high: 0 },
        ],
        nonsense: vec![
            Vec::new(),
            vec![0],
            vec![0xC9],
            vec![0xC9; 12],
            vec![0xCA, 16, 0, 0, 0, 0],
            vec![0xCA, 0, 0],
            vec![0xCC, 0, 0],
            vec![0xCB; 40],
            vec![0xFF; 1000],
        ],
        ..Hall::default()
    };
    let heard = hear(hall, &[], "1");
    assert_eq!(number(&heard.report, "/rumble/received"), 3.0, "{:#}", heard.report);
    assert_eq!(number(&heard.report, "/audio/received"), 20.0, "{:#}", heard.report);
    let pads = &heard.report["rumble"]["pads"];
    assert_eq!(pads[0], serde_json::json!({"pad": 0, "low": 0, "high": 0, "low_max": 65535, "high_max": 3}));
    assert_eq!(pads[1], serde_json::json!({"pad": 9, "low": 1, "high": 2, "low_max": 1, "high_max": 2}));
    assert_eq!(pads.as_array().unwrap().len(), 2);
}

#[test]
fn a_host_without_sound_is_no_trouble() {
    let heard = hear(Hall::default(), &["--own-sink"], "0.5");
    assert_eq!(heard.report["audio"], Value::Null);
    assert_eq!((heard.channels, heard.trace.len()), (vec![Vec::new(); 2], 0), "files of nothing");
}
