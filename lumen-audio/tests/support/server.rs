//! PipeWire and WirePlumber of a test's own, run by an unprivileged user if the test is root.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use serde_json::Value;

use super::PATIENCE;

/// Nobody's in particular; no passwd entry is needed.
const UID: u32 = 64555;

/// No bus is there, and no hardware is looked for. WirePlumber 0.4 reads the scripts, 0.5 the profile.
const QUIET: [(&str, &str); 3] = [
    (
        "main.lua.d/80-test.lua",
        "alsa_monitor.enabled = false\nv4l2_monitor.enabled = false\nlibcamera_monitor.enabled = false\n\
         default_access.properties[\"enable-flatpak-portal\"] = false\n",
    ),
    ("bluetooth.lua.d/80-test.lua", "bluez_monitor.enabled = false\n"),
    (
        "wireplumber.conf.d/test.conf",
        "wireplumber.profiles = { main = { hardware.audio = disabled, hardware.bluetooth = disabled, \
         hardware.video-capture = disabled, support.dbus = disabled } }\n",
    ),
];

/// A sound server and its directory; both end with this value.
pub struct Server {
    directory: PathBuf,
    pipewire: Child,
    wireplumber: Child,
}

impl Server {
    /// Starts one without any sink.
    pub fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("lumen-audio-{}-{number}", std::process::id()));
        own_directory(&directory);
        for (name, text) in QUIET {
            let path = directory.join("config/wireplumber").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let pipewire = program(&directory, "pipewire").spawn().expect("PipeWire is needed: `cargo xtask deps`");
        wait(|| UnixStream::connect(directory.join("pipewire-0")).is_ok(), "PipeWire has no socket");
        let wireplumber = program(&directory, "wireplumber").spawn().expect("WirePlumber is needed");
        let server = Self { directory, pipewire, wireplumber };
        wait(|| !server.metadata().is_empty(), "WirePlumber does not start");
        server
    }

    /// Starts one with a sink named "speakers", the default; `positions` as in "FL,FR".
    pub fn with_speakers(positions: &str) -> Self {
        let server = Self::start();
        server.add_sink("speakers", positions);
        wait(|| server.default_sink().as_deref() == Some("speakers"), "the sink does not become the default");
        server
    }

    /// Adds a sink that swallows sound at the pace of the machine's clock.
    pub fn add_sink(&self, name: &str, positions: &str) {
        let properties = format!(
            "{{ factory.name=support.null-audio-sink node.name={name} node.description=Loudspeakers-{name} \
             media.class=Audio/Sink object.linger=true audio.position=[{positions}] }}"
        );
        self.tool("pw-cli", &["create-node", "adapter", &properties]);
        wait(|| self.node(name).is_some(), "the sink does not appear");
    }

    pub fn remove(&self, name: &str) {
        let id = self.node(name).expect("no such node")["id"].to_string();
        self.tool("pw-cli", &["destroy", &id]);
        wait(|| self.node(name).is_none(), "the node stays");
    }

    /// A fresh connection that nobody has spoken on.
    pub fn connect(&self) -> OwnedFd {
        UnixStream::connect(self.directory.join("pipewire-0")).unwrap().into()
    }

    /// The sink that programs play to.
    pub fn default_sink(&self) -> Option<String> {
        self.default("default.audio.sink")
    }

    /// The sink that somebody has chosen.
    pub fn configured_sink(&self) -> Option<String> {
        self.default("default.configured.audio.sink")
    }

    /// Chooses the default as a person would.
    pub fn choose_sink(&self, name: &str) {
        let value = format!("{{ \"name\": \"{name}\" }}");
        self.tool("pw-metadata", &["0", "default.configured.audio.sink", &value, "Spa:String:JSON"]);
    }

    /// The same, and waits for it. Looking is not innocent: while one program is told what there is, PipeWire tells
    /// the others nothing of changes.
    pub fn configure_sink(&self, name: &str) {
        self.choose_sink(name);
        wait(|| self.configured_sink().as_deref() == Some(name), "the choice is not heard");
    }

    /// Makes every cycle this long, in samples.
    pub fn force_quantum(&self, samples: u32) {
        self.tool("pw-metadata", &["-n", "settings", "0", "clock.force-quantum", &samples.to_string()]);
    }

    pub fn node(&self, name: &str) -> Option<Value> {
        let is = |object: &Value| object["info"]["props"]["node.name"] == name;
        self.objects().into_iter().find(|object| object["type"] == "PipeWire:Interface:Node" && is(object))
    }

    /// `kill -9`, the session manager too.
    pub fn kill(&mut self) {
        for child in [&mut self.wireplumber, &mut self.pipewire] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn default(&self, key: &str) -> Option<String> {
        let start = format!("update: id:0 key:'{key}' value:'");
        let listing = self.metadata();
        let value = listing.lines().find_map(|line| line.strip_prefix(&start))?.split('\'').next()?;
        serde_json::from_str::<Value>(value).ok()?["name"].as_str().map(str::to_owned)
    }

    /// All entries of the session manager's metadata, one a line; empty if there is no session manager.
    fn metadata(&self) -> String {
        let output = program(&self.directory, "pw-metadata").stdout(Stdio::piped()).output().expect("pw-metadata");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("Found \"default\" metadata") { text } else { String::new() }
    }

    fn objects(&self) -> Vec<Value> {
        let output = program(&self.directory, "pw-dump").stdout(Stdio::piped()).output().expect("pw-dump is needed");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn tool(&self, name: &str, arguments: &[&str]) {
        let status = program(&self.directory, name).args(arguments).status().unwrap();
        assert!(status.success(), "{name} {arguments:?}: {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Waits for something that comes by itself.
pub fn wait(ready: impl Fn() -> bool, complaint: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !ready() {
        assert!(Instant::now() < deadline, "{complaint}");
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

fn own_directory(directory: &Path) {
    fs::create_dir(directory).unwrap();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    fs::create_dir(directory.join("state")).unwrap();
    if nix::unistd::geteuid().is_root() {
        for path in [directory.to_owned(), directory.join("state")] {
            chown(path, Some(UID), Some(UID)).unwrap();
        }
    }
}

fn program(directory: &Path, name: &str) -> Command {
    let mut command = Command::new(name);
    if nix::unistd::geteuid().is_root() {
        command.uid(UID).gid(UID);
    }
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .env("XDG_RUNTIME_DIR", directory)
        .env("XDG_CONFIG_HOME", directory.join("config"))
        .env("XDG_STATE_HOME", directory.join("state"))
        .env("PIPEWIRE_RUNTIME_DIR", directory)
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}
