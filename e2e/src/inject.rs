//! Makes a running, unmodified process issue system calls, through ptrace: the honest way to ask what it may do.
//!
//! Nothing of the process is changed but the registers of one stopped thread, and bytes below its stack that nothing
//! lives in. The instruction that enters the kernel is one that it has already. [`acts`] is what is tried, [`target`]
//! tries it, and [`trial`] is what it is tried beside; [`handles`] finds descriptors worth abusing; [`message`] lays out
//! what sendmsg wants.

pub mod acts;
pub mod handles;
pub mod message;
pub mod target;
pub mod trial;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::libc::user_regs_struct;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use xtask::process::wait_until;

use crate::memory::{Region, regions};

/// What came of an injected call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The kernel's return value: an errno if negative.
    Returned(i64),
    /// The process died of it.
    Killed(Signal),
}

/// A way into the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// `syscall`: the table of 64-bit calls, and with a bit set in the number that of x32.
    Native,
    /// `int 0x80`: the table of 32-bit calls, open to 64-bit code too.
    I386,
}

impl Gate {
    const fn instruction(self) -> &'static [u8] {
        match self {
            Self::Native => &[0x0f, 0x05],
            Self::I386 => &[0xcd, 0x80],
        }
    }
}

/// Lets a process make one call; an argument of `None` stands for the address of `text`.
pub fn syscall(pid: i32, number: u64, text: &[u8], arguments: &[Option<u64>]) -> Result<Outcome> {
    let mut held = Held::take(pid)?;
    let text = held.put(text)?;
    let arguments: Vec<u64> = arguments.iter().map(|argument| argument.unwrap_or(text)).collect();
    let outcome = held.call(number, &arguments)?;
    held.release()?;
    Ok(outcome)
}

/// Room below the stack for what calls point at.
const SCRATCH: u64 = 8192;

/// A process whose main thread is stopped and does what it is told. It goes on as it was when this is dropped.
pub struct Held {
    pid: Pid,
    saved: user_regs_struct,
    memory: File,
    code: Vec<Region>,
    native: u64,
    /// Where the next bytes go.
    free: u64,
    top: u64,
    alive: bool,
}

impl Held {
    /// Stops the main thread of `pid`; its other threads run on.
    pub fn take(pid: i32) -> Result<Self> {
        let code: Vec<Region> = regions(pid)?.into_iter().filter(|region| region.executable).collect();
        let memory = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        let pid = Pid::from_raw(pid);
        ptrace::seize(pid, Options::empty()).context("seize")?;
        ptrace::interrupt(pid)?;
        match waitpid(pid, None)? {
            WaitStatus::PtraceEvent(..) => {}
            other => bail!("expected a stop, saw {other:?}"),
        }
        let saved = ptrace::getregs(pid)?;
        // Below the red zone, aligned: memory of the thread's own stack that nothing lives in.
        let top = (saved.rsp - 512) & !63;
        let mut held = Self { pid, saved, memory, code, native: 0, free: top - SCRATCH, top, alive: true };
        held.native = held.find(Gate::Native.instruction()).context("it makes no system calls")?;
        Ok(held)
    }

    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Puts bytes into its memory and returns their address.
    pub fn put(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.free;
        self.free = (at + bytes.len() as u64 + 15) & !15;
        if self.free > self.top {
            bail!("no room for {} bytes more", bytes.len());
        }
        self.memory.write_all_at(bytes, at).context("write")?;
        Ok(at)
    }

    /// Writes a word into its memory, where it may write itself.
    pub fn poke(&mut self, at: u64, word: u64) -> Result<()> {
        self.memory.write_all_at(&word.to_ne_bytes(), at).with_context(|| format!("write at {at:#x}"))
    }

    pub fn peek(&self, at: u64) -> Result<u64> {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, at).with_context(|| format!("read at {at:#x}"))?;
        Ok(u64::from_ne_bytes(word))
    }

    /// Bytes of its memory.
    pub fn read(&self, at: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.memory.read_exact_at(&mut bytes, at).with_context(|| format!("read at {at:#x}"))?;
        Ok(bytes)
    }

    /// Whether somebody kills it within so long, without a step of it.
    pub fn ends(&mut self, within: Duration) -> Result<bool> {
        if !self.alive {
            return Ok(true);
        }
        let pid = self.pid;
        let killed = wait_until(within, || match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => None,
            other => Some(other),
        });
        self.alive = killed.is_err();
        Ok(!self.alive)
    }

    /// Forgets all that was put.
    pub fn wipe(&mut self) {
        self.free = self.top - SCRATCH;
    }

    /// Makes one call.
    pub fn call(&mut self, number: u64, arguments: &[u64]) -> Result<Outcome> {
        self.enter(self.native, number, arguments)
    }

    /// Makes one call by another gate. There is no other way to an instruction that the program does not have than by
    /// chance: among some million bytes of code, two given ones stand somewhere.
    pub fn call_by(&mut self, gate: Gate, number: u64) -> Result<Outcome> {
        let at = self.find(gate.instruction()).with_context(|| format!("nothing in it looks like {gate:?}"))?;
        self.enter(at, number, &[])
    }

    fn enter(&mut self, at: u64, number: u64, arguments: &[u64]) -> Result<Outcome> {
        let argument = |index: usize| arguments.get(index).copied().unwrap_or(0);
        let mut registers = self.saved;
        registers.rip = at;
        registers.rax = number;
        // Not inside a call that the kernel would restart.
        registers.orig_rax = u64::MAX;
        (registers.rdi, registers.rsi, registers.rdx) = (argument(0), argument(1), argument(2));
        (registers.r10, registers.r8, registers.r9) = (argument(3), argument(4), argument(5));
        ptrace::setregs(self.pid, registers)?;
        ptrace::step(self.pid, None)?;
        match waitpid(self.pid, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => Ok(Outcome::Returned(ptrace::getregs(self.pid)?.rax as i64)),
            WaitStatus::Signaled(_, signal, _) => {
                self.alive = false;
                Ok(Outcome::Killed(signal))
            }
            other => bail!("after call {number} at {at:#x}: {other:?}, {:x?}", ptrace::getregs(self.pid)),
        }
    }

    /// Where these bytes stand in its code. Reads no more of it than it takes.
    fn find(&self, wanted: &[u8]) -> Option<u64> {
        const PAGE: usize = 4096;
        let mut bytes = [0; PAGE];
        let pages = self.code.iter().flat_map(|region| (region.start..region.end).step_by(PAGE));
        for page in pages {
            self.memory.read_exact_at(&mut bytes, page).ok()?;
            if let Some(at) = bytes.windows(wanted.len()).position(|window| window == wanted) {
                return Some(page + at as u64);
            }
        }
        None
    }

    /// Lets it go on where it was.
    pub fn release(mut self) -> Result<()> {
        self.let_go()
    }

    fn let_go(&mut self) -> Result<()> {
        if self.alive {
            ptrace::setregs(self.pid, self.saved)?;
            ptrace::detach(self.pid, None)?;
            self.alive = false;
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // It may have been killed from outside meanwhile: then whoever started it learns of that only after its tracer.
        if self.let_go().is_err() {
            let _ = waitpid(self.pid, None);
        }
    }
}
