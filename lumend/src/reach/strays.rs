//! Planes that lumend, or one before it, has given up without having seen their end: of another user, where it may not kill
//! them. Nothing is left to it but to say so for as long as they live.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipc::{PlaneKind, SessionId};
use serde_json::{Value, json};

use super::leftover;
use super::served::lives;

/// So many are told of; of more, the oldest are only counted. It is as many as there can be under systemd: of four kinds 64
/// connections to their socket, and of net 8.
const MOST: usize = 4 * 64 + 8;

/// One of them.
#[derive(Debug)]
pub struct Stray {
    pub kind: PlaneKind,
    /// None as well if it was one of an earlier lumend's.
    pub session: Option<SessionId>,
    pub pid: u32,
    /// Tells when it has ended after all.
    pub pidfd: OwnedFd,
    /// It is, and not of another process with that number.
    pub certain: bool,
}

/// All of them that live.
#[derive(Debug, Default)]
pub struct Strays {
    list: VecDeque<Stray>,
    /// Of them nobody knows whether they live, so that it does not go down.
    forgotten: u64,
}

impl Strays {
    pub fn add(&mut self, stray: Stray) {
        self.list.retain(|stray| lives(stray.pidfd.as_fd()));
        if self.list.len() == MOST {
            self.list.pop_front();
            self.forgotten += 1;
        }
        self.list.push_back(stray);
    }

    /// What a service manager is to keep of those that live, as of any other plane.
    pub fn for_successor(&self) -> impl Iterator<Item = (String, BorrowedFd<'_>)> {
        let alive = self.list.iter().filter(|stray| stray.certain && lives(stray.pidfd.as_fd()));
        alive.map(|stray| (leftover::name(stray.kind, stray.pid), stray.pidfd.as_fd()))
    }

    /// For `lumend status --json`.
    pub fn json(&self) -> Value {
        let alive = self.list.iter().filter(|stray| lives(stray.pidfd.as_fd()));
        let list = alive.map(|stray| {
            let session = stray.session.map(|session| session.0);
            json!({ "plane": stray.kind.name(), "session": session, "pid": stray.pid })
        });
        json!({ "planes": list.collect::<Vec<_>>(), "forgotten": self.forgotten })
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command, Stdio};

    use super::super::pidfd;
    use super::*;

    fn stray() -> (Child, Stray) {
        let child = Command::new("/bin/cat").stdin(Stdio::piped()).spawn().unwrap();
        let pidfd = pidfd::open(child.id()).unwrap();
        let stray =
            Stray { kind: PlaneKind::Encode, session: Some(SessionId(2)), pid: child.id(), pidfd, certain: true };
        (child, stray)
    }

    #[test]
    fn they_are_told_of_until_they_end() {
        let mut strays = Strays::default();
        let (mut child, one) = stray();
        strays.add(one);
        let told = json!({ "plane": "encode", "session": 2, "pid": child.id() });
        assert_eq!(strays.json(), json!({ "planes": [told], "forgotten": 0 }));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(strays.json(), json!({ "planes": [], "forgotten": 0 }));
    }

    #[test]
    fn there_is_a_bound_and_the_dead_do_not_count() {
        let mut strays = Strays::default();
        let (mut child, living) = stray();
        let again = || Stray { pidfd: pidfd::open(child.id()).unwrap(), ..living };
        let (mut dead, first) = stray();
        dead.kill().unwrap();
        dead.wait().unwrap();
        strays.add(first);
        (1..MOST).for_each(|_| strays.add(again()));
        for forgotten in [0, 1] {
            strays.add(again());
            assert_eq!((strays.list.len(), strays.forgotten), (MOST, forgotten));
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// What the units allow and what is told of are the same number.
    #[test]
    fn more_than_are_told_of_there_cannot_be_under_systemd() {
        let most = |kind: PlaneKind| -> usize {
            let path = format!("{}/../systemd/system/lumen-{}.socket", env!("CARGO_MANIFEST_DIR"), kind.name());
            let unit = std::fs::read_to_string(path).unwrap();
            let line = unit.lines().find_map(|line| line.strip_prefix("MaxConnections=")).unwrap();
            line.parse().unwrap()
        };
        assert_eq!(PlaneKind::ALL.into_iter().map(most).sum::<usize>(), MOST);
    }
}
