//! A host whose network plane dies, again and again, while its sockets live: each life is a QUIC endpoint of its own on
//! the same socket, with the same keys. Nothing of a life is said farewell to.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use lumen_client::Fingerprint;
use lumen_core::fec::Scheme;
use lumen_core::hello::{ClientHello, ClientMessage, Code, Codec, FrameReader, HostMessage, Welcome};
use lumen_core::seal::MediaSecret;
use lumen_core::{InputEvent, Mode, Permissions, ResumeToken};
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime};
use rcgen::{CertificateParams, KeyPair};

use super::hall::Hall;
use super::host::{next, say, server_config};
use super::stream::{Plan, Streamer};

/// One life of the network plane.
#[derive(Clone)]
pub struct Life {
    /// How long nobody is there before it begins.
    pub after: Duration,
    /// How its client is answered.
    pub answer: Reply,
    /// Frames that it sends before it dies; none: until the client leaves.
    pub frames: Option<u32>,
    pub hall: Hall,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// The session goes on, if the client has the token of the last life.
    Resume,
    /// It is another: nothing is known of the one before.
    Anew,
    Refuse(Code, &'static str),
}

/// What a life has seen.
pub struct Lived {
    pub hello: ClientHello,
    /// Events that it took, each once.
    pub events: Vec<InputEvent>,
    pub bye: bool,
}

pub struct Mortal {
    pub address: SocketAddr,
    pub fingerprint: Fingerprint,
    lived: Receiver<Lived>,
    thread: Option<JoinHandle<()>>,
}

impl Mortal {
    pub fn start(lives: Vec<Life>) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["host".to_owned()]).unwrap().self_signed(&key).unwrap();
        let fingerprint = Fingerprint::of(certificate.der());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let (tell, lived) = channel();
        let thread = std::thread::spawn(move || {
            let (mut generation, mut taken) = (0, 0);
            for (number, life) in (0u8..).zip(lives) {
                std::thread::sleep(life.after);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                let (generation, taken) = (&mut generation, &mut taken);
                let left = runtime.block_on(live(&socket, &certificate, &key, number, life, generation, taken, &tell));
                // Whatever would still be sent never is.
                runtime.shutdown_background();
                drop(left);
            }
        });
        Self { address, fingerprint, lived, thread: Some(thread) }
    }

    /// What the next life has seen, once it is over.
    pub fn lived(&self) -> Lived {
        self.lived.recv_timeout(Duration::from_secs(20)).expect("it lives on")
    }
}

impl Drop for Mortal {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take().filter(|_| !std::thread::panicking()) {
            thread.join().unwrap();
        }
    }
}

/// What the client of the life before this number has been told to come back with.
pub fn token(number: u8) -> ResumeToken {
    ResumeToken([number; 32])
}

#[allow(clippy::too_many_arguments)]
async fn live(
    socket: &UdpSocket,
    certificate: &rcgen::Certificate,
    key: &KeyPair,
    number: u8,
    life: Life,
    generation: &mut u32,
    taken: &mut u32,
    tell: &Sender<Lived>,
) -> (Endpoint, Option<Connection>) {
    let mut config = EndpointConfig::new(Arc::new(aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[1; 32])));
    config.cid_generator(|| Box::new(quinn_proto::HashedConnectionIdGenerator::from_key(3)));
    let server = server_config(certificate.der().clone(), key, false);
    let same = socket.try_clone().unwrap();
    let endpoint = Endpoint::new(config, Some(server), same, Arc::new(TokioRuntime)).unwrap();
    // A client may have given up an attempt that it had begun before.
    let connection = loop {
        if let Ok(connection) = endpoint.accept().await.expect("the endpoint lives").await {
            break connection;
        }
    };
    let (mut send, mut recv) = connection.accept_bi().await.unwrap();
    let mut reader = FrameReader::default();
    let Some(ClientMessage::Hello(hello)) = next(&mut recv, &mut reader).await else { panic!("no Hello") };
    let mut lived = Lived { hello, events: Vec::new(), bye: false };
    if let Reply::Refuse(code, reason) = life.answer {
        say(&mut send, &HostMessage::Refused { code: code as u16, reason: reason.to_owned() }).await;
        let _ = connection.closed().await;
        tell.send(lived).unwrap();
        return (endpoint, Some(connection));
    }
    let resumed = life.answer == Reply::Resume && number > 0;
    if resumed {
        assert_eq!(lived.hello.resume.as_ref().map(|resume| &resume.token), Some(&token(number)));
        *generation += 1;
    } else {
        (*generation, *taken) = (1, 0);
    }
    let mode = Mode::try_from(lived.hello.mode).unwrap();
    let secret = MediaSecret([number; 32]);
    let plan = Plan { vanish_after: life.frames, ..Plan::default() };
    let streamer = Streamer::of_generation(plan.clone(), mode, secret.clone(), *generation);
    let welcome = Welcome {
        session: 7,
        generation: *generation,
        mode,
        codec: Codec::H264,
        fec: Scheme::Leopard,
        parity_floor_percent: 20,
        shard_size: 1200,
        secret,
        media_port: streamer.port(),
        boot_id: lived.hello.boot_id,
        host_name: "test host".to_owned(),
        audio: life.hall.concert.as_ref().map(|concert| concert.layout),
        permissions: Permissions::ALL,
        resumed,
        resume: Some(token(number + 1)),
    };
    say(&mut send, &HostMessage::Welcome(welcome)).await;
    assert_eq!(next(&mut recv, &mut reader).await, Some(ClientMessage::Start));
    let (done, finished) = tokio::sync::oneshot::channel();
    let media = std::thread::spawn(move || {
        streamer.run();
        let _ = done.send(());
    });
    let mut hall = life.hall;
    hall.taken = *taken;
    tokio::select! {
        said = next(&mut recv, &mut reader) => lived.bye = said == Some(ClientMessage::Bye),
        _ = finished => {}
        never = hall.perform(&connection) => never,
    }
    plan.stop.store(true, std::sync::atomic::Ordering::Relaxed);
    media.join().unwrap();
    if lived.bye {
        let _ = connection.closed().await;
    }
    *taken += hall.answered.events.len() as u32;
    lived.events = hall.answered.events;
    tell.send(lived).unwrap();
    (endpoint, Some(connection))
}
