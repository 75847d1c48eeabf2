//! Who may connect: SHA-256 fingerprints of client certificates, in `clients.toml` of the state directory.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use ipc::Fingerprint;
use serde::Deserialize;

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
    allowed: BTreeSet<Fingerprint>,
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
        self.allowed.contains(&client)
    }

    pub fn iter(&self) -> impl Iterator<Item = Fingerprint> + '_ {
        self.allowed.iter().copied()
    }

    /// Allows a client, on disk before in memory. False if it was allowed already.
    pub fn allow(&mut self, client: Fingerprint) -> Result<bool, ClientsError> {
        let mut next = self.allowed.clone();
        let changed = next.insert(client);
        self.store(next, changed)
    }

    /// Forbids a client, on disk before in memory. False if it was not allowed.
    pub fn forbid(&mut self, client: Fingerprint) -> Result<bool, ClientsError> {
        let mut next = self.allowed.clone();
        let changed = next.remove(&client);
        self.store(next, changed)
    }

    fn store(&mut self, next: BTreeSet<Fingerprint>, changed: bool) -> Result<bool, ClientsError> {
        if changed {
            let mut text = String::from("# Clients that may connect. Written by `lumend allow`.\n");
            for client in &next {
                text.push_str(&format!("\n[[client]]\nsha256 = \"{client}\"\n"));
            }
            durable::write(&self.path, text.as_bytes())
                .map_err(|error| ClientsError::Io { path: self.path.clone(), error })?;
            self.allowed = next;
        }
        Ok(changed)
    }
}

fn parse(text: &str) -> Result<BTreeSet<Fingerprint>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    file.client
        .iter()
        .map(|entry| entry.sha256.parse().map_err(|_| format!("{:?} is no fingerprint", entry.sha256)))
        .collect()
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
}
