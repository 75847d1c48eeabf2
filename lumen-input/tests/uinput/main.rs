//! The real, sealed plane on a real kernel: devices made, events read back from /dev/input, force feedback answered.
//!
//! Ignored by default, since it needs root, /dev/uinput, and a machine that nobody works at: `cargo xtask test-vm` runs
//! it in a virtual machine of its own.

mod force;
mod hands;
mod pads;
mod reader;
mod restart;
mod rig;
