//! The capture plane: pictures of a compositor's output, or of a synthetic desktop, into a pool of shared buffers.
//!
//! [`capture::run`] is the plane; [`display`] is where pictures come from; [`pattern`] draws the synthetic ones and is
//! also used by the benchmarks.

#![forbid(unsafe_code)]

pub mod capture;
pub mod display;
pub mod pattern;
