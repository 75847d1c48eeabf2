//! What a client sends from its media sockets so that the host knows where it is.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::rtsp::Port;

const EVERY: Duration = Duration::from_millis(500);
/// The longest wait for a packet.
pub const PAUSE: Duration = Duration::from_millis(50);

/// Payload and a counter from 1, every half second.
pub struct Pinger {
    to: SocketAddr,
    ping: [u8; 16],
    count: u32,
    last: Option<Instant>,
}

impl Pinger {
    pub const fn new(host: SocketAddr, port: Port) -> Self {
        let mut to = host;
        to.set_port(port.number);
        Self { to, ping: port.ping, count: 0, last: None }
    }

    /// Pings if it is time.
    pub fn ping(&mut self, socket: &UdpSocket) {
        if self.last.is_some_and(|last| last.elapsed() < EVERY) {
            return;
        }
        self.count += 1;
        self.last = Some(Instant::now());
        let mut datagram = self.ping.to_vec();
        datagram.extend(self.count.to_be_bytes());
        // Nobody there (ICMP) shows in what does not come back.
        let _ = socket.send_to(&datagram, self.to);
    }
}

/// The next packet, unless none comes within [`PAUSE`].
pub fn received(socket: &UdpSocket, packet: &mut [u8]) -> Option<usize> {
    socket.recv(packet).ok()
}
