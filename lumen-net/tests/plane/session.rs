//! A client in a session, for all tests that need one.

use ipc::feedback::Feedback;
use ipc::{AskId, FromNet, SessionId, SessionStats};
use lumen_core::hello::{ClientMessage, Welcome};
use lumen_core::packet::Kind;
use lumen_core::{AudioLayout, Permissions};

use super::client::{Client, Identity, Media, Stream};
use super::host::{Encoder, Host, mode};

/// A client in a session, with everything it holds.
pub struct Session {
    pub id: SessionId,
    pub identity: Identity,
    pub client: Client,
    pub stream: Stream,
    pub welcome: Box<Welcome>,
    pub media: Media,
    pub encoder: Encoder,
}

impl Session {
    /// Connects and is welcomed; has said nothing since.
    pub fn welcomed(host: &mut Host, number: u32) -> Self {
        let identity = Identity::new();
        host.permit(identity.fingerprint());
        let client = Client::connect(host, Some(&identity)).unwrap();
        let (stream, welcome, encoder) = client.begin(host, number);
        assert_eq!((welcome.session, welcome.generation, welcome.mode), (number, 1, mode()));
        assert_eq!((welcome.boot_id, welcome.host_name.as_str()), ([9; 16], "test host"));
        assert_eq!((welcome.audio, welcome.permissions), (Some(AudioLayout::Stereo), Permissions::POINTER));
        let media = Media::new(host, &welcome);
        Self { id: SessionId(number), identity, client, stream, welcome, media, encoder }
    }

    /// Streams: has started, and its address is known.
    pub fn started(host: &mut Host, number: u32) -> Self {
        let mut session = Self::welcomed(host, number);
        session.stream(host);
        session
    }

    /// Starts to stream; by whose answer. Until the plane has said that it knows, what is for the client is forgotten.
    pub fn stream(&mut self, host: &mut Host) -> AskId {
        self.start();
        let (_, ask) = host.expect_started();
        self.media.send_probe();
        self.media.expect(Kind::Pong);
        ask
    }

    pub fn start(&mut self) {
        self.client.say(&mut self.stream, &ClientMessage::Start);
    }

    pub fn frame(&mut self, number: u32, bytes: usize, idr: bool) {
        let payload = self.encoder.frame(bytes, idr);
        let frame = self.media.expect_frame(number, &payload);
        assert_eq!((frame.generation, frame.idr), (self.encoder.generation, idr));
    }

    pub fn expect_stats(&self, host: &mut Host, enough: impl Fn(&SessionStats) -> bool) -> SessionStats {
        host.expect(|message| match message {
            FromNet::Stats { session, stats } if session == self.id && enough(&stats) => Some(stats),
            _ => None,
        })
    }

    /// What the encoder is told next, if anything has been.
    pub fn feedback(&mut self) -> Option<Feedback> {
        self.encoder.feedback()
    }
}
