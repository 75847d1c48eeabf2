//! What Lumen's processes share: links, messages, sealed shared memory, the plane main and the lockdown.

pub mod msg;
pub mod sandbox;

pub use msg::*;
