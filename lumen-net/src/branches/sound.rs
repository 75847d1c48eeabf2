//! Sound: from the audio ring into datagrams, at once.

use ipc::Generation;
use ipc::shm::Violation;
use lumen_core::audio;
use quinn::Connection;

use super::tally::{Count, Tally};
use super::{Inflow, TURN};

/// A packet that has waited for this long is of no use to anybody: it is skipped, so that a stall does not become a
/// delay. Its number is used up, so that the client knows.
const STALE_NS: u64 = 200_000_000;

/// Packets in a row that the audio plane may have dropped for want of room: a minute of them. More is a lie.
const GAP: u32 = 60 * 200;

/// A session's sound. The numbers of its packets go on over re-wirings.
#[derive(Default)]
pub struct Sound {
    ring: Option<Inflow>,
    wired: Option<Generation>,
    /// The next packet's number on the wire.
    seq: u32,
    /// The next packet's number in the ring.
    next: u32,
    datagram: Vec<u8>,
}

impl Sound {
    pub fn ring(&self) -> Option<&Inflow> {
        self.ring.as_ref()
    }

    pub fn wire(&mut self, ring: Inflow) {
        if self.wired < Some(ring.generation()) {
            self.wired = Some(ring.generation());
            self.ring = Some(ring);
            self.next = 0;
        }
    }

    pub fn retire(&mut self, generation: Generation) {
        self.ring.take_if(|ring| ring.generation() == generation);
    }

    /// Drops the ring, and says of which generation it was.
    pub fn let_go(&mut self) -> Option<Generation> {
        self.ring.take().map(|ring| ring.generation())
    }

    /// Sends what the ring holds; what comes before the client is `live` is forgotten.
    pub fn pump(&mut self, connection: &Connection, live: bool, now_ns: u64, tally: &Tally) -> Result<(), Violation> {
        let Some(ring) = &mut self.ring else { return Ok(()) };
        for _ in 0..TURN {
            let Some((header, packet)) = ring.next()? else { return Ok(()) };
            let skipped = header.frame.wrapping_sub(self.next);
            if skipped > GAP {
                return Err(Violation("packets are not in order"));
            }
            self.next = header.frame.wrapping_add(1);
            if !live {
                continue;
            }
            let seq = self.seq.wrapping_add(skipped);
            self.seq = seq.wrapping_add(1);
            self.datagram.clear();
            audio::encode_header(seq, header.captured_ns, &mut self.datagram);
            self.datagram.extend_from_slice(packet);
            // QUIC makes room by forgetting the oldest that it has not sent: old sound is worth less than new.
            let room = connection.datagram_send_buffer_space() >= self.datagram.len();
            let fresh = now_ns.saturating_sub(header.captured_ns) <= STALE_NS;
            let sent = fresh && connection.send_datagram(self.datagram.clone().into()).is_ok();
            if sent {
                tally.add(Count::AudioPackets);
            }
            if !sent || !room {
                tally.add(Count::AudioDropped);
            }
        }
        ring.again();
        Ok(())
    }
}
