//! Known sound: what `tone` plays, and how a recording is told from it.

use std::f32::consts::TAU;
use std::fs::File;
use std::io::Write;

use anyhow::{Context, Result, bail};
use ipc::event::now_ns;
use pipewire::context::ContextRc;
use pipewire::keys;
use pipewire::main_loop::MainLoopRc;
use pipewire::properties::properties;
use pipewire::spa::param::audio::{AudioFormat, AudioInfoRaw, MAX_CHANNELS};
use pipewire::spa::pod::serialize::PodSerializer;
use pipewire::spa::pod::{Object, Pod, Value};
use pipewire::spa::sys;
use pipewire::spa::utils::Direction;
use pipewire::stream::{StreamFlags, StreamRc};

/// Samples a second.
pub const RATE: u32 = 48_000;
/// Samples from the beginning of one pulse to the next.
pub const PULSE_EVERY: u64 = RATE as u64 / 2;
/// Samples of a pulse.
pub const PULSE_SAMPLES: u64 = RATE as u64 / 200;
/// What a program that cares for latency asks for: 256 samples a cycle.
const LATENCY: &str = "256/48000";

/// What is played.
#[derive(Clone, Copy, Debug)]
pub struct Melody {
    /// Of the first channel.
    pub hz: f32,
    /// Added for each further channel.
    pub step_hz: f32,
    pub level: f32,
}

impl Melody {
    /// Frequency of a channel, from 0.
    pub fn hz_of(&self, channel: usize) -> f32 {
        self.hz + self.step_hz * channel as f32
    }

    /// One sample; `time` counts samples. Exact for any length: the phase is taken from whole periods, not summed up.
    fn sample(&self, time: u64, channel: usize) -> f32 {
        let turns = time as f64 * f64::from(self.hz_of(channel)) / f64::from(RATE);
        self.level * (TAU * turns.fract() as f32).sin()
    }
}

/// A playback stream on the default sink.
pub struct Player {
    main_loop: MainLoopRc,
    stream: StreamRc,
    score: Option<Score>,
    channels: u32,
}

/// What the stream's callback needs.
struct Score {
    melody: Melody,
    channels: usize,
    time: u64,
    pulses: Option<File>,
}

impl Player {
    /// Connects to the sound server of the environment.
    ///
    /// # Errors
    /// There is none, or the channels are neither 2 nor 6.
    pub fn open(melody: Melody, channels: u32, pulses: Option<File>) -> Result<Self> {
        if channels != 2 && channels != 6 {
            bail!("{channels} channels: 2 and 6 are known");
        }
        pipewire::init();
        let main_loop = MainLoopRc::new(None)?;
        let context = ContextRc::new(&main_loop, None)?;
        let core = context.connect_rc(None).context("no PipeWire answers in PIPEWIRE_RUNTIME_DIR")?;
        let stream = StreamRc::new(
            core,
            "tone",
            properties! {
                *keys::MEDIA_TYPE => "Audio",
                *keys::MEDIA_CATEGORY => "Playback",
                *keys::MEDIA_ROLE => "Game",
                *keys::NODE_NAME => "tone",
                *keys::NODE_LATENCY => LATENCY,
            },
        )?;
        let score = Score { melody, channels: channels as usize, time: 0, pulses };
        Ok(Self { main_loop, stream, score: Some(score), channels })
    }

    /// Plays until the process is stopped.
    ///
    /// # Errors
    /// PipeWire refuses the stream.
    pub fn play(mut self) -> Result<()> {
        let score = self.score.take().context("a player plays once")?;
        let quit = self.main_loop.clone();
        let _listener = self
            .stream
            .add_local_listener_with_user_data(score)
            .state_changed(move |_, _, _, new| {
                if let pipewire::stream::StreamState::Error(reason) = new {
                    eprintln!("tone: {reason}");
                    quit.quit();
                }
            })
            .process(|stream, score| {
                let Some(mut buffer) = stream.dequeue_buffer() else { return };
                let wanted = buffer.requested();
                let Some(data) = buffer.datas_mut().first_mut() else { return };
                let bytes = data.data().map_or(0, |slice| score.fill(slice, wanted));
                let chunk = data.chunk_mut();
                *chunk.offset_mut() = 0;
                *chunk.stride_mut() = 4 * score.channels as i32;
                *chunk.size_mut() = bytes as u32;
            })
            .register()?;
        let format = format(self.channels)?;
        let mut parameters = [Pod::from_bytes(&format).context("the format is no pod")?];
        self.stream.connect(
            Direction::Output,
            None,
            StreamFlags::AUTOCONNECT | StreamFlags::MAP_BUFFERS | StreamFlags::RT_PROCESS,
            &mut parameters,
        )?;
        self.main_loop.run();
        Ok(())
    }
}

impl Score {
    /// Writes the next samples, at most as many as PipeWire wants now; returns their bytes.
    fn fill(&mut self, slice: &mut [u8], wanted: u64) -> usize {
        let frame = 4 * self.channels;
        let room = slice.len() / frame;
        let frames = if wanted == 0 { room } else { room.min(wanted as usize) };
        let now = now_ns();
        for samples in slice.chunks_exact_mut(frame).take(frames) {
            let beat = self.time % PULSE_EVERY;
            let sounding = self.pulses.is_none() || beat < PULSE_SAMPLES;
            if beat == 0
                && let Some(log) = &mut self.pulses
            {
                // The log is short and on a memory file system; a stall here would only be measured as latency.
                let _ = writeln!(log, "{now} {frames}");
            }
            for (channel, bytes) in samples.chunks_exact_mut(4).enumerate() {
                let value = if sounding { self.melody.sample(self.time, channel) } else { 0.0 };
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            self.time += 1;
        }
        frames * frame
    }
}

/// 32-bit floats, FL FR or FL FR FC LFE RL RR.
fn format(channels: u32) -> Result<Vec<u8>> {
    let mut info = AudioInfoRaw::new();
    info.set_format(AudioFormat::F32LE);
    info.set_rate(RATE);
    info.set_channels(channels);
    let mut positions = [0; MAX_CHANNELS];
    let names = [
        sys::SPA_AUDIO_CHANNEL_FL,
        sys::SPA_AUDIO_CHANNEL_FR,
        sys::SPA_AUDIO_CHANNEL_FC,
        sys::SPA_AUDIO_CHANNEL_LFE,
        sys::SPA_AUDIO_CHANNEL_RL,
        sys::SPA_AUDIO_CHANNEL_RR,
    ];
    for (position, name) in positions.iter_mut().zip(names).take(channels as usize) {
        *position = name;
    }
    info.set_position(positions);
    let object = Value::Object(Object {
        type_: sys::SPA_TYPE_OBJECT_Format,
        id: sys::SPA_PARAM_EnumFormat,
        properties: info.into(),
    });
    let (bytes, _) = PodSerializer::serialize(std::io::Cursor::new(Vec::new()), &object)?;
    Ok(bytes.into_inner())
}
