//! Starts real hosts, clients and desktops in a directory of their own, as an unprivileged user.
//!
//! The tests in `e2e` and the commands of `cargo xtask` stand on this one harness. Nothing here knows what is inside
//! a plane: it runs the same binaries as a user would and reads the same JSON.

#![forbid(unsafe_code)]

pub mod binaries;
pub mod chaos;
pub mod client;
pub mod deps;
pub mod echo;
pub mod host;
pub mod process;
pub mod sound;
pub mod stage;
pub mod sway;
pub mod table;
