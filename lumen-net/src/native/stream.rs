//! The conversation's bi-stream: whole messages in, whole messages out, each write with a deadline.

use std::time::Duration;

use lumen_core::hello::{ClientMessage, ControlMessage, FrameReader, HelloError, HostMessage};
use quinn::{RecvStream, SendStream};

/// How long a client may let a message of ours wait for its flow control or its acknowledgement.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why no further message comes.
#[derive(Debug)]
pub enum ReadEnd {
    /// The client finished the stream, or the connection is gone.
    Closed,
    /// What it sent is no message.
    Bad(HelloError),
}

/// Messages of the client. Cancelling [`Reader::next`] loses nothing.
pub struct Reader {
    stream: RecvStream,
    frames: FrameReader,
}

impl Reader {
    pub fn new(stream: RecvStream) -> Self {
        Self { stream, frames: FrameReader::default() }
    }

    pub async fn next(&mut self) -> Result<ClientMessage, ReadEnd> {
        loop {
            if let Some(message) = self.frames.poll().map_err(ReadEnd::Bad)? {
                return Ok(message);
            }
            let mut bytes = [0; 2048];
            match self.stream.read(&mut bytes).await {
                Ok(Some(count)) => self.frames.push(&bytes[..count]),
                Ok(None) | Err(_) => return Err(ReadEnd::Closed),
            }
        }
    }
}

/// Messages to the client.
pub struct Writer(pub SendStream);

impl Writer {
    /// Writes one message; false when the client is gone or does not read.
    pub async fn send(&mut self, message: &HostMessage) -> bool {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        matches!(tokio::time::timeout(WRITE_TIMEOUT, self.0.write_all(&bytes)).await, Ok(Ok(())))
    }

    /// Writes the last message and waits until the client has it, because closing a connection discards what is
    /// still on its way.
    pub async fn send_last(&mut self, message: &HostMessage) {
        if self.send(message).await && self.0.finish().is_ok() {
            let _ = tokio::time::timeout(WRITE_TIMEOUT, self.0.stopped()).await;
        }
    }
}
