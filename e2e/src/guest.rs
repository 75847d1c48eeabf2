//! A GameStream client of our own, written from the clients' sources and apart from the host's code: what the two say to
//! each other is said twice in this repository.
//!
//! [`moonlight`] is its HTTP half, [`pair`] lets it in, [`stream`] is a session; it recovers, decrypts and decodes
//! everything, and is strict about every rule of `docs/gamestream.md` (`faults` of its [`report`]).

pub mod announce;
pub mod audio;
pub mod chance;
pub mod control;
pub mod hands;
pub mod http;
pub mod identity;
pub mod mob;
pub mod moonlight;
pub mod pair;
mod ping;
pub mod report;
pub mod rtsp;
pub mod seal;
pub mod shared;
pub mod stream;
pub mod trial;
pub mod video;
pub mod wish;
pub mod xml;
