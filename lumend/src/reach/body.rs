//! A process that lumend holds, whoever has started it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, ExitStatus};

use ipc::link::{Credentials, Link};
use nix::poll::PollFlags;

use super::child::Linked;
use super::served::Served;

#[derive(Debug)]
pub enum Body {
    Child { child: Child, pidfd: OwnedFd },
    Served(Served),
}

/// What is left of a process.
#[derive(Debug)]
pub enum End {
    Status(ExitStatus),
    /// Nobody says how it ended.
    Unknown,
    /// It never spoke.
    Unmet,
    /// It lives on, out of reach.
    Abandoned,
}

impl Body {
    pub fn spawn(command: Command) -> io::Result<(Link, Self)> {
        let Linked { link, child, pidfd } = Linked::spawn(command)?;
        Ok((link, Self::Child { child, pidfd }))
    }

    /// None until a process that lumend has not started itself has spoken.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::Child { child, .. } => Some(child.id()),
            Self::Served(served) => served.pid(),
        }
    }

    /// What to poll for its end, and how: then it is to be reaped.
    pub fn pidfd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match self {
            Self::Child { pidfd, .. } => Some((pidfd.as_fd(), PollFlags::POLLIN)),
            Self::Served(served) => served.pidfd(),
        }
    }

    /// When it is to be reaped although nothing is there to poll; `closed` says that its link is.
    pub fn deadline(&self, closed: bool) -> Option<u64> {
        match self {
            Self::Child { .. } => None,
            Self::Served(served) => served.deadline(closed),
        }
    }

    /// Whether a message on its link comes from it, and not from any other process.
    pub fn hear(&mut self, link: &Link, sender: Credentials, pidfd: Option<OwnedFd>) -> Result<(), &'static str> {
        match self {
            Self::Child { child, .. } if sender.pid.cast_unsigned() == child.id() => Ok(()),
            Self::Child { .. } => Err("it was sent by another process"),
            Self::Served(served) => served.hear(link, sender, pidfd),
        }
    }

    /// After its link has been closed.
    pub fn kill(&mut self, now: u64) {
        match self {
            // An error would mean that it has ended, which is what is wanted.
            Self::Child { child, .. } => drop(child.kill()),
            Self::Served(served) => served.kill(now),
        }
    }

    /// The process, if it was somebody else who started it and it has spoken.
    pub fn into_served(self) -> Option<(u32, OwnedFd, bool)> {
        match self {
            Self::Child { .. } => None,
            Self::Served(served) => served.into_process(),
        }
    }

    /// The process, if it does not die with lumend, and it is certain which it is.
    pub fn outlives(&self) -> Option<(u32, BorrowedFd<'_>)> {
        match self {
            Self::Child { .. } => None,
            Self::Served(served) => served.process(),
        }
    }

    /// Its end, if it has ended or is given up.
    pub fn reap(&mut self, closed: bool, now: u64) -> Option<End> {
        match self {
            Self::Child { child, .. } => match child.try_wait() {
                Ok(status) => status.map(End::Status),
                Err(_) => Some(End::Unknown),
            },
            Self::Served(served) => served.reap(closed, now),
        }
    }
}
