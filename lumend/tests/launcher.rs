//! The launcher role of the real binary, with a real sway: told to start, killed at, told to stop, left alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ipc::link::Link;
use ipc::plane::LINK_FD;
use ipc::{FromLauncher, ToLauncher};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A bound on hanging, not on speed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Sway refuses to run as root. A number of this test's own, so that what runs as it was started here.
const USER: u32 = 64556;

/// One start at a time: a program cannot be run while a child that another test has just forked holds it open for
/// writing.
static STARTS: Mutex<()> = Mutex::new(());

struct Launcher {
    child: Child,
    link: Option<Link>,
    runtime: PathBuf,
}

impl Launcher {
    fn start(name: &str, exec: &str) -> Self {
        Self::start_number(name, exec, 1)
    }

    fn start_number(name: &str, exec: &str, number: u32) -> Self {
        let _one_at_a_time = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = std::env::temp_dir().join(format!("lumen-launcher-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&runtime);
        fs::DirBuilder::new().mode(0o700).create(&runtime).unwrap();
        // A copy: the other user may have no way to the build directory.
        let program = runtime.join("lumend");
        fs::copy(env!("CARGO_BIN_EXE_lumend"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let (ours, theirs) = Link::pair().unwrap();
        let theirs = theirs.into_fd();
        let mut command = Command::new(&program);
        command.args(["--runtime".as_ref(), runtime.as_os_str(), "launcher".as_ref(), exec.as_ref()]);
        command.arg(format!("--number={number}"));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        if nix::unistd::geteuid().is_root() {
            chown(&runtime, Some(USER), Some(USER)).unwrap();
            command.uid(USER).gid(USER);
        }
        give_link(&mut command, theirs.as_fd().as_raw_fd());
        Self { child: command.spawn().unwrap(), link: Some(ours), runtime }
    }

    fn order(&self, order: ToLauncher) {
        self.link.as_ref().unwrap().send(order).unwrap();
    }

    fn hear(&self) -> FromLauncher {
        let link = self.link.as_ref().unwrap();
        assert!(link.wait_readable(PATIENCE).unwrap(), "the launcher says nothing");
        link.recv().unwrap().unwrap().message
    }

    fn has_sockets(&self) -> bool {
        ["wayland-1", "sway.sock"].iter().all(|name| self.runtime.join("desktop").join(name).exists())
    }

    /// What it started, and what that started.
    fn descendants(&self) -> BTreeSet<u32> {
        let mut all = BTreeSet::new();
        let mut fresh = vec![self.child.id()];
        while let Some(pid) = fresh.pop() {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| child.parse().ok());
            fresh.extend(children.filter(|&child| all.insert(child)));
        }
        all
    }

    fn sway(&self) -> Pid {
        let is_sway = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sway\n");
        Pid::from_raw(self.descendants().into_iter().find(is_sway).expect("a sway").cast_signed())
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        // Closing the link is the order to end everything.
        self.link = None;
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.runtime);
    }
}

fn give_link(command: &mut Command, link: i32) {
    // SAFETY: dup2 and fcntl are async-signal-safe, and the caller keeps the link open until the child has started.
    unsafe {
        command.pre_exec(move || {
            // A duplicate onto itself would stay close-on-exec.
            let done = if link == LINK_FD { libc::fcntl(link, libc::F_SETFD, 0) } else { libc::dup2(link, LINK_FD) };
            if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
    }
}

/// Waits for a process to end, through a pidfd, so that a number used again cannot fool it.
fn ended(pid: u32) -> bool {
    // SAFETY: the call takes two integers, and the descriptor it makes is nobody else's.
    let pidfd = unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        if fd < 0 {
            return true;
        }
        <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd as i32)
    };
    let mut fds = [nix::poll::PollFd::new(pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::try_from(PATIENCE).unwrap()) == Ok(1)
}

fn is_private(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o777 == 0o700)
}

/// An app that detaches from everything, beside one that stays.
const STUBBORN: &str = "setsid sleep 1000 & sleep 1001";

#[test]
fn starts_restarts_and_leaves_nothing_behind() {
    let launcher = Launcher::start("whole", STUBBORN);
    launcher.order(ToLauncher::StartDesktop);
    assert_eq!(launcher.hear(), FromLauncher::DesktopReady);
    assert!(launcher.has_sockets() && is_private(&launcher.runtime.join("desktop")));
    launcher.order(ToLauncher::StartDesktop);
    assert_eq!(launcher.hear(), FromLauncher::DesktopReady, "there is one already");

    let first = launcher.descendants();
    kill(launcher.sway(), Signal::SIGKILL).unwrap();
    let gone = launcher.hear();
    assert!(matches!(&gone, FromLauncher::DesktopGone { reason } if reason.contains("SIGKILL")), "{gone:?}");
    assert!(first.iter().all(|&pid| ended(pid)), "its apps went with it");

    launcher.order(ToLauncher::StartDesktop);
    assert_eq!(launcher.hear(), FromLauncher::DesktopReady);
    assert!(launcher.has_sockets(), "under the same names");
    let second = launcher.descendants();
    launcher.order(ToLauncher::StopDesktop);
    assert!(second.iter().all(|&pid| ended(pid)));

    launcher.order(ToLauncher::StartDesktop);
    assert_eq!(launcher.hear(), FromLauncher::DesktopReady, "and again, after a stop");
    let third = launcher.descendants();
    let pid = launcher.child.id();
    drop(launcher);
    assert!(ended(pid) && third.iter().all(|&pid| ended(pid)), "the link closed");
}

#[test]
fn a_further_desktop_has_a_directory_and_an_environment_of_its_own() {
    let launcher = Launcher::start_number("second", "", 2);
    launcher.order(ToLauncher::StartDesktop);
    assert_eq!(launcher.hear(), FromLauncher::DesktopReady);
    let directory = launcher.runtime.join("desktop-2");
    assert!(["wayland-1", "sway.sock"].iter().all(|name| directory.join(name).exists()) && is_private(&directory));
    assert!(!launcher.runtime.join("desktop").exists(), "the first one's is left alone");
    let environment = fs::read_to_string(format!("/proc/{}/environ", launcher.sway())).unwrap();
    for (name, value) in [("XDG_RUNTIME_DIR", directory.clone()), ("SWAYSOCK", directory.join("sway.sock"))] {
        assert!(environment.split('\0').any(|line| line == format!("{name}={}", value.display())), "{environment}");
    }
}

#[test]
fn a_killed_launcher_takes_its_compositor_along() {
    let mut launcher = Launcher::start("killed", "");
    launcher.order(ToLauncher::StartDesktop);
    assert_eq!(launcher.hear(), FromLauncher::DesktopReady);
    let sway = launcher.sway();
    launcher.child.kill().unwrap();
    assert!(ended(sway.as_raw().cast_unsigned()));
}

#[test]
fn a_path_no_socket_can_have_is_a_reason() {
    let long = "x".repeat(90);
    let launcher = Launcher::start(&long, "");
    launcher.order(ToLauncher::StartDesktop);
    let gone = launcher.hear();
    assert!(matches!(&gone, FromLauncher::DesktopGone { reason } if reason.contains("--runtime")), "{gone:?}");
}

#[test]
fn is_not_started_by_hand() {
    let _one_at_a_time = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_lumend")).args(["launcher", ""]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("lumend run"));
}
