//! Everything that lumend and a plane may say to each other: one closed pair of enums per plane, so that a plane
//! cannot even spell another's message.
//!
//! Messages are generic in `F`, the kind of descriptor they hold: [`OwnedFd`](std::os::fd::OwnedFd) in a program, a
//! one-byte index into the SCM_RIGHTS array on the link. `map_fds` turns one into the other; see [`crate::codec`].

mod audio;
mod fds;
mod input;
mod names;

pub use lumen_core::Fingerprint;
use lumen_core::{AudioLayout, Mode, Permissions, RawMode};
use serde::{Deserialize, Serialize};

pub use self::audio::{AudioStats, AudioWiring, DefaultSink, FromAudio, SinkChoice, ToAudio};
pub use self::input::{
    DeviceId, FromInput, Hands, HandsBackend, InputBackends, InputStats, InputWiring, Kept, Keymap, PadsBackend,
    STATE_BYTES, ToInput, TouchBackend,
};
pub use self::names::{FormatError, NameError};

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
    pub full_range: bool,
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

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SessionStats {
    /// Frames whose last packet has left, since the session began.
    pub frames: u64,
    pub packets: u64,
    pub parity_packets: u64,
    /// UDP payload bytes.
    pub bytes: u64,
    /// Packets of this session's client that failed authentication, were replayed or malformed.
    pub rejected: u64,
    /// Loss the client reports, in thousandths.
    pub loss_permille: u32,
    /// Audio datagrams sent, since the session began.
    pub audio_packets: u64,
    /// Audio packets not sent, because they were too old or QUIC had no room for them.
    pub audio_dropped: u64,
    /// Input events handed to the input plane, since the session began.
    pub input_events: u64,
    /// Input datagrams that were malformed or came faster than a client may send.
    pub input_rejected: u64,
    /// Motions, positions and pad states merged into later ones because the input plane was behind.
    pub input_coalesced: u64,
    /// Rumble datagrams sent.
    pub rumbles: u64,
    /// Mailbox wait: captured to taken by encode.
    pub capture_wait: Quantiles,
    /// Taken to converted.
    pub convert: Quantiles,
    /// Converted to last slice.
    pub encode: Quantiles,
    /// Last slice to last packet.
    pub send: Quantiles,
    /// Captured to last packet.
    pub total: Quantiles,
}

/// What net has refused or dropped since it started, whoever it came from: one counter per bound.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NetCounters {
    /// Datagrams on the media socket that named no session or were too short to name one.
    pub stray_packets: u64,
    /// Connections turned away because as many as allowed were open.
    pub connections_refused: u64,
    /// Handshakes answered with a QUIC Retry because many were pending.
    pub retries: u64,
    /// Handshakes that failed: no certificate, a bad signature, lumend too slow to sign, silence.
    pub handshakes_failed: u64,
    /// Hellos refused by net itself: malformed, another version, an unknown client.
    pub hellos_refused: u64,
    /// Hellos refused because too many requests were waiting for lumend.
    pub asks_refused: u64,
    /// Messages dropped because a queue between net's two threads, or to a client, was full.
    pub queue_full: u64,
    /// Times the media socket's buffer was full.
    pub send_blocked: u64,
    /// Datagrams the kernel would not send.
    pub send_errors: u64,
}

/// What a client would like, as net parsed it; lumend decides what it gets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wish {
    pub mode: RawMode,
    /// 0: the host's choice.
    pub bitrate_kbps: u32,
    /// None: the client wants no sound.
    pub audio: Option<AudioLayout>,
    /// The client wants the desktop's sound to go to a sink of its own, so that it is not heard at the machine.
    pub own_sink: bool,
    /// The client will send input.
    pub input: bool,
}

/// Why a client is turned away or its session ended; the wire codes are in PROTOCOL.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum EndCode {
    /// The client's certificate is not allowed.
    NotAllowed,
    /// The mode cannot be made.
    Mode,
    /// As many sessions as configured are running.
    Full,
    /// No desktop to show, or a plane failed too often.
    Unavailable,
    /// Ended by the host's user.
    Stopped,
    /// The host is shutting down.
    Shutdown,
}

/// Handed to net once: everything it listens on and answers with.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listen<F> {
    pub quic: F,
    pub media: F,
    /// SEQPACKET pair for [`SignRequest`] and [`SignReply`], nothing else.
    pub signer: F,
    pub media_port: u16,
    /// DER of the host's P-256 certificate.
    pub certificate: Vec<u8>,
    pub reset_key: [u8; 32],
    pub token_key: [u8; 32],
    pub connection_id_key: u64,
    pub host_name: String,
    /// `/proc/sys/kernel/random/boot_id` as bytes: a client that has the same one shares this machine's clock. Net
    /// opens no file, so lumend reads it.
    pub boot_id: [u8; 16],
}

/// A session's share of net: consumer end of the video ring, producer end of the feedback ring.
#[derive(Debug, Serialize, Deserialize)]
pub struct NetWiring<F> {
    pub session: SessionId,
    pub generation: Generation,
    /// The request this answers; none when a running session is wired anew.
    pub ask: Option<AskId>,
    pub mode: Mode,
    pub bitrate_kbps: u32,
    /// What the client is told of sound: none if there will be none.
    pub audio: Option<AudioLayout>,
    /// What the client is told that its hands may do.
    pub permissions: Permissions,
    pub video: RingFds<F>,
    pub feedback: RingFds<F>,
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
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToNet<F> {
    Ping(u64),
    Listen(Listen<F>),
    /// Allows or forbids a client's certificate. Forbidding ends its sessions (lumend says so with `End` too).
    Permit {
        client: Fingerprint,
        allowed: bool,
    },
    /// Move to these sockets: the bind address has changed.
    Rebind {
        quic: F,
        media: F,
        media_port: u16,
    },
    Wire(NetWiring<F>),
    Retire {
        session: SessionId,
        generation: Generation,
    },
    /// Consumer end of a session's audio ring; replaces the one before. Generations are the audio branch's own.
    WireAudio {
        session: SessionId,
        generation: Generation,
        ring: RingFds<F>,
    },
    RetireAudio {
        session: SessionId,
        generation: Generation,
    },
    /// Producer end of a session's input ring, consumer end of its haptics ring; replaces those before. Generations
    /// are the input branch's own.
    WireInput {
        session: SessionId,
        generation: Generation,
        events: RingFds<F>,
        haptics: RingFds<F>,
    },
    RetireInput {
        session: SessionId,
        generation: Generation,
    },
    Refuse {
        ask: AskId,
        code: EndCode,
        reason: String,
    },
    End {
        session: SessionId,
        code: EndCode,
        reason: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub enum FromNet {
    Hello(Hello),
    Pong(u64),
    Ask {
        ask: AskId,
        peer: std::net::SocketAddr,
        client: Fingerprint,
        wish: Wish,
    },
    /// The client of an unanswered `Ask` went away.
    Withdrawn {
        ask: AskId,
    },
    /// The client of a session is gone, by its own wish or by silence.
    Gone {
        session: SessionId,
        reason: String,
    },
    Stats {
        session: SessionId,
        stats: SessionStats,
    },
    /// The plane at the other end of a branch's rings ([`PlaneKind::Audio`] or [`PlaneKind::Input`]) broke the
    /// protocol, or they cannot be used. They are let go of; the session goes on without, until a later generation.
    BranchBroken {
        session: SessionId,
        kind: PlaneKind,
        generation: Generation,
        reason: String,
    },
    /// Once a second while they change.
    Counters(NetCounters),
}

/// What net may have signed: lumend rebuilds the prefix, so that nothing else can be obtained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SignRequest {
    /// TLS 1.3 server CertificateVerify (RFC 8446 §4.4.3) over this SHA-256 transcript hash, with the P-256 key.
    Tls13 { transcript: [u8; 32] },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SignReply {
    /// ASN.1 ECDSA signature.
    Signed(Vec<u8>),
    /// Too many requests.
    Refused,
}

/// lumend to its launcher. Indices name entries of the launcher's own configuration; command strings never travel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToLauncher {
    /// Start the compositor and, once its socket is there, what `[desktop] exec` names.
    StartDesktop,
    StopDesktop,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FromLauncher {
    /// The compositor answers on its sockets in the runtime directory's `desktop` folder.
    DesktopReady,
    /// It ended, or could not be started; the reason is for people.
    DesktopGone { reason: String },
}
