//! Where lumend keeps its files, and as whom it runs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{AccessFlags, Gid, Uid, access, fchownat, geteuid, setgroups, setresgid, setresuid};

use crate::durable;
use crate::identity;

/// What a run of `lumend` as root may leave behind.
const FILES: [&str; 6] = [
    identity::LUMEN.key,
    identity::LUMEN.certificate,
    identity::GAMESTREAM.key,
    identity::GAMESTREAM.certificate,
    crate::clients::FILE,
    crate::sound::FILE,
];

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

/// What a service manager has made for its unit: the first, where there are several.
fn assigned(name: &str) -> Option<PathBuf> {
    first(&std::env::var_os(name)?)
}

fn first(list: &OsStr) -> Option<PathBuf> {
    let first = list.as_bytes().split(|&byte| byte == b':').next()?;
    Some(PathBuf::from(OsStr::from_bytes(first))).filter(|path| path.is_absolute())
}

/// For the control socket and the sockets of a desktop of lumend's own.
pub fn runtime(told: Option<PathBuf>) -> PathBuf {
    told.or_else(|| assigned("RUNTIME_DIRECTORY"))
        .unwrap_or_else(|| usual_runtime(geteuid(), variable("XDG_RUNTIME_DIR"), std::env::temp_dir()))
}

/// Root's, who has come by ssh or by sudo and so with or without a directory of the session's, is always the machine's:
/// the state is too, and who looked elsewhere would change it behind a running lumend.
fn usual_runtime(uid: Uid, session: Option<PathBuf>, temporary: PathBuf) -> PathBuf {
    match session {
        _ if uid.is_root() => "/run/lumen".into(),
        Some(directory) => directory.join("lumen"),
        None => temporary.join(format!("lumen-{uid}")),
    }
}

/// For the identity and the allowed clients.
pub fn state(told: Option<PathBuf>) -> PathBuf {
    let home = || variable("HOME").unwrap_or_default().join(".local/state");
    told.or_else(|| assigned("STATE_DIRECTORY")).unwrap_or_else(|| match variable("XDG_STATE_HOME") {
        _ if geteuid().is_root() => "/var/lib/lumen".into(),
        Some(directory) => directory.join("lumen"),
        None => home().join("lumen"),
    })
}

/// Where a configuration may be: the first that exists counts.
pub fn configurations() -> [PathBuf; 2] {
    let own = assigned("CONFIGURATION_DIRECTORY").unwrap_or_else(|| {
        let home = variable("XDG_CONFIG_HOME").or_else(|| Some(variable("HOME")?.join(".config")));
        home.unwrap_or_else(|| "/etc".into()).join("lumen")
    });
    [own.join("lumen.toml"), "/etc/lumen/lumen.toml".into()]
}

/// Makes both directories and, as root, gives them to `uid` and becomes it.
pub fn settle(runtime: &Path, state: &Path, uid: u32) -> Result<(), PlaceError> {
    for (path, option) in [(runtime, "runtime"), (state, "state")] {
        let fail = |error| PlaceError::Directory { path: path.to_owned(), option, error };
        durable::private_directory(path).map_err(fail)?;
        let directory = open(path).map_err(fail)?;
        if geteuid().is_root() {
            give(&directory, uid).map_err(fail)?;
        } else {
            belongs_to(geteuid().as_raw(), &directory).map_err(fail)?;
        }
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

/// The directory itself: where a link stands in its place, another user may have put it there.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let opened = File::options().read(true).custom_flags(flags).open(path);
    opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTDIR | libc::ELOOP) => io::Error::other("it is not a directory, or a link to one"),
        _ => error,
    })
}

/// A directory that belongs to another user is a trap, above all in /tmp.
fn belongs_to(uid: u32, directory: &File) -> io::Result<()> {
    match directory.metadata()?.uid() {
        owner if owner == uid => Ok(()),
        owner => Err(io::Error::other(format!("it belongs to user {owner}, not to {uid}"))),
    }
}

/// Gives a directory of root's, and what root has left in one of `uid`'s, to `uid`. A root-owned directory with
/// anything in it that lumend did not make is somebody's mistake, as `--state /etc` would be.
fn give(directory: &File, uid: u32) -> io::Result<()> {
    let metadata = directory.metadata()?;
    let roots = metadata.uid() == 0;
    if !roots {
        belongs_to(uid, directory)?;
    } else if metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("other users may write to it"));
    }
    for entry in fs::read_dir(format!("/proc/self/fd/{}", directory.as_raw_fd()))? {
        let name = entry?.file_name();
        // A handle on the file, so that it cannot be another one by the time it is given away.
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = File::from(openat(directory, name.as_os_str(), flags, Mode::empty())?);
        let metadata = file.metadata()?;
        if metadata.uid() == uid {
            continue;
        }
        // Of a file with two names the other may be anywhere.
        let ours = metadata.uid() == 0 && metadata.is_file() && metadata.nlink() == 1;
        if ours && FILES.iter().any(|file| name == *file) {
            fchownat(&file, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)), AtFlags::AT_EMPTY_PATH)?;
        } else if roots {
            return Err(io::Error::other(format!("{name:?} in it is not Lumen's")));
        }
    }
    if roots {
        fchown(directory, Some(uid), Some(uid))?;
    }
    Ok(())
}

/// Gives everything up that root has.
pub fn become_user(uid: u32) -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
    setgroups(&[])?;
    setresgid(group, group, group)?;
    setresuid(user, user, user)?;
    // Compositors look at who connects through /proc, which a change of user had closed.
    nix::sys::prctl::set_dumpable(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lumen-places-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        durable::private_directory(&path).unwrap();
        path
    }

    #[test]
    fn of_several_directories_the_first_is_meant() {
        let path = |list: &str| first(OsStr::new(list));
        assert_eq!(path("/run/lumen"), Some("/run/lumen".into()));
        assert_eq!(path("/run/lumen:/run/other"), Some("/run/lumen".into()));
        assert_eq!((path(""), path("lumen:/run/lumen")), (None, None));
    }

    #[test]
    fn root_always_looks_where_the_machines_lumend_is() {
        let usual =
            |uid, session: Option<&str>| usual_runtime(Uid::from_raw(uid), session.map(Into::into), "/tmp".into());
        assert_eq!([None, Some("/run/user/0")].map(|session| usual(0, session)), ["/run/lumen"; 2].map(PathBuf::from));
        assert_eq!(usual(1000, Some("/run/user/1000")), Path::new("/run/user/1000/lumen"));
        assert_eq!(usual(1000, None), Path::new("/tmp/lumen-1000"));
    }

    #[test]
    fn a_link_is_not_a_directory() {
        let real = directory("real");
        let link = real.join("link");
        symlink(&real, &link).unwrap();
        assert!(open(&real).is_ok());
        assert!(open(&link).unwrap_err().to_string().contains("link"));
        fs::remove_dir_all(real).unwrap();
    }

    /// What can be seen without being root: a directory that is `uid`'s already is taken, and one of neither root nor
    /// `uid` is not. The rest needs root, as most test machines have it.
    #[test]
    fn only_what_is_lumens_is_given_away() {
        let path = directory("given");
        let me = geteuid().as_raw();
        give(&open(&path).unwrap(), me).unwrap();
        if me == 0 {
            let key = path.join(FILES[0]);
            fs::write(&key, "of a run as root").unwrap();
            give(&open(&path).unwrap(), 64555).unwrap();
            let owner = |path: &Path| fs::symlink_metadata(path).unwrap().uid();
            assert_eq!((owner(&path), owner(&key)), (64555, 64555));

            let others = directory("others");
            for name in ["passwd", "twice"] {
                fs::write(others.join(name), "").unwrap();
            }
            let error = give(&open(&others).unwrap(), 64555).unwrap_err().to_string();
            assert!(error.contains("not Lumen's"), "{error}");
            assert_eq!((owner(&others), owner(&others.join("passwd"))), (0, 0));
            // A second name for a file of root's, put where root will look.
            fs::hard_link(others.join("twice"), path.join(FILES[1])).unwrap();
            give(&open(&path).unwrap(), 64555).unwrap();
            assert_eq!(owner(&others.join("twice")), 0);
            fs::remove_dir_all(others).unwrap();
        } else {
            assert!(give(&open(&path).unwrap(), me + 1).unwrap_err().to_string().contains("belongs to"));
        }
        fs::remove_dir_all(path).unwrap();
    }
}
