//! The client's half of a media session: probes, each opened at most once.

use lumen_core::packet::{Header, Kind, PROBE_BYTES, Probe};
use lumen_core::seal::{Direction, MediaSecret, Opener};

/// Generations whose probes are understood. A client moves on only when it has heard of the next generation, and may
/// be behind by the ones it missed.
const GENERATIONS: usize = 4;

/// The openers of the newest generations.
#[derive(Default)]
pub struct Inbound {
    openers: [Option<Opener>; GENERATIONS],
    /// The next one to be replaced.
    oldest: usize,
    /// The newest packet opened: its generation and counter.
    newest: (u32, u64),
}

/// A probe that was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    pub probe: Probe,
    pub generation: u32,
    /// No packet that was opened before is newer, so its source is where the client is now.
    pub newest: bool,
}

impl Inbound {
    /// Understands a further generation, and forgets the oldest.
    pub fn add(&mut self, secret: &MediaSecret, generation: u32) {
        self.openers[self.oldest] = Some(Opener::new(secret, generation, Direction::ClientToHost));
        self.oldest = (self.oldest + 1) % GENERATIONS;
    }

    /// Opens a datagram; none if it is no authentic, fresh and well-formed probe.
    pub fn open(&mut self, header: &Header, datagram: &[u8]) -> Option<Opened> {
        let generation = header.generation;
        let opener = self.openers.iter_mut().flatten().find(|opener| opener.generation() == generation)?;
        let mut body = [0; PROBE_BYTES];
        let body = opener.open(header, datagram, &mut body).ok()?;
        let probe = Probe::decode(body).filter(|_| header.kind == Kind::Probe)?;
        let order = (generation, header.counter);
        let newest = order > self.newest;
        self.newest = self.newest.max(order);
        Some(Opened { probe, generation, newest })
    }
}

#[cfg(test)]
mod tests {
    use lumen_core::packet::{Flags, HEADER_BYTES, TAG_BYTES};
    use lumen_core::seal::Sealer;

    use super::*;

    fn probe(sealer: &mut Sealer, kind: Kind) -> Vec<u8> {
        let header =
            Header { kind, flags: Flags::default(), index: 0, session: 1, generation: 0, frame: 0, counter: 0 };
        let mut packet = vec![0; HEADER_BYTES];
        packet.extend_from_slice(&Probe { client_ns: 5, ..Probe::default() }.encode());
        packet.extend_from_slice(&[0; TAG_BYTES]);
        sealer.seal(header, &mut packet).unwrap();
        packet
    }

    fn open(inbound: &mut Inbound, packet: &[u8]) -> Option<Opened> {
        inbound.open(&Header::decode(packet).unwrap(), packet)
    }

    #[test]
    fn a_probe_is_taken_once_and_only_from_the_client() {
        let secret = MediaSecret([3; 32]);
        let mut inbound = Inbound::default();
        inbound.add(&secret, 1);
        let mut client = Sealer::new(&secret, 1, Direction::ClientToHost);
        let (first, second) = (probe(&mut client, Kind::Probe), probe(&mut client, Kind::Probe));
        assert!(open(&mut inbound, &second).unwrap().newest);
        let late = open(&mut inbound, &first).unwrap();
        assert_eq!((late.newest, late.probe.client_ns), (false, 5), "late, but true");
        assert_eq!(open(&mut inbound, &first), None, "replayed");
        assert_eq!(open(&mut inbound, &probe(&mut client, Kind::Data)), None, "not a client's kind");
        let mut host = Sealer::new(&secret, 1, Direction::HostToClient);
        assert_eq!(open(&mut inbound, &probe(&mut host, Kind::Probe)), None, "reflected");
        let mut stranger = Sealer::new(&MediaSecret([4; 32]), 1, Direction::ClientToHost);
        assert_eq!(open(&mut inbound, &probe(&mut stranger, Kind::Probe)), None, "forged");
    }

    #[test]
    fn a_client_may_lag_by_a_few_generations() {
        let secret = MediaSecret([3; 32]);
        let mut inbound = Inbound::default();
        (1..=5).for_each(|generation| inbound.add(&secret, generation));
        let packet = |generation| probe(&mut Sealer::new(&secret, generation, Direction::ClientToHost), Kind::Probe);
        assert!(open(&mut inbound, &packet(5)).unwrap().newest);
        assert!(!open(&mut inbound, &packet(2)).unwrap().newest);
        assert_eq!(open(&mut inbound, &packet(1)), None, "forgotten");
        assert_eq!(open(&mut inbound, &packet(6)), None, "not yet made");
    }
}
