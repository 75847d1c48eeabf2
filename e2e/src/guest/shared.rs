//! What the threads of a stream write down, and how it ended.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Error;

use super::audio::{self, RATE};
use super::video::frame::Frame;
use super::video::queue;
use super::video::show::Shown;

/// Pictures and frames that are remembered: ten minutes at 60 Hz.
const REMEMBERED: usize = 36_000;
/// Seconds of sound that are remembered, of each channel.
const SECONDS: usize = 4;
/// Decoding errors that are told in words.
const TOLD: usize = 10;

/// How a stream ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// This client left, and the host has said goodbye to it.
    Left,
    /// This client left, and the host did not answer.
    Unanswered,
    /// The host ended it, and said with which code.
    Terminated(u32),
    /// The host ended it without a word, or is gone.
    Disconnected,
    Failed(String),
}

/// What the host says to a pad's motors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rumble {
    pub pad: u16,
    pub low: u16,
    pub high: u16,
}

/// When a frame was whole.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub frame: u32,
    pub whole_ns: u64,
    pub host_latency: Option<u16>,
    /// A person saw it, or would have.
    pub is_good: bool,
}

#[derive(Clone, Default, Debug)]
pub struct Video {
    pub counts: queue::Counts,
    /// Packets that were lost on purpose.
    pub dropped: u64,
    /// Packets that are still to be lost on purpose, one after the other.
    pub burst: u32,
    pub not_authentic: u64,
    pub idr_requests: u64,
    pub decode_errors: u64,
    /// Frames that came faster than they could be decoded.
    pub undecoded: u64,
    pub told: Vec<String>,
    pub arrivals: Vec<Arrival>,
    pub pictures: Vec<Shown>,
}

impl Video {
    pub(super) fn frame(&mut self, whole_ns: u64, frame: &Frame, is_good: bool) {
        if self.arrivals.len() < REMEMBERED {
            let (frame, host_latency) = (frame.number, frame.host_latency);
            self.arrivals.push(Arrival { frame, whole_ns, host_latency, is_good });
        }
    }

    /// One packet of a burst that is to be lost.
    pub(super) fn strikes(&mut self) -> bool {
        let strikes = self.burst > 0;
        self.burst = self.burst.saturating_sub(1);
        strikes
    }

    pub(super) fn shown(&mut self, shown: Shown) {
        if self.pictures.len() < REMEMBERED {
            self.pictures.push(shown);
        }
    }

    pub(super) fn failed(&mut self, frame: u32, error: &Error) {
        self.decode_errors += 1;
        if self.told.len() < TOLD {
            self.told.push(format!("frame {frame}: {error:#}"));
        }
    }
}

#[derive(Clone, Default, Debug)]
pub struct Audio {
    pub counts: audio::queue::Counts,
    pub dropped: u64,
    pub decode_errors: u64,
    pub decoded: u64,
    pub concealed: u64,
    /// The last seconds of each channel.
    pub channels: Vec<VecDeque<f32>>,
}

impl Audio {
    pub(super) fn samples(&mut self, samples: &[f32], channels: usize, is_heard: bool) {
        match is_heard {
            true => self.decoded += 1,
            false => self.concealed += 1,
        }
        self.channels.resize(channels, VecDeque::new());
        for (channel, kept) in self.channels.iter_mut().enumerate() {
            kept.extend(samples.iter().skip(channel).step_by(channels));
            let surplus = kept.len().saturating_sub(SECONDS * RATE as usize);
            kept.drain(..surplus);
        }
    }

    /// The last second of a channel; none if there is less.
    pub fn last_second(&self, channel: usize) -> Option<Vec<f32>> {
        let kept = self.channels.get(channel)?;
        let from = kept.len().checked_sub(RATE as usize)?;
        Some(kept.iter().skip(from).copied().collect())
    }
}

#[derive(Clone, Default, Debug)]
pub struct Control {
    pub messages: u64,
    pub not_authentic: u64,
    pub rumble: Vec<Rumble>,
    /// Types of other messages.
    pub others: Vec<u16>,
}

#[derive(Default)]
struct Inside {
    video: Video,
    audio: Audio,
    control: Control,
    ended: Option<Ended>,
}

/// Of all threads of a stream.
#[derive(Default)]
pub struct Shared {
    inside: Mutex<Inside>,
    over: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn video<T>(&self, act: impl FnOnce(&mut Video) -> T) -> T {
        act(&mut self.lock().video)
    }

    pub(super) fn audio<T>(&self, act: impl FnOnce(&mut Audio) -> T) -> T {
        act(&mut self.lock().audio)
    }

    pub(super) fn control<T>(&self, act: impl FnOnce(&mut Control) -> T) -> T {
        act(&mut self.lock().control)
    }

    pub(super) fn end(&self, ended: Ended) {
        self.lock().ended.get_or_insert(ended);
        self.over.notify_all();
    }

    pub(super) fn is_over(&self) -> bool {
        self.lock().ended.is_some()
    }

    /// How it ended, waiting at most this long for it.
    pub(super) fn ended(&self, limit: Duration) -> Option<Ended> {
        let waiting = self.over.wait_timeout_while(self.lock(), limit, |inside| inside.ended.is_none());
        waiting.unwrap_or_else(PoisonError::into_inner).0.ended.clone()
    }
}
