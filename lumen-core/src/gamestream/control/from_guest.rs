//! What clients say.

use super::{Malformed, join, split};
use crate::cursor::Reader;
use crate::gamestream::input::Packet;

const START_B: u16 = 0x0307;
const PING: u16 = 0x0200;
const LOSS_STATS: u16 = 0x0201;
const INPUT: u16 = 0x0206;
const INVALIDATE: u16 = 0x0301;
const REQUEST_IDR: u16 = 0x0302;
const LTR_ACK: u16 = 0x0350;
const FEC_STATUS: u16 = 0x5502;

/// One message of a client.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum FromGuest {
    /// The next frame shall be an IDR. The first of these is also the first half of "start".
    RequestIdr,
    /// The second half of "start".
    StartB,
    /// Every 100 ms; needs no answer but ENet's.
    Ping,
    Input(Packet),
    /// Frames from `first` to `last`, both included, are lost to the client: no picture to come may need them.
    Invalidate {
        first: u32,
        last: u32,
    },
    /// Of old clients.
    LossStats(LossStats),
    /// Of a block of packets some of which did not come.
    FecStatus(FecStatus),
    /// A long-term reference frame has come.
    LtrAck {
        frame: u32,
    },
    /// A type that this host does not know.
    Unknown(u16),
}

/// Loss as old clients tell it (ControlStream.c, lossStatsThreadFunc).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LossStats {
    pub interval_ms: u32,
    pub last_good_frame: u64,
}

/// One FEC block as its packets have come (Video.h, SS_FRAME_FEC_STATUS). Said of blocks only of which packets were
/// missing, and of no more than eight in 100 ms (ControlStream.c).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FecStatus {
    pub frame: u32,
    pub highest_received: u16,
    pub next_contiguous: u16,
    pub missing_before_highest: u16,
    pub data: u16,
    pub parity: u16,
    pub received_data: u16,
    pub received_parity: u16,
    pub percentage: u8,
    pub block: u8,
    pub blocks: u8,
}

impl FecStatus {
    /// Packets of the block: 0 to 510, whatever the client says.
    pub fn packets(&self) -> u16 {
        self.data.min(255) + self.parity.min(255)
    }

    /// Packets of the block that are known to be lost; not more than it has. A block that could be put together was
    /// given up at once, so what should have come after its newest packet is not lost.
    pub fn lost(&self) -> u16 {
        let received = self.received_data.saturating_add(self.received_parity);
        let complete = received >= self.data;
        let lost = if complete { self.missing_before_highest } else { self.packets().saturating_sub(received) };
        lost.min(self.packets())
    }

    fn parse(payload: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(payload);
        let frame = u32::from_be_bytes(reader.array()?);
        let mut next = || reader.array().map(u16::from_be_bytes);
        let (highest_received, next_contiguous, missing_before_highest) = (next()?, next()?, next()?);
        let (data, parity, received_data, received_parity) = (next()?, next()?, next()?, next()?);
        let (percentage, block, blocks) = (reader.u8()?, reader.u8()?, reader.u8()?);
        Ok(Self {
            frame,
            highest_received,
            next_contiguous,
            missing_before_highest,
            data,
            parity,
            received_data,
            received_parity,
            percentage,
            block,
            blocks,
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.frame.to_be_bytes());
        let counts = [
            self.highest_received,
            self.next_contiguous,
            self.missing_before_highest,
            self.data,
            self.parity,
            self.received_data,
            self.received_parity,
        ];
        counts.iter().for_each(|count| out.extend_from_slice(&count.to_be_bytes()));
        out.extend_from_slice(&[self.percentage, self.block, self.blocks]);
    }
}

impl FromGuest {
    /// The message that exactly these bytes are, opened already. Payloads may be longer than what is known of them.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let (kind, payload) = split(message)?;
        let mut reader = Reader::new(payload);
        Ok(match kind {
            REQUEST_IDR => Self::RequestIdr,
            START_B => Self::StartB,
            PING => Self::Ping,
            INPUT => Self::Input(Packet::parse(payload)?),
            INVALIDATE => {
                let (first, _, last) = (reader.u32()?, reader.u32()?, reader.u32()?);
                if first > last {
                    return Err(Malformed);
                }
                Self::Invalidate { first, last }
            }
            LOSS_STATS => {
                let (_, interval_ms, _) = (reader.u32()?, reader.u32()?, reader.u32()?);
                Self::LossStats(LossStats { interval_ms, last_good_frame: reader.u64()? })
            }
            LTR_ACK => Self::LtrAck { frame: reader.u32()? },
            FEC_STATUS => Self::FecStatus(FecStatus::parse(payload)?),
            unknown => Self::Unknown(unknown),
        })
    }

    /// Appends the message, not sealed yet: what a client does.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::RequestIdr => join(REQUEST_IDR, out, |out| out.extend_from_slice(&[0; 2])),
            Self::StartB => join(START_B, out, |out| out.push(0)),
            Self::Ping => join(PING, out, |out| out.extend_from_slice(&[4, 0, 0, 0, 0, 0, 0, 0])),
            Self::Input(packet) => join(INPUT, out, |out| packet.encode(out)),
            Self::Invalidate { first, last } => join(INVALIDATE, out, |out| {
                [*first, 0, *last, 0, 0, 0].iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
            }),
            Self::LossStats(stats) => join(LOSS_STATS, out, |out| {
                [0, stats.interval_ms, 1000].iter().for_each(|word: &u32| out.extend_from_slice(&word.to_le_bytes()));
                out.extend_from_slice(&stats.last_good_frame.to_le_bytes());
                [0, 0, 0x14].iter().for_each(|word: &u32| out.extend_from_slice(&word.to_le_bytes()));
            }),
            Self::FecStatus(status) => join(FEC_STATUS, out, |out| status.encode(out)),
            Self::LtrAck { frame } => join(LTR_ACK, out, |out| {
                out.extend_from_slice(&frame.to_le_bytes());
                out.extend_from_slice(&[0; 4]);
            }),
            Self::Unknown(kind) => join(*kind, out, |_| {}),
        }
    }
}
