//! Being on time: a cycle that this process is late for is lost, and with it 5 ms of sound.
//!
//! PipeWire's own programs are given a real-time priority by the desktop's bus, which a plane never sees. What it may
//! take is what its limits allow: whoever starts lumend decides, by `LimitRTPRIO=` or `ulimit -r`.

#![allow(unsafe_code)]

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Above ordinary programs, far below PipeWire itself, which uses 83 to 88.
const REAL_TIME: u64 = 20;
/// A real-time thread that computes for longer than this without a pause is broken, and the kernel ends it, in
/// microseconds.
const RUNAWAY_US: u64 = 1_000_000;
/// As RLIMIT_NICE counts: 20 less the nice value, so this is nice -11, what sound servers use.
const NICE: u64 = 31;

/// Takes the best priority that the limits allow, for this thread and those it will start. Without any it stays as it
/// is: sound then stutters when the machine is overloaded, and only then.
pub fn raise() {
    if real_time().is_none() {
        nice();
    }
}

fn real_time() -> Option<()> {
    let priority = allowed(Resource::RLIMIT_RTPRIO)?.min(REAL_TIME);
    setrlimit(Resource::RLIMIT_RTPRIO, priority, priority).ok()?;
    setrlimit(Resource::RLIMIT_RTTIME, RUNAWAY_US, RUNAWAY_US).ok()?;
    let parameters = libc::sched_param { sched_priority: priority as i32 };
    // SAFETY: reads the parameters, which live; 0 is the calling thread.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    (answer == 0).then_some(())
}

fn nice() -> Option<()> {
    let most = allowed(Resource::RLIMIT_NICE)?.min(NICE);
    setrlimit(Resource::RLIMIT_NICE, most, most).ok()?;
    // SAFETY: takes numbers; 0 is the calling thread. What it may not do it leaves.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 20 - most as i32) };
    Some(())
}

/// The hard limit, if it allows anything.
fn allowed(resource: Resource) -> Option<u64> {
    getrlimit(resource).ok().map(|(_, hard)| hard).filter(|hard| *hard > 0)
}
