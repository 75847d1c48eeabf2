//! The report of a session, as JSON for scripts and as a table for people.

use std::fmt::Write as _;

use lumen_core::Mode;
use lumen_core::histogram::{Histogram, Summary};
use serde::Serialize;

use crate::audio::SoundReport;
use crate::datagrams::DatagramReport;
use crate::gaps::Gap;
use crate::input::InputCounts;
use crate::media::MediaReport;
use crate::recorder::Recorder;
use crate::returns::Return;
use crate::stamps::StampCounts;

/// Quantiles in microseconds over `count` frames.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    pub p50: u64,
    pub p95: u64,
    pub p99: u64,
    pub max: u64,
    pub count: u64,
}

/// The whole report. Names and meanings are an interface: add, never change.
#[derive(Debug, Serialize)]
pub struct Report {
    /// As the host made it: width and height in pixels, refresh in millihertz.
    pub mode: Mode,
    pub codec: &'static str,
    /// Of the host.
    pub fingerprint: String,
    pub ended: String,
    pub seconds: f64,
    pub fps: f64,
    /// UDP payload, headers and parity included.
    pub bitrate_kbps: f64,
    /// Bytes of parity packets by bytes of all packets.
    pub parity_ratio: f64,
    pub keyframe_requests: u64,
    pub generations: u64,
    pub frames: Frames,
    pub packets: Packets,
    pub latency_us: Latencies,
    pub gaps_ms: GapsMs,
    /// Times that the host was lost and this session found again.
    pub resumes: u64,
    /// Times that it was lost, this session was no more, and another took its place.
    pub restarts: u64,
    /// Both, one by one, at most a thousand.
    pub returns: Vec<Return>,
    pub clock: Clock,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stamps: Option<StampCounts>,
    /// Null without sound.
    pub audio: Option<SoundReport>,
    /// Null if no input was asked for.
    pub input: Option<Input>,
    pub rumble: Rumble,
}

/// Events, each once but for `retransmitted`.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Input {
    pub sent: u64,
    pub acknowledged: u64,
    /// On their way to a session that was lost: nobody knows whether they arrived.
    pub given_up: u64,
    pub retransmitted: u64,
    pub datagrams: u64,
}

#[derive(Debug, Serialize)]
pub struct Rumble {
    pub received: u64,
    pub pads: Vec<PadRumble>,
}

/// The motors of one pad, 0 to 65535.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PadRumble {
    pub pad: u8,
    /// As last told.
    pub low: u16,
    pub high: u16,
    /// The most that was ever told.
    pub low_max: u16,
    pub high_max: u16,
}

#[derive(Debug, Serialize)]
pub struct Frames {
    /// Frames that the host is known to have sent: the complete and the lost ones.
    pub received: u64,
    pub complete: u64,
    /// Complete thanks to parity.
    pub recovered: u64,
    /// Never completed, those included of which nothing arrived.
    pub lost: u64,
    /// Complete, but not delivered: they build on a lost frame.
    pub undeliverable: u64,
    pub decoded: u64,
    pub decode_errors: u64,
    /// Delivered, but not decoded: they build on a frame that failed.
    pub undecodable: u64,
    /// Delivered, but more than this machine could decode in time.
    pub overrun: u64,
    pub out_of_order: u64,
    pub still: u64,
    pub idr: u64,
}

#[derive(Debug, Serialize)]
pub struct Packets {
    pub received: u64,
    pub lost: u64,
    pub recovered: u64,
    /// Not authentic or malformed.
    pub rejected: u64,
    pub duplicates: u64,
}

/// Each absent where there was nothing to measure. Repeats of a still desktop are not in them.
#[derive(Debug, Serialize)]
pub struct Latencies {
    pub capture_to_reassembled: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drawn_to_decoded: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reassembled_to_decoded: Option<Quantiles>,
    /// Capture to reassembled, less convert and encode of the same frame.
    pub overhead: Option<Quantiles>,
    pub capture_wait: Option<Quantiles>,
    pub convert: Option<Quantiles>,
    pub encode: Option<Quantiles>,
    pub send: Option<Quantiles>,
}

#[derive(Debug, Serialize)]
pub struct GapsMs {
    /// Longest time between two good frames; 0 with fewer than two.
    pub max: f64,
    pub longest: Vec<Gap>,
}

#[derive(Debug, Serialize)]
pub struct Clock {
    /// Host clock minus ours; null if no probe was answered.
    pub offset_us: Option<f64>,
    pub error_us: Option<f64>,
}

/// What of the report is known without looking at frames.
#[derive(Debug)]
pub struct Subject {
    pub mode: Mode,
    pub fingerprint: String,
    pub ended: String,
    pub decoding: bool,
    pub overrun: u64,
    pub sound: Option<SoundReport>,
    pub input: Option<InputCounts>,
}

impl Report {
    pub fn new(subject: Subject, media: &MediaReport, datagrams: &DatagramReport, recorder: &Recorder) -> Self {
        let seconds = recorder.gaps.span_ns() as f64 / 1e9;
        let rate = |amount: f64| if seconds > 0.0 { amount / seconds } else { 0.0 };
        let good = if subject.decoding { recorder.decoded } else { recorder.frames };
        Self {
            mode: subject.mode,
            codec: "h264",
            fingerprint: subject.fingerprint,
            ended: subject.ended,
            seconds,
            // The first frame begins the time that the others are counted in.
            fps: rate(good.saturating_sub(1) as f64),
            bitrate_kbps: media.bitrate_kbps(),
            parity_ratio: if media.bytes > 0 { media.parity_bytes as f64 / media.bytes as f64 } else { 0.0 },
            keyframe_requests: media.keyframe_requests,
            generations: media.generations,
            frames: Frames {
                received: media.frames_received,
                complete: media.frames_complete,
                recovered: media.frames_recovered,
                lost: media.frames_lost,
                undeliverable: media.frames_undeliverable,
                decoded: recorder.decoded,
                decode_errors: recorder.decode_errors,
                undecodable: recorder.skipped,
                overrun: subject.overrun,
                out_of_order: recorder.out_of_order,
                still: recorder.still,
                idr: recorder.idr,
            },
            packets: Packets {
                received: media.packets_received,
                lost: media.packets_lost,
                recovered: media.packets_recovered,
                rejected: media.packets_rejected,
                duplicates: media.packets_duplicate,
            },
            latency_us: Latencies {
                capture_to_reassembled: quantiles(&recorder.capture_to_reassembled),
                drawn_to_decoded: quantiles(&recorder.drawn_to_decoded),
                reassembled_to_decoded: quantiles(&recorder.reassembled_to_decoded),
                overhead: quantiles(&recorder.overhead),
                capture_wait: quantiles(&recorder.capture_wait),
                convert: quantiles(&recorder.convert),
                encode: quantiles(&recorder.encode),
                send: quantiles(&recorder.send),
            },
            gaps_ms: GapsMs { max: recorder.gaps.max_ms().unwrap_or(0.0), longest: recorder.gaps.longest().to_vec() },
            resumes: media.returns.resumes,
            restarts: media.returns.restarts,
            returns: media.returns.list.clone(),
            clock: Clock {
                offset_us: media.clock.map(|clock| clock.offset_ns as f64 / 1e3),
                error_us: media.clock.map(|clock| clock.error_ns as f64 / 1e3),
            },
            stamps: subject.decoding.then(|| recorder.stamps.counts()),
            audio: subject.sound,
            input: subject.input.map(Input::from),
            rumble: Rumble::from(datagrams),
        }
    }

    /// A few lines for a person.
    pub fn table(&self) -> String {
        let Self { frames, packets, .. } = self;
        let mut text = format!(
            "{} {}  {:.1} s  {:.2} fps  {:.0} kbit/s ({:.0} % parity)\n\
             frames   {} complete, {} recovered, {} lost, {} decoded, {} decode errors\n\
             packets  {} received, {} lost, {} recovered, {} rejected\n",
            self.mode,
            self.codec,
            self.seconds,
            self.fps,
            self.bitrate_kbps,
            self.parity_ratio * 100.0,
            frames.complete,
            frames.recovered,
            frames.lost,
            frames.decoded,
            frames.decode_errors,
            packets.received,
            packets.lost,
            packets.recovered,
            packets.rejected,
        );
        let _ = writeln!(text, "{:<24}{:>9}{:>9}{:>9}{:>9}", "latency, ms", "p50", "p95", "p99", "max");
        let latencies = &self.latency_us;
        for (name, quantiles) in [
            ("capture wait", latencies.capture_wait),
            ("convert", latencies.convert),
            ("encode", latencies.encode),
            ("send", latencies.send),
            ("capture to reassembled", latencies.capture_to_reassembled),
            ("  less convert, encode", latencies.overhead),
            ("reassembled to decoded", latencies.reassembled_to_decoded),
            ("drawn to decoded", latencies.drawn_to_decoded),
        ] {
            let Some(Quantiles { p50, p95, p99, max, .. }) = quantiles else { continue };
            let [p50, p95, p99, max] = [p50, p95, p99, max].map(|us| us as f64 / 1e3);
            let _ = writeln!(text, "{name:<24}{p50:>9.2}{p95:>9.2}{p99:>9.2}{max:>9.2}");
        }
        let _ = write!(text, "longest gap {:.1} ms", self.gaps_ms.max);
        let _ = match (self.clock.offset_us, self.clock.error_us) {
            (Some(offset), Some(error)) => writeln!(text, "; clock offset {offset:.0} µs, known to {error:.0} µs"),
            _ => writeln!(text, "; the host's clock is not known"),
        };
        if let Some(longest) = self.returns.iter().map(|one| one.gap_ms).max_by(f64::total_cmp) {
            let (resumes, restarts) = (self.resumes, self.restarts);
            let _ = writeln!(
                text,
                "host     lost {} times, {resumes} resumed; {longest:.0} ms at most",
                resumes + restarts
            );
        }
        if let Some(sound) = &self.audio {
            let _ = writeln!(text, "sound    {}", sound.line());
        }
        if let Some(Input { sent, acknowledged, retransmitted, .. }) = self.input {
            let _ = writeln!(text, "input    {sent} sent, {acknowledged} acknowledged, {retransmitted} retransmitted");
        }
        if self.rumble.received > 0 {
            let _ = writeln!(text, "rumble   {} received", self.rumble.received);
        }
        text
    }
}

impl From<InputCounts> for Input {
    fn from(counts: InputCounts) -> Self {
        let InputCounts { sent, acknowledged, given_up, retransmitted, datagrams } = counts;
        Self { sent, acknowledged, given_up, retransmitted, datagrams }
    }
}

impl From<&DatagramReport> for Rumble {
    fn from(report: &DatagramReport) -> Self {
        let pads = report.pads.iter().flatten().map(|pad| PadRumble {
            pad: pad.last.pad.get(),
            low: pad.last.low,
            high: pad.last.high,
            low_max: pad.low_max,
            high_max: pad.high_max,
        });
        Self { received: report.rumbles, pads: pads.collect() }
    }
}

pub(crate) fn quantiles(histogram: &Histogram) -> Option<Quantiles> {
    let Summary { count, p50, p95, p99, max } = histogram.summary();
    let [p50, p95, p99, max] = [p50, p95, p99, max].map(u64::from);
    (count > 0).then_some(Quantiles { p50, p95, p99, max, count })
}
