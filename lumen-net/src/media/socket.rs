//! A media socket: batches out with segmentation offload where the kernel has it, batches in.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use quinn_udp::{RecvMeta, UdpSocketState};
use socket2::{MsgHdr, SockAddr, SockRef};

use super::ancillary::Ancillary;
use crate::counters::{Counter, Counters};

/// Datagrams taken from the kernel at once.
const RECEIVE_BATCH: usize = 8;

/// Room for whatever the kernel has coalesced into one buffer.
const RECEIVE_BYTES: usize = 64 << 10;

/// Most bytes of one send: an IPv4 datagram's 65535 less its headers.
const SEND_BYTES: usize = 65_507;

/// Wanted of the kernel for a burst on a slow link; it grants what its limits allow.
const SEND_BUFFER: usize = 2 << 20;

/// Where a client's media goes, and from which of our addresses it expects it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    pub address: SocketAddr,
    pub local: Option<IpAddr>,
}

/// The kernel's buffer is full: wait until the socket is writable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocked;

/// A bound UDP socket shared by all sessions of a protocol.
pub struct MediaSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    /// Most datagrams of one send: 1 once a device has turned out to have no offload.
    segments: AtomicUsize,
    /// Some session waits for it to become writable.
    pub awaited: bool,
}

/// The socket as a session sees it: somewhere to send, and counters for what cannot be sent.
#[derive(Clone, Copy)]
pub struct Outlet<'a> {
    pub socket: &'a MediaSocket,
    pub counters: &'a Counters,
}

impl Outlet<'_> {
    /// See [`MediaSocket::max_segments`].
    pub fn max_segments(&self, segment: usize) -> usize {
        self.socket.max_segments(segment)
    }

    /// See [`MediaSocket::send`].
    pub fn send(&self, to: Peer, bytes: &[u8], segment: usize) -> Result<usize, Blocked> {
        self.socket.send(to, bytes, segment, self.counters)
    }
}

/// Buffers for [`MediaSocket::receive`], made once.
pub struct ReceiveBuffers {
    bytes: Vec<Box<[u8]>>,
    meta: [RecvMeta; RECEIVE_BATCH],
}

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self::new()
    }
}

impl ReceiveBuffers {
    pub fn new() -> Self {
        let bytes = (0..RECEIVE_BATCH).map(|_| vec![0; RECEIVE_BYTES].into_boxed_slice()).collect();
        Self { bytes, meta: [RecvMeta::default(); RECEIVE_BATCH] }
    }

    /// The datagrams of the last [`MediaSocket::receive`], `count` of whose buffers are filled.
    pub fn datagrams(&mut self, count: usize) -> impl Iterator<Item = (Peer, &mut [u8])> {
        self.bytes.iter_mut().zip(&self.meta).take(count).flat_map(|(bytes, meta)| {
            let peer = Peer { address: meta.addr, local: meta.dst_ip };
            let length = meta.len.min(bytes.len());
            bytes[..length].chunks_mut(meta.stride.max(1)).map(move |datagram| (peer, datagram))
        })
    }
}

impl MediaSocket {
    /// Takes over a bound socket, which does not block: quinn-udp would change its flags, and a sealed plane may not.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new((&socket).into())?;
        // A smaller buffer than wished for only means waiting for the kernel more often.
        let _ = setsockopt(&socket, sockopt::SndBuf, &SEND_BUFFER);
        let segments = AtomicUsize::new(state.max_gso_segments());
        Ok(Self { socket, state, segments, awaited: false })
    }

    /// Most datagrams of `segment` bytes that one [`Self::send`] may hold.
    pub fn max_segments(&self, segment: usize) -> usize {
        self.segments.load(Ordering::Relaxed).min(SEND_BYTES / segment.max(1)).max(1)
    }

    /// Sends datagrams of `segment` bytes each, the last one possibly shorter; at most [`Self::max_segments`] of them.
    /// Returns how many bytes were disposed of: sent, or refused by the kernel and counted.
    pub fn send(&self, to: Peer, bytes: &[u8], segment: usize, counters: &Counters) -> Result<usize, Blocked> {
        let offload = bytes.len() > segment;
        let error = match self.send_once(to, bytes, offload.then_some(segment as u16)) {
            Ok(()) => return Ok(bytes.len()),
            Err(error) => error,
        };
        // A device without offload, perhaps, or one that cannot send there at all: a client's ping decides where. If the
        // first datagram goes by itself, all that follow have to.
        let doubt = offload && matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL));
        let error = match doubt.then(|| self.send_once(to, &bytes[..segment], None)) {
            Some(Ok(())) => {
                self.segments.store(1, Ordering::Relaxed);
                return Ok(segment);
            }
            Some(Err(error)) => error,
            None => error,
        };
        if error.kind() == io::ErrorKind::WouldBlock {
            counters.add(Counter::SendBlocked);
            return Err(Blocked);
        }
        counters.add(Counter::SendErrors);
        Ok(bytes.len())
    }

    /// One `sendmsg`, of a buffer that is cut into datagrams of `segment` bytes, if it is to be cut.
    fn send_once(&self, to: Peer, bytes: &[u8], segment: Option<u16>) -> io::Result<()> {
        // Not by quinn-udp, which would tell the kernel a traffic class of 0 whatever the socket's is.
        let ancillary = Ancillary::new(segment, to.local);
        let address = SockAddr::from(to.address);
        let buffers = [IoSlice::new(bytes)];
        let message = MsgHdr::new().with_addr(&address).with_buffers(&buffers).with_control(ancillary.bytes());
        loop {
            match SockRef::from(&self.socket).sendmsg(&message, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done.map(drop),
            }
        }
    }

    /// Fills buffers with what has arrived and returns how many; 0 when nothing has.
    pub fn receive(&self, buffers: &mut ReceiveBuffers) -> io::Result<usize> {
        let mut slices = buffers.bytes.iter_mut();
        let mut slices: [IoSliceMut<'_>; RECEIVE_BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(slices.next().map_or(&mut [], |bytes| bytes)));
        match self.state.recv((&self.socket).into(), &mut slices, &mut buffers.meta) {
            Ok(count) => Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for MediaSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (MediaSocket, UdpSocket) {
        let ours = MediaSocket::new(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
        theirs.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        (ours, theirs)
    }

    #[test]
    fn a_batch_arrives_as_its_datagrams() {
        let (ours, theirs) = pair();
        let to = Peer { address: theirs.local_addr().unwrap(), local: None };
        let bytes: Vec<u8> = (0..2_500).map(|index| (index / 1_000) as u8).collect();
        let counters = Counters::default();
        let mut sent = 0;
        while sent < bytes.len() {
            let count = ours.max_segments(1_000) * 1_000;
            sent += ours.send(to, &bytes[sent..bytes.len().min(sent + count)], 1_000, &counters).unwrap();
        }
        let mut buffer = [0; 2_000];
        for (value, length) in [(0, 1_000), (1, 1_000), (2, 500)] {
            assert_eq!(theirs.recv(&mut buffer).unwrap(), length);
            assert!(buffer[..length].iter().all(|&byte| byte == value));
        }
        assert_eq!(counters.snapshot().send_errors, 0);
    }

    #[test]
    fn the_traffic_class_is_the_sockets() {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
        use std::os::fd::AsRawFd;

        let (ours, theirs) = pair();
        setsockopt(&ours.socket, sockopt::Ipv4Tos, &0xA0).unwrap();
        setsockopt(&theirs, sockopt::IpRecvTos, &true).unwrap();
        let counters = Counters::default();
        let address = theirs.local_addr().unwrap();
        for local in [None, Some("127.0.0.1".parse().unwrap())] {
            assert_eq!(ours.send(Peer { address, local }, &[1; 200], 100, &counters), Ok(200));
            for _ in 0..2 {
                let (mut bytes, mut ancillary) = ([0; 1_000], nix::cmsg_space!(u8));
                let mut slices = [IoSliceMut::new(&mut bytes)];
                let received =
                    recvmsg::<()>(theirs.as_raw_fd(), &mut slices, Some(&mut ancillary), MsgFlags::empty()).unwrap();
                assert_eq!(received.bytes, 100);
                let class = received.cmsgs().unwrap().next();
                assert!(matches!(class, Some(ControlMessageOwned::Ipv4Tos(0xA0))), "{class:?}");
            }
        }
        assert_eq!(counters.snapshot().send_errors, 0);
    }

    #[test]
    fn what_the_kernel_refuses_is_counted_and_forgotten() {
        let (ours, _) = pair();
        let counters = Counters::default();
        // Port 0 is no destination.
        let nowhere = Peer { address: "127.0.0.1:0".parse().unwrap(), local: None };
        assert_eq!(ours.send(nowhere, &[0; 100], 100, &counters), Ok(100));
        assert_eq!(counters.snapshot().send_errors, 1);
    }

    #[test]
    fn a_client_that_is_nowhere_does_not_end_offload_for_the_others() {
        let (ours, theirs) = pair();
        let counters = Counters::default();
        let before = ours.max_segments(100);
        let port = theirs.local_addr().unwrap();
        let somewhere = [("127.0.0.1:0", None), (&*port.to_string(), Some("192.0.2.1".parse().unwrap()))];
        for (address, local) in somewhere {
            let nowhere = Peer { address: address.parse().unwrap(), local };
            assert_eq!(ours.send(nowhere, &[0; 250], 100, &counters), Ok(250));
            assert_eq!(ours.max_segments(100), before);
        }
        assert_eq!(counters.snapshot().send_errors, 2);
    }

    #[test]
    fn received_datagrams_come_with_their_source() {
        let (ours, theirs) = pair();
        let mut buffers = ReceiveBuffers::new();
        assert_eq!(ours.receive(&mut buffers).unwrap(), 0);
        theirs.send_to(b"one", ours.socket.local_addr().unwrap()).unwrap();
        theirs.send_to(b"three", ours.socket.local_addr().unwrap()).unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2 {
            let count = ours.receive(&mut buffers).unwrap();
            for (peer, datagram) in buffers.datagrams(count) {
                assert_eq!(peer.address, theirs.local_addr().unwrap());
                seen.push(datagram.to_vec());
            }
        }
        assert_eq!(seen, [b"one".to_vec(), b"three".to_vec()]);
    }
}
