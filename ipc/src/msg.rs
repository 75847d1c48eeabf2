//! Everything that lumend and a plane may say to each other: one closed pair of enums per plane, so that a plane
//! cannot even spell another's message.
//!
//! Messages are generic in `F`, the kind of descriptor they hold: [`OwnedFd`](std::os::fd::OwnedFd) in a program, a
//! one-byte index into the SCM_RIGHTS array on the link. `map_fds` turns one into the other; see [`crate::codec`].

mod audio;
mod fds;
mod gamestream;
mod input;
mod names;
mod net;
mod serves;

pub use lumen_core::Fingerprint;
use lumen_core::Mode;
use serde::{Deserialize, Serialize};

pub use self::audio::{AudioStats, AudioWiring, DefaultSink, FromAudio, SinkChoice, ToAudio};
pub use self::gamestream::{
    Announce, App, AppId, Colour, Face, GameStreamListen, Image, Interface, Matrix, PairingId, Pin, RunId, Service,
    Tuning,
};
pub use self::input::{
    DeviceId, FromInput, Hands, HandsBackend, InputBackends, InputStats, InputWiring, Kept, Keymap, MAX_BEFORE,
    PadsBackend, STATE_BYTES, ToInput, TouchBackend,
};
pub use self::names::{FormatError, NameError};
pub use self::net::{
    EndCode, FromNet, Listen, NetCounters, NetWiring, SessionStats, SignReply, SignRequest, ToNet, Wish,
};

/// One client's stream. Never reused while lumend lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SessionId(pub u32);

/// One wiring of a session. Starts at 1 and only grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Generation(pub u32);

/// Names one request of the network plane, so that the answer finds its handshake. Chosen by net, echoed by lumend.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct AskId(pub u32);

/// The kinds of plane. The launcher is not one: it is a role of the lumend binary and never locked down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlaneKind {
    Capture,
    Encode,
    Net,
    Input,
    Audio,
}

/// A plane's first message, sent after it has locked itself down and before it has read anything from outside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    pub kind: PlaneKind,
    /// [`crate::BUILD`] of the plane; lumend refuses any other than its own.
    pub build: String,
    /// Landlock ABI in force in this process, 0 where the kernel has none.
    pub landlock_abi: u32,
}

/// A plane's last message: why it is about to exit without being told to. Whoever is not its parent may have no other
/// way to learn it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Leaving {
    /// [`crate::EXIT_REOPEN`].
    Reopen,
    /// One line for people.
    Failed(String),
    /// A peer broke the rules of the memory between them.
    Accuses { peer: PlaneKind, reason: String },
}

/// Bytes per pixel are four in every format; names are little-endian DRM fourccs read as byte order B, G, R, x.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum PixelFormat {
    /// DRM XR24 / AR24: bytes B, G, R, x.
    Bgrx,
    /// DRM XB24 / AB24: bytes R, G, B, x.
    Rgbx,
}

/// The shape of every buffer of a pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FrameFormat {
    pub pixels: PixelFormat,
    pub width: u16,
    pub height: u16,
    /// Bytes from one row to the next.
    pub stride: u32,
}

impl FrameFormat {
    /// Bytes of one buffer.
    pub const fn size(&self) -> usize {
        self.stride as usize * self.height as usize
    }
}

/// Where pictures come from.
#[derive(Debug, Serialize, Deserialize)]
pub enum Source<F> {
    /// The synthetic desktop.
    Pattern,
    /// An output of a wlroots compositor, by name, over a connected Wayland socket that nobody has spoken on yet.
    Wlroots { socket: F, output: String },
}

/// The frame pool and its mailbox. Capture writes, encode reads.
#[derive(Debug, Serialize, Deserialize)]
pub struct Pool<F> {
    pub format: FrameFormat,
    /// At least four sealed memfds of `format.size()` bytes, rounded up to pages.
    pub buffers: Vec<F>,
    pub mailbox: F,
    /// Signalled when the mailbox goes from empty to full.
    pub wake: F,
}

/// A byte ring and its wake-ups; see [`crate::ring`].
#[derive(Debug, Serialize, Deserialize)]
pub struct RingFds<F> {
    pub memory: F,
    /// Signalled by the producer when the ring goes from empty to non-empty.
    pub data: F,
    /// Signalled by the consumer when a producer waits for credit.
    pub credit: F,
    pub geometry: RingGeometry,
}

/// Sizes of a ring, told over the link and never read from shared memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RingGeometry {
    /// Bytes of the data area: a power of two, whole pages.
    pub capacity: u32,
    /// Most payload bytes of one frame.
    pub frame_bytes: u32,
    /// Most chunks of one frame.
    pub frame_chunks: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Backend {
    Auto,
    OpenH264,
    X264,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EncodeSettings {
    pub backend: Backend,
    pub bitrate_kbps: u32,
    pub colour: Colour,
}

/// Quantiles of a latency over the last ten seconds or so, in microseconds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Quantiles {
    pub p50: u32,
    pub p95: u32,
    pub p99: u32,
    pub max: u32,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CaptureStats {
    /// Frames published to the mailbox since the generation began.
    pub captured: u64,
    /// Of those, overwritten before encode took them.
    pub skipped: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EncodeStats {
    /// Frames encoded since the generation began, IDRs and repeats included.
    pub encoded: u64,
    pub idr: u64,
    /// Repeats of the last picture while the desktop was still.
    pub still: u64,
    /// Frames that outgrew their credit and were encoded again.
    pub oversize: u64,
    pub bytes: u64,
}

/// A session's share of encode: reading end of the pool, producer end of the video ring, consumer end of feedback.
#[derive(Debug, Serialize, Deserialize)]
pub struct EncodeWiring<F> {
    pub session: SessionId,
    pub generation: Generation,
    pub mode: Mode,
    pub settings: EncodeSettings,
    pub pool: Pool<F>,
    pub video: RingFds<F>,
    pub feedback: RingFds<F>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToCapture<F> {
    Ping(u64),
    /// Look at the source and answer `Opened`.
    Open {
        session: SessionId,
        generation: Generation,
        mode: Mode,
        source: Source<F>,
    },
    /// Begin to publish: the first frame is a full, undamaged copy.
    Wire {
        generation: Generation,
        pool: Pool<F>,
    },
    Retire {
        generation: Generation,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FromCapture {
    Hello(Hello),
    Pong(u64),
    Opened { generation: Generation, format: FrameFormat },
    Failed { generation: Generation, reason: String },
    Stats { generation: Generation, stats: CaptureStats },
    Leaving(Leaving),
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToEncode<F> {
    Ping(u64),
    Wire(EncodeWiring<F>),
    Retire {
        generation: Generation,
    },
    /// Make the next frame an IDR.
    Idr,
    /// Of a standby: have an encoder ready for such a wiring, should it come.
    Prepare {
        mode: Mode,
        settings: EncodeSettings,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FromEncode {
    Hello(Hello),
    Pong(u64),
    /// The encoder runs; its name ("openh264", "x264").
    Wired {
        generation: Generation,
        encoder: String,
    },
    Failed {
        generation: Generation,
        reason: String,
    },
    Stats {
        generation: Generation,
        stats: EncodeStats,
    },
    Leaving(Leaving),
}

/// What a launcher is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Duty {
    /// The desktop of this number, from 1 on, with so many seats for sessions, and apps on it.
    Desktop { number: u32, seats: u32 },
    /// Apps where the launcher itself was started.
    Apps,
}

/// lumend to its launcher. Indices name entries of the launcher's own configuration; command strings never travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToLauncher {
    /// What it is for, to one that lumend has not started itself: the first message, and the only one of its kind.
    Begin {
        duty: Duty,
        /// SHA-256 of the commands that lumend knows. A launcher that has read others could start the wrong one.
        commands: [u8; 32],
    },
    /// Start the compositor and, once its socket is there, what `[desktop] exec` names.
    StartDesktop,
    /// End it, and what runs on it. As every desktop that was started, it is said to be gone once.
    StopDesktop,
    /// Prepare for and start the app of this index.
    StartApp { run: RunId, app: u16 },
    /// End it, whatever state it is in, and undo its preparations; answered with `AppEnded`.
    StopApp { run: RunId },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromLauncher {
    /// From one that lumend has not started itself: here it is.
    Hello,
    /// The compositor answers on its sockets in the runtime directory's `desktop` folder.
    DesktopReady,
    /// It ended, or could not be started; the reason is for people.
    DesktopGone { reason: String },
    /// An app has ended, or could not be started, and its preparations are undone.
    AppEnded { run: RunId, reason: String },
}
