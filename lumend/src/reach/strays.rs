//! Planes that lumend has given up without having seen their end: of another user, where it may not kill them. Nothing is
//! left to it but to say so for as long as they live.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use ipc::{PlaneKind, SessionId};
use serde_json::{Value, json};

use super::served::lives;

/// So many are told of; of more, the oldest are only counted.
const MOST: usize = 32;

/// One of them.
#[derive(Debug)]
pub struct Stray {
    pub kind: PlaneKind,
    pub session: Option<SessionId>,
    pub pid: u32,
    /// Tells when it has ended after all.
    pub pidfd: OwnedFd,
}

/// All of them that live.
#[derive(Debug, Default)]
pub struct Strays {
    list: VecDeque<Stray>,
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
        let stray = Stray { kind: PlaneKind::Encode, session: Some(SessionId(2)), pid: child.id(), pidfd };
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
        let mut children: Vec<_> = (0..MOST)
            .map(|_| {
                let (child, one) = stray();
                strays.add(one);
                child
            })
            .collect();
        let mut first = children.remove(0);
        first.kill().unwrap();
        first.wait().unwrap();
        for forgotten in [0, 1] {
            let (child, one) = stray();
            children.push(child);
            strays.add(one);
            assert_eq!((strays.list.len(), strays.forgotten), (MOST, forgotten));
        }
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
