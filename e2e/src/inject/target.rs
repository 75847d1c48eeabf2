//! One process that is made to do things, and what they are about.

use anyhow::{Context, Result};
use ipc::PlaneKind;
use ipc::sandbox::table::{KILL, TABLE};
use nix::libc;
use xtask::host::Host;
use xtask::stage::Stage;

use super::acts::{Act, Answer, Arg, TOPICS};
use super::{Held, Outcome, handles};

/// What seccomp answers to whatever the table does not have.
pub const REFUSED: Outcome = Outcome::Returned(-(libc::EPERM as i64));

/// Past the last number of any kernel's table.
const NUMBERS: std::ops::Range<u64> = 0..640;
/// uretprobe and uprobe: newer kernels pass them by every filter, and answer whoever calls them from anywhere but the
/// kernel's own trampoline with SIGILL.
const UNFILTERED: [u64; 2] = [335, 336];
/// A call of the x32 ABI has it in its number.
const X32: u64 = 0x4000_0000;
/// Past the last family of sockets.
const FAMILIES: std::ops::Range<u64> = 0..48;
/// How many calls one stop of a plane is used for: clients take a network plane for dead that says nothing for 150 ms.
const AT_ONCE: usize = 48;

/// Who and what the acts of one process are about.
pub struct Target {
    pub itself: i32,
    lumend: i32,
    sibling: i32,
    scratch: String,
    /// An eventfd that a peer has too.
    pub event: u64,
    memory: u64,
}

impl Target {
    /// A plane among all others.
    pub fn plane(host: &Host, stage: &Stage, pid: i32, all: &[i32]) -> Result<Self> {
        let event = handles::shared_event(pid, all)?;
        Ok(Self {
            itself: pid,
            lumend: host.pid(),
            sibling: *all.iter().rfind(|other| **other != pid).context("it is alone")?,
            scratch: stage.path().join("run").display().to_string(),
            event,
            // Some planes close what they have mapped.
            memory: handles::named(pid, "/memfd:").unwrap_or(event),
        })
    }

    /// One that shares nothing, and may write into a directory.
    pub fn anyone(itself: i32, lumend: i32, sibling: i32, scratch: String) -> Self {
        Self { itself, lumend, sibling, scratch, event: 0, memory: 0 }
    }

    fn resolve(&self, held: &mut Held, argument: Arg) -> Result<u64> {
        Ok(match argument {
            Arg::Number(number) => number as u64,
            Arg::Text(text) => {
                let text = text.replace("{lumend}", &self.lumend.to_string()).replace("{scratch}", &self.scratch);
                let text = text.replace("{sibling}", &self.sibling.to_string()) + "\0";
                held.put(text.as_bytes())?
            }
            Arg::Room => held.put(&[0; 512])?,
            Arg::Itself => self.itself as u64,
            Arg::Lumend => self.lumend as u64,
            Arg::Sibling => self.sibling as u64,
            Arg::Link => ipc::plane::LINK_FD as u64,
            Arg::Event => self.event,
            Arg::Memory => self.memory,
        })
    }

    pub fn does(&self, held: &mut Held, act: &Act) -> Result<Outcome> {
        held.wipe();
        let arguments =
            act.arguments.iter().map(|argument| self.resolve(held, *argument)).collect::<Result<Vec<_>>>()?;
        held.call(act.call as u64, &arguments).with_context(|| format!("{act:?}"))
    }

    /// Lets a plane try everything that must be refused, stopped for some milliseconds again and again; returns what was
    /// not.
    pub fn tries_everything(&self, kind: PlaneKind) -> Result<Vec<String>> {
        let mut wrong = self.acts(kind)?;
        for calls in others(kind).chunks(AT_ONCE) {
            let mut held = Held::take(self.itself)?;
            for (number, arguments) in calls {
                let outcome = held.call(*number, arguments)?;
                if outcome != REFUSED {
                    wrong.push(format!("call {number:#x} {arguments:?}: {outcome:?}"));
                }
            }
            // The same probe must be able to succeed, or it would prove nothing.
            let room = held.put(&[0; 16])?;
            if held.call(libc::SYS_clock_gettime as u64, &[1, room])? != Outcome::Returned(0) {
                wrong.push("it cannot even read the clock".to_owned());
            }
            held.release()?;
        }
        Ok(wrong)
    }

    fn acts(&self, kind: PlaneKind) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        let acts: Vec<&Act> = TOPICS.iter().flat_map(|topic| topic.acts).collect();
        for acts in acts.chunks(AT_ONCE) {
            let mut held = Held::take(self.itself)?;
            for act in acts {
                let outcome = self.does(&mut held, act)?;
                if !is(act.answer_of(kind), outcome) {
                    wrong.push(format!("{} {:?}: {outcome:?}", act.name, act.arguments));
                }
                // What it could make it gives back.
                if let (Answer::Works, Outcome::Returned(made)) = (act.answer_of(kind), outcome) {
                    held.call(libc::SYS_close as u64, &[made as u64])?;
                }
            }
            held.release()?;
        }
        Ok(wrong)
    }
}

/// Every kind of socket, and every other number that the plane does not have, in both tables that the instruction reaches.
fn others(kind: PlaneKind) -> Vec<(u64, [u64; 2])> {
    let shapes = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET].map(|shape| shape as u64);
    let sockets = FAMILIES.flat_map(|family| shapes.map(|shape| (libc::SYS_socket as u64, [family, shape])));
    let has = |number: u64| TABLE.iter().any(|line| line.call as u64 == number && line.planes.has(kind));
    let kills = |number: u64| KILL.iter().any(|(call, _)| *call as u64 == number) || UNFILTERED.contains(&number);
    let numbers = NUMBERS.filter(|number| !has(*number) && !kills(*number));
    let numbers = numbers.chain(NUMBERS.map(|number| number | X32)).map(|number| (number, [0, 0]));
    sockets.chain(numbers).collect()
}

fn is(answer: Answer, outcome: Outcome) -> bool {
    match (answer, outcome) {
        (Answer::Refused, outcome) => outcome == REFUSED,
        (Answer::Absent, Outcome::Returned(value)) => value == -i64::from(libc::ENOSYS),
        (Answer::Fails(errno), Outcome::Returned(value)) => value == -i64::from(errno),
        (Answer::Works, Outcome::Returned(value)) => value >= 0,
        (_, Outcome::Killed(_)) => false,
    }
}
