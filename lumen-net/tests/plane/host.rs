//! The test's lumend: it starts the plane, signs for it, answers it, and holds the encoder's ends of the rings.

use std::fs::File;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use ipc::event::now_ns;
use ipc::feedback::Feedback;
use ipc::link::Link;
use ipc::plane::{Exit, PlaneError};
use ipc::ring::{ChunkFlags, ChunkHeader, RingConsumer, RingProducer};
use ipc::{
    AskId, Face, Fingerprint, FromNet, Generation, Listen, NetCounters, NetWiring, PlaneKind, RingGeometry, SessionId,
    SignReply, SignRequest, ToNet,
};
use lumen_core::{AudioLayout, Mode, Permissions, ResumeToken};
use lumen_net::native::Limits;
use nix::fcntl::{FcntlArg, fcntl};

use super::moonlight::RSA;
use super::rings::{consumer, producer, ring};

/// Longer than anything here takes, unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A plane under test.
enum Plane {
    /// The real program, locked down.
    Program(Child),
    /// Its library in threads of the test, with limits of the test's choosing.
    Threads(JoinHandle<Result<Exit, PlaneError>>),
}

/// What plays lumend.
pub struct Host {
    link: Option<Link>,
    plane: Option<Plane>,
    lasting: Lasting,
    pub certificate: Vec<u8>,
    pub quic: SocketAddr,
    pub media: SocketAddr,
    /// The newest counters the plane has reported.
    pub counters: NetCounters,
}

/// What outlives a plane: its sockets, and the host's key.
struct Lasting {
    quic: UdpSocket,
    media: UdpSocket,
    key: Vec<u8>,
}

/// One generation's ends of a session: the encoder's.
pub struct Encoder {
    pub generation: u32,
    pub video: RingProducer,
    pub feedback: RingConsumer,
    next_frame: u32,
}

/// One generation's ends of input: the input plane's.
pub struct InputPlane {
    pub events: RingConsumer,
    pub haptics: RingProducer,
    /// Of the events' ring, for a plane that scribbles over it.
    pub memory: File,
}

pub fn mode() -> Mode {
    Mode::new(1280, 720, 60_000).unwrap()
}

/// A bound socket, and where a client on this machine reaches it over IPv4.
fn bound(bind: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(bind).unwrap();
    // As lumend makes them: a sealed plane may not.
    socket.set_nonblocking(true).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, SocketAddr::from(([127, 0, 0, 1], port)))
}

impl Host {
    /// Starts the program, and sees that it says it is locked down.
    pub fn program() -> Self {
        Self::program_on("127.0.0.1:0")
    }

    /// The same, with sockets bound to an address of the test's choosing.
    pub fn program_on(bind: &str) -> Self {
        let (link, plane) = Self::spawn();
        let mut host = Self::listening(link, plane, bind);
        host.expect_hello();
        host
    }

    /// Kills the program, and starts it again on the same sockets.
    pub fn succeed(&mut self) {
        let Some(Plane::Program(mut child)) = self.plane.take() else { panic!("no program to be killed") };
        child.kill().unwrap();
        child.wait().unwrap();
        let (link, plane) = Self::spawn();
        (self.link, self.plane) = (Some(link), Some(plane));
        self.listen();
        self.expect_hello();
    }

    /// Of the program.
    pub fn pid(&self) -> u32 {
        match &self.plane {
            Some(Plane::Program(child)) => child.id(),
            _ => panic!("no program runs"),
        }
    }

    fn expect_hello(&mut self) {
        let hello = self.expect(|message| match message {
            FromNet::Hello(hello) => Some(hello),
            _ => None,
        });
        assert_eq!((hello.kind, hello.build.as_str()), (ipc::PlaneKind::Net, ipc::BUILD));
    }

    fn spawn() -> (Link, Plane) {
        let (ours, theirs) = Link::pair().unwrap();
        // Not 3 itself: dup2 onto itself would keep close-on-exec.
        let theirs = fcntl(theirs.into_fd(), FcntlArg::F_DUPFD_CLOEXEC(10)).unwrap();
        // SAFETY: the descriptor was just made, and nothing else knows it.
        let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
        let mut command = Command::new(env!("CARGO_BIN_EXE_lumen-net"));
        command.env_clear();
        let fd = theirs.as_raw_fd();
        // SAFETY: dup2 is async-signal-safe; descriptor 3 belongs to nobody in a child that is about to exec.
        unsafe {
            command.pre_exec(move || match libc::dup2(fd, ipc::plane::LINK_FD) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            });
        }
        let child = command.spawn().unwrap();
        (ours, Plane::Program(child))
    }

    /// Starts the library, with these limits on clients.
    pub fn threads(limits: Limits) -> Self {
        let (ours, theirs) = Link::pair().unwrap();
        let plane = thread::spawn(move || lumen_net::plane::serve(|| Ok(theirs), limits));
        Self::listening(ours, Plane::Threads(plane), "127.0.0.1:0")
    }

    fn listening(link: Link, plane: Plane, bind: &str) -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["lumen".into()]).unwrap().self_signed(&key).unwrap();
        let certificate = certificate.der().to_vec();
        let ((quic, quic_address), (media, media_address)) = (bound(bind), bound(bind));
        let host = Self {
            link: Some(link),
            plane: Some(plane),
            lasting: Lasting { quic, media, key: key.serialize_der() },
            certificate,
            quic: quic_address,
            media: media_address,
            counters: NetCounters::default(),
        };
        host.listen();
        host
    }

    /// Tells a fresh plane what it has.
    fn listen(&self) {
        let Lasting { quic, media, key } = &self.lasting;
        let (signer, for_plane) = Link::pair().unwrap();
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key).unwrap();
        // Ends when the plane does: its end of the link closes.
        thread::spawn(move || sign(&signer, &signing));
        self.tell(ToNet::Listen(Listen {
            quic: OwnedFd::from(quic.try_clone().unwrap()),
            media: OwnedFd::from(media.try_clone().unwrap()),
            signer: for_plane.into_fd(),
            media_port: self.media.port(),
            certificate: self.certificate.clone(),
            reset_key: [1; 32],
            token_key: [2; 32],
            connection_id_key: 3,
            host_name: "test host".into(),
            boot_id: [9; 16],
        }));
    }

    pub fn tell(&self, message: ToNet<OwnedFd>) {
        self.link.as_ref().unwrap().send(message).unwrap();
    }

    pub fn permit(&self, client: Fingerprint) {
        self.tell(ToNet::Permit { face: Face::Lumen, client, allowed: true });
    }

    /// Waits for a message that `pick` takes; others are passed over.
    pub fn expect<T>(&mut self, mut pick: impl FnMut(FromNet) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let link = self.link.as_ref().unwrap();
            if let Some(received) = link.recv::<FromNet>().unwrap() {
                if let FromNet::Counters(counters) = &received.message {
                    self.counters = *counters;
                }
                if let Some(found) = pick(received.message) {
                    return found;
                }
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(link.wait_readable(left).unwrap(), "the plane did not say what was expected");
        }
    }

    pub fn expect_ask(&mut self) -> (AskId, Fingerprint, ipc::Wish) {
        self.expect(|message| match message {
            FromNet::Ask { ask, client, wish, .. } => Some((ask, client, wish)),
            _ => None,
        })
    }

    pub fn expect_gone(&mut self) -> (SessionId, String) {
        self.expect(|message| match message {
            FromNet::Gone { session, reason, .. } => Some((session, reason)),
            _ => None,
        })
    }

    /// Waits until the counters satisfy `enough`.
    pub fn expect_counters(&mut self, enough: impl Fn(&NetCounters) -> bool) {
        if !enough(&self.counters) {
            self.expect(|message| match message {
                FromNet::Counters(counters) if enough(&counters) => Some(()),
                _ => None,
            });
        }
    }

    /// Wires a generation, and keeps the encoder's ends.
    pub fn wire(&self, session: u32, generation: u32, ask: Option<AskId>) -> Encoder {
        let (wiring, encoder) = wiring(session, generation, ask);
        self.tell(ToNet::Wire(wiring));
        encoder
    }

    /// The same for a session that its client has again.
    pub fn wire_resumed(&self, session: SessionId, generation: u32, ask: AskId, token: ResumeToken) -> Encoder {
        let (wiring, encoder) = wiring(session.0, generation, Some(ask));
        self.tell(ToNet::Wire(NetWiring { resumed: true, resume: Some(token), ..wiring }));
        encoder
    }

    /// Waits until a client that was answered says that it is ready.
    pub fn expect_started(&mut self) -> (SessionId, AskId) {
        self.expect(|message| match message {
            FromNet::Started { session, ask } => Some((session, ask)),
            _ => None,
        })
    }

    /// Waits for the next client's end; by whose answer it had its session.
    pub fn expect_gone_by(&mut self) -> (SessionId, Option<AskId>) {
        self.expect(|message| match message {
            FromNet::Gone { session, ask, .. } => Some((session, ask)),
            _ => None,
        })
    }

    /// Wires sound, and keeps the audio plane's end.
    pub fn wire_audio(&self, session: SessionId, generation: u32) -> RingProducer {
        let (ring, ours) = ring(RingGeometry::AUDIO);
        self.tell(ToNet::WireAudio { session, generation: Generation(generation), ring });
        producer(ours)
    }

    /// Wires input and rumble, and keeps the input plane's ends.
    pub fn wire_input(&self, session: SessionId, generation: u32) -> InputPlane {
        let ((events, our_events), (haptics, our_haptics)) = (ring(RingGeometry::INPUT), ring(RingGeometry::HAPTICS));
        let memory = File::from(events.memory.try_clone().unwrap());
        self.tell(ToNet::WireInput { session, generation: Generation(generation), events, haptics });
        InputPlane { events: consumer(our_events), haptics: producer(our_haptics), memory }
    }

    /// Waits until the branches of `kind` of this session are reported broken.
    pub fn expect_branch_broken(&mut self, id: SessionId, broken: PlaneKind) -> (Generation, String) {
        self.expect(|message| match message {
            FromNet::BranchBroken { session, kind, generation, reason } if (session, kind) == (id, broken) => {
                Some((generation, reason))
            }
            _ => None,
        })
    }

    /// Closes the link, which is the order to stop, and returns how the plane ended.
    pub fn stop(mut self) -> ExitStatus {
        self.link = None;
        match self.plane.take() {
            Some(Plane::Program(mut child)) => child.wait().unwrap(),
            Some(Plane::Threads(plane)) => {
                assert_eq!(plane.join().unwrap().unwrap(), Exit::Stopped);
                ExitStatus::default()
            }
            None => unreachable!("a host is stopped once"),
        }
    }
}

impl Drop for Host {
    /// A failed assertion leaves no process behind.
    fn drop(&mut self) {
        if let Some(Plane::Program(child)) = &mut self.plane {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A generation as lumend wires it, and the encoder's ends of it.
pub fn wiring(session: u32, generation: u32, ask: Option<AskId>) -> (NetWiring<OwnedFd>, Encoder) {
    let bitrate_kbps = 20_000;
    let (video, for_encoder) = ring(RingGeometry::video(mode(), bitrate_kbps));
    let (feedback, for_feedback) = ring(RingGeometry::FEEDBACK);
    let wiring = NetWiring {
        session: SessionId(session),
        generation: Generation(generation),
        ask,
        mode: mode(),
        bitrate_kbps,
        audio: Some(AudioLayout::Stereo),
        permissions: Permissions::POINTER,
        resumed: false,
        resume: Some(ResumeToken([session as u8; 32])),
        video,
        feedback,
    };
    let encoder = Encoder { generation, video: producer(for_encoder), feedback: consumer(for_feedback), next_frame: 0 };
    (wiring, encoder)
}

/// Signs as lumend does: it is told a hash, and puts the prefix of RFC 8446 §4.4.3 before it itself; and so on.
fn sign(link: &Link, key: &EcdsaKeyPair) {
    let content =
        |transcript: &[u8; 32]| [&[b' '; 64][..], b"TLS 1.3, server CertificateVerify\0", transcript].concat();
    while link.wait_readable(PATIENCE).is_ok_and(|ready| ready) {
        let Ok(Some(request)) = link.recv::<SignRequest>() else { return };
        let signature = match request.message {
            SignRequest::Tls13 { transcript } => {
                key.sign(&SystemRandom::new(), &content(&transcript)).unwrap().as_ref().to_vec()
            }
            SignRequest::Tls13Rsa { transcript } => RSA.sign_pss(&content(&transcript)),
            SignRequest::Tls12Rsa { client_random, server_random, x, y } => {
                RSA.sign(&[&client_random[..], &server_random, &[3, 0, 23, 65, 4], &x, &y].concat())
            }
            SignRequest::Pairing { secret, .. } => RSA.sign(&secret),
        };
        if link.send(SignReply::Signed(signature)).is_err() {
            return;
        }
    }
}

impl Encoder {
    /// The next frame has been written without [`Self::frame`].
    pub fn skip_frame(&mut self) {
        self.next_frame += 1;
    }

    /// What the encoder is told next, if anything has been.
    pub fn feedback(&mut self) -> Option<Feedback> {
        let mut bytes = Vec::with_capacity(64);
        self.feedback.peek().unwrap()?.read(&mut bytes).unwrap();
        self.feedback.release();
        Some(Feedback::decode(&bytes).expect("feedback is well-formed"))
    }

    /// Puts one frame of two slices into the ring, waiting for credit; returns its payload.
    pub fn frame(&mut self, bytes: usize, idr: bool) -> Vec<u8> {
        let number = self.next_frame;
        self.next_frame += 1;
        let payload: Vec<u8> = (0..bytes).map(|at| (at as u32).wrapping_mul(31).wrapping_add(number) as u8).collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let generation = self.generation;
            if let Some(mut writer) = self.video.reserve() {
                let now = now_ns();
                let slices = payload.split_at(bytes / 3);
                for (slice, last) in [(slices.0, false), (slices.1, true)] {
                    let mut flags = if idr { ChunkFlags::IDR } else { ChunkFlags::NONE };
                    if last {
                        flags = flags | ChunkFlags::LAST;
                    }
                    let header = ChunkHeader {
                        generation,
                        frame: number,
                        flags,
                        len: 0,
                        captured_ns: now - 3_000_000,
                        taken_ns: now - 2_000_000,
                        converted_ns: now - 1_000_000,
                        sliced_ns: now,
                    };
                    writer.commit(header, slice).unwrap();
                }
                return payload;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(self.video.credit().wait(Some(left)).unwrap(), "the plane takes no frames");
            self.video.credit().drain();
        }
    }
}
