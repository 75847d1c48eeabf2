//! Where bytes of strangers, clients and planes in bad hands come to first. Each target takes any bytes at all and panics
//! if a parser does, or if what it lets through is not what it promises.
//!
//! `cargo xtask fuzz` runs them under libFuzzer; the inputs in `corpus/TARGET/` are what it found worth keeping, and every
//! run of the tests replays them.
#![forbid(unsafe_code)]

// Of programs whose modules are nobody's library: the files themselves.
#[allow(dead_code, reason = "only what reads bytes is called here")]
#[path = "../../lumend/src/grumbles.rs"]
mod grumbles;
#[allow(dead_code, reason = "as above")]
#[path = "../../lumend/src/rate.rs"]
mod rate;
#[allow(dead_code, reason = "as above")]
#[path = "../../lumen-audio/src/slots.rs"]
mod slots;
#[allow(dead_code, reason = "as above")]
#[path = "../../lumend/src/swayipc.rs"]
mod swayipc;
#[allow(dead_code, reason = "as above")]
#[path = "../../lumen-client/src/audio/timeline.rs"]
mod timeline;

mod client;
mod compositor;
mod control;
mod desktop;
mod guest;
mod hands;
mod host;
mod link;
mod native;
mod net;
mod script;
mod shared;
mod text;

/// One entry for libFuzzer.
pub struct Target {
    /// Also the name of its corpus.
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: &[Target] = &[
    // Of strangers.
    Target { name: "http", run: net::http },
    Target { name: "page", run: net::page },
    Target { name: "certificate", run: net::certificate },
    Target { name: "mdns", run: net::mdns },
    Target { name: "enet", run: net::enet },
    Target { name: "pairing", run: guest::pairing },
    // Of clients, or of a client's host.
    Target { name: "hello", run: client::hello },
    Target { name: "input_datagram", run: native::input_datagram },
    Target { name: "media_packet", run: native::media_packet },
    Target { name: "client_datagrams", run: client::client_datagrams },
    Target { name: "reassembly", run: client::reassembly },
    Target { name: "rtsp", run: text::rtsp },
    Target { name: "rtsp_sealed", run: text::rtsp_sealed },
    Target { name: "sdp", run: text::sdp },
    Target { name: "control", run: control::message },
    Target { name: "control_sealed", run: control::sealed },
    Target { name: "input", run: control::input },
    Target { name: "guest", run: guest::guest },
    Target { name: "stamp", run: client::stamp },
    // Of other planes: messages, and what lies in shared memory.
    Target { name: "to_lumend", run: link::to_lumend },
    Target { name: "from_lumend", run: link::from_lumend },
    Target { name: "mailbox_reader", run: shared::mailbox_reader },
    Target { name: "mailbox_writer", run: shared::mailbox_writer },
    Target { name: "ring_reader", run: shared::ring_reader },
    Target { name: "ring_writer", run: shared::ring_writer },
    Target { name: "media", run: net::media },
    Target { name: "branch_rings", run: net::branch_rings },
    Target { name: "feedback", run: host::feedback },
    Target { name: "input_ring", run: hands::input_ring },
    Target { name: "kept_state", run: hands::kept_state },
    // Of people, of the compositor, and of what runs on the desktop.
    Target { name: "control_line", run: host::control_line },
    Target { name: "sway", run: host::sway },
    Target { name: "screencopy", run: compositor::screencopy },
    Target { name: "virtual_devices", run: compositor::virtual_devices },
    Target { name: "cycles", run: desktop::cycles },
    Target { name: "effects", run: desktop::effects },
    Target { name: "stderr", run: host::stderr },
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
