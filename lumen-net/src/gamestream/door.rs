//! A TCP door to strangers: who knocks gets a task, and no more of them than there is room for.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::counters::{Counter, Counters};

/// Bounds on the connections of one door.
#[derive(Clone, Copy, Debug)]
pub struct DoorLimits {
    /// In all.
    pub connections: usize,
    /// Of one IPv4 address, or one IPv6 network of 64 bits, of which a machine may use every address.
    pub per_address: usize,
    /// From a connection's beginning to its end.
    pub patience: Duration,
}

impl Default for DoorLimits {
    fn default() -> Self {
        Self { connections: 64, per_address: 8, patience: Duration::from_secs(10) }
    }
}

/// Bytes of an answer that may wait for a client to take them; the kernel gives what its limits allow.
const SEND_BUFFER: usize = 256 << 10;

/// Before the next try to accept, after the system had no room for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// A listener and its connections, which end with it. There are never more of them than the limits say, but for the one
/// that is being looked at: those that make way are gone before a newcomer is served.
///
/// Where there is no more room for one address its oldest connection makes way: whoever means it speaks at once, and is
/// served before others can push it out; one that has been heard and waits for its answer stays. Where there is no room
/// at all, the oldest of any address that has not been heard makes way. A newcomer for whom nobody does is turned away.
pub struct Door {
    listener: TcpListener,
    limits: DoorLimits,
    counters: Arc<Counters>,
    tasks: JoinSet<()>,
    /// Oldest first.
    held: Vec<Held>,
}

struct Held {
    network: IpAddr,
    kept: Arc<AtomicBool>,
    task: AbortHandle,
}

/// A connection's place in its door.
pub struct Place(Arc<AtomicBool>);

impl Place {
    /// The client has been heard: from here on nobody takes its place.
    pub fn keep(&self) {
        // Relaxed: nothing else is ordered by it.
        self.0.store(true, Ordering::Relaxed);
    }

    /// The client has its answer: its place is as good as any other's.
    pub fn give(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Door {
    /// Takes over a listening socket. Must run inside the control thread's runtime. The socket does not block: a sealed
    /// plane may not change the flags of what others have too, so that this leaves alone what is as it should be.
    pub fn new(listener: std::net::TcpListener, limits: DoorLimits, counters: Arc<Counters>) -> io::Result<Self> {
        let socket = socket2::SockRef::from(&listener);
        socket.set_nonblocking(true)?;
        // Connections inherit it, and the listener has it from the plane before, which may have been in bad hands.
        let _ = socket.set_send_buffer_size(SEND_BUFFER);
        let listener = TcpListener::from_std(listener)?;
        Ok(Self { listener, limits, counters, tasks: JoinSet::new(), held: Vec::new() })
    }

    /// Lets connections in for ever; `attend` makes the future that serves one.
    pub async fn run<F>(self, attend: impl Fn(TcpStream, SocketAddr) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run_places(|stream, peer, _| attend(stream, peer)).await;
    }

    /// The same; `attend` may keep the connection's place.
    pub async fn run_places<F>(mut self, attend: impl Fn(TcpStream, SocketAddr, Place) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    if self.make_room(peer.ip()).await {
                        let kept = Arc::new(AtomicBool::new(false));
                        let place = Place(kept.clone());
                        let (served, patience) = (attend(stream, peer, place), self.limits.patience);
                        let task = self.tasks.spawn(async move {
                            // One that is too slow is dropped with its stream.
                            let _ = timeout(patience, served).await;
                        });
                        self.held.push(Held { network: network(peer.ip()), kept, task });
                    }
                }
                // Whoever knocked has gone again, or there are no descriptors left: those that are held end soon.
                Err(_) => {
                    self.counters.add(Counter::ConnectionsRefused);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// True if one more connection of this address may be held. Takes no longer than it takes a task to be dropped.
    async fn make_room(&mut self, address: IpAddr) -> bool {
        while self.tasks.try_join_next().is_some() {}
        self.held.retain(|held| !held.task.is_finished());
        let network = network(address);
        let its = self.held.iter().filter(|held| held.network == network).count();
        let full = self.held.len() >= self.limits.connections;
        if its < self.limits.per_address && !full {
            return true;
        }
        self.counters.add(Counter::ConnectionsRefused);
        let unheard = |held: &Held| !held.kept.load(Ordering::Relaxed);
        let among_its = its >= self.limits.per_address;
        let loser = |held: &Held| unheard(held) && (!among_its || held.network == network);
        match self.held.iter().position(loser) {
            Some(oldest) => {
                let loser = self.held.remove(oldest).task;
                loser.abort();
                // Its socket is closed when the runtime drops its task, and not before.
                while !loser.is_finished() && self.tasks.join_next().await.is_some() {}
                true
            }
            None => false,
        }
    }
}

/// What one machine can have many of counts as one.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// A door whose connections answer one byte with the same.
    fn echo(limits: DoorLimits) -> (SocketAddr, Arc<Counters>, tokio::task::JoinHandle<()>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, counters) = (listener.local_addr().unwrap(), Arc::new(Counters::default()));
        let door = Door::new(listener, limits, counters.clone()).unwrap();
        let attend = |mut stream: TcpStream, _| async move {
            if let Ok(byte) = stream.read_u8().await {
                let _ = stream.write_u8(byte).await;
            }
        };
        (address, counters, tokio::spawn(door.run(attend)))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn silent_connections_of_an_address_make_way_for_its_next_one() {
        let (address, counters, _door) = echo(DoorLimits { per_address: 4, ..DoorLimits::default() });
        let mut silent = Vec::new();
        for _ in 0..20 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let mut speaks = TcpStream::connect(address).await.unwrap();
        speaks.write_u8(7).await.unwrap();
        assert_eq!(speaks.read_u8().await.unwrap(), 7);
        // The oldest have been let go, the newest have not.
        assert!(silent[0].read_u8().await.is_err());
        assert_eq!(counters.snapshot().connections_refused, 17);
        let mut newest = silent.pop().unwrap();
        newest.write_u8(8).await.unwrap();
        assert_eq!(newest.read_u8().await.unwrap(), 8);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn connections_have_room_for_their_answers_whatever_the_plane_before_has_set() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let same = listener.try_clone().unwrap();
        let room = || socket2::SockRef::from(&same).send_buffer_size().unwrap();
        let fresh = room();
        socket2::SockRef::from(&same).set_send_buffer_size(1).unwrap();
        let _door = Door::new(listener, DoorLimits::default(), Arc::default()).unwrap();
        assert!(room() >= fresh, "{} bytes of {fresh}", room());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_that_has_been_heard_stays() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, counters) = (listener.local_addr().unwrap(), Arc::new(Counters::default()));
        let limits = DoorLimits { per_address: 2, ..DoorLimits::default() };
        let door = Door::new(listener, limits, counters.clone()).unwrap();
        let _door = tokio::spawn(door.run_places(|mut stream: TcpStream, _, place: Place| async move {
            while let Ok(byte) = stream.read_u8().await {
                place.keep();
                let _ = stream.write_u8(byte).await;
            }
        }));
        let heard = || async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_u8(1).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), 1);
            stream
        };
        let mut first = heard().await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let mut second = heard().await;
        assert!(silent.read_u8().await.is_err(), "it made way for the second");
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(third.read_u8().await.is_err(), "for whom nobody makes way");
        for stream in [&mut first, &mut second] {
            stream.write_u8(2).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), 2);
        }
        assert_eq!(counters.snapshot().connections_refused, 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_that_has_its_answer_makes_way_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let limits = DoorLimits { per_address: 1, ..DoorLimits::default() };
        let door = Door::new(listener, limits, Arc::default()).unwrap();
        let _door = tokio::spawn(door.run_places(|mut stream: TcpStream, _, place: Place| async move {
            place.keep();
            let _ = stream.read_u8().await;
            place.give();
            let _ = stream.write_u8(1).await;
            let _ = stream.read_u8().await;
        }));
        let mut first = TcpStream::connect(address).await.unwrap();
        first.write_u8(1).await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), 1);
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_u8(1).await.unwrap();
        assert_eq!(second.read_u8().await.unwrap(), 1);
        assert!(first.read_u8().await.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_last_place_of_all_is_not_the_last_word() {
        let (address, _, _door) = echo(DoorLimits { connections: 2, ..DoorLimits::default() });
        let _silent = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let mut speaks = TcpStream::connect(address).await.unwrap();
        speaks.write_u8(7).await.unwrap();
        assert_eq!(speaks.read_u8().await.unwrap(), 7);
    }

    /// Counts those that are served at a time, and the most that ever were.
    #[derive(Default)]
    struct Crowd(AtomicUsize, AtomicUsize);

    struct Served(Arc<Crowd>);

    impl Served {
        fn new(crowd: &Arc<Crowd>) -> Self {
            let now = crowd.0.fetch_add(1, Ordering::Relaxed) + 1;
            crowd.1.fetch_max(now, Ordering::Relaxed);
            Self(crowd.clone())
        }
    }

    impl Drop for Served {
        fn drop(&mut self) {
            self.0.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn in_a_storm_too_there_are_no_more_than_there_may_be() {
        for limits in [(4, 64), (64, 3)] {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let (address, crowd) = (listener.local_addr().unwrap(), Arc::new(Crowd::default()));
            let (connections, per_address) = limits;
            let limits = DoorLimits { connections, per_address, ..DoorLimits::default() };
            let door = Door::new(listener, limits, Arc::default()).unwrap();
            let counted = crowd.clone();
            // They are there before anybody looks, so that the door finds one after the other without a pause.
            let mut storm: Vec<_> = (0..40).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            let _door = tokio::spawn(door.run(move |mut stream: TcpStream, _| {
                let served = Served::new(&counted);
                async move {
                    let _served = served;
                    let byte = stream.read_u8().await.unwrap_or(0);
                    let _ = stream.write_u8(byte).await;
                }
            }));
            let last = storm.pop().unwrap();
            last.set_nonblocking(true).unwrap();
            let mut last = TcpStream::from_std(last).unwrap();
            last.write_u8(7).await.unwrap();
            assert_eq!(last.read_u8().await.unwrap(), 7);
            assert_eq!(crowd.1.load(Ordering::Relaxed), connections.min(per_address));
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_that_says_nothing_ends() {
        let (address, _, _door) = echo(DoorLimits { patience: Duration::from_millis(20), ..DoorLimits::default() });
        let mut silent = TcpStream::connect(address).await.unwrap();
        assert!(silent.read_u8().await.is_err());
    }

    #[test]
    fn an_address_that_is_a_network_counts_as_one() {
        let network = |text: &str| super::network(text.parse().unwrap());
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    }
}
