//! A GameStream session in the real plane, locked down: launch, RTSP, control, pictures, sound, hands and the end.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ipc::event::now_ns;
use ipc::ring::{ChunkFlags, ChunkHeader};
use ipc::{App, AppId, EndCode, FromNet, GameStreamListen, SessionId, ToNet, Tuning};
use lumen_core::gamestream::control::{ControlVersion, Termination, ToGuest};
use lumen_core::gamestream::input::Packet;
use lumen_core::input::{KeyCode, MOTION_UNITS, PadIndex, Rumble};
use lumen_core::{Encryption, InputEvent};

use super::guest_client::{Audio, Control, Rtsp};
use super::host::{Host, InputPlane, PATIENCE};
use super::https::{Guesthouse, key};
use super::moonlight::{Identity, RSA};
use super::rtp::{RtpClient, RtpFrame};
use super::thread::video;

/// The plane's sockets for GameStream.
struct House {
    http: Guesthouse,
    video: SocketAddr,
    control: SocketAddr,
    audio: SocketAddr,
}

impl House {
    fn open(host: &Host) -> Self {
        // As lumend makes them: a sealed plane may not change their flags.
        let tcp = || {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let udp = || {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let (http, https, rtsp, video, control, audio) = (tcp(), tcp(), tcp(), udp(), udp(), udp());
        let tcp_at = |listener: &TcpListener| listener.local_addr().unwrap();
        let udp_at = |socket: &UdpSocket| socket.local_addr().unwrap();
        let house = Self {
            http: Guesthouse { http: tcp_at(&http), https: tcp_at(&https), rtsp: tcp_at(&rtsp) },
            video: udp_at(&video),
            control: udp_at(&control),
            audio: udp_at(&audio),
        };
        host.tell(ToNet::GameStream(GameStreamListen {
            http: OwnedFd::from(http),
            https: https.into(),
            rtsp: rtsp.into(),
            video: video.into(),
            control: control.into(),
            audio: audio.into(),
            base_port: 40_000,
            certificate: RSA.certificate.clone(),
            unique_id: [0xab; 16],
            host_name: "test host".into(),
            encryption: Encryption::Auto,
        }));
        host.tell(ToNet::App(App { app: AppId::new(5).unwrap(), title: "Desktop".into(), image: None }));
        house
    }
}

/// Launches, sets up and starts a session.
fn start(host: &mut Host, house: &House, who: &Identity, session: u32) -> (Control, Audio, RtpClient, Tuning) {
    let url = house.http.launch(host, who, session);
    assert_eq!(url, "rtspenc://127.0.0.1:40021");
    let mut rtsp = Rtsp::new(house.http.rtsp, Some(key(session)));
    let streams = rtsp.set_up();
    assert_eq!((streams.video.port, streams.control, streams.audio.port), (40_009, 40_010, 40_011));
    let mut audio = Audio::new(house.audio, &streams.audio.ping);
    audio.ping();
    let encrypted = [("x-ss-general.encryptionEnabled", 7), ("x-nv-general.featureFlags", 0x20)];
    rtsp.announce(&streams, &[&encrypted[..], &[("x-ml-general.featureFlags", 3)]].concat());
    let tuning = host.expect(|message| match message {
        FromNet::Tune { session: tuned, tuning } if tuned == SessionId(session) => Some(tuning),
        _ => None,
    });
    let mut control = Control::connect(house.control, streams.connect_data, &key(session), ControlVersion::V2);
    control.start();
    let ping: [u8; 16] = streams.video.ping.as_bytes().try_into().unwrap();
    let rtp = RtpClient::new(house.video, ping, video(1024, Some(key(session))));
    (control, audio, rtp, tuning)
}

/// The first frame, for which the client pings until the host sends it.
fn first_frame(rtp: &mut RtpClient) -> RtpFrame {
    let deadline = Instant::now() + PATIENCE;
    loop {
        rtp.ping();
        if let Some(frame) = rtp.frame_within(Duration::from_millis(100)) {
            return frame;
        }
        assert!(Instant::now() < deadline, "no frame comes");
    }
}

fn next(plane: &mut InputPlane, control: &mut Control, number: u32) -> InputEvent {
    let mut event = None;
    control.until("an event comes", |_| {
        event = plane.take(number);
        event.is_some()
    });
    event.unwrap()
}

#[test]
fn a_session_from_launch_to_the_end_of_its_app() {
    let mut host = Host::program();
    let house = House::open(&host);
    let who = Identity::new();
    house.http.permit(&host, &who);
    let (mut control, audio, mut rtp, tuning) = start(&mut host, &house, &who, 1);
    assert_eq!(tuning.bitrate_kbps, 8_000);
    let mut encoder = host.wire(1, 1, None);
    for number in 0..20 {
        let payload = encoder.frame(5_000 + 700 * number, number == 0);
        let frame = if number == 0 { first_frame(&mut rtp) } else { rtp.frame() };
        assert!(frame.data == payload && frame.index == number as u32 + 1 && frame.idr == (number == 0));
    }

    let mut plane = host.wire_input(SessionId(1), 1);
    control.input(2, Packet::Key { vk: 0x41, pressed: true, normalised: true });
    let code = KeyCode::new(30).unwrap();
    assert_eq!(next(&mut plane, &mut control, 0), InputEvent::Key { code, pressed: true });
    control.input(3, Packet::Motion { dx: 2, dy: 0 });
    assert_eq!(next(&mut plane, &mut control, 1), InputEvent::Motion { dx: 2 * MOTION_UNITS, dy: 0 });
    let rumble = Rumble { pad: PadIndex::new(0).unwrap(), low: 1, high: 2 };
    let header = ChunkHeader { flags: ChunkFlags::LAST, ..ChunkHeader::default() };
    plane.haptics.reserve().unwrap().commit(header, &rumble.encode()).unwrap();
    assert_eq!(control.hear(), ToGuest::Rumble(rumble));

    let mut sound = host.wire_audio(SessionId(1), 1);
    for frame in 0..4 {
        let captured_ns = now_ns();
        let header = ChunkHeader { frame, flags: ChunkFlags::LAST, captured_ns, ..ChunkHeader::default() };
        sound.reserve().unwrap().commit(header, &[7; 80]).unwrap();
    }
    let kinds: Vec<u8> = (0..6).map(|_| audio.packet()[1]).collect();
    assert_eq!(kinds, [97, 97, 97, 97, 127, 127]);

    let stats = host.expect(|message| match message {
        FromNet::Stats { stats, .. } if stats.input_events == 2 && stats.audio_packets == 4 => Some(stats),
        _ => None,
    });
    assert_eq!((stats.rumbles, stats.input_rejected), (1, 0));
    host.tell(ToNet::End { session: SessionId(1), code: EndCode::AppEnded, reason: "its app has ended".into() });
    assert_eq!(control.hear(), ToGuest::Termination(Termination::Graceful));
    control.until("the host hangs up", |control| control.disconnected);
    assert!(host.stop().success());
}

#[test]
fn a_client_that_leaves_is_told_of_and_may_come_back() {
    let mut host = Host::program();
    let house = House::open(&host);
    let who = Identity::new();
    house.http.permit(&host, &who);
    for session in 1..=3 {
        let (control, _, mut rtp, _) = start(&mut host, &house, &who, session);
        let mut encoder = host.wire(session, 1, None);
        let payload = encoder.frame(2_000, true);
        assert!(first_frame(&mut rtp).data == payload);
        control.leave();
        assert_eq!(host.expect_gone().0, SessionId(session));
    }
    assert!(host.stop().success());
}

#[test]
fn clients_are_told_when_the_host_goes() {
    let mut host = Host::program();
    let house = House::open(&host);
    let who = Identity::new();
    house.http.permit(&host, &who);
    let (mut control, ..) = start(&mut host, &house, &who, 1);
    control.idle(Duration::from_millis(100));
    assert!(host.stop().success());
    assert_eq!(control.hear(), ToGuest::Termination(Termination::Graceful));
}
