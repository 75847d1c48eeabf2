//! The control thread: one connection to the host after the other, and what goes over it.

use std::time::Duration;

use lumen_core::hello::{ClientMessage, Code, ControlMessage, FrameReader, HostMessage};
use lumen_core::{Fingerprint, Resume, ResumeToken};
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::time::timeout;

use crate::connect::{Answer, Connected, next_message};
use crate::datagrams::{DatagramReport, Receivers};
use crate::error::{Ending, refusal_in};
use crate::input::{self, InputSender};
use crate::monotonic_ns;
use crate::redial::{self, Found, Lost};
use crate::session::{Command, Over, Resumption};

/// How long the farewell may take before the connection is dropped all the same.
const FAREWELL: Duration = Duration::from_millis(300);

/// A connection on which the host has said `Welcome`.
struct Line {
    connection: Connection,
    send: SendStream,
    recv: RecvStream,
    reader: FrameReader,
    /// With what the session can be had again.
    token: Option<ResumeToken>,
}

/// How a connection came to be of no more use.
enum Ended {
    /// And the session with it.
    Session(Ending),
    /// The host is not there, for a reason that is for people.
    Lost(String),
}

/// Says `Start`, listens to the host, carries datagrams both ways, says `Bye`; and looks for a host that is lost.
pub(crate) fn run(connected: Connected, mut receivers: Receivers, over: &Over) -> DatagramReport {
    let Connected { runtime, endpoint, connection, send, recv, reader, welcome, again, .. } = connected;
    let input = receivers.input.clone();
    runtime.block_on(async {
        let mut line = Line { connection, send, recv, reader, token: welcome.resume };
        let mut begun = false;
        let ending = loop {
            let connection = line.connection.clone();
            let ended = tokio::select! {
                ended = converse(&mut line, over, !std::mem::replace(&mut begun, true)) => ended,
                never = receivers.receive(&connection) => never,
                never = input::keep(input.clone()) => never,
                () = redial::silence(&connection, over), if again.is_some() => {
                    Ended::Lost("it fell silent".to_owned())
                }
            };
            let (again, reason) = match (ended, &again) {
                (Ended::Session(ending), _) => break ending,
                (Ended::Lost(reason), None) => break Ending::Lost { reason },
                (Ended::Lost(reason), Some(again)) => (again, reason),
            };
            let lost_ns = monotonic_ns();
            over.lost();
            let first_event = input.as_ref().map_or(0, InputSender::first_event);
            let resume = line.token.clone().map(|token| Resume { token, first_event });
            let lost = Lost { again, endpoint: &endpoint, connection: &line.connection, reason };
            let found = tokio::select! {
                found = redial::look(&lost, resume, over) => found,
                () = over.stopped() => Err(Ending::Stopped),
            };
            match found {
                Err(ending) => break ending,
                Ok(Found::Alive) => over.found(),
                Ok(Found::Host(connection, answer)) => {
                    let Answer { send, recv, reader, welcome } = *answer;
                    let (resumed, token) = (welcome.resumed, welcome.resume.clone());
                    receivers.reconnected();
                    // Media is expected before the host is told that it may send any.
                    let redialled_ns = monotonic_ns();
                    over.command(Command::Resume(Box::new(Resumption { welcome, lost_ns, redialled_ns })));
                    if let Some(input) = &input {
                        input.attach(connection.clone(), resumed);
                    }
                    let before = std::mem::replace(&mut line, Line { connection, send, recv, reader, token });
                    before.connection.close(VarInt::from_u32(0), b"");
                    begun = false;
                }
            }
        };
        over.end(ending);
        if let Some(input) = &input {
            input.close();
        }
        line.connection.close(VarInt::from_u32(0), b"bye");
        let _ = timeout(FAREWELL, endpoint.wait_idle()).await;
    });
    receivers.report
}

/// Carries the conversation on, from `Start` if that is still to be said, until it cannot go on.
async fn converse(line: &mut Line, over: &Over, start: bool) -> Ended {
    let Line { connection, send, recv, reader, .. } = line;
    if start && send.write_all(&encoded(&ClientMessage::Start)).await.is_err() {
        return why(connection).await;
    }
    let listen = async {
        loop {
            match next_message(recv, reader).await {
                Ok(Some(HostMessage::Reconfigure { generation, mode })) => {
                    over.command(Command::Reconfigure { generation, mode });
                }
                Ok(Some(HostMessage::End { code, reason } | HostMessage::Refused { code, reason })) => {
                    return Ended::Session(Ending::Ended { code: Code::from_wire(code.into()), reason });
                }
                Ok(Some(HostMessage::Welcome(_))) => {
                    return Ended::Session(Ending::Lost { reason: "it said welcome twice".to_owned() });
                }
                Ok(None) => return why(connection).await,
                Err(reason) => return Ended::Session(Ending::Lost { reason }),
            }
        }
    };
    tokio::select! {
        ended = listen => ended,
        () = over.stopped() => {
            // The host frees the session when it reads this; that it has read it shows in the acknowledgement.
            let farewell = async {
                if send.write_all(&encoded(&ClientMessage::Bye)).await.is_ok() && send.finish().is_ok() {
                    let _ = send.stopped().await;
                }
            };
            let _ = timeout(FAREWELL, farewell).await;
            Ended::Session(Ending::Stopped)
        }
    }
}

/// The connection's own end says why. Only one with an end code is the session's.
async fn why(connection: &Connection) -> Ended {
    match connection.closed().await {
        ConnectionError::ApplicationClosed(close) if close.error_code == VarInt::from_u32(0) => {
            Ended::Lost("it closed the connection".to_owned())
        }
        error => match refusal_in(&error, Fingerprint([0; 32])) {
            Some(refusal) => Ended::Session(Ending::Ended { code: refusal.code, reason: refusal.reason }),
            None => Ended::Lost(error.to_string()),
        },
    }
}

fn encoded(message: &ClientMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}
