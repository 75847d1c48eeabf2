//! End-to-end tests of Lumen: real compositors, planes and clients in a world that can be made bad on purpose.
//!
//! [`trial`] is what the tests begin with; [`relay`] is a bad network, [`inject`] puts system calls into running
//! planes, [`needed`] traces which of those they need, [`memory`] searches what they have in mind for [`secrets`], [`tone`]
//! plays known sound and [`heard`] judges a recording of it, [`replay`] judges the pictures that a client has shown, [`hands`] reads what a window saw,
//! [`attacker`] is a client that means harm, [`guest`] one that speaks GameStream, [`wayland`] holds the instruments that
//! draw and read a real desktop.

#![forbid(unsafe_code)]

pub mod activator;
pub mod attacker;
pub mod guest;
pub mod hands;
pub mod heard;
pub mod inject;
pub mod memory;
pub mod needed;
pub mod relay;
pub mod replay;
pub mod secrets;
pub mod tone;
pub mod trial;
pub mod wayland;
