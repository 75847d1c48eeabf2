//! What strangers' bytes come to first. Each target takes any bytes at all and panics if a parser does, or if what it
//! lets through is not what it promises.
//!
//! `cargo xtask fuzz` runs them under libFuzzer; the inputs in `corpus/TARGET/` are what it found worth keeping, and every
//! run of the tests replays them.
#![forbid(unsafe_code)]

mod control;
mod native;
mod net;
mod text;

/// One entry for libFuzzer.
pub struct Target {
    /// Also the name of its corpus.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    Target { name: "rtsp", run: text::rtsp },
    Target { name: "rtsp_sealed", run: text::rtsp_sealed },
    Target { name: "sdp", run: text::sdp },
    Target { name: "control", run: control::message },
    Target { name: "control_sealed", run: control::sealed },
    Target { name: "input", run: control::input },
    Target { name: "enet", run: net::enet },
    Target { name: "http", run: net::http },
    Target { name: "certificate", run: net::certificate },
    Target { name: "mdns", run: net::mdns },
    Target { name: "hello", run: native::hello },
    Target { name: "input_datagram", run: native::input_datagram },
    Target { name: "media_packet", run: native::media_packet },
];

/// The pieces of an input that stands for several messages: each is one byte of length and as many bytes; what is
/// missing at the end is missing.
fn pieces(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = bytes.split_first()?;
        let (piece, rest) = rest.split_at(usize::from(length).min(rest.len()));
        bytes = rest;
        Some(piece)
    })
}
