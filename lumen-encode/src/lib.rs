//! The encode plane: takes the newest picture of a frame pool, converts it to I420 and hands each slice of its access
//! unit to the video ring as soon as it exists.
//!
//! [`Converter`] and [`encoder::open`] are the whole work of a frame and run without a plane; [`encode::run`] is the
//! loop that ties them to a mailbox and a ring.
//!
//! # Encoders and licences
//!
//! openh264 (BSD) is compiled from its bundled source, which takes nasm, and is always there. The cargo feature `x264`
//! adds libx264, faster and with slices that leave before the picture is finished, but under the GPL: a program built
//! with it may be passed on under the GPL alone, so the feature is off by default.

#![deny(unsafe_code)]

pub mod convert;
pub mod encode;
pub mod encoder;
mod generation;
mod openh264;
mod prepared;
mod still;
#[cfg(feature = "x264")]
mod x264;

pub use convert::{ConvertError, Converter, I420};
pub use encoder::{EncodeError, Encoder, Settings, Slice};
