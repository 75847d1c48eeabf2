//! Wayland's wire format (wayland.freedesktop.org/docs/html/ch04.html), and a socket that carries whole messages only.
//!
//! Nothing here remembers more than what is under way, so that an heir can go on with a dead plane's connection: a
//! flush hands over all or nothing, and of what the compositor says only whole messages are taken from the socket.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, recvmsg, send, sendmsg};

use crate::inject::InjectError;

/// An object's number on its connection.
pub(super) type Object = u32;

const HEADER: usize = 8;
/// Sizes have 16 bits.
const MAX_MESSAGE: usize = 1 << 16;
/// How long there may be something to read that is no whole message, however often that is looked at. The compositor's
/// other half comes as soon as it finds room; one that stopped there would be looked at for ever.
const HALF_NS: u64 = 2_000_000_000;

/// Requests that have not been sent yet.
#[derive(Default, Debug)]
pub(super) struct Requests {
    bytes: Vec<u8>,
    fds: Vec<OwnedFd>,
}

/// An argument of a request. Objects, old and new, are numbers.
#[derive(Clone, Copy)]
pub(super) enum Arg<'a> {
    Uint(u32),
    Int(i32),
    /// In 1/256 on the wire.
    Fixed(f64),
    Text(&'a str),
}

impl Requests {
    pub fn put(&mut self, object: Object, opcode: u16, arguments: &[Arg<'_>]) {
        let start = self.bytes.len();
        self.bytes.extend([0; HEADER]);
        for argument in arguments {
            match *argument {
                Arg::Uint(number) => self.bytes.extend(number.to_ne_bytes()),
                Arg::Int(number) => self.bytes.extend(number.to_ne_bytes()),
                Arg::Fixed(number) => self.bytes.extend(((number * 256.0).round() as i32).to_ne_bytes()),
                Arg::Text(text) => {
                    // Names of interfaces; they are short. The NUL counts.
                    self.bytes.extend((text.len() as u32 + 1).to_ne_bytes());
                    self.bytes.extend(text.as_bytes());
                    let padded = (self.bytes.len() + 1).next_multiple_of(4);
                    self.bytes.resize(padded, 0);
                }
            }
        }
        let size = (self.bytes.len() - start) as u32;
        let words = [object, size << 16 | u32::from(opcode)].map(u32::to_ne_bytes).concat();
        if let Some(header) = self.bytes.get_mut(start..start + HEADER) {
            header.copy_from_slice(&words);
        }
    }

    /// A descriptor for the request put last.
    pub fn attach(&mut self, fd: OwnedFd) {
        self.fds.push(fd);
    }
}

/// An event, its arguments not looked at yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Event<'a> {
    pub object: Object,
    pub opcode: u16,
    pub arguments: Arguments<'a>,
}

/// Taken from front to back; `None` where there is nothing of that kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Arguments<'a>(&'a [u8]);

impl<'a> Arguments<'a> {
    pub fn uint(&mut self) -> Option<u32> {
        let (word, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_ne_bytes(*word))
    }

    /// What is not UTF-8 is replaced.
    pub fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.uint()?).ok()?;
        let bytes = self.0.get(..length)?;
        self.0 = self.0.get(length.checked_next_multiple_of(4)?..)?;
        Some(String::from_utf8_lossy(bytes.strip_suffix(&[0])?).into_owned())
    }
}

/// The first whole event in `bytes`, and its size. `None`: there is none yet.
///
/// # Errors
/// A size that no message has.
fn first(bytes: &[u8]) -> Result<Option<(Event<'_>, usize)>, &'static str> {
    let mut header = Arguments(bytes);
    let (Some(object), Some(word)) = (header.uint(), header.uint()) else { return Ok(None) };
    let size = (word >> 16) as usize;
    if size < HEADER || !size.is_multiple_of(4) {
        return Err("a message of an impossible size");
    }
    let arguments = bytes.get(HEADER..size).map(Arguments);
    Ok(arguments.map(|arguments| (Event { object, opcode: word as u16, arguments }, size)))
}

/// A connected Wayland socket.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    seen: Vec<u8>,
    /// The beginning of a message is there, and not its end: when that is too late.
    half_by: Option<u64>,
}

impl Socket {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, seen: vec![0; MAX_MESSAGE], half_by: None }
    }

    /// Sends requests, all at once: so many bytes are one buffer of the kernel's, which it takes or does not. False if
    /// there is no room for them now. A connection that is no more takes everything; the next read says what it died of.
    pub fn flush(&self, requests: &mut Requests) -> bool {
        while !requests.bytes.is_empty() {
            match self.send(requests) {
                Ok(sent) => {
                    requests.bytes.drain(..sent.min(requests.bytes.len()));
                    requests.fds.clear();
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN) => *requests = Requests::default(),
                // The kernel's want of room, memory or descriptors under way passes.
                Err(_) => return false,
            }
        }
        true
    }

    fn send(&self, requests: &Requests) -> Result<usize, Errno> {
        let (fd, flags) = (self.fd.as_raw_fd(), MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL);
        if requests.fds.is_empty() {
            return send(fd, &requests.bytes, flags);
        }
        let fds: Vec<_> = requests.fds.iter().map(AsRawFd::as_raw_fd).collect();
        sendmsg::<()>(fd, &[IoSlice::new(&requests.bytes)], &[ControlMessage::ScmRights(&fds)], flags, None)
    }

    /// The beginning of a message is there, and not its end. Then there is always something to read, and so nothing to wait
    /// for but time.
    pub const fn has_half(&self) -> bool {
        self.half_by.is_some()
    }

    /// Reads what is there and hands on each whole event, without waiting. An event leaves the socket after it has been
    /// handed on: should the plane die in between, its heir has it again.
    ///
    /// # Errors
    /// The end of the connection, nonsense, or what `hear` says.
    pub fn read(
        &mut self,
        now_ns: u64,
        mut hear: impl FnMut(Event<'_>) -> Result<(), InjectError>,
    ) -> Result<(), InjectError> {
        let half_by = self.half_by.take();
        let seen = match receive(&self.fd, &mut self.seen, MsgFlags::MSG_PEEK) {
            Ok(0) => return Err(gone(&io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(seen) => seen,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(()),
            Err(errno) => return Err(gone(&errno.into())),
        };
        let mut whole = 0;
        let nonsense = |what: &str| InjectError::Failed(format!("the compositor sent {what}"));
        while let Some((event, size)) = first(self.seen.get(whole..seen).unwrap_or_default()).map_err(nonsense)? {
            hear(event)?;
            whole += size;
        }
        if whole < seen {
            // After a whole one it is another's half.
            let half_by = half_by.filter(|_| whole == 0).unwrap_or(now_ns.saturating_add(HALF_NS));
            if now_ns >= half_by {
                return Err(nonsense("half of a message"));
            }
            self.half_by = Some(half_by);
        }
        while whole > 0 {
            let heard = self.seen.get_mut(..whole).unwrap_or_default();
            match receive(&self.fd, heard, MsgFlags::empty()) {
                Ok(0) => return Err(gone(&io::Error::from(io::ErrorKind::UnexpectedEof))),
                Ok(taken) => whole = whole.saturating_sub(taken),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(gone(&errno.into())),
            }
        }
        Ok(())
    }
}

/// Descriptors that come along are not wanted, and the kernel closes them.
fn receive(fd: &OwnedFd, bytes: &mut [u8], flags: MsgFlags) -> Result<usize, Errno> {
    let flags = flags | MsgFlags::MSG_DONTWAIT;
    Ok(recvmsg::<()>(fd.as_raw_fd(), &mut [IoSliceMut::new(bytes)], None, flags)?.bytes)
}

fn gone(error: &io::Error) -> InjectError {
    InjectError::Gone(format!("the compositor closed the connection ({error})"))
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn pair() -> (Socket, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Socket::new(ours.into()), theirs)
    }

    #[test]
    fn requests_are_what_the_protocol_says() {
        let mut requests = Requests::default();
        requests.put(7, 3, &[Arg::Uint(9), Arg::Int(-1), Arg::Fixed(-1.5), Arg::Text("abc"), Arg::Text("")]);
        requests.put(1, 0, &[]);
        let (socket, mut theirs) = pair();
        assert!(socket.flush(&mut requests));
        let text = u32::from_ne_bytes(*b"abc\0");
        let expected = words(&[7, 36 << 16 | 3, 9, u32::MAX, -384_i32 as u32, 4, text, 1, 0, 1, 8 << 16]);
        let mut sent = vec![0; expected.len()];
        theirs.read_exact(&mut sent).unwrap();
        assert_eq!(sent, expected);
    }

    #[test]
    fn a_full_socket_takes_all_or_nothing() {
        let (socket, mut theirs) = pair();
        theirs.set_nonblocking(true).unwrap();
        let mut count = 0_u32;
        let mut requests = Requests::default();
        loop {
            (0..100).for_each(|_| requests.put(count, 1, &[Arg::Uint(2)]));
            if !socket.flush(&mut requests) {
                break;
            }
            count += 1;
        }
        assert_eq!(requests.bytes.len(), 1200, "nothing of it was sent");
        let (mut sent, mut bytes) = (0, [0; 4096]);
        while let Ok(read) = theirs.read(&mut bytes) {
            sent += read;
        }
        assert!(count > 0 && sent == count as usize * 1200);
        assert!(socket.flush(&mut requests));
    }

    #[test]
    fn only_whole_events_are_taken_from_the_socket() {
        let (mut socket, mut theirs) = pair();
        let whole = words(&[2, 16 << 16, 5, 6]);
        theirs.write_all(&[&whole[..], &whole[..7]].concat()).unwrap();
        let mut heard = 0;
        let mut read = |socket: &mut Socket| {
            socket.read(0, |mut event| {
                heard += 1;
                assert_eq!((event.object, event.opcode), (2, 0));
                assert_eq!((event.arguments.uint(), event.arguments.uint()), (Some(5), Some(6)));
                assert_eq!(event.arguments.uint(), None);
                Ok(())
            })
        };
        read(&mut socket).unwrap();
        read(&mut socket).unwrap();
        // An heir finds the half where it was.
        let mut socket = Socket::new(socket.fd.try_clone().unwrap());
        theirs.write_all(&whole[7..]).unwrap();
        read(&mut socket).unwrap();
        read(&mut socket).unwrap();
        drop(theirs);
        assert!(matches!(read(&mut socket), Err(InjectError::Gone(_))));
        assert_eq!(heard, 2);
    }

    #[test]
    fn nonsense_is_an_error_and_half_a_message_is_not_waited_for_for_ever() {
        for size in [0_u32, 4, 10] {
            assert!(first(&words(&[1, size << 16])).is_err());
        }
        let text = |words: &[u8]| Arguments(words).text();
        assert_eq!(text(&words(&[3, u32::from_ne_bytes(*b"ab\0\0")])).as_deref(), Some("ab"));
        assert_eq!(text(&words(&[2, u32::from_ne_bytes(*b"abcd")])), None, "no NUL");
        assert_eq!(text(&words(&[0])), None);
        assert_eq!(text(&words(&[u32::MAX, 0])), None);
        let (mut socket, mut theirs) = pair();
        let mut read = |now_ns| socket.read(now_ns, |_| Ok(()));
        let whole = words(&[1, 8 << 16]);
        theirs.write_all(&whole[..1]).unwrap();
        // However often it is looked at, and however slowly more of it comes.
        assert!((0..10_000).all(|now_ns| read(now_ns).is_ok()));
        theirs.write_all(&whole[1..7]).unwrap();
        read(HALF_NS - 1).unwrap();
        // The next has a time of its own.
        theirs.write_all(&[&whole[7..], &whole[..1]].concat()).unwrap();
        read(HALF_NS).unwrap();
        read(2 * HALF_NS - 1).unwrap();
        assert!(matches!(read(2 * HALF_NS), Err(InjectError::Failed(_))));
    }
}
