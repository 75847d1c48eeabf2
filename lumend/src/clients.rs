//! Who may connect, and what their hands may do: SHA-256 fingerprints of client certificates, in `clients.toml` of the
//! state directory.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipc::Fingerprint;
use ipc::ctl::Permission;
use lumen_core::Permissions;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::durable;

pub const FILE: &str = "clients.toml";

/// Why the list could not be read or written. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientsError {
    #[error("{}: {error}; make it readable and its directory writable", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{}: {reason}; each client is a [[client]] with sha256 = \"64 hexadecimal digits\"", path.display())]
    Syntax { path: PathBuf, reason: String },
}

/// The allowed clients, as on disk.
#[derive(Debug)]
pub struct Clients {
    path: PathBuf,
    allowed: BTreeMap<Fingerprint, Permissions>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    client: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    sha256: String,
    /// Without it, everything, as lists of before there was input have it.
    permissions: Option<Vec<String>>,
}

/// The names of what is permitted.
pub fn names(permissions: Permissions) -> impl Iterator<Item = &'static str> {
    Permission::ALL.into_iter().filter(move |one| permissions.has(one.bit())).map(Permission::name)
}

/// Why the beginning of a fingerprint names no client. The text says what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FindError {
    #[error("no allowed client's fingerprint begins like that; `lumend clients` lists them")]
    None,
    #[error("more than one allowed client's fingerprint begins like that: give more of it")]
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
        match parse(&text) {
            Ok(allowed) => Ok(Self { path, allowed }),
            Err(reason) => Err(ClientsError::Syntax { path, reason }),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.allowed.is_empty()
    }

    pub fn contains(&self, client: Fingerprint) -> bool {
        self.allowed.contains_key(&client)
    }

    /// What a client's hands may do: nothing if it is not allowed at all.
    pub fn permissions(&self, client: Fingerprint) -> Permissions {
        self.allowed.get(&client).copied().unwrap_or(Permissions::NONE)
    }

    pub fn iter(&self) -> impl Iterator<Item = Fingerprint> + '_ {
        self.allowed.keys().copied()
    }

    /// The one client whose fingerprint begins so, in hex of either case. An empty beginning names nobody, not even where
    /// there is only one: it is most likely a script's variable that was not set.
    pub fn find(&self, beginning: &str) -> Result<Fingerprint, FindError> {
        if beginning.is_empty() {
            return Err(FindError::None);
        }
        let beginning = beginning.to_ascii_lowercase();
        let mut found = self.iter().filter(|client| client.to_string().starts_with(&beginning));
        match (found.next(), found.next()) {
            (Some(client), None) => Ok(client),
            (None, _) => Err(FindError::None),
            (Some(_), Some(_)) => Err(FindError::Many),
        }
    }

    /// For `lumend clients`.
    pub fn json(&self) -> Value {
        let client = |(client, permissions): (&Fingerprint, &Permissions)| json!({ "sha256": client.to_string(), "permissions": names(*permissions).collect::<Vec<_>>() });
        json!({ "clients": self.allowed.iter().map(client).collect::<Vec<_>>() })
    }

    /// Allows a client, on disk before in memory. False if it was allowed already.
    pub fn allow(&mut self, client: Fingerprint) -> Result<bool, ClientsError> {
        let mut next = self.allowed.clone();
        let changed = !next.contains_key(&client);
        next.entry(client).or_insert(Permissions::ALL);
        self.store(next, changed)
    }

    /// Changes what an allowed client's hands may do, on disk before in memory. False if that was so already, or the
    /// client is not allowed.
    pub fn permit(&mut self, client: Fingerprint, permissions: Permissions) -> Result<bool, ClientsError> {
        let mut next = self.allowed.clone();
        let changed = next.get_mut(&client).is_some_and(|slot| std::mem::replace(slot, permissions) != permissions);
        self.store(next, changed)
    }

    /// Forbids a client, on disk before in memory. False if it was not allowed.
    pub fn forbid(&mut self, client: Fingerprint) -> Result<bool, ClientsError> {
        let mut next = self.allowed.clone();
        let changed = next.remove(&client).is_some();
        self.store(next, changed)
    }

    fn store(&mut self, next: BTreeMap<Fingerprint, Permissions>, changed: bool) -> Result<bool, ClientsError> {
        if changed {
            let mut text = String::from("# Clients that may connect. Written by `lumend allow` and `lumend permit`.\n");
            for (client, permissions) in &next {
                let names: Vec<_> = names(*permissions).collect();
                text.push_str(&format!("\n[[client]]\nsha256 = \"{client}\"\npermissions = {names:?}\n"));
            }
            durable::write(&self.path, text.as_bytes())
                .map_err(|error| ClientsError::Io { path: self.path.clone(), error })?;
            self.allowed = next;
        }
        Ok(changed)
    }
}

fn parse(text: &str) -> Result<BTreeMap<Fingerprint, Permissions>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    file.client
        .iter()
        .map(|entry| {
            let client = entry.sha256.parse().map_err(|_| format!("{:?} is no fingerprint", entry.sha256))?;
            let named = entry.permissions.as_ref().map(|names| permitted(names)).transpose()?;
            Ok((client, named.unwrap_or(Permissions::ALL)))
        })
        .collect()
}

fn permitted(names: &[String]) -> Result<Permissions, String> {
    names.iter().try_fold(Permissions::NONE, |sum, name| {
        let one = Permission::from_name(name);
        let one = one.ok_or_else(|| format!("{name:?} is no permission: pointer, keyboard, gamepad"))?;
        Ok(sum.with(one.bit(), true))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_survives_a_restart() {
        let state = std::env::temp_dir().join(format!("lumen-clients-{}", std::process::id()));
        let _ = fs::remove_dir_all(&state);
        durable::private_directory(&state).unwrap();
        let (one, two) = (Fingerprint([1; 32]), Fingerprint([2; 32]));
        let mut clients = Clients::load(&state).unwrap();
        assert!(clients.is_empty());
        assert!(clients.allow(one).unwrap() && clients.allow(two).unwrap() && !clients.allow(two).unwrap());
        assert!(clients.forbid(one).unwrap() && !clients.forbid(one).unwrap());
        let again = Clients::load(&state).unwrap();
        assert!(again.contains(two) && !again.contains(one));
        fs::write(state.join(FILE), "[[client]]\nsha256 = \"12\"\n").unwrap();
        assert!(Clients::load(&state).unwrap_err().to_string().contains("no fingerprint"));
        fs::remove_dir_all(state).unwrap();
    }

    #[test]
    fn permissions_survive_a_restart_and_old_lists_permit_everything() {
        let state = std::env::temp_dir().join(format!("lumen-permissions-{}", std::process::id()));
        let _ = fs::remove_dir_all(&state);
        durable::private_directory(&state).unwrap();
        let (one, two, stranger) = (Fingerprint([1; 32]), Fingerprint([2; 32]), Fingerprint([3; 32]));
        let many = Err(FindError::Many);
        fs::write(state.join(FILE), format!("[[client]]\nsha256 = \"{one}\"\n")).unwrap();
        let mut clients = Clients::load(&state).unwrap();
        assert_eq!((clients.permissions(one), clients.permissions(stranger)), (Permissions::ALL, Permissions::NONE));
        clients.allow(two).unwrap();
        let hands = Permissions::POINTER.with(Permissions::GAMEPAD, true);
        assert!(clients.permit(one, hands).unwrap() && !clients.permit(one, hands).unwrap());
        assert!(clients.permit(two, Permissions::NONE).unwrap());
        assert!(!clients.permit(stranger, Permissions::ALL).unwrap());
        assert!(!clients.allow(one).unwrap(), "allowing again gives nothing back");
        let again = Clients::load(&state).unwrap();
        assert_eq!((again.permissions(one), again.permissions(two)), (hands, Permissions::NONE));
        assert!(!again.contains(stranger));
        assert_eq!((again.find("01"), again.find(&two.to_string())), (Ok(one), Ok(two)));
        assert_eq!(
            (again.find("0"), again.find("03"), again.find("")),
            (many, Err(FindError::None), Err(FindError::None))
        );
        assert_eq!(again.json()["clients"][0]["permissions"], json!(["pointer", "gamepad"]));
        fs::write(state.join(FILE), format!("[[client]]\nsha256 = \"{one}\"\npermissions = [\"feet\"]\n")).unwrap();
        assert!(Clients::load(&state).unwrap_err().to_string().contains("feet"));
        fs::remove_dir_all(state).unwrap();
    }
}
