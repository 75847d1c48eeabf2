//! Who may connect, and what they may do: SHA-256 fingerprints of client certificates, in `clients.toml` of the state
//! directory. A change is on disk before it is in memory, and before anybody is told of it.

mod file;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipc::ctl::Permission;
use ipc::{Face, Fingerprint};
use lumen_core::Permissions;
use serde_json::{Value, json};

use crate::durable;
use crate::permit::Change;

pub const FILE: &str = "clients.toml";
/// Every client is a message to a fresh network plane, and its link holds only so many.
pub const MAX_CLIENTS: usize = 64;
/// Most characters of a client's name.
pub const MAX_NAME: usize = 64;
/// What every Moonlight client calls its device when it pairs (moonlight-qt, nvpairingmanager.cpp).
const NAME_OF_ALL: &str = "roth";

/// Why the list could not be read or changed. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    #[error("{}: {error}; make it readable and its directory writable", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: {reason}; each client is a [[client]] with sha256 = \"64 hexadecimal digits\"", path.display())]
    Syntax { path: PathBuf, reason: String },
    #[error("{MAX_CLIENTS} clients are known already: `lumend clients remove` one")]
    Full,
    #[error("this certificate is known as a client of {}; remove that first", .0.name())]
    OtherFace(Face),
    #[error("{0:?} is no name: 1 to {MAX_NAME} characters, no space at either end, and no other client's")]
    Name(String),
    #[error("this client is disabled; `lumend clients enable` lets it in again")]
    Disabled,
}

impl ClientsError {
    /// The exit code of a command that failed for this reason: 1 where the files are in the way, 4 where it would not be
    /// done.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Syntax { .. } => 1,
            Self::Full | Self::OtherFace(_) | Self::Name(_) | Self::Disabled => 4,
        }
    }
}

/// What a client may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// See and hear: have a session at all.
    pub view: bool,
    /// Start apps that are not running yet.
    pub launch: bool,
    pub hands: Permissions,
}

impl Rights {
    pub const ALL: Self = Self { view: true, launch: true, hands: Permissions::ALL };
    pub const NONE: Self = Self { view: false, launch: false, hands: Permissions::NONE };

    pub const fn has(self, one: Permission) -> bool {
        match one {
            Permission::View => self.view,
            Permission::Pointer => self.hands.has(Permissions::POINTER),
            Permission::Keyboard => self.hands.has(Permissions::KEYBOARD),
            Permission::Gamepad => self.hands.has(Permissions::GAMEPAD),
            Permission::Launch => self.launch,
        }
    }

    #[must_use]
    pub const fn with(mut self, one: Permission, set: bool) -> Self {
        match one {
            Permission::View => self.view = set,
            Permission::Pointer => self.hands = self.hands.with(Permissions::POINTER, set),
            Permission::Keyboard => self.hands = self.hands.with(Permissions::KEYBOARD, set),
            Permission::Gamepad => self.hands = self.hands.with(Permissions::GAMEPAD, set),
            Permission::Launch => self.launch = set,
        }
        self
    }

    /// The names of what is permitted.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Permission::ALL.into_iter().filter(move |&one| self.has(one)).map(Permission::name)
    }
}

/// The names of what hands may do.
pub fn names(hands: Permissions) -> impl Iterator<Item = &'static str> {
    Rights { hands, ..Rights::NONE }.names()
}

/// What is known of a client beside its certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    pub face: Face,
    /// For people; empty: none. No two are the same.
    pub name: String,
    /// One that is not is kept in the list, and turned away.
    pub enabled: bool,
    pub rights: Rights,
}

/// The known clients, as on disk.
#[derive(Debug)]
pub struct Clients {
    path: PathBuf,
    known: BTreeMap<Fingerprint, Client>,
}

/// Why a word names no client. The text says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FindError {
    #[error("no client has this name or a fingerprint that begins like that; `lumend clients` lists them")]
    None,
    #[error("more than one client's fingerprint begins like that: give more of it, or a name")]
    Many,
}

impl Clients {
    /// Reads the list; a missing file is an empty list.
    pub fn load(state: &Path) -> Result<Self, ClientsError> {
        let path = state.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(ClientsError::Io { path, error }),
        };
        match file::parse(&text) {
            Ok(known) => Ok(Self { path, known }),
            Err(reason) => Err(ClientsError::Syntax { path, reason }),
        }
    }

    pub fn get(&self, client: Fingerprint) -> Option<&Client> {
        self.known.get(&client)
    }

    pub fn iter(&self) -> impl Iterator<Item = (Fingerprint, &Client)> {
        self.known.iter().map(|(fingerprint, client)| (*fingerprint, client))
    }

    /// Whether a native client may connect, so that it is worth listening for them.
    pub fn any_native(&self) -> bool {
        self.known.values().any(|known| known.face == Face::Lumen && known.enabled)
    }

    /// What a client may do: nothing if it is not allowed at all.
    pub fn rights(&self, client: Fingerprint) -> Rights {
        self.get(client).filter(|client| client.enabled).map_or(Rights::NONE, |client| client.rights)
    }

    /// Of [`Self::rights`] those of its hands.
    pub fn permissions(&self, client: Fingerprint) -> Permissions {
        self.rights(client).hands
    }

    /// The one client that is called so or whose fingerprint begins so, in hex of either case. An empty word names
    /// nobody, not even where there is only one: it is most likely a script's variable that was not set.
    pub fn find(&self, word: &str) -> Result<Fingerprint, FindError> {
        if word.is_empty() {
            return Err(FindError::None);
        }
        // Before names: what a client calls itself is not to stand in for another.
        if let Ok(client) = word.parse()
            && self.known.contains_key(&client)
        {
            return Ok(client);
        }
        if let Some((client, _)) = self.iter().find(|(_, client)| client.name == word) {
            return Ok(client);
        }
        let beginning = word.to_ascii_lowercase();
        let mut found = self.iter().filter(|(client, _)| client.to_string().starts_with(&beginning));
        match (found.next(), found.next()) {
            (Some((client, _)), None) => Ok(client),
            (None, _) => Err(FindError::None),
            (Some(_), Some(_)) => Err(FindError::Many),
        }
    }

    /// For `lumend clients`.
    pub fn json(&self) -> Value {
        json!({ "clients": self.known.keys().map(|&client| self.json_of(client)).collect::<Vec<_>>() })
    }

    /// One of them; null if it is not known.
    pub fn json_of(&self, client: Fingerprint) -> Value {
        self.get(client).map_or(Value::Null, |known| {
            json!({
                "sha256": client.to_string(),
                "protocol": known.face.name(),
                "name": known.name,
                "enabled": known.enabled,
                "permissions": known.rights.names().collect::<Vec<_>>(),
            })
        })
    }

    /// Allows a native client. False if it was allowed already.
    pub fn allow(&mut self, client: Fingerprint) -> Result<bool, ClientsError> {
        match self.get(client).map(|known| (known.face, known.enabled)) {
            Some((Face::Lumen, true)) => Ok(false),
            Some((Face::Lumen, false)) => self.enable(client, true),
            Some((face, _)) => Err(ClientsError::OtherFace(face)),
            None if self.known.len() >= MAX_CLIENTS => Err(ClientsError::Full),
            None => {
                let mut next = self.known.clone();
                let fresh = Client { face: Face::Lumen, name: String::new(), enabled: true, rights: Rights::ALL };
                next.insert(client, fresh);
                self.store(next, true)
            }
        }
    }

    /// Whether a certificate could be added as a Moonlight client's, under this name if one is given.
    pub fn may_pair(&self, client: Fingerprint, name: Option<&str>) -> Result<(), ClientsError> {
        match self.get(client) {
            Some(Client { face: Face::Lumen, .. }) => return Err(ClientsError::OtherFace(Face::Lumen)),
            Some(Client { enabled: false, .. }) => return Err(ClientsError::Disabled),
            Some(_) => {}
            None if self.known.len() >= MAX_CLIENTS => return Err(ClientsError::Full),
            None => {}
        }
        name.map_or(Ok(()), |name| self.may_be_called(client, name))
    }

    /// Adds a Moonlight client that has just proven that it knows the PIN. One that was known keeps what it may do. A
    /// disabled one stays turned away: pairing is not what undoes a person's word. `suggested`, what the client calls
    /// itself, is followed as far as it can be a name.
    pub fn pair(&mut self, client: Fingerprint, name: Option<&str>, suggested: &str) -> Result<(), ClientsError> {
        self.may_pair(client, name)?;
        let mut next = self.known.clone();
        let name = match (name, next.get(&client)) {
            (Some(name), _) => name.to_owned(),
            (None, Some(known)) => known.name.clone(),
            (None, None) => self.free_name(suggested),
        };
        let fresh = Client { face: Face::GameStream, name: String::new(), enabled: true, rights: Rights::ALL };
        next.entry(client).or_insert(fresh).name = name;
        self.store(next, true).map(drop)
    }

    /// Changes what a client may do. False if that was so already.
    pub fn permit(&mut self, client: Fingerprint, change: &Change) -> Result<bool, ClientsError> {
        self.change(client, |known| known.rights = change.apply(known.rights))
    }

    /// False if it was called so already.
    pub fn rename(&mut self, client: Fingerprint, name: &str) -> Result<bool, ClientsError> {
        self.may_be_called(client, name)?;
        self.change(client, |known| known.name = name.to_owned())
    }

    /// Lets a known client in, or turns it away from now on. False if that was so already.
    pub fn enable(&mut self, client: Fingerprint, enabled: bool) -> Result<bool, ClientsError> {
        self.change(client, |known| known.enabled = enabled)
    }

    /// Forgets a client. False if it was not known.
    pub fn forbid(&mut self, client: Fingerprint) -> Result<bool, ClientsError> {
        let mut next = self.known.clone();
        let changed = next.remove(&client).is_some();
        self.store(next, changed)
    }

    fn may_be_called(&self, client: Fingerprint, name: &str) -> Result<(), ClientsError> {
        let taken = self.iter().any(|(other, known)| other != client && known.name == name);
        if taken || !file::is_name(name) {
            return Err(ClientsError::Name(name.chars().take(MAX_NAME).collect()));
        }
        Ok(())
    }

    /// Makes a name of what a client calls itself: printable, not too long, nobody else's.
    fn free_name(&self, suggested: &str) -> String {
        let plain: String = suggested.chars().filter(|c| !c.is_control()).take(MAX_NAME - 4).collect();
        let plain = match plain.trim() {
            "" | NAME_OF_ALL => "Moonlight",
            name => name,
        };
        // Nor one that stands for somebody else's fingerprint.
        let stands = |name: &str, of: Fingerprint| of.to_string().starts_with(&name.to_ascii_lowercase());
        let taken = |name: &str| self.iter().any(|(other, known)| known.name == name || stands(name, other));
        if !taken(plain) {
            return plain.to_owned();
        }
        // There are fewer clients than numbers.
        let mut numbered = (2..=MAX_CLIENTS + 1).map(|number| format!("{plain} {number}"));
        numbered.find(|name| !taken(name)).unwrap_or_default()
    }

    fn change(&mut self, client: Fingerprint, change: impl FnOnce(&mut Client)) -> Result<bool, ClientsError> {
        let mut next = self.known.clone();
        let changed = next.get_mut(&client).is_some_and(|known| {
            let before = known.clone();
            change(known);
            *known != before
        });
        self.store(next, changed)
    }

    fn store(&mut self, next: BTreeMap<Fingerprint, Client>, changed: bool) -> Result<bool, ClientsError> {
        if changed {
            durable::write(&self.path, file::text(&next).as_bytes())
                .map_err(|error| ClientsError::Io { path: self.path.clone(), error })?;
            self.known = next;
        }
        Ok(changed)
    }
}
