//! Makes a running, unmodified process issue a system call, through ptrace: the honest way to ask what it may do.

use anyhow::{Context, Result, bail};
use nix::libc::user_regs_struct;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// What came of an injected call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The kernel's return value: an errno if negative.
    Returned(i64),
    /// The process died of it.
    Killed(Signal),
}

/// The encoding of `syscall`.
const SYSCALL: i64 = 0x050f;

/// Stops `pid`, lets its main thread make the call with these arguments, and puts everything back as it was.
///
/// `text` is written to the thread's red-zone-free stack space first; an argument of `None` stands for its address.
pub fn syscall(pid: i32, number: u64, text: &[u8], arguments: &[Option<u64>]) -> Result<Outcome> {
    let pid = Pid::from_raw(pid);
    ptrace::attach(pid).context("attach")?;
    match waitpid(pid, None)? {
        WaitStatus::Stopped(..) => {}
        other => bail!("expected a stop, saw {other:?}"),
    }
    let saved = ptrace::getregs(pid)?;
    // Below the red zone, 16-byte aligned: memory of the thread's own stack that nothing lives in.
    let scratch = (saved.rsp - 4096) & !15;
    let outcome = run(pid, saved, number, scratch, text, arguments);
    if let Ok(Outcome::Killed(_)) = outcome {
        return outcome;
    }
    ptrace::setregs(pid, saved)?;
    ptrace::detach(pid, None)?;
    outcome
}

fn run(
    pid: Pid,
    saved: user_regs_struct,
    number: u64,
    scratch: u64,
    text: &[u8],
    arguments: &[Option<u64>],
) -> Result<Outcome> {
    let code = saved.rip as ptrace::AddressType;
    let original = ptrace::read(pid, code)?;
    for (index, chunk) in text.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        write(pid, (scratch + index as u64 * 8) as ptrace::AddressType, i64::from_le_bytes(word))?;
    }
    write(pid, code, (original & !0xffff) | SYSCALL)?;
    let values: Vec<u64> = arguments.iter().map(|argument| argument.unwrap_or(scratch)).collect();
    let argument = |index: usize| values.get(index).copied().unwrap_or(0);
    let mut registers = saved;
    registers.rax = number;
    // Not inside a call that the kernel would restart.
    registers.orig_rax = u64::MAX;
    (registers.rdi, registers.rsi, registers.rdx) = (argument(0), argument(1), argument(2));
    (registers.r10, registers.r8, registers.r9) = (argument(3), argument(4), argument(5));
    ptrace::setregs(pid, registers)?;
    ptrace::step(pid, None)?;
    let outcome = match waitpid(pid, None)? {
        WaitStatus::Stopped(_, Signal::SIGTRAP) => Outcome::Returned(ptrace::getregs(pid)?.rax as i64),
        WaitStatus::Signaled(_, signal, _) => return Ok(Outcome::Killed(signal)),
        other => bail!("after the call: {other:?}"),
    };
    write(pid, code, original)?;
    Ok(outcome)
}

/// Writes a word into the stopped process.
fn write(pid: Pid, address: ptrace::AddressType, word: i64) -> Result<()> {
    ptrace::write(pid, address, word).context("write")
}
