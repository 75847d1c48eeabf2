//! A headless sway of its own for each test, run by an unprivileged user if the test is root, which sway refuses.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use e2e::wayland::scene::{self, Pace};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use wayland_client::Connection;

use super::PATIENCE;
use super::log::Log;

/// Nobody's in particular; no passwd entry is needed.
const UID: u32 = 64556;
/// Pixels of every output.
pub const SIZE: (f64, f64) = (640.0, 360.0);

/// A compositor and its directory; both end with this value.
pub struct Sway {
    directory: PathBuf,
    child: Child,
}

impl Sway {
    /// Starts sway with this many outputs of 640x360, `HEADLESS-1` and so on from left to right. A window's title is the
    /// name of the output that it opens on.
    pub fn start(test: &str, outputs: usize) -> Self {
        let directory = std::env::temp_dir().join(format!("lumen-input-{test}-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        let mut config = String::from("default_border none\nxwayland disable\nfocus_follows_mouse no\n");
        for number in 1..=outputs {
            let left = (number - 1) * SIZE.0 as usize;
            config += &format!("output HEADLESS-{number} mode --custom 640x360@60Hz position {left} 0\n");
            config += &format!("workspace {number} output HEADLESS-{number}\n");
            config += &format!("assign [title=\"HEADLESS-{number}\"] workspace {number}\n");
        }
        fs::write(directory.join("config"), config).unwrap();
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
            .env("WLR_HEADLESS_OUTPUTS", outputs.to_string())
            .env("WLR_LIBINPUT_NO_DEVICES", "1")
            .env("WLR_RENDERER", std::env::var_os("WLR_RENDERER").unwrap_or("pixman".into()))
            .current_dir(&directory)
            .stderr(Stdio::null())
            .spawn()
            .expect("sway is needed for this test; `cargo xtask deps` installs it");
        let sway = Self { directory, child };
        // Sway answers on its control socket only once its configuration, and so the outputs' mode, is in force.
        let deadline = Instant::now() + PATIENCE;
        while sway.message(&["-t", "get_outputs"]).is_none_or(|answer| !answer.contains("\"width\": 640")) {
            assert!(Instant::now() < deadline, "sway does not start");
            thread::park_timeout(Duration::from_millis(20));
        }
        sway
    }

    /// A fresh connection that nobody has spoken on.
    pub fn connect(&self) -> OwnedFd {
        self.stream().into()
    }

    fn stream(&self) -> UnixStream {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for number in 0..10 {
                if let Ok(stream) = UnixStream::connect(self.directory.join(format!("wayland-{number}"))) {
                    return stream;
                }
            }
            assert!(Instant::now() < deadline, "sway has no Wayland socket");
            thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// Opens a window that fills the output and logs what hands do to it. It closes with the compositor.
    pub fn window(&self, output: &'static str) -> Log {
        let path = self.directory.join(format!("{output}.log"));
        let file = File::create(&path).unwrap();
        let compositor = Connection::from_socket(self.stream()).unwrap();
        thread::spawn(move || scene::run(compositor, Pace::Still, Duration::from_secs(600), output, Some(file)));
        let deadline = Instant::now() + PATIENCE;
        while self.message(&["-t", "get_tree"]).is_none_or(|tree| !shows(&tree, output)) {
            assert!(Instant::now() < deadline, "no window on {output}");
            thread::park_timeout(Duration::from_millis(20));
        }
        Log::new(path)
    }

    /// Gives sway a command that must succeed.
    pub fn command(&self, command: &str) {
        assert!(self.message(&["--", command]).is_some(), "sway refuses: {command}");
    }

    /// Stops it where it is, or lets it go on.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
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

/// Whether the tree has a window of this title that is shown on the output of that name, and fills it.
fn shows(tree: &str, title: &str) -> bool {
    fn find<'a>(node: &'a Value, fits: &dyn Fn(&Value) -> bool) -> Option<&'a Value> {
        let nodes = node["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        if fits(node) { Some(node) } else { nodes.iter().find_map(|node| find(node, fits)) }
    }
    let Ok(tree) = serde_json::from_str::<Value>(tree) else { return false };
    let output = find(&tree, &|node| node["type"] == "output" && node["name"] == title);
    output.is_some_and(|output| {
        let window = |node: &Value| node["type"] == "con" && node["name"] == title && node["visible"] == true;
        find(output, &window).is_some_and(|window| window["rect"] == output["rect"])
    })
}

impl Drop for Sway {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}
