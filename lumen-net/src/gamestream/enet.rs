//! The ENet host of all GameStream control streams: the library, fed and emptied by the hub, behind a gate.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipc::SessionId;
use ipc::event::now_ns;
use lumen_core::gamestream::control::MAX_SEALED;
use rusty_enet::{EventNoRef, Host, HostSettings, MTU_MAX, Packet, PacketReceived, PeerState, Socket};

use crate::counters::{Counter, Counters};
use crate::media::socket::{MediaSocket, Outlet, Peer};
use crate::readable::Readable;

pub(crate) mod gate;
mod window;
pub(crate) mod wire;

use gate::{Gate, PEERS, Verdict};
pub use rusty_enet::PeerID;
use wire::CHANNELS;

/// Silence, in milliseconds, after which a peer is given up: as long as clients wait for the host
/// (moonlight-common-c, ControlStream.c).
const SILENCE_MS: u32 = 10_000;
/// The limit of retransmissions that goes with it there.
const ATTEMPTS: u32 = 2;

/// Bytes of a packet, and of all packets of one peer that wait: a client's own window is 64 KiB.
const MOST_BYTES: usize = 2 * MAX_SEALED;
const MOST_WAITING: usize = 256 << 10;

/// How often the library wants to be called while it has peers, for what nobody sends it: retransmissions and timeouts.
pub const SERVICE: Duration = Duration::from_millis(25);

/// What came of the network.
pub enum Heard {
    /// A peer that knows the session's connect data is there. It has proven nothing else.
    Connected {
        peer: PeerID,
        session: SessionId,
    },
    Said {
        peer: PeerID,
        session: SessionId,
        packet: Packet,
    },
    /// It has said goodbye, or has been silent for too long.
    Gone {
        peer: PeerID,
        session: SessionId,
    },
}

/// The library's idea of a socket.
struct Port {
    socket: Readable<MediaSocket>,
    counters: Arc<Counters>,
    gate: Gate,
    /// Datagrams that have passed the gate.
    arrived: VecDeque<(SocketAddr, Vec<u8>)>,
}

/// The host and its peers' sessions.
pub struct Enet {
    host: Host<Port>,
    /// Of peers that are connected.
    sessions: BTreeMap<usize, SessionId>,
}

impl Enet {
    pub fn new(socket: Readable<MediaSocket>, counters: Arc<Counters>) -> Result<Self, String> {
        let mut seed = [0; 4];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| "the kernel gives no random bytes")?;
        let settings = HostSettings {
            peer_limit: PEERS,
            channel_limit: CHANNELS,
            time: Box::new(|| Duration::from_nanos(now_ns())),
            seed: Some(u32::from_ne_bytes(seed)),
            ..HostSettings::default()
        };
        let port = Port { socket, counters, gate: Gate::default(), arrived: VecDeque::new() };
        let set_up = |host: &mut Host<Port>| {
            host.set_maximum_packet_size(MOST_BYTES)?;
            host.set_maximum_waiting_data(MOST_WAITING)
        };
        let mut host = Host::new(port, settings).map_err(|error| format!("ENet cannot be set up: {error}"))?;
        set_up(&mut host).map_err(|error| format!("ENet cannot be set up: {error}"))?;
        Ok(Self { host, sessions: BTreeMap::new() })
    }

    /// Where the datagrams come from that [`Self::take`] wants.
    pub fn socket(&mut self) -> &mut Readable<MediaSocket> {
        &mut self.host.socket_mut().socket
    }

    /// See [`Gate::expect`].
    pub fn expect(&mut self, connect_data: u32, session: SessionId, only: Option<IpAddr>) {
        self.host.socket_mut().gate.expect(connect_data, session, only);
    }

    /// The session has found its client: nobody else may connect to it, and those who have are forgotten.
    pub fn settle(&mut self, session: SessionId, its: PeerID) {
        self.host.socket_mut().gate.close(session);
        self.reset(session, Some(its));
    }

    /// Nobody speaks for the session any more.
    pub fn forget(&mut self, session: SessionId) {
        self.host.socket_mut().gate.forget(session);
        self.reset(session, None);
        self.evict();
    }

    /// This one has come in vain.
    pub fn drop_peer(&mut self, peer: PeerID) {
        self.sessions.remove(&peer.0);
        if let Some(peer) = self.host.get_peer_mut(peer) {
            peer.reset();
        }
        self.sweep();
    }

    fn reset(&mut self, session: SessionId, but: Option<PeerID>) {
        let its = |peer: &usize, of: &mut SessionId| *of == session && but != Some(PeerID(*peer));
        for (peer, _) in self.sessions.extract_if(.., its) {
            if let Some(peer) = self.host.get_peer_mut(PeerID(peer)) {
                peer.reset();
            }
        }
        self.sweep();
    }

    /// Forgets peers that nobody may be any more: those that have not got as far as being connected with their session.
    /// Each would keep a place from somebody else until the library gives it up.
    fn evict(&mut self) {
        let living = |peer: &rusty_enet::Peer<Port>| Some((peer.id(), peer.address()?));
        let all: Vec<_> = self.host.peers().filter(|peer| is_living(peer)).filter_map(living).collect();
        for (peer, address) in all {
            if self.host.socket().gate.session(address).is_none()
                && let Some(peer) = self.host.get_peer_mut(peer)
            {
                peer.reset();
            }
        }
    }

    /// Takes in a datagram if its sender may speak; the library sees it at the next [`Self::next`].
    pub fn take(&mut self, now_ns: u64, from: Peer, datagram: &[u8]) {
        let port = self.host.socket_mut();
        match port.gate.judge(now_ns, from, datagram) {
            Verdict::Pass => port.arrived.push_back((from.address, datagram.to_vec())),
            Verdict::Stray => port.counters.add(Counter::StrayPackets),
            Verdict::TooMuch => port.counters.add(Counter::QueueFull),
        }
    }

    /// The next thing that has come of what was taken in, or of time. None when there is nothing: then everything that
    /// was to be sent has been.
    pub fn next(&mut self) -> Option<Heard> {
        loop {
            let event = match self.host.service() {
                Ok(event) => event.map(|event| event.no_ref()),
                Err(never) => match never {},
            };
            match event? {
                EventNoRef::Connect { peer, .. } => {
                    let address = self.host.get_peer(peer).and_then(rusty_enet::Peer::address);
                    let session = address.and_then(|address| self.host.socket().gate.session(address));
                    let Some(connected) = self.host.get_peer_mut(peer) else { continue };
                    let Some(session) = session else {
                        connected.reset();
                        continue;
                    };
                    connected.set_timeout(ATTEMPTS, SILENCE_MS, SILENCE_MS);
                    self.sessions.insert(peer.0, session);
                    return Some(Heard::Connected { peer, session });
                }
                EventNoRef::Disconnect { peer, .. } => {
                    let session = self.sessions.remove(&peer.0);
                    self.sweep();
                    if let Some(session) = session {
                        return Some(Heard::Gone { peer, session });
                    }
                }
                EventNoRef::Receive { peer, packet, .. } => {
                    if let Some(&session) = self.sessions.get(&peer.0) {
                        return Some(Heard::Said { peer, session, packet });
                    }
                }
            }
        }
    }

    /// True while somebody may have to be called back or given up.
    pub fn is_busy(&self) -> bool {
        self.host.socket().gate.is_busy()
    }

    /// Forgets addresses whose peer is gone; the library does not tell of those that never came as far as being one.
    pub fn sweep(&mut self) {
        let living = self.host.peers().filter(|peer| is_living(peer));
        let mut addresses: Vec<SocketAddr> = living.filter_map(rusty_enet::Peer::address).collect();
        let port = self.host.socket_mut();
        // Those whose CONNECT the library has not seen yet.
        addresses.extend(port.arrived.iter().map(|(address, _)| *address));
        port.gate.retain(|address| addresses.contains(&address));
    }

    /// Queues a reliable packet; false if the peer is gone. It leaves with the next [`Self::flush`].
    pub fn send(&mut self, peer: PeerID, channel: u8, bytes: &[u8]) -> bool {
        let Some(peer) = self.host.get_peer_mut(peer) else { return false };
        peer.send(channel, &Packet::reliable(bytes)).is_ok()
    }

    /// Says goodbye once everything that was queued has arrived.
    pub fn part(&mut self, peer: PeerID) {
        if let Some(peer) = self.host.get_peer_mut(peer) {
            peer.disconnect_later(0);
        }
    }

    pub fn flush(&mut self) {
        self.host.flush();
    }
}

fn is_living(peer: &rusty_enet::Peer<Port>) -> bool {
    peer.state() != PeerState::Disconnected
}

impl Socket for Port {
    type Address = SocketAddr;
    type Error = Infallible;

    fn send(&mut self, address: SocketAddr, buffer: &[u8]) -> Result<usize, Infallible> {
        self.gate.said(address, buffer);
        // An address that has just been forgotten may still be told so, from whichever of ours the kernel picks.
        let to = self.gate.peer(address).unwrap_or(Peer { address, local: None });
        let outlet = Outlet { socket: self.socket.get(), counters: &self.counters };
        // What finds no room is as lost as if the network had dropped it: the library sends it again.
        let _ = outlet.send(to, buffer, buffer.len());
        Ok(buffer.len())
    }

    fn receive(&mut self, buffer: &mut [u8; MTU_MAX]) -> Result<Option<(SocketAddr, PacketReceived)>, Infallible> {
        let Some((address, datagram)) = self.arrived.pop_front() else { return Ok(None) };
        let Some(room) = buffer.get_mut(..datagram.len()) else { return Ok(Some((address, PacketReceived::Partial))) };
        room.copy_from_slice(&datagram);
        Ok(Some((address, PacketReceived::Complete(datagram.len()))))
    }
}
