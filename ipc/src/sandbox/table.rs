//! Every system call that a sealed plane may make, for all planes, with the reason on the line.
//!
//! What is not here is answered EPERM. What must never even be tried is in [`KILL`]. A plane makes its threads, epoll
//! sets, timers and sockets before it is sealed, so nothing here creates a descriptor out of nothing, but for the memory
//! and the wake-up of PipeWire's nodes: new ones only arrive over the link. Encode alone makes threads later, those of
//! an encoder, which exists once its mode is known.

use std::ops::BitOr;

use libc::c_long;

use crate::PlaneKind;

/// A set of planes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planes(u8);

pub const CAPTURE: Planes = Planes(1);
pub const ENCODE: Planes = Planes(2);
pub const NET: Planes = Planes(4);
pub const INPUT: Planes = Planes(8);
pub const AUDIO: Planes = Planes(16);
pub const ALL: Planes = Planes(31);

impl Planes {
    pub const fn has(self, kind: PlaneKind) -> bool {
        let bit = match kind {
            PlaneKind::Capture => CAPTURE.0,
            PlaneKind::Encode => ENCODE.0,
            PlaneKind::Net => NET.0,
            PlaneKind::Input => INPUT.0,
            PlaneKind::Audio => AUDIO.0,
        };
        self.0 & bit != 0
    }

    const fn and(self, other: Planes) -> Planes {
        Planes(self.0 | other.0)
    }
}

impl BitOr for Planes {
    type Output = Planes;

    fn bitor(self, other: Planes) -> Planes {
        self.and(other)
    }
}

/// Which calls of one kind are meant. Arguments count from 0; only their low 32 bits are compared, which is all that
/// the kernel reads of the `int`s compared here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Only {
    Any,
    /// The argument is one of these.
    Is(u8, &'static [u32]),
    /// None of these bits is set in the argument.
    Without(u8, u32),
    /// The same of several arguments at once.
    WithoutAll(&'static [(u8, u32)]),
    /// The first argument is this very process, and the third this signal.
    OwnProcess(u32),
    /// A socket option: one of these levels with its name.
    Option(&'static [(i32, i32)]),
}

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// As the manual pages name it.
    pub name: &'static str,
    pub call: c_long,
    pub planes: Planes,
    pub only: Only,
    pub why: &'static str,
    /// Why these planes have the line though `cargo xtask syscalls` need not see them use it.
    pub seldom: Option<(Planes, &'static str)>,
}

impl Line {
    const fn seldom(self, planes: Planes, why: &'static str) -> Line {
        Line { seldom: Some((planes, why)), ..self }
    }

    /// Which of the values that it lists allows a call of the process `pid` with these arguments, 0 if it lists none;
    /// `None` if it does not allow it.
    pub fn allows(&self, arguments: &[u64; 6], pid: u32) -> Option<usize> {
        let word = |index: u8| arguments.get(usize::from(index)).map_or(0, |argument| *argument as u32);
        let without = |(index, bits): &(u8, u32)| word(*index) & bits == 0;
        match self.only {
            Only::Any => Some(0),
            Only::Is(index, values) => values.iter().position(|value| *value == word(index)),
            Only::Without(index, bits) => without(&(index, bits)).then_some(0),
            Only::WithoutAll(several) => several.iter().all(without).then_some(0),
            Only::OwnProcess(signal) => (word(0) == pid && word(2) == signal).then_some(0),
            Only::Option(options) => {
                options.iter().position(|(level, name)| (*level as u32, *name as u32) == (word(1), word(2)))
            }
        }
    }
}

/// A call's name and number.
macro_rules! call {
    ($number:ident) => {
        (stringify!($number).split_at("SYS_".len()).1, libc::$number)
    };
}

const fn any(planes: Planes, call: (&'static str, c_long), why: &'static str) -> Line {
    some(planes, call, Only::Any, why)
}

const fn some(planes: Planes, (name, call): (&'static str, c_long), only: Only, why: &'static str) -> Line {
    Line { name, call, planes, only, why, seldom: None }
}

const EXEC: u32 = libc::PROT_EXEC as u32;
/// Memory that the limit on data does not count, were it not of a descriptor: shared by nobody, or called a stack.
const UNCOUNTED: u32 = (libc::MAP_SHARED | libc::MAP_GROWSDOWN) as u32;
const OF_NOTHING: u32 = (libc::MAP_ANONYMOUS | libc::MAP_GROWSDOWN) as u32;
/// Urgent data over local sockets: nobody uses it, and its kernel code has let sandboxed processes out before.
const URGENT: u32 = libc::MSG_OOB as u32;
/// That, and data that make a connection, past every rule about connecting.
const UNSENT: u32 = URGENT | libc::MSG_FASTOPEN as u32;
/// Exactly what a C library makes a thread with: an equal in memory, files, signals, process and System V semaphores.
const THREAD: u32 = (libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID) as u32;
const FCNTL: &[u32] = &[libc::F_GETFD as u32, libc::F_GET_SEALS as u32];
const FCNTL_SOCKETS: &[u32] = &[libc::F_SETFD as u32, libc::F_GETFL as u32];
/// None of these makes a descriptor of whoever is at the other end, as SO_PEERPIDFD would.
const ASKED: &[(i32, i32)] = &[(libc::SOL_SOCKET, libc::SO_TYPE), (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY)];
const ASKED_OF_PIPEWIRE: &[(i32, i32)] = &[(libc::SOL_SOCKET, libc::SO_ERROR)];
/// UI_SET_EVBIT, _KEYBIT, _RELBIT, _ABSBIT, _FFBIT, _PHYS and _PROPBIT, UI_DEV_SETUP and UI_ABS_SETUP of linux/uinput.h.
const UINPUT_DECLARE: &[u32] = &[
    0x4004_5564,
    0x4004_5565,
    0x4004_5566,
    0x4004_5567,
    0x4004_556b,
    0x4008_556c,
    0x4004_556e,
    0x405c_5503,
    0x401c_5504,
];
/// UI_BEGIN_FF_UPLOAD, UI_END_FF_UPLOAD, UI_BEGIN_FF_ERASE and UI_END_FF_ERASE.
const UINPUT_FORCE: &[u32] = &[0xc068_55c8, 0x4068_55c9, 0xc00c_55ca, 0x400c_55cb];
/// What the UDP libraries set on a socket they are given. Filters, encapsulation and multicast are not among it.
const OPTIONS: &[(i32, i32)] = &[
    (libc::SOL_SOCKET, libc::SO_PASSCRED),
    (libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS),
    (libc::SOL_UDP, libc::UDP_SEGMENT),
    (libc::SOL_UDP, libc::UDP_GRO),
    (libc::IPPROTO_IP, libc::IP_RECVTOS),
    (libc::IPPROTO_IP, libc::IP_PKTINFO),
    (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS),
    (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
    (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    (libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG),
];

/// Capture and input have one thread each.
const THREADED: Planes = ENCODE.and(NET).and(AUDIO);

/// Why nobody sees it.
const ABORT: &str = "a bug would have to be known to show it";
const BEGUN: &str = "threads that are made before the seal have mostly begun by then, and not all have names";
const DEVICES: &str = "no /dev/uinput where planes are traced; tested in a virtual machine";

/// The allow-list. One line per call and set of planes; a call may have several lines.
pub const TABLE: &[Line] = &[
    // Messages and wake-ups.
    some(ALL, call!(SYS_sendmsg), Only::Without(2, UNSENT), "the link; the compositor's socket; datagrams with GSO"),
    some(
        ALL,
        call!(SYS_recvmsg),
        Only::Without(2, URGENT),
        "the link and the descriptors it brings; the compositor's socket; datagrams",
    ),
    any(ENCODE.and(NET).and(INPUT).and(AUDIO), call!(SYS_read), "draining eventfds and timers"),
    any(ALL, call!(SYS_write), "signalling eventfds; one line on stderr before the end; a service manager; uinput")
        .seldom(INPUT, "its hands are the compositor's here, and nothing rumbles"),
    any(NET, call!(SYS_writev), "answers to GameStream clients").seldom(NET, "where one has several parts"),
    any(
        CAPTURE.and(ENCODE).and(INPUT).and(AUDIO),
        call!(SYS_writev),
        "the last words of a C library whose heap is broken",
    )
    .seldom(ALL, ABORT),
    any(ALL, call!(SYS_close), "descriptors of retired generations"),
    #[cfg(target_arch = "x86_64")]
    any(CAPTURE.and(INPUT).and(AUDIO), call!(SYS_poll), "waiting for the link, a compositor and eventfds"),
    any(ALL, call!(SYS_ppoll), "the same, with a finer deadline").seldom(ALL, "what poll is on other processors"),
    any(CAPTURE.and(NET).and(INPUT).and(AUDIO), call!(SYS_timerfd_settime), "pacing on timers made before the seal")
        .seldom(NET, "only large frames are paced"),
    any(
        CAPTURE.and(ENCODE).and(NET).and(AUDIO),
        call!(SYS_futex),
        "locks, condition variables and joining threads; input has one thread",
    ),
    some(
        ALL,
        call!(SYS_fcntl),
        Only::Is(1, FCNTL),
        "seals, and what the standard library asserts of what it closes; the flags of an open file belong to all who \
         have it, and nobody changes them",
    ),
    some(
        CAPTURE.and(NET).and(INPUT).and(AUDIO),
        call!(SYS_fcntl),
        Only::Is(1, &[libc::F_DUPFD_CLOEXEC as u32]),
        "a second handle on an eventfd; descriptors for a compositor",
    ),
    some(NET, call!(SYS_fcntl), Only::Is(1, FCNTL_SOCKETS), "whether a socket just received is as it should be"),
    some(NET, call!(SYS_getsockopt), Only::Option(ASKED), "the same, and whether it serves both families"),
    some(AUDIO, call!(SYS_getsockopt), Only::Option(ASKED_OF_PIPEWIRE), "how the connection to PipeWire is"),
    // Not newfstatat, as which glibc spells it: that takes a path, and neither filter nor Landlock sees which.
    any(ALL, call!(SYS_fstat), "the size of a memfd just received"),
    // Memory. Code is never made at run time.
    some(
        ALL,
        call!(SYS_mmap),
        Only::WithoutAll(&[(2, EXEC), (3, UNCOUNTED)]),
        "the allocator: private memory, of which the limit on data keeps account",
    ),
    some(
        ALL,
        call!(SYS_mmap),
        Only::WithoutAll(&[(2, EXEC), (3, OF_NOTHING)]),
        "mapping pools and rings, whose size whoever made them has set",
    ),
    some(ALL, call!(SYS_mprotect), Only::Without(2, EXEC), "the allocator's arenas")
        .seldom(ALL, "only where a heap grows in that way"),
    any(ALL, call!(SYS_munmap), "retired generations; the allocator"),
    any(ALL, call!(SYS_mremap), "realloc of large blocks").seldom(ALL, "only where one grows"),
    any(ALL, call!(SYS_brk), "the allocator").seldom(ALL, "only where the heap grows at its end"),
    any(ALL, call!(SYS_madvise), "the allocator; prefaulting; a finished thread's stack; fork detection in the crypto"),
    // Time, randomness, scheduling.
    any(ALL, call!(SYS_clock_gettime), "where the clock source has no vDSO").seldom(ALL, "this machine's has"),
    any(ENCODE, call!(SYS_clock_nanosleep), "an encoder's threads wait for one another"),
    any(ALL, call!(SYS_getrandom), "hash seeds; keys and nonces in net")
        .seldom(ALL, "the first hash table of a thread; denied, it would end the plane"),
    any(ENCODE, call!(SYS_sched_getaffinity), "how many threads an encoder wants"),
    any(ALL, call!(SYS_getpid), "abort").seldom(ALL, ABORT),
    any(ALL, call!(SYS_gettid), "abort").seldom(ALL, ABORT),
    some(
        ENCODE,
        call!(SYS_clone),
        Only::Is(0, &[THREAD]),
        "an encoder's threads, made with it; such a clone shares all there is, so that it can be no other process",
    ),
    any(
        ENCODE,
        call!(SYS_clone3),
        "passed on to the filter that answers ENOSYS, so that libraries fall back to clone; none other may either",
    ),
    // The life and end of threads that were started before the seal but may not have run yet.
    any(THREADED, call!(SYS_set_robust_list), "a starting thread").seldom(NET.and(AUDIO), BEGUN),
    any(THREADED, call!(SYS_rseq), "a starting thread").seldom(NET.and(AUDIO), BEGUN),
    any(ALL, call!(SYS_sigaltstack), "the stack overflow guard of a thread, made and taken down"),
    some(THREADED, call!(SYS_prctl), Only::Is(0, &[libc::PR_SET_NAME as u32]), "a starting thread's name")
        .seldom(THREADED, BEGUN),
    any(ALL, call!(SYS_exit), "a thread ends; denied, it would try for ever").seldom(ALL, "the process may be quicker"),
    any(ALL, call!(SYS_rt_sigprocmask), "a starting thread; abort").seldom(ALL, ABORT),
    any(
        ALL,
        call!(SYS_rt_sigaction),
        "the overflow guard steps aside on a plain fault; denied, it would fault for ever",
    )
    .seldom(ALL, ABORT),
    any(ALL, call!(SYS_rt_sigreturn), "returning from that guard").seldom(ALL, ABORT),
    any(ALL, call!(SYS_restart_syscall), "a wait goes on after the process was stopped and continued")
        .seldom(ALL, "nobody stops them there"),
    some(ALL, call!(SYS_tgkill), Only::OwnProcess(libc::SIGABRT as u32), "abort, which a panic ends in")
        .seldom(ALL, ABORT),
    any(ALL, call!(SYS_exit_group), "the plane ends"),
    // The compositor's socket that capture and input were handed.
    some(
        CAPTURE.and(INPUT),
        call!(SYS_sendto),
        Only::Without(3, UNSENT),
        "requests to the compositor that carry no descriptor",
    ),
    // Devices of the kernel's, on descriptors of /dev/uinput that input was handed. Other ioctls stay shut.
    some(
        INPUT,
        call!(SYS_ioctl),
        Only::Is(1, UINPUT_DECLARE),
        "what a new keyboard, mouse, touch screen or pad can do",
    )
    .seldom(INPUT, DEVICES),
    some(INPUT, call!(SYS_ioctl), Only::Is(1, &[0x5501]), "UI_DEV_CREATE: the device appears").seldom(INPUT, DEVICES),
    some(INPUT, call!(SYS_ioctl), Only::Is(1, &[0x5502]), "UI_DEV_DESTROY: a pad is unplugged although lumend has it")
        .seldom(INPUT, DEVICES),
    some(INPUT, call!(SYS_ioctl), Only::Is(1, &[0x8040_552c]), "UI_GET_SYSNAME: has a dead plane made the device yet?")
        .seldom(INPUT, DEVICES),
    some(INPUT, call!(SYS_ioctl), Only::Is(1, UINPUT_FORCE), "answers to games that upload and erase force feedback")
        .seldom(INPUT, DEVICES),
    // Sockets that net was handed.
    some(NET, call!(SYS_sendto), Only::Without(3, UNSENT), "datagrams"),
    any(NET, call!(SYS_recvfrom), "datagrams"),
    any(NET, call!(SYS_recvmmsg), "datagrams"),
    any(NET, call!(SYS_getsockname), "the QUIC endpoint's own address"),
    any(NET, call!(SYS_accept4), "GameStream clients' TCP connections, on listening sockets that lumend has made"),
    some(
        NET,
        call!(SYS_shutdown),
        Only::Is(1, &[libc::SHUT_WR as u32]),
        "the end of an answer, where that is what tells its length; the other half would deafen a listener for good",
    ),
    some(
        NET,
        call!(SYS_setsockopt),
        Only::Option(OPTIONS),
        "ECN, packet info, no fragmentation, GSO, GRO and buffer sizes of the handed sockets; credentials on the link \
         to the signer",
    ),
    any(NET, call!(SYS_uname), "which kernels have a broken GSO"),
    // The control thread's reactor, made before the seal.
    #[cfg(target_arch = "x86_64")]
    any(NET.and(AUDIO), call!(SYS_epoll_wait), "the reactor; PipeWire's two loops, made before the seal"),
    any(NET.and(AUDIO), call!(SYS_epoll_pwait), "the same")
        .seldom(NET.and(AUDIO), "what epoll_wait is on other processors"),
    any(NET.and(AUDIO), call!(SYS_epoll_ctl), "sockets and eventfds come and go; so do nodes of PipeWire's graph"),
    // PipeWire's library, for the node that it puts into the graph once it is connected.
    any(AUDIO, call!(SYS_eventfd2), "a node's wake-up"),
    any(AUDIO, call!(SYS_memfd_create), "a node's record of its activity, which the daemon maps too"),
    any(AUDIO, call!(SYS_ftruncate), "the size of that"),
    some(AUDIO, call!(SYS_fcntl), Only::Is(1, &[libc::F_ADD_SEALS as u32]), "sealing that"),
];

/// Calls that no plane has an honest reason to try: the process dies at once, with SIGSYS.
pub const KILL: &[(c_long, &str)] = &[
    (libc::SYS_execve, "another program"),
    (libc::SYS_execveat, "another program"),
    (libc::SYS_ptrace, "another process's memory"),
    (libc::SYS_process_vm_readv, "another process's memory"),
    (libc::SYS_process_vm_writev, "another process's memory"),
    (libc::SYS_bpf, "kernel code"),
    (libc::SYS_keyctl, "keyrings"),
    (libc::SYS_add_key, "keyrings"),
    (libc::SYS_request_key, "keyrings"),
    (libc::SYS_io_uring_setup, "system calls that a filter does not see"),
    (libc::SYS_io_uring_enter, "system calls that a filter does not see"),
    (libc::SYS_io_uring_register, "system calls that a filter does not see"),
];

/// Where shared libraries are, on distributions of every kind, and the list of them that the loader keeps.
const LIBRARIES: &[&str] =
    &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store", "/etc/ld.so.cache"];

/// What a plane may read between the two halves of its lockdown: files in these directories. After the second half no
/// plane can open anything.
pub const fn readable(kind: PlaneKind) -> &'static [&'static str] {
    match kind {
        // PipeWire's library is modules and plugins, found and loaded by itself.
        PlaneKind::Audio => LIBRARIES,
        PlaneKind::Capture | PlaneKind::Encode | PlaneKind::Net | PlaneKind::Input => &[],
    }
}

/// Soft and hard limits of a plane, which make sure that a plane without measure dies alone. Processes are left alone,
/// since that limit counts the whole user. Address space and file size matter to the one plane that can make memory of
/// its own beside the private one; elsewhere the first would break the large mappings of libraries to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Open descriptors.
    pub descriptors: u64,
    /// Bytes of private writable memory; shared pools and rings do not count.
    pub data: u64,
    /// Bytes of all that is mapped, touched or not.
    pub address_space: u64,
    /// Bytes of one file, which can only be a memfd; who goes beyond gets SIGXFSZ.
    pub file: u64,
}

/// Bytes of the main thread's stack; all other stacks are data.
pub const STACK: u64 = 8 << 20;

/// The limits of a plane, with room for the largest mode: 4096x2304 is 38 MB a picture in BGRx, 14 MB in I420.
pub const fn limits(kind: PlaneKind) -> Limits {
    const MIB: u64 = 1 << 20;
    let common = Limits { descriptors: 128, data: 64 * MIB, address_space: u64::MAX, file: u64::MAX };
    match kind {
        PlaneKind::Capture => Limits { data: 256 * MIB, ..common },
        PlaneKind::Encode => Limits { data: 1024 * MIB, ..common },
        PlaneKind::Net => Limits { descriptors: 1024, data: 1024 * MIB, ..common },
        PlaneKind::Input => common,
        // A node's record of its activity is a page or two; eight threads reserve 64 MiB each for their allocations.
        PlaneKind::Audio => Limits { data: 128 * MIB, address_space: 1024 * MIB, file: 4 * MIB, ..common },
    }
}
