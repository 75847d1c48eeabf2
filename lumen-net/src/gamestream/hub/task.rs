//! The hub's loop: over one closed enum, one turn at a time, each with a bound on what it does.

use std::collections::BTreeMap;
use std::future::{pending, poll_fn, ready};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ipc::event::now_ns;
use ipc::{EndCode, SessionId};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::greet::pinged;
use super::net::{Net, arrived};
use super::seat::Seat;
use super::{HubEvent, HubOrder, HubSockets};
use crate::branches::Woken;
use crate::counters::{Counter, Counters};
use crate::gamestream::enet::{Enet, Heard, SERVICE};
use crate::gamestream::guest::{Guest, GuestPhase};
use crate::gamestream::rtsp::Visit;
use crate::media::socket::{Outlet, ReceiveBuffers};
use crate::ping::Ping;

/// Requests that may wait; a connection waits when it is full.
const VISITS: usize = 16;
/// Things heard over ENet in one turn.
const HEARD: usize = 64;
/// The channel for what the host says (moonlight-common-c, Limelight-internal.h: CTRL_CHANNEL_GENERIC).
const GENERIC: u8 = 0;

/// Everything that can happen to the hub.
enum Turn {
    Order(Option<HubOrder>),
    Visit(Visit),
    /// So many buffers of datagrams came on the control socket.
    Control(usize),
    /// The same on the audio socket.
    Audio(usize),
    /// ENet was not done in its last turn.
    More,
    Branch(SessionId, Woken),
    Due,
}

/// The hub's state.
pub struct Task {
    orders: mpsc::Receiver<HubOrder>,
    events: mpsc::Sender<HubEvent>,
    visits: mpsc::Receiver<Visit>,
    to_visits: mpsc::Sender<Visit>,
    pub(super) counters: Arc<Counters>,
    pub(super) net: Option<Net>,
    pub(super) seats: BTreeMap<SessionId, Seat>,
    launches: u64,
    control_in: ReceiveBuffers,
    audio_in: ReceiveBuffers,
    /// ENet has more to say at once.
    more: bool,
    service_ns: u64,
    /// Which session's rings are looked at first.
    first: SessionId,
    /// What the control loop is to be told at the end of this turn.
    pub(super) told: Vec<HubEvent>,
}

impl Task {
    pub fn new(orders: mpsc::Receiver<HubOrder>, events: mpsc::Sender<HubEvent>, counters: Arc<Counters>) -> Self {
        let (to_visits, visits) = mpsc::channel(VISITS);
        Self {
            orders,
            events,
            visits,
            to_visits,
            counters,
            net: None,
            seats: BTreeMap::new(),
            launches: 0,
            control_in: ReceiveBuffers::new(),
            audio_in: ReceiveBuffers::new(),
            more: false,
            service_ns: 0,
            first: SessionId(0),
            told: Vec::new(),
        }
    }

    /// Runs until there is nobody left to obey. Whether anybody still hears its reports makes no difference to that.
    pub async fn run(mut self) {
        loop {
            match self.next().await {
                Turn::Order(Some(order)) => self.obey(order),
                Turn::Order(None) => return self.part(),
                Turn::Visit(visit) => {
                    // Among the orders may be the launch whose client this is.
                    while let Ok(order) = self.orders.try_recv() {
                        self.obey(order);
                    }
                    self.receive(visit);
                }
                Turn::Control(count) => self.on_control(count),
                Turn::Audio(count) => self.on_pings(count),
                Turn::More => self.on_enet(),
                Turn::Branch(session, woken) => self.on_branch(session, woken),
                Turn::Due => self.on_due(),
            }
            for event in self.told.drain(..) {
                if self.events.send(event).await.is_err() {
                    break;
                }
            }
            // A flood makes every wait end at once, and such a wait takes no turns by itself.
            yield_now().await;
        }
    }

    /// Not in a fixed order: none of these can keep another from its turn.
    async fn next(&mut self) -> Turn {
        let due_ns = self.due_ns();
        let Self { orders, visits, net, seats, control_in, audio_in, more, first, .. } = self;
        let (control, audio) = match net {
            Some(net) => (Some(net.enet.socket()), Some(&mut net.audio)),
            None => (None, None),
        };
        let branches = poll_fn(|cx| {
            let after = *first;
            let mut found = |(session, seat): (&SessionId, &mut Seat)| match seat.poll_woken(cx) {
                Poll::Ready(woken) => Some((*session, woken)),
                Poll::Pending => None,
            };
            let woken = seats.range_mut(after..).find_map(&mut found);
            match woken.or_else(|| seats.range_mut(..after).find_map(&mut found)) {
                Some((session, woken)) => {
                    *first = SessionId(session.0.wrapping_add(1));
                    Poll::Ready((session, woken))
                }
                None => Poll::Pending,
            }
        });
        tokio::select! {
            order = orders.recv() => Turn::Order(order),
            Some(visit) = visits.recv() => Turn::Visit(visit),
            // Not before what came last is done with: it would pile up inside ENet.
            count = arrived(control, control_in), if !*more => Turn::Control(count),
            count = arrived(audio, audio_in) => Turn::Audio(count),
            () = ready(()), if *more => Turn::More,
            (session, woken) = branches => Turn::Branch(session, woken),
            () = passed(due_ns) => Turn::Due,
        }
    }

    fn due_ns(&self) -> Option<u64> {
        let enet = self.net.as_ref().filter(|net| net.enet.is_busy()).map(|_| self.service_ns);
        self.seats.values().map(Seat::due_ns).chain(enet).min()
    }

    fn obey(&mut self, order: HubOrder) {
        let now = now_ns();
        match order {
            HubOrder::Sockets(sockets) => self.listen(*sockets),
            HubOrder::Open(guest) => self.open(*guest, now),
            HubOrder::Branch { session, order } => {
                let told = self.seats.get_mut(&session).and_then(|seat| seat.obey(*order, now));
                self.told.extend(told);
            }
            HubOrder::End { session, code } => self.end(session, code, now),
        }
    }

    fn listen(&mut self, sockets: HubSockets) {
        // Live control streams end with the host that they were on.
        let later = |seat: &Seat| seat.phase > GuestPhase::Launched;
        for (_, seat) in self.seats.extract_if(.., |_, seat| later(seat)) {
            if seat.phase != GuestPhase::Ending {
                self.told.push(gone(seat.session(), "the host moved to another address"));
            }
        }
        match Net::new(sockets, self.to_visits.clone(), self.counters.clone()) {
            Ok(net) => self.net = Some(net),
            Err(reason) => {
                self.net = None;
                let reason = format!("the host's sockets cannot be used: {reason}");
                self.told.extend(std::mem::take(&mut self.seats).into_keys().map(|session| gone(session, &reason)));
            }
        }
    }

    fn open(&mut self, guest: Guest, now_ns: u64) {
        self.launches += 1;
        let seat = Seat::new(guest, self.launches, now_ns);
        if self.net.is_none() {
            return self.told.push(gone(seat.session(), "the host does not listen"));
        }
        self.seats.insert(seat.session(), seat);
    }

    fn end(&mut self, session: SessionId, code: EndCode, now_ns: u64) {
        let Some(seat) = self.seats.get_mut(&session) else { return };
        let last = seat.end(code, now_ns);
        match (last, seat.peer, &mut self.net) {
            (Some(last), Some(peer), Some(net)) => {
                net.enet.send(peer, GENERIC, &last);
                net.enet.part(peer);
                net.enet.flush();
            }
            _ => self.forget(session),
        }
    }

    /// Tells all clients that the host goes.
    fn part(&mut self) {
        let sessions: Vec<SessionId> = self.seats.keys().copied().collect();
        let now = now_ns();
        for session in sessions {
            self.end(session, EndCode::Shutdown, now);
        }
    }

    fn forget(&mut self, session: SessionId) {
        self.seats.remove(&session);
        if let Some(net) = &mut self.net {
            net.enet.forget(session);
        }
    }

    fn on_control(&mut self, count: usize) {
        let now = now_ns();
        if let Some(net) = &mut self.net {
            for (from, datagram) in self.control_in.datagrams(count) {
                net.enet.take(now, from, datagram);
            }
        }
        self.on_enet();
    }

    /// Lets ENet do what is to be done, and hears what came of it.
    fn on_enet(&mut self) {
        self.more = true;
        for _ in 0..HEARD {
            let Some(heard) = self.net.as_mut().and_then(|net| net.enet.next()) else {
                self.more = false;
                break;
            };
            self.hear(heard);
        }
        self.service_ns = now_ns() + SERVICE.as_nanos() as u64;
    }

    fn hear(&mut self, heard: Heard) {
        let now = now_ns();
        let Some(net) = &mut self.net else { return };
        match heard {
            Heard::Connected { peer, session } => {
                if self.seats.get(&session).is_none_or(|seat| seat.phase != GuestPhase::Tuned) {
                    net.enet.drop_peer(peer);
                }
            }
            Heard::Said { peer, session, packet } => {
                let Some(seat) = self.seats.get_mut(&session) else { return };
                if seat.peer.is_some_and(|its| its != peer) {
                    return;
                }
                let Some(message) = seat.open(packet.data(), now) else { return };
                if seat.peer.is_none() {
                    seat.peer = Some(peer);
                    net.enet.settle(session, peer);
                }
                seat.hear(message, now, &mut self.told);
            }
            Heard::Gone { peer, session } => {
                let its = |seat: &&Seat| seat.peer == Some(peer);
                let Some(phase) = self.seats.get(&session).filter(its).map(|seat| seat.phase) else { return };
                self.forget(session);
                if phase != GuestPhase::Ending {
                    self.told.push(gone(session, "its control stream has ended"));
                }
            }
        }
    }

    /// Pings on the audio socket say where sound goes.
    fn on_pings(&mut self, count: usize) {
        for (from, datagram) in self.audio_in.datagrams(count) {
            let ping = Ping::parse(datagram);
            match ping.and_then(|ping| Some((ping, pinged(&mut self.seats, from, &ping)?))) {
                Some((ping, seat)) => seat.on_ping(&ping, from),
                None => self.counters.add(Counter::StrayPackets),
            }
        }
    }

    fn on_branch(&mut self, session: SessionId, woken: Woken) {
        let (Some(seat), Some(net)) = (self.seats.get_mut(&session), &mut self.net) else { return };
        let now = now_ns();
        let outlet = Outlet { socket: net.audio.get(), counters: &self.counters };
        self.told.extend(seat.on_woken(woken, outlet, now));
        if woken == Woken::Rumble {
            rumble(seat, &mut net.enet, now);
        }
    }

    fn on_due(&mut self) {
        let now = now_ns();
        let mut over = Vec::new();
        for seat in self.seats.values_mut() {
            match seat.tick(now, &mut self.told) {
                Some(reason) => over.push((seat.session(), seat.phase, reason)),
                None => {
                    if let Some(net) = &mut self.net {
                        rumble(seat, &mut net.enet, now);
                    }
                }
            }
        }
        for (session, phase, reason) in over {
            self.forget(session);
            if phase != GuestPhase::Ending {
                self.told.push(gone(session, reason));
            }
        }
        if now >= self.service_ns {
            if let Some(net) = &mut self.net {
                net.enet.sweep();
            }
            self.on_enet();
        }
    }
}

/// Sends what a session's pads are to feel.
fn rumble(seat: &mut Seat, enet: &mut Enet, now_ns: u64) {
    let (peer, mut sent) = (seat.peer, false);
    seat.rumble(now_ns, |bytes| {
        sent = true;
        peer.is_some_and(|peer| enet.send(peer, GENERIC, bytes))
    });
    if sent {
        enet.flush();
    }
}

fn gone(session: SessionId, reason: &str) -> HubEvent {
    HubEvent::Gone { session, reason: reason.to_owned() }
}

/// Waits for a time that may not be set.
async fn passed(due_ns: Option<u64>) {
    match due_ns {
        Some(due_ns) => sleep(Duration::from_nanos(due_ns.saturating_sub(now_ns()))).await,
        None => pending().await,
    }
}
