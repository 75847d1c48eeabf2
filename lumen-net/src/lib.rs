//! Lumen's network plane: packets, protection, pacing and the lumen/1 handshake.
//!
//! Two threads. *Media* is one blocking loop over all sessions: from the video rings to the media socket and back.
//! *Control* is asynchronous: one loop for lumend's link, the QUIC endpoint and who its clients are, and one task per
//! client, which also carries its session's sound, input and rumble in QUIC datagrams. The two threads share two bounded queues
//! and the counters; all descriptors but those that lumend sends are made before the plane seals itself.
//!
//! `unsafe` lives in `readable.rs`.
#![deny(unsafe_code)]

pub mod branches;
mod control;
pub mod counters;
mod deadlines;
mod discovery;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod gamestream;
mod keyframe;
mod ledger;
pub mod media;
pub mod native;
mod pace;
mod ping;
pub mod plane;
pub mod queue;
mod readable;
mod session;
pub mod tls;
