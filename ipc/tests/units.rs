//! The units of systemd grant a plane the system calls of the table, and those that it starts with, and no others.
//!
//! `cargo xtask systemd --write` runs this with LUMEN_WRITE_UNITS set, and it brings the units in line.

#![cfg(target_arch = "x86_64")]

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use ipc::PlaneKind;
use ipc::sandbox::table::{ALL, AUDIO, CAPTURE, ENCODE, INPUT, KILL, NET, Planes, TABLE};

/// What a plane does before it is sealed, whatever it may do afterwards; seen with strace. What systemd always grants is
/// not among it (`systemd-analyze syscall-filter @default`).
const START: &[(Planes, &[&str], &str)] = &[
    (
        ALL,
        &["access", "close", "fstat", "lseek", "newfstatat", "openat", "pread64", "read"],
        "the loader and libraries",
    ),
    (ALL, &["poll", "readlink", "rt_sigaction", "rt_sigprocmask", "sigaltstack"], "the start of C library and runtime"),
    (ALL, &["madvise", "mremap"], "the allocator"),
    (ALL, &["fcntl", "getsockname", "getsockopt", "recvmsg", "sendmsg", "setsockopt"], "the link"),
    (ALL, &["connect", "socket"], "telling the service manager that it is ready and lives"),
    (ALL, &["capset", "prctl", "seccomp"], "the lockdown itself"),
    (ALL, &["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"], "the lockdown itself"),
    (ALL, &["write", "writev", "tgkill"], "last words, and the end after a bug"),
    (
        ENCODE,
        &["clone", "clone3"],
        "an encoder's threads; clone3, which the seal denies as missing, must not be denied otherwise",
    ),
    (NET, &["clone", "clone3"], "threads"),
    (AUDIO, &["clone", "clone3"], "threads"),
    (CAPTURE, &["timerfd_create"], "when the next picture is due"),
    (INPUT, &["memfd_create", "ftruncate", "timerfd_create"], "the memory of a keymap; when force feedback ends"),
    (
        NET,
        &["epoll_create1", "epoll_ctl", "epoll_wait", "eventfd2", "timerfd_create"],
        "the reactor, and what wakes threads",
    ),
    (
        AUDIO,
        &["epoll_create1", "epoll_ctl", "epoll_wait", "eventfd2", "timerfd_create"],
        "PipeWire's loops; when a packet is due",
    ),
    (AUDIO, &["ioctl", "uname"], "PipeWire's library"),
    (AUDIO, &["sched_get_priority_max", "sched_setscheduler", "setpriority"], "being on time"),
];

fn granted(kind: PlaneKind) -> BTreeSet<&'static str> {
    let start = START.iter().filter(|(planes, ..)| planes.has(kind)).flat_map(|(_, names, _)| names.iter().copied());
    start.chain(TABLE.iter().filter(|line| line.planes.has(kind)).map(|line| line.name)).collect()
}

/// The lines of a unit, each as long as the comments are.
fn lines(names: &BTreeSet<&str>) -> String {
    const SETTING: &str = "SystemCallFilter=";
    let mut lines = String::new();
    let mut line = SETTING.to_owned();
    for name in names {
        if line.len() + name.len() > 118 {
            lines += &format!("{}\n", line.trim_end());
            line = SETTING.to_owned();
        }
        line += &format!("{name} ");
    }
    lines + line.trim_end() + "\n"
}

/// The unit with these lines in the place of those that it has, which are its last.
fn rewritten(unit: &str, names: &BTreeSet<&str>) -> String {
    let others = unit.lines().filter(|line| !line.starts_with("SystemCallFilter="));
    others.map(|line| format!("{line}\n")).collect::<String>() + &lines(names)
}

#[test]
fn units_grant_what_the_table_grants() {
    for scope in ["user", "system"] {
        for kind in PlaneKind::ALL {
            let path = format!("{}/../systemd/{scope}/lumen-{}@.service", env!("CARGO_MANIFEST_DIR"), kind.name());
            let path = PathBuf::from(path);
            let unit = fs::read_to_string(&path).unwrap();
            let wanted = rewritten(&unit, &granted(kind));
            if std::env::var_os("LUMEN_WRITE_UNITS").is_some() {
                fs::write(&path, wanted).unwrap();
            } else {
                assert!(unit == wanted, "{} is not in line; run: cargo xtask systemd --write", path.display());
            }
        }
    }
}

#[test]
fn what_kills_a_plane_its_unit_does_not_grant() {
    const DEADLY: &[(&str, libc::c_long)] = &[
        // Systemd needs it to start the plane, and grants it by itself.
        ("", libc::SYS_execve),
        ("execveat", libc::SYS_execveat),
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("process_vm_writev", libc::SYS_process_vm_writev),
        ("bpf", libc::SYS_bpf),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("request_key", libc::SYS_request_key),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("io_uring_enter", libc::SYS_io_uring_enter),
        ("io_uring_register", libc::SYS_io_uring_register),
    ];
    for (call, _) in KILL {
        let (name, _) = DEADLY.iter().find(|(_, number)| number == call).expect("a deadly call with no name here");
        assert!(PlaneKind::ALL.iter().all(|kind| !granted(*kind).contains(name)), "{name}");
    }
}
