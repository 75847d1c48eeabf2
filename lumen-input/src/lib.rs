//! The input plane: what a client's hands do, done on the session's own output and seat.
//!
//! [`input::run`] is the plane; [`route`] decides which event goes where and remembers what is held; [`inject`] is what
//! a backend must be able to do. Backends: [`wlr`] (a wlroots compositor) and [`uinput`] (the kernel's devices).

#![deny(unsafe_code)]

pub mod haptics;
pub mod inflow;
pub mod inject;
pub mod input;
pub mod keymap;
pub mod route;
pub mod state;
pub mod uinput;
pub mod wired;
pub mod wlr;
