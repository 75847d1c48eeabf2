//! The lumen/1 wire, shared by host and clients: sans-IO, no clock, no sockets. Bytes and times are arguments.

pub mod mode;

pub use mode::{Mode, ModeError, RawMode};
