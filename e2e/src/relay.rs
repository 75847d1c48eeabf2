//! A lossy network between a client and a host: a UDP relay on loopback that drops, duplicates, replays and reorders by
//! a seed.
//!
//! Everything on it is real but the fate of a packet, which a seeded generator decides, so that a run can be repeated.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;

/// What happens to packets from the host to the client, in thousandths. The other direction loses as many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    pub loss: u32,
    pub reorder: u32,
    pub duplicate: u32,
    /// Come once more when up to a hundred others have come.
    pub replay: u32,
    pub seed: u64,
}

/// Counters and levers of a running relay.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    burst: AtomicU32,
    forwarded: AtomicU64,
    dropped: AtomicU64,
}

/// A relay that ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Relays between whoever speaks to [`Relay::address`] and `host`.
    pub fn start(host: SocketAddr, weather: Weather) -> Result<Self> {
        let near = UdpSocket::bind("127.0.0.1:0")?;
        let far = UdpSocket::bind("127.0.0.1:0")?;
        far.connect(host)?;
        near.set_nonblocking(true)?;
        far.set_nonblocking(true)?;
        let address = near.local_addr()?;
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut lane = Lane { near, far, client: None, weather, state: weather.seed | 1, held: VecDeque::new() };
            while !inside.stop.load(Ordering::Relaxed) {
                lane.turn(&inside);
            }
        });
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where the client sends.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Drops the next `packets` that the host sends.
    pub fn burst(&self, packets: u32) {
        self.shared.burst.store(packets, Ordering::Relaxed);
    }

    /// Packets of the host that were passed on and dropped.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.forwarded.load(Ordering::Relaxed), self.shared.dropped.load(Ordering::Relaxed))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The relay's thread.
struct Lane {
    near: UdpSocket,
    far: UdpSocket,
    client: Option<SocketAddr>,
    weather: Weather,
    state: u64,
    /// Packets waiting to be overtaken, and copies: each with the number of packets still to pass it.
    held: VecDeque<(u32, Vec<u8>)>,
}

impl Lane {
    fn turn(&mut self, shared: &Shared) {
        let mut waiting = [
            nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&self.near), nix::poll::PollFlags::POLLIN),
            nix::poll::PollFd::new(std::os::fd::AsFd::as_fd(&self.far), nix::poll::PollFlags::POLLIN),
        ];
        let timeout =
            nix::poll::PollTimeout::try_from(Duration::from_millis(20)).unwrap_or(nix::poll::PollTimeout::ZERO);
        let _ = nix::poll::poll(&mut waiting, timeout);
        let mut packet = [0; 65_536];
        while let Some((length, from)) = received(self.near.recv_from(&mut packet)) {
            self.client = Some(from);
            if !self.happens(self.weather.loss) {
                let _ = self.far.send(&packet[..length]);
            }
        }
        while let Some((length, _)) = received(self.far.recv_from(&mut packet)) {
            self.forward(&packet[..length], shared);
        }
    }

    fn forward(&mut self, packet: &[u8], shared: &Shared) {
        let in_burst = shared.burst.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if in_burst.is_ok() || self.happens(self.weather.loss) {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if self.happens(self.weather.reorder) {
            let places = 1 + self.random() as u32 % 8;
            self.held.push_back((places, packet.to_vec()));
            return;
        }
        self.pass(packet, shared);
        if self.happens(self.weather.duplicate) {
            self.pass(packet, shared);
        }
        if self.happens(self.weather.replay) {
            let places = 1 + self.random() as u32 % 100;
            self.held.push_back((places, packet.to_vec()));
        }
        let mut still_held = VecDeque::with_capacity(self.held.len());
        while let Some((places, late)) = self.held.pop_front() {
            match places {
                0 | 1 => self.pass(&late, shared),
                more => still_held.push_back((more - 1, late)),
            }
        }
        self.held = still_held;
    }

    fn pass(&self, packet: &[u8], shared: &Shared) {
        if let Some(client) = self.client {
            shared.forwarded.fetch_add(1, Ordering::Relaxed);
            let _ = self.near.send_to(packet, client);
        }
    }

    fn happens(&mut self, permille: u32) -> bool {
        permille > 0 && self.random() % 1000 < u64::from(permille)
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A datagram, if there is one; an ICMP error of an earlier one counts as none.
fn received(result: std::io::Result<(usize, SocketAddr)>) -> Option<(usize, SocketAddr)> {
    match result {
        Ok(found) => Some(found),
        Err(error) if error.kind() == ErrorKind::WouldBlock => None,
        Err(_) => None,
    }
}
