//! A client that has said `Hello`, until it or the host ends it: its messages, the host's, and its session's branches.

use lumen_core::hello::{ClientMessage, Code, HostMessage};
use quinn::{Connection, ConnectionError};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

use super::connection::Task;
use super::ending::{Ending, describe, ended, refused};
use super::stream::{ReadEnd, Reader, Writer};
use super::{ClientId, FromClient, Limits, ToClient};
use crate::branches::{Branches, Broken, Woken};

/// What the client still owes.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    /// Nothing: lumend has the word.
    Asked,
    /// `Start`.
    Welcomed,
    Started,
}

/// Everything that can happen to a client's task.
enum Turn<D> {
    Order(Option<ToClient>),
    Message(Result<ClientMessage, ReadEnd>),
    /// The first of those that wait.
    Datagram(D),
    Branch(Woken),
    /// The client, or lumend, has not said in time what it owes.
    Late,
    Closed(ConnectionError),
}

/// One client's conversation.
pub struct Attendance<'a> {
    client: ClientId,
    limits: Limits,
    events: &'a mpsc::Sender<FromClient>,
    connection: &'a Connection,
    orders: mpsc::Receiver<ToClient>,
    reader: Reader,
    writer: Writer,
    branches: Branches,
    stage: Stage,
    /// Of what is owed in this stage.
    deadline: Instant,
}

impl<'a> Attendance<'a> {
    /// Begins to wait for lumend's answer.
    pub fn new(
        task: &'a Task,
        connection: &'a Connection,
        orders: mpsc::Receiver<ToClient>,
        (reader, writer): (Reader, Writer),
        branches: Branches,
    ) -> Self {
        let (client, limits, events) = (task.client, task.limits, &task.events);
        let (stage, deadline) = (Stage::Asked, Instant::now() + limits.answer);
        Self { client, limits, events, connection, orders, reader, writer, branches, stage, deadline }
    }

    /// Runs to the end. The last message has been said when it returns.
    pub async fn run(mut self) -> Ending {
        loop {
            let ending = match self.next().await {
                Turn::Order(order) => self.obey(order).await,
                Turn::Message(message) => self.hear(message).await,
                Turn::Datagram(first) => {
                    let (more, broken) = self.branches.on_datagram(first.as_ref(), self.connection);
                    self.report(broken).await;
                    if more {
                        yield_now().await;
                    }
                    None
                }
                Turn::Branch(woken) => {
                    let live = self.stage == Stage::Started;
                    let broken = self.branches.on_woken(woken, self.connection, live);
                    self.report(broken).await;
                    // A plane may fill its ring as fast as it is emptied, and the wait for one takes no turns by itself.
                    yield_now().await;
                    None
                }
                Turn::Late => Some(self.give_up().await),
                Turn::Closed(error) => Some(Ending::new(Code::Stopped, describe(&error))),
            };
            if let Some(ending) = ending {
                return ending;
            }
        }
    }

    /// Not in a fixed order: none of these can keep another from its turn.
    async fn next(&mut self) -> Turn<impl AsRef<[u8]> + use<>> {
        tokio::select! {
            order = self.orders.recv() => Turn::Order(order),
            message = self.reader.next() => Turn::Message(message),
            datagram = self.connection.read_datagram() => match datagram {
                Ok(datagram) => Turn::Datagram(datagram),
                Err(error) => Turn::Closed(error),
            },
            woken = self.branches.woken() => Turn::Branch(woken),
            () = sleep_until(self.deadline), if self.stage != Stage::Started => Turn::Late,
        }
    }

    async fn obey(&mut self, order: Option<ToClient>) -> Option<Ending> {
        let said = match order {
            Some(ToClient::Welcome(welcome)) => {
                self.stage = Stage::Welcomed;
                self.deadline = Instant::now() + self.limits.start;
                self.branches.welcomed(welcome.resumed);
                self.writer.send(&HostMessage::Welcome(*welcome)).await
            }
            Some(ToClient::Reconfigure { generation, mode }) => {
                self.writer.send(&HostMessage::Reconfigure { generation, mode }).await
            }
            Some(ToClient::Branch(order)) => {
                let broken = self.branches.obey(*order);
                self.report(broken).await;
                true
            }
            Some(ToClient::Refused { code, reason }) => {
                let ending = Ending::new(code, reason);
                self.writer.send_last(&refused(&ending)).await;
                return Some(ending);
            }
            Some(ToClient::End { code, reason }) => {
                let ending = Ending::new(code, reason);
                self.writer.send_last(&ended(&ending)).await;
                return Some(ending);
            }
            None => return Some(Ending::new(Code::Unavailable, "closed by the host")),
        };
        (!said).then(|| Ending::new(Code::Timeout, "the client does not read"))
    }

    async fn hear(&mut self, message: Result<ClientMessage, ReadEnd>) -> Option<Ending> {
        Some(match message {
            Ok(ClientMessage::Start) if self.stage == Stage::Welcomed => {
                self.stage = Stage::Started;
                let _ = self.events.send(FromClient::Start { client: self.client }).await;
                return None;
            }
            Ok(ClientMessage::Bye) => Ending::new(Code::Stopped, "the client said goodbye"),
            Ok(_) => Ending::new(Code::Malformed, "a message out of turn"),
            Err(ReadEnd::Bad(error)) => Ending::new(Code::Malformed, format!("malformed: {error}")),
            Err(ReadEnd::Closed) => {
                let reason = self.connection.close_reason().map(|error| describe(&error));
                Ending::new(Code::Stopped, reason.unwrap_or_else(|| "the client hung up".into()))
            }
        })
    }

    /// Tells whoever is waited for in vain.
    async fn give_up(&mut self) -> Ending {
        let (ending, last) = match self.stage {
            Stage::Asked => {
                let ending = Ending::new(Code::Unavailable, "the host is too busy to answer; try again");
                let last = refused(&ending);
                (ending, last)
            }
            _ => {
                let ending = Ending::new(Code::Timeout, "no Start after Welcome");
                let last = ended(&ending);
                (ending, last)
            }
        };
        self.writer.send_last(&last).await;
        ending
    }

    async fn report(&mut self, broken: Option<Broken>) {
        if let Some(broken) = broken {
            let _ = self.events.send(FromClient::BranchBroken { client: self.client, broken }).await;
        }
    }
}
