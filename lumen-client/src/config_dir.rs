//! The directory that holds this client's identity and the hosts it knows.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file of the configuration directory that could not be read, written or believed.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("neither XDG_CONFIG_HOME nor HOME names a directory: say where with --config DIR")]
    NoHome,
    #[error(
        "cannot use {path}: {source}: make it readable and writable for this user, or choose another with --config DIR"
    )]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is open to others: run chmod 600 {path}")]
    Exposed { path: PathBuf },
    #[error("{path}: {what}")]
    Malformed { path: PathBuf, what: String },
}

impl ConfigError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn malformed(path: &Path, what: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), what: what.into() }
    }
}

/// `$XDG_CONFIG_HOME/lumen` where that is an absolute path, else `$HOME/.config/lumen`.
pub fn default_dir() -> Result<PathBuf, ConfigError> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = variable("XDG_CONFIG_HOME").or_else(|| variable("HOME").map(|home| home.join(".config")));
    Ok(base.ok_or(ConfigError::NoHome)?.join("lumen"))
}

/// The directory, locked against other clients of the same user for as long as this lives.
pub(crate) struct LockedDir {
    path: PathBuf,
    _lock: File,
}

impl LockedDir {
    /// Makes the directory (0700) if it is missing, and waits for whoever holds it.
    pub(crate) fn open(path: &Path) -> Result<Self, ConfigError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(ConfigError::io(path))?;
        let lock = File::open(path).map_err(ConfigError::io(path))?;
        lock.lock().map_err(ConfigError::io(path))?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The file's text, or none if it does not exist.
    pub(crate) fn read(&self, name: &str) -> Result<Option<String>, ConfigError> {
        let path = self.file(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConfigError::io(&path)(error)),
        }
    }

    /// Replaces the file as a whole (0600): a crash leaves the old text or the new one, never a part.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), ConfigError> {
        let (path, temporary) = (self.file(name), self.file(&format!(".{name}.new")));
        let replace = || -> io::Result<()> {
            // A leftover of a crash would keep its own permissions; the lock says that nobody else is writing it.
            match fs::remove_file(&temporary) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.path)?.sync_all()
        };
        replace().map_err(ConfigError::io(&path))
    }
}
