//! A directory with everything one host, its clients and its desktop need, owned by an unprivileged user.
//!
//! Nothing of Lumen runs as root, and sway refuses to. Started as root, the whole tree runs as one numeric uid that
//! needs no entry in /etc/passwd; its programs are copied to where that uid can execute them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::{getegid, geteuid};

/// The uid and gid lumend takes when it is started as root; see `docs/config.md`.
const UNPRIVILEGED: u32 = 64555;

/// Removed with all its contents when dropped.
pub struct Stage {
    root: PathBuf,
    uid: u32,
    gid: u32,
}

impl Stage {
    /// Copies `programs` into a fresh stage.
    pub fn new(programs: &[PathBuf]) -> Result<Self> {
        let root = fresh_directory()?;
        let (uid, gid) = match geteuid().is_root() {
            true => (UNPRIVILEGED, UNPRIVILEGED),
            false => (geteuid().as_raw(), getegid().as_raw()),
        };
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
        let stage = Self { root, uid, gid };
        fs::create_dir(stage.root.join("bin"))?;
        fs::set_permissions(stage.root.join("bin"), fs::Permissions::from_mode(0o755))?;
        for program in programs {
            let name = program.file_name().context("a program has a name")?;
            let copy = stage.root.join("bin").join(name);
            fs::copy(program, &copy).with_context(|| format!("cannot stage {}", program.display()))?;
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
        }
        for directory in ["home", "run", "state", "out"] {
            stage.directory(directory)?;
        }
        Ok(stage)
    }

    /// A private directory of the stage's user, made when it is first asked for.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        if !path.exists() {
            fs::create_dir(&path)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            chown(&path, Some(self.uid), Some(self.gid))?;
        }
        Ok(path)
    }

    /// Where programs leave what they write.
    pub fn out(&self, name: &str) -> PathBuf {
        self.root.join("out").join(name)
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    pub const fn uid(&self) -> u32 {
        self.uid
    }

    pub const fn gid(&self) -> u32 {
        self.gid
    }

    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Writes a file that the stage's user can read.
    pub fn write(&self, name: &str, contents: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::write(&path, contents)?;
        chown(&path, Some(self.uid), Some(self.gid))?;
        Ok(path)
    }

    /// A staged program, to be run as the stage's user with a clean environment.
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.program(name));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("HOME", self.root.join("home"))
            .env("XDG_RUNTIME_DIR", self.root.join("run"))
            .current_dir(self.root.join("home"));
        if geteuid().is_root() {
            command.uid(self.uid).gid(self.gid);
        }
        command
    }
}

/// Makes the first free `/tmp/lumen-PID-N`.
fn fresh_directory() -> Result<PathBuf> {
    for number in 0.. {
        let path = std::env::temp_dir().join(format!("lumen-{}-{number}", std::process::id()));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("cannot make {}", path.display())),
        }
    }
    unreachable!("the numbers do not end before the directories do")
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::env::var_os("LUMEN_KEEP_STAGE").is_some() {
            eprintln!("kept {}", self.root.display());
        } else {
            let _ = fs::remove_dir_all(&self.root);
        }
    }
}
