//! GameStream, the protocol of Moonlight clients, as bytes: sans-IO, no clock. docs/gamestream.md.

pub mod audio;
pub mod video;

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
