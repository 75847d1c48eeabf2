//! What the network plane hears: of strangers, of clients, and of the planes whose rings it reads.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use ipc::ring::{ChunkFlags, ChunkHeader};
use lumen_core::packet::{Flags, Header, Kind, Probe};
use lumen_net::fuzz::{GENERATION, Media, Rings};
use tokio::runtime::{Builder, Runtime};

use crate::script::Script;

/// HTTP requests of clients that want to pair or to launch.
pub fn http(bytes: &[u8]) {
    if lumen_net::fuzz::http(bytes) {
        assert!(bytes.starts_with(b"GET ") || bytes.trim_ascii_start().starts_with(b"GET "));
    }
}

/// What a client shows in TLS, or brings to be paired.
pub fn certificate(bytes: &[u8]) {
    lumen_net::fuzz::certificate(bytes);
}

/// Datagrams for the control stream's port.
pub fn enet(bytes: &[u8]) {
    lumen_net::fuzz::enet(crate::pieces(bytes));
}

/// Datagrams for mDNS.
pub fn mdns(bytes: &[u8]) {
    lumen_net::fuzz::mdns(crate::pieces(bytes));
}

/// The page that a request of GameStream names, and its query.
pub fn page(bytes: &[u8]) {
    let Ok(target) = std::str::from_utf8(bytes) else { return };
    if lumen_net::fuzz::page(target) {
        assert!(target.starts_with('/'));
    }
}

/// A session's video: chunks of an encoder that says what it likes, within what its ring lets through; the client's probes
/// and pings, the former with a good seal; and what is sent of it all.
pub fn media(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let setup = script.u8();
    let mut media = Media::new(setup & 1 != 0, setup & 2 != 0);
    let (zeros, mut frame) = ([0; 16 * 1024], 0);
    while let Some(step) = script.step() {
        match step % 8 {
            0..=2 => {
                frame += u32::from(step >> 6);
                let chunks: Vec<_> = (0..=step >> 3 & 3)
                    .map(|_| (chunk(&mut script, frame), usize::from(script.u16()) % zeros.len()))
                    .collect();
                media.frame(chunks.into_iter().map(|(header, length)| (header, &zeros[..length])));
            }
            3 => {
                let probe = Probe {
                    client_ns: script.u64(),
                    highest: u64::from(script.u32()) << (step >> 3),
                    received: script.u16().into(),
                    keyframe_wanted: Some(script.u8().into()),
                    ..Probe::default()
                };
                media.sealed(header(Kind::Probe, &mut script), &probe.encode());
            }
            4 => {
                let kind = [Kind::Data, Kind::Parity, Kind::Idle, Kind::Pong, Kind::Probe][usize::from(step >> 3) % 5];
                media.sealed(header(kind, &mut script), script.piece());
            }
            5 => media.datagram(script.piece()),
            6 => {
                media.ping(script.u32());
                media.lose(script.u16().into());
                media.want_keyframe();
                let from = SocketAddr::from((Ipv4Addr::from(script.u32()), script.u16()));
                lumen_net::fuzz::ping(script.piece(), from);
            }
            _ => {
                if !media.pump() {
                    return;
                }
            }
        }
    }
}

fn chunk(script: &mut Script<'_>, frame: u32) -> ChunkHeader {
    let (flags, wild) = (script.u8(), script.u8());
    ChunkHeader {
        generation: if wild == 0xFF { script.u32() } else { GENERATION },
        frame: if wild >= 0xF0 { script.u32() } else { frame },
        flags: ChunkFlags::from_bits(u32::from(flags) % 32).unwrap_or_default(),
        captured_ns: if wild >= 0x80 { script.u64() } else { 1 },
        taken_ns: u64::from(wild) * 3,
        converted_ns: u64::from(wild) * 5,
        sliced_ns: if wild % 2 == 1 { script.u64() } else { 9 },
        ..ChunkHeader::default()
    }
}

fn header(kind: Kind, script: &mut Script<'_>) -> Header {
    let flags = Flags(script.u8() % 8);
    Header { kind, flags, index: script.u8().into(), session: 5, generation: GENERATION, frame: 0, counter: 0 }
}

/// Sound and rumble of planes that put what they like into their rings.
pub fn branch_rings(bytes: &[u8]) {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime =
        RUNTIME.get_or_init(|| Builder::new_current_thread().enable_io().build().expect("there are descriptors"));
    let _inside = runtime.enter();
    let (mut script, mut rings, mut now_ns) = (Script::new(bytes), Rings::new(), 0);
    while let Some(step) = script.step() {
        let flags = ChunkFlags::from_bits(u32::from(step >> 3)).unwrap_or_default();
        let frame = if step & 4 == 0 { u32::from(script.u8()) } else { script.u32() };
        let header = ChunkHeader { flags, frame, ..ChunkHeader::default() };
        match step % 4 {
            0 => rings.sound(header, script.piece()),
            1 => rings.rumble(header, script.piece()),
            2 => rings.sound(header, &[0; 1200][..usize::from(script.u16()) % 1200]),
            _ => {
                now_ns += u64::from(frame);
                rings.take(now_ns);
            }
        }
    }
}
