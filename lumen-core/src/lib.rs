//! The lumen/1 wire, shared by host and clients: sans-IO, no clock, no sockets. Bytes and times are arguments.
//!
//! PROTOCOL.md in the repository's root is the specification; the modules follow its sections.
#![deny(unsafe_code)]

pub mod audio;
pub mod clock;
mod cursor;
pub mod fec;
pub mod fingerprint;
pub mod gamestream;
pub mod h264;
pub mod hello;
pub mod histogram;
pub mod input;
pub mod mode;
pub mod packet;
pub mod packetize;
pub mod parity;
pub mod reassemble;
mod resume;
pub mod seal;
pub mod stamp;

pub use audio::AudioLayout;
pub use fingerprint::{Fingerprint, MalformedFingerprint};
pub use gamestream::Encryption;
pub use input::{InputEvent, Permissions};
pub use mode::{Mode, ModeError, RawMode};
pub use resume::{Resume, ResumeToken, TokenDigest};
