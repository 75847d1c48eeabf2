//! The video half: pings, packets, frames, and a decoder beside them.

pub mod block;
pub mod frame;
pub mod judge;
pub mod packet;
pub mod queue;
#[cfg(test)]
mod queue_tests;
pub mod show;

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use anyhow::Result;
use ipc::event::now_ns;
use nix::sys::socket::{setsockopt, sockopt};

use self::frame::Frame;
use self::judge::Judge;
use self::queue::{Event, Queue};
use self::show::Show;
use super::chance::Chance;
use super::control::{Message, Orders};
use super::ping::{PAUSE, Pinger, received};
use super::rtsp::Port;
use super::seal::Gcm;
use super::shared::{Shared, Video};

/// Bytes of kernel buffer asked for: a busy machine must not make loss.
const BUFFER: usize = 4 << 20;
/// Frames that wait for the decoder; more are counted and not decoded.
const WAITING: usize = 240;
/// Frames dropped in a row after which an IDR is asked for once more (VideoDepacketizer.c).
const DROPS: u32 = 120;

/// What the video of a session is made of.
pub struct Setup {
    pub host: SocketAddr,
    pub port: Port,
    pub packet_size: usize,
    pub key: Option<[u8; 16]>,
    pub loss: Chance,
    pub decode: bool,
    pub judge: Option<Judge>,
}

/// Receives until the session ends; two threads, the second of which decodes.
pub fn start(setup: Setup, orders: Orders, shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>> {
    let (frames, waiting) = sync_channel(WAITING);
    let shown = Arc::clone(shared);
    let judge = setup.judge;
    let decode = setup.decode.then(|| thread::spawn(move || decode(&waiting, judge, &shown)));
    let any = if setup.host.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    // Only root may have more than the system's limit; then that has to do.
    if setsockopt(&socket.as_fd(), sockopt::RcvBufForce, &BUFFER).is_err() {
        setsockopt(&socket.as_fd(), sockopt::RcvBuf, &BUFFER)?;
    }
    socket.set_read_timeout(Some(PAUSE))?;
    let key = setup.key.map(|key| Gcm::new(&key)).transpose()?;
    let receiver = Receiving {
        pinger: Pinger::new(setup.host, setup.port),
        queue: Queue::new(setup.packet_size),
        viewer: Viewer::default(),
        loss: setup.loss,
        frames: setup.decode.then_some(frames),
        socket,
        key,
        orders,
        shared: Arc::clone(shared),
    };
    let receive = thread::spawn(move || receiver.run());
    Ok([Some(receive), decode].into_iter().flatten().collect())
}

/// The thread that receives.
struct Receiving {
    socket: UdpSocket,
    pinger: Pinger,
    queue: Queue,
    viewer: Viewer,
    key: Option<Gcm>,
    loss: Chance,
    frames: Option<SyncSender<(u64, Frame)>>,
    orders: Orders,
    shared: Arc<Shared>,
}

impl Receiving {
    fn run(mut self) {
        let (mut packet, mut events) = ([0; 2048], Vec::new());
        while !self.shared.is_over() {
            self.pinger.ping(&self.socket);
            let Some(length) = received(&self.socket, &mut packet) else { continue };
            if self.loss.strikes() | self.shared.video(Video::strikes) {
                self.shared.video(|video| video.dropped += 1);
                continue;
            }
            match self.open(&packet[..length]) {
                Some(clear) => self.queue.push(&clear, &mut events),
                None => self.shared.video(|video| video.not_authentic += 1),
            }
            for event in events.drain(..) {
                self.take(event);
            }
            let counts = &self.queue.counts;
            self.shared.video(|video| video.counts.clone_from(counts));
        }
    }

    /// Nonce, frame, tag, and the packet.
    fn open(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let Some(key) = &self.key else { return Some(bytes.to_vec()) };
        let nonce = bytes.get(..12)?.try_into().ok()?;
        let tag = bytes.get(16..32)?.try_into().ok()?;
        let clear = key.open(nonce, &bytes[32..], tag).ok()?;
        let frame = u32::from_le_bytes(bytes[12..16].try_into().ok()?);
        // A client drops early by this number, so it has to be the packet's own.
        (frame == 0 || packet::Packet::parse(&clear)?.frame == frame).then_some(clear)
    }

    fn take(&mut self, event: Event) {
        let now = now_ns();
        match event {
            Event::Frame(frame) => {
                let verdict = self.viewer.frame(&frame);
                self.shared.video(|video| video.frame(now, &frame, verdict == Verdict::Show));
                if verdict == Verdict::AskIdr {
                    self.ask_idr();
                }
                if verdict == Verdict::Show
                    && let Some(frames) = &self.frames
                    && let Err(TrySendError::Full(_)) = frames.try_send((now, frame))
                {
                    self.shared.video(|video| video.undecoded += 1);
                    self.viewer.lost();
                }
            }
            Event::Lost { .. } => self.viewer.lost(),
            Event::Status(body) => self.orders.send(Message::fec_status(&body)),
        }
    }

    fn ask_idr(&self) {
        self.shared.video(|video| video.idr_requests += 1);
        self.orders.send(Message::idr());
    }
}

/// What a client without reference-frame invalidation shows (VideoDepacketizer.c): after a loss nothing until an IDR,
/// which it asks for with the first whole frame.
#[derive(Default)]
struct Viewer {
    is_synchronised: bool,
    asks: bool,
    dropped: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Show,
    Drop,
    AskIdr,
}

impl Viewer {
    fn lost(&mut self) {
        self.is_synchronised = false;
        self.asks = true;
    }

    fn frame(&mut self, frame: &Frame) -> Verdict {
        if frame.idr {
            *self = Self { is_synchronised: true, asks: false, dropped: 0 };
        }
        if self.is_synchronised {
            return Verdict::Show;
        }
        self.dropped += 1;
        let asks = self.asks || self.dropped.is_multiple_of(DROPS);
        self.asks = false;
        if asks { Verdict::AskIdr } else { Verdict::Drop }
    }
}

/// The thread that decodes.
fn decode(waiting: &Receiver<(u64, Frame)>, judge: Option<Judge>, shared: &Shared) {
    let Ok(mut show) = Show::new(judge) else {
        shared.video(|video| video.decode_errors += 1);
        return;
    };
    while let Ok((whole_ns, frame)) = waiting.recv() {
        match show.decode(&frame, whole_ns) {
            Ok(shown) => shared.video(|video| video.shown(shown)),
            Err(error) => shared.video(|video| video.failed(frame.number, &error)),
        }
    }
}
