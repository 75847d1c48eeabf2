//! What a sealed plane may hold, as `lumend status --security` compares it with what the kernel says that it holds.
//!
//! System calls and limits are those of [`super::table`]. The numbers below are most of each kind of descriptor, for two
//! generations at once, since the next may be wired before the last is retired; in between there are fewer.

use std::fmt;

use super::FILTERS;
use super::table::{Limits, limits};
use crate::PlaneKind;

/// A kind of open descriptor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Handle {
    /// A local socket that keeps messages apart: the link, and net's to the signer.
    Link,
    /// A local stream: the compositor's, PipeWire's.
    Stream,
    /// A local datagram socket: the service manager's.
    Datagram,
    Udp,
    TcpListener,
    Tcp,
    /// Any other socket, or one that no table of the kernel's lists.
    OtherSocket,
    /// A memfd.
    Memory,
    Event,
    Timer,
    Epoll,
    Uinput,
    /// /dev/null.
    Null,
    Pipe,
    /// Any other device.
    Device,
    File,
    Directory,
    Other,
}

impl Handle {
    pub const ALL: [Self; 18] = [
        Self::Link,
        Self::Stream,
        Self::Datagram,
        Self::Udp,
        Self::TcpListener,
        Self::Tcp,
        Self::OtherSocket,
        Self::Memory,
        Self::Event,
        Self::Timer,
        Self::Epoll,
        Self::Uinput,
        Self::Null,
        Self::Pipe,
        Self::Device,
        Self::File,
        Self::Directory,
        Self::Other,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "local seqpacket socket",
            Self::Stream => "local stream socket",
            Self::Datagram => "local datagram socket",
            Self::Udp => "UDP socket",
            Self::TcpListener => "listening TCP socket",
            Self::Tcp => "TCP connection",
            Self::OtherSocket => "other socket",
            Self::Memory => "memfd",
            Self::Event => "eventfd",
            Self::Timer => "timerfd",
            Self::Epoll => "epoll",
            Self::Uinput => "/dev/uinput",
            Self::Null => "/dev/null",
            Self::Pipe => "pipe",
            Self::Device => "other device",
            Self::File => "regular file",
            Self::Directory => "directory",
            Self::Other => "other",
        }
    }

    /// What standard input, output and error may be: nothing, a pipe to lumend, the journal.
    pub const fn is_standard(self) -> bool {
        matches!(self, Self::Null | Self::Pipe | Self::Stream)
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one plane may be and have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Profile {
    /// Each at most; a plane's manager may have set lower ones.
    pub limits: Limits,
    /// At least: a service manager puts its own before them.
    pub filters: usize,
    /// At most.
    pub threads: u32,
    /// At most, beside the standard three; of kinds that are not here none.
    pub handles: Vec<(Handle, u32)>,
    /// It has sockets that strangers reach: those that lumend has bound for it.
    pub listens: bool,
}

impl Profile {
    /// The most descriptors of one kind.
    pub fn most(&self, handle: Handle) -> u32 {
        self.handles.iter().find(|(kind, _)| *kind == handle).map_or(0, |(_, most)| *most)
    }
}

/// Of a pool's frames and its mailbox, as lumend makes them (`lumend/src/plumb.rs`).
const POOL: u32 = 4 + 1;
/// Links are held twice, the second time for the plane's last word.
const LINKS: u32 = 2;
/// A ring has a wake-up for each side.
const RING_EVENTS: u32 = 2;
/// One for the old generation and one for the new.
const GENERATIONS: u32 = 2;
/// Up to four slices at a time, and with x264 as many that look ahead; two generations of that.
const ENCODER_THREADS: u32 = 16;
/// Memory for keymaps of text, made before the seal.
const TEXT_PAGES: u32 = 8;
/// Keyboard, mouse, touch screen and sixteen pads.
const DEVICES: u32 = 19;
/// Of PipeWire's graph, which has wake-ups and memory for each of its peers there.
const GRAPH: u32 = 48;
/// lumend announces on at most so many links, by both families.
const ANNOUNCED: u32 = 2 * 16;
/// Connections that net keeps of GameStream clients, on three listeners.
const CONNECTIONS: u32 = 3 * 64;
/// Of a session in net: pictures and feedback, sound, hands and their haptics.
const RINGS: u32 = 5;
/// Queues between net's two threads, and what its runtime wakes itself with.
const NET_EVENTS: u32 = 8;
/// An app's picture, until it is copied.
const IMAGE: u32 = 1;

/// What a plane of this kind may have; net serves so many sessions.
pub fn profile(kind: PlaneKind, sessions: u32) -> Profile {
    let (threads, own): (u32, Vec<(Handle, u32)>) = match kind {
        PlaneKind::Capture => (
            1,
            vec![
                (Handle::Stream, 1),
                (Handle::Memory, GENERATIONS * POOL),
                (Handle::Event, GENERATIONS),
                (Handle::Timer, 1),
            ],
        ),
        PlaneKind::Encode => (
            1 + ENCODER_THREADS,
            vec![
                (Handle::Memory, GENERATIONS * (POOL + 2)),
                // The mailbox's, of two rings.
                (Handle::Event, GENERATIONS * (1 + 2 * RING_EVENTS)),
            ],
        ),
        PlaneKind::Net => (
            2,
            vec![
                (Handle::Udp, GENERATIONS * 2 + 3 + ANNOUNCED),
                (Handle::TcpListener, 3),
                (Handle::Tcp, CONNECTIONS),
                (Handle::Memory, IMAGE + GENERATIONS * RINGS * sessions),
                (Handle::Event, NET_EVENTS + GENERATIONS * RINGS * RING_EVENTS * sessions),
                (Handle::Timer, 1),
                (Handle::Epoll, 4),
            ],
        ),
        PlaneKind::Input => (
            1,
            vec![
                (Handle::Stream, 1),
                // What it has made itself, state and keymap, and two rings.
                (Handle::Memory, TEXT_PAGES + 2 + GENERATIONS * 2),
                (Handle::Event, GENERATIONS * 2 * RING_EVENTS),
                (Handle::Timer, 1),
                (Handle::Uinput, DEVICES),
            ],
        ),
        PlaneKind::Audio => (
            3,
            vec![
                (Handle::Stream, 1),
                (Handle::Memory, GRAPH),
                (Handle::Event, GRAPH),
                (Handle::Timer, 1),
                (Handle::Epoll, 2),
            ],
        ),
    };
    let net = kind == PlaneKind::Net;
    // One that a service manager has started tells it that it lives.
    let mut handles = vec![(Handle::Link, LINKS + u32::from(net)), (Handle::Datagram, 1)];
    handles.extend(own);
    Profile { limits: limits(kind), filters: FILTERS, threads, handles, listens: net }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [PlaneKind; 5] =
        [PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Net, PlaneKind::Input, PlaneKind::Audio];

    #[test]
    fn nobody_but_net_reaches_a_network_and_nobody_a_file() {
        for kind in KINDS {
            let profile = profile(kind, 16);
            let network =
                [Handle::Udp, Handle::TcpListener, Handle::Tcp].iter().any(|handle| profile.most(*handle) > 0);
            assert_eq!((network, profile.listens), (kind == PlaneKind::Net, kind == PlaneKind::Net), "{kind}");
            for never in [Handle::File, Handle::Directory, Handle::Device, Handle::OtherSocket, Handle::Other] {
                assert_eq!(profile.most(never), 0, "{kind}: {never}");
            }
            assert_eq!(profile.most(Handle::Uinput) > 0, kind == PlaneKind::Input, "{kind}");
        }
    }

    #[test]
    fn every_kind_of_descriptor_has_one_name_and_one_number() {
        for (at, handle) in Handle::ALL.iter().enumerate() {
            assert!(Handle::ALL[..at].iter().all(|other| other != handle && other.name() != handle.name()));
        }
        for kind in KINDS {
            let handles = profile(kind, 1).handles;
            for (at, (handle, _)) in handles.iter().enumerate() {
                assert!(handles[..at].iter().all(|(other, _)| other != handle), "{kind} has {handle} twice");
            }
        }
    }
}
