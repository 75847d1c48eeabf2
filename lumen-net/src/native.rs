//! lumen/1's control connection: a QUIC endpoint on the socket lumend bound, and one task per client.
//!
//! Tasks parse and time their client; what it means is decided in [`crate::control`], to which they report over one
//! bounded queue. A task waits when that queue is full, so the queue drops nothing; there are never more tasks than
//! [`Limits::connections`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hkdf, hmac};
use ipc::Fingerprint;
use lumen_core::Mode;
use lumen_core::hello::{ClientHello, Code, Welcome};
use nix::sys::socket::{setsockopt, sockopt};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, EndpointConfig, IdleTimeout, Incoming, ServerConfig, TokioRuntime, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::branches::{BranchOrder, Broken, Tally};
use crate::counters::{Counter, Counters};

mod addresses;
mod attend;
mod connection;
mod ending;
mod stream;

use addresses::Addresses;

/// Bounds on what strangers can make net hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all, handshakes included; more are refused.
    pub connections: usize,
    /// Of those, how many one address may hold.
    pub per_address: usize,
    /// Above this many pending handshakes an address has to prove itself by a QUIC Retry.
    pub pending_handshakes: usize,
    /// From a connection's first packet to its `Hello`.
    pub handshake: Duration,
    /// From `Ask` to lumend's answer.
    pub answer: Duration,
    /// From `Welcome` to `Start`.
    pub start: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        Self { connections: 32, per_address: 16, pending_handshakes: 8, handshake: ten, answer: ten, start: ten }
    }
}

/// Silence after which a connection is given up.
const IDLE_MS: u32 = 4_000;
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Between two stateless resets. A network plane that has been replaced owes one to every client, at once: what they
/// sent meanwhile is read in one go, in which no time passes for the endpoint, so that any interval would leave all but
/// one of them without. Only its own connection ids are answered, each by less than what was sent, so that a flood of
/// them does more harm to whoever pays for it.
const RESET_INTERVAL: Duration = Duration::ZERO;

/// How long a plane that stops waits for what it has said last to be heard, and again for what it closes.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Messages to one client that may wait. A client that lets more pile up is closed.
const TO_CLIENT: usize = 16;

/// Bytes of a client's datagrams that may wait for its task, which takes them at once; the oldest are dropped.
const DATAGRAMS_IN: usize = 64 << 10;
/// Bytes of datagrams that may wait to be sent, because the path is congested or net was not scheduled: 120 ms of 7.1
/// sound, or 320 ms of stereo. The oldest are dropped, because a client that lags behind is worse off than one that
/// misses something.
const DATAGRAMS_OUT: usize = 8 << 10;

/// Bytes that may wait in the socket to be sent; the kernel gives what its limits allow.
const SEND_BUFFER: usize = 2 << 20;

/// One connection, for as long as net lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

/// What a client's task tells the control loop.
#[derive(Debug)]
pub enum FromClient {
    /// A well-formed `Hello` of our version, from a client whose key matches its certificate.
    Hello {
        client: ClientId,
        peer: SocketAddr,
        fingerprint: Fingerprint,
        hello: ClientHello,
        to: ClientSender,
        /// What its session's branches will have done.
        tally: Arc<Tally>,
    },
    /// The client is ready for media.
    Start { client: ClientId },
    /// A plane of its session broke the protocol.
    BranchBroken { client: ClientId, broken: Broken },
    /// The task has ended. Sent once for each client whose `Hello` was sent, and last.
    Gone { client: ClientId, reason: String },
}

/// What the control loop tells a client's task.
pub enum ToClient {
    Welcome(Box<Welcome>),
    Reconfigure {
        generation: u32,
        mode: Mode,
    },
    /// Rings of sound, input and rumble come and go.
    Branch(Box<BranchOrder>),
    /// Before `Welcome`; the last message.
    Refused {
        code: Code,
        reason: String,
    },
    /// After `Welcome`; the last message.
    End {
        code: Code,
        reason: String,
    },
}

pub type ClientSender = mpsc::Sender<ToClient>;

/// Keys that outlive this process, so that a restarted net resets the connections of the one before.
pub struct EndpointKeys {
    pub reset: [u8; 32],
    pub token: [u8; 32],
    pub connection_id: u64,
}

/// The endpoint and the bounds on its connections.
pub struct Acceptor {
    endpoint: Endpoint,
    limits: Limits,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    addresses: Addresses,
    events: mpsc::Sender<FromClient>,
    counters: Arc<Counters>,
    /// Of clients; those that have ended are forgotten with the next one's start.
    tasks: BTreeMap<ClientId, JoinHandle<()>>,
    next: u64,
}

impl Acceptor {
    /// Takes over the bound `socket`. Must run inside the control thread's runtime; spawns the endpoint's task there.
    pub fn new(
        socket: UdpSocket,
        tls: rustls::ServerConfig,
        keys: &EndpointKeys,
        limits: Limits,
        events: mpsc::Sender<FromClient>,
        counters: Arc<Counters>,
    ) -> Result<Self, String> {
        let crypto = QuicServerConfig::try_from(tls).map_err(|error| format!("TLS cannot be set up: {error}"))?;
        let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"lumen/1 retry token").extract(&keys.token);
        let mut server = ServerConfig::new(Arc::new(crypto), Arc::new(token_key));
        server.transport_config(Arc::new(transport()));
        server.max_incoming(limits.connections);
        server.incoming_buffer_size(64 << 10).incoming_buffer_size_total(1 << 20);

        let mut config = EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &keys.reset)));
        config.min_reset_interval(RESET_INTERVAL);
        let id_key = keys.connection_id;
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));

        let endpoint = hand_over(socket, |socket| Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime)))
            .map_err(|error| format!("the QUIC socket cannot be used: {error}"))?;
        Ok(Self {
            endpoint,
            limits,
            connections: Arc::new(Semaphore::new(limits.connections)),
            handshakes: Arc::new(Semaphore::new(limits.pending_handshakes)),
            addresses: Addresses::new(limits.per_address),
            events,
            counters,
            tasks: BTreeMap::new(),
            next: 0,
        })
    }

    /// The next attempt to connect; none when the endpoint is closed.
    pub async fn incoming(&self) -> Option<Incoming> {
        self.endpoint.accept().await
    }

    /// Starts a task for `incoming`, or refuses it, or sends it back to prove its address.
    pub fn admit(&mut self, incoming: Incoming) {
        let handshake = self.handshakes.clone().try_acquire_owned().ok();
        if handshake.is_none() && incoming.may_retry() {
            self.counters.add(Counter::Retries);
            // Only a connection that was already retried cannot be retried, and that was just checked.
            let _ = incoming.retry();
            return;
        }
        let share = self.addresses.take(incoming.remote_address().ip());
        let slot = self.connections.clone().try_acquire_owned().ok();
        let Some(places) = slot.zip(share) else {
            self.counters.add(Counter::ConnectionsRefused);
            incoming.refuse();
            return;
        };
        let Ok(connecting) = incoming.accept() else {
            self.counters.add(Counter::HandshakesFailed);
            return;
        };
        self.next += 1;
        let task = connection::Task {
            client: ClientId(self.next),
            deadline: Instant::now() + self.limits.handshake,
            limits: self.limits,
            events: self.events.clone(),
            counters: self.counters.clone(),
        };
        self.tasks.retain(|_, task| !task.is_finished());
        let running = tokio::spawn(async move {
            let _places = places;
            task.run(connecting, handshake).await;
        });
        self.tasks.insert(ClientId(self.next), running);
    }

    /// Moves to another socket; connections go on.
    pub fn rebind(&self, socket: UdpSocket) -> io::Result<()> {
        hand_over(socket, |socket| self.endpoint.rebind(socket))
    }

    /// Waits a moment for the clients that are `parting`, which have been sent their last word, to have it. Then tells
    /// every other that this connection is over, and waits a moment for the packets to leave.
    pub async fn shut_down(mut self, parting: &BTreeSet<ClientId>) {
        let tasks = parting.iter().filter_map(|client| self.tasks.remove(client)).collect::<Vec<_>>();
        let parted = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        let _ = timeout(LAST_WORDS, parted).await;
        // The others' sessions go on with the next network plane: no end code, no end.
        self.endpoint.close(VarInt::from_u32(0), b"");
        let _ = timeout(LAST_WORDS, self.endpoint.wait_idle()).await;
    }
}

/// Gives `socket` to the endpoint by `take`, and makes good what the endpoint cannot do right in a sealed plane.
fn hand_over<T>(socket: UdpSocket, take: impl FnOnce(UdpSocket) -> io::Result<T>) -> io::Result<T> {
    // The endpoint leaves alone what is non-blocking already, as every socket of lumend's is: flags belong to whoever
    // else has it, so that a sealed plane may not change them.
    let same = socket.try_clone()?;
    let taken = take(socket)?;
    // A socket remembers what the network plane before has set, which may have been in bad hands. Of what could
    // hinder it the endpoint sets all anew but this: that what it sends is cut to a size, that the kernel tells the time of
    // each datagram, and how much may wait to be sent. Less of that than wished for is no error.
    setsockopt(&same, sockopt::UdpGsoSegment, &0)?;
    setsockopt(&same, sockopt::ReceiveTimestampns, &false)?;
    let _ = setsockopt(&same, sockopt::SndBuf, &SEND_BUFFER);
    // It lets the kernel join packets, but has room for joined ones only if it may open a socket to see whether the
    // kernel does that, which a sealed plane may not: what came as a burst would be cut off and thrown away.
    setsockopt(&same, sockopt::UdpGroSegment, &false)?;
    Ok(taken)
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        // Sound, input and rumble.
        .datagram_receive_buffer_size(Some(DATAGRAMS_IN))
        .datagram_send_buffer_size(DATAGRAMS_OUT)
        // One stream carries the whole conversation; messages are at most 16 KiB.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(32 << 10))
        .receive_window(VarInt::from_u32(32 << 10))
        .send_window(64 << 10)
        // Control traffic is a few packets: offload would gain nothing. quinn-udp looks for it all the same, by
        // opening a socket, which the sandbox denies; it takes that for a kernel without offload.
        .enable_segmentation_offload(false);
    transport
}

fn close_code(code: Code) -> VarInt {
    VarInt::from_u32(u32::from(code as u16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::getsockopt;

    #[tokio::test(flavor = "current_thread")]
    async fn packets_of_a_burst_are_not_joined_for_an_endpoint_that_has_no_room_for_that() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let same = socket.try_clone().unwrap();
        let endpoint = |socket| Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime));
        let endpoint = hand_over(socket, endpoint).unwrap();
        assert!(!getsockopt(&same, sockopt::UdpGroSegment).unwrap());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let same = socket.try_clone().unwrap();
        hand_over(socket, |socket| endpoint.rebind(socket)).unwrap();
        assert!(!getsockopt(&same, sockopt::UdpGroSegment).unwrap());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_the_plane_before_has_set_on_the_socket_is_undone() {
        let fresh = getsockopt(&UdpSocket::bind("127.0.0.1:0").unwrap(), sockopt::SndBuf).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let same = socket.try_clone().unwrap();
        setsockopt(&same, sockopt::UdpGsoSegment, &600).unwrap();
        setsockopt(&same, sockopt::ReceiveTimestampns, &true).unwrap();
        setsockopt(&same, sockopt::SndBuf, &1).unwrap();
        let endpoint = |socket| Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime));
        let _endpoint = hand_over(socket, endpoint).unwrap();
        assert_eq!(getsockopt(&same, sockopt::UdpGsoSegment), Ok(0));
        assert_eq!(getsockopt(&same, sockopt::ReceiveTimestampns), Ok(false));
        assert!(getsockopt(&same, sockopt::SndBuf).unwrap() >= fresh);
    }
}
