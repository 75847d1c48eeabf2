//! A session's packets, in the protocol that its client speaks.

use ipc::SessionId;
use lumen_core::fec::Scheme;
use lumen_core::gamestream::video::{VideoConfig, VideoPacketizer};
use lumen_core::packet::Pong;
use lumen_core::packetize::{PacketBatch, Packetizer, PacketizerConfig};
use lumen_core::seal::{Direction, Exhausted, MediaSecret, Sealer};

use super::stream::Broken;
use super::{PARITY_FLOOR_PERCENT, SHARD_SIZE};
use crate::ledger::FrameTimes;
use crate::media::Wiring;

/// Most packets of a GameStream frame: four blocks of 255.
const RTP_FRAME_PACKETS: usize = 4 * 255;

/// What makes packets of frames.
pub enum Packets {
    /// lumen/1: a key for each generation, and slices leave as they come.
    Lumen { packetizer: Packetizer, secret: MediaSecret },
    /// GameStream: all generations are one stream, and frames leave whole.
    Rtp { packetizer: VideoPacketizer, config: VideoConfig },
}

impl Packets {
    pub fn lumen(session: SessionId, secret: MediaSecret, generation: u32) -> Self {
        let config = PacketizerConfig {
            session: session.0,
            scheme: Scheme::Leopard,
            parity_floor_percent: PARITY_FLOOR_PERCENT,
            shard_size: SHARD_SIZE,
        };
        Self::Lumen { packetizer: Packetizer::new(config, sealer(&secret, generation)), secret }
    }

    pub fn rtp(config: VideoConfig) -> Self {
        Self::Rtp { packetizer: VideoPacketizer::new(config), config }
    }

    /// Room for what any chunk of this wiring can make leave at once, headers included.
    pub fn batch(&self, wiring: &Wiring) -> PacketBatch {
        let most = wiring.chunk.capacity();
        match self {
            // The largest chunk with as much parity as data.
            Self::Lumen { .. } => {
                PacketBatch::with_capacity(2 * most.div_ceil(usize::from(SHARD_SIZE) * 9 / 10), SHARD_SIZE)
            }
            // The largest frame, likewise.
            Self::Rtp { config, .. } => {
                let payload = usize::from(config.packet_size.get()) * 9 / 10;
                let packets = (2 * most.div_ceil(payload)).min(RTP_FRAME_PACKETS);
                PacketBatch::with_capacity(packets, config.packet_size.datagram(config.key.is_some()))
            }
        }
    }

    /// Goes on with the next generation, without what is left of a frame of the one before.
    pub fn set_generation(&mut self, generation: u32) {
        match self {
            Self::Lumen { packetizer, secret } => packetizer.set_generation(sealer(secret, generation)),
            Self::Rtp { packetizer, .. } => packetizer.abort(),
        }
    }

    /// Packets sent in this generation. GameStream's clients never tell how many they got of how many.
    pub fn sent(&self) -> u64 {
        match self {
            Self::Lumen { packetizer, .. } => packetizer.sent(),
            Self::Rtp { .. } => 0,
        }
    }

    /// Loss to defend against from the next frame on, in thousandths.
    pub fn set_loss(&mut self, permille: u32) {
        match self {
            Self::Lumen { packetizer, .. } => packetizer.set_loss(permille),
            Self::Rtp { packetizer, .. } => packetizer.set_loss(permille),
        }
    }

    /// Begins a frame; `previous` is the one before in its generation.
    pub fn begin(&mut self, frame: &FrameTimes, idr: bool, previous: Option<&FrameTimes>) {
        match self {
            Self::Lumen { packetizer, .. } => packetizer.begin(frame.number, idr, &frame.header(previous)),
            Self::Rtp { packetizer, .. } => packetizer.begin(idr, frame.tells_latency().then_some(frame.captured)),
        }
    }

    /// Gives up the frame that was begun.
    pub fn abort(&mut self) {
        match self {
            Self::Lumen { packetizer, .. } => packetizer.abort(),
            Self::Rtp { packetizer, .. } => packetizer.abort(),
        }
    }

    /// Takes slices of the frame that was begun, and appends the packets that can leave now. Returns how many of them
    /// are parity.
    pub fn slice(&mut self, bytes: &[u8], last: bool, now_ns: u64, out: &mut PacketBatch) -> Result<u64, Broken> {
        let before = self.parity();
        match self {
            Self::Lumen { packetizer, .. } => packetizer.slice(bytes, last, out).map_err(Broken::because)?,
            Self::Rtp { packetizer, .. } => packetizer.slice(bytes, last, now_ns, out).map_err(Broken::because)?,
        }
        Ok(self.parity() - before)
    }

    /// Appends a packet that says that the host is there. None in GameStream: its clients need none.
    pub fn idle(&mut self, out: &mut PacketBatch) -> Result<(), Exhausted> {
        match self {
            Self::Lumen { packetizer, .. } => packetizer.idle(out),
            Self::Rtp { .. } => Ok(()),
        }
    }

    /// Appends the answer to a probe. None in GameStream, whose pings want no answer.
    pub fn pong(&mut self, pong: Pong, out: &mut PacketBatch) -> Result<(), Exhausted> {
        match self {
            Self::Lumen { packetizer, .. } => packetizer.pong(pong, out),
            Self::Rtp { .. } => Ok(()),
        }
    }

    fn parity(&self) -> u64 {
        match self {
            Self::Lumen { packetizer, .. } => packetizer.counters().parity,
            Self::Rtp { packetizer, .. } => packetizer.counters().parity,
        }
    }
}

fn sealer(secret: &MediaSecret, generation: u32) -> Sealer {
    Sealer::new(secret, generation, Direction::HostToClient)
}
