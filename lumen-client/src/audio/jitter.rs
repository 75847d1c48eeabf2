//! The buffer between packets that come when they come and a sound card that takes what it takes.

use std::collections::VecDeque;

use lumen_core::audio::{FRAME_SAMPLES, SAMPLE_RATE};

/// Frames (samples of every channel) of a millisecond.
const MS: usize = SAMPLE_RATE as usize / 1000;
/// What is held back before the first sample sounds.
const START: usize = 15 * MS;
/// An underrun holds back that much more, up to the most.
const STEP: usize = FRAME_SAMPLES;
const MOST: usize = 120 * MS;
/// A burst may lie above what is held back by this before some is thrown away.
const BURST: usize = 40 * MS;
/// A buffer that has never been emptier than one packet for this long holds too much.
const CALM: usize = 10 * SAMPLE_RATE as usize;

/// What playing cost; frames are samples of every channel.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PlayCounts {
    /// Times the sound broke off because there was too little, and went on later.
    pub underruns: u64,
    /// Thrown away, because they would have come too late.
    pub skipped_frames: u64,
    pub played_frames: u64,
}

/// Grows when it runs dry and shrinks when it has been needlessly full.
#[derive(Debug)]
pub struct JitterBuffer {
    channels: usize,
    queue: VecDeque<f32>,
    /// Frames to gather before sound begins.
    target: usize,
    sounding: bool,
    /// It broke off; that is an underrun only if it goes on, else it was the end.
    dry: bool,
    /// Frames taken since, and the fewest that were left, as long as it has been calm.
    taken: usize,
    fewest: usize,
    counts: PlayCounts,
}

impl JitterBuffer {
    pub fn new(channels: usize) -> Self {
        let counts = PlayCounts::default();
        Self {
            channels,
            queue: VecDeque::new(),
            target: START,
            sounding: false,
            dry: false,
            taken: 0,
            fewest: usize::MAX,
            counts,
        }
    }

    /// Frames that wait.
    pub fn level(&self) -> usize {
        self.queue.len() / self.channels
    }

    pub fn counts(&self) -> PlayCounts {
        self.counts
    }

    /// Adds interleaved samples.
    pub fn push(&mut self, samples: &[f32]) {
        self.queue.extend(samples);
        if self.level() > self.target + BURST {
            self.skip(self.level() - self.target);
        }
    }

    /// Fills `out` with interleaved samples, or with silence where there are none.
    pub fn pull(&mut self, out: &mut [f32]) {
        let wanted = out.len() / self.channels;
        // A card that takes more at a time than is held back would always find too little.
        self.sounding |= self.level() >= self.target.max(wanted);
        if !self.sounding {
            out.fill(0.0);
            return;
        }
        self.counts.underruns += u64::from(std::mem::take(&mut self.dry));
        let there = self.queue.len().min(out.len());
        for (place, sample) in out.iter_mut().zip(self.queue.drain(..there)) {
            *place = sample;
        }
        out[there..].fill(0.0);
        self.counts.played_frames += (there / self.channels) as u64;
        if there < out.len() {
            (self.sounding, self.dry) = (false, true);
            self.target = (self.target + STEP).min(MOST);
            (self.taken, self.fewest) = (0, usize::MAX);
            return;
        }
        self.taken += wanted;
        self.fewest = self.fewest.min(self.level());
        if self.taken >= CALM {
            if self.fewest > STEP {
                self.skip(STEP);
                self.target = self.target.saturating_sub(STEP).max(START);
            }
            (self.taken, self.fewest) = (0, usize::MAX);
        }
    }

    fn skip(&mut self, frames: usize) {
        self.queue.drain(..(frames * self.channels).min(self.queue.len()));
        self.counts.skipped_frames += frames as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNELS: usize = 2;

    fn buffer() -> JitterBuffer {
        JitterBuffer::new(CHANNELS)
    }

    fn packet(number: usize) -> Vec<f32> {
        vec![number as f32; FRAME_SAMPLES * CHANNELS]
    }

    fn pull(buffer: &mut JitterBuffer, frames: usize) -> Vec<f32> {
        let mut out = vec![-1.0; frames * CHANNELS];
        buffer.pull(&mut out);
        out
    }

    #[test]
    fn waits_for_a_little_and_then_plays_all_in_order() {
        let mut buffer = buffer();
        for number in 1..=2 {
            buffer.push(&packet(number));
            assert!(pull(&mut buffer, FRAME_SAMPLES).iter().all(|&sample| sample == 0.0), "not yet");
        }
        for number in 3..=100 {
            buffer.push(&packet(number));
            assert_eq!(pull(&mut buffer, FRAME_SAMPLES), packet(number - 2));
        }
        let counts = PlayCounts { underruns: 0, skipped_frames: 0, played_frames: 98 * FRAME_SAMPLES as u64 };
        assert_eq!(buffer.counts(), counts);
    }

    #[test]
    fn running_dry_holds_back_more() {
        let mut buffer = buffer();
        for number in 0..3 {
            buffer.push(&packet(number));
        }
        let out = pull(&mut buffer, 4 * FRAME_SAMPLES);
        assert!(out.iter().all(|&sample| sample == 0.0), "the card wants more than there is: wait");
        buffer.push(&packet(3));
        pull(&mut buffer, 4 * FRAME_SAMPLES);
        assert_eq!((buffer.level(), buffer.counts().underruns), (0, 0));
        pull(&mut buffer, FRAME_SAMPLES);
        pull(&mut buffer, FRAME_SAMPLES);
        assert_eq!(buffer.counts().underruns, 0, "it may have been the end");
        // Three packets were enough before, four are now.
        for number in 0..3 {
            buffer.push(&packet(number));
            assert!(pull(&mut buffer, FRAME_SAMPLES).iter().all(|&sample| sample == 0.0));
        }
        buffer.push(&packet(3));
        assert_eq!(pull(&mut buffer, FRAME_SAMPLES), packet(0));
        assert_eq!(buffer.counts().underruns, 1);
    }

    #[test]
    fn a_flood_is_cut_and_a_calm_buffer_shrinks() {
        let mut buffer = buffer();
        for number in 0..1000 {
            buffer.push(&packet(number));
            assert!(buffer.level() <= START + BURST);
        }
        assert!(buffer.counts().skipped_frames > 900 * FRAME_SAMPLES as u64);
        // Whatever is too much goes in steps, while as much comes as is taken.
        for number in 0..20 * CALM / FRAME_SAMPLES {
            buffer.push(&packet(number));
            pull(&mut buffer, FRAME_SAMPLES);
        }
        assert!(buffer.level() <= 2 * STEP, "{} frames", buffer.level());
        assert_eq!(buffer.counts().underruns, 0);
    }
}
