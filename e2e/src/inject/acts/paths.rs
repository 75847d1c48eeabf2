//! Files, paths, mounts and sockets.

use ipc::PlaneKind;
use nix::libc;

use super::Arg::{Event, Link, Memory, Room, Text};
use super::{Act, Answer, CWD, act, n};

const PASSWD: super::Arg = Text("/etc/passwd");
const NEW: super::Arg = Text("{scratch}/new");

pub const OPEN: &[Act] = &[
    act("open", libc::SYS_open, &[PASSWD, n(0), n(0)]),
    act("creat", libc::SYS_creat, &[NEW, n(0o600)]),
    act("openat", libc::SYS_openat, &[CWD, PASSWD, n(0), n(0)]),
    act("openat", libc::SYS_openat, &[CWD, Text("/proc/self/mem"), n(libc::O_RDWR as i64), n(0)]),
    act("openat", libc::SYS_openat, &[CWD, Text("/proc/{lumend}/mem"), n(0), n(0)]),
    act("openat", libc::SYS_openat, &[CWD, Text("/proc/{sibling}/mem"), n(0), n(0)]),
    act("openat", libc::SYS_openat, &[CWD, Text("/proc/{lumend}/fd/3"), n(libc::O_RDWR as i64), n(0)]),
    act("openat", libc::SYS_openat, &[CWD, Text("/dev/uinput"), n(libc::O_RDWR as i64), n(0)]),
    act("openat", libc::SYS_openat, &[CWD, Text("{scratch}"), n((libc::O_TMPFILE | libc::O_RDWR) as i64), n(0o600)]),
    act("openat2", libc::SYS_openat2, &[CWD, PASSWD, Room, n(24)]),
    act("name_to_handle_at", libc::SYS_name_to_handle_at, &[CWD, PASSWD, Room, Room, n(0)]),
    act("open_by_handle_at", libc::SYS_open_by_handle_at, &[CWD, Room, n(0)]).anyway(),
    act("getdents64", libc::SYS_getdents64, &[n(0), Room, n(512)]),
    act("mknodat", libc::SYS_mknodat, &[CWD, NEW, n((libc::S_IFIFO | 0o600) as i64), n(0)]),
    act("mknod", libc::SYS_mknod, &[NEW, n((libc::S_IFIFO | 0o600) as i64), n(0)]),
    act("inotify_init1", libc::SYS_inotify_init1, &[n(0)]),
    act("inotify_add_watch", libc::SYS_inotify_add_watch, &[n(0), PASSWD, n(1)]),
    act("fanotify_init", libc::SYS_fanotify_init, &[n(0), n(0)]).anyway(),
    act("acct", libc::SYS_acct, &[PASSWD]).anyway(),
    act("quotactl", libc::SYS_quotactl, &[n(0), n(0), n(0), n(0)]),
];

pub const CHANGE: &[Act] = &[
    act("stat", libc::SYS_stat, &[PASSWD, Room]),
    act("lstat", libc::SYS_lstat, &[PASSWD, Room]),
    act("newfstatat", libc::SYS_newfstatat, &[CWD, PASSWD, Room, n(0)]),
    act("statx", libc::SYS_statx, &[CWD, PASSWD, n(0), n(0), Room]),
    act("statfs", libc::SYS_statfs, &[PASSWD, Room]),
    act("access", libc::SYS_access, &[PASSWD, n(0)]),
    act("faccessat2", libc::SYS_faccessat2, &[CWD, PASSWD, n(0), n(0)]),
    act("readlink", libc::SYS_readlink, &[Text("/proc/{lumend}/exe"), Room, n(512)]),
    act("readlinkat", libc::SYS_readlinkat, &[CWD, Text("/proc/self/exe"), Room, n(512)]),
    act("getcwd", libc::SYS_getcwd, &[Room, n(512)]),
    act("chdir", libc::SYS_chdir, &[Text("/")]),
    act("fchdir", libc::SYS_fchdir, &[n(0)]),
    act("mkdir", libc::SYS_mkdir, &[NEW, n(0o700)]),
    act("rmdir", libc::SYS_rmdir, &[Text("{scratch}/nothing")]),
    act("unlink", libc::SYS_unlink, &[Text("{scratch}/nothing")]),
    act("unlinkat", libc::SYS_unlinkat, &[CWD, Text("{scratch}/nothing"), n(0)]),
    act("rename", libc::SYS_rename, &[Text("{scratch}/nothing"), NEW]),
    act("renameat2", libc::SYS_renameat2, &[CWD, Text("{scratch}/nothing"), CWD, NEW, n(0)]),
    act("link", libc::SYS_link, &[Text("{scratch}/nothing"), NEW]),
    act("linkat", libc::SYS_linkat, &[CWD, Text("{scratch}/nothing"), CWD, NEW, n(0)]),
    act("symlink", libc::SYS_symlink, &[PASSWD, Text("{scratch}/new")]),
    act("chmod", libc::SYS_chmod, &[Text("{scratch}"), n(0o700)]),
    act("fchmod", libc::SYS_fchmod, &[Memory, n(0o777)]).alone(),
    act("fchmodat", libc::SYS_fchmodat, &[CWD, Text("{scratch}"), n(0o700)]),
    act("chown", libc::SYS_chown, &[Text("{scratch}"), n(-1), n(-1)]),
    act("truncate", libc::SYS_truncate, &[Text("{scratch}/nothing"), n(0)]),
    act("utimensat", libc::SYS_utimensat, &[CWD, Text("{scratch}"), n(0), n(0)]),
    act("setxattr", libc::SYS_setxattr, &[Text("{scratch}/nothing"), Text("user.x"), Room, n(1), n(0)]),
    act("umask", libc::SYS_umask, &[n(0o77)]),
];

pub const MOUNT: &[Act] = &[
    act("mount", libc::SYS_mount, &[Text("none"), Text("/tmp"), Text("tmpfs"), n(0), n(0)]).anyway(),
    act("umount2", libc::SYS_umount2, &[Text("/proc"), n(2)]).anyway(),
    act("chroot", libc::SYS_chroot, &[Text("/")]).anyway(),
    act("pivot_root", libc::SYS_pivot_root, &[Text("/"), Text("/")]).anyway(),
    act("open_tree", libc::SYS_open_tree, &[CWD, Text("/"), n(0)]),
    act("move_mount", libc::SYS_move_mount, &[CWD, Text("/tmp"), CWD, Text("/"), n(0)]).anyway(),
    act("fsopen", libc::SYS_fsopen, &[Text("tmpfs"), n(0)]).anyway(),
    act("fspick", libc::SYS_fspick, &[CWD, Text("/"), n(0)]).anyway(),
    act("fsconfig", libc::SYS_fsconfig, &[n(0), n(6), n(0), n(0), n(0)]),
    act("mount_setattr", libc::SYS_mount_setattr, &[CWD, Text("/"), n(0), Room, n(32)]).anyway(),
    act("swapon", libc::SYS_swapon, &[PASSWD, n(0)]).anyway(),
];

/// The families of sockets are tried one by one beside this.
pub const SOCKETS: &[Act] = &[
    act("socket", libc::SYS_socket, &[n(libc::AF_UNIX as i64), n(libc::SOCK_STREAM as i64), n(0)]),
    act("socket", libc::SYS_socket, &[n(libc::AF_INET as i64), n(libc::SOCK_DGRAM as i64), n(0)]),
    act("socketpair", libc::SYS_socketpair, &[n(libc::AF_UNIX as i64), n(libc::SOCK_STREAM as i64), n(0), Room]),
    act("connect", libc::SYS_connect, &[Link, Text("\u{1}\0/run/dbus/system_bus_socket"), n(30)]).alone(),
    act("bind", libc::SYS_bind, &[Link, Text("\u{1}\0"), n(2)]).alone(),
    act("listen", libc::SYS_listen, &[Link, n(1)]).alone(),
    act("accept", libc::SYS_accept, &[Link, n(0), n(0)]).alone(),
    act("accept4", libc::SYS_accept4, &[Link, n(0), n(0), n(0)])
        .alone()
        .except(PlaneKind::Net, Answer::Fails(libc::EINVAL)),
    act("getpeername", libc::SYS_getpeername, &[Link, Room, Room]).alone(),
    act("setsockopt", libc::SYS_setsockopt, &[Link, n(1), n(libc::SO_ATTACH_FILTER as i64), Room, n(16)]).alone(),
    act("setsockopt", libc::SYS_setsockopt, &[Link, n(1), n(libc::SO_PEEK_OFF as i64), Room, n(4)]).alone(),
    act("setsockopt", libc::SYS_setsockopt, &[Link, n(6), n(libc::TCP_ULP as i64), Text("tls"), n(4)]).alone(),
    act("setsockopt", libc::SYS_setsockopt, &[Link, n(0), n(libc::IP_ADD_MEMBERSHIP as i64), Room, n(8)]).alone(),
    // Of a descriptor that is none: past the filter each would be EBADF, whoever asks.
    act("setsockopt", libc::SYS_setsockopt, &[n(-1), n(1), n(libc::SO_BINDTODEVICE as i64), Room, n(4)]),
    act("setsockopt", libc::SYS_setsockopt, &[n(-1), n(1), n(libc::SO_MARK as i64), Room, n(4)]),
    act("setsockopt", libc::SYS_setsockopt, &[n(-1), n(1), n(libc::SO_ATTACH_BPF as i64), Room, n(4)]),
    act("setsockopt", libc::SYS_setsockopt, &[n(-1), n(1), n(libc::SO_ATTACH_REUSEPORT_EBPF as i64), Room, n(4)]),
    act("setsockopt", libc::SYS_setsockopt, &[n(-1), n(0), n(libc::IP_TRANSPARENT as i64), Room, n(4)]),
    act("setsockopt", libc::SYS_setsockopt, &[n(-1), n(0), n(libc::IP_OPTIONS as i64), Room, n(4)]),
    act("setsockopt", libc::SYS_setsockopt, &[n(-1), n(6), n(libc::TCP_REPAIR as i64), Room, n(4)]),
    act("setsockopt", libc::SYS_setsockopt, &[n(-1), n(17), n(100), Room, n(4)]),
    act("setsockopt", libc::SYS_setsockopt, &[Link, n(41), n(libc::IPV6_ADD_MEMBERSHIP as i64), Room, n(20)]).alone(),
    // A descriptor of lumend itself, to be signalled and robbed of its own: two more calls that are refused.
    act("getsockopt", libc::SYS_getsockopt, &[Link, n(1), n(77), Room, Room]).alone(),
    act("shutdown", libc::SYS_shutdown, &[Link, n(libc::SHUT_RDWR as i64)]).alone(),
    act("shutdown", libc::SYS_shutdown, &[Link, n(libc::SHUT_RD as i64)]).alone(),
    act("recvmsg", libc::SYS_recvmsg, &[Link, Room, n((libc::MSG_OOB | libc::MSG_DONTWAIT) as i64)]).alone(),
    act("sendmsg", libc::SYS_sendmsg, &[Link, Room, n((libc::MSG_OOB | libc::MSG_DONTWAIT) as i64)]).alone(),
    // A connection made by sending, which no rule about connecting sees.
    act("sendmsg", libc::SYS_sendmsg, &[Link, Room, n((libc::MSG_FASTOPEN | libc::MSG_DONTWAIT) as i64)]).alone(),
    act(
        "sendto",
        libc::SYS_sendto,
        &[Link, Room, n(1), n((libc::MSG_FASTOPEN | libc::MSG_DONTWAIT) as i64), n(0), n(0)],
    )
    .alone(),
    act("sendfile", libc::SYS_sendfile, &[Event, Link, n(0), n(1)]).alone(),
];
