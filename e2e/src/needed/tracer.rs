//! Follows a lumend's planes through ptrace, from their first instruction, and counts what they do once sealed.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use ipc::PlaneKind;
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{KINDS, Tally};

/// The last of the filters forbids making more of them: a plane with so many is sealed.
const FILTERS: u32 = ipc::sandbox::FILTERS as u32;

/// Of `ptrace_syscall_info`: the stop is on the way in.
const ENTRY: u8 = 1;
const EXIT: u8 = 2;

struct Plane {
    kind: PlaneKind,
    filters: u32,
}

/// Watches until lumend and all that it started, but for programs of no interest, have ended.
pub struct Tracer {
    /// By process.
    planes: BTreeMap<i32, Plane>,
    /// The process of each thread of a plane.
    threads: BTreeMap<i32, i32>,
    /// Threads that are inside seccomp().
    filtering: BTreeMap<i32, ()>,
    tally: Tally,
}

impl Tracer {
    pub fn attach(lumend: i32) -> Result<Self> {
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(Pid::from_raw(lumend), options).context("cannot trace lumend; run this as root")?;
        Ok(Self {
            planes: BTreeMap::new(),
            threads: BTreeMap::new(),
            filtering: BTreeMap::new(),
            tally: Tally::default(),
        })
    }

    /// Runs to the end of lumend.
    pub fn run(mut self) -> Result<Tally> {
        loop {
            let status = match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::__WALL)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => return Ok(self.tally),
                Err(error) => return Err(error.into()),
            };
            match self.stopped(status) {
                // It was killed between the stop and the answer to it.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(error).with_context(|| format!("{status:?}")),
            }
        }
    }

    fn stopped(&mut self, status: WaitStatus) -> Result<(), Errno> {
        match status {
            WaitStatus::PtraceSyscall(pid) => {
                self.syscall(pid)?;
                self.resume(pid, None)
            }
            WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_EXEC) => self.became(pid),
            WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_CLONE) => {
                let new = ptrace::getevent(pid)? as i32;
                if let Some(process) = self.process(pid) {
                    self.threads.insert(new, process);
                }
                self.resume(pid, None)
            }
            WaitStatus::PtraceEvent(pid, ..) => self.resume(pid, None),
            WaitStatus::Stopped(pid, signal) => self.resume(pid, Some(signal)),
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) => {
                self.threads.remove(&pid.as_raw());
                self.filtering.remove(&pid.as_raw());
                if let Some(plane) = self.planes.remove(&pid.as_raw()) {
                    *self.tally.planes.entry(plane.kind.to_string()).or_default() += 1;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn process(&self, thread: Pid) -> Option<i32> {
        let thread = thread.as_raw();
        self.planes.contains_key(&thread).then_some(thread).or_else(|| self.threads.get(&thread).copied())
    }

    /// A plane stops at its next call; lumend, and a child of it that is no plane yet, at its next child.
    fn resume(&self, pid: Pid, signal: Option<nix::sys::signal::Signal>) -> Result<(), Errno> {
        match self.process(pid) {
            Some(_) => ptrace::syscall(pid, signal),
            None => ptrace::cont(pid, signal),
        }
    }

    /// A child of lumend is another program now: a plane, or one that nobody asked about.
    fn became(&mut self, pid: Pid) -> Result<(), Errno> {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let name = line.split(|byte| *byte == 0).next().unwrap_or_default();
        match KINDS.into_iter().find(|kind| ipc::plane::name(*kind).as_bytes() == name) {
            Some(kind) => {
                self.planes.insert(pid.as_raw(), Plane { kind, filters: 0 });
                ptrace::syscall(pid, None)
            }
            None => ptrace::detach(pid, None),
        }
    }

    fn syscall(&mut self, thread: Pid) -> Result<(), Errno> {
        let Some(process) = self.process(thread) else { return Ok(()) };
        let Some(plane) = self.planes.get_mut(&process) else { return Ok(()) };
        let op = ptrace::syscall_info(thread)?.op;
        if op == EXIT && self.filtering.remove(&thread.as_raw()).is_some() {
            plane.filters += u32::from(ptrace::getregs(thread)?.rax == 0);
        }
        if op != ENTRY {
            return Ok(());
        }
        let registers = ptrace::getregs(thread)?;
        if plane.filters < FILTERS && registers.orig_rax == libc::SYS_seccomp as u64 {
            self.filtering.insert(thread.as_raw(), ());
        }
        if plane.filters >= FILTERS {
            let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
            self.tally.note(plane.kind, process, registers.orig_rax, &arguments);
        }
        Ok(())
    }
}
