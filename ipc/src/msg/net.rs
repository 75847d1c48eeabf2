//! What lumend and the network plane say to each other, and what net may have signed.

use lumen_core::{AudioLayout, Mode, Permissions, RawMode, ResumeToken};
use serde::{Deserialize, Serialize};

use super::gamestream::{Announce, App, AppId, Face, GameStreamListen, PairingId, Pin, Tuning};
use super::{AskId, Fingerprint, Generation, Hello, Leaving, PlaneKind, Quantiles, RingFds, SessionId};

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
    /// Captured to first packet made: what GameStream clients show as the host's latency.
    pub first: Quantiles,
    /// Last slice to last packet.
    pub send: Quantiles,
    /// Captured to last packet.
    pub total: Quantiles,
}

/// What net has refused or dropped since it started, whoever it came from: one counter per bound.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NetCounters {
    /// Datagrams on the media sockets that named no session or were too short to name one.
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
    /// Requests of GameStream clients that were none: not HTTP, too long, or with values that cannot be.
    pub requests_malformed: u64,
    /// Pairings that were not begun because too many had been.
    pub pairings_refused: u64,
    /// mDNS messages that were malformed, or more than are looked at.
    pub discovery_ignored: u64,
}

/// What a client would like, as net parsed it; lumend decides what it gets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wish {
    /// In which protocol it asked.
    pub face: Face,
    /// The app to start, or to come back to if it runs already. None: the desktop as it is.
    pub app: Option<AppId>,
    /// None, of one that comes back: that in which the app was shown last.
    pub mode: Option<RawMode>,
    /// 0: the host's choice.
    pub bitrate_kbps: u32,
    /// None: the client wants no sound.
    pub audio: Option<AudioLayout>,
    /// The client wants the desktop's sound to go to a sink of its own, so that it is not heard at the machine.
    pub own_sink: bool,
    /// The client will send input.
    pub input: bool,
    /// It had a session before, and this is what it was to come back with. Only lumend can tell what it is worth; the
    /// rest counts if that is nothing.
    pub resume: Option<ResumeToken>,
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
    /// The app that it showed has ended.
    AppEnded,
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
    /// The session is one that its client has come back to. Who had it before has it no more.
    pub resumed: bool,
    /// What the client is to come back with, should it lose its connection. Told to it and kept by nobody here.
    pub resume: Option<ResumeToken>,
    pub video: RingFds<F>,
    pub feedback: RingFds<F>,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ToNet<F> {
    Ping(u64),
    Listen(Listen<F>),
    /// Listen for Moonlight clients too, on these sockets from now on.
    GameStream(GameStreamListen<F>),
    /// Answer mDNS queries on these sockets with these addresses, instead of those of before.
    Announce(Announce<F>),
    /// One entry of the app list; comes after `GameStream`, in the order in which they are shown.
    App(App<F>),
    /// Allows or forbids a client's certificate. Forbidding ends its sessions (lumend says so with `End` too).
    Permit {
        face: Face,
        client: Fingerprint,
        allowed: bool,
    },
    /// Move to these sockets: the bind address has changed.
    Rebind {
        quic: F,
        media: F,
        media_port: u16,
    },
    /// A GameStream client's `Ask` is granted: its output is there, its planes are ready, and nothing is wired before
    /// its `Tune`. `mode` is what it gets.
    Accepted {
        ask: AskId,
        session: SessionId,
        mode: Mode,
    },
    /// What a client has running: comes when it changes, and for each client that has something when net is new.
    Running {
        client: Fingerprint,
        app: Option<AppId>,
    },
    /// The PIN that a person has entered for this pairing.
    Pin {
        pairing: PairingId,
        pin: Pin,
    },
    /// The pairing is not to go on.
    DropPairing {
        pairing: PairingId,
        reason: String,
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
    /// The first event of a resumed session that its input plane has not taken. Comes after `WireInput`, once; before it
    /// no event of that session is accepted.
    InputFrom {
        session: SessionId,
        generation: Generation,
        next: u32,
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
    /// The rest of a GameStream client's wish; once for a session, after `Accepted`.
    Tune {
        session: SessionId,
        tuning: Tuning,
    },
    /// A GameStream client wants what it has running to end; answered with `Running`.
    Quit {
        client: Fingerprint,
    },
    /// An unknown client has begun to pair and waits for a PIN.
    Pairing {
        pairing: PairingId,
        client: Fingerprint,
        peer: std::net::SocketAddr,
        /// What the client calls itself; for people.
        name: String,
    },
    /// The client has proven that it knows the PIN. It is told so after its `Permit`, or not at all.
    Paired {
        pairing: PairingId,
    },
    /// A pairing came to nothing; the reason is for people.
    PairingFailed {
        pairing: PairingId,
        reason: String,
    },
    /// The client of an unanswered `Ask` went away.
    Withdrawn {
        ask: AskId,
    },
    /// A native client that was welcomed by the answer to `ask` is ready for media: it has what it was told.
    Started {
        session: SessionId,
        ask: AskId,
    },
    /// The client of a session is gone, by its own wish or by silence.
    Gone {
        session: SessionId,
        /// By whose answer a native client came to the session: it may have come to it again meanwhile. None of a
        /// GameStream client, or of a session that was never anybody's here.
        ask: Option<AskId>,
        reason: String,
    },
    Stats {
        session: SessionId,
        stats: SessionStats,
    },
    /// The plane at the other end of a generation's rings ([`PlaneKind::Encode`], or of a branch [`PlaneKind::Audio`] or
    /// [`PlaneKind::Input`]) broke the protocol, or they cannot be used. They are let go of; the session goes on
    /// without, until a later generation.
    BranchBroken {
        session: SessionId,
        kind: PlaneKind,
        generation: Generation,
        reason: String,
    },
    /// Once a second while they change.
    Counters(NetCounters),
    Leaving(Leaving),
}

/// What net may have signed: lumend rebuilds the prefix, so that nothing else can be obtained.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SignRequest {
    /// TLS 1.3 server CertificateVerify (RFC 8446 §4.4.3) over this SHA-256 transcript hash, with the P-256 key.
    Tls13 { transcript: [u8; 32] },
    /// The same, with the RSA key that GameStream clients know: RSA-PSS with SHA-256.
    Tls13Rsa { transcript: [u8; 32] },
    /// TLS 1.2 server key exchange (RFC 8422 §5.4), ephemeral key on P-256, named by its uncompressed point: RSA
    /// PKCS #1 v1.5 with SHA-256, with the RSA key.
    Tls12Rsa { client_random: [u8; 32], server_random: [u8; 32], x: [u8; 32], y: [u8; 32] },
    /// The host's secret of a GameStream pairing whose PIN has been entered: RSA PKCS #1 v1.5 with SHA-256.
    Pairing { pairing: PairingId, secret: [u8; 16] },
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum SignReply {
    /// ASN.1 ECDSA, or plain RSA.
    Signed(Vec<u8>),
    /// Too many requests.
    Refused,
}
