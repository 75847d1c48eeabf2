//! What Lumen's processes share: links, messages, sealed shared memory, the plane main and the lockdown.
//!
//! `unsafe` lives in `link.rs`, `plane.rs`, `inherited.rs`, `shm.rs`, `mailbox.rs`, `ring/memory.rs` and in the lockdown's own files.
#![deny(unsafe_code)]

pub mod codec;
pub mod ctl;
pub mod event;
pub mod feedback;
pub mod inherited;
pub mod link;
pub mod mailbox;
pub mod msg;
pub mod notify;
pub mod plane;
pub mod ring;
pub mod sandbox;
pub mod shm;
mod sync;

pub use msg::*;
pub use plane::EXIT_REOPEN;

/// Names this build of Lumen: the version and a hash of the sources that decide how processes talk. A plane of any
/// other build is refused.
pub const BUILD: &str = concat!(env!("CARGO_PKG_VERSION"), "-", env!("LUMEN_BUILD_HASH"));
