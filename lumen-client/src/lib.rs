//! The reference client of lumen/1.
//!
//! [`Client::connect`] asks a host for a session; [`Session::play`] delivers its frames to a [`FrameSink`] and its sound to
//! a [`SoundSink`], and [`Session::input`] takes what hands do. The command `lumen-client` is a thin layer over that, and
//! the project's measuring instrument.

#![forbid(unsafe_code)]

mod audio;
pub mod cli;
mod config_dir;
mod connect;
mod datagrams;
mod decode;
mod error;
mod frame;
mod gaps;
mod identity;
mod input;
mod known_hosts;
mod line;
mod live;
mod media;
mod picture;
mod probe;
mod progress;
mod recorder;
mod redial;
pub mod report;
mod returns;
pub mod run;
mod session;
mod socket;
mod stamps;
mod tls;
mod worker;

use std::path::Path;

use connect::Expected;

pub use audio::{JitterBuffer, PlayCounts, SoundPacket, SoundSink};
pub use config_dir::{ConfigError, default_dir};
pub use connect::{Options, resolve};
pub use datagrams::{DatagramReport, PadRumble, RumbleSink};
pub use error::{ConnectError, Ending, Refusal};
pub use frame::{ClockReading, FrameSink, LateLedger, Ledger, ReceivedFrame};
pub use gaps::Gap;
pub use identity::Identity;
pub use input::{InputCounts, InputSender, NotSent, Sent};
pub use known_hosts::KnownHosts;
pub use live::Live;
pub use lumen_core::{Fingerprint, MalformedFingerprint};
pub use media::MediaReport;
pub use returns::{Return, Returns};
pub use session::{Control, Finished, Playing, Session, Sinks};
pub use stamps::StampCounts;

/// Who this client is, and whom it knows.
#[derive(Debug)]
pub struct Client {
    identity: Identity,
    known: KnownHosts,
}

impl Client {
    /// Reads identity and known hosts from `dir`, and makes what is missing.
    pub fn open(dir: &Path) -> Result<Self, ConfigError> {
        Ok(Self { identity: Identity::load_or_create(dir)?, known: KnownHosts::new(dir) })
    }

    /// Asks a host for a session.
    ///
    /// A pin decides alone; without one the known hosts do, and a host that is not known is trusted and remembered
    /// once it has agreed to a session. Blocks for at most 5 s an address until the host is reached, and 20 s more
    /// for its answer.
    pub fn connect(&self, options: &Options) -> Result<Session, ConnectError> {
        let host = connect::with_port(&options.host);
        let known = self.known.get(&host)?;
        let expected = match (options.pin, known) {
            (Some(pin), _) => Expected::Pinned(pin),
            (None, Some(known)) => Expected::Known(known, self.known.path()),
            (None, None) => Expected::Any,
        };
        let connected = connect::connect(&self.identity, options, &expected)?;
        self.known.set(&host, connected.fingerprint)?;
        Session::new(connected, options.media, matches!(expected, Expected::Any), options.input)
    }
}

/// CLOCK_MONOTONIC, nanoseconds.
pub(crate) fn monotonic_ns() -> u64 {
    // It cannot fail for a clock that every Linux has.
    let now =
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap_or(nix::sys::time::TimeSpec::new(0, 0));
    now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64
}

/// Names this run of the kernel, so that a host on the same one knows that both read the same clock. All zero where
/// it cannot be read; a host never matches that.
pub(crate) fn boot_id() -> [u8; 16] {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    let mut id = [0; 16];
    if digits.len() == 32 {
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
    }
    id
}
