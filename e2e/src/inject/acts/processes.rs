//! Processes, other ones and one's own rights.

use ipc::PlaneKind;
use nix::libc;

use super::Arg::{Itself, Lumend, Room, Sibling};
use super::{Act, Answer, act, n};

const THREAD: i64 =
    (libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_FS | libc::CLONE_FILES) as i64;
const KILL: super::Arg = n(libc::SIGKILL as i64);

pub const FORK: &[Act] = &[
    act("fork", libc::SYS_fork, &[]).alone(),
    act("vfork", libc::SYS_vfork, &[]).alone(),
    act("clone", libc::SYS_clone, &[n(libc::SIGCHLD as i64), n(0), n(0), n(0), n(0)]).alone(),
    act("clone", libc::SYS_clone, &[n(THREAD), n(0), n(0), n(0), n(0)]).alone(),
    act("clone3", libc::SYS_clone3, &[Room, n(88)]).except(PlaneKind::Encode, Answer::Absent).alone(),
];

/// In an ordinary process the signals end somebody who was started for it.
pub const REACH: &[Act] = &[
    act("kill", libc::SYS_kill, &[Lumend, n(0)]),
    act("kill", libc::SYS_kill, &[Sibling, KILL]),
    act("kill", libc::SYS_kill, &[Lumend, KILL]),
    act("tkill", libc::SYS_tkill, &[Lumend, KILL]),
    act("tgkill", libc::SYS_tgkill, &[Lumend, Lumend, n(libc::SIGABRT as i64)]),
    act("tgkill", libc::SYS_tgkill, &[Itself, Itself, n(libc::SIGUSR1 as i64)]).alone(),
    act("rt_sigqueueinfo", libc::SYS_rt_sigqueueinfo, &[Lumend, n(0), Room]).anyway(),
    act("rt_tgsigqueueinfo", libc::SYS_rt_tgsigqueueinfo, &[Lumend, Lumend, n(0), Room]).anyway(),
    act("pidfd_open", libc::SYS_pidfd_open, &[Lumend, n(0)]),
    act("pidfd_open", libc::SYS_pidfd_open, &[Sibling, n(0)]),
    act("pidfd_getfd", libc::SYS_pidfd_getfd, &[n(0), n(0), n(0)]),
    act("pidfd_send_signal", libc::SYS_pidfd_send_signal, &[n(0), n(0), n(0), n(0)]),
    act("kcmp", libc::SYS_kcmp, &[Itself, Lumend, n(0), n(0), n(0)]),
    act("process_madvise", libc::SYS_process_madvise, &[n(0), Room, n(1), n(20), n(0)]),
    act("process_mrelease", libc::SYS_process_mrelease, &[n(0), n(0)]),
    act("move_pages", libc::SYS_move_pages, &[Lumend, n(0), n(0), n(0), n(0), n(0)]),
    act("get_robust_list", libc::SYS_get_robust_list, &[Lumend, Room, Room]),
    act("prlimit64", libc::SYS_prlimit64, &[Lumend, n(7), n(0), Room]),
    act("sched_setaffinity", libc::SYS_sched_setaffinity, &[Lumend, n(0), n(0)]),
    act("sched_setscheduler", libc::SYS_sched_setscheduler, &[Lumend, n(0), Room]),
    act("sched_setattr", libc::SYS_sched_setattr, &[Lumend, Room, n(0)]).anyway(),
    act("setpriority", libc::SYS_setpriority, &[n(0), Lumend, n(19)]),
    act("ioprio_set", libc::SYS_ioprio_set, &[n(1), Lumend, n(0)]),
    act("setpgid", libc::SYS_setpgid, &[Itself, n(0)]),
    act("setsid", libc::SYS_setsid, &[]),
    act("wait4", libc::SYS_wait4, &[n(-1), n(0), n(libc::WNOHANG as i64), n(0)]),
    act("waitid", libc::SYS_waitid, &[n(0), n(0), Room, n((libc::WNOHANG | libc::WEXITED) as i64), n(0)]),
];

pub const PRIVILEGE: &[Act] = &[
    act("setuid", libc::SYS_setuid, &[n(0)]).anyway(),
    act("setreuid", libc::SYS_setreuid, &[n(0), n(0)]).anyway(),
    act("setresuid", libc::SYS_setresuid, &[n(0), n(0), n(0)]).anyway(),
    act("setgid", libc::SYS_setgid, &[n(0)]).anyway(),
    act("setregid", libc::SYS_setregid, &[n(0), n(0)]).anyway(),
    act("setresgid", libc::SYS_setresgid, &[n(0), n(0), n(0)]).anyway(),
    act("setgroups", libc::SYS_setgroups, &[n(0), n(0)]).anyway(),
    act("setfsuid", libc::SYS_setfsuid, &[n(-1)]),
    act("setfsgid", libc::SYS_setfsgid, &[n(-1)]),
    act("capset", libc::SYS_capset, &[Room, Room]),
    act("unshare", libc::SYS_unshare, &[n(libc::CLONE_NEWUSER as i64)]).alone(),
    act("unshare", libc::SYS_unshare, &[n(libc::CLONE_NEWNET as i64)]).anyway(),
    act("unshare", libc::SYS_unshare, &[n(libc::CLONE_FILES as i64)]),
    act("setns", libc::SYS_setns, &[n(0), n(0)]),
    act("prctl", libc::SYS_prctl, &[n(libc::PR_SET_DUMPABLE as i64), n(1)]),
    act("prctl", libc::SYS_prctl, &[n(libc::PR_GET_DUMPABLE as i64)]),
    act("prctl", libc::SYS_prctl, &[n(libc::PR_SET_NO_NEW_PRIVS as i64), n(1), n(0), n(0), n(0)]),
    act("prctl", libc::SYS_prctl, &[n(libc::PR_SET_SECCOMP as i64), n(2), Room]).alone(),
    act("prctl", libc::SYS_prctl, &[n(libc::PR_SET_PTRACER as i64), n(-1)]).anyway(),
    act("prctl", libc::SYS_prctl, &[n(libc::PR_SET_MM as i64), n(1), n(0), n(0), n(0)]).anyway(),
    act("prctl", libc::SYS_prctl, &[n(libc::PR_CAP_AMBIENT as i64), n(2), n(0), n(0), n(0)]).anyway(),
    act("prctl", libc::SYS_prctl, &[n(libc::PR_SET_KEEPCAPS as i64), n(1)]),
    act("prctl", libc::SYS_prctl, &[n(libc::PR_SET_TIMERSLACK as i64), n(1)]),
    act("seccomp", libc::SYS_seccomp, &[n(2), n(0), Room]),
    act("landlock_create_ruleset", libc::SYS_landlock_create_ruleset, &[n(0), n(0), n(1)]),
    act("setrlimit", libc::SYS_setrlimit, &[n(7), Room]).alone(),
    act("personality", libc::SYS_personality, &[n(0xffff_ffff)]),
    act("arch_prctl", libc::SYS_arch_prctl, &[n(0x1003), Room]),
    act("iopl", libc::SYS_iopl, &[n(3)]).anyway(),
    act("ioperm", libc::SYS_ioperm, &[n(0x60), n(1), n(1)]).anyway(),
    act("modify_ldt", libc::SYS_modify_ldt, &[n(0), Room, n(16)]).anyway(),
];
