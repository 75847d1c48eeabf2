//! One client's media session: what it sends, what it hears, and what is known of the path between.

use ipc::event::now_ns;
use ipc::feedback::Feedback;
use ipc::{SessionId, SessionStats};
use lumen_core::packet::{Header, Pong};
use lumen_core::parity::LossEstimator;
use lumen_core::seal::MediaSecret;

use crate::keyframe::KeyframeGate;
use crate::ledger::Ledger;
use crate::media::Wiring;
use crate::media::socket::{Outlet, Peer};
use crate::pace::Pacer;

mod inbound;
mod stream;

use inbound::Inbound;
use stream::Stream;
pub use stream::{Broken, Pumped};

/// Most bytes of a UDP payload. Fits every path that carries QUIC.
pub const SHARD_SIZE: u16 = 1200;

/// Least parity, in percent of a frame's data.
pub const PARITY_FLOOR_PERCENT: u8 = 20;

/// The loss to defend against moves in steps, so that the parity of each frame size is computed once and not anew
/// with every report.
const LOSS_STEP_PERMILLE: u32 = 5;

/// Probes answered between two reports, which are a second apart: several times what a client sends, and little enough
/// that one which sends a flood of them costs the other sessions nothing.
const PONGS_A_REPORT: u32 = 250;

/// A session's secret: fresh, so that no key is ever used twice, whatever crashed before.
pub fn fresh_secret() -> Result<MediaSecret, &'static str> {
    let mut secret = [0; 32];
    aws_lc_rs::rand::fill(&mut secret).map_err(|_| "the kernel gives no random bytes")?;
    Ok(MediaSecret(secret))
}

/// A session as the media thread keeps it.
pub struct MediaSession {
    id: SessionId,
    secret: MediaSecret,
    /// The client has said `Start`.
    started: bool,
    /// When the last authentic packet came, at first when the session was made.
    heard_ns: u64,
    /// Where the newest authentic packet came from.
    peer: Option<Peer>,
    inbound: Inbound,
    /// The current generation's packets.
    stream: Stream,
    path: Path,
    stats: SessionStats,
    pongs_left: u32,
}

/// What belongs to the client and its path rather than to a generation.
struct Path {
    pacer: Pacer,
    loss: LossEstimator,
    keyframes: KeyframeGate,
    ledger: Ledger,
    last_sent_ns: u64,
}

impl MediaSession {
    pub fn new(id: SessionId, secret: MediaSecret, wiring: Wiring, now_ns: u64) -> Self {
        let mut inbound = Inbound::default();
        inbound.add(&secret, wiring.generation);
        let path = Path {
            pacer: Pacer::new(wiring.bitrate_kbps),
            loss: LossEstimator::default(),
            keyframes: KeyframeGate::default(),
            ledger: Ledger::default(),
            last_sent_ns: now_ns,
        };
        let stream = Stream::new(id, &secret, wiring);
        Self {
            id,
            secret,
            started: false,
            heard_ns: now_ns,
            peer: None,
            inbound,
            stream,
            path,
            stats: SessionStats::default(),
            pongs_left: PONGS_A_REPORT,
        }
    }

    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Moves to a higher generation: new keys, new counters, and frames from 0.
    pub fn wire(&mut self, wiring: Wiring) {
        self.inbound.add(&self.secret, wiring.generation);
        self.path.loss.new_generation();
        self.path.keyframes.new_generation();
        self.path.pacer.set_bitrate(wiring.bitrate_kbps);
        self.stream.wire(&self.secret, wiring);
    }

    /// Gives up the rings, if they are of `generation` or that is none. Idle packets go on.
    pub fn unwire(&mut self, generation: Option<u32>) -> Option<Wiring> {
        match generation.is_none_or(|generation| generation == self.stream.generation()) {
            true => self.stream.unwire(),
            false => None,
        }
    }

    pub fn start(&mut self) {
        self.started = true;
    }

    /// Media may be sent: the client has asked for it, and its address is proven.
    pub fn flowing(&self) -> bool {
        self.started && self.peer.is_some()
    }

    /// Some authentic packet has come.
    pub fn is_heard(&self) -> bool {
        self.peer.is_some()
    }

    /// When the last one came; before the first, when the session was made.
    pub fn heard_ns(&self) -> u64 {
        self.heard_ns
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

    /// Takes a datagram that names this session, and answers it. True if it was authentic.
    pub fn on_datagram(
        &mut self,
        header: &Header,
        datagram: &[u8],
        from: Peer,
        received_ns: u64,
        out: Outlet<'_>,
    ) -> bool {
        let Some(opened) = self.inbound.open(header, datagram) else {
            self.stats.rejected += 1;
            return false;
        };
        self.heard_ns = received_ns;
        if opened.newest {
            self.peer = Some(from);
        }
        let probe = opened.probe;
        if opened.generation == self.stream.generation() {
            let loss = self.path.loss.report(probe.highest, probe.received, self.stream.sent());
            self.stream.set_loss(loss.next_multiple_of(LOSS_STEP_PERMILLE));
            if self.path.keyframes.ask(received_ns, &probe) {
                self.stream.feed_back(Feedback::Idr);
            }
        }
        let pong = Pong { client_ns: probe.client_ns, host_received_ns: received_ns, host_sent_ns: now_ns() };
        if self.pongs_left == 0 {
            return true;
        }
        self.pongs_left -= 1;
        // The answer goes where the question came from; media goes where the newest question came from.
        self.stream.send_pong(pong, &mut self.stats, from, out);
        true
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
        // The estimate carries a margin of a quarter, which is no loss that anybody saw.
        self.stats.loss_permille = self.path.loss.permille() * 4 / 5;
        self.pongs_left = PONGS_A_REPORT;
        self.path.ledger.report(now_ns, &mut self.stats);
        self.stats
    }
}
