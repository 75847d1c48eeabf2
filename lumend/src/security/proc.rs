//! What /proc says of a process, read once.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use ipc::sandbox::profile::Handle;
use nix::libc;
use nix::sys::stat::{major, minor};

use super::sockets::Sockets;

/// Device numbers of /dev/null and /dev/uinput, the same on every Linux.
const NULL: (u64, u64) = (1, 3);
const UINPUT: (u64, u64) = (10, 223);

/// Why nothing is known of a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unread {
    /// It has ended, or was replaced while it was read.
    Ended,
    /// The kernel tells this user nothing at all.
    Hidden,
}

/// What each thread has of its own, although all should have the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walls {
    /// Real, effective, saved, of the file system.
    pub uids: [u32; 4],
    pub gids: [u32; 4],
    /// Supplementary ones.
    pub groups: Vec<u32>,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
    pub bounding: u64,
    pub no_new_privs: bool,
    /// 0: none, 1: strict, 2: filters.
    pub seccomp: u32,
    /// None before Linux 5.9.
    pub filters: Option<u32>,
}

/// An open descriptor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    pub number: u32,
    pub handle: Handle,
    /// As the kernel calls it: a path, `socket:[123]`.
    pub name: String,
    /// Where a socket is reached from outside.
    pub port: Option<u16>,
    /// A local socket that accepts connections.
    pub accepts: bool,
}

/// Where in the tree of control groups a service manager keeps a process.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// The manager's own group; empty for the system's.
    pub manager: String,
    /// With its `.service`.
    pub name: String,
}

/// A process. What is None the kernel would not tell this user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    /// At least one.
    pub threads: Vec<Walls>,
    /// Soft and hard limits by the kernel's names for them; unlimited is the largest number.
    pub limits: BTreeMap<String, (u64, u64)>,
    /// By name; equal numbers are the same namespace.
    pub namespaces: Option<BTreeMap<String, u64>>,
    pub open: Option<Vec<Open>>,
    /// None of one that no service manager has started.
    pub unit: Option<Unit>,
    /// Whether its user's other processes may look into it; None also of root's processes.
    pub dumpable: Option<bool>,
}

/// Reads a process. Sockets that lumend, `host`, has made for it are in lumend's network namespace.
pub fn read(pid: u32, host: u32) -> Result<Reading, Unread> {
    let born = alive(pid)?;
    let threads = threads(pid)?;
    let limits = known(fs::read_to_string(format!("/proc/{pid}/limits")))?.ok_or(Unread::Hidden)?;
    let namespaces = known(namespaces(pid))?;
    let open = match known(links(pid))? {
        Some(links) => {
            let sockets = Sockets::read(&[pid, host]);
            Some(links.into_iter().map(|link| link.into_open(&sockets)).collect())
        }
        None => None,
    };
    let owner = known(fs::metadata(format!("/proc/{pid}/fd")))?.map(|metadata| metadata.uid());
    let user = threads.first().map(|walls| walls.uids[1]).filter(|uid| *uid != 0);
    let dumpable = owner.zip(user).map(|(owner, user)| owner == user);
    let unit = unit(pid);
    // The same number may be another process by now.
    if alive(pid)? != born {
        return Err(Unread::Ended);
    }
    Ok(Reading { threads, limits: parse_limits(&limits), namespaces, open, unit, dumpable })
}

/// The unit of a process, for anybody to read.
pub fn unit(pid: u32) -> Option<Unit> {
    parse_unit(&fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default())
}

/// Of lines like `1:name=systemd:/system.slice/lumend.service`, or `0::…` where there is but one hierarchy.
fn parse_unit(text: &str) -> Option<Unit> {
    let of = |hierarchy: &str| text.lines().find_map(|line| line.split_once(':')?.1.strip_prefix(hierarchy));
    let path = of("name=systemd:").or_else(|| of(":"))?;
    let parts: Vec<&str> = path.split('/').collect();
    let at = parts.iter().rposition(|part| part.ends_with(".service"))?;
    let slices = parts[..at].iter().rev().take_while(|part| part.ends_with(".slice")).count();
    Some(Unit { manager: parts[..at - slices].join("/"), name: parts[at].to_owned() })
}

/// All processes that there are.
pub fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Its children.
pub fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Its command line, as far as it is text.
pub fn arguments(pid: u32) -> Vec<String> {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Its program's name.
pub fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

/// None if this user may not know.
fn known<T>(result: io::Result<T>) -> Result<Option<T>, Unread> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {
            Err(Unread::Ended)
        }
        Err(_) => Ok(None),
    }
}

/// When it started, in the kernel's ticks, if it has not ended.
fn alive(pid: u32) -> Result<u64, Unread> {
    let stat = known(fs::read_to_string(format!("/proc/{pid}/stat")))?.ok_or(Unread::Hidden)?;
    // The name before it may have spaces and parentheses.
    let mut words = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    match words.next() {
        None | Some("Z" | "X") => Err(Unread::Ended),
        Some(_) => words.nth(18).and_then(|word| word.parse().ok()).ok_or(Unread::Hidden),
    }
}

fn threads(pid: u32) -> Result<Vec<Walls>, Unread> {
    let mut threads = Vec::new();
    for entry in known(fs::read_dir(format!("/proc/{pid}/task")))?.ok_or(Unread::Hidden)?.flatten() {
        match known(fs::read_to_string(entry.path().join("status"))) {
            Ok(Some(text)) => threads.push(parse_status(&text).ok_or(Unread::Hidden)?),
            Ok(None) => return Err(Unread::Hidden),
            // A thread may end at any time.
            Err(_) => {}
        }
    }
    if threads.is_empty() { Err(Unread::Ended) } else { Ok(threads) }
}

/// None if a line is missing that every kernel with seccomp has.
fn parse_status(text: &str) -> Option<Walls> {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let numbers =
        |name| -> Option<Vec<u32>> { field(name)?.split_whitespace().map(|word| word.parse().ok()).collect() };
    let set = |name| u64::from_str_radix(field(name)?, 16).ok();
    Some(Walls {
        uids: numbers("Uid")?.try_into().ok()?,
        gids: numbers("Gid")?.try_into().ok()?,
        groups: numbers("Groups")?,
        effective: set("CapEff")?,
        permitted: set("CapPrm")?,
        inheritable: set("CapInh")?,
        ambient: set("CapAmb")?,
        bounding: set("CapBnd")?,
        no_new_privs: field("NoNewPrivs")? == "1",
        seccomp: field("Seccomp")?.parse().ok()?,
        filters: field("Seccomp_filters").and_then(|filters| filters.parse().ok()),
    })
}

/// `Max open files            1024                 4096                 files`, without the `Max`.
fn parse_limits(text: &str) -> BTreeMap<String, (u64, u64)> {
    /// Where the second column begins.
    const NAME: usize = 26;
    let number = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    let line = |line: &str| {
        let (name, rest) = line.split_at_checked(NAME)?;
        let mut words = rest.split_whitespace();
        let (soft, hard) = (number(words.next()?)?, number(words.next()?)?);
        Some((name.trim().strip_prefix("Max ")?.to_owned(), (soft, hard)))
    };
    text.lines().filter_map(line).collect()
}

fn namespaces(pid: u32) -> io::Result<BTreeMap<String, u64>> {
    let mut namespaces = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/ns"))? {
        let entry = entry?;
        let link = fs::read_link(entry.path())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // `user:[4026531837]`; what children will get is not what the process has.
        if let Some(number) = numbered(&link.to_string_lossy()).filter(|_| !name.ends_with("_for_children")) {
            namespaces.insert(name, number);
        }
    }
    Ok(namespaces)
}

/// The number in `kind:[number]`.
fn numbered(name: &str) -> Option<u64> {
    name.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

/// An open descriptor, before it is known what its socket is.
struct Link {
    number: u32,
    name: String,
    metadata: Option<Metadata>,
}

fn links(pid: u32) -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match fs::read_link(entry.path()) {
            Ok(name) => {
                let metadata = fs::metadata(entry.path()).ok();
                links.push(Link { number, name: name.to_string_lossy().into_owned(), metadata });
            }
            // It may be closed by now.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    links.sort_by_key(|link| link.number);
    Ok(links)
}

impl Link {
    fn into_open(self, sockets: &Sockets) -> Open {
        let socket = self.name.strip_prefix("socket").and_then(|_| sockets.get(numbered(&self.name)?));
        let handle = socket.map_or_else(|| self.handle(), |socket| socket.handle);
        let port = socket.and_then(|socket| socket.port);
        Open { number: self.number, handle, name: self.name, port, accepts: socket.is_some_and(|s| s.accepts) }
    }

    fn handle(&self) -> Handle {
        match self.name.as_str() {
            "anon_inode:[eventfd]" => return Handle::Event,
            "anon_inode:[timerfd]" => return Handle::Timer,
            "anon_inode:[eventpoll]" => return Handle::Epoll,
            _ => {}
        }
        let Some(metadata) = &self.metadata else { return Handle::Other };
        let (kind, device) = (metadata.file_type(), metadata.rdev());
        match (major(device), minor(device)) {
            NULL if kind.is_char_device() => Handle::Null,
            UINPUT if kind.is_char_device() => Handle::Uinput,
            _ if kind.is_char_device() || kind.is_block_device() => Handle::Device,
            _ if kind.is_socket() => Handle::OtherSocket,
            _ if kind.is_fifo() => Handle::Pipe,
            _ if kind.is_dir() => Handle::Directory,
            // No file that has a place in a directory is without a name there.
            _ if kind.is_file() && metadata.nlink() == 0 && self.name.starts_with("/memfd:") => Handle::Memory,
            _ if kind.is_file() => Handle::File,
            _ => Handle::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::process::{Command, Stdio};

    use ipc::event::Event;
    use ipc::shm::sealed_memfd;

    use super::*;

    #[test]
    fn reads_itself() {
        let own = std::process::id();
        let (memory, event) = (sealed_memfd("lumen-test", 4096).unwrap(), Event::new().unwrap().into_fd());
        let (null, file) = (File::open("/dev/null").unwrap(), File::open("/proc/self/exe").unwrap());
        let directory = File::open("/").unwrap();
        let (pipe, _other) = nix::unistd::pipe().unwrap();
        let reading = read(own, own).unwrap();
        let open = reading.open.unwrap();
        let handle = |fd: i32| open.iter().find(|open| open.number == fd as u32).unwrap().handle;
        assert_eq!(handle(memory.as_raw_fd()), Handle::Memory);
        assert_eq!(handle(event.as_raw_fd()), Handle::Event);
        assert_eq!(handle(null.as_raw_fd()), Handle::Null);
        assert_eq!(handle(file.as_raw_fd()), Handle::File);
        assert_eq!(handle(directory.as_raw_fd()), Handle::Directory);
        assert_eq!(handle(pipe.as_raw_fd()), Handle::Pipe);
        let uid = nix::unistd::getuid().as_raw();
        assert!(reading.threads.iter().all(|walls| walls.uids == [uid; 4]));
        assert_eq!(reading.namespaces.unwrap(), namespaces(own).unwrap());
        let files = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(reading.limits["open files"], files);
    }

    #[test]
    fn a_process_that_has_ended_is_none_whether_it_was_buried_or_not() {
        let mut child = Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let pid = child.id();
        assert!(read(pid, pid).is_ok());
        // The end of its output tells that it is on its way out, and so does waiting without burying.
        drop(child.stdin.take());
        let id = nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid as i32));
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(id, flags).unwrap();
        assert_eq!(read(pid, pid), Err(Unread::Ended));
        child.wait().unwrap();
        assert_eq!(read(pid, pid), Err(Unread::Ended));
    }

    #[test]
    fn whose_unit_a_process_is_in() {
        let unit = |manager: &str, name: &str| Some(Unit { manager: manager.into(), name: name.into() });
        let both = "4:devices:/system.slice\n1:name=systemd:/system.slice/lumend.service\n0::/elsewhere\n";
        let user = "/user.slice/user-7.slice/user@7.service";
        for (text, expected) in [
            ("0::/system.slice/lumend.service\n", unit("", "lumend.service")),
            (both, unit("", "lumend.service")),
            ("0::/system.slice/system-lumen\\x2dnet.slice/lumen-net@1.service\n", unit("", "lumen-net@1.service")),
            (&format!("0::{user}/app.slice/lumend.service"), unit(user, "lumend.service")),
            ("0::/system.slice/person.service/lumend.service", unit("/system.slice/person.service", "lumend.service")),
            ("0::/user.slice/user-7.slice/session-1.scope\n", None),
            ("0::/\n", None),
            ("", None),
        ] {
            assert_eq!(parse_unit(text), expected, "{text}");
        }
    }

    #[test]
    fn what_the_kernel_writes_is_not_taken_for_granted() {
        for text in ["", "Uid:", "Uid:\t1\nGid:\t1", "Uid:\t1 2 3 4\nGid:\ta b c d"] {
            assert_eq!(parse_status(text), None);
        }
        assert!(parse_limits("Limit   Soft\nMax open files\nMax é open files              x y").is_empty());
        let line = "Max data size             unlimited            1048576              bytes     ";
        assert_eq!(parse_limits(line), BTreeMap::from([("data size".to_owned(), (u64::MAX, 1 << 20))]));
    }
}
