//! A headless sway of its own for each test, run by an unprivileged user if the test is root, which sway refuses.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::PATIENCE;

/// Nobody's in particular; no passwd entry is needed.
const UID: u32 = 64555;

/// A compositor and its directory; both end with this value.
pub struct Sway {
    directory: PathBuf,
    child: Child,
}

impl Sway {
    /// Starts sway with one 640x360 output at 60 Hz, `HEADLESS-1`, showing nothing but 0x204060.
    pub fn start(test: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("lumen-capture-{test}-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(
            directory.join("config"),
            "output HEADLESS-1 mode --custom 640x360@60Hz\noutput * bg #204060 solid_color\ndefault_border none\n\
             xwayland disable\n",
        )
        .unwrap();
        let mut command = Command::new("sway");
        if nix::unistd::geteuid().is_root() {
            chown(&directory, Some(UID), Some(UID)).unwrap();
            command.uid(UID).gid(UID);
        }
        let child = command
            .arg("-c")
            .arg(directory.join("config"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &directory)
            .env("XDG_RUNTIME_DIR", &directory)
            .env("SWAYSOCK", directory.join("sway.sock"))
            .env("WLR_BACKENDS", "headless")
            .env("WLR_HEADLESS_OUTPUTS", "1")
            .env("WLR_LIBINPUT_NO_DEVICES", "1")
            .env("WLR_RENDERER", std::env::var_os("WLR_RENDERER").unwrap_or("pixman".into()))
            .current_dir(&directory)
            .stderr(Stdio::null())
            .spawn()
            .expect("sway is needed for this test; `cargo xtask deps` installs it");
        let sway = Self { directory, child };
        // Sway answers on its control socket only once its configuration, and so the output's mode, is in force.
        let deadline = Instant::now() + PATIENCE;
        while sway.message(&["-t", "get_outputs"]).is_none_or(|answer| !answer.contains("\"width\": 640")) {
            assert!(Instant::now() < deadline, "sway does not start");
            std::thread::park_timeout(Duration::from_millis(20));
        }
        sway
    }

    /// A fresh connection that nobody has spoken on.
    pub fn connect(&self) -> OwnedFd {
        self.stream().into()
    }

    pub fn stream(&self) -> UnixStream {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for number in 0..10 {
                if let Ok(stream) = UnixStream::connect(self.directory.join(format!("wayland-{number}"))) {
                    return stream;
                }
            }
            assert!(Instant::now() < deadline, "sway has no Wayland socket");
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Gives sway a command that must succeed.
    pub fn command(&self, command: &str) {
        assert!(self.message(&["--", command]).is_some(), "sway refuses: {command}");
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn message(&self, arguments: &[&str]) -> Option<String> {
        let output = Command::new("swaymsg")
            .arg("-s")
            .arg(self.directory.join("sway.sock"))
            .args(arguments)
            .stderr(Stdio::null())
            .output()
            .expect("swaymsg comes with sway");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl Drop for Sway {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
