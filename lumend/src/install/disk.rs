//! Files, below a directory that stands for the root if there is one.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::layout::{Content, Item};
use crate::durable;
use crate::failure::Failure;

/// SHA-256 in hexadecimal of a file's content, or of where a link leads.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Digest(String);

impl Digest {
    fn of(content: &[u8]) -> Self {
        Self(digest(&SHA256, content).as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn of_link(target: &Path) -> Self {
        Self::of(&[b"link to ", target.as_os_str().as_bytes()].concat())
    }
}

#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
}

impl Disk {
    pub fn new(root: Option<&Path>) -> Self {
        Self { root: root.unwrap_or(Path::new("/")).to_owned() }
    }

    /// Where a path really is.
    pub fn place(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// None if there is none.
    pub fn text(&self, path: &Path) -> Result<Option<String>, Failure> {
        let place = self.place(path);
        match fs::read_to_string(&place) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &place, &error)),
        }
    }

    /// What is there, if anything is.
    pub fn digest(&self, path: &Path) -> Result<Option<Digest>, Failure> {
        let place = self.place(path);
        let found = match fs::symlink_metadata(&place) {
            Ok(metadata) if metadata.is_symlink() => fs::read_link(&place).map(|target| Digest::of_link(&target)),
            Ok(_) => fs::read(&place).map(|content| Digest::of(&content)),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => Err(error),
        };
        found.map(Some).map_err(|error| failed("read", &place, &error))
    }

    /// What an item would be.
    pub fn digest_of(item: &Item) -> Result<Digest, Failure> {
        match &item.content {
            Content::Text(text) => Ok(Digest::of(text.as_bytes())),
            Content::Link(target) => Ok(Digest::of_link(target)),
            Content::Program(source) => {
                fs::read(source).map(|content| Digest::of(&content)).map_err(|error| failed("read", source, &error))
            }
        }
    }

    /// Puts an item in the place of what is there.
    pub fn put(&self, item: &Item) -> Result<(), Failure> {
        match &item.content {
            Content::Text(text) => self.write(&item.path, text.as_bytes(), 0o644),
            Content::Program(source) => {
                let content = fs::read(source).map_err(|error| failed("read", source, &error))?;
                self.write(&item.path, &content, 0o755)
            }
            Content::Link(target) => self.replace(&item.path, |beside| symlink(target, beside)),
        }
    }

    /// The old file or the new, never half of it; who has the old one open keeps it.
    pub fn write(&self, path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
        self.replace(path, |beside| {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(beside)?;
            file.write_all(content)?;
            // Whatever the umask is.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.sync_all()
        })
    }

    fn replace(&self, path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), Failure> {
        let place = self.place(path);
        let mut beside = place.clone().into_os_string();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        // A left-over of an installation that was interrupted.
        let _ = fs::remove_file(&beside);
        make(&beside).and_then(|()| fs::rename(&beside, &place)).map_err(|error| failed("write", &place, &error))
    }

    /// Makes the directories that `path` lies in; returns those that were not there.
    pub fn make_parents(&self, path: &Path) -> Result<Vec<PathBuf>, Failure> {
        let missing: Vec<_> = path.ancestors().skip(1).take_while(|parent| !self.place(parent).is_dir()).collect();
        let mut made = Vec::new();
        for directory in missing.into_iter().rev() {
            let place = self.place(directory);
            fs::create_dir(&place).map_err(|error| failed("make", &place, &error))?;
            // Units that nobody else can read are of no use, whatever the umask is.
            fs::set_permissions(&place, fs::Permissions::from_mode(0o755))
                .map_err(|error| failed("make", &place, &error))?;
            made.push(directory.to_owned());
        }
        Ok(made)
    }

    pub fn make_private(&self, path: &Path) -> Result<(), Failure> {
        let place = self.place(path);
        durable::private_directory(&place).map_err(|error| failed("make", &place, &error))
    }

    pub fn remove(&self, path: &Path) -> Result<(), Failure> {
        let place = self.place(path);
        match fs::remove_file(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &place, &error)),
            _ => Ok(()),
        }
    }

    /// False if there is something in it.
    pub fn remove_directory(&self, path: &Path) -> Result<bool, Failure> {
        let place = self.place(path);
        match fs::remove_dir(&place) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(failed("remove", &place, &error)),
        }
    }
}

fn failed(what: &str, place: &Path, error: &io::Error) -> Failure {
    Failure::new(1, format!("cannot {what} {}: {error}", place.display()))
}
