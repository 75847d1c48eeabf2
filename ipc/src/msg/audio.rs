//! What lumend and the audio plane say to each other.

use lumen_core::AudioLayout;
use lumen_core::audio::PacketTime;
use serde::{Deserialize, Serialize};

use super::{Generation, Hello, Leaving, RingFds, SessionId};

/// Whose sound is captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SinkChoice {
    /// The monitor of the default sink if there is a sink, else one of our own.
    Auto,
    /// The monitor of the default sink, whatever it becomes.
    Monitor,
    /// A sink of our own, made the default while the plane lives.
    Own,
}

/// What a plane changed, and how to put it back. lumend has it on disk before the change is made.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct DefaultSink {
    /// Node name of the sink that was made the default. The default is put back only while it is this one.
    pub ours: String,
    /// The configured default before, if there was one.
    pub previous: Option<String>,
}

/// A session's share of audio: a PipeWire connection that nobody has spoken on yet, producer end of the audio ring.
#[derive(Debug, Serialize, Deserialize)]
pub struct AudioWiring<F> {
    pub session: SessionId,
    /// Of the session's audio branch alone.
    pub generation: Generation,
    pub layout: AudioLayout,
    pub packet: PacketTime,
    pub bitrate_kbps: u32,
    /// Applied before encoding, in tenths of a decibel.
    pub gain_decibels_tenths: i16,
    pub sink: SinkChoice,
    pub pipewire: F,
    pub ring: RingFds<F>,
    /// What dead planes have left changed: to be put back first, each answered with `Undone`.
    pub undo: Vec<DefaultSink>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToAudio<F> {
    Ping(u64),
    /// Capture, encode and fill the ring. Once in a plane's life.
    Wire(AudioWiring<F>),
    /// The network plane at the other end of the ring has been replaced: fill this one from now on, from number 0. What
    /// the plane has set up stands. Answered with `Wired`.
    Ring {
        generation: Generation,
        ring: RingFds<F>,
    },
    /// Put back what dead planes have changed: the only order of a plane that was started just for it.
    Undo {
        pipewire: F,
        records: Vec<DefaultSink>,
    },
    /// The record of the last `Record` is on disk: go ahead.
    Recorded {
        /// What to put back at the end: that of the record, unless lumend knows better. A plane that finds its own sink
        /// as the default does not know what was before.
        previous: Option<String>,
    },
    Retire {
        generation: Generation,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FromAudio {
    Hello(Hello),
    Pong(u64),
    /// About to change the default sink; waits for `Recorded`. One at a time.
    Record(DefaultSink),
    /// The default is no longer this plane's or dead plane's sink: the record can be forgotten. Names `ours`.
    Undone(String),
    /// Sound is being captured.
    Wired {
        generation: Generation,
        /// "pipewire 0.3.65", for people.
        backend: String,
        /// The sink: "Lumen", or what the desktop calls its own.
        sink: String,
    },
    Failed {
        generation: Generation,
        reason: String,
    },
    Stats {
        generation: Generation,
        stats: AudioStats,
    },
    Leaving(Leaving),
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AudioStats {
    /// Packets put into the ring since the generation began.
    pub packets: u64,
    /// Of those, made of silence because nothing was playing or PipeWire was late.
    pub silent: u64,
    /// Packets for which the ring had no credit.
    pub dropped: u64,
    /// Times samples were thrown away because they came faster than slots.
    pub overruns: u64,
    /// Samples a PipeWire cycle brings, as last seen.
    pub quantum: u32,
    /// Microseconds from a sample's arrival to its packet's, at p50.
    pub wait_us: u32,
}

impl<F> AudioWiring<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<AudioWiring<G>, E> {
        Ok(AudioWiring {
            session: self.session,
            generation: self.generation,
            layout: self.layout,
            packet: self.packet,
            bitrate_kbps: self.bitrate_kbps,
            gain_decibels_tenths: self.gain_decibels_tenths,
            sink: self.sink,
            pipewire: map(self.pipewire)?,
            ring: self.ring.map_fds(map)?,
            undo: self.undo,
        })
    }
}

impl<F> ToAudio<F> {
    /// Turns every descriptor `F` into a `G`; stops at the first error.
    pub fn map_fds<G, E>(self, map: &mut impl FnMut(F) -> Result<G, E>) -> Result<ToAudio<G>, E> {
        Ok(match self {
            Self::Ping(number) => ToAudio::Ping(number),
            Self::Wire(wiring) => ToAudio::Wire(wiring.map_fds(map)?),
            Self::Ring { generation, ring } => ToAudio::Ring { generation, ring: ring.map_fds(map)? },
            Self::Undo { pipewire, records } => ToAudio::Undo { pipewire: map(pipewire)?, records },
            Self::Recorded { previous } => ToAudio::Recorded { previous },
            Self::Retire { generation } => ToAudio::Retire { generation },
        })
    }
}
