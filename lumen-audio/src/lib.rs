//! The audio plane: what the desktop plays, as Opus packets in slots of 5 ms, into a ring.
//!
//! [`audio::run`] is the plane: `client` loads PipeWire's library before the lockdown, `desktop` is a connection to the
//! daemon, `stream` is a node in its graph and brings samples, `slots` gives them even times, `track` encodes them into
//! the ring, `default` changes the default sink and puts it back, and `session` holds all of this together.

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
mod track;
mod trouble;
