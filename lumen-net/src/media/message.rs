//! What the two threads say to each other.

use std::net::{IpAddr, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};

use ipc::event::Event;
use ipc::ring::{RingConsumer, RingProducer};
use ipc::{NetWiring, RingFds, SessionId, SessionStats};
use lumen_core::gamestream::video::VideoConfig;
use lumen_core::seal::MediaSecret;

/// Orders of the control thread, in the order in which they were given.
pub enum MediaCommand {
    /// Use this socket, for the first time or instead of the one before.
    Socket(UdpSocket),
    /// The same for the socket on which GameStream clients get their video.
    GuestSocket(UdpSocket),
    /// A new session. Nothing is sent before `Start` and a probe of the client.
    Open { session: SessionId, secret: MediaSecret, wiring: Box<Wiring> },
    /// A new session of a GameStream client. Nothing is sent before `Start` and a ping of the client.
    OpenGuest { session: SessionId, guest: GuestMedia, wiring: Box<Wiring> },
    /// A running session's next generation.
    Wire { session: SessionId, wiring: Box<Wiring> },
    /// The client is ready.
    Start { session: SessionId },
    /// A GameStream client needs an IDR, which is asked for at once, or later, or is under way already. One of many
    /// that come at once can be dropped.
    Keyframe { session: SessionId },
    /// What a GameStream client says it has lost lately, in thousandths of its packets. The next one makes up for one
    /// that is dropped.
    Loss { session: SessionId, permille: u32 },
    /// Let go of a generation's rings; the session stays.
    Retire { session: SessionId, generation: u32 },
    /// Forget the session.
    End { session: SessionId },
}

/// Reports of the media thread.
pub enum MediaEvent {
    /// Once a second for each session.
    Stats { session: SessionId, stats: SessionStats },
    /// There is no room for the session.
    Broken { session: SessionId, reason: String },
    /// The encoder at the other end of a generation's rings broke the protocol; they are let go of.
    RingBroken { session: SessionId, generation: u32, reason: String },
    /// The client's probes or pings have ceased, or never begun.
    Silent { session: SessionId, generation: u32 },
    /// The thread has ended.
    Died { reason: String },
}

/// What the media thread has to know of a GameStream client.
pub struct GuestMedia {
    /// What its pings begin with: the `X-SS-Ping-Payload` of its video stream.
    pub ping: [u8; 16],
    /// For a client that knows no payloads: where its pings come from. None for any other.
    pub address: Option<IpAddr>,
    pub config: VideoConfig,
}

/// One generation's rings, mapped.
pub struct Wiring {
    pub generation: u32,
    pub bitrate_kbps: u32,
    pub video: RingConsumer,
    pub feedback: RingProducer,
    /// Chunks are copied here once; holds any that the ring's geometry allows.
    pub chunk: Vec<u8>,
}

impl Wiring {
    /// Maps the rings. Done on the control thread, so that page tables are not filled while media waits.
    pub fn attach(wiring: NetWiring<OwnedFd>) -> Result<Self, String> {
        let RingFds { memory, data, credit, geometry } = wiring.video;
        let chunk = Vec::with_capacity(geometry.frame_bytes as usize);
        let video = RingConsumer::attach(memory.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry)
            .map_err(|error| format!("the video ring cannot be used: {error}"))?;
        let RingFds { memory, data, credit, geometry } = wiring.feedback;
        let feedback = RingProducer::attach(memory.as_fd(), Event::from_fd(data), Event::from_fd(credit), geometry)
            .map_err(|error| format!("the feedback ring cannot be used: {error}"))?;
        let (generation, bitrate_kbps) = (wiring.generation.0, wiring.bitrate_kbps);
        Ok(Self { generation, bitrate_kbps, video, feedback, chunk })
    }
}
