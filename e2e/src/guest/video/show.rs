//! Decodes frames and reads the numbers that the desktop under test has written into its pixels.

use anyhow::{Result, anyhow};
use lumen_core::stamp;
use openh264::OpenH264API;
use openh264::decoder::{Decoder, DecoderConfig};
use openh264::formats::YUVSource;

use super::frame::Frame;
use super::judge::{Errors, Judge, Planes};

/// A picture that a person would have seen.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    pub frame: u32,
    pub idr: bool,
    pub recovered: bool,
    /// CLOCK_MONOTONIC, when its last needed packet was there.
    pub whole_ns: u64,
    /// In tenths of a millisecond, from its header.
    pub host_latency: Option<u16>,
    /// The number in the pixels, if they carry one.
    pub stamp: Option<u32>,
    pub width: u32,
    pub height: u32,
    /// Mean of the luma: a black picture is none.
    pub luma: u8,
    /// How far it is from what it should show, where somebody knows that.
    pub errors: Option<Errors>,
}

/// A decoder that refuses what is damaged rather than hiding it.
pub struct Show {
    decoder: Decoder,
    judge: Option<Judge>,
}

impl Show {
    pub fn new(judge: Option<Judge>) -> Result<Self> {
        Ok(Self { decoder: Decoder::with_api_config(OpenH264API::from_source(), DecoderConfig::new())?, judge })
    }

    pub fn decode(&mut self, frame: &Frame, whole_ns: u64) -> Result<Shown> {
        let picture = self.decoder.decode(&frame.bytes)?;
        let picture = picture.ok_or_else(|| anyhow!("no picture of frame {}", frame.number))?;
        let (width, height) = picture.dimensions();
        let stamp = stamp::read(picture.y(), picture.strides().0, width, height);
        let (y, u, v) = picture.strides();
        let planes = Planes { y: (picture.y(), y), u: (picture.u(), u), v: (picture.v(), v) };
        let errors = self.judge.as_mut().zip(stamp).map(|(judge, stamp)| judge.errors(stamp, &planes));
        let sampled = picture.y().iter().step_by(61);
        let (sum, count) = sampled.fold((0_u64, 0_u64), |(sum, count), &value| (sum + u64::from(value), count + 1));
        Ok(Shown {
            frame: frame.number,
            idr: frame.idr,
            recovered: frame.recovered > 0,
            whole_ns,
            host_latency: frame.host_latency,
            stamp: stamp.map(|stamp| stamp.number),
            width: width as u32,
            height: height as u32,
            luma: (sum / count.max(1)) as u8,
            errors,
        })
    }
}
