//! The lockdown as a plane meets it: this program runs itself again as a child that locks itself down with one
//! plane's profile, tries one thing, and says what the kernel answered.

use std::io::{BufRead, BufReader};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use ipc::PlaneKind;
use ipc::sandbox::table::{Limits, STACK, limits};
use ipc::sandbox::{restrict, seccomp};
use nix::sys::resource::{Resource, getrlimit};

const TASK: &str = "LUMEN_SANDBOX_TASK";
const KINDS: [PlaneKind; 5] =
    [PlaneKind::Capture, PlaneKind::Encode, PlaneKind::Net, PlaneKind::Input, PlaneKind::Audio];

/// Exit status of a child whose call was allowed; an errno otherwise.
const ALLOWED: i32 = 0;

fn kind_named(name: &str) -> PlaneKind {
    KINDS.into_iter().find(|kind| format!("{kind:?}") == name).expect("a plane kind")
}

/// Where a test's own process can be reached, until it ends.
fn abstract_name(pid: i32) -> String {
    format!("lumen-sandbox-test-{pid}")
}

/// One thing to try; the answer is a raw system call's: negative for an error.
fn attempt(what: &str) -> i64 {
    use libc::{c_long, syscall};
    let null = std::ptr::null::<u8>();
    let path = c"/etc/hostname".as_ptr();
    let map_some = |length: usize, protection: i32, flags: i32| -> c_long {
        // SAFETY: a fresh mapping, never touched.
        unsafe { syscall(libc::SYS_mmap, null, length, protection, flags | libc::MAP_ANONYMOUS, -1, 0usize) }
    };
    let map = |protection: i32| map_some(4096, protection, libc::MAP_PRIVATE);
    let writable = libc::PROT_READ | libc::PROT_WRITE;
    let memfd_of = |length: usize| -> c_long {
        // SAFETY: a name that lives for ever, and numbers.
        unsafe { syscall(libc::SYS_ftruncate, syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0), length) }
    };
    let option = |level: i32, name: i32| -> c_long {
        let on = 1i32;
        // SAFETY: the value outlives the call. The descriptor does not exist, so EBADF is the answer past the filter.
        unsafe { syscall(libc::SYS_setsockopt, -1, level, name, &raw const on, size_of::<i32>()) }
    };
    // SAFETY: each call gets null, a number, or a string that lives for ever; most never get past the filter.
    unsafe {
        match what {
            "open" => syscall(libc::SYS_openat, libc::AT_FDCWD, path, libc::O_RDONLY, 0),
            "open a library" => {
                syscall(libc::SYS_openat, libc::AT_FDCWD, c"/etc/ld.so.cache".as_ptr(), libc::O_RDONLY, 0)
            }
            "make a file" => {
                syscall(libc::SYS_openat, libc::AT_FDCWD, c"/tmp".as_ptr(), libc::O_TMPFILE | libc::O_RDWR, 0o600)
            }
            "list a directory" => syscall(libc::SYS_openat, libc::AT_FDCWD, c"/tmp".as_ptr(), libc::O_DIRECTORY, 0),
            "make a directory" => {
                // Of no other's name, and gone again where it can be made.
                let path = std::ffi::CString::new(format!("/tmp/lumen-sandbox-{}", libc::getpid())).expect("no zero");
                let made = syscall(libc::SYS_mkdirat, libc::AT_FDCWD, path.as_ptr(), 0o700);
                if made < 0 {
                    return made;
                }
                syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), libc::AT_REMOVEDIR)
            }
            "write a library" => {
                syscall(libc::SYS_openat, libc::AT_FDCWD, c"/etc/ld.so.cache".as_ptr(), libc::O_WRONLY, 0)
            }
            "connect by TCP" | "bind by TCP" => {
                let mut address: libc::sockaddr_in = std::mem::zeroed();
                address.sin_family = libc::AF_INET as u16;
                let socket = syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0);
                // Port 0: nobody is there to be connected to, and any will do to bind.
                let call = if what == "bind by TCP" { libc::SYS_bind } else { libc::SYS_connect };
                syscall(call, socket, &raw const address, size_of_val(&address))
            }
            "connect to an abstract socket" => {
                // The parent's, by this name.
                let name = SocketAddr::from_abstract_name(abstract_name(libc::getppid()));
                let connected = name.and_then(|name| UnixDatagram::unbound()?.connect_addr(&name));
                connected.map_or(-1, |()| 0)
            }
            "socket" => syscall(libc::SYS_socket, libc::AF_INET, libc::SOCK_STREAM, 0),
            "unix socket" => syscall(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0),
            "connect" => syscall(libc::SYS_connect, 0, null, 0),
            "bind" => syscall(libc::SYS_bind, 0, null, 0),
            "clone" => syscall(libc::SYS_clone, libc::SIGCHLD, null, null, null, null),
            // With all that a C library does for it.
            "thread" => match std::thread::Builder::new().spawn(|| ()).map(std::thread::JoinHandle::join) {
                Ok(end) => end.map_or(-1, |()| 0),
                Err(_) => -1,
            },
            "clone3" => syscall(libc::SYS_clone3, null, 0usize),
            "kill" => syscall(libc::SYS_kill, libc::getppid(), 0),
            "own signal" => syscall(libc::SYS_tgkill, libc::getpid(), libc::syscall(libc::SYS_gettid), libc::SIGUSR1),
            "parent's signal" => syscall(libc::SYS_tgkill, libc::getppid(), libc::getppid(), libc::SIGABRT),
            "abort" => syscall(libc::SYS_tgkill, libc::getpid(), libc::syscall(libc::SYS_gettid), libc::SIGABRT),
            "memfd" => syscall(libc::SYS_memfd_create, c"x".as_ptr(), 0),
            "mmap" => map(libc::PROT_READ | libc::PROT_WRITE),
            "mmap more than there may be" => map_some(2 << 30, writable, libc::MAP_PRIVATE),
            "mmap shared with nobody" => map_some(4096, writable, libc::MAP_SHARED),
            "mmap shared with nobody, validated" => map_some(4096, writable, libc::MAP_SHARED_VALIDATE),
            "mmap as a stack" => map_some(4096, writable, libc::MAP_PRIVATE | libc::MAP_GROWSDOWN),
            "memfd of a page" => memfd_of(4096),
            "memfd of a gigabyte" => memfd_of(1 << 30),
            "mmap exec" => map(libc::PROT_READ | libc::PROT_EXEC),
            "mprotect exec" => {
                let page = map(libc::PROT_READ);
                syscall(libc::SYS_mprotect, page, 4096usize, libc::PROT_READ | libc::PROT_EXEC)
            }
            "epoll_ctl" => syscall(libc::SYS_epoll_ctl, -1, 0, 0, null),
            "set flags" => syscall(libc::SYS_fcntl, 0, libc::F_SETFL, 0),
            "get flags" => syscall(libc::SYS_fcntl, 0, libc::F_GETFL, 0).min(0),
            "size of a path" => {
                let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
                syscall(libc::SYS_newfstatat, libc::AT_FDCWD, path, stat.as_mut_ptr(), libc::AT_EMPTY_PATH)
            }
            "urgent data" => syscall(libc::SYS_sendmsg, -1, null, libc::MSG_OOB),
            "urgent data back" => syscall(libc::SYS_recvmsg, -1, null, libc::MSG_OOB | libc::MSG_DONTWAIT),
            "connecting data" => syscall(libc::SYS_sendmsg, -1, null, libc::MSG_FASTOPEN | libc::MSG_DONTWAIT),
            "connecting data to" => syscall(libc::SYS_sendto, -1, null, 0, libc::MSG_FASTOPEN, null, 0),
            "connecting data, many" => syscall(libc::SYS_sendmmsg, -1, null, 0, libc::MSG_FASTOPEN),
            "data" => syscall(libc::SYS_sendmsg, -1, null, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL),
            "blocking mode" => {
                let mut off = 0i32;
                syscall(libc::SYS_ioctl, -1, libc::FIONBIO, &raw mut off)
            }
            "type into a terminal" => syscall(libc::SYS_ioctl, 0, libc::TIOCSTI, c"x".as_ptr()),
            "attach a filter" => option(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER),
            "segment offload" => option(libc::SOL_UDP, libc::UDP_SEGMENT),
            "end an answer" => syscall(libc::SYS_shutdown, -1, libc::SHUT_WR),
            "deafen a listener" => syscall(libc::SYS_shutdown, -1, libc::SHUT_RD),
            "deafen and silence" => syscall(libc::SYS_shutdown, -1, libc::SHUT_RDWR),
            "execve" => syscall(libc::SYS_execve, c"/bin/true".as_ptr(), null, null),
            "execveat" => syscall(libc::SYS_execveat, libc::AT_FDCWD, c"/bin/true".as_ptr(), null, null, 0),
            "ptrace" => syscall(libc::SYS_ptrace, libc::PTRACE_TRACEME, 0, null, null),
            "process_vm_readv" => syscall(libc::SYS_process_vm_readv, libc::getppid(), null, 0, null, 0, 0),
            "process_vm_writev" => syscall(libc::SYS_process_vm_writev, libc::getppid(), null, 0, null, 0, 0),
            "bpf" => syscall(libc::SYS_bpf, 0, null, 0),
            "keyctl" => syscall(libc::SYS_keyctl, 0, 0, 0, 0, 0),
            "add_key" => syscall(libc::SYS_add_key, null, null, null, 0, 0),
            "request_key" => syscall(libc::SYS_request_key, null, null, null, 0),
            "io_uring_setup" => syscall(libc::SYS_io_uring_setup, 1, null),
            "io_uring_enter" => syscall(libc::SYS_io_uring_enter, -1, 0, 0, 0, null, 0),
            "io_uring_register" => syscall(libc::SYS_io_uring_register, -1, 0, null, 0),
            #[cfg(target_arch = "x86_64")]
            "x32" => syscall(0x4000_0000 | libc::SYS_getpid),
            #[cfg(target_arch = "x86_64")]
            "i386" => {
                let mut answer = 20i32; // getpid there, writev here
                std::arch::asm!("int 0x80", inlateout("eax") answer, options(nostack));
                answer.into()
            }
            other => unreachable!("no such task: {other}"),
        }
    }
}

/// Not a test of its own: the body of the children. "Kind/half/task", where half says how far to lock down.
#[test]
#[ignore = "run by the other tests, in a child"]
fn child() {
    let task = std::env::var(TASK).expect("a task");
    let [kind, half, what]: [&str; 3] = task.split('/').collect::<Vec<_>>().try_into().expect("kind/half/task");
    let kind = kind_named(kind);
    if half != "none" {
        restrict(kind).expect("restrict");
    }
    // A second thread, which has begun: what that takes, not every plane may do once sealed.
    let (begin, begun) = std::sync::mpsc::channel();
    let idle = std::thread::spawn(move || {
        begin.send(()).expect("somebody waits");
        std::thread::park();
    });
    begun.recv().expect("it begins");
    if half == "sealed" {
        seccomp(kind).expect("seccomp");
    }
    let answer = attempt(what);
    let errno = if answer < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(255) } else { ALLOWED };
    idle.thread().unpark();
    std::process::exit(errno);
}

fn in_child(kind: PlaneKind, half: &str, what: &str) -> ExitStatus {
    Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(TASK, format!("{kind:?}/{half}/{what}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .expect("the child runs")
}

fn sealed(kind: PlaneKind, what: &str) -> ExitStatus {
    in_child(kind, "sealed", what)
}

#[test]
fn what_is_not_in_the_table_is_not_permitted() {
    for kind in KINDS {
        for what in [
            "open",
            "socket",
            "unix socket",
            "connect",
            "bind",
            "clone",
            "kill",
            "own signal",
            "parent's signal",
            "memfd",
            "mmap exec",
            "mmap shared with nobody",
            "mmap shared with nobody, validated",
            "mmap as a stack",
            "mprotect exec",
            "set flags",
            "type into a terminal",
            "attach a filter",
            "size of a path",
            "urgent data",
            "urgent data back",
            "connecting data",
            "connecting data to",
            "connecting data, many",
        ] {
            // PipeWire's library makes itself a piece of memory for its node.
            let allowed = kind == PlaneKind::Audio && what == "memfd";
            let expected = if allowed { ALLOWED } else { libc::EPERM };
            assert_eq!(sealed(kind, what).code(), Some(expected), "{kind:?}: {what}");
        }
    }
}

#[test]
fn a_plane_without_measure_gets_no_more_memory() {
    for kind in KINDS {
        assert_eq!(sealed(kind, "mmap more than there may be").code(), Some(libc::ENOMEM), "{kind:?}");
    }
    assert_eq!(sealed(PlaneKind::Audio, "memfd of a page").code(), Some(ALLOWED));
    assert_eq!(sealed(PlaneKind::Audio, "memfd of a gigabyte").signal(), Some(libc::SIGXFSZ));
    let before = ["mmap more than there may be", "mmap shared with nobody", "mmap as a stack", "memfd of a gigabyte"];
    for what in before {
        assert_eq!(in_child(PlaneKind::Audio, "none", what).code(), Some(ALLOWED), "{what}");
    }
}

#[test]
fn some_of_it_was_possible_before_the_lockdown() {
    for what in ["open", "socket", "memfd", "mmap exec", "mprotect exec", "set flags", "size of a path"] {
        assert_eq!(in_child(PlaneKind::Net, "none", what).code(), Some(ALLOWED), "{what}");
    }
}

/// As in `docs/sandbox.md`.
const FATAL: [&str; 12] = [
    "execve",
    "execveat",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "bpf",
    "keyctl",
    "add_key",
    "request_key",
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
];

#[test]
fn what_no_plane_would_try_kills_it() {
    for kind in KINDS {
        for what in FATAL {
            assert_eq!(sealed(kind, what).signal(), Some(libc::SIGSYS), "{kind:?}: {what}");
        }
    }
}

#[test]
fn threads_fall_back_in_order() {
    for kind in KINDS {
        // Who may not make threads either way need not be told of the other.
        let expected = if kind == PlaneKind::Encode { libc::ENOSYS } else { libc::EPERM };
        assert_eq!(sealed(kind, "clone3").code(), Some(expected), "{kind:?}");
    }
}

/// Encode alone learns only after its seal how many threads it needs. "clone" above is a process, and denied to all.
#[test]
fn only_encode_starts_threads() {
    for kind in KINDS {
        let expected = if kind == PlaneKind::Encode { ALLOWED } else { libc::EPERM };
        assert_eq!(sealed(kind, "thread").code(), Some(expected), "{kind:?}");
    }
}

#[test]
fn what_the_table_allows_goes_through() {
    for kind in KINDS {
        assert_eq!(sealed(kind, "mmap").code(), Some(ALLOWED), "{kind:?}");
        let expected = if kind == PlaneKind::Net { ALLOWED } else { libc::EPERM };
        assert_eq!(sealed(kind, "get flags").code(), Some(expected), "{kind:?}");
        assert_eq!(sealed(kind, "data").code(), Some(libc::EBADF), "{kind:?}");
        assert_eq!(sealed(kind, "abort").signal(), Some(libc::SIGABRT), "{kind:?}");
    }
}

#[test]
fn only_net_has_what_only_net_needs() {
    for (what, past_the_filter) in [("epoll_ctl", libc::EBADF), ("segment offload", libc::EBADF)] {
        assert_eq!(sealed(PlaneKind::Capture, what).code(), Some(libc::EPERM), "{what}");
        assert_eq!(sealed(PlaneKind::Encode, what).code(), Some(libc::EPERM), "{what}");
        assert!(
            matches!(sealed(PlaneKind::Net, what).code(), Some(code) if code == past_the_filter || code == libc::EFAULT),
            "{what}"
        );
    }
}

#[test]
fn no_plane_can_make_a_peers_eventfd_block_or_deafen_a_listener() {
    for kind in KINDS {
        assert_eq!(sealed(kind, "blocking mode").code(), Some(libc::EPERM), "{kind:?}");
    }
    assert_eq!(in_child(PlaneKind::Net, "none", "blocking mode").code(), Some(libc::EBADF));
    // What shuts a listener down does so for whoever else holds it.
    let ends = ["end an answer", "deafen a listener", "deafen and silence"];
    let ends = ends.map(|what| sealed(PlaneKind::Net, what).code());
    assert_eq!(ends, [Some(libc::EBADF), Some(libc::EPERM), Some(libc::EPERM)]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn other_system_call_tables_are_shut() {
    for kind in KINDS {
        assert_eq!(sealed(kind, "x32").code(), Some(libc::EPERM), "{kind:?}");
        // A kernel without 32-bit calls answers the instruction itself with SIGSEGV.
        let has_i386 = in_child(kind, "none", "i386").signal().is_none();
        let expected = if has_i386 { libc::SIGSYS } else { libc::SIGSEGV };
        assert_eq!(sealed(kind, "i386").signal(), Some(expected), "{kind:?}");
    }
}

#[test]
fn landlock_shuts_every_path_before_the_filters_exist() {
    let status = in_child(PlaneKind::Capture, "restricted", "open");
    assert_eq!(status.code(), Some(libc::EACCES), "this kernel has no Landlock, or it was not applied");
}

#[test]
fn only_audio_may_read_libraries_until_it_is_sealed() {
    for kind in KINDS {
        let expected = if kind == PlaneKind::Audio { ALLOWED } else { libc::EACCES };
        assert_eq!(in_child(kind, "restricted", "open a library").code(), Some(expected), "{kind:?}");
        assert_eq!(in_child(kind, "restricted", "open").code(), Some(libc::EACCES), "{kind:?}");
        assert_eq!(sealed(kind, "open a library").code(), Some(libc::EPERM), "{kind:?}");
    }
}

/// The filters would hide that these are missing: Landlock is looked at before they exist.
#[test]
fn landlock_alone_shuts_files_ports_abstract_sockets_and_signals() {
    let name = SocketAddr::from_abstract_name(abstract_name(std::process::id() as i32));
    let _listens = UnixDatagram::bind_addr(&name.expect("short")).expect("a name of its own");
    // With the first ABI that has it.
    let walls = [
        ("make a directory", 1, libc::EACCES),
        ("list a directory", 1, libc::EACCES),
        ("make a file", 1, libc::EACCES),
        ("connect by TCP", 4, libc::EACCES),
        ("bind by TCP", 4, libc::EACCES),
        ("connect to an abstract socket", 6, libc::EPERM),
        ("kill", 6, libc::EPERM),
    ];
    // Who may not write there anyway proves nothing.
    let library = nix::unistd::geteuid().is_root().then_some(("write a library", 1, libc::EACCES));
    let here = ipc::sandbox::landlock_abi().expect("Landlock");
    for (what, abi, errno) in walls.into_iter().chain(library) {
        let before = in_child(PlaneKind::Net, "none", what).code();
        assert_ne!(before, Some(errno), "{what}: refused without a sandbox too");
        for kind in KINDS.iter().filter(|_| here >= abi) {
            assert_eq!(in_child(*kind, "restricted", what).code(), Some(errno), "{kind:?}: {what}");
        }
    }
}

/// Another child, that says what its limits are and waits to be looked at.
#[test]
#[ignore = "run by the other tests, in a child"]
fn child_shows_itself() {
    let kind = kind_named(&std::env::var(TASK).expect("a kind"));
    let thread = nix::unistd::gettid();
    let restricted = restrict(kind).expect("restrict");
    let (descriptors, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    let (data, _) = getrlimit(Resource::RLIMIT_DATA).expect("a limit");
    let (core, _) = getrlimit(Resource::RLIMIT_CORE).expect("a limit");
    let (space, _) = getrlimit(Resource::RLIMIT_AS).expect("a limit");
    let (file, _) = getrlimit(Resource::RLIMIT_FSIZE).expect("a limit");
    let (stack, most) = getrlimit(Resource::RLIMIT_STACK).expect("a limit");
    assert!(stack <= STACK && most <= STACK, "{stack} {most}");
    seccomp(kind).expect("seccomp");
    println!("\nThread:\t{thread}\nLandlock:\t{}", restricted.landlock_abi);
    println!("Limits:\t{descriptors} {data} {space} {file} {core}");
    loop {
        std::thread::park();
    }
}

#[test]
fn the_kernel_agrees() {
    for kind in KINDS {
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", "child_shows_itself", "--ignored", "--nocapture"])
            .env(TASK, format!("{kind:?}"))
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("the child runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let mut text = String::new();
        while !text.contains("Limits:") {
            text += &(lines.next().expect("the child speaks") + "\n");
        }
        let thread = text.lines().find_map(|line| line.strip_prefix("Thread:\t")).expect("a thread").to_owned();
        text += &std::fs::read_to_string(format!("/proc/{}/task/{thread}/status", child.id())).expect("readable");
        child.kill().expect("it ends");
        child.wait().expect("it has ended");
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().to_owned()
        };
        assert_eq!(field("NoNewPrivs:"), "1", "{text}");
        assert_eq!(field("Seccomp:"), "2", "{text}");
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{set}");
        }
        // Only who has a privilege can take from this one.
        if nix::unistd::geteuid().is_root() {
            assert_eq!(field("CapBnd:"), "0000000000000000");
        }
        assert!(field("Landlock:").parse::<u32>().is_ok_and(|abi| abi >= 1), "{text}");
        let wanted = limits(kind);
        let Limits { descriptors, data, address_space, file } = wanted;
        assert_eq!(field("Limits:"), format!("{descriptors} {data} {address_space} {file} 0"));
    }
}
