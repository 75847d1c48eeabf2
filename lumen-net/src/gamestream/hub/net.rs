//! The sockets of the hub, and what runs on them.

use std::future::{pending, poll_fn};
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::HubSockets;
use crate::counters::Counters;
use crate::gamestream::door::{Door, DoorLimits};
use crate::gamestream::enet::Enet;
use crate::gamestream::rtsp::{self, Desk, Visit};
use crate::media::socket::{MediaSocket, ReceiveBuffers};
use crate::readable::Readable;

/// What only sockets bring.
pub struct Net {
    pub desk: Desk,
    /// With the control socket.
    pub enet: Enet,
    pub audio: Readable<MediaSocket>,
    rtsp: tokio::task::JoinHandle<()>,
}

impl Drop for Net {
    fn drop(&mut self) {
        self.rtsp.abort();
    }
}

impl Net {
    pub fn new(sockets: HubSockets, visits: mpsc::Sender<Visit>, counters: Arc<Counters>) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let control = Readable::new(MediaSocket::new(sockets.control).map_err(text)?).map_err(text)?;
        let audio = Readable::new(MediaSocket::new(sockets.audio).map_err(text)?).map_err(text)?;
        let enet = Enet::new(control, counters.clone())?;
        let door = Door::new(sockets.rtsp, DoorLimits::default(), counters).map_err(text)?;
        let rtsp = tokio::spawn(rtsp::serve(door, visits));
        Ok(Self { desk: Desk { ports: sockets.ports, encryption: sockets.encryption }, enet, audio, rtsp })
    }
}

/// Waits for datagrams on a socket that may not be there.
pub async fn arrived(socket: Option<&mut Readable<MediaSocket>>, buffers: &mut ReceiveBuffers) -> usize {
    let Some(socket) = socket else { return pending().await };
    let arrived = poll_fn(|cx| {
        // Borrowed to itself: other threads must not look at it, which a shared reference would let them.
        let socket = &mut *socket;
        // An error of the socket is as good as nothing: there will be more to read, or there will not.
        socket.poll_find(cx, |socket| socket.receive(buffers).ok().filter(|&count| count > 0))
    });
    match arrived.await {
        Ok(count) => count,
        // The runtime is ending.
        Err(_) => pending().await,
    }
}
