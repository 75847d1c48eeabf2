//! Video of GameStream sessions, from the ring to the client's socket.

use std::time::{Duration, Instant};

use ipc::feedback::Feedback;
use ipc::ring::{ChunkFlags, ChunkHeader};
use lumen_core::packet::Kind;
use lumen_net::media::{MediaCommand, MediaEvent};

use super::rtp::RtpFrame;
use super::thread::{GuestSession, MediaThread, PACKET_SIZE, video};

/// Several times what the largest frame takes.
const ONE_FRAME: Duration = Duration::from_millis(300);

impl GuestSession {
    /// Encodes a frame and waits for it.
    fn frame(&mut self, bytes: usize, idr: bool) -> RtpFrame {
        let payload = self.encoder.frame(bytes, idr);
        let frame = self.rtp.frame();
        assert!(frame.data == payload, "frame {} is not what was encoded", frame.index);
        assert_eq!(frame.idr, idr);
        frame
    }

    /// Waits until the encoder is told something.
    fn expect_feedback(&mut self) -> Feedback {
        let deadline = Instant::now() + super::host::PATIENCE;
        loop {
            if let Some(feedback) = self.encoder.feedback() {
                return feedback;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(self.encoder.feedback.data().wait(Some(left)).unwrap(), "the encoder was told nothing");
            self.encoder.feedback.data().drain();
        }
    }
}

#[test]
fn frames_of_all_sizes_arrive_whole_with_parity_and_their_latency() {
    for key in [None, Some([5; 16])] {
        let media = MediaThread::start();
        let mut guest = media.start_guest(1, key);
        // The harness' frames are three milliseconds old when they are written, so the first ones waited for the client.
        let waited = (1..).find(|&number| guest.frame(10, number == 1).latency > 0).unwrap();
        for number in 1..=35 {
            let bytes = [1, 500, 1_000, 1_001, 5_000, 20_000, 50_000][number as usize % 7];
            let frame = guest.frame(bytes, number == 1);
            assert_eq!((frame.index, frame.blocks), (waited + number, 1));
            assert!(frame.parity >= 2 && frame.parity * 5 >= frame.packets - frame.parity);
            assert!(frame.latency >= 30, "{}", frame.latency);
        }
        let stats = media.expect_stats(guest.id, |stats| stats.frames == u64::from(waited + 35));
        assert!(stats.first.p50 >= 3_000 && stats.first.p50 <= stats.total.p50, "{stats:?}");
        assert!(stats.parity_packets >= 2 * 35 && stats.packets > stats.parity_packets, "{stats:?}");
        assert!(stats.bytes < stats.packets * u64::from(PACKET_SIZE + 16 + 32), "{stats:?}");
    }
}

#[test]
fn nothing_is_sent_before_start_and_a_ping_that_names_the_session() {
    let media = MediaThread::start();
    let mut guest = media.open_guest(1, None);
    let payload = guest.encoder.frame(3_000, true);
    // Once it reports, it is known.
    media.expect_stats(guest.id, |_| true);
    guest.rtp.ping();
    media.expect_stats(guest.id, |_| true);
    assert!(guest.rtp.packet().is_none(), "not started");
    media.tell(MediaCommand::Start { session: guest.id });
    let frame = guest.rtp.frame();
    assert!(frame.data == payload);
    assert_eq!(frame.latency, 0, "it waited for its client");

    let mut other = media.open_guest(2, None);
    other.encoder.frame(3_000, true);
    media.tell(MediaCommand::Start { session: other.id });
    media.expect_stats(other.id, |_| true);
    let strays = [&b"PING"[..], b"ping of guest 02", b"ping of guest 03\0\0\0\x01", &[0; 1_400]];
    for stray in strays {
        other.rtp.send(stray);
    }
    media.expect_stats(other.id, |_| media.counters().stray_packets == strays.len() as u64);
    assert!(other.rtp.packet().is_none(), "not pinged");
    guest.frame(3_000, false);
}

#[test]
fn video_follows_the_newest_ping() {
    let media = MediaThread::start();
    let mut guest = media.start_guest(1, None);
    guest.frame(10_000, true);
    guest.rtp.ping();
    let strays = media.counters().stray_packets;
    let (old, elsewhere) = (guest.rtp.socket.try_clone().unwrap(), std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
    elsewhere.set_read_timeout(old.read_timeout().unwrap()).unwrap();
    // Somebody who repeats an older ping does not draw the stream to himself.
    guest.frame(10_000, false);
    elsewhere.send_to(b"ping of guest 01\0\0\0\x01", media.gamestream).unwrap();
    elsewhere.send_to(b"ping of guest 01\0\0\0\x02", media.gamestream).unwrap();
    media.expect_stats(guest.id, |stats| stats.frames == 2);
    guest.frame(10_000, false);
    guest.rtp.socket = elsewhere;
    guest.rtp.ping();
    media.expect_stats(guest.id, |stats| stats.frames == 3);
    guest.frame(10_000, false);
    assert_eq!(media.counters().stray_packets, strays);
}

#[test]
fn a_client_without_payloads_is_known_by_its_address() {
    let media = MediaThread::start();
    let mut with_payload = media.start_guest(1, None);
    with_payload.frame(3_000, true);
    let mut plain = media.open(2, video(PACKET_SIZE, None), Some([127, 0, 0, 1].into()));
    media.tell(MediaCommand::Start { session: plain.id });
    plain.frame(3_000, true);
    with_payload.frame(3_000, false);
}

#[test]
fn frames_beyond_a_burst_and_beyond_a_block_arrive_paced() {
    let media = MediaThread::start();
    let mut guest = media.start_guest(1, None);
    // 247 data packets in two blocks. A socket buffer that overflows while this test is not scheduled may cost a frame;
    // the next one counts.
    for tries in 1..=20 {
        let begun = Instant::now();
        let payload = guest.encoder.frame(249_000, true);
        let Some(frame) = guest.rtp.frame_within(ONE_FRAME) else {
            guest.rtp.forget(tries);
            continue;
        };
        let took = begun.elapsed();
        assert!(frame.data == payload && frame.blocks == 2 && frame.parity >= 50);
        // At 150 Mbit/s, all but a burst of 77 kB.
        let bits = 8 * (frame.packets * usize::from(PACKET_SIZE + 16) - 77_000);
        assert!(took.as_secs_f64() > bits as f64 / 150e6, "{} packets in {took:?}", frame.packets);
        return;
    }
    panic!("no large frame arrived");
}

#[test]
fn a_frame_that_no_parity_fits_breaks_its_own_ring_only() {
    let media = MediaThread::start();
    let mut good = media.start_guest(1, None);
    good.frame(3_000, true);
    let mut bad = media.open(2, video(256, None), None);
    media.tell(MediaCommand::Start { session: bad.id });
    media.expect_stats(bad.id, |_| true);
    bad.rtp.ping();
    // 1008 packets of 240 bytes are the most.
    bad.encoder.frame(245_000, true);
    let broken = media.expect(|event| match event {
        MediaEvent::RingBroken { session, generation: 1, reason } => Some((session, reason)),
        _ => None,
    });
    assert!(broken.0 == bad.id && broken.1.contains("four blocks"), "{broken:?}");
    good.frame(3_000, false);
}

#[test]
fn keyframes_are_asked_for_once_until_they_leave() {
    let media = MediaThread::start();
    let mut guest = media.open_guest(1, None);
    let demand = || media.tell(MediaCommand::Keyframe { session: guest.id });
    // The first frame is one, and has not left.
    demand();
    media.tell(MediaCommand::Start { session: guest.id });
    guest.rtp.ping();
    guest.frame(10_000, true);
    assert_eq!(guest.encoder.feedback(), None);
    media.tell(MediaCommand::Keyframe { session: guest.id });
    assert_eq!(guest.expect_feedback(), Feedback::Idr);
    media.tell(MediaCommand::Keyframe { session: guest.id });
    guest.frame(10_000, false);
    assert_eq!(guest.encoder.feedback(), None, "asked for already");
    guest.frame(10_000, true);
    // Perhaps too soon for another one, but not forgotten.
    media.tell(MediaCommand::Keyframe { session: guest.id });
    assert_eq!(guest.expect_feedback(), Feedback::Idr);
}

#[test]
fn parity_grows_with_the_loss_that_is_reported() {
    let media = MediaThread::start();
    let mut guest = media.start_guest(1, None);
    let before = guest.frame(50_000, true).parity;
    media.tell(MediaCommand::Loss { session: guest.id, permille: 150 });
    // Orders are taken before the frame that is written after them.
    media.expect_stats(guest.id, |stats| stats.loss_permille == 150);
    let after = guest.frame(50_000, false).parity;
    assert!(after > before + before / 2, "{before}, then {after}");
    media.tell(MediaCommand::Loss { session: guest.id, permille: u32::MAX });
    media.expect_stats(guest.id, |stats| stats.loss_permille == 1000);
    guest.frame(50_000, false);
}

#[test]
fn generations_are_one_stream_to_the_client_and_aborted_frames_are_none() {
    let media = MediaThread::start();
    let mut guest = media.start_guest(1, Some([9; 16]));
    assert_eq!(guest.frame(20_000, true).index, 1);
    let header = ChunkHeader { generation: 1, frame: 1, flags: ChunkFlags::NONE, ..ChunkHeader::default() };
    guest.encoder.video.reserve().unwrap().commit(header, &[1; 5_000]).unwrap();
    guest.encoder.skip_frame();
    assert_eq!(guest.frame(20_000, true).index, 2);
    // A frame that its encoder's death leaves unfinished.
    let header = ChunkHeader { generation: 1, frame: 3, flags: ChunkFlags::NONE, ..ChunkHeader::default() };
    let mut frame = guest.encoder.video.reserve().unwrap();
    frame.commit(header, &[1; 5_000]).unwrap();
    std::mem::forget(frame);
    for generation in 2..=4 {
        guest.encoder = media.wire(guest.id, generation);
        guest.rtp.ping();
        assert_eq!(guest.frame(20_000, true).index, 2 * generation - 1);
        assert_eq!(guest.frame(2_000, false).index, 2 * generation);
    }
}

#[test]
fn sessions_of_both_faces_and_several_clients_stream_at_once() {
    let media = MediaThread::start();
    let (mut native, mut native_encoder) = media.start_native(1);
    native.send_probe();
    native.expect(Kind::Pong);
    let (mut first, mut second) = (media.start_guest(2, None), media.start_guest(3, Some([3; 16])));
    for number in 0..60 {
        let bytes = 1_000 + 400 * number as usize;
        let payloads = [
            native_encoder.frame(bytes, number == 0),
            first.encoder.frame(bytes + 1, number == 0),
            second.encoder.frame(bytes + 2, number == 0),
        ];
        native.expect_frame(number, &payloads[0]);
        for (guest, payload) in [(&mut first, &payloads[1]), (&mut second, &payloads[2])] {
            let frame = guest.rtp.frame();
            assert!(frame.index == number + 1 && frame.data == *payload);
        }
    }
    let strays = media.counters().stray_packets;
    // What is for the one socket is nothing to the other.
    native.send(b"ping of guest 02\0\0\0\x09");
    let probe = native.reassembler.probe(1);
    let probe = native.probe(&probe);
    first.rtp.send(&probe);
    media.expect_stats(first.id, |_| media.counters().stray_packets == strays + 2);
    media.tell(MediaCommand::End { session: second.id });
    first.frame(3_000, false);
    second.rtp.ping();
    media.expect_stats(first.id, |_| media.counters().stray_packets == strays + 3);
}

#[test]
fn video_goes_on_through_another_socket() {
    let media = MediaThread::start();
    let mut guest = media.start_guest(1, None);
    guest.frame(3_000, true);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    media.tell(MediaCommand::GuestSocket(socket));
    guest.frame(3_000, false);
}

#[test]
fn a_client_whose_pings_cease_is_reported() {
    let media = MediaThread::start();
    let mut guest = media.start_guest(1, None);
    media.expect_stats(guest.id, |_| true);
    guest.rtp.ping();
    let begun = Instant::now();
    media.expect(|event| matches!(event, MediaEvent::Silent { session, .. } if session == guest.id).then_some(()));
    assert!(begun.elapsed() > Duration::from_secs(8), "pings come twice a second, and one may be lost");
}
