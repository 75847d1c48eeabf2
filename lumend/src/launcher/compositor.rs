//! A headless sway with a runtime directory of its own, from its configuration to the end of the last process on it.

#![allow(unsafe_code)]

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ipc::link::{Link, LinkError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{AccessFlags, Pid, access, mkfifo};

use super::{Setup, family};
use crate::outputs::seat_command;
use crate::reach;

/// A compositor that has no sockets by then never will.
pub const START_WITHIN: Duration = Duration::from_secs(10);

/// Between SIGTERM and SIGKILL.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// Longer than a launcher takes that ends its apps and its desktop.
const PREDECESSOR_ENDS_WITHIN: Duration = Duration::from_secs(12);

/// Milliseconds until a desktop that is somebody else's is looked at again.
const LOOK_AGAIN_AFTER: u16 = 50;

/// The longest path that fits into a Unix socket address, without its final zero.
const SOCKET_PATH: usize = 107;

/// The name that sway gives its socket in a directory where there is no other.
const WAYLAND: &str = "wayland-1";

/// Where a desktop of lumend's own is found.
#[derive(Clone, Debug)]
pub struct DesktopPaths {
    /// Its XDG_RUNTIME_DIR: made anew for each start.
    pub directory: PathBuf,
    /// The Wayland socket.
    pub wayland: PathBuf,
    /// Sway's IPC socket.
    pub control: PathBuf,
    /// Outside of the directory, which goes with each start.
    lock: PathBuf,
    home: PathBuf,
}

impl DesktopPaths {
    /// Of the desktop of this number. The first has none in its name, as most hosts have but one.
    pub fn new(runtime: &Path, number: u32) -> Self {
        let name = match number {
            1 => "desktop".to_owned(),
            number => format!("desktop-{number}"),
        };
        let directory = runtime.join(&name);
        Self {
            lock: runtime.join(format!("{name}.lock")),
            wayland: directory.join(WAYLAND),
            control: directory.join("sway.sock"),
            home: runtime.join("home"),
            directory,
        }
    }

    /// Waits until this desktop is nobody else's, which it is for as long as the file is open. A launcher whose lumend was
    /// killed goes on until its apps have ended, and its sway then removes its sockets by their names: those of a
    /// successor, if there were one by then. One that does not end in the time that it has is not waited for.
    ///
    /// # Errors
    /// The link has closed, or the file cannot be opened.
    pub fn claim(&self, link: &Link) -> Result<File, LinkError> {
        let flags = libc::O_NOFOLLOW;
        let lock = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(flags)
            .open(&self.lock)
            .map_err(LinkError::Io)?;
        let end = Instant::now() + PREDECESSOR_ENDS_WITHIN;
        while let Err(error) = lock.try_lock() {
            match error {
                TryLockError::WouldBlock if Instant::now() < end => {}
                TryLockError::WouldBlock => {
                    eprintln!("lumend launcher: whoever had this desktop before does not end; starting all the same");
                    break;
                }
                TryLockError::Error(error) => return Err(LinkError::Io(error)),
            }
            // Nothing tells that a lock is free. Orders can wait, but not the end of the one who gives them.
            let mut hang_up = [PollFd::new(link.as_fd(), PollFlags::empty())];
            match poll(&mut hang_up, LOOK_AGAIN_AFTER) {
                Ok(0) | Err(nix::Error::EINTR) => {}
                Ok(_) => return Err(LinkError::Closed),
                Err(errno) => return Err(LinkError::Io(errno.into())),
            }
        }
        Ok(lock)
    }
}

/// A running, or starting, compositor.
pub struct Compositor {
    pid: Pid,
    started: Instant,
    /// The start script writes WAYLAND_DISPLAY into it once sway runs it, which is when the sockets exist. None when
    /// that has happened.
    ready: Option<File>,
}

impl Compositor {
    /// Starts sway. The error is for people.
    pub fn start(paths: &DesktopPaths, setup: Setup<'_>) -> Result<Self, String> {
        if paths.wayland.as_os_str().len() > SOCKET_PATH {
            return Err(format!("{} is too long for a socket; use a shorter --runtime", paths.wayland.display()));
        }
        let ready = prepare(paths, setup)
            .map_err(|error| format!("cannot write {}: {error}; name another --runtime", paths.directory.display()))?;
        let mut command = Command::new("sway");
        command.arg("-c").arg(paths.directory.join("config")).stdin(Stdio::null()).process_group(0);
        set_environment(&mut command, paths);
        command.env("WLR_BACKENDS", "headless");
        command.env("WLR_RENDERER", "pixman");
        command.env("WLR_LIBINPUT_NO_DEVICES", "1");
        command.env("WLR_HEADLESS_OUTPUTS", "1");
        dies_with_us(&mut command);
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "sway is not installed; install it, or use --desktop pattern".to_owned(),
            _ => format!("sway cannot be started: {error}"),
        })?;
        // Its end is taken by the launcher's wait for any child, which dropping the handle leaves alone.
        let pid = Pid::from_raw(child.id().cast_signed());
        Ok(Self { pid, started: Instant::now(), ready: Some(ready) })
    }

    pub fn pid(&self) -> Pid {
        self.pid
    }

    pub fn is_ready(&self) -> bool {
        self.ready.is_none()
    }

    /// When it counts as failed, while it is not ready.
    pub fn deadline(&self) -> Option<Instant> {
        self.ready.as_ref().map(|_| self.started + START_WITHIN)
    }

    /// Readable when [`Self::check_ready`] has something to say.
    pub fn ready_pipe(&self) -> Option<BorrowedFd<'_>> {
        self.ready.as_ref().map(File::as_fd)
    }

    /// True once, when the sockets are there. An error if sway chose other ones.
    pub fn check_ready(&mut self, paths: &DesktopPaths) -> Result<bool, String> {
        let Some(pipe) = &mut self.ready else { return Ok(false) };
        let mut said = [0; 64];
        match pipe.read(&mut said) {
            Ok(0) => Err("the desktop's start script failed; is there a shell?".to_owned()),
            Ok(length) => {
                self.ready = None;
                let name = String::from_utf8_lossy(&said[..length]);
                if paths.directory.join(name.trim()) != paths.wayland || !paths.control.exists() {
                    return Err(format!("sway listens on {:?} instead of {WAYLAND}", name.trim()));
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(format!("cannot read the desktop's ready pipe: {error}")),
        }
    }

    /// Ends sway, and then whatever is left of what ran on it. Every other child of this process goes too: it has no
    /// children but these.
    pub fn stop(self) {
        // Errors mean that it has ended, which is what is wanted; the same below.
        let _ = kill(self.pid, Signal::SIGTERM);
        self.wait_for_end();
        let _ = killpg(self.pid, Signal::SIGKILL);
        family::end();
    }

    /// Waits for the compositor, but not for ever.
    fn wait_for_end(&self) {
        let Ok(pidfd) = crate::reach::pidfd_open(self.pid.as_raw().cast_unsigned()) else { return };
        let deadline = Instant::now() + STOP_WITHIN;
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => {}
                Ok(_) | Err(_) => return,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let _ = poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], timeout);
        }
    }
}

/// Makes the runtime directory anew, so that sway's sockets get the names we expect, and what sway reads in it.
fn prepare(paths: &DesktopPaths, setup: Setup<'_>) -> io::Result<File> {
    match fs::remove_dir_all(&paths.directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Where lumend is another user it is in the group, which may pass the directory above, and connects to the sockets,
    // which are the group's too by this process's umask. Elsewhere this is one user's alone.
    let above = paths.directory.parent().map(fs::metadata).transpose()?.map_or(0, |above| above.mode() & 0o010);
    fs::DirBuilder::new().mode(0o700 | above).create(&paths.directory)?;
    fs::write(paths.directory.join("config"), CONFIG)?;
    // The command never becomes part of sway's configuration, whose quoting is its own.
    fs::write(paths.directory.join("start"), format!("{}{START}{}\n", seats(setup.seats), setup.exec))?;
    let pipe = paths.directory.join("ready");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR)?;
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(pipe)
}

/// The first output exists from the start, at a low rate until a session borrows it: sway 1.7 aborts when a window
/// opens and there is none.
const CONFIG: &str = "\
# Written by lumend at every start of the desktop.
default_border none
default_floating_border none
xwayland disable
output HEADLESS-1 mode --custom 1280x720@10Hz
exec sh \"$XDG_RUNTIME_DIR/start\"
";

/// Makes the seats of sessions before there is any window, so that each window asks for all their keyboards. Sway does
/// not make them by its configuration before there is a keyboard of the kernel's.
fn seats(count: u32) -> String {
    let commands: Vec<_> = (1..=count).map(seat_command).collect();
    if commands.is_empty() { String::new() } else { format!("swaymsg -q -- '{}'\n", commands.join("; ")) }
}

const START: &str = "\
# Run by the desktop once its sockets exist; the last line is [desktop] exec.
echo \"$WAYLAND_DISPLAY\" > \"$XDG_RUNTIME_DIR/ready\"
";

/// A launcher that is killed takes the child along. Not by SIGTERM, which sway forgets if it comes before its loop has
/// begun.
pub fn dies_with_us(command: &mut Command) {
    reach::dies_with_us(command);
    // SAFETY: between fork and exec only sigprocmask is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            SigSet::empty().thread_set_mask()?;
            Ok(())
        });
    }
}

/// A session of the child's own: no terminal, and a process group of its number.
pub fn leads_a_session(command: &mut Command) {
    // SAFETY: between fork and exec only setsid is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            nix::unistd::setsid()?;
            Ok(())
        });
    }
}

/// What every process of a desktop is to have in its environment, the compositor among them.
fn set_environment(command: &mut Command, paths: &DesktopPaths) {
    // Another desktop's, or a service manager's: none of it is meant for this one.
    for name in ["WAYLAND_DISPLAY", "WAYLAND_SOCKET", "DISPLAY", "I3SOCK"] {
        command.env_remove(name);
    }
    command.env("XDG_RUNTIME_DIR", &paths.directory).env("SWAYSOCK", &paths.control);
    // The sound servers stay where they are.
    if let Some(outside) = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty()).map(PathBuf::from) {
        for (name, value) in [("PULSE_RUNTIME_PATH", outside.join("pulse")), ("PIPEWIRE_RUNTIME_DIR", outside)] {
            if std::env::var_os(name).is_none() {
                command.env(name, value);
            }
        }
    }
    set_common_environment(command, &paths.home);
}

/// For an app on a desktop that is up.
pub fn set_app_environment(command: &mut Command, paths: &DesktopPaths) {
    set_environment(command, paths);
    command.env("WAYLAND_DISPLAY", WAYLAND).env("XDG_SESSION_TYPE", "wayland").env("XDG_CURRENT_DESKTOP", "sway");
}

/// For an app where lumend runs: it is to find what lumend found.
pub fn set_bare_environment(command: &mut Command, paths: &DesktopPaths) {
    set_common_environment(command, &paths.home);
}

fn set_common_environment(command: &mut Command, home: &Path) {
    for name in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"] {
        command.env_remove(name);
    }
    // A numeric user without a passwd entry has neither of these, and terminals want both.
    if std::env::var_os("SHELL").is_none() {
        command.env("SHELL", "/bin/sh");
    }
    let usable = |home: &Path| access(home, AccessFlags::W_OK | AccessFlags::X_OK).is_ok();
    match std::env::var_os("HOME").map(PathBuf::from) {
        Some(own) if usable(&own) => {
            command.current_dir(own);
        }
        _ if home.is_dir() || fs::DirBuilder::new().mode(0o700).create(home).is_ok() => {
            command.env("HOME", home).current_dir(home);
        }
        _ => {}
    }
}
