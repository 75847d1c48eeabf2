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
use ipc::{FromLauncher, RunId, ToLauncher};
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
        Self::start_with(name, exec, &[&format!("--number={number}")])
    }

    fn start_with(name: &str, exec: &str, more: &[&str]) -> Self {
        let one_at_a_time = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
        let runtime = std::env::temp_dir().join(format!("lumen-launcher-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&runtime);
        fs::DirBuilder::new().mode(0o700).create(&runtime).unwrap();
        // A copy: the other user may have no way to the build directory.
        let program = runtime.join("lumend");
        fs::copy(env!("CARGO_BIN_EXE_lumend"), &program).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        drop(one_at_a_time);
        Self::start_in(runtime, exec, more)
    }

    /// One more, where there has been one.
    fn start_in(runtime: PathBuf, exec: &str, more: &[&str]) -> Self {
        let _one_at_a_time = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
        let program = runtime.join("lumend");
        let (ours, theirs) = Link::pair().unwrap();
        let theirs = theirs.into_fd();
        let mut command = Command::new(&program);
        command.args(["--runtime".as_ref(), runtime.as_os_str(), "launcher".as_ref(), exec.as_ref()]);
        command.args(more);
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
    assert!(matches!(launcher.hear(), FromLauncher::DesktopGone { .. }), "each that was started goes once");
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

/// An app that says what becomes of it in files, and undoes that.
fn list(launcher_runtime: &str, command: &str) -> String {
    let directory = std::env::temp_dir().join(format!("lumen-launcher-{}-{launcher_runtime}", std::process::id()));
    let touch = |name: &str| format!("echo $WAYLAND_DISPLAY > {}", directory.join(name).display());
    let commands = serde_json::json!([
        { "command": "exit 9", "prep": [], "undo": [] },
        { "command": command, "prep": [touch("prepared")], "undo": [touch("undone")] },
    ]);
    format!("--apps={commands}")
}

impl Launcher {
    fn has(&self, name: &str) -> bool {
        self.runtime.join(name).exists()
    }

    /// Waits for a process whose command line is this; there is no other news of one.
    fn await_process(&self, line: &str) -> u32 {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let is = |pid: &u32| {
                let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&command).replace('\0', " ").trim() == line
            };
            if let Some(pid) = self.descendants().into_iter().find(is) {
                return pid;
            }
            assert!(std::time::Instant::now() < deadline, "no {line}");
            std::thread::yield_now();
        }
    }

    fn ended_because(&self, expected: RunId) -> String {
        match self.hear() {
            FromLauncher::AppEnded { run, reason } if run == expected => reason,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_app_runs_where_lumend_does_and_ends_by_itself_or_when_told() {
    let launcher = Launcher::start_with("bare", "", &["--bare", &list("bare", "setsid sleep 1002 & sleep 1003")]);
    launcher.order(ToLauncher::StartApp { run: RunId(1), app: 0 });
    assert_eq!(launcher.ended_because(RunId(1)), "it ended (exit status 9)");
    assert!(!launcher.has("undone"));

    launcher.order(ToLauncher::StartApp { run: RunId(2), app: 1 });
    let app = [launcher.await_process("sleep 1002"), launcher.await_process("sleep 1003")];
    assert!(launcher.has("prepared") && !launcher.has("undone"));
    launcher.order(ToLauncher::StartApp { run: RunId(3), app: 2 });
    assert_eq!(launcher.ended_because(RunId(3)), "the launcher knows no such app");
    launcher.order(ToLauncher::StopApp { run: RunId(2) });
    assert_eq!(launcher.ended_because(RunId(2)), "it was stopped");
    assert!(launcher.has("undone") && app.into_iter().all(ended), "what left its session ended with it");

    // One that does not mind SIGTERM.
    drop(launcher);
    let launcher = Launcher::start_with(
        "stubborn",
        "",
        &["--bare", &list("stubborn", "trap '' TERM; sleep 1004 & wait; sleep 1005")],
    );
    launcher.order(ToLauncher::StartApp { run: RunId(1), app: 1 });
    launcher.await_process("sleep 1004");
    launcher.order(ToLauncher::StopApp { run: RunId(1) });
    assert_eq!(launcher.ended_because(RunId(1)), "it was stopped");
    assert!(launcher.has("undone") && launcher.descendants().is_empty());
}

#[test]
fn an_app_that_goes_into_the_background_still_runs() {
    let launcher = Launcher::start_with("forked", "", &["--bare", &list("forked", "sleep 1006 & exit 0")]);
    launcher.order(ToLauncher::StartApp { run: RunId(1), app: 1 });
    let app = launcher.await_process("sleep 1006");
    assert!(!launcher.link.as_ref().unwrap().wait_readable(Duration::ZERO).unwrap());
    kill(Pid::from_raw(app.cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(launcher.ended_because(RunId(1)), "it ended");
    assert!(launcher.has("undone"));
}

#[test]
fn an_app_waits_for_its_desktop_and_ends_with_it() {
    let launcher = Launcher::start_with("on-desktop", "", &["--number=1", &list("on-desktop", "sleep 1007")]);
    launcher.order(ToLauncher::StartApp { run: RunId(1), app: 1 });
    assert_eq!(launcher.ended_because(RunId(1)), "the desktop is gone");
    launcher.order(ToLauncher::StartDesktop);
    launcher.order(ToLauncher::StartApp { run: RunId(2), app: 1 });
    assert_eq!(launcher.hear(), FromLauncher::DesktopReady);
    let app = launcher.await_process("sleep 1007");
    assert_eq!(fs::read_to_string(launcher.runtime.join("prepared")).unwrap(), "wayland-1\n");
    kill(launcher.sway(), Signal::SIGKILL).unwrap();
    let words = [launcher.hear(), launcher.hear()];
    let gone = |word: &FromLauncher| matches!(word, FromLauncher::DesktopGone { .. });
    let over = |word: &FromLauncher| matches!(word, FromLauncher::AppEnded { run: RunId(2), .. });
    assert!(words.iter().any(gone) && words.iter().any(over), "{words:?}");
    assert!(ended(app) && launcher.has("undone"));
}

#[test]
fn the_launchers_end_undoes_what_was_prepared() {
    let mut launcher = Launcher::start_with("end", "", &["--bare", &list("end", "sleep 1008")]);
    launcher.order(ToLauncher::StartApp { run: RunId(1), app: 1 });
    let app = launcher.await_process("sleep 1008");
    launcher.link = None;
    assert!(launcher.child.wait().unwrap().success());
    assert!(launcher.has("undone") && ended(app));
}

/// A service manager tells every process that it sees to end, and people do.
#[test]
fn a_signal_to_the_launcher_undoes_what_was_prepared() {
    let mut launcher = Launcher::start_with("signal", "", &["--bare", &list("signal", "sleep 1009")]);
    launcher.order(ToLauncher::StartApp { run: RunId(1), app: 1 });
    let app = launcher.await_process("sleep 1009");
    kill(Pid::from_raw(launcher.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(launcher.child.wait().unwrap().success());
    assert!(launcher.has("undone") && ended(app));
}

#[test]
fn what_hides_from_the_launcher_ends_with_it() {
    let hidden = "setsid env -u LUMEN_RUN sh -c 'sleep 1010; true' & sleep 1011";
    let mut launcher = Launcher::start_with("hidden", "", &["--bare", &list("hidden", hidden)]);
    launcher.order(ToLauncher::StartApp { run: RunId(1), app: 1 });
    let (hidden, app) = (launcher.await_process("sleep 1010"), launcher.await_process("sleep 1011"));
    launcher.link = None;
    assert!(launcher.child.wait().unwrap().success());
    assert!(launcher.has("undone") && ended(app) && ended(hidden));
}

/// As when lumend is killed while an app runs: its launcher ends that in order, and the next lumend is there at once.
#[test]
fn a_successor_has_the_desktop_when_its_predecessor_has_ended() {
    let stubborn = list("successor", "trap '' TERM; sleep 1012 & wait; sleep 1013");
    let mut first = Launcher::start_with("successor", "", &["--number=1", &stubborn]);
    first.order(ToLauncher::StartDesktop);
    first.order(ToLauncher::StartApp { run: RunId(1), app: 1 });
    assert_eq!(first.hear(), FromLauncher::DesktopReady);
    first.await_process("sleep 1012");
    first.link = None;
    let second = Launcher::start_in(first.runtime.clone(), "", &["--number=1"]);
    second.order(ToLauncher::StartDesktop);
    assert_eq!(second.hear(), FromLauncher::DesktopReady);
    assert!(first.child.wait().unwrap().success() && first.has("undone"));
    for name in ["wayland-1", "sway.sock"] {
        std::os::unix::net::UnixStream::connect(second.runtime.join("desktop").join(name)).expect(name);
    }
}
