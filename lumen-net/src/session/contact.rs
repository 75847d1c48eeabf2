//! What a client lets the media thread hear, which shows where it is.

use lumen_core::parity::LossEstimator;
use lumen_core::seal::MediaSecret;

use super::inbound::Inbound;
use crate::ping::Pinged;

/// Probes answered between two reports, which are a second apart: several times what a client sends, and little enough
/// that one which sends a flood of them costs the other sessions nothing.
pub const PONGS_A_REPORT: u32 = 250;

/// How a client shows its address.
pub enum Contact {
    Native(Box<Native>),
    Guest(Guest),
}

/// A client of lumen/1: by sealed probes, which tell of the path too.
pub struct Native {
    pub secret: MediaSecret,
    pub inbound: Inbound,
    pub loss: LossEstimator,
    pub pongs_left: u32,
}

/// A client of GameStream: by pings. What it tells of the path comes over its control stream.
pub struct Guest {
    pub pinged: Pinged,
    pub loss_permille: u32,
}

impl Contact {
    pub fn native(secret: MediaSecret, generation: u32) -> Self {
        let mut inbound = Inbound::default();
        inbound.add(&secret, generation);
        let loss = LossEstimator::default();
        Self::Native(Box::new(Native { secret, inbound, loss, pongs_left: PONGS_A_REPORT }))
    }

    pub fn guest(pinged: Pinged) -> Self {
        Self::Guest(Guest { pinged, loss_permille: 0 })
    }

    /// Understands a further generation.
    pub fn set_generation(&mut self, generation: u32) {
        if let Self::Native(native) = self {
            native.inbound.add(&native.secret, generation);
            native.loss.new_generation();
        }
    }

    /// Loss as the client sees it, in thousandths.
    pub fn loss_permille(&self) -> u32 {
        match self {
            // The estimate carries a margin of a quarter, which is no loss that anybody saw.
            Self::Native(native) => native.loss.permille() * 4 / 5,
            Self::Guest(guest) => guest.loss_permille,
        }
    }
}
