//! What a plane in bad hands would try, as a table: each act is one system call with its arguments, and what must come of
//! it. `docs/sandbox.md` shows the same table.
//!
//! [`TOPICS`] is refused, or harmless where a plane needs it; [`LETHAL`] kills the plane that tries it. Every act but
//! those marked `anyway` is also tried in an ordinary process of the same user, where the sandbox is not: what fails there
//! too would prove nothing about a plane.

mod kernel;
mod paths;
mod processes;

use ipc::PlaneKind;
use nix::libc::{self, c_long};

/// One argument of a call. What differs from process to process is filled in when the act is done.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    Number(i64),
    /// The address of this text; `{lumend}`, `{sibling}` and `{scratch}` stand for two pids and a writable directory.
    Text(&'static str),
    /// The address of 512 zero bytes.
    Room,
    /// The process itself, the host's lumend, a plane of another session.
    Itself,
    Lumend,
    Sibling,
    /// The descriptor of its link, of an eventfd that a peer has too, of memory that lumend handed it.
    Link,
    Event,
    Memory,
}

/// What the kernel must answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// EPERM: seccomp's answer to what the table does not have.
    Refused,
    /// ENOSYS, so that libraries fall back.
    Absent,
    /// The plane needs the call, and the kernel refuses this use of it.
    Fails(i32),
    /// The plane needs the call, and this use of it harms nobody.
    Works,
}

/// One thing to try.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    pub name: &'static str,
    pub call: c_long,
    pub arguments: &'static [Arg],
    pub answer: Answer,
    /// Where another answer is right.
    pub except: Option<(PlaneKind, Answer)>,
    pub elsewhere: Elsewhere,
}

/// What an ordinary process of the same user gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Elsewhere {
    /// Anything but EPERM.
    Otherwise,
    /// The same: it takes a privilege, or a kernel feature that is not everywhere.
    Same,
    /// Not tried: it would leave a process that nobody can account for, or needs a plane's descriptors.
    Untried,
}

impl Act {
    pub fn answer_of(&self, plane: PlaneKind) -> Answer {
        match self.except {
            Some((kind, answer)) if kind == plane => answer,
            _ => self.answer,
        }
    }

    const fn except(self, plane: PlaneKind, answer: Answer) -> Self {
        Self { except: Some((plane, answer)), ..self }
    }

    const fn anyway(self) -> Self {
        Self { elsewhere: Elsewhere::Same, ..self }
    }

    const fn alone(self) -> Self {
        Self { elsewhere: Elsewhere::Untried, ..self }
    }
}

/// Acts with one aim.
#[derive(Clone, Copy, Debug)]
pub struct Topic {
    pub aim: &'static str,
    pub acts: &'static [Act],
}

const fn act(name: &'static str, call: c_long, arguments: &'static [Arg]) -> Act {
    Act { name, call, arguments, answer: Answer::Refused, except: None, elsewhere: Elsewhere::Otherwise }
}

const fn n(number: i64) -> Arg {
    Arg::Number(number)
}

const CWD: Arg = n(libc::AT_FDCWD as i64);

/// Everything that must fail or harm nobody.
pub const TOPICS: &[Topic] = &[
    Topic { aim: "open, make or list a file", acts: paths::OPEN },
    Topic { aim: "learn of or change a path", acts: paths::CHANGE },
    Topic { aim: "change what paths mean", acts: paths::MOUNT },
    Topic { aim: "make a socket's end, or give one an address", acts: paths::SOCKETS },
    Topic { aim: "start a process or a thread", acts: processes::FORK },
    Topic { aim: "reach another process", acts: processes::REACH },
    Topic { aim: "gain or loosen privileges", acts: processes::PRIVILEGE },
    Topic { aim: "make code that can run", acts: kernel::CODE },
    Topic { aim: "change what a peer shares", acts: kernel::SHARED },
    Topic { aim: "make a descriptor out of nothing", acts: kernel::DESCRIPTORS },
    Topic { aim: "reach rarely used parts of the kernel", acts: kernel::SURFACE },
];

/// What kills the plane that tries it, with SIGSYS.
pub const LETHAL: &[Act] = &[
    act("execve", libc::SYS_execve, &[Arg::Text("/bin/true"), n(0), n(0)]),
    act("execveat", libc::SYS_execveat, &[CWD, Arg::Text("/bin/true"), n(0), n(0), n(0)]),
    act("ptrace", libc::SYS_ptrace, &[n(libc::PTRACE_SEIZE as i64), Arg::Sibling, n(0), n(0)]),
    act("process_vm_readv", libc::SYS_process_vm_readv, &[Arg::Lumend, Arg::Room, n(1), Arg::Room, n(1), n(0)]),
    act("process_vm_writev", libc::SYS_process_vm_writev, &[Arg::Lumend, Arg::Room, n(1), Arg::Room, n(1), n(0)]),
    act("bpf", libc::SYS_bpf, &[n(0), Arg::Room, n(72)]),
    act("keyctl", libc::SYS_keyctl, &[n(0), n(-3), n(1)]),
    act("add_key", libc::SYS_add_key, &[Arg::Text("user"), Arg::Text("x"), Arg::Room, n(1), n(-3)]),
    act("request_key", libc::SYS_request_key, &[Arg::Text("user"), Arg::Text("x"), n(0), n(-3)]),
    act("io_uring_setup", libc::SYS_io_uring_setup, &[n(1), Arg::Room]),
    act("io_uring_enter", libc::SYS_io_uring_enter, &[Arg::Link, n(1), n(0), n(0)]),
    act("io_uring_register", libc::SYS_io_uring_register, &[Arg::Link, n(0), n(0), n(0)]),
];

/// Rows of the table in `docs/sandbox.md`.
pub fn markdown() -> String {
    let mut text = String::from("| to | it tries | and |\n|---|---|---|\n");
    for topic in TOPICS {
        let mut outcome = vec!["is refused".to_owned()];
        for act in topic.acts {
            let note = match (act.answer, act.except) {
                (Answer::Refused, None) => continue,
                (_, Some((kind, Answer::Works))) => format!("{kind} may `{}`", act.name),
                (_, Some((kind, Answer::Absent))) => format!("{kind} is told that `{}` does not exist", act.name),
                (_, Some((kind, Answer::Fails(_)))) => format!("{kind}'s `{}` comes to nothing", act.name),
                (answer, _) => format!("`{}` {answer:?}", act.name),
            };
            if !outcome.contains(&note) {
                outcome.push(note);
            }
        }
        text += &format!("| {} | {} | {} |\n", topic.aim, names(topic.acts), outcome.join("; "));
    }
    text += &format!("| do what no plane has reason to | {} | dies of SIGSYS, alone |\n", names(LETHAL));
    text
}

fn names(acts: &[Act]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for act in acts {
        if !names.contains(&act.name) {
            names.push(act.name);
        }
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_shows_this_table() {
        crate::documented("docs/sandbox.md", "acts", &markdown(), "acts");
    }

    #[test]
    fn what_kills_is_what_the_sandbox_says_kills() {
        let tried: Vec<c_long> = LETHAL.iter().map(|act| act.call).collect();
        let meant: Vec<c_long> = ipc::sandbox::table::KILL.iter().map(|(call, _)| *call).collect();
        assert_eq!(tried.len(), meant.len());
        assert!(meant.iter().all(|call| tried.contains(call)));
    }
}
