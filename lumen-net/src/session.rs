//! One client's media session: what it sends, what it hears, and what is known of the path between.

use ipc::event::now_ns;
use ipc::feedback::Feedback;
use ipc::{Face, SessionId, SessionStats};
use lumen_core::packet::{Header, Pong};
use lumen_core::seal::MediaSecret;

use crate::keyframe::{Demand, KeyframeGate};
use crate::ledger::Ledger;
use crate::media::socket::{Outlet, Peer};
use crate::media::{GuestMedia, Wiring};
use crate::pace::Pacer;
use crate::ping::{Fit, Ping, Pinged};

mod contact;
mod inbound;
mod packets;
mod stream;

use contact::{Contact, PONGS_A_REPORT};
use packets::Packets;
use stream::Stream;
pub use stream::{Broken, Pumped};

/// Most bytes of a UDP payload. Fits every path that carries QUIC.
pub const SHARD_SIZE: u16 = 1200;

/// Least parity, in percent of a frame's data.
pub const PARITY_FLOOR_PERCENT: u8 = 20;

/// The loss to defend against moves in steps, so that the parity of each frame size is computed once and not anew
/// with every report.
const LOSS_STEP_PERMILLE: u32 = 5;

/// A native client probes at least ten times a second. One that has not for this long is gone, whatever QUIC still
/// believes.
pub const SILENCE_NS: u64 = 3_000_000_000;

/// From a session's beginning to its client's first probe: as long as a client has for its `Start`.
const FIRST_PROBE_NS: u64 = 10_000_000_000;

/// A GameStream client pings twice a second, and gives the host as long as this too.
const GUEST_SILENCE_NS: u64 = 10_000_000_000;

/// From a session's wiring to a GameStream client's first ping, before which it has ten seconds for its control stream.
const FIRST_PING_NS: u64 = 20_000_000_000;

/// A session's secret: fresh, so that no key is ever used twice, whatever crashed before.
pub fn fresh_secret() -> Result<MediaSecret, &'static str> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| "the kernel gives no random bytes")?;
    Ok(MediaSecret(secret))
}

/// A session as the media thread keeps it.
pub struct MediaSession {
    id: SessionId,
    contact: Contact,
    /// The client has said that it is ready.
    started: bool,
    /// When the client was last heard, at first when the session was made.
    heard_ns: u64,
    /// Where the newest that was heard came from.
    peer: Option<Peer>,
    /// The current generation's packets.
    stream: Stream,
    path: Path,
    stats: SessionStats,
}

/// What belongs to the client and its path rather than to a generation.
struct Path {
    pacer: Pacer,
    keyframes: KeyframeGate,
    ledger: Ledger,
    last_sent_ns: u64,
    /// Since when media may be sent.
    flowing_ns: u64,
}

impl MediaSession {
    /// A session of a native client.
    pub fn new(id: SessionId, secret: MediaSecret, wiring: Wiring, now_ns: u64) -> Self {
        let packets = Packets::lumen(id, secret.clone(), wiring.generation);
        Self::with(id, Contact::native(secret, wiring.generation), packets, wiring, now_ns)
    }

    /// A session of a GameStream client.
    pub fn guest(id: SessionId, guest: GuestMedia, wiring: Wiring, now_ns: u64) -> Self {
        let contact = Contact::guest(Pinged::new(guest.ping, guest.address));
        Self::with(id, contact, Packets::rtp(guest.config), wiring, now_ns)
    }

    fn with(id: SessionId, contact: Contact, packets: Packets, wiring: Wiring, now_ns: u64) -> Self {
        let path = Path {
            pacer: Pacer::new(wiring.bitrate_kbps),
            keyframes: KeyframeGate::default(),
            ledger: Ledger::default(),
            last_sent_ns: now_ns,
            flowing_ns: now_ns,
        };
        Self {
            id,
            contact,
            started: false,
            heard_ns: now_ns,
            peer: None,
            stream: Stream::new(packets, wiring),
            path,
            stats: SessionStats::default(),
        }
    }

    /// Of the picture, as it was wired last.
    pub fn generation(&self) -> u32 {
        self.stream.generation()
    }

    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The protocol that its client speaks, and so the socket that its media goes through.
    pub fn face(&self) -> Face {
        match self.contact {
            Contact::Native(_) => Face::Lumen,
            Contact::Guest(_) => Face::GameStream,
        }
    }

    /// Moves to a higher generation, whose frames count from 0.
    pub fn wire(&mut self, wiring: Wiring) {
        self.contact.set_generation(wiring.generation);
        self.path.keyframes.new_generation();
        self.path.pacer.set_bitrate(wiring.bitrate_kbps);
        self.stream.wire(wiring);
    }

    /// Gives up the rings, if they are of `generation` or that is none. Idle packets go on.
    pub fn unwire(&mut self, generation: Option<u32>) -> Option<Wiring> {
        match generation.is_none_or(|generation| generation == self.stream.generation()) {
            true => self.stream.unwire(),
            false => None,
        }
    }

    pub fn start(&mut self, now_ns: u64) {
        if !self.flowing() {
            (self.started, self.path.flowing_ns) = (true, now_ns);
        }
    }

    /// Media may be sent: the client has asked for it, and its address is proven.
    pub fn flowing(&self) -> bool {
        self.started && self.peer.is_some()
    }

    /// When the client is taken for gone if nothing is heard of it before.
    pub fn silent_at_ns(&self) -> u64 {
        let patience = match (&self.contact, self.peer.is_some()) {
            (Contact::Native(_), true) => SILENCE_NS,
            (Contact::Native(_), false) => FIRST_PROBE_NS,
            (Contact::Guest(_), true) => GUEST_SILENCE_NS,
            (Contact::Guest(_), false) => FIRST_PING_NS,
        };
        self.heard_ns + patience
    }

    pub fn last_sent_ns(&self) -> u64 {
        self.path.last_sent_ns
    }

    /// Forgets that the ring woke us; to be called before [`Self::pump`].
    pub fn drain_wake(&self) {
        self.stream.drain_wake();
    }

    /// Sends until the ring is empty, the allowance is spent or the socket is full.
    pub fn pump(&mut self, out: Outlet<'_>) -> Result<Pumped, Broken> {
        match self.peer.filter(|_| self.started) {
            Some(peer) => self.stream.pump(&mut self.path, &mut self.stats, peer, out),
            None => Ok(Pumped::Empty),
        }
    }

    /// Takes a datagram of the native protocol that names this session, and answers it. True if it was authentic.
    pub fn on_datagram(
        &mut self,
        header: &Header,
        datagram: &[u8],
        from: Peer,
        received_ns: u64,
        out: Outlet<'_>,
    ) -> bool {
        let Contact::Native(native) = &mut self.contact else { return false };
        let Some(opened) = native.inbound.open(header, datagram) else {
            self.stats.rejected += 1;
            return false;
        };
        let probe = opened.probe;
        if opened.generation == self.stream.generation() {
            let loss = native.loss.report(probe.highest, probe.received, self.stream.sent());
            self.stream.set_loss(loss.next_multiple_of(LOSS_STEP_PERMILLE));
            if self.path.keyframes.ask(received_ns, &probe) {
                self.stream.feed_back(Feedback::Idr);
            }
        }
        let answered = native.pongs_left > 0;
        native.pongs_left -= u32::from(answered);
        self.hear(received_ns, opened.newest.then_some(from));
        if answered {
            let pong = Pong { client_ns: probe.client_ns, host_received_ns: received_ns, host_sent_ns: now_ns() };
            // The answer goes where the question came from; media goes where the newest question came from.
            self.stream.send_pong(pong, &mut self.stats, from, out);
        }
        true
    }

    /// How well a GameStream client's ping fits this session.
    pub fn fit(&self, ping: &Ping, from: Peer) -> Option<Fit> {
        match &self.contact {
            Contact::Native(_) => None,
            Contact::Guest(guest) => guest.pinged.fit(ping, from.address, self.peer.map(|peer| peer.address)),
        }
    }

    /// Takes a ping that fits.
    pub fn on_ping(&mut self, ping: &Ping, from: Peer, received_ns: u64) {
        if let Contact::Guest(guest) = &mut self.contact {
            let newest = guest.pinged.take(ping, from.address, self.peer.map(|peer| peer.address));
            self.hear(received_ns, newest.then_some(from));
        }
    }

    /// The client lives, and perhaps it is elsewhere now.
    fn hear(&mut self, now_ns: u64, peer: Option<Peer>) {
        self.heard_ns = now_ns;
        if self.peer.is_none() && peer.is_some() {
            self.path.flowing_ns = now_ns;
        }
        self.peer = peer.or(self.peer);
    }

    /// A GameStream client wants a keyframe. Some time if that has to be looked at again then, by
    /// [`Self::keyframe_due`].
    pub fn demand_keyframe(&mut self, now_ns: u64) -> Option<u64> {
        match self.path.keyframes.demand(now_ns) {
            Demand::Ask => self.stream.feed_back(Feedback::Idr),
            Demand::Later(at_ns) => return Some(at_ns),
            Demand::Served => {}
        }
        None
    }

    pub fn keyframe_due(&mut self, now_ns: u64) {
        if self.path.keyframes.due(now_ns) {
            self.stream.feed_back(Feedback::Idr);
        }
    }

    /// What a GameStream client says it loses, in thousandths.
    pub fn set_loss(&mut self, permille: u32) {
        if let Contact::Guest(guest) = &mut self.contact {
            guest.loss_permille = permille.min(1000);
            self.stream.set_loss(guest.loss_permille.next_multiple_of(LOSS_STEP_PERMILLE));
        }
    }

    /// Tells the client that the host is alive and has nothing to send.
    pub fn send_idle(&mut self, out: Outlet<'_>, now_ns: u64) {
        let Some(peer) = self.peer else { return };
        if self.stream.send_idle(&mut self.stats, peer, out) {
            self.path.last_sent_ns = now_ns;
        }
    }

    /// The session's counts and latencies up to now.
    pub fn stats(&mut self, now_ns: u64) -> SessionStats {
        self.stats.loss_permille = self.contact.loss_permille();
        if let Contact::Native(native) = &mut self.contact {
            native.pongs_left = PONGS_A_REPORT;
        }
        self.path.ledger.report(now_ns, &mut self.stats);
        self.stats
    }
}
