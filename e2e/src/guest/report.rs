//! What a stream was like, as JSON.

use serde_json::{Value, json};

use super::audio::RATE;
use super::shared::{Arrival, Ended, Video};
use super::stream::Stream;
use super::video::judge::Errors;
use crate::heard::frequency;

/// Below this root mean square it is silence.
const SILENCE: f32 = 1e-3;

/// The longest time between two frames that a person would have seen, in milliseconds.
pub fn longest_gap_ms(arrivals: &[Arrival]) -> f64 {
    let good: Vec<u64> = arrivals.iter().filter(|frame| frame.is_good).map(|frame| frame.whole_ns).collect();
    good.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).fold(0.0, f64::max)
}

/// The frequency of a second of sound, unless it is silent.
pub fn tone_hz(samples: &[f32]) -> Option<f64> {
    let energy: f32 = samples.iter().map(|sample| sample * sample).sum();
    ((energy / samples.len().max(1) as f32).sqrt() > SILENCE).then(|| frequency(samples, RATE))
}

/// Everything that is known of a stream now.
pub fn report(stream: &Stream, ended: Option<&Ended>) -> Value {
    let (video, audio, control) = (stream.video(), stream.audio(), stream.control());
    let counts = &video.counts;
    let read: Vec<u32> = video.pictures.iter().filter_map(|picture| picture.stamp).collect();
    let last = video.pictures.last();
    let (faults, told) =
        (counts.faults + audio.counts.faults, [counts.told.clone(), audio.counts.told.clone()].concat());
    let seconds = match (video.arrivals.first(), video.arrivals.last()) {
        (Some(first), Some(last)) => (last.whole_ns - first.whole_ns) as f64 / 1e9,
        _ => 0.0,
    };
    let tone = (0..audio.channels.len()).map(|channel| audio.last_second(channel).and_then(|second| tone_hz(&second)));
    let tone: Vec<Option<f64>> = tone.collect();
    json!({
        "mode": { "width": stream.wish.width, "height": stream.wish.height, "fps": stream.wish.fps },
        "picture": last.map(|last| json!({ "width": last.width, "height": last.height, "luma": last.luma })),
        "encryption": { "rtsp": stream.wish.secrecy.modern, "control_v2": stream.agreed.control_v2,
                        "video": stream.agreed.video, "audio": stream.agreed.audio },
        "frames": {
            "received": counts.frames, "decoded": video.pictures.len(), "lost": counts.lost, "idrs": counts.idrs,
            "recovered": counts.recovered_frames, "recovered_packets": counts.recovered_packets,
            "multi_block": counts.blocked, "idr_requests": video.idr_requests, "decode_errors": video.decode_errors,
            "undecoded": video.undecoded, "longest_gap_ms": longest_gap_ms(&video.arrivals),
            "fps": (counts.frames.saturating_sub(1)) as f64 / f64::max(seconds, 1e-9),
            "errors": video.told,
        },
        "packets": {
            "received": counts.packets, "bytes": counts.bytes, "parity": counts.parity_packets,
            "parity_judged": counts.parity_judged, "duplicates": counts.duplicates, "dropped": video.dropped,
            "not_authentic": video.not_authentic,
        },
        "stamps": {
            "read": read.len(), "unreadable": video.pictures.len() - read.len(),
            "missing": read.windows(2).map(|pair| u64::from(pair[1].saturating_sub(pair[0]).saturating_sub(1))).sum::<u64>(),
            "backwards": read.windows(2).filter(|pair| pair[1] < pair[0]).count(),
        },
        "errors": errors(&video),
        "host_latency_ms": latency(&video.arrivals),
        "audio": {
            "packets": audio.counts.packets, "parity": audio.counts.parity_packets,
            "parity_judged": audio.counts.parity_judged, "decoded": audio.decoded, "lost": audio.counts.lost,
            "recovered": audio.counts.recovered, "dropped": audio.dropped, "decode_errors": audio.decode_errors,
            "channels": audio.channels.len(), "tone_hz": tone,
        },
        "control": { "messages": control.messages, "not_authentic": control.not_authentic, "others": control.others },
        "rumble": control.rumble.iter().map(|r| json!({ "pad": r.pad, "low": r.low, "high": r.high })).collect::<Vec<_>>(),
        "faults": { "count": faults, "told": told },
        "ended": ended.map(reason),
    })
}

/// The worst of all pictures that were judged, in steps of 255.
fn errors(video: &Video) -> Value {
    let judged: Vec<Errors> = video.pictures.iter().filter_map(|picture| picture.errors).collect();
    let worst = judged.iter().fold(Errors::default(), |worst, errors| Errors {
        luma: worst.luma.max(errors.luma),
        chroma: worst.chroma.max(errors.chroma),
    });
    json!({ "judged": judged.len(), "luma": worst.luma, "chroma": worst.chroma })
}

fn latency(arrivals: &[Arrival]) -> Value {
    let known = arrivals.iter().filter_map(|frame| frame.host_latency);
    let mut tenths: Vec<u16> = known.collect();
    tenths.sort_unstable();
    let at = |permille: usize| tenths.get((tenths.len() * permille / 1000).min(tenths.len().saturating_sub(1)));
    let ms = |value: Option<&u16>| value.map(|&tenths| f64::from(tenths) / 10.0);
    let sum: f64 = tenths.iter().map(|&tenths| f64::from(tenths)).sum();
    json!({
        "avg": (!tenths.is_empty()).then(|| sum / tenths.len() as f64 / 10.0),
        "p50": ms(at(500)), "p99": ms(at(990)), "max": ms(tenths.last()), "n": tenths.len(),
    })
}

fn reason(ended: &Ended) -> Value {
    match ended {
        Ended::Left => json!({ "how": "left" }),
        Ended::Unanswered => json!({ "how": "unanswered" }),
        Ended::Terminated(code) => json!({ "how": "terminated", "code": format!("{code:#010x}") }),
        Ended::Disconnected => json!({ "how": "disconnected" }),
        Ended::Failed(why) => json!({ "how": "failed", "why": why }),
    }
}
