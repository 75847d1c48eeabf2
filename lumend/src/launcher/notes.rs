//! What will have to be undone, on disk before it is done: a launcher that is killed leaves it to the next one, and if
//! lumend goes with it, to the next lumend's.
//!
//! There is a file for each run. It is locked for as long as the launcher that wrote it lives, so that nobody undoes what
//! is in use; whose launcher is dead is anybody's who comes first. It is tried once: the file has another name from then
//! on, and should that launcher die too, a person is told.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use ipc::RunId;
use ipc::event::now_ns;

use crate::durable;

/// Of what is to be undone.
const OWED: &str = "json";
/// Of what was left behind, and is being undone.
const LAST_TRY: &str = "last";
/// What is configured for one app is a few kilobytes.
const MAX_FILE: u64 = 1 << 20;

/// Where notes are kept; none: nowhere.
#[derive(Debug)]
pub struct Notes(Option<PathBuf>);

/// Of one run.
#[derive(Debug)]
pub struct Note {
    path: PathBuf,
    /// Locked.
    _file: File,
}

/// Whether there are notes, of the living or the dead; or may be, where launchers are another user, who alone can look.
pub fn any(directory: &Path) -> bool {
    let hidden = fs::read_dir(directory).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
    hidden || list(directory).next().is_some()
}

fn list(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let paths = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    paths.filter(|path| [OWED, LAST_TRY].map(OsStr::new).contains(&path.extension().unwrap_or_default()))
}

impl Notes {
    pub const fn new(directory: Option<PathBuf>) -> Self {
        Self(directory)
    }

    /// On disk when it returns. None if there is nothing to write, or nowhere; or no way to, which a person is told: an
    /// app is not kept from starting by that.
    pub fn write(&self, run: RunId, undo: &[String]) -> Option<Note> {
        let directory = self.0.as_deref().filter(|_| !undo.is_empty())?;
        // Never the same again, whoever has this number then.
        let name = format!("{}-{}-{}.{OWED}", std::process::id(), run.0, now_ns());
        let path = directory.join(name);
        let content = serde_json::to_vec(undo).map_err(io::Error::from);
        let written = durable::private_directory(directory).and(content);
        match written.and_then(|content| durable::write_locked(&path, &content)) {
            Ok(file) => Some(Note { path, _file: file }),
            Err(error) => {
                say(&path, &format!("{error}; if this launcher is killed, nothing undoes an app's preparations"));
                None
            }
        }
    }

    /// What dead launchers have left, to be undone by this one from now on: the commands, in their order.
    pub fn left(&self) -> Vec<(Note, Vec<String>)> {
        self.0.iter().flat_map(|directory| list(directory)).filter_map(|path| adopt(&path)).collect()
    }
}

impl Note {
    /// It has been undone.
    pub fn done(self) {
        if let Err(error) = fs::remove_file(&self.path) {
            say(&self.path, &format!("{error}; remove it, or it is undone again"));
        }
    }
}

fn adopt(path: &Path) -> Option<(Note, Vec<String>)> {
    let file = File::open(path).ok()?;
    match file.try_lock() {
        // Somebody else has been faster, and is done.
        Ok(()) if file.metadata().is_ok_and(|metadata| metadata.nlink() == 0) => return None,
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return None,
        Err(TryLockError::Error(error)) => {
            say(path, &error.to_string());
            return None;
        }
    }
    let mut text = String::new();
    let undo: io::Result<Vec<String>> =
        (&file).take(MAX_FILE).read_to_string(&mut text).and_then(|_| Ok(serde_json::from_str(&text)?));
    let obstacle = match undo {
        Ok(undo) if path.extension() == Some(OsStr::new(OWED)) => {
            let path = rename(path);
            return Some((Note { path, _file: file }, undo));
        }
        Ok(_) => "the launcher that was about to undo this was killed".to_owned(),
        Err(error) => error.to_string(),
    };
    say(path, &format!("{obstacle}; do by hand what may be left of: {text}"));
    Note { path: path.to_owned(), _file: file }.done();
    None
}

/// Marks it as being tried. One that cannot be marked may be tried once more than it should.
fn rename(path: &Path) -> PathBuf {
    let marked = path.with_extension(LAST_TRY);
    match fs::rename(path, &marked) {
        Ok(()) => marked,
        Err(error) => {
            say(path, &error.to_string());
            path.to_owned()
        }
    }
}

fn say(path: &Path, what: &str) {
    eprintln!("lumend launcher: {}: {what}", path.display());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lumen-notes-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    fn undo() -> Vec<String> {
        vec!["one 'two'".to_owned(), "three".to_owned()]
    }

    #[test]
    fn what_the_dead_leave_is_taken_up_once_and_what_the_living_have_is_not() {
        let path = directory("heirs");
        let notes = Notes::new(Some(path.clone()));
        assert!(!any(&path) && notes.left().is_empty());
        assert!(notes.write(RunId(1), &[]).is_none() && !any(&path), "nothing to undo");
        let (first, second) = (notes.write(RunId(1), &undo()).unwrap(), notes.write(RunId(2), &undo()).unwrap());
        assert!(any(&path) && notes.left().is_empty(), "they live");
        first.done();
        // As at a launcher's death.
        drop(second);
        let mut left = notes.left();
        assert!(notes.left().is_empty(), "it is being undone");
        let (note, commands) = left.pop().unwrap();
        assert_eq!((commands, left.len()), (undo(), 0));
        drop(note);
        assert!(any(&path) && notes.left().is_empty() && !any(&path), "it was tried");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn rubbish_is_told_of_once_and_nowhere_is_no_obstacle() {
        let path = directory("rubbish");
        let note = Notes::new(Some(path.clone())).write(RunId(1), &undo());
        fs::write(&note.unwrap().path, "[1]").unwrap();
        let notes = Notes::new(Some(path.clone()));
        assert!(any(&path) && notes.left().is_empty() && !any(&path));
        assert!(Notes::new(Some("/proc/nowhere".into())).write(RunId(1), &undo()).is_none());
        let notes = Notes::new(None);
        assert!(notes.write(RunId(1), &undo()).is_none() && notes.left().is_empty());
        fs::remove_dir_all(path).unwrap();
    }
}
