//! mDNS: one task for each socket that lumend hands over, on one link and in one family of addresses. They share nothing:
//! what is found out on one link, such as a name that is taken, is of no concern to another.

mod message;
pub(crate) mod responder;
pub(crate) mod zone;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ipc::Announce;
use ipc::event::now_ns;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::branches::Rate;
use crate::counters::{Counter, Counters};
use responder::{Outgoing, PORT, Responder};
use zone::Zone;

const GROUP_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(224, 0, 0, 251));
const GROUP_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb));
/// Datagrams of one link that are looked at. Beyond them the kernel keeps what fits into the socket's buffer, and drops
/// the rest.
const PER_SECOND: u64 = 100;
const BURST: u64 = 200;
/// Without a look at the socket after more than that, or after an error of the link's.
const PAUSE: u64 = 100_000_000;
/// That may wait for a task.
const ORDERS: usize = 4;
/// For the last words of all tasks.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A task. Dropping the sender is its order to say goodbye and end.
struct Link {
    zone: Zone,
    group: IpAddr,
    orders: mpsc::Sender<(UdpSocket, Zone)>,
}

/// All links.
pub struct Discovery {
    links: Vec<Link>,
    tasks: JoinSet<()>,
    counters: Arc<Counters>,
}

impl Discovery {
    /// Nothing is told until [`Self::announce`].
    pub fn new(counters: Arc<Counters>) -> Self {
        Self { links: Vec::new(), tasks: JoinSet::new(), counters }
    }

    /// Tells this from now on, and nothing else. A link that has kept an address, or all of them, keeps its name. Must be
    /// called inside the control thread's runtime.
    pub fn announce(&mut self, announce: Announce<OwnedFd>) -> io::Result<()> {
        while self.tasks.try_join_next().is_some() {}
        let Announce { host, services, interfaces } = announce;
        let mut before = std::mem::take(&mut self.links);
        if services.is_empty() {
            return Ok(());
        }
        let own: BTreeSet<_> = interfaces.iter().flat_map(|interface| interface.addresses.iter().copied()).collect();
        for interface in interfaces {
            let zone = Zone {
                host: host.clone(),
                services: services.clone(),
                addresses: interface.addresses,
                own: own.clone(),
            };
            for (group, fd) in [(GROUP_V4, interface.v4), (GROUP_V6, interface.v6)] {
                let Some(fd) = fd else { continue };
                let socket = UdpSocket::from_std(StdSocket::from(fd))?;
                let same = before.iter().position(|link| link.group == group && link.zone.became(&zone));
                let mut link = match same {
                    Some(at) => before.swap_remove(at),
                    None => self.begin(zone.clone(), group)?,
                };
                link.zone.clone_from(&zone);
                // A task takes its orders at once; should one be full of them, lumend's next word is soon enough.
                let _ = link.orders.try_send((socket, zone.clone()));
                self.links.push(link);
            }
        }
        Ok(())
    }

    fn begin(&mut self, zone: Zone, group: IpAddr) -> io::Result<Link> {
        let mut seed = [0; 8];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("no random numbers"))?;
        let responder = Responder::new(now_ns(), zone.clone(), u64::from_ne_bytes(seed));
        let (orders, ordered) = mpsc::channel(ORDERS);
        self.tasks.spawn(serve(responder, SocketAddr::new(group, PORT), ordered, self.counters.clone()));
        Ok(Link { zone, group, orders })
    }

    /// Says goodbye on all links.
    pub async fn stop(mut self) {
        self.links.clear();
        let _ = timeout(LAST_WORDS, async { while self.tasks.join_next().await.is_some() {} }).await;
    }
}

/// What a task waits for.
enum Event {
    Order(Option<(UdpSocket, Zone)>),
    Due,
    Datagram(io::Result<(usize, SocketAddr)>),
}

/// One link's life.
async fn serve(
    mut responder: Responder,
    group: SocketAddr,
    mut orders: mpsc::Receiver<(UdpSocket, Zone)>,
    counters: Arc<Counters>,
) {
    // The first order is what it was begun for.
    let Some((mut socket, _)) = orders.recv().await else { return };
    let mut rate = Rate::new(PER_SECOND, BURST);
    let mut deaf_until = 0;
    // One more than is looked at, so that what is cut off is known to be.
    let mut bytes = [0; message::MOST_BYTES + 1];
    loop {
        let now = now_ns();
        let deaf = now < deaf_until;
        let due = responder.deadline().into_iter().chain(deaf.then_some(deaf_until)).min();
        let due = due.map(|at| Duration::from_nanos(at.saturating_sub(now)));
        let event = tokio::select! {
            biased;
            order = orders.recv() => Event::Order(order),
            () = sleep(due.unwrap_or_default()), if due.is_some() => Event::Due,
            received = socket.recv_from(&mut bytes), if !deaf => Event::Datagram(received),
        };
        let now = now_ns();
        match event {
            Event::Order(Some((fresh, zone))) => {
                socket = fresh;
                responder.again(now, zone);
            }
            Event::Order(None) => break,
            Event::Due => {}
            Event::Datagram(Ok((length, from))) if rate.take(now) => {
                if !responder.receive(now, from, &bytes[..length]) {
                    counters.add(Counter::DiscoveryIgnored);
                }
            }
            Event::Datagram(Ok(_)) => {
                counters.add(Counter::DiscoveryIgnored);
                deaf_until = now + PAUSE;
            }
            // The link is down, or worse; lumend will hand over another socket if it comes up again.
            Event::Datagram(Err(_)) => deaf_until = now + PAUSE,
        }
        while let Some(outgoing) = responder.poll(now_ns()) {
            send(&socket, group, outgoing).await;
        }
    }
    if let Some(outgoing) = responder.goodbye() {
        send(&socket, group, outgoing).await;
    }
}

/// What a link does not take is lost, as on any link.
async fn send(socket: &UdpSocket, group: SocketAddr, outgoing: Outgoing) {
    let _ = socket.send_to(&outgoing.bytes, outgoing.to.unwrap_or(group)).await;
}
