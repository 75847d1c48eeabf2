//! Moonlight clients: where they are served, and what they may start.

use std::path::PathBuf;

use lumen_core::Encryption;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::Address;
use super::values::{lines, one_line, path};

/// Each is a message to a fresh network plane, and its link holds only so many.
pub const MAX_APPS: usize = 32;
/// Bytes of all commands together. The launcher is told them in one argument, of which Linux allows 128 KiB, and in JSON
/// they may be twice as long.
const MAX_COMMANDS: usize = 48 * 1024;
/// The app that is always there.
pub const DESKTOP: &str = "Desktop";

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GameStream {
    pub enabled: bool,
    /// TCP port of HTTP; the five other ports follow from it.
    #[serde(deserialize_with = "base_port")]
    pub base_port: u16,
    pub bind: Address,
    pub encryption: Encryption,
}

impl Default for GameStream {
    fn default() -> Self {
        Self { enabled: true, base_port: 47989, bind: Address::Auto, encryption: Encryption::Auto }
    }
}

/// mDNS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Discovery {
    pub enabled: bool,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// One entry of the app list that clients are shown.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    #[serde(deserialize_with = "name")]
    pub name: String,
    /// A shell command, one line; empty: nothing is started, the client sees the desktop as it is.
    #[serde(default, deserialize_with = "one_line")]
    pub command: String,
    /// A PNG.
    #[serde(default, deserialize_with = "path")]
    pub image: Option<PathBuf>,
    /// Shell commands that are run to their ends, one after the other, before the app is started...
    #[serde(default, deserialize_with = "lines")]
    pub prep: Vec<String>,
    /// ...and after it has ended.
    #[serde(default, deserialize_with = "lines")]
    pub undo: Vec<String>,
}

impl App {
    /// The one that is there without being configured.
    pub fn desktop() -> Self {
        Self { name: DESKTOP.to_owned(), command: String::new(), image: None, prep: Vec::new(), undo: Vec::new() }
    }
}

pub fn apps<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<App>, D::Error> {
    let apps = Vec::<App>::deserialize(from)?;
    if apps.len() > MAX_APPS {
        return Err(Error::custom(format!("more than {MAX_APPS} apps")));
    }
    let lines = apps.iter().flat_map(|app| app.prep.iter().chain(&app.undo).chain([&app.command]));
    if lines.map(String::len).sum::<usize>() > MAX_COMMANDS {
        return Err(Error::custom(format!("the commands are longer than {MAX_COMMANDS} bytes: put them into scripts")));
    }
    for (index, app) in apps.iter().enumerate() {
        // Clients look an app up by its name, some without regard to case.
        if apps[..index].iter().any(|other| other.name.to_lowercase() == app.name.to_lowercase()) {
            return Err(Error::custom(format!("two apps are called {:?}", app.name)));
        }
    }
    Ok(apps)
}

fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    if name.trim() != name || name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
        return Err(Error::custom(format!("{name:?} is no name: 1 to 64 characters, no space at either end")));
    }
    Ok(name)
}

/// All six ports must exist: the lowest is five below, the highest 21 above.
fn base_port<'de, D: Deserializer<'de>>(from: D) -> Result<u16, D::Error> {
    match u16::deserialize(from)? {
        port if (6..=65514).contains(&port) => Ok(port),
        port => Err(Error::custom(format!("{port} is not between 6 and 65514"))),
    }
}
