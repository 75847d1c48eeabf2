//! The text of `clients.toml`.

use std::collections::BTreeMap;

use ipc::ctl::Permission;
use ipc::{Face, Fingerprint};
use serde::Deserialize;

use super::{Client, MAX_NAME, Rights};

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
    /// Without it the entry was written when there were native clients alone.
    face: Option<Face>,
    #[serde(default)]
    name: String,
    enabled: Option<bool>,
    /// Without it, everything, as lists of before there was input have it.
    permissions: Option<Vec<String>>,
}

/// Reads a list; the error is for people.
pub fn parse(text: &str) -> Result<BTreeMap<Fingerprint, Client>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let mut known = BTreeMap::<Fingerprint, Client>::new();
    for entry in file.client {
        let fingerprint = entry.sha256.parse().map_err(|_| format!("{:?} is no fingerprint", entry.sha256))?;
        let mut rights = entry.permissions.as_deref().map_or(Ok(Rights::ALL), permitted)?;
        // Lists of that age say what hands may do; that their clients may see was a matter of course.
        if entry.face.is_none() {
            rights = Rights { view: true, launch: true, ..rights };
        }
        let name = entry.name;
        if !name.is_empty() && (!is_name(&name) || known.values().any(|other| other.name == name)) {
            return Err(format!("{name:?} is no name of a client, or another's"));
        }
        let face = entry.face.unwrap_or(Face::Lumen);
        known.insert(fingerprint, Client { face, name, enabled: entry.enabled.unwrap_or(true), rights });
    }
    Ok(known)
}

/// Writes one that [`parse`] reads.
pub fn text(known: &BTreeMap<Fingerprint, Client>) -> String {
    let mut text = String::from("# Clients that may connect. Written by lumend: see `lumend clients --help`.\n");
    for (fingerprint, client) in known {
        let Client { face, name, enabled, rights } = client;
        let face = face.name();
        let permissions: Vec<_> = rights.names().collect();
        text.push_str(&format!("\n[[client]]\nsha256 = \"{fingerprint}\"\nface = \"{face}\"\n"));
        if !name.is_empty() {
            // A JSON string is a string of TOML's too.
            text.push_str(&format!("name = {}\n", serde_json::Value::from(name.as_str())));
        }
        text.push_str(&format!("enabled = {enabled}\npermissions = {permissions:?}\n"));
    }
    text
}

pub fn is_name(name: &str) -> bool {
    let length = name.chars().count();
    name.trim() == name && (1..=MAX_NAME).contains(&length) && !name.chars().any(char::is_control)
}

fn permitted(names: &[String]) -> Result<Rights, String> {
    names.iter().try_fold(Rights::NONE, |sum, name| {
        let one = Permission::from_name(name);
        let one = one.ok_or_else(|| format!("{name:?} is no permission: {}", Permission::LIST))?;
        Ok(sum.with(one, true))
    })
}
