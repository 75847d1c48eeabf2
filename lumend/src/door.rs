//! The control socket's inner side: one line in, one line out, and nobody who connects can make lumend wait. An answer
//! may be held back until what it depends on has happened.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use ipc::ctl::{CtlReply, CtlRequest, HOLD, MAX_REQUEST, SOCKET};
use nix::poll::PollFlags;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, getsockopt, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Uid, geteuid};

/// Connections at a time; one more is closed at once.
const VISITORS: usize = 16;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// From connecting to having read the answer.
const STAY: u64 = 5_000_000_000;

/// A control socket that cannot be made. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    #[error("another lumend runs on {}: stop it, or give this one another directory with --runtime", .0.display())]
    Taken(PathBuf),
    #[error("cannot make {}: {error}; name a writable directory with --runtime", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// The same, for one whose answer is held back and has to be read too.
const LONG_STAY: u64 = HOLD.as_nanos() as u64 + STAY / 2;

/// Names a connection while it lasts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct VisitorId(u64);

#[cfg(test)]
impl VisitorId {
    pub const fn of_test(number: u64) -> Self {
        Self(number)
    }
}

#[derive(Debug)]
struct Visitor {
    id: VisitorId,
    stream: UnixStream,
    request: Vec<u8>,
    /// What is left to write; none while the request is incomplete, or the answer held back.
    reply: Option<(Vec<u8>, usize)>,
    /// The request is complete, and will be answered later.
    held: bool,
    until: u64,
}

/// The listener and its visitors.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
    path: PathBuf,
    visitors: Vec<Visitor>,
    last: u64,
    /// Connections closed without an answer: strangers, too many, too slow.
    pub turned_away: u64,
}

impl Door {
    /// Makes the socket, for its owner alone, in a directory that exists.
    pub fn open(runtime: &Path) -> Result<Self, DoorError> {
        let path = runtime.join(SOCKET);
        let fail = |error| DoorError::Io { path: path.clone(), error };
        if UnixStream::connect(&path).is_ok() {
            return Err(DoorError::Taken(path));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        let listener = listen_for_owner(&path).map_err(fail)?;
        Ok(Self { listener, path, visitors: Vec::new(), last: 0, turned_away: 0 })
    }

    pub fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Each connection that has something to do, and what that is: to write, or else to read. Of those who wait for an
    /// answer, or have not taken it, nothing is to be heard: one who has said all may have closed that half, and need
    /// not have gone; waiting to read would end at once, for as long as it stays.
    pub fn visitors(&self) -> impl Iterator<Item = (VisitorId, BorrowedFd<'_>, PollFlags)> {
        let busy = self.visitors.iter().filter(|visitor| !visitor.held || visitor.reply.is_some());
        busy.map(|visitor| {
            let what = if visitor.reply.is_some() { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            (visitor.id, visitor.stream.as_fd(), what)
        })
    }

    pub fn deadline(&self) -> Option<u64> {
        self.visitors.iter().map(|visitor| visitor.until).min()
    }

    /// Sends those away whose time is up.
    pub fn tick(&mut self, now: u64) {
        let before = self.visitors.len();
        self.visitors.retain(|visitor| now < visitor.until);
        self.turned_away += (before - self.visitors.len()) as u64;
    }

    /// Takes one connection in, if it is of this user or root.
    pub fn accept(&mut self, now: u64) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        let welcome = getsockopt(&stream, PeerCredentials).is_ok_and(|peer| {
            let uid = Uid::from_raw(peer.uid());
            uid == geteuid() || uid.is_root()
        });
        if !welcome || self.visitors.len() >= VISITORS || stream.set_nonblocking(true).is_err() {
            self.turned_away += 1;
            return;
        }
        self.last += 1;
        let id = VisitorId(self.last);
        self.visitors.push(Visitor { id, stream, request: Vec::new(), reply: None, held: false, until: now + STAY });
    }

    /// Reads on; a whole request is handed out, to be answered with [`Door::answer`], or first with [`Door::hold`].
    pub fn read(&mut self, id: VisitorId) -> Option<CtlRequest> {
        let index = self.visitors.iter().position(|visitor| visitor.id == id)?;
        let visitor = &mut self.visitors[index];
        if visitor.held || visitor.reply.is_some() {
            return None;
        }
        let mut part = [0; MAX_REQUEST];
        let room = (MAX_REQUEST + 1).saturating_sub(visitor.request.len()).min(MAX_REQUEST);
        match visitor.stream.read(&mut part[..room]) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return None;
            }
            Ok(0) | Err(_) => {
                self.visitors.swap_remove(index);
                self.turned_away += 1;
                return None;
            }
            Ok(length) => visitor.request.extend_from_slice(&part[..length]),
        }
        let line = match visitor.request.iter().position(|&byte| byte == b'\n') {
            Some(end) => &visitor.request[..end],
            None if visitor.request.len() > MAX_REQUEST => &visitor.request[..],
            None => return None,
        };
        match CtlRequest::parse(line) {
            Ok(request) => Some(request),
            Err(reply) => {
                self.answer(id, &reply);
                None
            }
        }
    }

    /// The answer comes later, within [`HOLD`]; one that comes after all that finds nobody.
    pub fn hold(&mut self, id: VisitorId, now: u64) {
        if let Some(visitor) = self.visitors.iter_mut().find(|visitor| visitor.id == id) {
            visitor.held = true;
            visitor.until = now + LONG_STAY;
        }
    }

    /// Answers and closes, as soon as the other side has taken it.
    pub fn answer(&mut self, id: VisitorId, reply: &CtlReply) {
        if let Some(visitor) = self.visitors.iter_mut().find(|visitor| visitor.id == id) {
            visitor.reply = Some((reply.to_line().into_bytes(), 0));
        }
        self.write(id);
    }

    /// Writes on.
    pub fn write(&mut self, id: VisitorId) {
        let Some(index) = self.visitors.iter().position(|visitor| visitor.id == id) else { return };
        let visitor = &mut self.visitors[index];
        let Some((reply, written)) = &mut visitor.reply else { return };
        match visitor.stream.write(&reply[*written..]) {
            Ok(length) => *written += length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return,
            Err(_) => *written = reply.len(),
        }
        if *written >= reply.len() {
            self.visitors.swap_remove(index);
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        // A left-over is removed by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Nobody else can connect at any moment: Linux gives the file the mode that the socket has when it is bound, less the
/// process's umask, which belongs to all of its threads and is left alone.
fn listen_for_owner(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(UnixListener::from(fd))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use nix::poll::{PollFd, PollTimeout, poll};

    use super::*;

    fn runtime(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lumen-door-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn only(door: &Door) -> VisitorId {
        door.visitors().next().unwrap().0
    }

    #[test]
    fn answers_a_request_that_comes_in_pieces() {
        let runtime = runtime("pieces");
        let mut door = Door::open(&runtime).unwrap();
        assert_eq!(fs::metadata(runtime.join(SOCKET)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Door::open(&runtime), Err(DoorError::Taken(_))));
        door.accept(0);
        let mut stream = UnixStream::connect(runtime.join(SOCKET)).unwrap();
        door.accept(0);
        // The probe of the second `open` is gone, and is found to be.
        let ids: Vec<_> = door.visitors().map(|(id, ..)| id).collect();
        ids.iter().for_each(|&id| assert!(door.read(id).is_none()));
        let id = only(&door);
        stream.write_all(b"{\"request\":\"stop\",").unwrap();
        assert!(door.read(id).is_none());
        stream.write_all(b"\"session\":3}\n").unwrap();
        assert_eq!(door.read(id), Some(CtlRequest::Stop { session: ipc::SessionId(3) }));
        door.answer(id, &CtlReply::ok(true));
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, "{\"ok\":true}\n");
        assert_eq!(door.visitors().count(), 0);
        drop(door);
        fs::remove_dir_all(runtime).unwrap();
    }

    #[test]
    fn an_answer_that_is_held_back_comes_or_its_time_ends() {
        let runtime = runtime("held");
        let mut door = Door::open(&runtime).unwrap();
        let ask = |door: &mut Door| {
            let mut stream = UnixStream::connect(runtime.join(SOCKET)).unwrap();
            door.accept(0);
            let id = only(door);
            stream.write_all(b"{\"request\":\"pair\",\"pin\":\"1234\"}\n").unwrap();
            assert!(matches!(door.read(id), Some(CtlRequest::Pair { .. })));
            door.hold(id, STAY / 2);
            (id, stream)
        };
        let (id, mut stream) = ask(&mut door);
        // One who has said all, and shows it, is not gone; nor is the same request heard twice.
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!((door.visitors().count(), door.read(id)), (0, None));
        door.tick(HOLD.as_nanos() as u64);
        door.answer(id, &CtlReply::ok("paired"));
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, "{\"ok\":\"paired\"}\n");

        let (id, mut stream) = ask(&mut door);
        assert!(door.deadline().is_some_and(|at| at > HOLD.as_nanos() as u64));
        door.tick(STAY / 2 + LONG_STAY);
        assert_eq!((door.deadline(), door.turned_away), (None, 1));
        door.answer(id, &CtlReply::ok("paired"));
        assert_eq!(stream.read(&mut [0; 4]).unwrap(), 0);
        drop(door);
        fs::remove_dir_all(runtime).unwrap();
    }

    #[test]
    fn one_who_does_not_read_wakes_nobody() {
        let runtime = runtime("idle");
        let mut door = Door::open(&runtime).unwrap();
        let mut stream = UnixStream::connect(runtime.join(SOCKET)).unwrap();
        door.accept(0);
        let ready = |door: &Door| {
            let (_, fd, what) = door.visitors().next().unwrap();
            let mut polled = [PollFd::new(fd, what)];
            poll(&mut polled, PollTimeout::ZERO).unwrap();
            polled[0].any() == Some(true)
        };
        assert!(!ready(&door), "it has said nothing");
        stream.write_all(b"{\"request\":\"status\"}\nand more").unwrap();
        assert!(ready(&door));
        let id = only(&door);
        assert!(door.read(id).is_some());
        // More than the socket holds, so that some of it has to wait.
        let long = "x".repeat(4 << 20);
        door.answer(id, &CtlReply::ok(long.as_str()));
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(!ready(&door), "what it has said, and that it says no more, is no reason to wake");
        let mut reply = Vec::new();
        while door.visitors().next().is_some() {
            let mut part = vec![0; 1 << 16];
            let length = stream.read(&mut part).unwrap();
            reply.extend_from_slice(&part[..length]);
            door.write(id);
        }
        stream.read_to_end(&mut reply).unwrap();
        assert_eq!(reply.len(), long.len() + "{\"ok\":\"\"}\n".len());
        drop(door);
        fs::remove_dir_all(runtime).unwrap();
    }

    #[test]
    fn garbage_and_sloth_are_bounded() {
        let runtime = runtime("garbage");
        let mut door = Door::open(&runtime).unwrap();
        let mut long = UnixStream::connect(runtime.join(SOCKET)).unwrap();
        door.accept(0);
        let id = only(&door);
        long.write_all(&[b'x'; MAX_REQUEST + 1]).unwrap();
        while door.visitors().count() > 0 {
            assert!(door.read(id).is_none());
        }
        let mut reply = String::new();
        long.read_to_string(&mut reply).unwrap();
        assert!(reply.contains("error"), "{reply}");

        let _crowd: Vec<_> =
            (0..VISITORS + 5).map(|_| (UnixStream::connect(runtime.join(SOCKET)).unwrap(), door.accept(0))).collect();
        assert_eq!((door.visitors().count(), door.turned_away), (VISITORS, 5));
        door.tick(STAY);
        assert_eq!(door.visitors().count(), 0);
        drop(door);
        fs::remove_dir_all(runtime).unwrap();
    }
}
