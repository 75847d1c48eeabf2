//! Small files that survive a crash and a power cut: the old content or the new, never half of it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Writes a file readable by its owner alone: beside the old one, synced, renamed over it, the directory synced.
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
    file.sync_all()?;
    finish(&file)?;
    fs::rename(&beside, path)?;
    File::open(directory)?.sync_all()?;
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
