//! GameStream, the protocol of Moonlight clients, as bytes: sans-IO, no clock. docs/gamestream.md.

pub mod audio;
pub mod control;
mod gcm;
pub mod input;
pub mod keys;
pub mod rtsp;
pub mod sdp;
pub mod video;

pub use gcm::Origin;

use serde::{Deserialize, Serialize};

/// What of a GameStream session has to be encrypted; its control stream always is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encryption {
    /// Whatever the client wishes.
    Auto,
    /// Everything; clients that cannot are turned away.
    Required,
}
