//! What a client hears of a host that it has let in, and that may be in bad hands by now.

use lumen_core::InputEvent;
use lumen_core::audio::{self, tracker::Tracker, tracker::Verdict};
use lumen_core::hello::{ClientMessage, ControlMessage, FrameReader, HostMessage};
use lumen_core::input::outbox::CAPACITY;
use lumen_core::input::{INPUT_ACK_DATAGRAM, Outbox, Rumble};
use lumen_core::packet::{Flags, HEADER_BYTES, Header, Kind, MAX_DATA_SHARDS, TAG_BYTES};
use lumen_core::reassemble::{Event, Reassembler, ReassemblerConfig};
use lumen_core::seal::{Direction, MediaSecret, Sealer};
use lumen_core::stamp;

use crate::script::Script;
use crate::timeline::Timeline;

const SESSION: u32 = 5;
const SHARD_SIZE: u16 = 1200;
const MS: u64 = 1_000_000;

/// Packets whose seal is good and whose contents are not: every frame that comes out is a later one than that before, of
/// no more than the shards that a frame can have.
pub fn reassembly(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let secret = MediaSecret([1; 32]);
    let seal = |generation| Sealer::new(&secret, generation, Direction::HostToClient);
    let (mut generation, mut sealer, mut now_ns) = (1, seal(1), MS);
    let mut client = Reassembler::new(ReassemblerConfig {
        session: SESSION,
        generation,
        secret: secret.clone(),
        shard_size: SHARD_SIZE,
        reorder_wait_ns: 16 * MS,
    });
    let (mut frame, mut before) = (0, None);
    while let Some(step) = script.step() {
        now_ns += u64::from(step >> 5) * 4 * MS;
        let kind = match step % 8 {
            0..=2 => Kind::Data,
            3 | 4 => Kind::Parity,
            5 => Kind::Idle,
            6 => Kind::Pong,
            _ => {
                if step == 0xFF {
                    generation += 1;
                    sealer = seal(generation);
                } else {
                    frame = script.near(u64::from(frame)) as u32;
                }
                continue;
            }
        };
        let (flags, index) = (Flags(script.u8() % 8), script.u16() & 0x81FF);
        frame = frame.wrapping_add(u32::from(step >> 3) % 4 / 3);
        let header = Header { kind, flags, index, session: SESSION, generation, frame, counter: 0 };
        let body = body(&mut script);
        let mut packet = vec![0; HEADER_BYTES];
        packet.extend_from_slice(&body);
        packet.resize(packet.len() + TAG_BYTES, 0);
        if sealer.seal(header, &mut packet).is_err() {
            return;
        }
        client.push(now_ns, &packet);
        // Events of many packets may wait for whoever asks.
        if step & 0x80 == 0 {
            hear(&mut client, now_ns, &mut before);
        }
    }
    hear(&mut client, now_ns + 1000 * MS, &mut before);
}

/// The front of what a packet holds, and how long it is: data is mostly zeros.
fn body(script: &mut Script<'_>) -> Vec<u8> {
    let mut body = script.piece().to_vec();
    let length = match script.u8() {
        0..=0x7F => body.len(),
        0x80..=0xBF => usize::from(SHARD_SIZE) - HEADER_BYTES - TAG_BYTES,
        _ => usize::from(script.u16()) % 1400,
    };
    body.resize(length.max(body.len()), 0);
    body
}

fn hear(client: &mut Reassembler, now_ns: u64, before: &mut Option<(u32, u32)>) {
    let mut events = 0;
    while let Some(event) = client.poll(now_ns) {
        events += 1;
        assert!(events < 10_000, "it does not stop");
        match event {
            Event::Frame(frame) => {
                let place = (frame.generation, frame.number);
                assert!(before.is_none_or(|before| before < place), "frames go back");
                assert!(frame.data.len() <= MAX_DATA_SHARDS * usize::from(SHARD_SIZE));
                *before = Some(place);
                client.recycle(frame.data);
            }
            Event::Lost { count, .. } => assert!(count > 0),
            Event::WantKeyframe { .. } => {}
        }
    }
    assert!(client.next_deadline(now_ns).is_none_or(|at| at > now_ns), "never rests");
    let _ = (client.packets_lost(), client.probe(now_ns).encode());
}

/// Datagrams beside the control stream: sound, rumble, and what of the client's input has arrived.
pub fn client_datagrams(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (mut sound, mut outbox, mut datagram) = (Tracker::new(), Outbox::new(), Vec::new());
    let (mut timeline, mut now_ns) = (Timeline::default(), MS);
    while let Some(step) = script.step() {
        now_ns += u64::from(step) << (step % 32);
        match step % 4 {
            0 => {
                let Some(event) = InputEvent::decode(script.piece()) else { continue };
                let _ = outbox.push(now_ns, event);
                while outbox.poll(now_ns, &mut datagram) {}
            }
            1 => {
                // One that may well be true.
                let mut ack = vec![INPUT_ACK_DATAGRAM];
                ack.extend_from_slice(&u32::from(script.u8()).to_le_bytes());
                ack.extend_from_slice(&now_ns.saturating_sub(u64::from(script.u16())).to_le_bytes());
                let _ = outbox.acknowledge(now_ns, &ack);
            }
            2 => {
                let said = script.piece();
                let _ = outbox.acknowledge(now_ns, said);
                if let Some(rumble) = Rumble::from_datagram(said) {
                    assert_eq!(rumble.datagram(), said);
                }
            }
            _ => {
                let Some((seq, pts_ns, packet)) = audio::parse(script.piece()) else { continue };
                assert!((1..=audio::MAX_PACKET).contains(&packet.len()));
                if let Verdict::Play { lost_before } = sound.packet(seq, pts_ns, now_ns) {
                    assert!(lost_before <= 12_000, "more than a minute to conceal");
                    let missing = timeline.packet(pts_ns, lost_before.into());
                    assert!(missing.concealed <= 20 && missing.silent <= 48_000, "more than a second to fill");
                }
            }
        }
    }
    let counts = outbox.counts();
    assert!(counts.sent - counts.acknowledged.min(counts.sent) <= CAPACITY as u64 + counts.given_up);
    let _ = (sound.counts(), sound.interarrival_jitter_ns());
}

/// The luma of a decoded picture, and the number that is read from it.
pub fn stamp(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (width, height) = (usize::from(script.u16() % 512), usize::from(script.u16() % 512));
    let stride = (width + usize::from(script.u8())).saturating_sub(usize::from(script.u8()));
    let drawn = stamp::Stamp { number: script.u32(), time_ns: script.u64() };
    // Rows that the decoder has not, or one more; in them a number as it should be, or nearly.
    let rows = (height + usize::from(script.u8() % 2)).saturating_sub(usize::from(script.u8() % 2));
    let mut pixels = vec![0; width * rows * 4];
    let fits = stamp::draw(&mut pixels, width * 4, width, rows, drawn);
    let mut luma = vec![0; stride * rows];
    if stride >= width {
        for (row, drawn) in luma.chunks_exact_mut(stride.max(1)).zip(pixels.chunks_exact(width.max(1) * 4)) {
            row.iter_mut().zip(drawn.chunks_exact(4)).for_each(|(luma, pixel)| *luma = pixel[0]);
        }
    }
    let mut spoilt = false;
    while let Some(value) = script.step() {
        let at = script.u32() as usize % luma.len().max(1);
        luma.iter_mut().skip(at).take(64).for_each(|luma| *luma = value);
        spoilt = true;
    }
    let read = stamp::read(&luma, stride, width, height);
    if fits && !spoilt && rows == height && stride >= width {
        assert_eq!(read, Some(drawn));
    }
}

/// The control stream, cut at any place into what arrives, as either side reads it; what was understood is said again in
/// the same bytes.
pub fn hello(bytes: &[u8]) {
    let (mut client, mut host) = (FrameReader::default(), FrameReader::default());
    for piece in bytes.chunks(usize::from(bytes.first().copied().unwrap_or(0)) + 1) {
        client.push(piece);
        host.push(piece);
        while let Ok(Some(message)) = client.poll::<ClientMessage>() {
            same(&message);
        }
        while let Ok(Some(message)) = host.poll::<HostMessage>() {
            same(&message);
        }
    }
}

fn same<M: ControlMessage + PartialEq + std::fmt::Debug>(message: &M) {
    let mut said = Vec::new();
    message.encode(&mut said);
    assert_eq!(M::decode(&said[4..]).as_ref(), Ok(message));
}
