//! Where lumend keeps its files, and as whom it runs.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, Gid, Uid, access, geteuid, setgroups, setresgid, setresuid};

use crate::durable;

/// A directory lumend cannot have. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    #[error("cannot use {}: {error}; name a writable directory with --{option}", path.display())]
    Directory { path: PathBuf, option: &'static str, error: io::Error },
    #[error("cannot become user {uid}: {error}; set run.uid to a user this machine can run as")]
    User { uid: u32, error: io::Error },
}

fn variable(name: &str) -> Option<PathBuf> {
    // A relative path in these variables is to be ignored, says their specification.
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// For the control socket and the sockets of a desktop of lumend's own.
pub fn runtime(told: Option<PathBuf>) -> PathBuf {
    let uid = geteuid();
    told.unwrap_or_else(|| match variable("XDG_RUNTIME_DIR") {
        Some(directory) => directory.join("lumen"),
        None if uid.is_root() => "/run/lumen".into(),
        None => std::env::temp_dir().join(format!("lumen-{uid}")),
    })
}

/// For the identity and the allowed clients.
pub fn state(told: Option<PathBuf>) -> PathBuf {
    let home = || variable("HOME").unwrap_or_default().join(".local/state");
    told.unwrap_or_else(|| match variable("XDG_STATE_HOME") {
        _ if geteuid().is_root() => "/var/lib/lumen".into(),
        Some(directory) => directory.join("lumen"),
        None => home().join("lumen"),
    })
}

/// Where a configuration may be: the first that exists counts.
pub fn configurations() -> [PathBuf; 2] {
    let own = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
    [own.unwrap_or_else(|| "/etc".into()).join("lumen/lumen.toml"), "/etc/lumen/lumen.toml".into()]
}

/// Makes both directories and, as root, gives them to `uid` and becomes it.
pub fn settle(runtime: &Path, state: &Path, uid: u32) -> Result<(), PlaceError> {
    for (path, option) in [(runtime, "runtime"), (state, "state")] {
        let fail = |error| PlaceError::Directory { path: path.to_owned(), option, error };
        durable::private_directory(path).map_err(fail)?;
        if geteuid().is_root() {
            give(path, uid).map_err(fail)?;
        }
        private(path, if geteuid().is_root() { uid } else { geteuid().as_raw() }).map_err(fail)?;
    }
    if geteuid().is_root() {
        become_user(uid).map_err(|errno| PlaceError::User { uid, error: errno.into() })?;
    }
    // Found out now, not when the first client is to be remembered.
    for (path, option) in [(runtime, "runtime"), (state, "state")] {
        access(path, AccessFlags::W_OK | AccessFlags::X_OK).map_err(|errno| PlaceError::Directory {
            path: path.to_owned(),
            option,
            error: errno.into(),
        })?;
    }
    Ok(())
}

/// A directory that belongs to another user is a trap, above all in /tmp.
fn private(path: &Path, uid: u32) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let owner = metadata.uid();
    if !metadata.is_dir() {
        return Err(io::Error::other("it is not a directory"));
    }
    if owner != uid {
        return Err(io::Error::other(format!("it belongs to user {owner}, not to {uid}")));
    }
    Ok(())
}

/// The directory and the files in it; links are not followed.
fn give(directory: &Path, uid: u32) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        lchown(entry?.path(), Some(uid), Some(uid))?;
    }
    lchown(directory, Some(uid), Some(uid))
}

fn become_user(uid: u32) -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // Compositors look at who connects through /proc, which a change of user had closed.
    nix::sys::prctl::set_dumpable(true)
}
