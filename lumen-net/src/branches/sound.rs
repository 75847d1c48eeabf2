//! Sound: from the audio ring into datagrams, at once.

use ipc::shm::Violation;
use lumen_core::audio;
use quinn::Connection;

use super::TURN;
use super::playback::{Playback, Played};
use super::tally::{Count, Tally};

/// A packet that has waited for this long is of no use to anybody: it is skipped, so that a stall does not become a
/// delay. Its number is used up, so that the client knows.
const STALE_NS: u64 = 200_000_000;

/// A session's sound. The numbers of its packets go on over re-wirings.
#[derive(Default)]
pub struct Sound {
    pub playback: Playback,
    /// The next packet's number on the wire.
    seq: u32,
    datagram: Vec<u8>,
}

impl Sound {
    /// Sends what the ring holds; what comes before the client is `live` is forgotten.
    pub fn pump(&mut self, connection: &Connection, live: bool, now_ns: u64, tally: &Tally) -> Result<(), Violation> {
        for _ in 0..TURN {
            let Some(Played { skipped, captured_ns, opus }) = self.playback.take()? else { return Ok(()) };
            if !live {
                continue;
            }
            let seq = self.seq.wrapping_add(skipped);
            self.seq = seq.wrapping_add(1);
            self.datagram.clear();
            audio::encode_header(seq, captured_ns, &mut self.datagram);
            self.datagram.extend_from_slice(opus);
            // QUIC makes room by forgetting the oldest that it has not sent: old sound is worth less than new.
            let room = connection.datagram_send_buffer_space() >= self.datagram.len();
            let fresh = now_ns.saturating_sub(captured_ns) <= STALE_NS;
            let sent = fresh && connection.send_datagram(self.datagram.clone().into()).is_ok();
            if sent {
                tally.add(Count::AudioPackets);
            }
            if !sent || !room {
                tally.add(Count::AudioDropped);
            }
        }
        if let Some(ring) = self.playback.ring() {
            ring.again();
        }
        Ok(())
    }
}
