//! What the planes report of themselves, kept for whoever asks.

use std::collections::VecDeque;

use ipc::{AudioStats, CaptureStats, EncodeStats, Generation, InputBackends, InputStats, SessionStats};

const SECOND: u64 = 1_000_000_000;

/// Rates are over about this long.
const WINDOW: u64 = 2 * SECOND;
/// Without a report for so long, nothing is being sent.
const STALE: u64 = 3 * SECOND;

/// Counters that begin anew with each generation, summed over all of them.
#[derive(Clone, Copy, Default, Debug)]
struct Summed<S> {
    /// Of the generations before `generation`.
    before: S,
    generation: u32,
    now: S,
}

impl<S: Copy> Summed<S> {
    fn report(&mut self, generation: Generation, stats: S, add: fn(S, S) -> S) {
        if generation.0 > self.generation {
            self.before = add(self.before, self.now);
            self.generation = generation.0;
        }
        if generation.0 == self.generation {
            self.now = stats;
        }
    }
}

fn add_capture(a: CaptureStats, b: CaptureStats) -> CaptureStats {
    CaptureStats { captured: a.captured.saturating_add(b.captured), skipped: a.skipped.saturating_add(b.skipped) }
}

fn add_encode(a: EncodeStats, b: EncodeStats) -> EncodeStats {
    EncodeStats {
        encoded: a.encoded.saturating_add(b.encoded),
        idr: a.idr.saturating_add(b.idr),
        still: a.still.saturating_add(b.still),
        oversize: a.oversize.saturating_add(b.oversize),
        bytes: a.bytes.saturating_add(b.bytes),
    }
}

/// What is of the moment, and not a counter, is the newer's.
fn add_audio(a: AudioStats, b: AudioStats) -> AudioStats {
    AudioStats {
        packets: a.packets.saturating_add(b.packets),
        silent: a.silent.saturating_add(b.silent),
        dropped: a.dropped.saturating_add(b.dropped),
        overruns: a.overruns.saturating_add(b.overruns),
        quantum: b.quantum,
        wait_us: b.wait_us,
    }
}

fn add_input(a: InputStats, b: InputStats) -> InputStats {
    InputStats {
        events: a.events.saturating_add(b.events),
        forbidden: a.forbidden.saturating_add(b.forbidden),
        unsupported: a.unsupported.saturating_add(b.unsupported),
        healed: a.healed.saturating_add(b.healed),
        pads: b.pads,
        rumbles: a.rumbles.saturating_add(b.rumbles),
        wait_p50_us: b.wait_p50_us,
        wait_p99_us: b.wait_p99_us,
    }
}

/// What is no counter is the newer's.
fn add_net(a: SessionStats, b: SessionStats) -> SessionStats {
    SessionStats {
        frames: a.frames.saturating_add(b.frames),
        packets: a.packets.saturating_add(b.packets),
        parity_packets: a.parity_packets.saturating_add(b.parity_packets),
        bytes: a.bytes.saturating_add(b.bytes),
        rejected: a.rejected.saturating_add(b.rejected),
        audio_packets: a.audio_packets.saturating_add(b.audio_packets),
        audio_dropped: a.audio_dropped.saturating_add(b.audio_dropped),
        input_events: a.input_events.saturating_add(b.input_events),
        input_rejected: a.input_rejected.saturating_add(b.input_rejected),
        input_coalesced: a.input_coalesced.saturating_add(b.input_coalesced),
        rumbles: a.rumbles.saturating_add(b.rumbles),
        ..b
    }
}

/// Where a session's sound comes from, in words.
#[derive(Clone, Default, Debug)]
pub struct SoundSource {
    pub backend: String,
    pub sink: String,
}

/// One session's reports.
#[derive(Clone, Default, Debug)]
pub struct Book {
    capture: Summed<CaptureStats>,
    encode: Summed<EncodeStats>,
    /// Of the network planes and connections before this.
    net_before: SessionStats,
    net: SessionStats,
    /// The encoder's name, once one has answered.
    pub encoder: String,
    audio: Summed<AudioStats>,
    input: Summed<InputStats>,
    /// None until the session's audio plane has answered; the same of its input plane.
    pub sound: Option<SoundSource>,
    pub hands: Option<InputBackends>,
    /// Time, frames and bytes of recent reports, oldest first.
    samples: VecDeque<(u64, u64, u64)>,
}

impl Book {
    pub fn capture_reports(&mut self, generation: Generation, stats: CaptureStats) {
        self.capture.report(generation, stats, add_capture);
    }

    pub fn encode_reports(&mut self, generation: Generation, stats: EncodeStats) {
        self.encode.report(generation, stats, add_encode);
    }

    /// Counted by the branch's own generations.
    pub fn audio_reports(&mut self, generation: Generation, stats: AudioStats) {
        self.audio.report(generation, stats, add_audio);
    }

    /// Counted by the branch's own generations.
    pub fn input_reports(&mut self, generation: Generation, stats: InputStats) {
        self.input.report(generation, stats, add_input);
    }

    /// The client has come back: net counts from 0 once more.
    pub fn net_begins_anew(&mut self) {
        self.net_before = self.net;
    }

    pub fn net_reports(&mut self, now: u64, stats: SessionStats) {
        self.net = add_net(self.net_before, stats);
        while self.samples.get(1).is_some_and(|&(at, ..)| now.saturating_sub(at) >= WINDOW) {
            self.samples.pop_front();
        }
        // A plane that reports more often than it should costs its own accuracy, not lumend's memory.
        if self.samples.len() >= 32 {
            self.samples.pop_front();
        }
        self.samples.push_back((now, self.net.frames, self.net.bytes));
    }

    /// Since the session began.
    pub fn capture(&self) -> CaptureStats {
        add_capture(self.capture.before, self.capture.now)
    }

    /// Since the session began.
    pub fn encode(&self) -> EncodeStats {
        add_encode(self.encode.before, self.encode.now)
    }

    /// Since the session began.
    pub fn audio(&self) -> AudioStats {
        add_audio(self.audio.before, self.audio.now)
    }

    /// Since the session began.
    pub fn input(&self) -> InputStats {
        add_input(self.input.before, self.input.now)
    }

    pub fn net(&self) -> &SessionStats {
        &self.net
    }

    /// Frames a second and kilobits a second (of UDP payload, parity included) sent of late.
    pub fn rates(&self, now: u64) -> (f64, u64) {
        match (self.samples.front(), self.samples.back()) {
            (Some(&(from, frames, bytes)), Some(&(to, frames_now, bytes_now)))
                if to > from && now.saturating_sub(to) < STALE =>
            {
                let seconds = (to - from) as f64 / SECOND as f64;
                let fps = frames_now.saturating_sub(frames) as f64 / seconds;
                let kbps = bytes_now.saturating_sub(bytes) as f64 * 8.0 / 1000.0 / seconds;
                ((fps * 10.0).round() / 10.0, kbps.round() as u64)
            }
            _ => (0.0, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_go_on_over_generations() {
        let mut book = Book::default();
        let stats = |captured| CaptureStats { captured, skipped: captured / 10 };
        book.capture_reports(Generation(1), stats(50));
        book.capture_reports(Generation(1), stats(100));
        book.capture_reports(Generation(2), stats(30));
        book.capture_reports(Generation(1), stats(7000));
        assert_eq!(book.capture(), CaptureStats { captured: 130, skipped: 13 });

        let stats = |packets, quantum| AudioStats { packets, quantum, ..AudioStats::default() };
        book.audio_reports(Generation(1), stats(200, 1024));
        book.audio_reports(Generation(2), stats(50, 256));
        assert_eq!(book.audio(), stats(250, 256), "what is of the moment is not summed");
        let stats = |events, pads| InputStats { events, pads, ..InputStats::default() };
        book.input_reports(Generation(1), stats(9, 2));
        book.input_reports(Generation(3), stats(1, 1));
        assert_eq!(book.input(), stats(10, 1));
    }

    #[test]
    fn a_client_that_comes_back_is_counted_on() {
        let mut book = Book::default();
        let stats = |frames, loss_permille| SessionStats { frames, loss_permille, ..SessionStats::default() };
        book.net_reports(SECOND, stats(60, 5));
        book.net_begins_anew();
        book.net_reports(2 * SECOND, stats(30, 0));
        book.net_reports(3 * SECOND, stats(90, 1));
        assert_eq!(book.net(), &stats(150, 1));
        assert_eq!(book.rates(3 * SECOND).0, 45.0, "90 frames in the last two seconds, half of them without a client");
    }

    #[test]
    fn rates_follow_the_last_seconds() {
        let mut book = Book::default();
        assert_eq!(book.rates(0), (0.0, 0));
        for second in 0..10u64 {
            // 30 frames a second at first, then 60, at 1 Mbit/s.
            let frames = if second < 5 { second * 30 } else { 150 + (second - 5) * 60 };
            let stats = SessionStats { frames, bytes: second * 125_000, ..SessionStats::default() };
            book.net_reports(second * SECOND, stats);
        }
        assert_eq!(book.rates(9 * SECOND), (60.0, 1000));
        assert_eq!(book.rates(13 * SECOND), (0.0, 0), "silence is not speed");
    }
}
