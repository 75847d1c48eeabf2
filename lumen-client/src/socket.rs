//! The media socket: receives in batches with GRO, sends single probes.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};

use crate::connect::any_like;

/// Receive buffer asked of the kernel: an IDR of the largest kind arrives in one burst.
const RECEIVE_BUFFER: usize = 4 << 20;
/// Buffers filled by one system call, each with up to 64 KiB of datagrams that the kernel has joined.
const BATCH: usize = 4;
const BUFFER: usize = 64 << 10;

/// A UDP socket of the family of the host's media address, on a port of the kernel's choice.
pub(crate) struct MediaSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    host: SocketAddr,
    buffers: Vec<u8>,
}

impl MediaSocket {
    pub(crate) fn bind(host: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(any_like(host))?;
        // The kernel gives less where its limit is lower, and that still works.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER);
        let state = UdpSocketState::new((&socket).into())?;
        Ok(Self { socket, state, host, buffers: vec![0; BATCH * BUFFER] })
    }

    /// Hands every datagram that has arrived to `each`, one batch; false if there was none.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut metas = [RecvMeta::default(); BATCH];
        let mut slices = self.buffers.chunks_exact_mut(BUFFER).map(IoSliceMut::new);
        let mut slices: [IoSliceMut<'_>; BATCH] =
            std::array::from_fn(|_| slices.next().unwrap_or(IoSliceMut::new(&mut [])));
        let count = match self.state.recv((&self.socket).into(), &mut slices, &mut metas) {
            Ok(count) => count,
            // A refused port is an ICMP answer to an earlier probe: the host may be on its way up again.
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused => {
                    return Ok(false);
                }
                _ => return Err(error),
            },
        };
        for (meta, slice) in metas.iter().zip(&slices).take(count) {
            let bytes = slice.get(..meta.len).unwrap_or_default();
            for datagram in bytes.chunks(meta.stride.max(1)) {
                each(datagram);
            }
        }
        Ok(count > 0)
    }

    /// Sends one datagram to the host. Loss is what the protocol expects of a network, so nothing is reported.
    pub(crate) fn send(&self, datagram: &[u8]) {
        let transmit =
            Transmit { destination: self.host, ecn: None, contents: datagram, segment_size: None, src_ip: None };
        let _ = self.state.try_send((&self.socket).into(), &transmit);
    }

    /// From now on the host is there; of the same family of addresses.
    pub(crate) fn set_host(&mut self, host: SocketAddr) {
        self.host = host;
    }

    pub(crate) fn host(&self) -> SocketAddr {
        self.host
    }
}

impl AsFd for MediaSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::first_readable;

    #[test]
    fn gives_back_joined_datagrams_one_by_one() {
        let host = UdpSocket::bind("127.0.0.1:0").unwrap();
        let host_state = UdpSocketState::new((&host).into()).unwrap();
        let mut socket = MediaSocket::bind(host.local_addr().unwrap()).unwrap();
        socket.send(b"probe");
        let (_, client) = {
            host.set_nonblocking(false).unwrap();
            host.recv_from(&mut [0; 16]).unwrap()
        };
        let sent: Vec<u8> = (0..3500).map(|i| (i % 251) as u8).collect();
        let segment_size = Some(1000);
        let transmit = Transmit { destination: client, ecn: None, contents: &sent, segment_size, src_ip: None };
        host_state.try_send((&host).into(), &transmit).unwrap();

        let (mut sizes, mut got) = (Vec::new(), Vec::new());
        while got.len() < sent.len() {
            assert!(first_readable(&[socket.as_fd()], Duration::from_secs(10)).unwrap().is_some(), "nothing arrived");
            socket
                .receive(|datagram| {
                    sizes.push(datagram.len());
                    got.extend_from_slice(datagram);
                })
                .unwrap();
        }
        assert_eq!(sizes, [1000, 1000, 1000, 500]);
        assert_eq!(got, sent);
        assert!(!socket.receive(|_| ()).unwrap());
    }
}
