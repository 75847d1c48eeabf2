//! The encode plane: takes the newest picture of a frame pool, converts it to I420 and hands each slice of its access
//! unit to the video ring as soon as it exists.
//!
//! [`Converter`] and [`encoder::open`] are the whole work of a frame and run without a plane; [`encode::run`] is the
//! loop that ties them to a mailbox and a ring.

#![deny(unsafe_code)]

pub mod convert;
pub mod encode;
pub mod encoder;
mod generation;
mod openh264;
mod still;
#[cfg(feature = "x264")]
mod x264;

pub use convert::{ConvertError, Converter, I420};
pub use encoder::{EncodeError, Encoder, Settings, Slice};
