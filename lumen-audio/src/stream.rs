//! The node in PipeWire's graph: a stream that captures a sink's monitor, or a sink of our own. Either way samples
//! come in cycles, on PipeWire's thread, and go straight into the slots.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use ipc::event::now_ns;
use lumen_core::AudioLayout;
use lumen_core::audio::{MAX_CHANNELS, SAMPLE_RATE};
use pipewire::core::CoreRc;
use pipewire::properties::{PropertiesBox, properties};
use pipewire::spa::param::ParamType;
use pipewire::spa::param::audio::{AudioFormat, AudioInfoRaw};
use pipewire::spa::pod::serialize::PodSerializer;
use pipewire::spa::pod::{Object, Pod, Value};
use pipewire::spa::sys as spa;
use pipewire::spa::utils::{Direction, SpaTypes};
use pipewire::stream::{Stream, StreamFlags, StreamListener, StreamRc, StreamState};

use crate::slots::Slots;

/// What the graph is asked for: 256 samples of 48 kHz, 5.3 ms, the power of two nearest to a slot.
const LATENCY: &str = "256/48000";
/// What people see of a sink of ours.
pub const DESCRIPTION: &str = "Lumen";

/// Samples of the graph's cycles go where both threads reach them. The lock is held for a copy.
pub type Shared = Arc<Mutex<Slots>>;

/// What a stream is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Captures the monitor of the default sink, whichever that is.
    Monitor,
    /// Is a sink of this node name.
    Own(String),
}

/// How far a stream has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// Not linked to anything that brings samples.
    Waiting,
    /// The graph has agreed on a format.
    Negotiated,
    /// The session manager or the graph has given it up.
    Failed,
}

/// A stream in the graph. Leaves it when dropped.
pub struct Capture {
    // Dropped in this order: the listeners leave the stream before it ends.
    _process: StreamListener<()>,
    _state: StreamListener<()>,
    stream: StreamRc,
    kind: Kind,
    progress: Rc<Cell<Progress>>,
}

impl Capture {
    /// Joins the graph.
    pub fn start(core: &CoreRc, kind: Kind, layout: AudioLayout, slots: &Shared) -> Result<Self, pipewire::Error> {
        let stream = StreamRc::new(core.clone(), DESCRIPTION, properties_of(&kind, layout))?;
        // Two listeners, because two threads call them: `process` has one of its own, and nothing else to touch.
        let sink = Arc::clone(slots);
        let channels = layout.channels();
        let mut burst = Vec::with_capacity(8192 * MAX_CHANNELS);
        let process = stream
            .add_local_listener::<()>()
            .process(move |stream, ()| take_in(stream, channels, &mut burst, &sink))
            .register()?;
        let progress = Rc::new(Cell::new(Progress::Waiting));
        let (negotiated, failed) = (Rc::clone(&progress), Rc::clone(&progress));
        let state = stream
            .add_local_listener::<()>()
            .param_changed(move |_, (), id, param| {
                if id == ParamType::Format.as_raw() && negotiated.get() != Progress::Failed {
                    negotiated.set(if param.is_some() { Progress::Negotiated } else { Progress::Waiting });
                }
            })
            .state_changed(move |_, (), _, new| {
                if matches!(new, StreamState::Error(_) | StreamState::Unconnected) {
                    failed.set(Progress::Failed);
                }
            })
            .register()?;
        let format = format_of(layout);
        let format = Pod::from_bytes(&format).ok_or(pipewire::Error::CreationFailed)?;
        let flags = StreamFlags::MAP_BUFFERS | StreamFlags::RT_PROCESS;
        let flags = if kind == Kind::Monitor { flags | StreamFlags::AUTOCONNECT } else { flags };
        stream.connect(Direction::Input, None, flags, &mut [format])?;
        Ok(Self { _process: process, _state: state, stream, kind, progress })
    }

    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    pub fn progress(&self) -> Progress {
        self.progress.get()
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Takes the node off PipeWire's thread, so that nothing is processed while the listeners go. It fails only
        // for a stream that has no node.
        let _ = self.stream.disconnect();
    }
}

fn properties_of(kind: &Kind, layout: AudioLayout) -> PropertiesBox {
    let mut properties = properties! {
        "media.type" => "Audio",
        "node.latency" => LATENCY,
        "node.description" => DESCRIPTION,
        // Nobody's stored volume is for us.
        "state.restore-props" => "false",
        "channelmix.upmix" => "false",
    };
    match kind {
        Kind::Monitor => {
            properties.insert("media.category", "Capture");
            properties.insert("media.role", "Production");
            properties.insert("node.name", "lumen-audio");
            properties.insert("stream.capture.sink", "true");
        }
        Kind::Own(name) => {
            properties.insert("media.class", "Audio/Sink");
            properties.insert("node.name", name.as_str());
            properties.insert("node.virtual", "true");
            properties.insert("audio.position", position_names(layout));
            // Suspending would take the format away, and the first sound after it.
            properties.insert("session.suspend-timeout-seconds", "0");
        }
    }
    properties
}

const fn position_names(layout: AudioLayout) -> &'static str {
    match layout {
        AudioLayout::Stereo => "FL,FR",
        AudioLayout::Surround51 => "FL,FR,FC,LFE,RL,RR",
        AudioLayout::Surround71 => "FL,FR,FC,LFE,RL,RR,SL,SR",
    }
}

/// The format to agree on: 48 kHz floats in the order of the layout. The stream's converter does the rest.
fn format_of(layout: AudioLayout) -> Vec<u8> {
    const ORDER: [u32; MAX_CHANNELS] = [
        spa::SPA_AUDIO_CHANNEL_FL,
        spa::SPA_AUDIO_CHANNEL_FR,
        spa::SPA_AUDIO_CHANNEL_FC,
        spa::SPA_AUDIO_CHANNEL_LFE,
        spa::SPA_AUDIO_CHANNEL_RL,
        spa::SPA_AUDIO_CHANNEL_RR,
        spa::SPA_AUDIO_CHANNEL_SL,
        spa::SPA_AUDIO_CHANNEL_SR,
    ];
    let channels = layout.channels();
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
    let bytes = PodSerializer::serialize(std::io::Cursor::new(Vec::new()), &object);
    bytes.map(|(cursor, _)| cursor.into_inner()).unwrap_or_default()
}

/// One cycle, on PipeWire's thread.
fn take_in(stream: &Stream, channels: usize, burst: &mut Vec<f32>, slots: &Shared) {
    let now = now_ns();
    let cycle = stream.time().map_or(0, |time| u64::try_from(time.now()).unwrap_or(0));
    while let Some(mut buffer) = stream.dequeue_buffer() {
        let Some(data) = buffer.datas_mut().first_mut() else { continue };
        if data.as_raw().chunk.is_null() {
            continue;
        }
        let (offset, size) = (data.chunk().offset() as usize, data.chunk().size() as usize);
        let Some(bytes) = data.data() else { continue };
        // Both numbers lie in memory that others write to.
        let bytes = bytes.get(offset..).unwrap_or_default();
        let bytes = &bytes[..size.min(bytes.len())];
        burst.clear();
        let whole = bytes.len() / size_of::<f32>() / channels * channels;
        let room = burst.capacity().min(whole);
        burst.extend(bytes.as_chunks::<4>().0.iter().take(room).map(|sample| f32::from_le_bytes(*sample)));
        slots.lock().unwrap_or_else(PoisonError::into_inner).push(cycle, now, burst);
    }
}
