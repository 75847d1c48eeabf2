//! RTSP connections: each brings one request, plain or sealed, gets one answer, and is closed, which is how the client
//! knows that the answer is over.

use std::net::{IpAddr, SocketAddr};

use lumen_core::gamestream::rtsp::{Frame, MAX_FRAME, Request, Response, Status, is_sealed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::door::Door;

mod answer;

pub use answer::Desk;

/// Bytes read at a time: an ANNOUNCE and its head.
const READ: usize = 4096;

/// Somebody asks. Dropping `reply` hangs up.
pub struct Visit {
    /// An IPv4 address as such.
    pub peer: IpAddr,
    pub asked: Asked,
    pub reply: oneshot::Sender<Vec<u8>>,
}

/// One whole request.
pub enum Asked {
    Plain(Request),
    /// A whole frame, which only the right key opens.
    Sealed(Vec<u8>),
}

/// Lets clients in for ever, and passes on what they ask.
pub async fn serve(door: Door, visits: mpsc::Sender<Visit>) {
    door.run(|stream, peer| attend(stream, peer, visits.clone())).await;
}

/// One connection. The door bounds how long it may take.
async fn attend(mut stream: TcpStream, peer: SocketAddr, visits: mpsc::Sender<Visit>) {
    let Some(asked) = listen(&mut stream).await else { return };
    let answer = match asked {
        Ok(asked) => {
            let (reply, answer) = oneshot::channel();
            let visit = Visit { peer: peer.ip().to_canonical(), asked, reply };
            if visits.send(visit).await.is_err() {
                return;
            }
            let Ok(answer) = answer.await else { return };
            answer
        }
        // Whoever it is, it does not count its requests.
        Err(Garbage) => Response::plain(Status::BadRequest, 0).as_bytes().to_vec(),
    };
    if stream.write_all(&answer).await.is_ok() {
        let _ = stream.shutdown().await;
    }
}

/// What came is no request.
struct Garbage;

/// Reads one request; none if the connection ends before that, as those that only look whether a port is open do.
async fn listen(stream: &mut TcpStream) -> Option<Result<Asked, Garbage>> {
    let (mut bytes, mut chunk) = (Vec::new(), [0; READ]);
    loop {
        let count = stream.read(&mut chunk).await.ok().filter(|&count| count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let parsed = match bytes.first() {
            Some(&first) if is_sealed(first) => {
                Frame::parse(&bytes).map(|frame| frame.map(|(_, length)| Asked::Sealed(bytes[..length].to_vec())))
            }
            _ => Request::parse(&bytes).map(|request| request.map(|(request, _)| Asked::Plain(request))),
        };
        match parsed {
            Ok(Some(asked)) => return Some(Ok(asked)),
            Ok(None) if bytes.len() < MAX_FRAME => {}
            Ok(None) | Err(_) => return Some(Err(Garbage)),
        }
    }
}
