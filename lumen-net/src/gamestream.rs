//! Moonlight clients: GameStream's protocols on the sockets that lumend hands over. docs/gamestream.md.
//!
//! *HTTP* and HTTPS tell who is there, pair clients and begin sessions; what they ask is decided in [`face`]. A session's
//! RTSP, control stream, sound and hands are the [`hub`]'s; its picture is the media thread's.

mod apps;
pub(crate) mod certificate;
mod door;
pub(crate) mod enet;
pub mod face;
pub mod guest;
mod hands;
pub mod http;
pub mod hub;
mod pages;
pub(crate) mod pairing;
pub(crate) mod request;
pub(crate) mod rtsp;
mod sound;
mod tls;
mod turns;
mod xml;

#[cfg(test)]
#[path = "../tests/plane/moonlight.rs"]
mod moonlight;
