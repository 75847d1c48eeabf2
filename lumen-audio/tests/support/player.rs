//! A program that plays: a sine on each channel, or pulses whose times it tells.

use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use ipc::event::now_ns;
use lumen_core::audio::SAMPLE_RATE;
use pipewire::context::ContextRc;
use pipewire::main_loop::MainLoopRc;
use pipewire::properties::properties;
use pipewire::spa::param::ParamType;
use pipewire::spa::param::audio::{AudioFormat, AudioInfoRaw};
use pipewire::spa::pod::serialize::PodSerializer;
use pipewire::spa::pod::{Object, Pod, Value};
use pipewire::spa::sys as spa;
use pipewire::spa::utils::{Direction, SpaTypes};
use pipewire::stream::{Stream, StreamFlags, StreamRc};

/// What is played.
#[derive(Clone, Debug)]
pub enum Score {
    /// One frequency in hertz for each channel, at amplitude 0.5.
    Tones(Vec<f32>),
    /// On two channels, one full-scale sample at the beginning of a cycle, this many milliseconds apart.
    Pulses(u32),
}

const ORDER: [u32; 8] = [
    spa::SPA_AUDIO_CHANNEL_FL,
    spa::SPA_AUDIO_CHANNEL_FR,
    spa::SPA_AUDIO_CHANNEL_FC,
    spa::SPA_AUDIO_CHANNEL_LFE,
    spa::SPA_AUDIO_CHANNEL_RL,
    spa::SPA_AUDIO_CHANNEL_RR,
    spa::SPA_AUDIO_CHANNEL_SL,
    spa::SPA_AUDIO_CHANNEL_SR,
];

/// Plays to the default sink until it is dropped.
pub struct Player {
    stop: pipewire::channel::Sender<()>,
    /// CLOCK_MONOTONIC nanoseconds at which each pulse was written.
    pub pulses: Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

impl Player {
    pub fn start(socket: OwnedFd, score: Score) -> Self {
        let (stop, stopped) = pipewire::channel::channel();
        let (played, pulses) = mpsc::channel();
        let thread = std::thread::spawn(move || play(socket, score, stopped, played));
        Self { stop, pulses, thread: Some(thread) }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        let _ = self.stop.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn play(socket: OwnedFd, score: Score, stopped: pipewire::channel::Receiver<()>, played: Sender<u64>) {
    pipewire::init();
    let main_loop = MainLoopRc::new(None).unwrap();
    let context = ContextRc::new(&main_loop, None).unwrap();
    let core = context.connect_fd_rc(socket, None).unwrap();
    let stream = StreamRc::new(
        core,
        "player",
        properties! {
            "media.type" => "Audio", "media.category" => "Playback", "media.role" => "Test",
            "node.name" => "player", "node.latency" => "256/48000",
        },
    )
    .unwrap();
    let channels = match &score {
        Score::Tones(hertz) => hertz.len(),
        Score::Pulses(_) => 2,
    };
    let mut at = 0u64;
    let listener = stream
        .add_local_listener::<()>()
        .process(move |stream, ()| write(stream, &score, channels, &mut at, &played))
        .register()
        .unwrap();
    let format = format(channels);
    stream
        .connect(
            Direction::Output,
            None,
            StreamFlags::AUTOCONNECT | StreamFlags::MAP_BUFFERS | StreamFlags::RT_PROCESS,
            &mut [Pod::from_bytes(&format).unwrap()],
        )
        .unwrap();
    let quit = main_loop.clone();
    let _attached = stopped.attach(main_loop.loop_(), move |()| quit.quit());
    main_loop.run();
    let _ = stream.disconnect();
    drop(listener);
}

fn write(stream: &Stream, score: &Score, channels: usize, at: &mut u64, played: &Sender<u64>) {
    let now = now_ns();
    // SAFETY: a buffer of this stream or null; it goes back below, or `Buffer` returns it.
    let raw = unsafe { stream.dequeue_raw_buffer() };
    // SAFETY: null was not returned, and the buffer stays ours until it is queued.
    let Some(cycle) = (!raw.is_null()).then(|| unsafe { (*raw).requested as usize }) else { return };
    // SAFETY: as above; whoever gets it next is the graph.
    unsafe { fill(&mut *raw, cycle, now, score, channels, at, played) };
    // SAFETY: dequeued above, from the same stream.
    unsafe { stream.queue_raw_buffer(raw) };
}

/// Fills one buffer with a cycle's worth, which the graph names; the buffer itself holds many cycles.
///
/// # Safety
/// The buffer is dequeued, and its first data block mapped.
unsafe fn fill(
    buffer: &mut pipewire::sys::pw_buffer,
    cycle: usize,
    now: u64,
    score: &Score,
    channels: usize,
    at: &mut u64,
    played: &Sender<u64>,
) {
    // SAFETY: the caller's promise; `Data` is a transparent wrapper of the block.
    let data = unsafe { &mut *(*buffer.buffer).datas.cast::<pipewire::spa::buffer::Data>() };
    let Some(bytes) = data.data() else { return };
    let room = bytes.len() / 4 / channels;
    let frames = if cycle > 0 { room.min(cycle) } else { room.min(256) };
    for frame in 0..frames {
        for channel in 0..channels {
            let sample = match score {
                Score::Tones(hertz) => {
                    let turns = (*at + frame as u64) as f64 * f64::from(hertz[channel]) / f64::from(SAMPLE_RATE);
                    ((turns.fract() * std::f64::consts::TAU).sin() * 0.5) as f32
                }
                Score::Pulses(milliseconds) => {
                    let period = u64::from(*milliseconds) * u64::from(SAMPLE_RATE) / 1000;
                    let begins = frame == 0 && *at / period != (*at + frames as u64) / period;
                    f32::from(u8::from(begins))
                }
            };
            let place = (frame * channels + channel) * 4;
            bytes[place..place + 4].copy_from_slice(&sample.to_le_bytes());
            if channel == 0 && sample == 1.0 {
                let _ = played.send(now);
            }
        }
    }
    *at += frames as u64;
    let chunk = data.chunk_mut();
    *chunk.offset_mut() = 0;
    *chunk.stride_mut() = (4 * channels) as i32;
    *chunk.size_mut() = (4 * channels * frames) as u32;
}

fn format(channels: usize) -> Vec<u8> {
    let mut position = [0; spa::SPA_AUDIO_MAX_CHANNELS as usize];
    position[..channels].copy_from_slice(&ORDER[..channels]);
    let mut info = AudioInfoRaw::new();
    info.set_format(AudioFormat::F32LE);
    info.set_rate(SAMPLE_RATE);
    info.set_channels(channels as u32);
    info.set_position(position);
    let object = Value::Object(Object {
        type_: SpaTypes::ObjectParamFormat.as_raw(),
        id: ParamType::EnumFormat.as_raw(),
        properties: info.into(),
    });
    PodSerializer::serialize(std::io::Cursor::new(Vec::new()), &object).unwrap().0.into_inner()
}
