//! Starting planes and keeping hold of them: a link, a process, and a pidfd that says when it has ended.

mod body;
mod child;
mod leftover;
mod pidfd;
mod served;
mod strays;

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ExitStatus, Stdio};

use ipc::codec::Message;
use ipc::link::{Link, LinkError};
use ipc::plane::EXIT_REOPEN;
use ipc::{Hello, Leaving, PlaneKind, SessionId};
use nix::poll::PollFlags;

pub use self::body::{Body, End};
pub use self::child::{Binaries, MissingBinary, above_link, command, dies_with_us};
pub use self::leftover::{end as end_leftovers, is_name as is_of_plane};
pub use self::pidfd::open as pidfd_open;
pub use self::served::{NoManager, Sockets};
pub use self::strays::{Stray, Strays};
use crate::grumbles::Grumbles;
use crate::machine::Exit;
use crate::rate::Rate;

/// Messages of one plane at once and in the long run. The busiest says a few a second for each of sixteen sessions, and
/// what a link holds may all come at once after lumend was stopped for a while.
const TALK_BURST: u32 = 1024;
const TALK_PER_SECOND: u32 = 256;

/// Who starts planes.
#[derive(Debug)]
pub enum Starter {
    /// lumend itself.
    Parent(Binaries),
    /// A service manager, for each connection.
    Manager(Sockets),
}

impl Starter {
    /// The service manager, where there is one.
    pub const fn manager(&self) -> Option<&Sockets> {
        match self {
            Self::Parent(_) => None,
            Self::Manager(sockets) => Some(sockets),
        }
    }
}

/// A living process of a plane.
#[derive(Debug)]
pub struct Reach {
    pub kind: PlaneKind,
    pub session: Option<SessionId>,
    /// None once it is closed, by either side.
    link: Option<Link>,
    body: Body,
    /// What it said of itself, once checked.
    pub hello: Option<Hello>,
    /// Why it leaves, says the plane. Of what the kernel says as well, that counts.
    leaving: Option<Leaving>,
    /// By lumend, which has said why.
    pub killed: bool,
    /// It was found to break a rule: by lumend, or by the kernel, which ended it for a system call.
    pub broke: bool,
    /// It was given up although it lives.
    pub abandoned: bool,
    /// Its stderr; that of a plane which lumend has not started goes elsewhere.
    pub grumbles: Option<Grumbles>,
    /// Of messages.
    talk: Rate,
}

impl Reach {
    pub fn start(starter: &Starter, kind: PlaneKind, session: Option<SessionId>, now: u64) -> io::Result<Self> {
        match starter {
            Starter::Parent(binaries) => Self::spawn(binaries, kind, session, now),
            Starter::Manager(sockets) => {
                let (link, body) = sockets.plane(kind)?;
                Ok(Self::new(kind, session, link, body, None, now))
            }
        }
    }

    /// Starts a plane with nothing but its link and a stderr: no arguments, no environment, no other descriptor.
    pub fn spawn(binaries: &Binaries, kind: PlaneKind, session: Option<SessionId>, now: u64) -> io::Result<Self> {
        let (grumbles, stderr) = Grumbles::pipe(now)?;
        let mut command = command(binaries.get(kind));
        command.arg0(ipc::plane::name(kind)).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        dies_with_us(&mut command);
        let (link, body) = Body::spawn(command)?;
        Ok(Self::new(kind, session, link, body, Some(grumbles), now))
    }

    fn new(
        kind: PlaneKind,
        session: Option<SessionId>,
        link: Link,
        body: Body,
        grumbles: Option<Grumbles>,
        now: u64,
    ) -> Self {
        let talk = Rate::new(now, TALK_BURST, TALK_PER_SECOND);
        Self {
            kind,
            session,
            link: Some(link),
            body,
            hello: None,
            leaving: None,
            killed: false,
            broke: false,
            abandoned: false,
            grumbles,
            talk,
        }
    }

    /// None until a plane that lumend has not started itself has spoken.
    pub fn pid(&self) -> Option<u32> {
        self.body.pid()
    }

    /// What to poll for its end, and how: then it is to be reaped.
    pub fn pidfd(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        self.body.pidfd()
    }

    /// When it is to be reaped although nothing is there to poll.
    pub fn deadline(&self) -> Option<u64> {
        self.body.deadline(self.link.is_none())
    }

    pub fn link(&self) -> Option<&Link> {
        self.link.as_ref()
    }

    /// The order to stop.
    pub fn close(&mut self) {
        self.link = None;
    }

    /// Sends without waiting; a link that is closed already swallows the message, as its end is on its way.
    pub fn send<M: Message>(&self, message: M) -> Result<(), LinkError> {
        self.link.as_ref().map_or(Ok(()), |link| link.send(message))
    }

    /// Takes the next message. Words of any other process than the one that was started are a violation, and so is
    /// talk without end, which would keep lumend from its work.
    pub fn recv<M: Message>(&mut self, now: u64) -> Result<Option<M>, LinkError> {
        let Some(link) = &self.link else { return Ok(None) };
        let Some(received) = link.recv::<M>()? else { return Ok(None) };
        if !self.talk.take(now) {
            return Err(LinkError::Malformed("it talks without end"));
        }
        self.body.hear(link, received.sender, received.pidfd).map_err(LinkError::Malformed)?;
        Ok(Some(received.message))
    }

    /// Checks the first message. The error is the reason to kill it.
    pub fn greet(&mut self, hello: Hello) -> Result<(), String> {
        if hello.kind != self.kind {
            return Err(format!("a {} plane answers in its place", hello.kind));
        }
        if hello.build != ipc::BUILD {
            let build = hello.build.escape_debug();
            return Err(format!("it is build {build}, lumend is {}: install both of one build", ipc::BUILD));
        }
        self.hello = Some(hello);
        Ok(())
    }

    /// Its last word.
    pub fn leaves(&mut self, leaving: Leaving) {
        self.leaving = Some(leaving);
    }

    pub fn kill(&mut self, now: u64) {
        self.link = None;
        self.killed = true;
        self.body.kill(now);
    }

    /// What is left of it after it has been reaped: the process itself, if it was given up.
    pub fn into_stray(self) -> Option<Stray> {
        let (pid, pidfd, certain) = self.body.into_served().filter(|_| self.abandoned)?;
        Some(Stray { kind: self.kind, session: self.session, pid, pidfd, certain })
    }

    /// What a service manager is to keep of it, so that a successor of lumend's can end it: a name and its process.
    pub fn for_successor(&self) -> Option<(String, BorrowedFd<'_>)> {
        self.body.outlives().map(|(pid, pidfd)| (leftover::name(self.kind, pid), pidfd))
    }

    /// Takes the exit status, if it has ended.
    pub fn reap(&mut self, now: u64) -> Option<Exit> {
        let (status, otherwise) = match self.body.reap(self.link.is_none(), now)? {
            End::Status(status) => (Some(status), String::new()),
            End::Unknown => (None, "it ended without a word".into()),
            End::Unmet => (None, format!("it never spoke; the journal of lumen-{}@ may tell", self.kind.name())),
            End::Abandoned => {
                self.abandoned = true;
                (None, "it cannot be killed from here, and lives on".into())
            }
        };
        self.broke |= status.is_some_and(|status| status.signal() == Some(libc::SIGSYS));
        Some(match (status, self.leaving.take()) {
            // Of a child's stderr the log has the reason already.
            (Some(status), Some(Leaving::Failed(reason))) if status.code() == Some(1) && self.grumbles.is_none() => {
                Exit::Crashed(reason)
            }
            (Some(status), Some(Leaving::Accuses { peer, reason })) if status.code() == Some(1) => {
                Exit::Accuses { peer, reason }
            }
            (Some(status), _) => exit(status),
            (None, Some(Leaving::Reopen)) => Exit::Reopen,
            (None, Some(Leaving::Failed(reason))) => Exit::Crashed(reason),
            (None, Some(Leaving::Accuses { peer, reason })) => Exit::Accuses { peer, reason },
            (None, None) => Exit::Crashed(otherwise),
        })
    }
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(0), _) => Exit::Stopped,
        (Some(code), _) if code == i32::from(EXIT_REOPEN) => Exit::Reopen,
        (Some(code), _) => Exit::Crashed(format!("exit status {code}")),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(name) => Exit::Crashed(name.as_str().to_owned()),
            Err(_) => Exit::Crashed(format!("signal {signal}")),
        },
        (None, None) => Exit::Crashed(status.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollTimeout, poll};

    use super::*;

    #[test]
    fn what_dies_of_a_forbidden_system_call_broke_a_rule_and_what_is_killed_did_not() {
        for (signal, broke) in [("SYS", true), ("KILL", false), ("SEGV", false)] {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", &format!("kill -{signal} $$")]).stdin(Stdio::null());
            let (link, body) = Body::spawn(command).unwrap();
            let mut reach = Reach::new(PlaneKind::Input, None, link, body, None, 0);
            let (pidfd, what) = reach.pidfd().unwrap();
            assert_eq!(poll(&mut [PollFd::new(pidfd, what)], PollTimeout::from(10_000_u16)), Ok(1));
            assert_eq!(reach.reap(0), Some(Exit::Crashed(format!("SIG{signal}"))));
            assert_eq!(reach.broke, broke, "{signal}");
        }
    }
}
