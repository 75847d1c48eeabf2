//! The audio plane: what the desktop plays, as Opus packets in slots of 5 ms, into a ring.
//!
//! [`audio::run`] is the plane: [`client`](self) loads PipeWire's library before the lockdown, a `desktop` is a
//! connection to the daemon, a `stream` brings samples, `slots` gives them even times, `opus` encodes them, and
//! `default` changes the default sink and puts it back.

#![deny(unsafe_code)]

pub mod audio;
mod client;
mod default;
mod desktop;
mod gain;
mod opus;
mod priority;
mod session;
mod slots;
mod stream;
mod trouble;
