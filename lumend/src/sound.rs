//! PipeWire as lumend sees it: a socket to connect to for others, and what must be put right should they die.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ipc::DefaultSink;
use tracing::warn;

use crate::desktop::dial;
use crate::durable;

/// What audio planes have changed and not put back yet: a JSON list of `{ours, previous}`.
pub const FILE: &str = "audio-undo.json";
/// The file's own list is a few kilobytes.
const MAX_FILE: u64 = 64 * 1024;

/// PipeWire's, if nothing else is said (its `PW_DEFAULT_REMOTE`).
const NAME: &str = "pipewire-0";
/// Of a PipeWire for the whole system.
const SYSTEM: &str = "/run/pipewire";

#[derive(Debug)]
pub struct Sound {
    file: PathBuf,
    /// As configured.
    socket: Option<PathBuf>,
}

impl Sound {
    pub fn new(state: &Path, socket: Option<PathBuf>) -> Self {
        Self { file: state.join(FILE), socket }
    }

    /// What an earlier lumend has left to be undone. A file that cannot be read is told of and taken for empty: the
    /// sound may come out of the wrong sink then, but everything else works.
    pub fn records(&self) -> Vec<DefaultSink> {
        let mut text = String::new();
        let read = File::open(&self.file).and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
        let records = match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => Err(error),
            Ok(_) => serde_json::from_str(&text).map_err(io::Error::from),
        };
        records.unwrap_or_else(|error| {
            warn!("{}: {error}; choose your default sink by hand if it is wrong", self.file.display());
            Vec::new()
        })
    }

    /// On disk when it returns.
    pub fn write(&self, records: &[DefaultSink]) -> Result<(), String> {
        let written =
            serde_json::to_vec(records).map_err(io::Error::from).and_then(|text| durable::write(&self.file, &text));
        written.map_err(|error| format!("cannot write {}: {error}; make its directory writable", self.file.display()))
    }

    /// A connection that nobody has spoken on yet. The error says what to do.
    pub fn connect(&self) -> Result<OwnedFd, String> {
        connect(&candidates(self.socket.as_deref(), |name| std::env::var_os(name)))
    }
}

fn connect(candidates: &[PathBuf]) -> Result<OwnedFd, String> {
    let mut first = None;
    for path in candidates {
        match dial(path) {
            Ok(fd) => return Ok(fd),
            Err(error) => first = first.or_else(|| Some(format!("at {}: {error}", path.display()))),
        }
    }
    let why = first.unwrap_or_else(|| "anywhere".into());
    Err(format!("no PipeWire answers {why}; start it, or name its socket with [audio] socket"))
}

/// Where PipeWire may listen, the likeliest first. Who names one place means that and no other; for the rest the rules
/// are those of PipeWire's own clients.
fn candidates(configured: Option<&Path>, variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    if let Some(path) = configured {
        return vec![path.to_owned()];
    }
    let variable = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let name = variable("PIPEWIRE_REMOTE").unwrap_or_else(|| NAME.into());
    if name.is_absolute() {
        return vec![name];
    }
    let directories = [variable("PIPEWIRE_RUNTIME_DIR"), variable("XDG_RUNTIME_DIR"), Some(SYSTEM.into())];
    directories.into_iter().flatten().filter(|directory| directory.is_absolute()).map(|d| d.join(&name)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("lumen-sound-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn looks_where_pipewire_is() {
        let look = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
            let found = candidates(None, find);
            found.into_iter().map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(look(&[]), ["/run/pipewire/pipewire-0"]);
        assert_eq!(
            look(&[("XDG_RUNTIME_DIR", "/run/user/1"), ("PIPEWIRE_RUNTIME_DIR", "/pw")]),
            ["/pw/pipewire-0", "/run/user/1/pipewire-0", "/run/pipewire/pipewire-0"]
        );
        assert_eq!(
            look(&[("XDG_RUNTIME_DIR", "/run/user/1"), ("PIPEWIRE_REMOTE", "mine")]),
            ["/run/user/1/mine", "/run/pipewire/mine"]
        );
        assert_eq!(look(&[("XDG_RUNTIME_DIR", "/run/user/1"), ("PIPEWIRE_REMOTE", "/mine")]), ["/mine"]);
        assert_eq!(candidates(Some(Path::new("/told")), |_| Some("/other".into())), [PathBuf::from("/told")]);
    }

    #[test]
    fn the_first_that_answers_is_taken() {
        let path = directory("connect");
        let (absent, there) = (path.join("absent"), path.join("there"));
        let error = connect(std::slice::from_ref(&absent)).unwrap_err();
        assert!(error.contains("absent") && error.contains("[audio] socket"), "{error}");
        let listener = UnixListener::bind(&there).unwrap();
        connect(&[absent, there]).unwrap();
        listener.accept().unwrap();
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn records_survive_and_rubbish_does_not() {
        let path = directory("records");
        let sound = Sound::new(&path, None);
        assert!(sound.records().is_empty());
        let records = vec![
            DefaultSink { ours: "lumen.1".into(), previous: Some("speakers".into()) },
            DefaultSink { ours: "lumen.2".into(), previous: None },
        ];
        sound.write(&records).unwrap();
        assert_eq!(sound.records(), records);
        fs::write(path.join(FILE), "[{\"ours\": 3}]").unwrap();
        assert!(sound.records().is_empty());
        fs::remove_dir_all(&path).unwrap();
        assert!(sound.write(&records).unwrap_err().contains("cannot write"));
    }
}
