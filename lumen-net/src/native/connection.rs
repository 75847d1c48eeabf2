//! One client, from its first packet to its last.

use std::net::SocketAddr;
use std::sync::Arc;

use ipc::Fingerprint;
use lumen_core::hello::{ClientHello, ClientMessage, Code, HelloError, HostMessage, VERSION};
use quinn::{Connecting, Connection, ConnectionError};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::stream::{ReadEnd, Reader, Writer};
use super::{ClientId, FromClient, Limits, TO_CLIENT, ToClient, close_code};
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

/// How a conversation ends: the code and words of the QUIC close.
struct Ending {
    code: Code,
    reason: String,
}

impl Ending {
    fn new(code: Code, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// What the client still owes.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// Nothing: lumend has the word.
    Asked,
    /// `Start`.
    Welcomed,
    Started,
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
                return self.converse(connection, peer, fingerprint, hello, reader, writer).await;
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
        mut reader: Reader,
        mut writer: Writer,
    ) -> Ending {
        let (to, mut orders) = mpsc::channel(TO_CLIENT);
        let client = self.client;
        let greeting = FromClient::Hello { client, peer, fingerprint, hello, to };
        if self.events.send(greeting).await.is_err() {
            return Ending::new(Code::Shutdown, "the host is shutting down");
        }
        let ending = self.attend(connection, &mut orders, &mut reader, &mut writer).await;
        let _ = self.events.send(FromClient::Gone { client, reason: ending.reason.clone() }).await;
        ending
    }

    async fn attend(
        &self,
        connection: &Connection,
        orders: &mut mpsc::Receiver<ToClient>,
        reader: &mut Reader,
        writer: &mut Writer,
    ) -> Ending {
        let mut stage = Stage::Asked;
        let mut deadline = Instant::now() + self.limits.answer;
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(ToClient::Welcome(welcome)) => {
                        stage = Stage::Welcomed;
                        deadline = Instant::now() + self.limits.start;
                        if !writer.send(&HostMessage::Welcome(*welcome)).await {
                            return Ending::new(Code::Timeout, "the client does not read");
                        }
                    }
                    Some(ToClient::Reconfigure { generation, mode }) => {
                        if !writer.send(&HostMessage::Reconfigure { generation, mode }).await {
                            return Ending::new(Code::Timeout, "the client does not read");
                        }
                    }
                    Some(ToClient::Refused { code, reason }) => {
                        let ending = Ending::new(code, reason);
                        writer.send_last(&refused(&ending)).await;
                        return ending;
                    }
                    Some(ToClient::End { code, reason }) => {
                        writer.send_last(&HostMessage::End { code: code as u16, reason: reason.clone() }).await;
                        return Ending::new(code, reason);
                    }
                    None => return Ending::new(Code::Unavailable, "closed by the host"),
                },
                message = reader.next() => match message {
                    Ok(ClientMessage::Start) if stage == Stage::Welcomed => {
                        stage = Stage::Started;
                        let _ = self.events.send(FromClient::Start { client: self.client }).await;
                    }
                    Ok(ClientMessage::Bye) => return Ending::new(Code::Stopped, "the client said goodbye"),
                    Ok(_) => return Ending::new(Code::Malformed, "a message out of turn"),
                    Err(ReadEnd::Bad(error)) => return Ending::new(Code::Malformed, format!("malformed: {error}")),
                    Err(ReadEnd::Closed) => {
                        let reason = connection.close_reason().map(|error| describe(&error));
                        return Ending::new(Code::Stopped, reason.unwrap_or_else(|| "the client hung up".into()));
                    }
                },
                error = connection.closed() => return Ending::new(Code::Stopped, describe(&error)),
                () = sleep_until(deadline), if stage != Stage::Started => {
                    let (code, reason) = match stage {
                        Stage::Asked => (Code::Unavailable, "the host is too busy to answer; try again"),
                        _ => (Code::Timeout, "no Start after Welcome"),
                    };
                    let ending = Ending::new(code, reason);
                    let last = match stage {
                        Stage::Asked => refused(&ending),
                        _ => HostMessage::End { code: code as u16, reason: ending.reason.clone() },
                    };
                    writer.send_last(&last).await;
                    return ending;
                }
            }
        }
    }
}

fn refused(ending: &Ending) -> HostMessage {
    HostMessage::Refused { code: ending.code as u16, reason: ending.reason.clone() }
}

/// The client's fingerprint. The verifier let exactly one certificate through and checked that the client holds its key.
fn identity(connection: &Connection) -> Option<Fingerprint> {
    let chain = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    chain.first().map(|certificate| Fingerprint::of(certificate))
}

/// A connection's end, in words for the log and lumend.
fn describe(error: &ConnectionError) -> String {
    match error {
        ConnectionError::ApplicationClosed(_) => "the client closed the connection".into(),
        ConnectionError::TimedOut => "the client fell silent".into(),
        ConnectionError::Reset => "the client was restarted".into(),
        other => other.to_string(),
    }
}
