//! A GameStream client's sound: from the audio ring into RTP packets, at once.

use std::net::SocketAddr;

use ipc::shm::Violation;
use lumen_core::gamestream::audio::{AudioConfig, AudioPacketizer};

use crate::branches::{Count, Playback, Played, TURN, Tally};
use crate::media::socket::{Outlet, Peer};

/// A packet that has waited for this long is of no use to anybody: it is skipped, so that a stall does not become a
/// delay.
const STALE_NS: u64 = 200_000_000;

/// A session's sound.
#[derive(Default)]
pub struct Sound {
    pub playback: Playback,
    /// None before the client has said how it wants its sound.
    packetizer: Option<AudioPacketizer>,
    /// Where the client's last ping came from.
    to: Option<Peer>,
}

impl Sound {
    pub fn tune(&mut self, config: AudioConfig) {
        self.packetizer = Some(AudioPacketizer::new(config));
    }

    /// The client waits for its sound there.
    pub fn aim(&mut self, to: Peer) {
        self.to = Some(to);
    }

    /// Where that is.
    pub fn aimed_at(&self) -> Option<SocketAddr> {
        self.to.map(|peer| peer.address)
    }

    /// Sends what the ring holds; what comes before the client is `live` is forgotten.
    pub fn pump(&mut self, outlet: Outlet<'_>, live: bool, now_ns: u64, tally: &Tally) -> Result<(), Violation> {
        for _ in 0..TURN {
            // What the plane had to drop is no gap to the client: it has its own clock, and parity wants whole blocks.
            let Some(Played { captured_ns, opus, .. }) = self.playback.take()? else { return Ok(()) };
            let (Some(packetizer), Some(to), true) = (&mut self.packetizer, self.to, live) else { continue };
            if now_ns.saturating_sub(captured_ns) > STALE_NS {
                tally.add(Count::AudioDropped);
                continue;
            }
            let mut blocked = false;
            packetizer.packet(opus, |datagram| blocked |= outlet.send(to, datagram, datagram.len()).is_err());
            tally.add(if blocked { Count::AudioDropped } else { Count::AudioPackets });
        }
        if let Some(ring) = self.playback.ring() {
            ring.again();
        }
        Ok(())
    }
}
