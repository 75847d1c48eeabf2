//! A sound server that is the test's own: PipeWire and WirePlumber, as a desktop would have them.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::geteuid;
use serde_json::Value;

use crate::process::{Running, wait_until};
use crate::stage::Stage;

/// The loudspeakers of the machine that the test pretends to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Speakers {
    /// A server in a cupboard.
    None,
    Stereo,
    Surround51,
}

/// Node name of the loudspeakers.
pub const SPEAKERS: &str = "speakers";

/// A running sound server. Dropping it stops it.
pub struct Sound {
    place: Place,
    speakers: Speakers,
    /// In the order in which they are stopped.
    wireplumber: Running,
    pipewire: Running,
}

/// Whose server it is and where it lives.
struct Place {
    runtime: PathBuf,
    home: PathBuf,
    user: (u32, u32),
    logs: PathBuf,
}

impl Place {
    /// A program of the sound server's user, who sees nothing but this server.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", &self.home)
            .env("XDG_RUNTIME_DIR", &self.runtime)
            .env("PIPEWIRE_RUNTIME_DIR", &self.runtime)
            .current_dir(&self.home);
        if geteuid().is_root() {
            command.uid(self.user.0).gid(self.user.1);
        }
        command
    }

    fn launch(&self, name: &'static str, arguments: &[&str]) -> Result<Running> {
        let log = std::fs::File::create(self.logs.join(format!("{name}.log")))?;
        let child = self
            .command(name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| format!("{name} does not start; run: cargo xtask deps"))?;
        Ok(Running::new(name, child))
    }

    /// PipeWire and its session manager.
    fn servers(&self) -> Result<(Running, Running)> {
        let socket = self.runtime.join("pipewire-0");
        // What a killed server leaves would be taken for the new one's.
        let _ = std::fs::remove_file(&socket);
        let pipewire = self.launch("pipewire", &[])?;
        wait_for_file(&socket, "pipewire")?;
        Ok((pipewire, self.launch("wireplumber", &[])?))
    }
}

impl Sound {
    /// Starts everything and waits until it can be played to.
    pub fn start(stage: &Stage, speakers: Speakers) -> Result<Self> {
        Self::start_with(stage, speakers, None)
    }

    /// As [`Sound::start`], with cycles of at least 1024 samples (21 ms): what a busy machine without real-time priority
    /// can keep, so that a hole in the sound is not the server's.
    pub fn start_calm(stage: &Stage, speakers: Speakers) -> Result<Self> {
        Self::start_with(stage, speakers, Some(CALM))
    }

    fn start_with(stage: &Stage, speakers: Speakers, more: Option<(&'static str, &str)>) -> Result<Self> {
        let runtime = stage.directory("sound")?;
        let home = stage.directory("sound-home")?;
        configure(stage, speakers, more)?;
        let user = (stage.uid(), stage.gid());
        let place = Place { runtime, home, user, logs: stage.out("") };
        let (pipewire, wireplumber) = place.servers()?;
        let sound = Self { place, speakers, wireplumber, pipewire };
        sound.wait_ready()?;
        Ok(sound)
    }

    /// Waits until programs can play.
    fn wait_ready(&self) -> Result<()> {
        let wanted = (self.speakers != Speakers::None).then(|| SPEAKERS.to_owned());
        let ready = || (self.is_managed() && self.default_sink() == wanted).then_some(());
        wait_until(Duration::from_secs(15), ready).with_context(|| {
            format!("the sound server does not get ready; its default is {:?}", self.default_sink())
        })?;
        hurry(self.pipewire.pid())
    }

    /// Starts the server and its session manager again.
    pub fn revive(&mut self) -> Result<()> {
        (self.pipewire, self.wireplumber) = self.place.servers()?;
        self.wait_ready()
    }

    /// `kill -9` of the server itself; the session manager goes with it. [`Sound::revive`] brings both back.
    pub fn kill(&mut self) -> Result<()> {
        self.pipewire.signal(nix::sys::signal::Signal::SIGKILL)?;
        self.pipewire.wait(Duration::from_secs(5))?;
        self.wireplumber.stop().map(drop)
    }

    /// Starts `tone ARGUMENTS`, which plays to the default sink until it is dropped.
    pub fn play(&self, stage: &Stage, arguments: &[&str]) -> Result<Running> {
        let log = std::fs::File::create(stage.out("tone.log"))?;
        let mut command = stage.command("tone");
        command.envs(self.environment()).args(arguments).stdin(Stdio::null()).stderr(log);
        Ok(Running::new("tone", command.spawn().context("tone does not start")?))
    }

    /// The environment in which programs play to this server, and lumend finds it.
    pub fn environment(&self) -> [(&'static str, PathBuf); 1] {
        [("PIPEWIRE_RUNTIME_DIR", self.place.runtime.clone())]
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.place.runtime.join("pipewire-0")
    }

    /// Runs a tool of PipeWire's against this server.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Result<Output> {
        self.place
            .command(name)
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("{name} does not run; run: cargo xtask deps"))
    }

    /// All objects of the server, as `pw-dump` tells them.
    pub fn objects(&self) -> Result<Vec<Value>> {
        let output = self.tool("pw-dump", &["--no-colors"])?;
        ensure!(output.status.success(), "pw-dump: {}", String::from_utf8_lossy(&output.stderr).trim());
        match serde_json::from_slice(&output.stdout)? {
            Value::Array(objects) => Ok(objects),
            other => bail!("pw-dump printed {other}"),
        }
    }

    /// Names of all nodes.
    pub fn nodes(&self) -> Result<Vec<String>> {
        let objects = self.objects()?;
        let nodes = objects.iter().filter(|object| object["type"] == "PipeWire:Interface:Node");
        Ok(nodes.filter_map(|node| node["info"]["props"]["node.name"].as_str().map(str::to_owned)).collect())
    }

    /// The node that programs play to unless told otherwise.
    pub fn default_sink(&self) -> Option<String> {
        self.metadata("default.audio.sink")
    }

    /// The node that somebody has chosen to be the default.
    pub fn configured_sink(&self) -> Option<String> {
        self.metadata("default.configured.audio.sink")
    }

    fn metadata(&self, key: &str) -> Option<String> {
        let objects = self.objects().ok()?;
        let entries = objects
            .iter()
            .filter(|object| object["props"]["metadata.name"] == "default")
            .filter_map(|object| object["metadata"].as_array())
            .flatten();
        entries.filter(|entry| entry["key"] == key).find_map(|entry| Some(entry["value"]["name"].as_str()?.to_owned()))
    }

    /// A session manager is at work: it keeps the list of defaults, even an empty one, which `pw-dump` does not show.
    fn is_managed(&self) -> bool {
        let list = self.tool("pw-metadata", &["-n", "default"]);
        list.is_ok_and(|list| String::from_utf8_lossy(&list.stdout).contains("Found \"default\""))
    }
}

/// Lets a program's threads run before others, if the caller may say so: on a desktop a service sees to it that sound
/// does not wait for compilers.
pub fn hurry(pid: i32) -> Result<()> {
    if geteuid().is_root() {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"))?;
        let threads = tasks.map(|task| Ok(task?.file_name())).collect::<Result<Vec<_>>>()?;
        let output = Command::new("renice").args(["-n", "-11", "-p"]).args(threads).output()?;
        ensure!(output.status.success(), "renice: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn wait_for_file(path: &Path, who: &str) -> Result<()> {
    wait_until(Duration::from_secs(10), || path.exists().then_some(())).with_context(|| format!("{who} made no socket"))
}

/// No session bus is needed and no hardware is looked for: the user of a stage has no name, and a bus serves nobody
/// without. WirePlumber 0.4 reads the scripts, 0.5 the profile.
const WITHOUT_BUS: [(&str, &str); 3] = [
    (
        "wireplumber/main.lua.d/80-no-hardware.lua",
        "alsa_monitor.enabled = false\nv4l2_monitor.enabled = false\nlibcamera_monitor.enabled = false\n\
         default_access.properties[\"enable-flatpak-portal\"] = false\n",
    ),
    ("wireplumber/bluetooth.lua.d/80-no-hardware.lua", "bluez_monitor.enabled = false\n"),
    (
        "wireplumber/wireplumber.conf.d/no-hardware.conf",
        "wireplumber.profiles = { main = { hardware.audio = disabled hardware.bluetooth = disabled \
         hardware.video-capture = disabled support.dbus = disabled support.portal-permissionstore = disabled } }\n",
    ),
];

/// Cycles that nobody may ask to be shorter.
const CALM: (&str, &str) = (
    "pipewire/pipewire.conf.d/calm.conf",
    "context.properties = { default.clock.min-quantum = 1024 default.clock.quantum = 1024 }\n",
);

/// Loudspeakers that swallow the sound at the pace of the machine's clock.
fn speakers_file(speakers: Speakers) -> Option<(&'static str, String)> {
    let position = match speakers {
        Speakers::None => return None,
        Speakers::Stereo => "FL FR",
        Speakers::Surround51 => "FL FR FC LFE RL RR",
    };
    let objects = format!(
        "context.objects = [ {{ factory = adapter args = {{ factory.name = support.null-audio-sink node.name = \
         {SPEAKERS} node.description = \"Loudspeakers\" media.class = Audio/Sink object.linger = true audio.position = \
         [ {position} ] }} }} ]\n"
    );
    Some(("pipewire/pipewire.conf.d/speakers.conf", objects))
}

/// Writes the configuration of server and session manager into the stage.
fn configure(stage: &Stage, speakers: Speakers, more: Option<(&'static str, &str)>) -> Result<()> {
    let quiet = WITHOUT_BUS.map(|(name, text)| (name, text.to_owned()));
    let more = more.map(|(name, text)| (name, text.to_owned()));
    for (name, text) in quiet.into_iter().chain(speakers_file(speakers)).chain(more) {
        let path = Path::new("sound-home/.config").join(name);
        let mut directories: Vec<&Path> = path.ancestors().skip(1).collect();
        directories.pop();
        for directory in directories.iter().rev() {
            stage.directory(directory.to_str().context("names are ASCII")?)?;
        }
        stage.write(path.to_str().context("names are ASCII")?, &text)?;
    }
    Ok(())
}
