//! What a session under fire is made of: a stage, a sound server with a tone, hosts, and a client that notes everything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::case::{Scene, Series};
use super::hands;
use crate::binaries::{Encoder, Profile, build};
use crate::client::{Client, allow};
use crate::host::Host;
use crate::process::Running;
use crate::sound::{Sound, Speakers};
use crate::stage::Stage;

/// Under which name the client keeps its identity and leaves its files.
const CLIENT: &str = "chaos";
/// No session lasts longer.
const SESSION_SECONDS: u32 = 240;

/// A setting of `lumen.toml`: section, key, and its value as TOML has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    pub section: String,
    pub key: String,
    pub value: String,
}

impl std::str::FromStr for Setting {
    type Err = String;

    /// `SECTION.KEY=VALUE`; a value that is neither a number nor true or false is a string, with or without its quotes.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, value)| Some((name.trim().split_once('.')?, value.trim())));
        let Some(((section, key), value)) = parts else {
            return Err("a setting is SECTION.KEY=VALUE, for example encode.standby=true".to_owned());
        };
        let bare = value.parse::<f64>().is_ok() || ["true", "false"].contains(&value) || value.starts_with(['"', '[']);
        let value = if bare { value.to_owned() } else { format!("\"{value}\"") };
        Ok(Self { section: section.to_owned(), key: key.to_owned(), value })
    }
}

/// Everything that stays from one host to the next.
pub struct Rig {
    pub stage: Stage,
    // Dropped in this order: who plays, then what is played to.
    _tone: Running,
    sound: Sound,
    mode: &'static str,
    settings: Vec<Setting>,
}

impl Rig {
    /// `mode` as `lumen-client --mode` takes it; `settings` go into every host's configuration.
    pub fn new(profile: Profile, mode: &'static str, settings: Vec<Setting>) -> Result<Self> {
        let stage = Stage::new(&build(profile, Encoder::OpenH264)?)?;
        let sound = Sound::start(&stage, Speakers::Stereo)?;
        let tone = sound.play(&stage, &["--step-hz", "220"])?;
        Ok(Self { stage, _tone: tone, sound, mode, settings })
    }

    /// A host for a series, which lets the client in.
    pub fn host(&self, series: &Series) -> Result<Host<'_>> {
        let config = self.config(series);
        let environment = self.sound.environment();
        let host = Host::start_named(&self.stage, "host", Some(series.scene.desktop()), &environment, &config)?;
        allow(&self.stage, &host, CLIENT)?;
        Ok(host)
    }

    fn config(&self, series: &Series) -> String {
        // Each window has a log of its own: one that starts again would overwrite the other's.
        let log = self.stage.out(&format!("{}$$.jsonl", hands::LOG));
        let scene = format!("{} --log {}", self.stage.program("scene").display(), log.display());
        let exec = match series.scene {
            Scene::Moving => Some(format!("exec {scene}")),
            Scene::Still => Some(format!("exec {scene} --still")),
            Scene::Pattern => None,
        };
        let own = |section: &str, key: &str, value: String| Setting {
            section: section.to_owned(),
            key: key.to_owned(),
            value,
        };
        let exec = exec.map(|exec| own("desktop", "exec", format!("\"{exec}\"")));
        let standby = series.standby().then(|| own("encode", "standby", "true".into()));
        toml(exec.iter().chain(&standby).chain(&self.settings))
    }

    /// A client that decodes, listens, types, and writes all of it down.
    pub fn client(&self, host: &Host) -> Result<Client<'_>> {
        let script = self.stage.write("chaos.script", &hands::script(SESSION_SECONDS))?;
        let seconds = SESSION_SECONDS.to_string();
        let mut arguments = vec!["--mode", self.mode, "--decode", "--seconds", &seconds, "--quiet"];
        let files = Files::of(&self.stage);
        let named = [
            ("--out", &files.stream),
            ("--trace", &files.trace),
            ("--audio-trace", &files.sound),
            ("--input-script", &script),
            ("--input-log", &files.sent),
        ];
        for (option, file) in named {
            arguments.extend([option, file.to_str().context("the stage's name is not UTF-8")?]);
        }
        Client::connect(&self.stage, CLIENT, &host.address(), &arguments)
    }

    /// A client that only watches, listens and types.
    pub fn spectator(&self, host: &Host) -> Result<Client<'_>> {
        let script = self.stage.write("chaos.script", &hands::script(SESSION_SECONDS))?;
        let script = script.to_str().context("the stage's name is not UTF-8")?;
        let arguments = ["--mode", self.mode, "--decode", "--quiet", "--input-script", script];
        Client::connect(&self.stage, CLIENT, &host.address(), &arguments)
    }

    /// Holds every picture that the client has shown against what it should show. What `judge` prints.
    pub fn judge(&self) -> Result<Value> {
        let files = Files::of(&self.stage);
        let output = self.stage.command("judge").arg(&files.stream).arg(&files.trace).output()?;
        ensure!(output.status.success(), "judge: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Forgets the logs of windows that are gone.
    pub fn sweep(&self) -> Result<()> {
        for entry in std::fs::read_dir(self.stage.out(""))? {
            let path = entry?.path();
            if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(hands::LOG)) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// How long the client may take to write its report.
pub const FAREWELL: Duration = Duration::from_secs(15);

/// What a client leaves.
pub struct Files {
    pub stream: PathBuf,
    pub trace: PathBuf,
    pub sound: PathBuf,
    pub sent: PathBuf,
}

impl Files {
    pub fn of(stage: &Stage) -> Self {
        let [stream, trace, sound, sent] =
            ["h264", "trace", "sound", "sent"].map(|kind| stage.out(&format!("{CLIENT}.{kind}")));
        Self { stream, trace, sound, sent }
    }
}

/// Settings as a file; the later of two of one name counts.
fn toml<'a>(settings: impl Iterator<Item = &'a Setting>) -> String {
    let mut sections: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for Setting { section, key, value } in settings {
        sections.entry(section).or_default().insert(key, value);
    }
    let mut text = String::new();
    for (section, keys) in sections {
        let _ = writeln!(text, "[{section}]");
        for (key, value) in keys {
            let _ = writeln!(text, "{key} = {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_written_as_toml_has_them() {
        let parse = |text: &str| text.parse::<Setting>().unwrap();
        let settings = ["encode.standby=true", "desktop.exec = foot -e top", "encode.bitrate_kbps=5000", "a.b=\"c\""];
        let mut settings: Vec<Setting> = settings.into_iter().map(parse).collect();
        settings.push(parse("encode.standby=false"));
        let expected =
            "[a]\nb = \"c\"\n[desktop]\nexec = \"foot -e top\"\n[encode]\nbitrate_kbps = 5000\nstandby = false\n";
        assert_eq!(toml(settings.iter()), expected);
        for wrong in ["standby=true", "encode.standby", "", "="] {
            assert!(wrong.parse::<Setting>().is_err(), "{wrong}");
        }
    }
}
