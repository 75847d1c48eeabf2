//! What planes say to lumend that they should not: messages of their own kind that lie, and what is no message.

use ipc::codec::MAX_BODY;
use ipc::{
    AskId, AudioStats, CaptureStats, DefaultSink, DeviceId, EncodeStats, Face, Fingerprint, FrameFormat, FromAudio,
    FromCapture, FromEncode, FromInput, FromNet, Generation, HandsBackend, Hello, InputBackends, InputStats, Leaving,
    NetCounters, PadsBackend, PairingId, PixelFormat, PlaneKind, SessionId, SessionStats, SignRequest, TouchBackend,
    Tuning, Wish,
};
use lumen_core::audio::PacketTime;
use lumen_core::{AudioLayout, RawMode};
use serde::Serialize;

/// One message: its bytes, and how many descriptors go with it.
#[derive(Clone, Debug)]
pub struct Word {
    pub bytes: Vec<u8>,
    pub descriptors: usize,
}

/// What a plane of this kind says, in a session of this number.
pub type Words = fn(PlaneKind, SessionId) -> Vec<Word>;

/// Generations that a session of some seconds may be in.
const NEAR: std::ops::Range<u32> = 0..32;
/// One that it will not be in.
const FUTURE: Generation = Generation(1 << 30);

fn raw(bytes: Vec<u8>) -> Vec<Word> {
    vec![Word { bytes, descriptors: 0 }]
}

/// As the codec writes it.
fn body(message: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(message).unwrap_or_default()
}

fn word(message: &impl Serialize) -> Word {
    Word { bytes: body(message), descriptors: 0 }
}

fn hello(kind: PlaneKind, claimed: PlaneKind) -> Vec<u8> {
    let hello = Hello { kind: claimed, build: ipc::BUILD.into(), landlock_abi: 1 };
    match kind {
        PlaneKind::Capture => body(&FromCapture::Hello(hello)),
        PlaneKind::Encode => body(&FromEncode::Hello(hello)),
        PlaneKind::Net => body(&FromNet::Hello(hello)),
        PlaneKind::Input => body(&FromInput::Hello(hello)),
        PlaneKind::Audio => body(&FromAudio::Hello(hello)),
    }
}

fn pong(kind: PlaneKind, number: u64) -> Vec<u8> {
    match kind {
        PlaneKind::Capture => body(&FromCapture::Pong(number)),
        PlaneKind::Encode => body(&FromEncode::Pong(number)),
        PlaneKind::Net => body(&FromNet::Pong(number)),
        PlaneKind::Input => body(&FromInput::Pong(number)),
        PlaneKind::Audio => body(&FromAudio::Pong(number)),
    }
}

/// A report with every number at its largest.
fn report(kind: PlaneKind, session: SessionId, generation: Generation) -> Vec<u8> {
    const M: u64 = u64::MAX;
    match kind {
        PlaneKind::Capture => body(&FromCapture::Stats { generation, stats: CaptureStats { captured: M, skipped: M } }),
        PlaneKind::Encode => {
            let stats = EncodeStats { encoded: M, idr: M, still: M, oversize: M, bytes: M };
            body(&FromEncode::Stats { generation, stats })
        }
        PlaneKind::Net => {
            let sums =
                SessionStats { frames: M, packets: M, parity_packets: M, bytes: M, rejected: M, ..Default::default() };
            let sound =
                SessionStats { audio_packets: M, audio_dropped: M, input_events: M, loss_permille: u32::MAX, ..sums };
            body(&FromNet::Stats { session, stats: SessionStats { input_rejected: M, rumbles: M, ..sound } })
        }
        PlaneKind::Input => {
            let stats =
                InputStats { events: M, forbidden: M, unsupported: M, healed: M, rumbles: M, ..Default::default() };
            body(&FromInput::Stats { generation, stats: InputStats { pads: u32::MAX, wait_p99_us: u32::MAX, ..stats } })
        }
        PlaneKind::Audio => {
            let stats =
                AudioStats { packets: M, silent: M, dropped: M, overruns: M, quantum: u32::MAX, wait_us: u32::MAX };
            body(&FromAudio::Stats { generation, stats })
        }
    }
}

/// What a plane says when its generation is ready.
fn answer(kind: PlaneKind, generation: Generation) -> Vec<u8> {
    match kind {
        PlaneKind::Capture => {
            let format = FrameFormat { pixels: PixelFormat::Bgrx, width: u16::MAX, height: u16::MAX, stride: u32::MAX };
            body(&FromCapture::Opened { generation, format })
        }
        PlaneKind::Encode => body(&FromEncode::Wired { generation, encoder: "\x1b[2J".into() }),
        PlaneKind::Input => {
            let backends =
                InputBackends { hands: HandsBackend::Wlroots, touch: TouchBackend::None, pads: PadsBackend::None };
            body(&FromInput::Wired { generation, backends, next: 0 })
        }
        PlaneKind::Audio => body(&FromAudio::Wired { generation, backend: "\x1b[2J".into(), sink: "\n".repeat(500) }),
        PlaneKind::Net => Vec::new(),
    }
}

fn failed(kind: PlaneKind, generation: Generation, reason: String) -> Vec<u8> {
    match kind {
        PlaneKind::Capture => body(&FromCapture::Failed { generation, reason }),
        PlaneKind::Encode => body(&FromEncode::Failed { generation, reason }),
        PlaneKind::Input => body(&FromInput::Failed { generation, reason }),
        PlaneKind::Audio => body(&FromAudio::Failed { generation, reason }),
        PlaneKind::Net => body(&FromNet::PairingFailed { pairing: PairingId(generation.0), reason }),
    }
}

fn leaving(kind: PlaneKind, leaving: Leaving) -> Vec<u8> {
    match kind {
        PlaneKind::Capture => body(&FromCapture::Leaving(leaving)),
        PlaneKind::Encode => body(&FromEncode::Leaving(leaving)),
        PlaneKind::Net => body(&FromNet::Leaving(leaving)),
        PlaneKind::Input => body(&FromInput::Leaving(leaving)),
        PlaneKind::Audio => body(&FromAudio::Leaving(leaving)),
    }
}

fn each(bytes: impl IntoIterator<Item = Vec<u8>>) -> Vec<Word> {
    bytes.into_iter().map(|bytes| Word { bytes, descriptors: 0 }).collect()
}

pub fn pongs(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    each([0, 1 << 40, u64::MAX].map(|number| pong(kind, number)))
}

pub fn foreign_reports(kind: PlaneKind, session: SessionId) -> Vec<Word> {
    let other = SessionId(session.0.wrapping_add(1 << 20));
    each([Generation(0), FUTURE, Generation(u32::MAX)].map(|generation| report(kind, other, generation)))
}

pub fn largest(kind: PlaneKind, session: SessionId) -> Vec<Word> {
    let counters = NetCounters { stray_packets: u64::MAX, queue_full: u64::MAX, ..NetCounters::default() };
    let counters = (kind == PlaneKind::Net).then(|| body(&FromNet::Counters(counters)));
    each(NEAR.map(|number| report(kind, session, Generation(number))).chain(counters))
}

pub fn farewell(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    let reason = "\x1b]0;\r\n panic at the disco \u{202e}".repeat(100);
    let accusation = Leaving::Accuses { peer: PlaneKind::Net, reason: reason.clone() };
    each([Leaving::Failed(reason), accusation, Leaving::Reopen].map(|word| leaving(kind, word)))
}

pub fn stale(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    let answers = [answer(kind, Generation(0)), answer(kind, Generation(0))];
    // Sound and hands fail as a whole, whichever generation they name: that is their own affair.
    let fails = !matches!(kind, PlaneKind::Audio | PlaneKind::Input);
    each(answers.into_iter().chain(fails.then(|| failed(kind, Generation(0), "\x1b[2J\n".into()))))
}

pub fn devices(_: PlaneKind, _: SessionId) -> Vec<Word> {
    let devices = [DeviceId::Keyboard, DeviceId::Mouse, DeviceId::Touch];
    let both = |device| [body(&FromInput::Want(device)), body(&FromInput::Dropped(device))];
    each((0..20).flat_map(|_| devices).flat_map(both))
}

pub fn undone(_: PlaneKind, _: SessionId) -> Vec<Word> {
    ["", "alsa_output.other", "Lumen"].map(|name| word(&FromAudio::Undone(name.into()))).into()
}

pub fn nobody(_: PlaneKind, _: SessionId) -> Vec<Word> {
    let (session, ask, client) = (SessionId(u32::MAX), AskId(u32::MAX), Fingerprint([7; 32]));
    vec![
        word(&FromNet::Gone { session, ask: None, reason: "x".into() }),
        word(&FromNet::Gone { session: SessionId(0), ask: Some(ask), reason: String::new() }),
        word(&FromNet::Started { session, ask }),
        word(&FromNet::Withdrawn { ask }),
        word(&FromNet::Quit { client }),
        word(&FromNet::Tune { session, tuning: tune() }),
        word(&FromNet::PairingFailed { pairing: PairingId(u32::MAX), reason: "x".repeat(3000) }),
    ]
}

pub fn broken(_: PlaneKind, session: SessionId) -> Vec<Word> {
    let kinds = [PlaneKind::Encode, PlaneKind::Audio, PlaneKind::Input, PlaneKind::Capture, PlaneKind::Net];
    let broken = |kind, session, generation| FromNet::BranchBroken { session, kind, generation, reason: "x".into() };
    let mut words = Vec::new();
    for kind in kinds {
        words.extend([Generation(0), FUTURE].map(|generation| word(&broken(kind, session, generation))));
        words.push(word(&broken(kind, SessionId(u32::MAX), Generation(1))));
    }
    words
}

fn wish() -> Wish {
    let mode = Some(RawMode { width: u16::MAX, height: 0, refresh_mhz: u32::MAX });
    Wish {
        face: Face::Lumen,
        app: None,
        mode,
        bitrate_kbps: u32::MAX,
        audio: None,
        own_sink: true,
        input: true,
        resume: None,
    }
}

fn tune() -> Tuning {
    let colour = ipc::Colour { matrix: ipc::Matrix::Bt709, full_range: true };
    let (audio, audio_packet) = (AudioLayout::Stereo, PacketTime::Five);
    Tuning { bitrate_kbps: u32::MAX, colour, frame_bytes: u32::MAX, audio, audio_packet }
}

pub fn stranger(_: PlaneKind, _: SessionId) -> Vec<Word> {
    let peer = ([127, 0, 0, 1], 1).into();
    let ask = |number| FromNet::Ask { ask: AskId(number), peer, client: Fingerprint([7; 32]), wish: wish() };
    (1_000_000..1_000_004).map(|number| word(&ask(number))).collect()
}

pub fn enrolment(_: PlaneKind, _: SessionId) -> Vec<Word> {
    let (pairing, client, peer) = (PairingId(1 << 20), Fingerprint([7; 32]), ([127, 0, 0, 1], 1).into());
    vec![
        word(&FromNet::Paired { pairing: PairingId(0) }),
        word(&FromNet::Pairing { pairing, client, peer, name: "\x1b[2Jroth".into() }),
        word(&FromNet::Paired { pairing }),
        word(&FromNet::Paired { pairing }),
    ]
}

pub fn empty(_: PlaneKind, _: SessionId) -> Vec<Word> {
    raw(Vec::new())
}

pub fn rubbish(_: PlaneKind, _: SessionId) -> Vec<Word> {
    raw((0..64_u8).map(|index| index.wrapping_mul(89) ^ 0xa5).collect())
}

pub fn long(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    let mut bytes = pong(kind, 1);
    bytes.resize(MAX_BODY + 1, 0);
    raw(bytes)
}

/// Net's, or of those that are none of any plane: what the signer is asked.
pub fn foreign(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    match kind {
        PlaneKind::Net => vec![word(&SignRequest::Tls13 { transcript: [0xff; 32] })],
        _ => vec![word(&FromNet::Gone { session: SessionId(1), ask: None, reason: "x".into() })],
    }
}

/// The text's length comes before its bytes, in one byte if it is short.
pub fn longer_than_it_is(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    let mut bytes = failed(kind, Generation(1), "reason".into());
    let length = bytes.len() - "reason".len() - 1;
    bytes.splice(length..=length, [0xff, 0xff, 0xff, 0xff, 0x7f]);
    raw(bytes)
}

pub fn and_a_byte(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    raw([pong(kind, 1), vec![0]].concat())
}

/// As many as the kernel lets one message carry.
pub fn descriptors(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    vec![Word { bytes: pong(kind, 1), descriptors: 253 }]
}

pub fn again(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    raw(hello(kind, kind))
}

pub fn disguise(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    let other = if kind == PlaneKind::Net { PlaneKind::Encode } else { PlaneKind::Net };
    raw(hello(kind, other))
}

pub fn future(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    raw(answer(kind, FUTURE))
}

pub fn flood(kind: PlaneKind, _: SessionId) -> Vec<Word> {
    each((0..4000).map(|_| pong(kind, u64::MAX)))
}

pub fn sink(_: PlaneKind, _: SessionId) -> Vec<Word> {
    vec![word(&FromAudio::Record(DefaultSink { ours: "alsa_output.other".into(), previous: Some("x".repeat(2000)) }))]
}

/// Of the attacked session, which has all of its wish.
pub fn tuning(_: PlaneKind, session: SessionId) -> Vec<Word> {
    vec![word(&FromNet::Tune { session, tuning: tune() })]
}
