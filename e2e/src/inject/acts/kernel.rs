//! Memory, what is shared with peers, and the kernel's rarer calls.

use ipc::PlaneKind;
use nix::libc;

use super::Arg::{Event, Itself, Link, Memory, Room, Text};
use super::{Act, Answer, CWD, act, n};

const ANONYMOUS: super::Arg = n((libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as i64);
const RX: super::Arg = n((libc::PROT_READ | libc::PROT_EXEC) as i64);
const RWX: super::Arg = n((libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC) as i64);
const PAGE: super::Arg = n(4096);

pub const CODE: &[Act] = &[
    act("mmap", libc::SYS_mmap, &[n(0), PAGE, RX, ANONYMOUS, n(-1), n(0)]),
    act("mmap", libc::SYS_mmap, &[n(0), PAGE, RWX, ANONYMOUS, n(-1), n(0)]),
    act("mmap", libc::SYS_mmap, &[n(0), PAGE, RX, n(libc::MAP_SHARED as i64), Memory, n(0)]).alone(),
    // Of a descriptor that is none: the kernel itself refuses to run what is in an eventfd, which some planes have instead.
    act("mmap", libc::SYS_mmap, &[n(0), PAGE, RX, n(libc::MAP_SHARED as i64), n(-1), n(0)]),
    act("mmap", libc::SYS_mmap, &[n(0), PAGE, RX, n(libc::MAP_PRIVATE as i64), n(-1), n(0)]),
    act("mprotect", libc::SYS_mprotect, &[n(0), PAGE, RX]),
    act("mprotect", libc::SYS_mprotect, &[n(0), PAGE, n(libc::PROT_EXEC as i64 | 0x0100_0000)]),
    act("pkey_mprotect", libc::SYS_pkey_mprotect, &[n(0), PAGE, RX, n(-1)]),
    act("shmget", libc::SYS_shmget, &[n(0), PAGE, n(0o1600)]),
    act("shmat", libc::SYS_shmat, &[n(-1), n(0), n(libc::SHM_EXEC as i64)]),
    act("remap_file_pages", libc::SYS_remap_file_pages, &[n(0), PAGE, n(0), n(0), n(0)]),
];

/// An open file's flags belong to all who have it: a peer's eventfd that blocks would make the peer hang.
pub const SHARED: &[Act] = &[
    act("fcntl(F_SETFL)", libc::SYS_fcntl, &[Event, n(libc::F_SETFL as i64), n(0)]).alone(),
    act("fcntl(F_SETFL)", libc::SYS_fcntl, &[Event, n(libc::F_SETFL as i64), n(libc::O_ASYNC as i64)]).alone(),
    act("fcntl(F_SETFL)", libc::SYS_fcntl, &[Link, n(libc::F_SETFL as i64), n(0)]).alone(),
    act("ioctl(FIONBIO)", libc::SYS_ioctl, &[Event, n(libc::FIONBIO as i64), Room]).alone(),
    act("ioctl(FIONBIO)", libc::SYS_ioctl, &[Link, n(libc::FIONBIO as i64), Room]).alone(),
    act("ioctl(FIOASYNC)", libc::SYS_ioctl, &[Event, n(libc::FIOASYNC as i64), Room]).alone(),
    act("ioctl(TIOCSTI)", libc::SYS_ioctl, &[n(0), n(libc::TIOCSTI as i64), Room]),
    act("ioctl(TIOCLINUX)", libc::SYS_ioctl, &[n(0), n(libc::TIOCLINUX as i64), Room]),
    act("ioctl(SIOCGIFCONF)", libc::SYS_ioctl, &[Link, n(libc::SIOCGIFCONF as i64), Room]).alone(),
    act("fcntl(F_SETOWN)", libc::SYS_fcntl, &[Link, n(libc::F_SETOWN as i64), Itself]).alone(),
    act("fcntl(F_SETSIG)", libc::SYS_fcntl, &[Event, n(10), n(9)]).alone(),
    act("fcntl(F_SETPIPE_SZ)", libc::SYS_fcntl, &[n(2), n(libc::F_SETPIPE_SZ as i64), n(1 << 20)]),
    act("fcntl(F_SETLEASE)", libc::SYS_fcntl, &[Memory, n(libc::F_SETLEASE as i64), n(1)]).alone(),
    act("fcntl(F_SETLK)", libc::SYS_fcntl, &[Memory, n(libc::F_SETLK as i64), Room]).alone(),
    act("fcntl(F_DUPFD)", libc::SYS_fcntl, &[Event, n(libc::F_DUPFD as i64), n(0)]).alone(),
    // Audio may seal and size what it makes itself; lumend's memory is sealed against both.
    act("fcntl(F_ADD_SEALS)", libc::SYS_fcntl, &[Memory, n(libc::F_ADD_SEALS as i64), n(8)]).alone(),
    act("ftruncate", libc::SYS_ftruncate, &[Memory, n(0)]).alone(),
    act("ftruncate", libc::SYS_ftruncate, &[Memory, n(1 << 20)]).alone(),
    act("fallocate", libc::SYS_fallocate, &[Memory, n(3), n(0), PAGE]).alone(),
    act("flock", libc::SYS_flock, &[Memory, n(2)]).alone(),
    act("dup2", libc::SYS_dup2, &[Event, n(2)]).alone(),
    act("dup3", libc::SYS_dup3, &[Event, n(2), n(0)]).alone(),
    act("splice", libc::SYS_splice, &[n(2), n(0), Link, n(0), n(1), n(2)]).alone(),
    act("vmsplice", libc::SYS_vmsplice, &[n(2), Room, n(1), n(2)]).alone(),
    act("tee", libc::SYS_tee, &[n(2), n(2), n(1), n(2)]).alone(),
    act("copy_file_range", libc::SYS_copy_file_range, &[Memory, n(0), Memory, n(0), n(1), n(0)]).alone(),
    act("readv", libc::SYS_readv, &[Event, Room, n(0)]).alone(),
];

pub const DESCRIPTORS: &[Act] = &[
    act("memfd_create", libc::SYS_memfd_create, &[Text("x"), n(0)]).except(PlaneKind::Audio, Answer::Works),
    act("memfd_secret", libc::SYS_memfd_secret, &[n(0)]),
    act("eventfd", libc::SYS_eventfd, &[n(0)]),
    act("eventfd2", libc::SYS_eventfd2, &[n(0), n(0)]).except(PlaneKind::Audio, Answer::Works),
    act("pipe", libc::SYS_pipe, &[Room]),
    act("pipe2", libc::SYS_pipe2, &[Room, n(0)]),
    act("epoll_create1", libc::SYS_epoll_create1, &[n(0)]),
    act("timerfd_create", libc::SYS_timerfd_create, &[n(1), n(0)]),
    act("signalfd4", libc::SYS_signalfd4, &[n(-1), Room, n(8), n(0)]),
    act("dup", libc::SYS_dup, &[n(2)]),
    act("mq_open", libc::SYS_mq_open, &[Text("lumen-test"), n(0), n(0), n(0)]),
    act("msgget", libc::SYS_msgget, &[n(0), n(0)]),
    act("semget", libc::SYS_semget, &[n(0), n(1), n(0)]),
];

pub const SURFACE: &[Act] = &[
    act("perf_event_open", libc::SYS_perf_event_open, &[Room, n(0), n(-1), n(-1), n(0)]),
    act("userfaultfd", libc::SYS_userfaultfd, &[n(1)]),
    act("init_module", libc::SYS_init_module, &[Room, n(0), Text("")]).anyway(),
    act("finit_module", libc::SYS_finit_module, &[n(0), Text(""), n(0)]).anyway(),
    act("delete_module", libc::SYS_delete_module, &[Text("x"), n(0)]).anyway(),
    act("kexec_load", libc::SYS_kexec_load, &[n(0), n(0), n(0), n(0)]).anyway(),
    act("reboot", libc::SYS_reboot, &[n(0), n(0), n(0)]).anyway(),
    act("syslog", libc::SYS_syslog, &[n(5), n(0), n(0)]).anyway(),
    act("clock_settime", libc::SYS_clock_settime, &[n(0), Room]).anyway(),
    act("settimeofday", libc::SYS_settimeofday, &[Room, n(0)]).anyway(),
    act("adjtimex", libc::SYS_adjtimex, &[Room]),
    act("sethostname", libc::SYS_sethostname, &[Text("x"), n(1)]).anyway(),
    act("vhangup", libc::SYS_vhangup, &[]).anyway(),
    act("io_setup", libc::SYS_io_setup, &[n(1), Room]),
    act("mbind", libc::SYS_mbind, &[n(0), n(0), n(0), n(0), n(0), n(0)]),
    act("membarrier", libc::SYS_membarrier, &[n(0), n(0)]),
    act("name a thousandth call", 1000, &[CWD]),
    act("sysinfo", libc::SYS_sysinfo, &[Room]),
    act("getrusage", libc::SYS_getrusage, &[n(0), Room]),
    act("alarm", libc::SYS_alarm, &[n(0)]),
];
