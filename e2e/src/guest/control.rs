//! The control stream: ENet with 48 channels, a message's number as its nonce, and what client and host say.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use rusty_enet::{EventNoRef, Host, HostSettings, Packet, PeerID};

use super::seal::Control as Cipher;
use super::shared::{Ended, Rumble, Shared};

const CHANNELS: usize = 0x30;
const MTU: u16 = 900;
/// How long a client tries to connect, and how long it endures silence (ControlStream.c).
const PATIENCE: Duration = Duration::from_secs(10);
const PING: Duration = Duration::from_millis(100);
/// Orders that wait to be sent. A test that outruns it waits.
const WAITING: usize = 4096;
/// How often ENet's own clockwork is looked after.
const TICK_MS: u8 = 25;
/// How long a client waits for its goodbye to be answered.
const LINGER: Duration = Duration::from_secs(2);

/// Something to say to the host.
#[derive(Clone, Debug)]
pub struct Message {
    pub channel: u8,
    pub kind: u16,
    pub body: Vec<u8>,
    pub delivery: Delivery,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Delivery {
    Reliable,
    Unreliable,
    Unsequenced,
}

impl Message {
    pub fn idr() -> Self {
        Self { channel: 1, kind: 0x0302, body: vec![0; 2], delivery: Delivery::Reliable }
    }

    pub fn fec_status(body: &[u8; 21]) -> Self {
        Self { channel: 0, kind: 0x5502, body: body.to_vec(), delivery: Delivery::Unsequenced }
    }

    pub fn invalidate(first: u32, last: u32) -> Self {
        let mut body = vec![0; 24];
        body[..4].copy_from_slice(&first.to_le_bytes());
        body[8..12].copy_from_slice(&last.to_le_bytes());
        Self { channel: 1, kind: 0x0301, body, delivery: Delivery::Reliable }
    }

    /// An input message of this kind, from [`super::hands`].
    pub fn input(channel: u8, body: Vec<u8>) -> Self {
        Self { channel, kind: 0x0206, body, delivery: Delivery::Reliable }
    }

    fn start_a() -> Self {
        Self { channel: 0, ..Self::idr() }
    }

    fn start_b() -> Self {
        Self { channel: 0, kind: 0x0307, body: vec![0], delivery: Delivery::Reliable }
    }

    fn ping() -> Self {
        Self { channel: 0, kind: 0x0200, body: vec![4, 0, 0, 0, 0, 0, 0, 0], delivery: Delivery::Reliable }
    }
}

enum Order {
    Say(Message),
    /// Bytes that were not sealed by this session.
    Raw(u8, Vec<u8>),
    Leave,
}

/// Where other threads put what is to be said.
#[derive(Clone)]
pub struct Orders {
    queue: SyncSender<Order>,
    wake: Arc<EventFd>,
}

impl Orders {
    pub fn send(&self, message: Message) {
        self.order(Order::Say(message));
    }

    pub fn raw(&self, channel: u8, bytes: Vec<u8>) {
        self.order(Order::Raw(channel, bytes));
    }

    /// Says goodbye, as a person's quit does.
    pub fn leave(&self) {
        self.order(Order::Leave);
    }

    fn order(&self, order: Order) {
        // The thread is gone only when the session is over.
        if self.queue.send(order).is_ok() {
            let _ = self.wake.write(1);
        }
    }
}

/// What the control stream of a session is made of.
pub struct Setup {
    pub host: SocketAddr,
    pub connect_data: u32,
    pub cipher: Cipher,
}

/// Connects, starts the stream and serves the connection on a thread of its own.
pub fn start(setup: Setup, shared: &Arc<Shared>) -> Result<(Orders, JoinHandle<()>)> {
    let any = if setup.host.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let settings = HostSettings { peer_limit: 1, channel_limit: CHANNELS, ..HostSettings::default() };
    let mut host = Host::new(UdpSocket::bind(any)?, settings).map_err(|error| anyhow!("{error}"))?;
    host.set_mtu(MTU).map_err(|error| anyhow!("{error:?}"))?;
    let peer = host.connect(setup.host, CHANNELS, setup.connect_data).map_err(|error| anyhow!("{error:?}"))?.id();
    let (queue, waiting) = sync_channel(WAITING);
    let wake = Arc::new(EventFd::new()?);
    let orders = Orders { queue, wake: Arc::clone(&wake) };
    let mut control = Control { host, peer, cipher: setup.cipher, waiting, wake, shared: Arc::clone(shared) };
    control.connect()?;
    control.say(&Message::start_a())?;
    control.say(&Message::start_b())?;
    let thread = thread::spawn(move || control.run());
    Ok((orders, thread))
}

struct Control {
    host: Host<UdpSocket>,
    peer: PeerID,
    cipher: Cipher,
    waiting: Receiver<Order>,
    wake: Arc<EventFd>,
    shared: Arc<Shared>,
}

impl Control {
    fn connect(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            match self.host.service()?.map(|event| event.no_ref()) {
                Some(EventNoRef::Connect { .. }) => break,
                Some(EventNoRef::Disconnect { .. }) => bail!("the host refuses the control stream"),
                Some(EventNoRef::Receive { .. }) => {}
                None => self.rest(),
            }
            if begun.elapsed() > PATIENCE {
                bail!("no control stream within {PATIENCE:?}");
            }
        }
        let peer = self.host.peer_mut(self.peer);
        let limit = PATIENCE.as_millis() as u32;
        peer.set_timeout(2, limit, limit);
        if peer.channel_count() < CHANNELS {
            bail!("{} channels instead of {CHANNELS}", peer.channel_count());
        }
        Ok(())
    }

    /// Waits for the network, an order, or ENet's clockwork.
    fn rest(&self) {
        let fds = [self.host.socket().as_fd(), self.wake.as_fd()];
        let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let _ = poll(&mut fds, PollTimeout::from(TICK_MS));
        if fds[1].any().unwrap_or(false) {
            let _ = self.wake.read();
        }
    }

    fn say(&mut self, message: &Message) -> Result<()> {
        let sealed = self.cipher.seal(message.kind, &message.body)?;
        let packet = match message.delivery {
            Delivery::Reliable => Packet::reliable(sealed.as_slice()),
            Delivery::Unreliable => Packet::unreliable(sealed.as_slice()),
            Delivery::Unsequenced => Packet::unreliable_unsequenced(sealed.as_slice()),
        };
        let peer = self.host.peer_mut(self.peer);
        peer.send(message.channel, &packet).map_err(|error| anyhow!("{error:?}")).context("ENet takes no more")
    }

    fn run(mut self) {
        let ended = self.serve().unwrap_or_else(|error| Ended::Failed(format!("{error:#}")));
        self.shared.end(ended);
    }

    fn serve(&mut self) -> Result<Ended> {
        let mut pinged = Instant::now();
        let mut leaving: Option<Instant> = None;
        loop {
            while let Some(event) = self.host.service()?.map(|event| event.no_ref()) {
                match event {
                    EventNoRef::Connect { .. } => {}
                    EventNoRef::Disconnect { .. } if leaving.is_some() => return Ok(Ended::Left),
                    EventNoRef::Disconnect { .. } => return Ok(Ended::Disconnected),
                    EventNoRef::Receive { packet, .. } => {
                        if let Some(reason) = self.hear(packet.data()) {
                            // As clients do: at once, without waiting for the host.
                            self.host.peer_mut(self.peer).disconnect_now(0);
                            return Ok(Ended::Terminated(reason));
                        }
                    }
                }
            }
            if leaving.is_some_and(|since| since.elapsed() > LINGER) {
                return Ok(Ended::Unanswered);
            }
            if leaving.is_none() {
                while let Ok(order) = self.waiting.try_recv() {
                    match order {
                        Order::Say(message) => self.say(&message)?,
                        Order::Raw(channel, bytes) => {
                            let packet = Packet::reliable(bytes.as_slice());
                            let sent = self.host.peer_mut(self.peer).send(channel, &packet);
                            sent.map_err(|error| anyhow!("{error:?}"))?;
                        }
                        Order::Leave => {
                            self.host.peer_mut(self.peer).disconnect(0);
                            leaving = Some(Instant::now());
                            break;
                        }
                    }
                }
                // Who is leaving says nothing more.
                if leaving.is_none() && pinged.elapsed() >= PING {
                    pinged = Instant::now();
                    self.say(&Message::ping())?;
                }
            }
            self.host.flush();
            self.rest();
        }
    }

    /// What the host says; a reason if that is the end.
    fn hear(&self, message: &[u8]) -> Option<u32> {
        let Ok((kind, body)) = self.cipher.open(message) else {
            self.shared.control(|control| control.not_authentic += 1);
            return None;
        };
        let word = |at: usize| body.get(at..at + 2).map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
        self.shared.control(|control| control.messages += 1);
        match kind {
            0x0109 => return Some(u32::from_be_bytes(body.get(..4)?.try_into().ok()?)),
            0x010b => {
                let rumble = Rumble { pad: word(4)?, low: word(6)?, high: word(8)? };
                self.shared.control(|control| control.rumble.push(rumble));
            }
            other => self.shared.control(|control| control.others.push(other)),
        }
        None
    }
}
