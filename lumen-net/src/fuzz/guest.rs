//! A Moonlight client that was let in, with its session: what it says in RTSP and on the control stream, as the hub hears
//! it.

use std::net::{IpAddr, Ipv4Addr};

use ipc::SessionId;
use lumen_core::gamestream::control::{ControlCipher, ControlVersion, MAX_MESSAGE};
use lumen_core::gamestream::rtsp::Request;
use lumen_core::gamestream::{Encryption, Origin};
use lumen_core::{AudioLayout, Mode};

use crate::gamestream::guest::{Guest, Launch};
use crate::gamestream::hub::seat::Seat;
use crate::gamestream::hub::{HubEvent, HubPorts};
use crate::gamestream::rtsp::Desk;

const KEY: [u8; 16] = [7; 16];

/// Its session, and its own end of the control stream.
pub struct Seated {
    desk: Desk,
    seat: Seat,
    client: Option<ControlCipher>,
    now_ns: u64,
}

impl Seated {
    /// `sealed`: the client can do what the host's encryption asks for. `required`: the host asks for all of it.
    pub fn new(sealed: bool, required: bool) -> Self {
        let launch = Launch {
            session: SessionId(5),
            peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
            mode: Mode::new(1280, 720, 60_000).expect("a mode"),
            audio: AudioLayout::Stereo,
            key: KEY,
            key_id: 1,
            sealed,
        };
        let guest = Guest::new(launch).expect("there are random bytes");
        let encryption = if required { Encryption::Required } else { Encryption::Auto };
        let desk = Desk { ports: HubPorts { video: 1, control: 2, audio: 3 }, encryption };
        Self { desk, seat: Seat::new(guest, 1, 0), client: None, now_ns: 0 }
    }

    /// A request arrives, and is answered with the number that it has.
    pub fn rtsp(&mut self, bytes: &[u8]) {
        let Ok(Some((request, _))) = Request::parse(bytes) else { return };
        let answer = self.desk.answer(&request, &self.seat.guest, self.seat.phase);
        let said = String::from_utf8_lossy(answer.response.as_bytes());
        assert!(said.contains(&format!("CSeq: {}\r\n", request.cseq)), "{said}");
        let Some((announcement, size)) = answer.announced else { return };
        assert!(self.client.is_none(), "two announcements are taken");
        let version = if announcement.encryption.control_v2 { ControlVersion::V2 } else { ControlVersion::V1 };
        self.client = Some(ControlCipher::new(&KEY, version, Origin::Client));
        let HubEvent::Tuned { tuning, .. } = self.seat.tune(&announcement, size, self.now_ns) else {
            panic!("an announcement is no tuning")
        };
        assert!(tuning.bitrate_kbps > 0 && tuning.frame_bytes > 0);
    }

    /// The client seals this, as soon as it can.
    pub fn control(&mut self, message: &[u8]) {
        let Some(client) = &mut self.client else { return };
        let mut sealed = Vec::new();
        if client.seal(&message[..message.len().min(MAX_MESSAGE)], &mut sealed).is_ok() {
            self.hear(&sealed);
        }
    }

    /// A packet of the control stream arrives.
    pub fn hear(&mut self, sealed: &[u8]) {
        let mut told = Vec::new();
        if let Some(message) = self.seat.open(sealed, self.now_ns) {
            self.seat.hear(message, self.now_ns, &mut told);
        }
        assert!(told.len() <= 2, "one message tells more than a start and a wish for a keyframe");
    }

    /// Time passes. False if the session is over.
    pub fn pass(&mut self, ns: u64) -> bool {
        self.now_ns = self.now_ns.saturating_add(ns).min(1 << 60);
        let mut told = Vec::new();
        let over = self.seat.tick(self.now_ns, &mut told).is_some();
        self.seat.rumble(self.now_ns, |_| true);
        assert!(over || self.seat.due_ns() > self.now_ns, "never rests");
        for event in &told {
            if let HubEvent::Loss { permille, .. } = event {
                assert!(*permille <= 1000);
            }
        }
        !over
    }
}
