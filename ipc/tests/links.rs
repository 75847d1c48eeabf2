//! Links between honest ends, and what a hostile end can do to them.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use ipc::codec::{MAX_BODY, MAX_FDS, Message};
use ipc::event::Event;
use ipc::link::{Link, LinkError, Received};
use ipc::shm::sealed_memfd;
use ipc::*;
use lumen_core::{Mode, RawMode};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::{getgid, getpid, getuid, pipe2};
use proptest::prelude::*;

fn recv<M: Message>(link: &Link) -> Result<M, LinkError> {
    assert!(link.wait_readable(Duration::from_secs(10)).unwrap(), "nothing came");
    link.recv().map(|received: Option<Received<M>>| received.expect("readable, so there is a message").message)
}

fn malformed<M: Message + std::fmt::Debug>(link: &Link) -> &'static str {
    match recv::<M>(link) {
        Err(LinkError::Malformed(reason)) => reason,
        other => panic!("accepted {other:?}"),
    }
}

/// Sends bytes and descriptors as a hostile process would.
fn send_raw(link: &Link, body: &[u8], fds: &[&OwnedFd]) {
    let raw: Vec<_> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[_] = if raw.is_empty() { &[] } else { &rights };
    sendmsg::<()>(link.as_fd().as_raw_fd(), &[IoSlice::new(body)], control, MsgFlags::empty(), None).unwrap();
}

fn file(contents: &str) -> OwnedFd {
    let fd = sealed_memfd("test", 4096).unwrap();
    File::from(fd.try_clone().unwrap()).write_all(contents.as_bytes()).unwrap();
    fd
}

fn contents(fd: &OwnedFd) -> String {
    let mut bytes = [0; 64];
    let len = nix::sys::uio::pread(fd, &mut bytes, 0).unwrap();
    String::from_utf8(bytes[..len].iter().copied().take_while(|byte| *byte != 0).collect()).unwrap()
}

fn ring(name: &str, geometry: RingGeometry) -> RingFds<OwnedFd> {
    RingFds { memory: file(name), data: event(), credit: event(), geometry }
}

fn event() -> OwnedFd {
    Event::new().unwrap().into_fd()
}

fn pool(buffers: usize) -> Pool<OwnedFd> {
    Pool {
        format: FrameFormat { pixels: PixelFormat::Bgrx, width: 1280, height: 720, stride: 5120 },
        buffers: (0..buffers).map(|index| file(&format!("buffer {index}"))).collect(),
        mailbox: file("mailbox"),
        wake: event(),
    }
}

fn mode() -> Mode {
    Mode::new(1280, 720, 60_000).unwrap()
}

fn wiring(buffers: usize) -> ToEncode<OwnedFd> {
    ToEncode::Wire(EncodeWiring {
        session: SessionId(7),
        generation: Generation(3),
        mode: mode(),
        settings: EncodeSettings {
            backend: Backend::OpenH264,
            bitrate_kbps: 10_000,
            colour: Colour { matrix: Matrix::Bt709, full_range: false },
        },
        pool: pool(buffers),
        video: ring("video", RingGeometry::video(mode(), 10_000)),
        feedback: ring("feedback", RingGeometry::FEEDBACK),
    })
}

#[test]
fn descriptors_arrive_in_their_places() {
    let (above, below) = Link::pair().unwrap();
    above.send(wiring(4)).unwrap();
    let ToEncode::Wire(wired) = recv(&below).unwrap() else { panic!("another message") };
    assert_eq!((wired.session, wired.generation, wired.mode), (SessionId(7), Generation(3), mode()));
    assert_eq!(
        wired.pool.buffers.iter().map(contents).collect::<Vec<_>>(),
        ["buffer 0", "buffer 1", "buffer 2", "buffer 3"]
    );
    assert_eq!(contents(&wired.pool.mailbox), "mailbox");
    assert_eq!(contents(&wired.video.memory), "video");
    assert_eq!(contents(&wired.feedback.memory), "feedback");
    assert_eq!(wired.feedback.geometry, RingGeometry::FEEDBACK);
    let flags = fcntl(&wired.video.memory, FcntlArg::F_GETFD).unwrap();
    assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC), "must not leak into a child");
}

#[test]
fn every_kind_of_message_crosses() {
    let (above, below) = Link::pair().unwrap();
    let (socket, _other) = Link::pair().unwrap();
    let source = Source::Wlroots { socket: socket.into_fd(), output: "HEADLESS-1".into() };
    above.send(ToCapture::Open { session: SessionId(1), generation: Generation(1), mode: mode(), source }).unwrap();
    let ToCapture::<OwnedFd>::Open { source: Source::Wlroots { socket, output }, .. } = recv(&below).unwrap() else {
        panic!("another message")
    };
    assert_eq!(output, "HEADLESS-1");
    Link::from_fd(socket).expect("the very socket that was sent");

    let hello = Hello { kind: PlaneKind::Net, build: BUILD.into(), landlock_abi: 4 };
    below.send(FromNet::Hello(hello.clone())).unwrap();
    assert!(matches!(recv(&above).unwrap(), FromNet::Hello(received) if received == hello));
    let wish = Wish {
        face: Face::Lumen,
        app: None,
        mode: Some(RawMode { width: 0, height: 0, refresh_mhz: 0 }),
        bitrate_kbps: 0,
        audio: None,
        own_sink: false,
        input: false,
        resume: None,
    };
    let peer = "[::1]:47800".parse().unwrap();
    below.send(FromNet::Ask { ask: AskId(1), peer, client: Fingerprint([7; 32]), wish: wish.clone() }).unwrap();
    assert!(matches!(recv(&above).unwrap(), FromNet::Ask { wish: received, .. } if received == wish));
    let request = SignRequest::Tls13 { transcript: [9; 32] };
    below.send(request).unwrap();
    assert_eq!(recv::<SignRequest>(&above).unwrap(), request);
    above.send(SignReply::Signed(vec![1; 72])).unwrap();
    assert_eq!(recv::<SignReply>(&below).unwrap(), SignReply::Signed(vec![1; 72]));
    above.send(ToLauncher::StartDesktop).unwrap();
    assert_eq!(recv::<ToLauncher>(&below).unwrap(), ToLauncher::StartDesktop);
}

#[test]
fn the_kernel_names_the_sender() {
    let (above, below) = Link::pair().unwrap();
    assert!(above.recv::<FromCapture>().unwrap().is_none(), "nothing yet");
    below.send(FromCapture::Pong(1)).unwrap();
    let sender = above.recv::<FromCapture>().unwrap().unwrap().sender;
    assert_eq!(sender.pid, getpid().as_raw());
    assert_eq!((sender.uid, sender.gid), (getuid().as_raw(), getgid().as_raw()));
}

#[test]
fn sends_neither_too_many_descriptors_nor_too_many_bytes() {
    let (above, below) = Link::pair().unwrap();
    above.send(wiring(MAX_FDS - 8)).unwrap();
    assert!(matches!(recv(&below).unwrap(), ToEncode::Wire(wired) if wired.pool.buffers.len() == MAX_FDS - 8));
    assert!(matches!(above.send(wiring(MAX_FDS - 7)), Err(LinkError::Malformed(_))));
    let reason = "x".repeat(MAX_BODY);
    assert!(matches!(
        below.send(FromCapture::Failed { generation: Generation(1), reason }),
        Err(LinkError::Malformed(_))
    ));
    assert!(below.recv::<ToEncode<OwnedFd>>().unwrap().is_none(), "nothing of either was sent");
}

#[test]
fn an_end_that_does_not_read_is_full_at_once() {
    let (above, _below) = Link::pair().unwrap();
    let full = (0..100_000).find_map(|number| above.send(ToEncode::<OwnedFd>::Ping(number)).err());
    assert!(matches!(full, Some(LinkError::Full)), "{full:?}");
}

#[test]
fn closing_is_told_after_the_last_words() {
    let (above, below) = Link::pair().unwrap();
    // The plane leaves with an unread message, which the kernel reports as a reset ahead of what it had said.
    above.send(ToCapture::<OwnedFd>::Ping(1)).unwrap();
    below.send(FromCapture::Failed { generation: Generation(1), reason: "last words".into() }).unwrap();
    drop(below);
    assert!(matches!(recv(&above).unwrap(), FromCapture::Failed { reason, .. } if reason == "last words"));
    assert!(matches!(recv::<FromCapture>(&above), Err(LinkError::Closed)));
    assert!(matches!(above.send(ToCapture::<OwnedFd>::Ping(1)), Err(LinkError::Closed)));
}

#[test]
fn only_a_seqpacket_socket_is_a_link() {
    let (stream, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for fd in [stream.into(), udp.into(), event(), file("memory")] {
        assert!(matches!(Link::from_fd(fd), Err(LinkError::Malformed(_))));
    }
}

/// A message of two descriptors, as bytes.
fn rebind(quic: u8, media: u8) -> Vec<u8> {
    postcard::to_stdvec(&ToNet::<u8>::Rebind { quic, media, media_port: 47801 }).unwrap()
}

#[test]
fn descriptors_must_match_the_message_exactly() {
    let (above, below) = Link::pair().unwrap();
    let (one, two, three) = (file("one"), file("two"), file("three"));
    send_raw(&above, &rebind(1, 0), &[&one, &two]);
    let Ok(ToNet::Rebind { quic, media, .. }) = recv(&below) else { panic!("good message refused") };
    assert_eq!((contents(&quic), contents(&media)), ("two".into(), "one".into()));
    for (body, fds) in [
        (rebind(0, 0), vec![&one, &two]),
        (rebind(0, 1), vec![&one]),
        (rebind(0, 1), vec![]),
        (rebind(0, 255), vec![&one, &two]),
        (rebind(0, 1), vec![&one, &two, &three]),
        (postcard::to_stdvec(&ToNet::<u8>::Ping(1)).unwrap(), vec![&one]),
    ] {
        send_raw(&above, &body, &fds);
        assert!(malformed::<ToNet<OwnedFd>>(&below).contains("descriptor"));
    }
}

#[test]
fn surplus_descriptors_are_closed() {
    let (above, below) = Link::pair().unwrap();
    // Once more than a message may have, once as many as the kernel carries: an open copy would keep the pipe alive.
    for copies in [1, 3, MAX_FDS + 1, 253] {
        let (read, write) = pipe2(OFlag::O_NONBLOCK).unwrap();
        send_raw(&below, &postcard::to_stdvec(&FromNet::Pong(1)).unwrap(), &vec![&write; copies]);
        drop(write);
        assert!(malformed::<FromNet>(&above).contains("descriptors"));
        assert_eq!(File::from(read).read(&mut [0]).unwrap(), 0, "{copies} copies");
    }
}

#[test]
fn oversized_empty_truncated_and_trailing_bytes_are_malformed() {
    let (above, below) = Link::pair().unwrap();
    send_raw(&below, &[0; MAX_BODY + 1], &[]);
    assert!(malformed::<FromNet>(&above).contains("4 KiB"));
    send_raw(&below, &[], &[]);
    malformed::<FromNet>(&above);
    let hello = Hello { kind: PlaneKind::Net, build: BUILD.into(), landlock_abi: 4 };
    let mut bytes = postcard::to_stdvec(&FromNet::Hello(hello)).unwrap();
    for len in 0..bytes.len() {
        send_raw(&below, &bytes[..len], &[]);
        malformed::<FromNet>(&above);
    }
    bytes.push(0);
    send_raw(&below, &bytes, &[]);
    assert!(malformed::<FromNet>(&above).contains("follow"));
    below.send(FromNet::Pong(5)).unwrap();
    assert!(matches!(recv(&above).unwrap(), FromNet::Pong(5)), "the link itself still works");
}

#[test]
fn a_mode_that_cannot_be_is_malformed() {
    let (above, below) = Link::pair().unwrap();
    let open = ToCapture::Open::<u8> {
        session: SessionId(1),
        generation: Generation(1),
        mode: mode(),
        source: Source::Pattern,
    };
    let mut bytes = postcard::to_stdvec(&open).unwrap();
    let width = bytes.windows(2).position(|pair| pair == [0x80, 0x0a]).expect("1280 as a varint");
    bytes[width] = 0x81;
    send_raw(&above, &bytes, &[]);
    malformed::<ToCapture<OwnedFd>>(&below);
}

proptest! {
    /// Whatever comes is a message or malformed, for every type of message and any number of descriptors.
    #[test]
    fn garbage_is_refused_without_harm(body in prop::collection::vec(any::<u8>(), 1..200), fds in 0usize..12) {
        let (peer, link) = Link::pair().unwrap();
        let fd = event();
        let fds = vec![&fd; fds];
        fn try_one<M: Message>(peer: &Link, link: &Link, body: &[u8], fds: &[&OwnedFd]) {
            send_raw(peer, body, fds);
            match link.recv::<M>() {
                Ok(Some(_)) | Err(LinkError::Malformed(_)) => {}
                Ok(None) => panic!("the message vanished"),
                Err(error) => panic!("{error}"),
            }
        }
        try_one::<FromCapture>(&peer, &link, &body, &fds);
        try_one::<FromEncode>(&peer, &link, &body, &fds);
        try_one::<FromNet>(&peer, &link, &body, &fds);
        try_one::<FromLauncher>(&peer, &link, &body, &fds);
        try_one::<SignRequest>(&peer, &link, &body, &fds);
        try_one::<ToCapture<OwnedFd>>(&peer, &link, &body, &fds);
        try_one::<ToEncode<OwnedFd>>(&peer, &link, &body, &fds);
        try_one::<ToNet<OwnedFd>>(&peer, &link, &body, &fds);
    }
}
