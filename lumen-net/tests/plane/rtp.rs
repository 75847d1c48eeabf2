//! A depacketizer of GameStream video, as small as can be: it recovers nothing, so that a packet which is not as it has
//! to be fails a test instead of being made up for.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use lumen_core::gamestream::video::VideoConfig;

use super::host::PATIENCE;

/// RTP, its extension, and GameStream's header.
const HEADER: usize = 32;
const FRAME_HEADER: usize = 8;
/// Nonce, frame and tag before an encrypted packet.
const PREFIX: usize = 32;

/// A frame that has come, every packet of it.
pub struct RtpFrame {
    pub index: u32,
    pub idr: bool,
    /// In tenths of a millisecond; 0 if the host does not say.
    pub latency: u16,
    pub data: Vec<u8>,
    pub packets: usize,
    pub parity: usize,
    pub blocks: u8,
}

/// A GameStream client's video socket.
pub struct RtpClient {
    pub socket: UdpSocket,
    host: SocketAddr,
    /// None for a client that knows none.
    payload: Option<[u8; 16]>,
    /// Pings sent.
    pub pings: u32,
    packet_size: usize,
    key: Option<LessSafeKey>,
    /// Of the packet before.
    sequence: Option<u16>,
    stream: Option<u32>,
    frame: u32,
    timestamp: u32,
}

/// One packet's header fields.
#[derive(Clone, Copy)]
struct Fields {
    frame: u32,
    first: bool,
    last: bool,
    block: u8,
    last_block: u8,
    data: usize,
    index: usize,
    percent: usize,
}

impl RtpClient {
    /// A client that was told this payload for its pings.
    pub fn new(host: SocketAddr, payload: [u8; 16], config: VideoConfig) -> Self {
        Self::with(host, Some(payload), config)
    }

    /// A client that knows no payloads.
    pub fn plain(host: SocketAddr, config: VideoConfig) -> Self {
        Self::with(host, None, config)
    }

    fn with(host: SocketAddr, payload: Option<[u8; 16]>, config: VideoConfig) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let key = config.key.map(|key| LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap()));
        let packet_size = config.packet_size.get().into();
        let (sequence, stream) = (None, None);
        Self { socket, host, payload, pings: 0, packet_size, key, sequence, stream, frame: 0, timestamp: 0 }
    }

    pub fn ping(&mut self) {
        self.pings += 1;
        match self.payload {
            Some(payload) => self.send(&[&payload[..], &self.pings.to_be_bytes()].concat()),
            None => self.send(b"PING"),
        }
    }

    pub fn send(&self, datagram: &[u8]) {
        self.socket.send_to(datagram, self.host).unwrap();
    }

    /// The next datagram in clear, if one comes within a moment.
    pub fn packet(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 2_048];
        let count = self.socket.recv(&mut buffer).ok()?;
        buffer.truncate(count);
        let Some(key) = &self.key else { return Some(buffer) };
        let nonce: [u8; 12] = buffer[..12].try_into().unwrap();
        let frame = u32::from_le_bytes(buffer[12..16].try_into().unwrap());
        let sealed = [&buffer[PREFIX..], &buffer[16..PREFIX]].concat();
        let mut opened = sealed;
        let length = key
            .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut opened)
            .expect("the host's packets are authentic")
            .len();
        opened.truncate(length);
        assert_eq!(frame, u32::from_le_bytes(opened[20..24].try_into().unwrap()));
        Some(opened)
    }

    /// Waits for the next whole frame, which must be the one after the last.
    pub fn frame(&mut self) -> RtpFrame {
        self.frame_within(PATIENCE).expect("a frame")
    }

    /// The same; none if it does not come in this time, or not whole. Start anew with [`Self::forget`] then.
    pub fn frame_within(&mut self, patience: Duration) -> Option<RtpFrame> {
        let deadline = Instant::now() + patience;
        let mut frame =
            RtpFrame { index: 0, idr: false, latency: 0, data: Vec::new(), packets: 0, parity: 0, blocks: 0 };
        // Where the current block is, and how long the frame's last packet says it is.
        let (mut block, mut expected, mut last_bytes) = (0, 0, 0);
        while Instant::now() < deadline {
            let Some(packet) = self.packet() else {
                // As clients do: a ping can come before its session is known.
                self.ping();
                continue;
            };
            let fields = self.header(&packet)?;
            let parity = (fields.data * fields.percent).div_ceil(100);
            assert!(parity >= 2 && fields.data + parity <= 255, "{} and {parity}", fields.data);
            if frame.packets == 0 {
                self.frame += 1;
                frame.index = fields.frame;
                frame.blocks = fields.last_block + 1;
            }
            assert_eq!((fields.frame, fields.block, fields.index), (self.frame, block, expected));
            frame.packets += 1;
            let payload = &packet[HEADER..];
            if fields.index < fields.data {
                assert_eq!((fields.first, fields.last), (fields.index == 0, fields.index + 1 == fields.data));
                let whole = payload.len() == self.packet_size + 16 - HEADER;
                assert!(whole || (fields.last && block == fields.last_block), "a short packet before the last");
                if frame.packets == 1 {
                    assert_eq!(payload[0], 1);
                    frame.latency = u16::from_le_bytes([payload[1], payload[2]]);
                    frame.idr = match payload[3] {
                        1 => false,
                        2 => true,
                        other => panic!("a frame of type {other}"),
                    };
                    last_bytes = usize::from(u16::from_le_bytes([payload[4], payload[5]]));
                }
                if fields.last && block == fields.last_block {
                    assert_eq!(payload.len(), last_bytes);
                }
                frame.data.extend_from_slice(payload);
            } else {
                assert_eq!(packet.len(), self.packet_size + 16);
                frame.parity += 1;
            }
            expected += 1;
            if expected == fields.data + parity {
                if block == fields.last_block {
                    frame.data.drain(..FRAME_HEADER);
                    return Some(frame);
                }
                (block, expected) = (block + 1, 0);
            }
        }
        None
    }

    /// Goes on after a loss, with whatever frame comes next: drops what waits, and forgets what came before it.
    pub fn forget(&mut self, last_index: u32) {
        while self.packet().is_some() {}
        (self.sequence, self.stream, self.frame) = (None, None, last_index);
    }

    /// Checks one packet's header; none if packets are missing before it.
    fn header(&mut self, packet: &[u8]) -> Option<Fields> {
        let u32_at = |at: usize| u32::from_le_bytes(packet[at..at + 4].try_into().unwrap());
        assert_eq!(packet[0], 0x90);
        let sequence = u16::from_be_bytes([packet[2], packet[3]]);
        let timestamp = u32::from_be_bytes(packet[4..8].try_into().unwrap());
        let shape = u32_at(28);
        let fields = Fields {
            frame: u32_at(20),
            first: packet[24] & 4 != 0,
            last: packet[24] & 2 != 0,
            block: packet[27] >> 4 & 3,
            last_block: packet[27] >> 6,
            data: (shape >> 22) as usize,
            index: (shape >> 12 & 0x3FF) as usize,
            percent: (shape >> 4 & 0xFF) as usize,
        };
        if self.sequence.replace(sequence).is_some_and(|before| sequence != before.wrapping_add(1)) {
            return None;
        }
        assert!(timestamp > self.timestamp || fields.frame == self.frame, "time goes on with each frame");
        self.timestamp = timestamp;
        if fields.index < fields.data {
            assert!(packet[24] & 1 != 0 && packet[24] < 8, "flags {:#x}", packet[24]);
            let stream = u32_at(16) >> 8;
            if let Some(before) = self.stream.replace(stream) {
                assert_eq!(stream, before.wrapping_add(1) & 0xFF_FFFF);
            }
        }
        Some(fields)
    }
}
