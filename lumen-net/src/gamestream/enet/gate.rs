//! Who may speak to the ENet host: clients that know a session's connect data, each at a bounded rate.
//!
//! The library parses with raw pointers and keeps what it is told for a while, so strangers never get as far as that,
//! and those who do cannot make it keep much.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use ipc::SessionId;

use super::window::Window;
use super::wire::{self, CHANNELS, Command};
use crate::branches::Rate;
use crate::media::socket::Peer;

/// Commands of one address, of which a datagram holds up to 32: a fast mouse, acknowledgements and pings, many times
/// over. A client whose path was gone for a while says again in one burst all that its window holds, several times.
const COMMANDS: Rate = Rate::new(32_000, 8_000);
/// Addresses that one session may have at a time: its client, and the client before its address changed.
const ADDRESSES: usize = 2;
/// Addresses in all; as many peers as the host has.
pub const PEERS: usize = 32;

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The host may have it.
    Pass,
    /// From nobody who may speak, or not anything that a client says.
    Stray,
    /// A client's, but more than it may send.
    TooMuch,
}

/// An address that has been let in.
struct Admitted {
    session: SessionId,
    connect_id: u32,
    /// As it was addressed last.
    peer: Peer,
    rate: Rate,
    channels: Vec<Window>,
}

/// The list of those who may come, and of those who have.
#[derive(Default)]
pub struct Gate {
    /// Sessions that wait for their client, by connect data and, where that is no secret, the client's address.
    expected: BTreeMap<(u32, Option<IpAddr>), SessionId>,
    admitted: BTreeMap<SocketAddr, Admitted>,
    commands: Vec<Command>,
}

impl Gate {
    /// The session's client may connect from now on, if it says this; from nowhere else than `only`, if that is said.
    pub fn expect(&mut self, connect_data: u32, session: SessionId, only: Option<IpAddr>) {
        self.expected.insert((connect_data, only.map(|address| address.to_canonical())), session);
    }

    /// Nobody may connect to the session any more; those who have stay.
    pub fn close(&mut self, session: SessionId) {
        self.expected.retain(|_, waiting| *waiting != session);
    }

    /// Somebody has been let in.
    pub fn is_busy(&self) -> bool {
        !self.admitted.is_empty()
    }

    /// The session that this address was let in for.
    pub fn session(&self, address: SocketAddr) -> Option<SessionId> {
        self.admitted.get(&address).map(|admitted| admitted.session)
    }

    /// Where datagrams to this address go.
    pub fn peer(&self, address: SocketAddr) -> Option<Peer> {
        self.admitted.get(&address).map(|admitted| admitted.peer)
    }

    /// Nobody may speak for the session any more.
    pub fn forget(&mut self, session: SessionId) {
        self.close(session);
        self.admitted.retain(|_, admitted| admitted.session != session);
    }

    /// Keeps only the addresses that `stay`.
    pub fn retain(&mut self, mut stay: impl FnMut(SocketAddr) -> bool) {
        self.admitted.retain(|address, _| stay(*address));
    }

    /// Judges a datagram, and takes it for passed on if it may pass.
    pub fn judge(&mut self, now_ns: u64, from: Peer, datagram: &[u8]) -> Verdict {
        let Some(admitted) = self.admitted.get_mut(&from.address) else { return self.admit(now_ns, from, datagram) };
        // One before it is looked at: what comes too fast costs no more than this.
        if !admitted.rate.take(now_ns) {
            return Verdict::TooMuch;
        }
        if wire::parse(datagram, &mut self.commands).is_err() {
            return Verdict::Stray;
        }
        let channels = &mut admitted.channels;
        let rate = &mut admitted.rate;
        let allowed = self.commands.iter().enumerate().all(|(at, command)| {
            (at == 0 || rate.take(now_ns))
                && match *command {
                    // Said again, because the answer was lost.
                    Command::Connect { connect_id, .. } => connect_id == admitted.connect_id,
                    Command::Reliable { channel, sequence } => channels[usize::from(channel)].allows(sequence),
                    // Beyond a few, one that has to wait is as good as lost, which it may be.
                    Command::Unreliable { channel, after } => channels[usize::from(channel)].follows(after),
                    Command::Unsequenced { .. } | Command::Disconnect | Command::Service => true,
                }
        });
        if !allowed {
            return Verdict::TooMuch;
        }
        admitted.peer = from;
        Verdict::Pass
    }

    /// Takes note of what the library says to this address.
    pub fn said(&mut self, address: SocketAddr, datagram: &[u8]) {
        let Some(admitted) = self.admitted.get_mut(&address) else { return };
        for (channel, sequence) in wire::acknowledged(datagram) {
            // Of the connection itself there are some too, on no channel.
            if let Some(window) = admitted.channels.get_mut(usize::from(channel)) {
                window.note(sequence);
            }
        }
    }

    /// Lets an address in if it brings the right connect data.
    fn admit(&mut self, now_ns: u64, from: Peer, datagram: &[u8]) -> Verdict {
        let parsed = wire::parse(datagram, &mut self.commands);
        let (Ok(()), [Command::Connect { connect_id, data }]) = (parsed, &self.commands[..]) else {
            return Verdict::Stray;
        };
        let (connect_id, data) = (*connect_id, *data);
        let address = from.address.ip().to_canonical();
        let session = self.expected.get(&(data, None)).or_else(|| self.expected.get(&(data, Some(address))));
        let Some(&session) = session else { return Verdict::Stray };
        let its = self.admitted.values().filter(|admitted| admitted.session == session).count();
        if its >= ADDRESSES || self.admitted.len() >= PEERS {
            return Verdict::TooMuch;
        }
        let mut rate = COMMANDS;
        rate.take(now_ns);
        let channels = vec![Window::default(); CHANNELS];
        self.admitted.insert(from.address, Admitted { session, connect_id, peer: from, rate, channels });
        Verdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::{connect, reliable};
    use super::*;

    const SESSION: SessionId = SessionId(4);
    const NOW: u64 = 1_000_000_000;

    fn peer(port: u16) -> Peer {
        Peer { address: SocketAddr::from(([192, 0, 2, 1], port)), local: None }
    }

    /// A gate that expects one client and has let it in at port 1.
    fn open() -> Gate {
        let mut gate = Gate::default();
        gate.expect(77, SESSION, None);
        assert_eq!(gate.judge(NOW, peer(1), &connect(5, 77)), Verdict::Pass);
        gate
    }

    #[test]
    fn only_who_knows_a_sessions_data_comes_in() {
        let mut gate = Gate::default();
        assert_eq!(gate.judge(NOW, peer(1), &connect(5, 77)), Verdict::Stray);
        gate.expect(77, SESSION, None);
        for stray in [connect(5, 78), connect(5, 0), reliable(0, 1, b"hello"), vec![], vec![0xFF; 48]] {
            assert_eq!(gate.judge(NOW, peer(1), &stray), Verdict::Stray);
        }
        assert_eq!(gate.session(peer(1).address), None);
        assert_eq!(gate.judge(NOW, peer(1), &connect(5, 77)), Verdict::Pass);
        assert_eq!(gate.session(peer(1).address), Some(SESSION));
        assert_eq!(gate.judge(NOW, peer(1), &reliable(0, 1, b"hello")), Verdict::Pass);
        assert_eq!(gate.judge(NOW, peer(2), &reliable(0, 2, b"hello")), Verdict::Stray);
    }

    #[test]
    fn a_connect_may_be_repeated_but_not_changed() {
        let mut gate = open();
        assert_eq!(gate.judge(NOW, peer(1), &connect(5, 77)), Verdict::Pass);
        assert_eq!(gate.judge(NOW, peer(1), &connect(6, 77)), Verdict::TooMuch);
    }

    #[test]
    fn a_session_has_few_addresses_and_none_once_it_is_closed() {
        let mut gate = open();
        assert_eq!(gate.judge(NOW, peer(2), &connect(5, 77)), Verdict::Pass);
        assert_eq!(gate.judge(NOW, peer(3), &connect(5, 77)), Verdict::TooMuch);
        gate.retain(|address| address.port() == 1);
        gate.close(SESSION);
        assert_eq!(gate.judge(NOW, peer(3), &connect(5, 77)), Verdict::Stray);
        assert_eq!(gate.judge(NOW, peer(1), &reliable(0, 1, b"")), Verdict::Pass);
    }

    #[test]
    fn a_client_that_was_told_nothing_is_known_by_its_address() {
        let mut gate = Gate::default();
        gate.expect(0, SESSION, Some(peer(1).address.ip()));
        let other = Peer { address: SocketAddr::from(([192, 0, 2, 2], 1)), local: None };
        assert_eq!(gate.judge(NOW, other, &connect(5, 0)), Verdict::Stray);
        assert_eq!(gate.judge(NOW, peer(1), &connect(5, 0)), Verdict::Pass);
    }

    #[test]
    fn what_would_have_to_be_kept_is_bounded() {
        let mut gate = open();
        // The first is missing: the rest would pile up.
        let passed = (2..=10_000).filter(|&at| gate.judge(NOW, peer(1), &reliable(0, at, b"x")) == Verdict::Pass);
        assert_eq!(passed.count(), 1_023);
        let later = NOW + 10_000_000_000;
        let mut waits = vec![0x80, 0, 0, 1, 7, 0x10, 0, 1, 0, 1, 0, 0];
        let passed = (0..1_000).filter(|_| gate.judge(later, peer(1), &waits) == Verdict::Pass).count();
        assert_eq!(passed, 64);
        waits[7] = 0;
        assert_eq!(gate.judge(later, peer(1), &waits), Verdict::Pass);
    }

    /// The library has passed over these, because it did not take them for its peer's; were they taken for there, any
    /// number of packets could follow that wait for them.
    #[test]
    fn what_the_library_has_not_acknowledged_is_not_there() {
        let mut gate = open();
        for at in 1..=2_000_u16 {
            let mut unheard = reliable(0, at, b"x");
            unheard[1] = 9;
            gate.judge(NOW + u64::from(at) * 1_000_000, peer(1), &unheard);
        }
        let later = NOW + 10_000_000_000;
        assert_eq!(gate.judge(later, peer(1), &reliable(0, 1_025, b"x")), Verdict::TooMuch);
        gate.said(peer(1).address, &[0, 0, 1, 0, 0, 1, 0, 1, 0, 0]);
        assert_eq!(gate.judge(later, peer(1), &reliable(0, 1_025, b"x")), Verdict::Pass);
    }

    /// As a client sends a finger that is put down and moves at once.
    #[test]
    fn an_unreliable_packet_may_follow_in_the_datagram_of_a_reliable_one() {
        let mut gate = open();
        let mut both = reliable(5, 1, b"down");
        both.extend_from_slice(&[7, 5, 0, 1, 0, 1, 0, 1, b'm']);
        assert_eq!(gate.judge(NOW, peer(1), &both), Verdict::Pass);
    }

    #[test]
    fn a_flood_is_cut_to_the_rate() {
        let mut gate = open();
        let ping = [0x80, 0, 0, 1, 0x85, 0xFF, 0, 1];
        let passed = (0..100_000).filter(|_| gate.judge(NOW, peer(1), &ping) == Verdict::Pass).count();
        assert_eq!(passed, 7_999);
        // In few datagrams just as in many.
        let later = NOW + 10_000_000_000;
        let pings = [&ping[..4], &ping[4..].repeat(32)].concat();
        let passed = (0..10_000).filter(|_| gate.judge(later, peer(1), &pings) == Verdict::Pass).count();
        assert_eq!(passed, 8_000 / 32);
    }
}
