//! The thread that decodes sound, apart from the one that receives it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};

use lumen_core::AudioLayout;
use lumen_core::audio::tracker::{Tracker, Verdict};
use lumen_core::audio::{FRAME_SAMPLES, SAMPLE_RATE};
use lumen_core::histogram::Histogram;

use super::decode::SoundDecoder;
use super::outputs::{Open, TraceLine};
use super::report::{JitterMs, Playback, SoundReport};
use super::timeline::Timeline;
use super::tone::LastSecond;
use super::{SoundOutputs, SoundPacket, SoundSink};
use crate::monotonic_ns;
use crate::report::quantiles;
use crate::session::Control;

/// Packets that may wait for the decoder: a second.
const QUEUE: usize = 200;

/// The sink a session delivers to; drop it to end the worker.
struct Queue {
    packets: SyncSender<SoundPacket>,
    overrun: Arc<AtomicU64>,
}

impl SoundSink for Queue {
    fn packet(&mut self, packet: SoundPacket) {
        if self.packets.try_send(packet).is_err() {
            self.overrun.fetch_add(1, Relaxed);
        }
    }
}

/// What the worker has to tell in the end.
pub struct SoundWorked {
    pub report: SoundReport,
    /// What could not be written.
    pub failure: Option<String>,
}

/// A running worker.
pub struct SoundWorker {
    thread: JoinHandle<SoundWorked>,
}

impl SoundWorker {
    /// Starts the thread and gives the sink that feeds it. `same_clock`: host and client read one clock, so that it can
    /// be said how old a sound is.
    pub fn start(
        layout: AudioLayout,
        outputs: SoundOutputs,
        same_clock: bool,
        control: Control,
    ) -> io::Result<(Self, Box<dyn SoundSink>)> {
        let (packets, received) = sync_channel(QUEUE);
        let overrun = Arc::new(AtomicU64::new(0));
        let queue = Queue { packets, overrun: overrun.clone() };
        let job = Job {
            layout,
            outputs: Open::new(outputs, layout).map_err(io::Error::other)?,
            decoder: SoundDecoder::new(layout).map_err(io::Error::other)?,
            tracker: Tracker::default(),
            timeline: Timeline::default(),
            left: LastSecond::default(),
            ages: same_clock.then(Histogram::default),
            decode_errors: 0,
            concealed: 0,
            filled_samples: 0,
        };
        let thread = Builder::new().name("sound".to_owned()).spawn(move || job.run(&received, &overrun, &control))?;
        Ok((Self { thread }, Box::new(queue)))
    }

    /// Waits until everything delivered has been worked off; the sink must be gone. None if the thread has died.
    pub fn finish(self) -> Option<SoundWorked> {
        self.thread.join().ok()
    }
}

struct Job {
    layout: AudioLayout,
    outputs: Open,
    decoder: SoundDecoder,
    tracker: Tracker,
    timeline: Timeline,
    left: LastSecond,
    /// Of packets, from their first sample to having been decoded.
    ages: Option<Histogram>,
    decode_errors: u64,
    concealed: u64,
    filled_samples: u64,
}

impl Job {
    fn run(mut self, packets: &Receiver<SoundPacket>, overrun: &AtomicU64, control: &Control) -> SoundWorked {
        let worked = packets.iter().try_for_each(|packet| self.packet(&packet));
        let report = self.report(overrun.load(Relaxed));
        // What there is of the files is completed even if the disk was full: the first trouble is the one to tell.
        let closed = self.outputs.close();
        let failure = worked.and(closed).err().inspect(|_| control.stop());
        SoundWorked { report, failure }
    }

    fn packet(&mut self, packet: &SoundPacket) -> Result<(), String> {
        let lost_before = match self.tracker.packet(packet.seq, packet.pts_ns, packet.received_ns) {
            Verdict::Play { lost_before } => u64::from(lost_before),
            Verdict::Late | Verdict::Duplicate => return Ok(()),
        };
        let missing = self.timeline.packet(packet.pts_ns, lost_before);
        for _ in 0..missing.concealed {
            self.concealed += 1;
            heard(self.decoder.conceal(), self.layout, &mut self.left, &mut self.outputs)?;
        }
        self.silence(missing.silent)?;

        let samples = match self.decoder.decode(&packet.opus) {
            Ok(samples) => samples,
            Err(_) => {
                self.decode_errors += 1;
                self.concealed += 1;
                self.decoder.conceal()
            }
        };
        let decoded_ns = monotonic_ns();
        heard(samples, self.layout, &mut self.left, &mut self.outputs)?;
        if let Some(ages) = &mut self.ages {
            ages.record(decoded_ns.saturating_sub(packet.pts_ns));
        }
        if !self.outputs.tracing() {
            return Ok(());
        }
        let mut peaks = [0.0_f32; lumen_core::audio::MAX_CHANNELS];
        let peaks = &mut peaks[..self.layout.channels()];
        for frame in samples.chunks_exact(peaks.len()) {
            for (peak, sample) in peaks.iter_mut().zip(frame) {
                *peak = peak.max(sample.abs());
            }
        }
        let SoundPacket { seq, pts_ns, received_ns, .. } = *packet;
        self.outputs.line(&TraceLine { seq, pts_ns, received_ns, decoded_ns, peak: peaks, lost_before })
    }

    fn silence(&mut self, samples: u64) -> Result<(), String> {
        self.filled_samples += samples;
        let silence = vec![0.0; FRAME_SAMPLES * self.layout.channels()];
        let mut left = samples as usize * self.layout.channels();
        while left > 0 {
            let part = left.min(silence.len());
            heard(&silence[..part], self.layout, &mut self.left, &mut self.outputs)?;
            left -= part;
        }
        Ok(())
    }

    fn report(&self, overrun: u64) -> SoundReport {
        let ms = |frames: u64| frames as f64 * 1e3 / f64::from(SAMPLE_RATE);
        let counts = self.tracker.counts();
        let jitter = self.tracker.jitter();
        let jitter_ms = |permille| jitter.quantile_ns(permille) as f64 / 1e6;
        SoundReport {
            channels: self.layout.channels(),
            received: counts.received,
            lost: counts.lost,
            late: counts.late,
            duplicates: counts.duplicates,
            decode_errors: self.decode_errors,
            overrun,
            concealed: self.concealed,
            filled_ms: ms(self.filled_samples),
            tone_hz: self.left.tone_hz(),
            jitter_ms: JitterMs { p50: jitter_ms(500), p99: jitter_ms(990) },
            capture_to_decoded_us: self.ages.as_ref().and_then(quantiles),
            playback: self.outputs.played().map(|counts| Playback {
                underruns: counts.underruns,
                played_ms: ms(counts.played_frames),
                skipped_ms: ms(counts.skipped_frames),
            }),
        }
    }
}

/// Samples on their way out; the left channel is remembered.
fn heard(samples: &[f32], layout: AudioLayout, left: &mut LastSecond, outputs: &mut Open) -> Result<(), String> {
    left.push(samples.iter().copied().step_by(layout.channels()));
    outputs.samples(samples)
}
