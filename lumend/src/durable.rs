//! Small files that survive a crash and a power cut: the old content or the new, never half of it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use nix::unistd::geteuid;

/// Writes a file readable by its owner alone: beside the old one, synced, renamed over it, the directory synced. Root's are
/// for whoever the directory belongs to.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, |_| Ok(())).map(drop)
}

/// The same, and nobody finds the file before it is locked; it stays so for as long as this process has it open.
pub fn write_locked(path: &Path, content: &[u8]) -> io::Result<File> {
    replace(path, content, |file| Ok(file.try_lock()?))
}

fn replace(path: &Path, content: &[u8], finish: impl FnOnce(&File) -> io::Result<()>) -> io::Result<File> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    };
    let mut beside = name.to_owned();
    beside.push(".new");
    let beside = directory.join(beside);
    // A left-over of a crash may have any mode; a file made anew has ours from the first byte.
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
    file.write_all(content)?;
    let directory = File::open(directory)?;
    if geteuid().is_root() {
        // What root writes into a service's directory, that service has to read.
        let owner = directory.metadata()?;
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.sync_all()?;
    finish(&file)?;
    fs::rename(&beside, path)?;
    directory.sync_all()?;
    Ok(file)
}

/// Makes a directory of 0700 and its parents. One that exists keeps its mode.
pub fn private_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    DirBuilder::new().mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;

    use super::*;

    /// As `sudo lumend clients …` while the service is stopped, which runs as another user.
    #[test]
    fn what_root_writes_belongs_to_whom_the_directory_does() {
        if !geteuid().is_root() {
            return println!("this takes root");
        }
        let directory = std::env::temp_dir().join(format!("lumen-durable-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        private_directory(&directory).unwrap();
        let path = directory.join("clients.toml");
        for (uid, gid) in [(0, 0), (64555, 64556)] {
            chown(&directory, Some(uid), Some(gid)).unwrap();
            write(&path, b"text").unwrap();
            let there = fs::metadata(&path).unwrap();
            assert_eq!((there.uid(), there.gid(), there.mode() & 0o777), (uid, gid, 0o600));
        }
        fs::remove_dir_all(directory).unwrap();
    }
}
