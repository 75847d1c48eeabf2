//! One client, from its first packet to its `Hello`, and its last packet.

use std::net::SocketAddr;
use std::sync::Arc;

use ipc::Fingerprint;
use lumen_core::hello::{ClientHello, ClientMessage, Code, HelloError, VERSION};
use quinn::{Connecting, Connection};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};

use super::attend::Attendance;
use super::ending::{Ending, describe, refused};
use super::stream::{ReadEnd, Reader, Writer};
use super::{ClientId, FromClient, Limits, TO_CLIENT, close_code};
use crate::branches::{Branches, Tally};
use crate::counters::{Counter, Counters};

/// Everything a connection's task holds besides the connection.
pub struct Task {
    pub client: ClientId,
    /// For the `Hello`.
    pub deadline: Instant,
    pub limits: Limits,
    pub events: mpsc::Sender<FromClient>,
    pub counters: Arc<Counters>,
}

impl Task {
    /// Runs the client to its end. `handshake` is held until the client has said who it is and what it wants.
    pub async fn run(self, connecting: Connecting, handshake: Option<OwnedSemaphorePermit>) {
        let connection = match timeout_at(self.deadline, connecting).await {
            Ok(Ok(connection)) => connection,
            _ => return self.counters.add(Counter::HandshakesFailed),
        };
        let peer = connection.remote_address();
        let ending = match identity(&connection) {
            Some(fingerprint) => self.greet(&connection, peer, fingerprint, handshake).await,
            None => {
                self.counters.add(Counter::HandshakesFailed);
                Ending::new(Code::NotAllowed, "show one self-signed certificate")
            }
        };
        connection.close(close_code(ending.code), ending.reason.as_bytes());
    }

    /// Waits for the stream and its `Hello`, then hands over to [`Self::converse`].
    async fn greet(
        &self,
        connection: &Connection,
        peer: SocketAddr,
        fingerprint: Fingerprint,
        handshake: Option<OwnedSemaphorePermit>,
    ) -> Ending {
        let silent = || {
            self.counters.add(Counter::HandshakesFailed);
            Ending::new(Code::Timeout, format!("no Hello within {} s", self.limits.handshake.as_secs_f32()))
        };
        let (send, recv) = match timeout_at(self.deadline, connection.accept_bi()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Ending::new(Code::Malformed, describe(&error)),
            Err(_) => return silent(),
        };
        let (mut reader, mut writer) = (Reader::new(recv), Writer(send));
        let refusal = match timeout_at(self.deadline, reader.next()).await {
            Ok(Ok(ClientMessage::Hello(hello))) => {
                drop(handshake);
                return self.converse(connection, peer, fingerprint, hello, (reader, writer)).await;
            }
            Ok(Ok(_)) => Ending::new(Code::Malformed, "the first message has to be Hello"),
            Ok(Err(ReadEnd::Closed)) => return Ending::new(Code::Malformed, "closed before Hello"),
            Ok(Err(ReadEnd::Bad(HelloError::Version(theirs)))) => Ending::new(
                Code::Version,
                format!("this host speaks lumen/1 version {VERSION}, the client version {theirs}: update the older"),
            ),
            Ok(Err(ReadEnd::Bad(error))) => Ending::new(Code::Malformed, format!("malformed Hello: {error}")),
            Err(_) => {
                let ending = silent();
                writer.send_last(&refused(&ending)).await;
                return ending;
            }
        };
        self.counters.add(Counter::HellosRefused);
        writer.send_last(&refused(&refusal)).await;
        refusal
    }

    /// Reports the client and stays with it; reports its end too.
    async fn converse(
        &self,
        connection: &Connection,
        peer: SocketAddr,
        fingerprint: Fingerprint,
        hello: ClientHello,
        conversation: (Reader, Writer),
    ) -> Ending {
        let (to, orders) = mpsc::channel(TO_CLIENT);
        let client = self.client;
        let tally = Arc::new(Tally::default());
        let branches = Branches::new(tally.clone(), hello.resume.as_ref().map(|resume| resume.first_event));
        let greeting = FromClient::Hello { client, peer, fingerprint, hello, to, tally };
        if self.events.send(greeting).await.is_err() {
            // Soon the endpoint closes every connection without a word, and so the client tries this host's next plane.
            connection.closed().await;
            return Ending::new(Code::Shutdown, "the host is shutting down");
        }
        let ending = Attendance::new(self, connection, orders, conversation, branches).run().await;
        let _ = self.events.send(FromClient::Gone { client, reason: ending.reason.clone() }).await;
        ending
    }
}

/// The client's fingerprint. The verifier let exactly one certificate through and checked that the client holds its key.
fn identity(connection: &Connection) -> Option<Fingerprint> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.first().map(|certificate| Fingerprint::of(certificate))
}
