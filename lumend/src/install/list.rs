//! The list of what was installed: a path and a checksum each.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::{Digest, Disk};
use crate::failure::Failure;

#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct List {
    files: Vec<Entry>,
    /// Made for them, each after what it lies in.
    directories: Vec<PathBuf>,
}

/// There may be two of one path: while an installation is under way, either may be there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Entry {
    path: PathBuf,
    sha256: Digest,
}

impl List {
    /// An empty one if there is none.
    pub fn load(disk: &Disk, path: &Path) -> Result<Self, Failure> {
        let Some(text) = disk.text(path)? else { return Ok(Self::default()) };
        serde_json::from_str(&text).map_err(|error| {
            let place = disk.place(path);
            let what = format!("{}: {error}; remove it, and then by hand what was installed", place.display());
            Failure::new(1, what)
        })
    }

    pub fn save(&self, disk: &Disk, path: &Path) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        disk.write(path, text.as_bytes(), 0o644)
    }

    pub const fn is_empty(&self) -> bool {
        self.files.is_empty() && self.directories.is_empty()
    }

    /// Whether it was installed, and installed like this.
    pub fn has(&self, path: &Path, digest: &Digest) -> bool {
        self.files.iter().any(|entry| entry.path == path && entry.sha256 == *digest)
    }

    /// Each once.
    pub fn paths(&self) -> Vec<&Path> {
        let mut paths: Vec<&Path> = self.files.iter().map(|entry| entry.path.as_path()).collect();
        paths.sort();
        paths.dedup();
        paths
    }

    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    pub fn add(&mut self, path: &Path, digest: Digest) {
        if !self.has(path, &digest) {
            self.files.push(Entry { path: path.to_owned(), sha256: digest });
        }
    }

    pub fn add_directories(&mut self, made: impl IntoIterator<Item = PathBuf>) {
        for directory in made {
            if !self.directories.contains(&directory) {
                self.directories.push(directory);
            }
        }
    }

    /// Forgets every file but those that `keep` says.
    pub fn retain(&mut self, keep: impl Fn(&Path, &Digest) -> bool) {
        self.files.retain(|entry| keep(&entry.path, &entry.sha256));
    }
}
