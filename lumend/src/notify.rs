//! What lumend tells the service manager that started it: that it serves, that it lives, what it does, and what
//! to keep for its successor: sockets, and its planes' processes. Nothing of it is waited for.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{BorrowedFd, OwnedFd};

use ipc::notify::Manager;
use nix::sys::stat::fstat;
use tracing::debug;

/// Messages that a manager has not taken yet; of more it misses the newest.
const MOST: usize = 64;
/// Between tries to be rid of them.
const AGAIN: u64 = 50_000_000;
/// Between status texts that differ.
const STATUS_EVERY: u64 = 1_000_000_000;

#[derive(Debug)]
enum Note {
    Lines(String),
    Store { name: String, fd: OwnedFd },
}

/// Speaks only if somebody listens.
#[derive(Debug)]
pub struct Notify {
    manager: Option<Manager>,
    unsent: VecDeque<Note>,
    again_at: Option<u64>,
    is_ready: bool,
    status: String,
    status_at: u64,
    /// Half of the time that the manager gives it between two signs of life.
    alive_every: Option<u64>,
    alive_at: u64,
    /// What the manager keeps: names, and inodes.
    kept: BTreeMap<String, u64>,
}

impl Notify {
    /// Whoever NOTIFY_SOCKET names, with the watchdog of WATCHDOG_USEC and WATCHDOG_PID.
    pub fn from_environment() -> Self {
        let manager = std::env::var_os("NOTIFY_SOCKET")
            .and_then(|name| Manager::connect(&name).map_err(|error| debug!("nobody at NOTIFY_SOCKET: {error}")).ok());
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        // Microseconds; half of them in nanoseconds.
        let alive_every = number("WATCHDOG_USEC").filter(|&time| ours && time > 0).map(|time| time.saturating_mul(500));
        Self { manager, alive_every, ..Self::silent() }
    }

    const fn silent() -> Self {
        Self {
            manager: None,
            unsent: VecDeque::new(),
            again_at: None,
            is_ready: false,
            status: String::new(),
            status_at: 0,
            alive_every: None,
            alive_at: 0,
            kept: BTreeMap::new(),
        }
    }

    /// True until [`Self::ready`], where there is somebody to tell.
    pub const fn is_due(&self) -> bool {
        self.manager.is_some() && !self.is_ready
    }

    pub fn ready(&mut self, now: u64) {
        self.is_ready = true;
        self.tell(now, "READY=1".into());
    }

    pub fn stopping(&mut self, now: u64) {
        self.tell(now, "STOPPING=1".into());
    }

    /// True if a text would be told now.
    pub fn wants_status(&self, now: u64) -> bool {
        self.manager.is_some() && now >= self.status_at
    }

    /// One line for people.
    pub fn status(&mut self, now: u64, text: String) {
        self.status_at = now + STATUS_EVERY;
        if text != self.status {
            self.tell(now, format!("STATUS={text}"));
            self.status = text;
        }
    }

    /// The manager has kept these since an earlier run.
    pub fn has_kept(&mut self, name: &str, fd: BorrowedFd<'_>) {
        // Two of one name are none: they are removed together.
        let inode = if self.kept.contains_key(name) { 0 } else { inode(fd).unwrap_or(0) };
        self.kept.insert(name.to_owned(), inode);
    }

    /// The manager is to keep just these, each under its name. What it cannot be told now it is told the next time.
    pub fn keep<N: AsRef<str>>(&mut self, now: u64, wanted: &[(N, BorrowedFd<'_>)]) {
        if self.manager.is_none() {
            return;
        }
        let unwanted = self.kept.keys().filter(|name| !wanted.iter().any(|(wanted, _)| wanted.as_ref() == *name));
        for name in unwanted.cloned().collect::<Vec<_>>() {
            self.remove(now, &name);
        }
        for (name, fd) in wanted {
            let (name, Some(inode)) = (name.as_ref(), inode(*fd)) else { continue };
            if self.kept.get(name) == Some(&inode) || !self.remove(now, name) {
                continue;
            }
            let Ok(fd) = fd.try_clone_to_owned() else { continue };
            if self.send(now, Note::Store { name: name.to_owned(), fd }) {
                self.kept.insert(name.to_owned(), inode);
            }
        }
    }

    /// False if the manager still has it, and there is no room to tell it.
    fn remove(&mut self, now: u64, name: &str) -> bool {
        let gone =
            !self.kept.contains_key(name) || self.send(now, Note::Lines(format!("FDSTOREREMOVE=1\nFDNAME={name}")));
        if gone {
            self.kept.remove(name);
        }
        gone
    }

    /// When to [`Self::tick`].
    pub fn deadline(&self) -> Option<u64> {
        let alive = self.alive_every.filter(|_| self.manager.is_some()).map(|_| self.alive_at);
        [alive, self.again_at].into_iter().flatten().min()
    }

    pub fn tick(&mut self, now: u64) {
        if let Some(every) = self.alive_every
            && now >= self.alive_at
        {
            self.alive_at = now + every;
            self.tell(now, "WATCHDOG=1".into());
        }
        if self.again_at.is_some_and(|at| now >= at) {
            self.flush(now);
        }
    }

    fn tell(&mut self, now: u64, lines: String) {
        self.send(now, Note::Lines(lines));
    }

    /// False if there is no room.
    fn send(&mut self, now: u64, note: Note) -> bool {
        let room = self.manager.is_some() && self.unsent.len() < MOST;
        if room {
            self.unsent.push_back(note);
            self.flush(now);
        }
        room
    }

    fn flush(&mut self, now: u64) {
        self.again_at = None;
        let Some(manager) = &self.manager else { return };
        while let Some(note) = self.unsent.front() {
            let sent = match note {
                Note::Lines(lines) => manager.tell(lines),
                Note::Store { name, fd } => fd.try_clone().and_then(|fd| manager.store(name, fd)),
            };
            match sent {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.again_at = Some(now + AGAIN);
                    return;
                }
                Err(error) => debug!("the service manager is not told: {error}"),
                Ok(()) => {}
            }
            self.unsent.pop_front();
        }
    }
}

fn inode(fd: BorrowedFd<'_>) -> Option<u64> {
    fstat(fd).ok().map(|stat| stat.st_ino)
}

#[cfg(test)]
pub mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    /// One with a manager that hears nothing until it is asked to.
    pub fn notify(name: &str) -> (Notify, UnixDatagram) {
        let path = std::env::temp_dir().join(format!("lumen-notify-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notify = Notify { manager: Some(Manager::connect(path.as_os_str()).unwrap()), ..Notify::silent() };
        std::fs::remove_file(&path).unwrap();
        (notify, socket)
    }

    /// What the manager has been told since.
    pub fn told(socket: &UnixDatagram) -> Vec<String> {
        let mut text = [0; 1000];
        std::iter::from_fn(|| {
            let length = socket.recv(&mut text).ok()?;
            Some(String::from_utf8_lossy(&text[..length]).into_owned())
        })
        .collect()
    }

    #[test]
    fn a_status_is_told_when_it_changes_and_not_too_often() {
        let (mut notify, socket) = notify("status");
        assert!(notify.is_due() && notify.wants_status(0));
        notify.ready(0);
        notify.status(0, "a".into());
        assert!(!notify.is_due() && !notify.wants_status(STATUS_EVERY - 1));
        notify.status(STATUS_EVERY, "a".into());
        notify.status(2 * STATUS_EVERY, "b".into());
        assert_eq!(told(&socket), ["READY=1", "STATUS=a", "STATUS=b"]);
    }

    #[test]
    fn signs_of_life_come_twice_as_often_as_they_must() {
        let (notify, socket) = notify("alive");
        assert_eq!(notify.deadline(), None);
        let mut notify = Notify { alive_every: Some(5), ..notify };
        for now in 0..11 {
            notify.tick(now);
        }
        assert_eq!((told(&socket), notify.deadline()), (vec!["WATCHDOG=1".to_owned(); 3], Some(15)));
    }

    #[test]
    fn a_socket_is_stored_once_and_another_in_its_place() {
        let (mut notify, socket) = notify("store");
        let [one, two] = [(); 2].map(|()| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        notify.has_kept("a", one.as_fd());
        notify.has_kept("old", two.as_fd());
        notify.keep(0, &[("a", one.as_fd()), ("b", two.as_fd())]);
        notify.keep(0, &[("a", one.as_fd()), ("b", two.as_fd())]);
        let stored = "FDSTORE=1\nFDNAME=b\nFDPOLL=0";
        assert_eq!(told(&socket), ["FDSTOREREMOVE=1\nFDNAME=old", stored]);
        notify.keep(0, &[("a", one.as_fd()), ("b", one.as_fd())]);
        assert_eq!(told(&socket), ["FDSTOREREMOVE=1\nFDNAME=b", stored]);
        // Two of one name cannot be told apart.
        notify.has_kept("a", one.as_fd());
        notify.keep(0, &[("a", one.as_fd()), ("b", one.as_fd())]);
        assert_eq!(told(&socket), ["FDSTOREREMOVE=1\nFDNAME=a", "FDSTORE=1\nFDNAME=a\nFDPOLL=0"]);
        assert_eq!(notify.kept.len(), 2);
    }

    #[test]
    fn a_manager_that_does_not_listen_is_not_waited_for_and_hears_it_later() {
        let (mut notify, socket) = notify("deaf");
        let file = File::open("/dev/null").unwrap();
        notify.keep(0, &[("a", file.as_fd())]);
        for index in 0..2 * MOST {
            notify.tell(0, format!("STATUS={index}"));
        }
        assert!(notify.unsent.len() <= MOST);
        let Some(again_at) = notify.deadline() else {
            return assert!(told(&socket).len() > 2 * MOST, "a queue so long that there was nothing to wait for");
        };
        let heard = told(&socket);
        assert_eq!(heard[1], "STATUS=0");
        notify.tick(again_at);
        assert_eq!(told(&socket)[0], format!("STATUS={}", heard.len() - 1));
    }

    #[test]
    fn what_there_was_no_room_to_keep_is_kept_the_next_time() {
        let (mut notify, socket) = notify("no-room");
        let file = File::open("/dev/null").unwrap();
        let names: Vec<_> = (0..8 * MOST).map(|index| format!("lumen-plane-encode-{index}")).collect();
        let wanted: Vec<_> = names.iter().map(|name| (name, file.as_fd())).collect();
        let mut stored = std::collections::BTreeSet::new();
        for _ in 0..9 {
            notify.keep(0, &wanted);
            while let Some(at) = notify.deadline() {
                stored.extend(told(&socket));
                notify.tick(at);
            }
            stored.extend(told(&socket));
        }
        assert_eq!((stored.len(), notify.kept.len()), (names.len(), names.len()));
    }

    #[test]
    fn nobody_is_told_nothing() {
        let mut notify = Notify::silent();
        notify.ready(0);
        notify.status(0, "a".into());
        assert!(!notify.is_due() && !notify.wants_status(9) && notify.unsent.is_empty() && notify.deadline().is_none());
    }
}
