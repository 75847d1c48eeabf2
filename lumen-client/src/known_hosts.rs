//! The hosts this client has met: one line per host, `HOST:PORT FINGERPRINT`, in the file `known_hosts`.

use std::path::{Path, PathBuf};

use crate::config_dir::{ConfigError, LockedDir};
use lumen_core::Fingerprint;

const FILE: &str = "known_hosts";

/// Where the known hosts are kept. Nothing is cached: the file is read at each question.
#[derive(Clone, Debug)]
pub struct KnownHosts {
    dir: PathBuf,
}

impl KnownHosts {
    /// The known hosts of a configuration directory; the file need not exist.
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// For messages that tell a person which file to edit.
    pub fn path(&self) -> PathBuf {
        self.dir.join(FILE)
    }

    /// The fingerprint remembered for `host` (as `name:port`), if any.
    ///
    /// A line that cannot be read is an error and not a host nobody has met: first use trusts whoever answers.
    pub fn get(&self, host: &str) -> Result<Option<Fingerprint>, ConfigError> {
        let dir = LockedDir::open(&self.dir)?;
        Ok(find(&entries(&dir)?, host))
    }

    /// Remembers `host`, replacing what was known of it.
    pub fn set(&self, host: &str, fingerprint: Fingerprint) -> Result<(), ConfigError> {
        let dir = LockedDir::open(&self.dir)?;
        let mut entries = entries(&dir)?;
        if find(&entries, host) == Some(fingerprint) {
            return Ok(());
        }
        let key = host.to_ascii_lowercase();
        entries.retain(|(name, _)| *name != key);
        entries.push((key, fingerprint));
        let text: String = entries.iter().map(|(name, fingerprint)| format!("{name} {fingerprint}\n")).collect();
        dir.write(FILE, &text)
    }
}

fn find(entries: &[(String, Fingerprint)], host: &str) -> Option<Fingerprint> {
    entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(host)).map(|(_, fingerprint)| *fingerprint)
}

fn entries(dir: &LockedDir) -> Result<Vec<(String, Fingerprint)>, ConfigError> {
    let text = dir.read(FILE)?.unwrap_or_default();
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let entry = line.split_once(' ').and_then(|(name, fingerprint)| {
            Some((name.to_ascii_lowercase(), fingerprint.trim().parse::<Fingerprint>().ok()?))
        });
        let what = || format!("line {} is not `HOST:PORT FINGERPRINT`: mend or remove it", number + 1);
        entries.push(entry.ok_or_else(|| ConfigError::malformed(&dir.file(FILE), what()))?);
    }
    Ok(entries)
}
