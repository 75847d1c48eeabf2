//! Sound on this machine's speakers, through PipeWire.

use std::cell::{Cell, RefCell};
use std::io::Cursor;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use lumen_core::AudioLayout;
use lumen_core::audio::SAMPLE_RATE;
use pipewire as pw;
use pw::context::ContextRc;
use pw::core::CoreRc;
use pw::main_loop::MainLoopRc;
use pw::properties::properties;
use pw::spa::param::audio::{AudioFormat, AudioInfoRaw, MAX_CHANNELS};
use pw::spa::pod::serialize::PodSerializer;
use pw::spa::pod::{Object, Pod, Value};
use pw::spa::sys as spa_sys;
use pw::spa::utils::Direction;
use pw::stream::{StreamBox, StreamFlags, StreamListener, StreamState};

use super::jitter::JitterBuffer;

/// Why there is no sound from the speakers.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    #[error("no PipeWire answers here ({0}): start it, or leave out --play")]
    Connect(pw::Error),
    #[error("cannot play through PipeWire: {0}")]
    Thread(#[from] std::io::Error),
}

/// What the thread may be told.
enum Order {
    Play { layout: AudioLayout, buffer: Arc<Mutex<JitterBuffer>> },
    Quit,
}

/// A connection to PipeWire in a thread of its own.
pub struct Speakers {
    orders: pw::channel::Sender<Order>,
    thread: JoinHandle<Option<String>>,
}

impl Speakers {
    /// Connects; nothing sounds before [`Speakers::play`].
    pub fn open() -> Result<Self, PlayError> {
        let (orders, received) = pw::channel::channel();
        let (tell, connected) = sync_channel(1);
        let thread = Builder::new().name("play".to_owned()).spawn(move || run(received, &tell))?;
        wait(&connected)?;
        Ok(Self { orders, thread })
    }

    /// Plays what is put into the buffer from now on.
    pub fn play(&self, layout: AudioLayout) -> Arc<Mutex<JitterBuffer>> {
        let buffer = Arc::new(Mutex::new(JitterBuffer::new(layout.channels())));
        // A thread that has ended says why in `finish`.
        let _ = self.orders.send(Order::Play { layout, buffer: buffer.clone() });
        buffer
    }

    /// Stops, and says what went wrong meanwhile.
    pub fn finish(self) -> Option<String> {
        let _ = self.orders.send(Order::Quit);
        self.thread.join().unwrap_or(None)
    }
}

fn wait(connected: &Receiver<Result<(), pw::Error>>) -> Result<(), PlayError> {
    let ended = || std::io::Error::other("its thread has ended");
    connected.recv().map_err(|_| ended())?.map_err(PlayError::Connect)
}

fn connect() -> Result<(MainLoopRc, CoreRc), pw::Error> {
    pw::init();
    let main_loop = MainLoopRc::new(None)?;
    let core = ContextRc::new(&main_loop, None)?.connect_rc(None)?;
    Ok((main_loop, core))
}

/// The thread: PipeWire's loop until told to quit or PipeWire goes away; returns what went wrong.
fn run(orders: pw::channel::Receiver<Order>, tell: &SyncSender<Result<(), pw::Error>>) -> Option<String> {
    let (main_loop, core) = match connect() {
        Ok(connected) => connected,
        Err(error) => {
            let _ = tell.send(Err(error));
            return None;
        }
    };
    let failure: Rc<Cell<Option<String>>> = Rc::default();
    let _listener = {
        let (failure, quit) = (failure.clone(), main_loop.clone());
        let error = move |id: u32, _: i32, _: i32, message: &str| {
            // Of another object than the core it is no reason to stop: the stream says for itself what it is worth.
            if id == pw::core::PW_ID_CORE {
                failure.set(Some(format!("PipeWire went away: {message}")));
                quit.quit();
            }
        };
        core.add_listener_local().error(error).register()
    };
    let playing: RefCell<Option<Playing<'_>>> = RefCell::new(None);
    // The channel's closure must own all it uses, and the stream borrows the core: orders pass through here.
    let pending: Rc<RefCell<Vec<Order>>> = Rc::default();
    let _orders = {
        let (pending, quit) = (pending.clone(), main_loop.clone());
        orders.attach(main_loop.loop_(), move |order| {
            pending.borrow_mut().push(order);
            quit.quit();
        })
    };
    let _ = tell.send(Ok(()));
    loop {
        main_loop.run();
        let orders = pending.take();
        if orders.is_empty() {
            return failure.take();
        }
        for order in orders {
            match order {
                Order::Quit => return failure.take(),
                Order::Play { layout, buffer } => match Playing::start(&core, layout, buffer, failure.clone()) {
                    Ok(stream) => playing.replace(Some(stream)),
                    Err(error) => return Some(error.to_string()),
                },
            };
        }
    }
}

/// A stream and who listens to it; in this order they are dropped.
struct Playing<'c> {
    _listener: StreamListener<()>,
    _stream: StreamBox<'c>,
}

impl<'c> Playing<'c> {
    fn start(
        core: &'c CoreRc,
        layout: AudioLayout,
        buffer: Arc<Mutex<JitterBuffer>>,
        failure: Rc<Cell<Option<String>>>,
    ) -> Result<Self, pw::Error> {
        let stream = StreamBox::new(
            core,
            "lumen-client",
            properties! {
                *pw::keys::MEDIA_TYPE => "Audio",
                *pw::keys::MEDIA_CATEGORY => "Playback",
                *pw::keys::MEDIA_ROLE => "Game",
                *pw::keys::NODE_NAME => "lumen-client",
                *pw::keys::NODE_DESCRIPTION => "Lumen client",
                // As much at a time as a packet brings.
                *pw::keys::NODE_LATENCY => "240/48000",
            },
        )?;
        let mut scratch = Vec::new();
        let listener = stream
            .add_local_listener::<()>()
            .state_changed(move |_, (), _, state| {
                if let StreamState::Error(message) = state {
                    failure.set(Some(format!("PipeWire does not take the sound: {message}")));
                }
            })
            .process(move |stream, ()| {
                let Some(mut taken) = stream.dequeue_buffer() else { return };
                let requested = usize::try_from(taken.requested()).unwrap_or(0);
                let Some(data) = taken.datas_mut().first_mut() else { return };
                let stride = layout.channels() * size_of::<f32>();
                let Some(bytes) = data.data() else { return };
                let room = bytes.len() / stride;
                let frames = if requested == 0 { room } else { room.min(requested) };
                scratch.resize(frames * layout.channels(), 0.0);
                buffer.lock().unwrap_or_else(PoisonError::into_inner).pull(&mut scratch);
                for (place, sample) in bytes.chunks_exact_mut(size_of::<f32>()).zip(&scratch) {
                    place.copy_from_slice(&sample.to_le_bytes());
                }
                let chunk = data.chunk_mut();
                *chunk.offset_mut() = 0;
                *chunk.stride_mut() = stride as i32;
                *chunk.size_mut() = (frames * stride) as u32;
            })
            .register()?;
        let format = format(layout);
        let mut params: Vec<&Pod> = Pod::from_bytes(&format).into_iter().collect();
        // Filled on PipeWire's own thread: through another, every cycle that finds that one busy would be missed. The lock
        // that it may have to wait for is held for the copy of one packet.
        let flags = StreamFlags::AUTOCONNECT | StreamFlags::MAP_BUFFERS | StreamFlags::RT_PROCESS;
        stream.connect(Direction::Output, None, flags, &mut params)?;
        Ok(Self { _listener: listener, _stream: stream })
    }
}

/// 32-bit samples at 48 kHz, and where each channel's speaker stands.
fn format(layout: AudioLayout) -> Vec<u8> {
    const SPEAKERS: [u32; 8] = [
        spa_sys::SPA_AUDIO_CHANNEL_FL,
        spa_sys::SPA_AUDIO_CHANNEL_FR,
        spa_sys::SPA_AUDIO_CHANNEL_FC,
        spa_sys::SPA_AUDIO_CHANNEL_LFE,
        spa_sys::SPA_AUDIO_CHANNEL_RL,
        spa_sys::SPA_AUDIO_CHANNEL_RR,
        spa_sys::SPA_AUDIO_CHANNEL_SL,
        spa_sys::SPA_AUDIO_CHANNEL_SR,
    ];
    let mut info = AudioInfoRaw::new();
    info.set_format(AudioFormat::F32LE);
    info.set_rate(SAMPLE_RATE);
    info.set_channels(layout.channels() as u32);
    let mut positions = [0; MAX_CHANNELS];
    positions[..layout.channels()].copy_from_slice(&SPEAKERS[..layout.channels()]);
    info.set_position(positions);
    let object =
        Object { type_: spa_sys::SPA_TYPE_OBJECT_Format, id: spa_sys::SPA_PARAM_EnumFormat, properties: info.into() };
    let written = PodSerializer::serialize(Cursor::new(Vec::new()), &Value::Object(object));
    // Writing into memory cannot fail; without a format PipeWire refuses the stream and says so.
    written.map(|(cursor, _)| cursor.into_inner()).unwrap_or_default()
}
